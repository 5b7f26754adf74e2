#!/usr/bin/env bash
# The publisher's names: registries, repository, contacts. They stand in Cargo.toml, below [workspace.metadata.publisher].
#
#   publisher.sh NAME     prints one of them: image, mirror, charts, repository, maintainer, security-contact
#   publisher.sh apply    after a change there: replaces the last commit's names by the new ones in all files of the repository
#
# `repository` is an address on GitHub. Its last two parts are what workflows name after `uses:`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

names=(security-contact maintainer repository image mirror charts)

fail() { # fail WHAT REMEDY
  printf 'publisher.sh: %s; %s\n' "$1" "$2" >&2
  exit 1
}

value() { # value NAME: from a Cargo.toml on standard input
  sed -n '/^\[workspace\.metadata\.publisher\]$/,/^$/s/^'"$1"' = "\(.*\)"$/\1/p'
}

replace() { # replace OLD NEW: in each file that has OLD
  local file
  [[ $1 != "$2" ]] || return 0
  while IFS= read -r -d '' file; do
    OLD=$1 NEW=$2 perl -pi -e 's/\Q$ENV{OLD}\E/$ENV{NEW}/g' "$file"
    echo "$file: $2"
  done < <(git grep -zlF -e "$1")
}

slug() { # slug ADDRESS: OWNER/NAME
  local name=${1%/}
  local owner=${name%/*}
  echo "${owner##*/}/${name##*/}"
}

apply() {
  local name former new last
  last=$(git show HEAD:./Cargo.toml)
  for name in "${names[@]}"; do
    former=$(value "$name" <<<"$last")
    new=$(value "$name" <Cargo.toml)
    [[ $former && $new ]] || fail "Cargo.toml has no $name of the publisher" 'add it below [workspace.metadata.publisher]'
    replace "$former" "$new"
    [[ $name != repository ]] || replace "$(slug "$former")" "$(slug "$new")"
  done
}

case ${1:-} in
  apply) apply ;;
  *)
    found=$(value "${1:-none}" <Cargo.toml)
    [[ $found ]] || fail "the publisher has no ${1:-name}" "name one of: ${names[*]}"
    echo "$found"
    ;;
esac

#!/usr/bin/env bash
# Whether the repository is ready to be released: check.sh [TAG]
#
# All files must name the version of Cargo.toml. With a TAG, it must be that version's, the changelog must have a section of it,
# and the publisher's names must be set.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

fail() { # fail WHAT REMEDY
  printf 'check.sh: %s; %s\n' "$1" "$2" >&2
  exit 1
}

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

has() { # has FILE LINE: a line of the file
  grep -qxF -e "$2" "$1" || fail "$1 has no line '$2'" "Cargo.toml has the version $version"
}

chart=deploy/kubernetes/chart/Chart.yaml
has "$chart" "version: $version"
has "$chart" "appVersion: $version"
image=$(deploy/release/publisher.sh image)
has deploy/kubernetes/daemonset.yaml "          image: $image:$version"
repository=$(deploy/release/publisher.sh repository)
while IFS= read -r use; do
  [[ $use == *"@v$version" ]] || fail "another version is named: $use" "Cargo.toml has the version $version"
done < <(git grep -n -F "uses: ${repository#https://*/}@" -- docs deploy)

tag=${1:-}
[[ $tag ]] || exit 0
[[ $tag == "v$version" ]] || fail "the tag is $tag, and the version $version" "tag v$version, or set the version in Cargo.toml"
deploy/release/notes.sh "$version" >/dev/null
section=$(sed -n '/^\[workspace\.metadata\.publisher\]$/,/^$/p' Cargo.toml)
[[ $section != *.example* ]] ||
  fail 'the publisher has no names of its own' 'set them in Cargo.toml and run deploy/release/publisher.sh apply'

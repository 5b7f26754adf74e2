#!/usr/bin/env bash
# What action.yml runs: registers emulators on a GitHub runner, and writes the outputs `platforms` and `status`.
#
# The calls are those of docker/setup-qemu-action, in its order, so that its users change `uses:` and nothing else: image,
# version, reset, install, status. Another image with the same command line, such as tonistiigi/binfmt, does as well; where it
# cannot say more, `status` is its JSON without arguments. An install that does not do all that was asked fails the step, with
# the tool's last line as the reason.
#
# From the environment: action.yml's inputs as INPUT_*, and what every runner sets (GITHUB_ACTION_PATH, GITHUB_OUTPUT,
# RUNNER_TEMP).
set -euo pipefail

root=${GITHUB_ACTION_PATH:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
temporary=${RUNNER_TEMP:-$(mktemp -d)}
# of this runner: a machine may have several, whose calls share the table without a quarrel
holder=$(tr -c 'A-Za-z0-9_.\n' - <<<"${RUNNER_NAME:-runner}")-binfmt-hold

fail() { # fail REASON: as GitHub shows it on the job's page
  printf '::error title=binfmt::%s\n' "$1"
  exit 1
}

group() { # group TITLE COMMAND...: its output, folded in the log; fails with the last line of its standard error
  local status=0 log=$temporary/binfmt.log
  printf '::group::%s\n' "$1"
  shift
  # the command's standard output is this script's; only the other passes through tee
  { "$@" 2>&1 >&3 3>&- | tee "$log" >&2; } 3>&1 || status=$?
  printf '::endgroup::\n'
  ((status == 0)) || fail "$(grep -v '^[[:space:]]*$' "$log" | tail -n 1 || echo "$1 ends with $status")"
}

list() { # list TEXT: items separated by commas or lines, as a list with commas
  tr '\n' ',' <<<"$1" | tr -d ' \t\r' | sed 's/,,*/,/g; s/^,//; s/,$//'
}

is() { # is NAME: an input that is true or false
  local name=INPUT_$1
  case ${!name:-false} in
    true | True | TRUE) return 0 ;;
    false | False | FALSE) return 1 ;;
    *) fail "the input ${1,,} is true or false, not '${!name}'" ;;
  esac
}

own_version() {
  sed -n '/^\[workspace\.package\]/,/^$/s/^version = "\(.*\)"/\1/p' "$root/Cargo.toml"
}

published() { # published NAME: of the publisher
  bash "$root/deploy/release/publisher.sh" "$1"
}

# --- from an image ------------------------------------------------------------------------------------------------------
image_name() { # the image, with a tag or a digest
  local image=${INPUT_IMAGE:-} version=${INPUT_VERSION:-}
  if [[ -z $image ]]; then
    image=$(published image)
    version=${version:-$(own_version)}
  fi
  # the last part of the name has the tag; a registry's port is in the first
  if [[ -z $version || $image == *@* || ${image##*/} == *:* ]]; then echo "$image"; else echo "$image:$version"; fi
}

pull() {
  docker pull "$image" && return
  if is CACHE_IMAGE && docker image inspect --format '{{.Id}}' "$image" 2>/dev/null; then
    printf '::warning title=binfmt::%s\n' "cannot pull $image; the one that the engine has is used"
  else
    echo "cannot pull $image; check its name, and whether this job may read it" >&2
    return 1
  fi
}

from_image() {
  command -v docker >/dev/null || fail 'there is no docker on this runner; install it, or set single-file: true'
  image=$(image_name)
  group 'Docker info' docker version
  group "Pulling $image" pull
  group 'Image info' docker image inspect "$image"
  tool=(docker run --rm --privileged "$image")
}

hold_with_image() { # one at a time: a runner that is kept has the former job's
  docker rm --force "$holder" >/dev/null 2>&1 || true
  docker run --detach --privileged --name "$holder" "$image" --hold --install "$platforms" >/dev/null
  until_it_holds docker logs "$holder"
}

# --- from the single file -----------------------------------------------------------------------------------------------
file_address() { # of the published file for this machine
  local version=${INPUT_VERSION:-$(own_version)} machine
  case $(uname -m) in
    x86_64) machine=amd64 ;;
    aarch64) machine=arm64 ;;
    *) machine=$(uname -m) ;;
  esac
  echo "$(published repository)/releases/download/v$version/binfmt-$version-single-linux-$machine"
}

download() { # download ADDRESS FILE: checked against the sums that were published with it
  local sum
  curl --fail --silent --show-error --location --retry 3 --output "$2" "$1" || return
  sum=$(curl --fail --silent --show-error --location --retry 3 "${1%/*}/SHA256SUMS" | grep -F "  ${1##*/}" | cut -d ' ' -f 1) || {
    echo "${1%/*}/SHA256SUMS has no sum of ${1##*/}" >&2
    return 1
  }
  sha256sum --check --status <<<"$sum  $2" || {
    echo "$1 is damaged: it has another sum than SHA256SUMS says" >&2
    return 1
  }
  chmod 755 "$2"
}

from_file() {
  local file=$temporary/binfmt
  rm -f "$file" # a former call's may be running
  case $INPUT_SINGLE_FILE in
    true) group 'Downloading the single file' download "$(file_address)" "$file" ;;
    *://*) group 'Downloading the single file' download "$INPUT_SINGLE_FILE" "$file" ;;
    *)
      [[ -f $INPUT_SINGLE_FILE ]] || fail "there is no file $INPUT_SINGLE_FILE; single-file is true, a path or an address"
      install -m 755 "$INPUT_SINGLE_FILE" "$file"
      ;;
  esac
  tool=("$file")
  ((EUID == 0)) || tool=(sudo "$file")
}

hold_with_file() { # the runner ends it with the job's other processes
  local log=$temporary/binfmt-hold.log
  nohup "${tool[@]}" --hold --install "$platforms" >"$log" 2>&1 </dev/null &
  echo $! >"$temporary/binfmt-hold.pid"
  until_it_holds cat "$log"
}

# --- with either --------------------------------------------------------------------------------------------------------
until_it_holds() { # until_it_holds COMMAND...: what the holding call has said until now
  local said=''
  for _ in {1..600}; do
    said=$("$@" 2>&1) || true
    ! grep -q '^holding: ' <<<"$said" || { printf '%s\n' "$said"; return; }
    ! grep -q '^binfmt: ' <<<"$said" || break
    sleep 0.1
  done
  printf '%s\n' "$said" >&2
  return 1
}

supported() { # of the JSON on standard input
  tr -d ' \t\r\n' | sed -n 's/.*"supported":\[\([^]]*\)\].*/\1/p' | tr -d '"'
}

report() { # the outputs
  local json status end
  json=$("${tool[@]}") || fail "${tool[*]} says no status"
  status=$("${tool[@]}" --status --format json 2>/dev/null) || [[ $status == '{'* ]] || status=$json
  supported <<<"$json"
  end=status-$$-$RANDOM$RANDOM
  {
    printf 'platforms=%s\n' "$(supported <<<"$json")"
    printf 'status<<%s\n%s\n%s\n' "$end" "$status" "$end"
  } >>"$GITHUB_OUTPUT"
}

[[ $(uname -s) == Linux ]] || fail "the runner's system is $(uname -s); binfmt_misc is Linux's: use runs-on: ubuntu-latest"
platforms=$(list "${INPUT_PLATFORMS-all}")
is CACHE_IMAGE || true # a wrong value fails before anything is done
from='image'
[[ ${INPUT_SINGLE_FILE:-false} == false ]] || from='file'
"from_$from"
group 'Version' "${tool[@]}" --version
if is RESET; then group 'Removing handlers' "${tool[@]}" --uninstall 'qemu-*'; fi
if is HOLD; then
  group "Installing and holding $platforms" "hold_with_$from"
else
  group "Installing $platforms" "${tool[@]}" --install "$platforms"
fi
report

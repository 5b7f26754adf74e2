#!/usr/bin/env bash
# Makes QEMU's own tests of user emulation, as programs: tcg-tests.sh [FOLDER]
#
#   FOLDER    what comes out, a folder per target (build/tcg-tests); one that is complete is left alone
#
# The compilers are a dozen, and of the release whose QEMU it is, so they come in an image (tcg-tests/Dockerfile). That
# takes a Docker engine with BuildKit; where none answers, tcg-tests/build.sh does the same on a Debian 13 of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-build/tcg-tests}
folder=${folder%/}
release=trixie
parts=qemu/tcg-tests

fail() { # fail WHAT REMEDY
  printf 'tcg-tests.sh: %s; %s\n' "$1" "$2" >&2
  exit 1
}

request=$(cat "$parts"/* | sha256sum | cut -c 1-16)
if [[ -f $folder/.made && $(<"$folder/.made") == "$request" ]]; then
  echo "$folder: the tests of QEMU $(<"$folder/version") are in place"
  exit
fi
if [[ -e $folder && ! -f $folder/.made ]]; then
  fail "$folder is none that this script has made" 'name another folder, or remove this one'
fi
docker version >/dev/null 2>&1 ||
  fail 'no Docker engine answers' "start one, or run $parts/build.sh as root on a Debian 13 that may be spoiled"
base=$(qemu/image/base.sh "$release")
stage=$(dirname "$folder")/.$(basename "$folder").part
trap 'rm -rf "$stage"' EXIT
rm -rf "$stage"
mkdir -p "$stage"
echo "$folder: making the tests of QEMU, with the cross compilers of $release"
DOCKER_BUILDKIT=1 docker build --quiet --build-arg "BASE=$base" --output "type=local,dest=$stage" "$parts"
echo "$request" >"$stage/.made"
rm -rf "$folder"
mv -T "$stage" "$folder"
echo "$folder: QEMU $(<"$folder/version"), $(cat "$folder"/*/runs | wc -l) runs"

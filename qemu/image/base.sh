#!/usr/bin/env bash
# Makes sure that the engine has the image debian:RELEASE-slim, which all stages of the Dockerfile but the last start
# from: it is there, or a registry has it, or it is made of Debian's packages.
#
#   base.sh RELEASE
#
# debootstrap(8) makes the last one, so that needs root, Debian's packages, and nothing else. What it makes is what
# the published image holds before that is slimmed; the image that is built from it comes out the same.
set -euo pipefail
release=$1
base=debian:$release-slim

fail() {
  printf 'base.sh: there is no image %s here, and no registry to pull it from; %s\n' "$base" "$1" >&2
  exit 1
}

! docker image inspect "$base" >/dev/null 2>&1 || exit 0
! docker pull --quiet "$base" 2>/dev/null || exit 0

((EUID == 0)) || fail 'pull it, or run this as root, so that it can be made of packages'
if ! command -v debootstrap >/dev/null; then
  command -v apt-get >/dev/null || fail 'pull it, or install debootstrap'
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends debootstrap >/dev/null
fi
echo "base.sh: making $base with debootstrap" >&2
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase "$release" "$root" >"$root.log" 2>&1 ||
  { tail -n 3 "$root.log" >&2; fail "and debootstrap failed, see $root.log"; }
rm -f "$root.log"
tar -C "$root" -c . | docker import - "$base" >/dev/null

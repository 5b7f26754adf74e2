#!/usr/bin/env bash
# Makes sure that the engine has a Debian to build from, and prints the name of its image:
#
#   base.sh RELEASE
#
# debian:RELEASE-slim, where that is there or a registry has it; else binfmt-base:RELEASE, which is made of Debian's
# packages and stays for the next build (`docker rmi` removes it). debootstrap(8) makes it, so that needs root, Debian's
# packages, and nothing else. It is what the published image is before that is slimmed; what is built from it comes out
# the same.
set -euo pipefail
release=$1
published=debian:$release-slim
made=binfmt-base:$release

fail() {
  printf 'base.sh: there is no image %s here, and no registry to pull it from; %s\n' "$published" "$1" >&2
  exit 1
}

is_here() {
  docker image inspect "$1" >/dev/null 2>&1
}

make_it() {
  ((EUID == 0)) || fail 'pull it, or run this as root, so that one can be made of packages'
  if ! command -v debootstrap >/dev/null; then
    command -v apt-get >/dev/null || fail 'pull it, or install debootstrap'
    apt-get -qq update >&2
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends debootstrap >/dev/null
  fi
  echo "base.sh: making $made with debootstrap" >&2
  root=$(mktemp -d)
  trap 'rm -rf "$root"' EXIT
  debootstrap --variant=minbase "$release" "$root" >"$root.log" 2>&1 ||
    { tail -n 3 "$root.log" >&2; fail "and debootstrap failed, see $root.log"; }
  rm -f "$root.log"
  tar -C "$root" -c . | docker import - "$made" >/dev/null
}

if is_here "$published"; then
  echo "$published"
elif is_here "$made"; then
  echo "$made"
elif docker pull --quiet "$published" >/dev/null 2>&1; then
  echo "$published"
else
  make_it
  echo "$made"
fi

#!/usr/bin/env bash
# Makes a small Debian of another architecture, for the tests of the image: userland.sh ARCH FILE
#
#   ARCH    in Debian's words: arm64, s390x
#   FILE    the tar archive that comes out; where it is already there, nothing is done
#
# The second half of debootstrap(8) runs that architecture's own programs, so a handler must be installed. Besides
# what is essential (apt and perl are) there are sudo, which depends on credentials, and busybox, which is what its
# argv[0] says.
set -euo pipefail
arch=$1 file=$2
[[ ! -f $file ]] || exit 0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$(dirname "$file")"
if ! command -v debootstrap >/dev/null; then
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends debootstrap >/dev/null
fi
make_of() { # make_of RELEASE
  rm -rf "$work/root"
  debootstrap --arch="$arch" --variant=minbase --include=sudo,busybox "$1" "$work/root" >"$work/log" 2>&1 ||
    { printf 'userland.sh: debootstrap made no %s userland of %s: %s\n' "$arch" "$1" "$(tail -n 1 "$work/log")" >&2; false; }
}

# trixie's index is at times ahead of the packages of the rarer architectures
make_of trixie || make_of bookworm
# Pipes and sockets that live in /dev come with every container.
tar -C "$work/root" --exclude='./dev/*' --exclude='./var/cache/apt/archives/*.deb' --exclude='./var/lib/apt/lists/*' \
  -cf "$work/tar" .
mv "$work/tar" "$file.part"
mv "$file.part" "$file"

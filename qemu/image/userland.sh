#!/usr/bin/env bash
# Makes a small Debian of another architecture, for the tests of the image: userland.sh ARCH FILE
#
#   ARCH    in Debian's words: arm64, s390x
#   FILE    the tar archive that comes out; where it is already there, nothing is done
#
# It is that of the conformance tests (rootfs.sh) without its compiler: what is essential, apt and perl among it, sudo,
# which depends on credentials, and busybox, which is what its argv[0] says. Its apt asks this machine's mirror.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
arch=$1 file=$2
[[ ! -f $file ]] || exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# shellcheck source=/dev/null
source qemu/apt.sh

root=build/rootfs/$arch
qemu/rootfs.sh "$arch" "$root"
mkdir -p "$(dirname "$file")" "$work/more/etc/apt"
release=$(sed -n 's/^VERSION_CODENAME=//p' "$root/etc/os-release")
echo "deb $(machine_mirror) $release main" >"$work/more/etc/apt/sources.list"
# Pipes and sockets that live in /dev come with every container, and without settings names are asked for in the network too.
tar -C "$root" --exclude='./dev/*' --exclude=./etc/nsswitch.conf --exclude='./usr/lib/gcc/*' --exclude='./usr/libexec/gcc/*' \
  --exclude='./usr/include/*' --exclude='./usr/lib/*/*.a' -cf "$file.part" . -C "$work/more" ./etc/apt/sources.list
mv "$file.part" "$file"

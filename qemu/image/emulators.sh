#!/bin/bash
# Lays out the emulators for an image: emulators.sh ARCH RELEASE TARGETS OUT
#
#   OUT/root/usr/bin/qemu-*                 the emulators, where other tools copy them from
#   OUT/root/usr/share/doc/qemu-user/       their licences, checksums, and where the source is
#   OUT/version                             QEMU's version
set -euo pipefail
arch=$1 release=$2 targets=$3 out=$4

case $arch in
  amd64) own=x86_64 ;;
  arm64) own=aarch64 ;;
  *) printf 'emulators.sh: no image is built for %s; amd64 and arm64 are\n' "$arch" >&2; exit 1 ;;
esac
foreign=$(tr , '\n' <<<"$targets" | grep -vx "$own" | paste -sd ,)

/fetch.sh --arch "$arch" --release "$release" --targets "$foreign" /fetched
doc=$out/root/usr/share/doc/qemu-user
mkdir -p "$out/root/usr/bin" "$doc"
cp /fetched/qemu-* "$out/root/usr/bin/"
cp /fetched/copyright /fetched/SHA256SUMS "$doc/"

package=$(sed -n 's/^# version: //p' /fetched/SHA256SUMS)
cat >"$doc/SOURCE" <<END
The emulators /usr/bin/qemu-* are those of Debian's package qemu-user, version $package ($release, $arch),
unchanged. They are free software under the GNU General Public License, version 2, and other licences: see copyright.

Their complete source is Debian's source package qemu of the same version:  apt-get source qemu=$package
Who distributes this image offers it on request as well, for three years, at the cost of the copying.
END
version=${package#*:}
printf '%s\n' "${version%%[+-]*}" >"$out/version"

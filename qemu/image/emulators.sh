#!/bin/bash
# Lays out the emulators for an image: emulators.sh ARCH RELEASE TARGETS OUT
#
#   OUT/root/usr/bin/qemu-*                 the emulators, where other tools copy them from
#   OUT/root/usr/share/doc/qemu-user/       their licences, checksums, and where the source is
#   OUT/version                             QEMU's version
#
# What else is in a static emulator, Debian reads from the linker's maps and records as Built-Using of the package.
# The licences of those libraries come from the packages that they were linked from, of the same release; backports are
# built with the release's own libraries.
set -euo pipefail
arch=$1 release=$2 targets=$3 out=$4

fail() {
  printf 'emulators.sh: %s\n' "$1" >&2
  exit 1
}

case $arch in
  amd64) own=x86_64 ;;
  arm64) own=aarch64 ;;
  *) fail "no image is built for $arch; amd64 and arm64 are" ;;
esac
case $release in # where the static emulators are
  bookworm) package='qemu-user-static' ;;
  *) package='qemu-user' ;;
esac
foreign=$(tr , '\n' <<<"$targets" | grep -vx "$own" | paste -sd ,)

library() { # library SOURCE: the package of that source that a static program is linked from
  case $1 in
    capstone) echo libcapstone-dev ;;
    gcc-*) echo "$1-base" ;;
    glib2.0) echo libglib2.0-dev ;;
    glibc) echo libc6-dev ;;
    gnutls28) echo libgnutls28-dev ;;
    liburing) echo liburing-dev ;;
    numactl) echo libnuma-dev ;;
    sysprof) echo libsysprof-capture-4-dev ;;
    zlib) echo zlib1g-dev ;;
    *) fail "$1 is linked into the emulators; say in emulators.sh which package has its licence" ;;
  esac
}

licence_of() { # licence_of SOURCE FILE
  local name
  name=$(library "$1")
  /fetch.sh --release "${release%-backports}" --package "$name" --keep 'usr/share/doc/*/changelog.Debian*' "/licence/$1"
  cp "/licence/$1/copyright" "$2"
}

/fetch.sh --arch "$arch" --release "$release" --package "$package" --targets "$foreign" /fetched
doc=$out/root/usr/share/doc/qemu-user
mkdir -p "$out/root/usr/bin" "$doc/linked"
cp /fetched/qemu-* "$out/root/usr/bin/"
cp /fetched/copyright /fetched/SHA256SUMS "$doc/"

version=$(sed -n 's/^# version: //p' /fetched/SHA256SUMS)
mapfile -t sources < <(sed -n 's/^# source: //p' /fetched/SHA256SUMS)
for source in "${sources[@]:1}"; do licence_of "${source%%=*}" "$doc/linked/${source%%=*}"; done

{
  cat <<END
The emulators /usr/bin/qemu-* are those of Debian's package $package, version $version ($release, $arch),
unchanged. They are free software under the GNU General Public License, version 2, and other licences: see copyright.
Parts of libraries are linked into them, some under the GNU Lesser General Public License: see linked/.

Their complete source is Debian's, QEMU first, then the libraries, of exactly these versions:

END
  printf '    apt-get source %s\n' "${sources[@]}"
  cat <<'END'

https://snapshot.debian.org keeps those that Debian's mirrors no longer have. With all of it and Debian's debian/rules
the emulators can be built again with another version of a library. Who distributes this image offers the source on
request as well, for three years, at the cost of the copying.
END
} >"$doc/SOURCE"
# QEMU's own word, since a package's version may leave out the last number.
emulators=("$out"/root/usr/bin/qemu-*)
qemu=$(grep -aoE -m 1 '[0-9.]+ \(Debian ' "${emulators[0]}") || fail "${emulators[0]} holds no version of QEMU"
echo "${qemu%% *}" >"$out/version"

#!/bin/bash
# Lays out the emulators for an image:
#
#   emulators.sh source ARCH OUT                      those that build.sh has compiled in this stage
#   emulators.sh package ARCH OUT RELEASE TARGETS     those of Debian's package
#
#   OUT/root/usr/bin/qemu-*                 the emulators, where other tools copy them from
#   OUT/root/usr/share/doc/qemu-user/       their licences, checksums, and where the source is
#
# What else is in a static emulator is known from the linker's map: ours, or that by which Debian records the package's
# Built-Using. The licences of those libraries come from the packages that they were linked from; backports are built with
# the release's own libraries.
set -euo pipefail
from=$1 arch=$2 out=$3
doc=$out/root/usr/share/doc/qemu-user

fail() {
  printf 'emulators.sh: %s\n' "$1" >&2
  exit 1
}

# shellcheck source=qemu/host.sh
source /host.sh
host "$arch" || fail "no image is built for $arch; these are: $hosts"

library() { # library SOURCE: the package of that source that a static program is linked from
  case $1 in
    capstone) echo libcapstone-dev ;;
    gcc-*) echo "$1-base" ;;
    glib2.0) echo libglib2.0-dev ;;
    glibc) echo libc6-dev ;;
    gnutls28) echo libgnutls28-dev ;;
    liburing) echo liburing-dev ;;
    numactl) echo libnuma-dev ;;
    pcre2) echo libpcre2-dev ;;
    sysprof) echo libsysprof-capture-4-dev ;;
    zlib) echo zlib1g-dev ;;
    *) fail "$1 is linked into the emulators; say in emulators.sh which package has its licence" ;;
  esac
}

compiled() { # what fetch.sh leaves of a package, of what was compiled here
  local version
  version=$(sed -n 's/^# version: //p' /tuned/SHA256SUMS)
  cp /qemu/out/qemu-* "$out/root/usr/bin/"
  cp /qemu/source/debian/copyright "$doc/"
  mkdir -p "$doc/tuned"
  cp -r /tuned/build.sh /tuned/options.sh /host.sh /tuned/SHA256SUMS /tuned/patches "$doc/tuned/"
  {
    printf '# version: %s\n# package: none, compiled from the source\n# architecture: %s\n# release: trixie\n' "$version" "$debian"
    printf '# source: qemu=%s\n' "$version"
    cut -f 3,4 /qemu/out/LIBRARIES | sort -u | sed 's/^/# source: /; s/\t/=/'
    sed 's/^/# library: /; s/\t/ /g' /qemu/out/LIBRARIES
    (cd "$out/root/usr/bin" && sha256sum -- qemu-*)
    echo '# complete'
  } >"$doc/SHA256SUMS"
  what="were compiled for this image from Debian's source package qemu, version $version, with the changes in tuned/patches
and by tuned/build.sh, which says how"
}

licence_here() { # licence_here SOURCE FILE: of a library that is installed here
  cp "/usr/share/doc/$(library "$1")/copyright" "$2"
}

fetched() { # fetched RELEASE TARGETS: Debian's package, as it is
  local foreign package='qemu-user' # where the static emulators are
  [[ $1 != bookworm ]] || package='qemu-user-static'
  release=$1
  foreign=$(tr , '\n' <<<"$2" | grep -vx "$own" | paste -sd ,)
  /fetch.sh --arch "$debian" --release "$release" --package "$package" --targets "$foreign" /fetched
  cp /fetched/qemu-* "$out/root/usr/bin/"
  cp /fetched/copyright /fetched/SHA256SUMS "$doc/"
  what="are those of Debian's package $package, version $(sed -n 's/^# version: //p' "$doc/SHA256SUMS") ($release, $arch),
unchanged"
}

licence_fetched() { # licence_fetched SOURCE FILE
  local name
  name=$(library "$1")
  /fetch.sh --release "${release%-backports}" --package "$name" --keep 'usr/share/doc/*/changelog.Debian*' "/licence/$1"
  cp "/licence/$1/copyright" "$2"
}

mkdir -p "$out/root/usr/bin" "$doc/linked"
case $from in
  source) compiled && licence_of=licence_here ;;
  package) fetched "$4" "$5" && licence_of=licence_fetched ;;
  *) fail "emulators come from source or package, not from $from" ;;
esac
mapfile -t sources < <(sed -n 's/^# source: //p' "$doc/SHA256SUMS")
for source in "${sources[@]:1}"; do "$licence_of" "${source%%=*}" "$doc/linked/${source%%=*}"; done

{
  cat <<END
The emulators /usr/bin/qemu-* $what.
They are free software under the GNU General Public License, version 2, and other licences: see copyright.
Parts of libraries are linked into them, some under the GNU Lesser General Public License: see linked/.

Their complete source is Debian's, QEMU first, then the libraries, of exactly these versions:

END
  printf '    apt-get source %s\n' "${sources[@]}"
  cat <<'END'

https://snapshot.debian.org keeps those that Debian's mirrors no longer have. With all of it, and Debian's debian/rules
or what is in tuned/, the emulators can be built again with another version of a library. Who distributes this image
offers the source on request as well, for three years, at the cost of the copying.
END
} >"$doc/SOURCE"

#!/bin/bash
# Builds the static user emulators from Debian's source of QEMU, on an amd64 Debian that has that source's compiler:
#
#   build.sh install HOST               packages that the other steps take
#   build.sh source                     Debian's source of exactly the recorded version, with our patches, in /qemu/source
#   build.sh share HOST                 /qemu/build, configured, with the objects that all targets have in common
#   build.sh compile HOST TARGETS       from these, /qemu/out/qemu-* by QEMU's names of targets (aarch64,arm), and
#                                       /qemu/out/LIBRARIES: every archive that is linked in, with Debian's package and source
#   build.sh instrument HOST TARGETS    /qemu/out/qemu-* that count what they do, and write it to /qemu/profile when their
#                                       guest ends: train.sh runs them
#   build.sh check HOST TARGETS         /qemu/out/qemu-* that translate each shared block that they find once more, compare the
#                                       two, and abort at a difference (patch 31)
#   build.sh record                     what SHA256SUMS would be for the version that Debian has now
#
# HOST is the machine that the emulators are for, in Docker's words (host.sh). A target that is the machine itself is left out.
# For other hosts than amd64, Debian's cross compiler and that machine's static libraries are taken. The profile is of amd64's
# code; elsewhere the compiler takes what it has of functions that are the same there.
#
# It owns the steps; choices and their reasons are in options.sh, in the heads of patches/*.patch and, for what the
# compiler knows of real programs, in profile.tar.xz. The folders are fixed, since the profile goes by the paths of objects,
# and two builds shall be the same to the byte.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR
source "$here/options.sh"
# shellcheck source=qemu/host.sh
source "$here/../host.sh"
# QEMU's generators go through sets of strings, in an order that Python makes up anew each time.
export PYTHONHASHSEED=0
source=/qemu/source build=/qemu/build out=/qemu/out profile=/qemu/profile start=/qemu/start

fail() { # fail WHAT REMEDY
  printf 'build.sh: %s; %s\n' "$1" "$2" >&2
  exit 1
}

apt() {
  DEBIAN_FRONTEND=noninteractive apt-get -qq "$@" >/dev/null
}

with_sources() { # apt's own list, in whichever format it is, for source packages too
  local lists=/etc/apt
  sed -i 's/^Types: deb$/Types: deb deb-src/' "$lists"/sources.list.d/*.sources 2>/dev/null || true
  sed 's/^deb /deb-src /' "$lists/sources.list" >"$lists/sources.list.d/sources-too.list" 2>/dev/null || true
  apt update
}

install_packages() {
  local machine
  machine=$(dpkg --print-architecture)
  [[ $machine == amd64 ]] || fail "no emulators of our own are built on $machine" "take Debian's: QEMU_FROM=package"
  dpkg --add-architecture "$debian"
  apt update
  # glib for this machine, too: hexagon's translator is written by a program
  apt install --no-install-recommends bison flex gcc libc6-dev libglib2.0-dev ca-certificates dpkg-dev meson ninja-build patch \
    pkgconf python3-venv xz-utils "gcc-${gnu//_/-}" {libc6-dev,libglib2.0-dev,zlib1g-dev,pkgconf}":$debian"
}

foreign() { # foreign TARGETS: without that of the machine itself
  tr , '\n' <<<"$1" | sed "/^$own\$/d" | paste -sd ,
}

recorded() { # recorded KEY: what SHA256SUMS says of it
  sed -n "s/^# $1: //p" "$here/SHA256SUMS"
}

download() { # download [=VERSION]: the source package, into the current folder; why not, into `complaint` there
  apt source --download-only "qemu${1:-}" 2>complaint && rm complaint
}

# Mirrors have the newest version only; Debian's archive of the past has each, and what it had at a time under that time.
with_past() {
  local list=/etc/apt/sources.list.d/past.list
  printf 'deb-src [check-valid-until=no] https://snapshot.debian.org/archive/%s trixie%s main\n' \
    "debian/$1/" '' "debian-security/$1/" -security >"$list"
  apt update
}

fetch_source() {
  local version patch
  version=$(recorded version)
  mkdir -p /qemu/download
  cd /qemu/download
  with_sources
  if ! download "=$version"; then
    with_past "$(recorded seen)"
    download "=$version" || fail "cannot download qemu $version: $(tail -n 1 complaint)" \
      'if Debian has another by now, record that with build.sh record, and train it: make profile'
  fi
  sha256sum --check --quiet --strict "$here/SHA256SUMS" || fail "the source of qemu $version is not the recorded one" \
    'something on the way from Debian has changed it: do not build it'
  rm -rf "$source"
  dpkg-source --extract ./*.dsc "$source" >/dev/null
  for patch in "$here"/patches/*.patch; do
    patch --directory "$source" --strip 1 --fuzz 0 --silent <"$patch" ||
      fail "$(basename "$patch") does not apply to qemu $version" 'fix the patch, or remove it'
  done
  rm -r /qemu/download
}

start_files() {
  # gcc starts a static program with a crtbeginT.o that registers every unwind table, 2 million instructions of each
  # start. crtbeginS.o leaves it to the header of those tables, which options.sh asks for, and may be anywhere in memory.
  local name libraries
  mkdir -p "$start"
  for name in crtbegin.o crtbeginT.o; do cp "$(gcc -print-file-name=crtbeginS.o)" "$start/$name"; done
  # A function that may be absent is called behind a test, but no call reaches from where options.sh has us placed to
  # address 0, and the linker refuses to write one. In place of each such function it has one that does nothing.
  mapfile -t libraries < <(for name in c glib-2.0 sysprof-capture-4 pcre2-8 z; do gcc -print-file-name="lib$name.a"; done)
  comm -12 <(nm --quiet "${libraries[@]}" "$start/crtbegin.o" | awk '$1 == "w" { print $2 }' | sort -u) \
    <(readelf --relocs --wide "${libraries[@]}" "$start/crtbegin.o" | awk '$3 == "R_X86_64_PLT32" { print $5 }' | sort -u) |
    sed 's/.*/PROVIDE(& = _dl_relocate_static_pie);/' >"$start/absent.ld"
  [[ -s $start/absent.ld ]] || fail 'no function of the C library may be absent' 'see start_files in build.sh'
}

configure() { # configure FLAG...: with these flags of the compiler
  if [[ $debian == amd64 ]]; then
    start_files
    options+=("${fixed[@]}")
    linked+=("-B$start" "-Wl,$start/absent.ld" "${placed[@]}")
  else
    options+=("${anywhere[@]}" "--cross-prefix=$gnu-")
  fi
  rm -rf "$build"
  mkdir -p "$build"
  cd "$build"
  # Every target is configured, so that what is compiled for one does not depend on which others are.
  "$source/configure" "${options[@]}" --with-pkgversion="Debian $(recorded version), tuned" \
    --extra-cflags="${compiled[*]} $*" --extra-ldflags="${linked[*]} $*" >"$build/log" ||
    { tail -n 5 "$build/log" >&2; fail 'QEMU cannot be configured' "its log is $build/meson-logs/meson-log.txt"; }
}

make_files() { # make_files FILE...: by their paths in $build
  ninja -C "$build" "$@" >"$build/log" ||
    { grep -m 1 -A 8 '^FAILED' "$build/log" >&2 || tail -n 3 "$build/log" >&2; fail 'QEMU cannot be compiled' "the log is $build/log"; }
}

make_emulators() { # make_emulators TARGETS
  local target names=()
  [[ -n $1 ]] || fail 'no target but the machine itself' 'name others: TARGETS=aarch64,arm'
  for target in ${1//,/ }; do names+=("qemu-$target"); done
  make_files "${names[@]}"
  rm -rf "$out"
  mkdir -p "$out"
  for target in "${names[@]}"; do "$gnu-strip" -o "$out/$target" "$build/$target"; done
}

libraries() { # every archive of the system's that the linker took something from: its path, package, source, version
  local archive package
  sed -nE 's|^(/[^(]*\.a)\(.*|\1|p' "$build"/qemu-*.map | xargs -n 1 realpath | grep -v "^$build/" | sort -u |
    while read -r archive; do
      package=$(dpkg --search "$archive")
      # shellcheck disable=SC2016  # dpkg's variables
      printf '%s\t%s\n' "$archive" \
        "$(dpkg-query --show --showformat='${Package}\t${source:Package}\t${source:Version}' "${package%: *}")"
    done
}

share() {
  local any=qemu-x86_64
  mkdir -p "$profile"
  tar -C "$profile" -xf "$here/profile.tar.xz"
  configure -fprofile-use="$profile" "${profiled[@]}" -Wl,-Map=%
  mapfile -t objects < <(ninja -C "$build" -t inputs "$any" | grep '\.o$' | grep -v "^lib$any-")
  ((${#objects[@]})) || fail "ninja names no objects of $any" "see $build/build.ninja"
  make_files "${objects[@]}"
}

compile() { # compile TARGETS
  make_emulators "$1"
  libraries >"$out/LIBRARIES"
}

without_lto() { # LTO takes longer, and across files there is nothing to count
  options=("${options[@]/--enable-lto/--disable-lto}")
}

check() { # check TARGETS
  without_lto
  configure -DCONFIG_TB_CACHE_VERIFY
  make_emulators "$1"
}

instrument() { # instrument TARGETS
  without_lto
  configure -fprofile-generate="$profile" -fprofile-update=single -Wl,-u,__gcov_dump
  make_emulators "$1"
}

record() {
  local version
  cd "$(mktemp -d)"
  with_sources
  download || fail "cannot download qemu: $(tail -n 1 complaint)" 'try again'
  version=$(sed -n 's/^Version: //p;/^Version/q' ./*.dsc)
  printf '# package: qemu\n# version: %s\n# seen: %s\n' "$version" "$(date --utc +%Y%m%dT%H%M%SZ)"
  sha256sum -- *.orig.tar.* *.debian.tar.* *.dsc
}

case ${1:-} in
  install | share | compile | instrument | check)
    host "${2:-}" || fail "nothing is built for ${2:-no host}" "these there are: $hosts" ;;
esac
case ${1:-} in
  install) install_packages ;;
  source) fetch_source ;;
  share) share ;;
  compile) compile "$(foreign "$3")" ;;
  instrument) instrument "$(foreign "$3")" ;;
  check) check "$(foreign "$3")" ;;
  record) record ;;
  *) fail "no such step: ${1:-}" "its head says which there are" ;;
esac

#!/bin/bash
# Builds QEMU's own tests of user emulation (tests/tcg) with Debian's cross compilers. For a Debian of its own:
#
#   build.sh install             the compilers
#   build.sh source SOURCE       this Debian's source of QEMU
#   build.sh tests SOURCE OUT    the tests
#
# OUT/TARGET has the programs of a target, in QEMU's name for it, and `runs`: for each run of one its arguments to the
# emulator, the program last, one line each. They are what QEMU's makefiles would run, told by an emulator that only
# writes down how it is called, so that the options that a test needs come along. Left out are those that need gdb or
# plugins, which a user emulator in binfmt_misc has no use for; `skipped` has what QEMU's makefiles skip of themselves.
set -euo pipefail
shopt -s nullglob

# QEMU's target, the compiler's triplet, and the C library's package. Debian has no cross compiler for the others' C
# libraries, or QEMU no tests: hexagon and tricore, for two.
targets=(
  'aarch64 aarch64-linux-gnu arm64'
  'arm arm-linux-gnueabihf armhf'
  'i386 i686-linux-gnu i386'
  'loongarch64 loongarch64-linux-gnu loong64'
  'mips64 mips64-linux-gnuabi64 mips64'
  'mips64el mips64el-linux-gnuabi64 mips64el'
  'ppc64 powerpc64-linux-gnu ppc64'
  'ppc64le powerpc64le-linux-gnu ppc64el'
  'riscv64 riscv64-linux-gnu riscv64'
  's390x s390x-linux-gnu s390x'
  'x86_64 x86-64-linux-gnu amd64'
)

install_compilers() {
  local target triplet debian packages=(dpkg-dev make python3-minimal)
  while read -r target triplet debian; do
    packages+=("gcc-$triplet")
    # a machine's own C library is no cross one
    [[ $debian == "$(dpkg --print-architecture)" ]] || packages+=("libc6-dev-$debian-cross")
  done < <(printf '%s\n' "${targets[@]}")
  apt-get -qq update
  apt-get -qq install --no-install-recommends libc6-dev "${packages[@]}" >/dev/null
}

get_source() { # get_source SOURCE
  local file
  # in either format that apt has
  if [[ -f /etc/apt/sources.list ]]; then
    sed -n 's/^deb /deb-src /p' /etc/apt/sources.list >/etc/apt/sources.list.d/source.list
  fi
  for file in /etc/apt/sources.list.d/*.sources; do sed -i 's/^Types: deb$/Types: deb-src deb/' "$file"; done
  apt-get -qq update
  mkdir -p "$1.download"
  cd "$1.download"
  apt-get -qq source --download-only qemu
  dpkg-source --extract ./*.dsc "$1" >/dev/null
}

build_target() { # build_target SOURCE OUT TARGET TRIPLET
  local source=$1 out=$2/$3 triplet=$4 make
  mkdir -p "$out"
  cd "$out"
  # some of QEMU's makefiles ask what the compiler can, and only where they are the makefile of the folder
  ln -s "$source/tests/tcg/Makefile.target" Makefile
  make=(make --keep-going --silent "SRC_PATH=$source" "TARGET=$3-linux-user" "TARGET_NAME=$3" "CC=$triplet-gcc"
    BUILD_STATIC=y "QEMU=$recorder")
  "${make[@]}" --jobs="$(nproc)" all >log 2>&1 || true
  # their results are compared with the expected ones, and there are none: the recorder runs nothing
  "${make[@]}" run >log.run 2>&1 || true
  sort -u runs -o runs
  sed -n 's/^ *SKIPPED //p' log.run >skipped
  if grep -qE '\*\*\*|[Ee]rror' log; then
    printf 'build.sh: not all tests of %s could be built:\n' "$3" >&2
    cat log >&2
    exit 1
  fi
  rm Makefile
  find . -maxdepth 1 -type f ! -perm -100 ! -name runs ! -name skipped -delete
  find . -maxdepth 1 -type f -perm -100 -exec "$triplet-strip" --strip-debug {} +
  [[ -s runs ]] || { printf 'build.sh: no tests came out for %s\n' "$3" >&2; exit 1; }
  printf '%s: %s runs\n' "$3" "$(wc -l <runs)"
}

build_all() { # build_all SOURCE OUT
  local target triplet
  recorder=$(mktemp)
  # shellcheck disable=SC2016  # the recorder's own arguments
  printf '#!/bin/sh\necho "$*" >>runs\n' >"$recorder"
  chmod 755 "$recorder"
  while read -r target triplet _; do
    build_target "$1" "$2" "$target" "${triplet/x86-64/x86_64}"
  done < <(printf '%s\n' "${targets[@]}")
  sed -n '1s/^qemu (\([^)]*\)).*/\1/p' "$1/debian/changelog" >"$2/version"
}

case $1 in
  install) install_compilers ;;
  source) get_source "$2" ;;
  tests) build_all "$2" "$3" ;;
  *) printf 'build.sh: no such step: %s\n' "$1" >&2; exit 2 ;;
esac

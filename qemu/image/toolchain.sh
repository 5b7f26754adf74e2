#!/bin/sh
# Builds the tool as a static program with Debian's own toolchain, for this machine or another.
#
#   toolchain.sh install ARCH          packages and what is missing between them; ARCH in Docker's words
#   toolchain.sh build ARCH PROGRAM    the program, from the sources in the current directory
#   toolchain.sh carry ARCH PROGRAM FOLDER    the program that carries the emulators in FOLDER
#
# Debian ships no Rust standard library for musl, so it is built here (`-Zbuild-std`, hence RUSTC_BOOTSTRAP), which
# also gets it built for size and without the code that prints backtraces. host.sh says which host has glibc instead of musl.
set -eu

fail() {
  printf 'toolchain.sh: %s\n' "$1" >&2
  exit 1
}

# shellcheck source=qemu/host.sh
. /host.sh
host "${2:-}" || fail "no image is built for ${2:-nothing}; these are: $hosts"
unwind=/unwind
case $libc in
  musl) library=musl-dev:$debian linking="-C linker=${gnu%gnu}musl-gcc -C link-self-contained=no -L native=$unwind" ;;
  # the cross compiler's: it is a package for the machine that builds, and as such on every mirror
  glibc) library=libc6-dev-$debian-cross linking="-C linker=$gnu-gcc" ;;
esac

install_packages() {
  dpkg --add-architecture "$debian"
  apt-get -qq update
  apt-get -qq install --no-install-recommends ca-certificates cargo rustc rust-src gcc libc6-dev \
    "gcc-$(echo "$gnu" | tr _ -)" "$library" >/dev/null
}

# What Rust's musl targets take from an unwinder, which does not come with Debian's Rust. gcc's would ask glibc for the
# unwind tables, and abort where it finds none. In a program that aborts on panic there is nothing to unwind, and the
# backtrace of one is empty. With glibc, gcc's is linked.
make_unwinder() {
  mkdir -p "$unwind"
  cd "$unwind"
  cat >unwind.c <<'END'
enum { END_OF_STACK = 5 };
#define VALUE(name) unsigned long name(void *context) { (void)context; return 0; }
int _Unwind_Backtrace(void *visit, void *argument) { (void)visit; (void)argument; return END_OF_STACK; }
int _Unwind_RaiseException(void *exception) { (void)exception; return END_OF_STACK; }
void _Unwind_Resume(void *exception) { (void)exception; __builtin_trap(); }
void _Unwind_DeleteException(void *exception) { (void)exception; }
VALUE(_Unwind_GetIP)
VALUE(_Unwind_GetIPInfo)
VALUE(_Unwind_GetCFA)
VALUE(_Unwind_GetRegionStart)
VALUE(_Unwind_GetLanguageSpecificData)
VALUE(_Unwind_GetTextRelBase)
VALUE(_Unwind_GetDataRelBase)
VALUE(_Unwind_FindEnclosingFunction)
void _Unwind_SetGR(void *context, int index, unsigned long value) { (void)context; (void)index; (void)value; }
void _Unwind_SetIP(void *context, unsigned long value) { (void)context; (void)value; }
END
  "$gnu-gcc" -Os -Wall -c unwind.c
  "$gnu-ar" rc libunwind.a unwind.o
}

is_small() { # is_small PROGRAM: the budget, in bytes; it is amd64's, other instructions take other room
  size=$(stat -c %s "$1")
  [ "$size" -lt 1200000 ] || fail "$1 has $size bytes, and its budget is 1200000; leave something out, or raise the budget in toolchain.sh"
}

compile() { # compile PROGRAM OPTION...
  program=$1
  shift
  export RUSTC_BOOTSTRAP=1
  # without the positions of panics, and with sequences that repeat made functions: 80 kB
  export RUSTFLAGS="$linking -C target-feature=+crt-static \
-C relocation-model=static -C panic=abort -Zlocation-detail=none -C llvm-args=-enable-machine-outliner=always"
  # Other checkouts share the cache of what was compiled. Cargo goes by the age of files, and these are as old as in their
  # checkout: made new, none of them passes for what another checkout's build has compiled.
  find . -path ./target -prune -o -type f -exec touch {} +
  cargo build --release --locked --bin binfmt --target "$rust" "$@" \
    -Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size
  install -D "target/$rust/release/binfmt" "$program"
  headers=$("$gnu-readelf" -lW "$program")
  case $headers in *INTERP* | *DYNAMIC*) fail "$program is not static" ;; esac
  # glibc's lookups of users, groups and hosts load libraries of the system that it runs on, which may be of another glibc
  ! grep -q nsswitch.conf "$program" || fail "$program looks up names by NSS; read the file instead"
}

build() { # build ARCH PROGRAM
  compile "$2" --no-default-features
  [ "$1" != amd64 ] || is_small "$2"
}

carry() { # carry PROGRAM FOLDER
  compile "$1"
  OBJCOPY=$gnu-objcopy /carry.sh "$1" "$2"/qemu-*
}

case $1 in
  install)
    install_packages
    [ "$libc" = glibc ] || make_unwinder
    ;;
  build) build "$2" "$3" ;;
  carry) carry "$3" "$4" ;;
  *) fail "no such step: $1" ;;
esac

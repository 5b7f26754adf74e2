#!/bin/sh
# Builds the tool as a static musl program with Debian's own toolchain, for this machine or another.
#
#   toolchain.sh install ARCH          packages and what is missing between them; ARCH in Docker's words
#   toolchain.sh build ARCH PROGRAM    the program, from the sources in the current directory
#
# Debian ships no Rust standard library for musl, so it is built here (`-Zbuild-std`, hence RUSTC_BOOTSTRAP), which
# also gets it built for size and without the code that prints backtraces.
set -eu

fail() {
  printf 'toolchain.sh: %s\n' "$1" >&2
  exit 1
}

case ${2:-} in
  amd64) gnu=x86_64-linux-gnu gcc=gcc-x86-64-linux-gnu target=x86_64-unknown-linux-musl ;;
  arm64) gnu=aarch64-linux-gnu gcc=gcc-aarch64-linux-gnu target=aarch64-unknown-linux-musl ;;
  *) fail "no image is built for ${2:-nothing}; amd64 and arm64 are" ;;
esac
musl=${gnu%gnu}musl
unwind=/unwind

install_packages() {
  dpkg --add-architecture "$1"
  apt-get -qq update
  apt-get -qq install --no-install-recommends ca-certificates cargo rustc rust-src gcc libc6-dev \
    "$gcc" "musl-dev:$1" >/dev/null
}

# The unwinder that Rust's musl targets link with does not come with Debian's Rust; gcc's does the work, but asks glibc
# for a function that finds an object's unwind tables. "None" is the right answer in a program that aborts on panic.
make_unwinder() {
  mkdir -p "$unwind"
  cd "$unwind"
  printf 'int _dl_find_object(void *pc, void *result) { (void)pc; (void)result; return -1; }\n' >find.c
  "$gnu-gcc" -Os -c find.c
  cp "$("$gnu-gcc" -print-file-name=libgcc_eh.a)" libunwind.a
  "$gnu-ar" r libunwind.a find.o
}

build() {
  export RUSTC_BOOTSTRAP=1
  export RUSTFLAGS="-C linker=$musl-gcc -C link-self-contained=no -C target-feature=+crt-static \
-C relocation-model=static -C panic=abort -L native=$unwind"
  cargo build --release --locked --bin binfmt --target "$target" \
    -Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size
  install -D "target/$target/release/binfmt" "$1"
  ! "$gnu-readelf" -lW "$1" | grep -E 'INTERP|DYNAMIC' || fail "$1 is not static"
}

case $1 in
  install) install_packages "$2" && make_unwinder ;;
  build) build "$3" ;;
  *) fail "no such step: $1" ;;
esac

# shellcheck shell=sh disable=SC2034  # read by the scripts that source it
# The machines that the tool and the emulators can be built for, and their names. Sourced; it runs nothing.

hosts='amd64 arm64 riscv64 ppc64le s390x'

# host ARCH, in Docker's words: sets `debian`, Debian's name of it, `gnu`, that of its compiler and libraries, `rust`, the target
# that Rust compiles the tool for, `libc`, the C library that is linked into it (musl or glibc), and `own`, QEMU's name of the
# target that the machine itself is. Fails for any other ARCH.
host() {
  libc=musl
  case ${1:-} in
    amd64) debian=amd64 gnu=x86_64-linux-gnu rust=x86_64-unknown-linux-musl own=x86_64 ;;
    arm64) debian=arm64 gnu=aarch64-linux-gnu rust=aarch64-unknown-linux-musl own=aarch64 ;;
    riscv64) debian=riscv64 gnu=riscv64-linux-gnu rust=riscv64gc-unknown-linux-musl own=riscv64 ;;
    ppc64le) debian=ppc64el gnu=powerpc64le-linux-gnu rust=powerpc64le-unknown-linux-musl own=ppc64le ;;
    # nix 0.31.3 does not compile for musl there: its type for the requests of ptrace is not that of libc's constants
    s390x) debian=s390x gnu=s390x-linux-gnu rust=s390x-unknown-linux-gnu libc=glibc own=s390x ;;
    *) return 1 ;;
  esac
}

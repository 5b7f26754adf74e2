#!/usr/bin/env bash
# What `make run` shows: install five architectures, run a real program of each, print the status.
#
#   demo.sh BINFMT EMULATORS PROGRAMS    the tool, the folder of emulators, the folder of ARCH/busybox
#
# As root it installs on this host. As anybody else it does so in a user namespace of its own, whose binfmt_misc
# is private (Linux 6.7 and newer) and ends with this command.
set -euo pipefail

fail() {
  printf 'demo.sh: %s\n' "$1" >&2
  exit 1
}

show() { # show COMMAND...: print it, then run it
  printf '\n$ %s\n' "$*"
  "$@"
}

demonstrate() { # demonstrate BINFMT PROGRAMS
  local arch
  show "$1" --install arm64,arm,riscv64,s390x,ppc64le
  for arch in arm64 armhf riscv64 s390x ppc64el; do
    show "$2/$arch/busybox" uname -m || fail "the $arch program did not run"
  done
  show "$1" --status
}

inside() { # demonstrate, where the table of handlers is still to be mounted
  mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc 2>/dev/null ||
    fail 'this kernel has no private binfmt_misc (Linux 6.7 has): run it as root'
  demonstrate "$@"
}

QEMU_BINARY_PATH=$(realpath "$2")
export QEMU_BINARY_PATH
if [[ ${4:-} == --inside ]]; then
  inside "$1" "$3"
elif ((EUID == 0)); then
  echo 'Installing on this host, until it reboots or "binfmt --uninstall all".'
  demonstrate "$1" "$3"
else
  echo 'Not root: installing in a private user namespace, which ends with this command. As root it is the host.'
  unshare --user --map-root-user --mount true 2>/dev/null ||
    fail 'this system grants users no namespaces of their own: run it as root'
  exec unshare --user --map-root-user --mount "$0" "$@" --inside
fi

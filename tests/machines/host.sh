#!/usr/bin/env bash
# What was built for another host, on that host's own kernel:
#
#   host.sh PLATFORM ROOT [SINGLE]    the host, the files of its image in a folder, and its single file
#
# It boots such a machine (qemu/machine.sh), where the image's tool installs all of the image's emulators, and a busybox of each
# architecture runs through them. The single file does the same. Prints what the machine says; fails as soon as anything there does.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

(($# == 2 || $# == 3)) || { echo 'usage: tests/machines/host.sh PLATFORM ROOT [SINGLE]' >&2; exit 2; }
platform=$1 image=$2 single=${3:-}

# Debian's name of an architecture, QEMU's, and what `uname -m` says there
programs='amd64 x86_64 x86_64
arm64 aarch64 aarch64
armhf arm armv7l
i386 i386 i686
ppc64el ppc64le ppc64le
riscv64 riscv64 riscv64
s390x s390x s390x'

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root/usr" "$root/programs"
cp -r "$image/usr/bin" "$root/usr/"
[[ ! $single ]] || install -D "$single" "$root/single/binfmt"
while read -r foreign emulator machine; do
  [[ -e $image/usr/bin/qemu-$emulator ]] || continue
  qemu/fetch.sh --package busybox-static --arch "$foreign" --keep '*bin/busybox' "build/programs/$foreign" >&2
  mkdir "$root/programs/$machine"
  cp "build/programs/$foreign/busybox" "$root/programs/$machine/"
done <<<"$programs"

cat >"$work/script" <<'END'
programs_run() {
  for folder in /programs/*; do
    said=$("$folder/busybox" uname -m)
    case $said in
      "${folder##*/}") echo "a program of $said runs" ;;
      # an emulator names the program's architecture; a kernel that runs a 32-bit program itself names the host's
      "$(uname -m)") echo "a program of ${folder##*/} runs natively" ;;
      *) echo "a program of ${folder##*/} says that it is on $said"; return 1 ;;
    esac
  done
}
try() { # try BINFMT: what it writes is no terminal's, and so without colours
  "$1" --install all 2>/tmp/said >/tmp/json || { cat /tmp/said; return 1; }
  cat /tmp/said
  programs_run
  "$1" --status >/tmp/said
  cat /tmp/said
  "$1" --status --format json >/tmp/json
  for program in /programs/*/busybox; do "$1" --explain "$program" >/dev/null; done
  "$1" --uninstall all >/tmp/json 2>/tmp/said
  # all that is left in the table is the kernel's own
  [ "$(mount -t binfmt_misc none /mnt && ls /mnt && umount /mnt)" = "register
status" ]
}
mkdir -p /mnt
echo "Linux $(uname -r), $(uname -m)"
binfmt --help >/dev/null
binfmt --version
try binfmt
[ ! -e /single/binfmt ] || { rm /usr/bin/qemu-*; echo 'the single file:'; try /single/binfmt; }
END
qemu/machine.sh "$platform" "$root" "$work/script"
echo "host.sh: $platform: all of this ran on a kernel of that host, in a virtual machine"

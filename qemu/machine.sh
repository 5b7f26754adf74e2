#!/usr/bin/env bash
# Runs a script on a host of another kind: in a virtual machine with Debian's kernel of that host.
#
#   machine.sh PLATFORM ROOT SCRIPT    linux/riscv64, a folder with the machine's files, and a shell script
#
# The machine has the files of ROOT and what Debian's busybox for that host can do; no disk and no network. SCRIPT runs there as
# root with `sh -e`, and what it prints is printed here. The exit status is the script's. QEMU interprets the processor, so a
# minute passes until it starts.
#
# It owns how each host's machine is started. Kernel and busybox stay in build/hosts for the next call.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=qemu/host.sh
source qemu/host.sh

fail() { # fail WHAT REMEDY
  printf 'machine.sh: %s; %s\n' "$1" "$2" >&2
  exit 1
}

(($# == 3)) || { echo 'usage: qemu/machine.sh PLATFORM ROOT SCRIPT' >&2; exit 2; }
root=$2 script=$3
host "${1#linux/}" || fail "there is no host $1" "name linux/ and one of these: $hosts"
files=build/hosts/$debian

case $debian in
  amd64) emulator=(qemu-system-x86_64 -accel tcg -cpu max) console=ttyS0 ;;
  arm64) emulator=(qemu-system-aarch64 -M virt -cpu cortex-a72) console=ttyAMA0 ;;
  riscv64) emulator=(qemu-system-riscv64 -M virt) console=ttyS0 ;;
  # the other machines of that processor want firmware of their own
  ppc64el) emulator=(qemu-system-ppc64 -M pseries -cpu POWER9) console=hvc0 ;;
  s390x) emulator=(qemu-system-s390x -M s390-ccw-virtio -cpu max) console=ttysclp0 ;;
esac
# modules of newer kernels are compressed
qemu/need.sh "${emulator[0]}" xz

fetch_kernel() { # of the newest release whose packages are there: Debian's mirrors lack some that its index names
  local release
  for release in trixie bookworm; do
    tests/machines/fetch.sh "$release" "$files/kernel" "${1#linux/}" >&2 && return
  done
  return 1
}
fetch_kernel "$1" || fail "there is no kernel for $1" 'try again'
qemu/fetch.sh --package busybox-static --arch "$debian" --keep '*bin/busybox' "$files/busybox" >&2
here=build/programs/$(dpkg --print-architecture)
qemu/fetch.sh --package busybox-static --keep '*bin/busybox' "$here" >&2

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$root" "$work/root"
mkdir -p "$work"/root/{bin,dev,proc,sys,tmp}
cp "$files/busybox/busybox" "$work/root/bin/"
cp "$files/kernel/binfmt_misc.ko" "$work/root/"
cp "$script" "$work/root/script"
cat >"$work/root/init" <<'END'
#!/bin/busybox sh
/bin/busybox mkdir -p /sbin
/bin/busybox --install -s /bin
export PATH=/bin:/usr/bin HOME=/
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
# ROOT may be without it, and then this process has been started without output
exec >/dev/console 2>&1
mount -t tmpfs tmpfs /tmp
insmod /binfmt_misc.ko
echo '== begin'
sh -e /script </dev/null 2>&1 && status=0 || status=$?
echo "== end $status"
# the last line has to leave the serial line
sleep 1
poweroff -f
END
chmod 755 "$work/root/init" "$work/root/bin/busybox"
busybox=$PWD/$here/busybox
(cd "$work/root" && find . | "$busybox" cpio -o -H newc 2>/dev/null) >"$work/initramfs"

# bounded, for a kernel that does not find its console says nothing, and ends never
timeout --kill-after 10 "${TIMEOUT:-900}" "${emulator[@]}" -m 1024 -display none -nodefaults -no-reboot \
  -kernel "$files/kernel/vmlinuz" -initrd "$work/initramfs" -append "console=$console quiet panic=-1" \
  -serial stdio </dev/null >"$work/log" 2>&1 || :
tr -d '\r' <"$work/log" | sed '0,/== begin$/d; /^== end /,$d'
status=$(tr -d '\r' <"$work/log" | sed -n 's/^== end //p')
[[ $status ]] || fail "the machine has not come to the end of $script: $(tail -n 3 "$work/log" | tr -d '\r' | paste -sd ' ')" \
  'start it by hand to see why'
exit "$status"

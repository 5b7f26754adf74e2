#!/bin/busybox sh
# shellcheck shell=dash
# The first process of a virtual machine of vm.rs: runs what comes in on the second serial line, each line the length of a
# shell script in hexadecimal digits and these, and answers with a line: its exit status, its stdout and its stderr, again in
# digits; or `again`, when characters are missing, which a serial line loses while its machine is busy.
/bin/busybox mkdir -p /proc /sys /dev /tmp /sbin
/bin/busybox --install -s /bin
ln -sf /bin/busybox /sbin/modprobe
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
export PATH=/bin:/usr/bin HOME=/ SHELL=/bin/sh
ip link set lo up 2>/dev/null
exec 3<>/dev/ttyS1
stty -F /dev/ttyS1 raw -echo
echo ready >&3
while read -r length digits <&3; do
  [ -n "$length" ] || continue
  [ "${#digits}" = "$length" ] || { echo again >&3; continue; }
  echo "$digits" | xxd -r -p >/tmp/script
  timeout 240 sh -e /tmp/script >/tmp/stdout 2>/tmp/stderr </dev/null
  echo "$? $(xxd -p /tmp/stdout | tr -d '\n') $(xxd -p /tmp/stderr | tr -d '\n')" >&3
done

#!/bin/busybox sh
# shellcheck shell=dash
# The first process of a virtual machine of vm.rs: runs what comes in on the second serial line, and answers with a line.
#
# A request is a number, the length of a shell script in hexadecimal digits, these, and the number again. The answer is that
# number, the script's exit status, its stdout and its stderr, again in digits, and once more the number. A serial line loses characters while its
# machine is busy: where some are missing, the answer is `again`; a request that comes twice is run once and answered twice.
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
answered=0
while read -r number length digits last <&3; do
  [ -n "$number" ] || continue
  if [ "$number ${#digits}" != "$last $length" ]; then
    echo again >&3
    continue
  fi
  if [ "$number" != "$answered" ]; then
    echo "$digits" | xxd -r -p >/tmp/script
    timeout "${minutes_of_script:-4}m" sh -e /tmp/script >/tmp/stdout 2>/tmp/stderr </dev/null
    answer="$number $? $(xxd -p /tmp/stdout | tr -d '\n') $(xxd -p /tmp/stderr | tr -d '\n') $number"
    answered=$number
  fi
  echo "$answer" >&3
done

#!/bin/busybox sh
# shellcheck shell=dash
# Prints what the tools of tools.sh show of a process: look.sh PID. Lines without a number that differs between two.
export TERMINFO=/tools/terminfo
tool() {
  name=$1
  shift
  /tools/ld-linux-x86-64.so.2 --library-path /tools "/tools/$name" "$@"
}
found() { # found WHAT PATTERN...: whether pgrep finds it
  what=$1
  shift
  tool pgrep "$@" | grep -qx "$pid" && echo "pgrep: by its $what"
}
pid=$1
echo "ps: $(tool ps -o comm=,args=,exe= -p "$pid")"
echo "busybox ps: $(ps -o pid,comm,args | sed -n "s/^ *$pid *//p")"
echo "top: $(tool top -b -n 1 -p "$pid" | tail -n 1 | awk '{ print $12 }')"
echo "top -c: $(tool top -b -n 1 -w 200 -c -p "$pid" | tail -n 1 | awk '{ print $12, $13, $14 }')"
found name -x busybox
found arguments -xf './busybox sleep [0-9]*'
# a path in another mount namespace is target:/path there
tool gdb -nx -batch -p "$pid" -ex 'info proc exe' -ex 'info inferiors' 2>/dev/null |
  sed 's/target://' | awk '/^exe/ { print "gdb:", $0 } /^\*/ { print "gdb:", $NF }'
echo "exe: $(readlink "/proc/$pid/exe")"
echo "cmdline: $(tr '\0' ' ' <"/proc/$pid/cmdline")"

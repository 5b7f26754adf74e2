#!/bin/sh
# Python's own regression tests of what emulators get wrong: signals, threads, processes, memory, files.
set -eu
# on a file system of memory: overlays have numbers of files that differ from one look to the next
cd "$(mktemp -d -p /dev/shm)"
chown user .
setpriv --reuid user --regid user --clear-groups env HOME="$PWD" TMPDIR="$PWD" \
  python3 -m test --timeout 1200 --fail-env-changed -q \
  test_signal test_threading test_thread test_subprocess test_mmap test_select test_fcntl test_struct test_float test_math \
  test_queue test_posix test_os

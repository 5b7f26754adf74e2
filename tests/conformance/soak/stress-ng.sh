#!/bin/sh
# stress-ng, each for two seconds with its own checks.
set -eu
cd "$(mktemp -d)"
for stressor in atomic bsearch clone cpu eventfd fork futex hash kill malloc matrix mmap mutex nanosleep pipe poll prctl \
  pthread qsort rename sem sigabrt sigfpe sigio sigpending sigq sigsuspend sigtrap sock switch timer tree vfork vm wait zlib; do
  stress-ng --quiet --verify --timeout 2 "--$stressor" 2 || { echo "$stressor: $?"; failed=1; }
done
exit "${failed:-0}"

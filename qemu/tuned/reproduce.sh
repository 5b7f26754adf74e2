#!/usr/bin/env bash
# Compiles the emulator of a target twice, from the start, and compares the two to the byte: reproduce.sh TARGET
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for attempt in first second; do
  TARGETS=$1 ATTEMPT=$$-$attempt qemu/image/build.sh tuned "$work/$attempt"
done
if ! difference=$(diff -rq "$work/first" "$work/second"); then
  printf 'reproduce.sh: two builds of qemu-%s differ: %s; look for what varies: times, paths, order\n' "$1" \
    "${difference//$'\n'/, }" >&2
  exit 1
fi
(cd "$work/first" && sha256sum -- *)

#!/usr/bin/env bash
# Compiles emulators once more, from the start, and compares them with those of the build before, to the byte:
#
#   reproduce.sh TARGETS     by QEMU's names: s390x,arm
#
# The build before is Docker's cached one, or made here.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
TARGETS=$1 qemu/image/build.sh tuned "$work/before"
TARGETS=$1 ATTEMPT=$$-$(date +%s) qemu/image/build.sh tuned "$work/again"
if ! difference=$(diff -rq "$work/before" "$work/again"); then
  printf 'reproduce.sh: two builds differ: %s; look for what varies: times, paths, order\n' "${difference//$'\n'/, }" >&2
  exit 1
fi
(cd "$work/again" && sha256sum -- *)

#!/bin/sh
# Puts emulators into the program, for `src/emulator/embedded.rs` to find: a section for each, compressed, that no loader maps.
#
#   carry.sh PROGRAM EMULATOR...
#
# From the environment:
#   OBJCOPY    that of the program's machine (objcopy)
#   LEVEL      of compression (19); with more, an emulator takes more memory to unpack than it has bytes
set -eu
program=$1
shift
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
for emulator in "$@"; do
  section=$(basename "$emulator").zst
  zstd --quiet "-${LEVEL:-19}" --check "$emulator" -o "$folder/$section"
  set -- "$@" --add-section "$section=$folder/$section"
  shift
done
"${OBJCOPY:-objcopy}" "$@" "$program"

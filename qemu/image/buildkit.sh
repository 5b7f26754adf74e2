#!/bin/bash
# Gives the emulators below ROOT the names under which BuildKit looks for them, and adds the texts that their licences refer to:
#
#   buildkit.sh ROOT
#
# BuildKit has QEMU's names for the architectures of its table qemuArchMap (solver/llbsolver/ops/exec_binfmt.go), and
# for others Go's. Under such a name our emulators start the programs of their guest themselves (patches/41-*.patch).
set -euo pipefail
root=$1
doc=$root/usr/share/doc

for file in "$root"/usr/bin/qemu-*; do
  qemu=${file##*/}
  name=${qemu#qemu-}
  case $name in
    mips64el) name=mips64le ;;
    loongarch64) name=loong64 ;;
  esac
  mv "$file" "$root/usr/bin/buildkit-qemu-$name"
  sed -i "s/  $qemu\$/  buildkit-qemu-$name/" "$doc/qemu-user/SHA256SUMS"
done
grep -rohE '/usr/share/common-licenses/[A-Za-z0-9.-]*[A-Za-z0-9]' "$doc" | sort -u |
  xargs cp --dereference --parents --target-directory="$root"

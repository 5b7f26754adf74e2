#!/usr/bin/env bash
# Learns from emulators that count what they do: train.sh EMULATORS PROFILE
#
#   EMULATORS   a folder of emulators of `build.sh instrument`
#   PROFILE     the archive that comes out, profile.tar.xz
#
# Each runs guest.sh in a Debian of its target, through the kernel, in namespaces that end with it: nothing is installed on
# this machine. What the emulators have in common learns from all of them. mips64 and ppc64, for which Debian has no programs,
# learn from their little-endian sisters; loongarch64 only from what is common.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

fail() { # fail WHAT REMEDY
  printf 'train.sh: %s; %s\n' "$1" "$2" >&2
  exit 1
}

debian() { # debian TARGET: the Debian architecture; nothing where there is none
  case $1 in
    aarch64) echo arm64 ;;
    arm) echo armhf ;;
    ppc64le) echo ppc64el ;;
    riscv64 | s390x | i386 | mips64el) echo "$1" ;;
  esac
}

rule() { # rule TARGET EMULATOR: the line that registers it, with QEMU's own magic and mask
  local magic mask
  IFS=: read -r _ _ _ _ magic mask _ < <(grep "^:qemu-$1:" magic/tests/data/debian-binfmt.d.conf)
  printf ':qemu-%s:M::%s:%s:%s:POCF' "$1" "$magic" "$mask" "$2"
}

# In new namespaces: a root directory whose changes go to memory, and a table with one handler.
# shellcheck disable=SC2016  # expanded there
inside='
  place=$1 root=$2 rule=$3 learnt=$4 guest=$5
  mount -t tmpfs tmpfs "$place"
  mkdir "$place/upper" "$place/work" "$place/root" "$place/table"
  mount -t overlay -o "lowerdir=$root,upperdir=$place/upper,workdir=$place/work,userxattr" overlay "$place/root"
  mount -t binfmt_misc binfmt_misc "$place/table"
  cp "$guest" "$place/root/guest.sh"
  mkdir -p "$place/root/qemu/profile"
  mount --bind "$learnt" "$place/root/qemu/profile"
  mount -t proc proc "$place/root/proc"
  mount --rbind /dev "$place/root/dev"
  printf %s "$rule" >"$place/table/register"
  exec chroot "$place/root" /bin/sh /guest.sh'

train() { # train TARGET ARCH
  local root=build/rootfs/$2
  qemu/rootfs.sh "$2" "$root"
  echo "training qemu-$1"
  unshare --user --map-root-user --mount --pid --fork -- sh -euc "$inside" sh "$work/place" "$(realpath "$root")" \
    "$(rule "$1" "$emulators/qemu-$1")" "$work/learnt" "$PWD/qemu/tuned/guest.sh" >"$work/log" 2>&1 ||
    { tail -n 3 "$work/log" >&2; fail "qemu-$1 does not run its programs" 'see above'; }
}

sister() { # sister FROM TO: what was learnt of a target's own files, for another of the same files
  local file
  for file in "$work/learnt"/*"#libqemu-$1-linux-user.a.p#"*; do
    cp "$file" "${file/"#libqemu-$1-linux-user.a.p#"/"#libqemu-$2-linux-user.a.p#"}"
  done
}

(($# == 2)) || { echo 'usage: train.sh EMULATORS PROFILE' >&2; exit 2; }
emulators=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/learnt" "$work/place"
for emulator in "$emulators"/qemu-*; do
  target=${emulator##*/qemu-}
  arch=$(debian "$target")
  [[ -z $arch ]] || train "$target" "$arch"
done
sister mips64el mips64
sister ppc64le ppc64
tar -C "$work/learnt" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -c . | xz -9e >"$2"
echo "$2: $(find "$work/learnt" -type f | wc -l) files, $(stat -c %s "$2") bytes"

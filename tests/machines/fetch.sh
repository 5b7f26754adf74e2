#!/usr/bin/env bash
# Brings the newest kernel of a Debian release, for the virtual machines of tests/machines/main.rs and qemu/machine.sh:
#
#   fetch.sh RELEASE FOLDER [HOST]     bullseye, bookworm, trixie, trixie-backports; amd64 or another host of qemu/host.sh
#
#   FOLDER/vmlinuz              the kernel
#   FOLDER/binfmt_misc.ko       its module for binfmt_misc
#   FOLDER/release              what `uname -r` says there; written last: a folder that has it is complete
#
# It owns which of Debian's packages a kernel is in. They are downloaded, checked and unpacked (qemu/apt.sh), never installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=qemu/apt.sh
source qemu/apt.sh
# shellcheck source=qemu/host.sh
source qemu/host.sh

kernels() { # the packages that the release has of such kernels, without debugging symbols, the unsigned, and the real-time ones
  /usr/lib/apt/apt-helper cat-file "$work"/lists/*_Packages* |
    sed -nE "/-(cloud|rt)-$flavour\$/d; s/^Package: (linux-(image|binary|modules)-[0-9].*-$flavour)\$/\1/p"
}

(($# == 2 || $# == 3)) || { echo 'usage: tests/machines/fetch.sh RELEASE FOLDER [HOST]' >&2; exit 2; }
release=$1 folder=${2%/}
host "${3:-amd64}" || fail "there is no host $3" "name one of these: $hosts"
# what Debian's kernel of that machine is called; on amd64 the smaller one for virtual machines is enough
case $debian in
  amd64) flavour=cloud-amd64 ;;
  ppc64el) flavour=powerpc64le ;;
  *) flavour=$debian ;;
esac
if [[ -e $folder/release ]]; then
  echo "$folder: Linux $(cat "$folder/release") is in place"
  exit
fi
apt_is_there 'the virtual machines boot its kernels'
arch=$debian work=$(mktemp -d)
trap 'rm -rf "$work" "$folder.part"' EXIT
apt_index "$release"
# since 7.x the kernel is in linux-binary-*, the modules are in linux-modules-*; before, both in linux-image-*
version=$(kernels | sed -E 's/^linux-[a-z]*-//' | sort --version-sort | tail -n 1)
[[ -n $version ]] || fail "$release has no kernel $flavour" 'name another release'
mapfile -t packages < <(kernels | grep -xFf <(printf 'linux-%s-%s\n' image "$version" binary "$version" modules "$version") | sort -u)
mkdir "$work/debs" "$work/files"
if ((EUID == 0)); then chown _apt "$work/debs" 2>/dev/null || true; fi
(cd "$work/debs" && apt_of_our_own download "${packages[@]}") ||
  fail "cannot download ${packages[*]}: $(apt_complaint)" 'try again, or name another release'
for deb in "$work"/debs/*.deb; do dpkg-deb --extract "$deb" "$work/files"; done
rm -rf "$folder.part"
mkdir -p "$folder.part"
# /boot/vmlinuz-VERSION, vmlinux-VERSION on ppc64el; since 7.x vmlinuz beside the modules
mapfile -t kernel < <(find "$work/files" -type f \( -name 'vmlinu[xz]' -o -name 'vmlinu[xz]-*' \))
((${#kernel[@]} == 1)) || fail "${packages[*]} hold ${#kernel[@]} kernels instead of one" 'see where it is now'
cp "${kernel[0]}" "$folder.part/vmlinuz"
module=$(find "$work/files" -name 'binfmt_misc.ko*')
case $module in
  *.xz) xz -dc "$module" >"$folder.part/binfmt_misc.ko" ;;
  *.ko) cp "$module" "$folder.part/" ;;
  *) fail "${packages[*]} hold no module binfmt_misc" 'see how it is compressed' ;;
esac
echo "$version" >"$folder.part/release"
rm -rf "$folder"
mv "$folder.part" "$folder"
echo "$folder: Linux $version ($release)"

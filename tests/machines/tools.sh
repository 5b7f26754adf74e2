#!/usr/bin/env bash
# Brings the tools by which people look at processes, for the virtual machines of tests/machines/linux73.rs: procps' and gdb.
#
#   tools.sh FOLDER
#
#   FOLDER/{ps,pgrep,top,gdb}       the programs
#   FOLDER/*.so.*                   the libraries that they load, and the loader, by which they start wherever the folder is:
#                                   ld-linux-x86-64.so.2 --library-path FOLDER FOLDER/gdb
#   FOLDER/terminfo/d/dumb          the terminal of top, which needs one even if it prints to a file
#   FOLDER/packages                 where all is from; written last: a folder that has it is complete
#
# They are of bookworm: trixie has no gdb without Python, of which the machine would need the whole library. Packages are
# downloaded, checked and unpacked (qemu/apt.sh), never installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=qemu/apt.sh
source qemu/apt.sh

(($# == 1)) || { echo 'usage: tests/machines/tools.sh FOLDER' >&2; exit 2; }
folder=${1%/}
if [[ -e $folder/packages ]]; then
  echo "$folder: $(grep -E '^(gdb-minimal|procps)_' "$folder/packages" | paste -sd ' ') are in place"
  exit
fi
apt_is_there 'the virtual machines have tools of its packages'
arch=amd64 work=$(mktemp -d)
trap 'rm -rf "$work" "$folder.part"' EXIT
apt_index bookworm
apt_of_our_own install --download-only --yes --no-install-recommends gdb-minimal ncurses-base procps ||
  fail "cannot download gdb and procps: $(apt_complaint)" 'try again'
files=$work/files
mkdir "$files"
for deb in "$work"/cache/archives/*.deb; do dpkg-deb --extract "$deb" "$files"; done

rm -rf "$folder.part"
mkdir -p "$folder.part/terminfo/d"
programs=("$files"/bin/ps "$files"/usr/bin/{pgrep,top,gdb})
loader=$files/lib64/ld-linux-x86-64.so.2
# the loader is among them
for program in "${programs[@]}"; do
  "$loader" --library-path "$files/lib/x86_64-linux-gnu:$files/usr/lib/x86_64-linux-gnu" --list "$program"
done | sed -nE 's/.* => (\/.*) \(0x.*/\1/p' | sort -u >"$work/libraries"
xargs cp -L -t "$folder.part" "${programs[@]}" <"$work/libraries"
cp "$files/lib/terminfo/d/dumb" "$folder.part/terminfo/d/"
(cd "$work/cache/archives" && printf '%s\n' *.deb) >"$folder.part/packages"
rm -rf "$folder"
mv "$folder.part" "$folder"
echo "$folder: gdb and procps of bookworm, $(du -sm "$folder" | cut -f 1) MB"

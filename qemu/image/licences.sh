#!/bin/bash
# Gathers the licences of what is linked into the tool, after `toolchain.sh` has built it:
#
#   licences.sh ARCH FOLDER [OPTION...]    OPTION: Cargo's, by which it was built without features
#
#   FOLDER/crates             the crates, those of Rust's standard library too, and each licence text once
#   FOLDER/rust, gcc          Debian's word on the standard library, and the start-up code
#   FOLDER/musl or glibc      the same on the C library that the host has (host.sh); with glibc's, what its licence asks for
#
# A crate's licence is what is in its published source. Where that has no text, and the licence is MIT, the text is
# ours with the crate's authors. Anything else must be looked at: it fails.
set -euo pipefail
shopt -s nocaseglob nullglob
arch=$1 folder=$2
shift 2
work=$(mktemp -d)
registry=${CARGO_HOME:-$HOME/.cargo}/registry/src

# shellcheck source=qemu/host.sh
source /host.sh
host "$arch" || { printf 'licences.sh: no image is built for %s; these are: %s\n' "$arch" "$hosts" >&2; exit 1; }

linked() { # linked MANIFEST OPTION...: the crates from the registry that end up in the program, as NAME-VERSION LICENCE
  # the standard library's own manifests use what is not stable yet
  RUSTC_BOOTSTRAP=1 cargo tree --quiet --locked --manifest-path "$@" --target "$rust" \
    --edges normal,no-proc-macro --prefix none --format '{p} {l}' |
    sed -nE '/\(\//d; s/ \(\*\)$//; s/^([^ ]+) v/\1-/p'
}

mit() { # mit CRATE: the text for a crate that brings none
  sed -nE 's/^authors = \[(.*)\]$/Copyright (c) \1/p; /^authors = \[$/,/^\]/{s/^ +(.*),$/Copyright (c) \1/p}' \
    "$1/Cargo.toml" | tr -d '"' | grep . || echo "Copyright (c) the authors of ${1##*/}"
  echo
  sed -n '/^Permission/,$p' LICENSE
}

texts() { # texts NAME-VERSION LICENCE: its licence files, each filed under its hash, with the crate's name
  local crates=("$registry"/*/"$1") files text
  files=("${crates[0]}"/{licen[cs]e,copying,notice,unlicense}*)
  if ((${#files[@]} == 0)); then
    [[ $2 == MIT ]] || { printf 'licences.sh: %s (%s) has no licence text; find it\n' "$1" "$2" >&2; exit 1; }
    mit "${crates[0]}" >"$work/mit"
    files=("$work/mit")
  fi
  for text in "${files[@]}"; do
    local filed
    filed=$work/$(sha256sum <"$text" | cut -c 1-16)
    cp "$text" "$filed.text"
    echo "$1" >>"$filed.crates"
  done
}

mkdir -p "$folder"
{ linked Cargo.toml "$@"; linked /usr/src/rustc-*/library/std/Cargo.toml; } | sort -u >"$work/linked"
while read -r crate licence; do texts "$crate" "$licence"; done <"$work/linked"
{
  printf 'The program binfmt has these crates linked in, each under the licence beside it. Their texts follow.\n\n'
  cat "$work/linked"
  for text in "$work"/*.text; do
    printf '\n==== %s\n\n' "$(sort -u "${text%.text}.crates" | paste -sd ' ')"
    cat "$text"
  done
} >"$folder/crates"

packaged() { # packaged PACKAGE [SOURCE]: Debian's word on its licence, after its release and source in the format of fetch.sh
  # shellcheck source=/dev/null
  (. /etc/os-release && echo "# release: $VERSION_CODENAME")
  # shellcheck disable=SC2016  # dpkg's variables
  echo "# source: ${2:-$(dpkg-query --show --showformat='${source:Package}=${source:Version}' "$1")}"
  cat "/usr/share/doc/${1%:*}/copyright"
}

built_using() { # built_using PACKAGE SOURCE: as NAME=VERSION, the source that it was built from besides its own
  local source
  # shellcheck disable=SC2016  # dpkg's variables
  source=$(dpkg-query --show --showformat='${Built-Using}' "$1" | tr , '\n' | sed -nE "s/^ *$2 \\(= (.*)\\)$/$2=\1/p")
  [[ $source ]] || { printf 'licences.sh: %s does not say which %s it is built from; see dpkg --status\n' "$1" "$2" >&2; exit 1; }
  echo "$source"
}

glibc() { # for the LGPL, with the library's source and the licence's text, which not every system has
  local package=libc6-dev-$debian-cross source
  source=$(built_using "$package" glibc)
  cat <<END
The program binfmt has parts of the GNU C library linked in, which is free software under the GNU Lesser General Public
License, version 2.1 or later. Its complete source is Debian's, of exactly this version:

    apt-get source $source

https://snapshot.debian.org keeps what Debian's mirrors no longer have. With it and the sources of binfmt, the program can be
built again with another version of the library (qemu/image/toolchain.sh). Who distributes this program offers the source on
request as well, for three years, at the cost of the copying.

END
  packaged "$package" "$source"
  printf '\n==== The GNU Lesser General Public License, version 2.1\n\n'
  cat /usr/share/common-licenses/LGPL-2.1
}

gcc=(/usr/share/doc/gcc-[0-9]*-base)
packaged rust-src >"$folder/rust"
case $libc in
  musl) packaged "musl-dev:$debian" ;;
  glibc) glibc ;;
esac >"$folder/$libc"
packaged "${gcc[0]##*/}" >"$folder/gcc"

#!/usr/bin/env bash
# Puts together what is handed to others: what `make deb` and `make dist` run. It needs a Docker engine, for the program.
#
#   build.sh deb     build/package/binfmt_VERSION_ARCH.deb, by cargo-deb, which is installed into build/tools
#   build.sh dist    build/dist: the program and what belongs to it, the sources, and SHA256SUMS
#
# The program is the image's: static, so that one file serves every release, and with the licences of what is linked into
# it. The man page and completions come from the definition of the command line (src/main.rs). Two calls on one commit make
# the same bytes: files have the commit's time, and are root's.
#
# From the environment: PLATFORM, as linux/arm64 (the engine's; qemu/host.sh has them all); DEB_VERSION, the package's version where it is
# not Cargo.toml's; SOURCE_DATE_EPOCH, the time.
set -euo pipefail
cd "$(dirname "$0")/../.."
source qemu/host.sh

cargo_deb=3.8.0
tools=build/tools
stage=build/package
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || :)}
export SOURCE_DATE_EPOCH

fail() { # fail WHAT REMEDY
  printf 'build.sh: %s; %s\n' "$1" "$2" >&2
  exit 1
}

platform() { # sets arch, and what `host` does: the machine that it is for
  arch=${PLATFORM:-$(docker version --format '{{.Server.Os}}/{{.Server.Arch}}' 2>/dev/null)} ||
    fail 'no Docker engine answers' 'install one and start it, or point DOCKER_HOST to one'
  arch=${arch#linux/}
  host "$arch" || fail "there is no program for $arch" "PLATFORM may be linux/ and one of $hosts"
}

units() { # units BIN EMULATORS FOLDER: with these paths filled in
  local unit
  mkdir -p "$3"
  for unit in deploy/systemd/*.in; do
    sed "s|@BIN@|$1|; s|@EMULATORS@|$2|" "$unit" >"$3/$(basename "$unit" .in)"
  done
}

prepare() { # the program, its licences, the man page and the completions
  [[ -n $SOURCE_DATE_EPOCH ]] || fail 'the time of the commit is not to be had' 'set SOURCE_DATE_EPOCH, in seconds'
  platform
  rm -rf "$stage"
  qemu/image/build.sh program "$stage/program" >/dev/null
  cargo run --locked --quiet --package binfmt-package -- "$stage"
}

debian_texts() { # the changelog and copyright in Debian's forms
  local maintainer
  maintainer=$(deploy/release/publisher.sh maintainer)
  {
    printf 'binfmt (%s) unstable; urgency=medium\n\n' "$1"
    printf '  * What is new is in /usr/share/doc/binfmt/NEWS.md.\n\n'
    printf ' -- %s  %s\n' "$maintainer" "$(LC_ALL=C date --utc --rfc-email --date "@$SOURCE_DATE_EPOCH")"
  } | gzip --no-name --best >"$stage/changelog.gz"
  {
    sed "s|@COPYRIGHT@|$(sed -n 's/^Copyright (c) //p' LICENSE)|; /@LICENSE@/d" deploy/package/copyright.in
    sed -n '/^Permission/,$p' LICENSE | sed 's/^$/./; s/^/ /'
  } >"$stage/copyright"
}

deb() {
  local deb_version=${DEB_VERSION:-$version}
  [[ -x $tools/bin/cargo-deb && $("$tools/bin/cargo-deb" --version) == *" $cargo_deb" ]] ||
    # it makes one package of one megabyte: unoptimized, it is there in half the time
    cargo install --debug --locked --quiet --root "$tools" --version "$cargo_deb" cargo-deb
  prepare
  debian_texts "$deb_version"
  units /usr/bin /usr/bin "$stage/units"
  "$tools/bin/cargo-deb" --package binfmt-package --target "$rust" --no-build --no-strip --quiet --deb-version "$deb_version" --output "$stage/" >/dev/null
  ls "$stage"/*.deb
}

archive() { # archive FOLDER FILE: the same bytes for the same files
  tar --create --sort=name --format=gnu --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
    --mtime="@$SOURCE_DATE_EPOCH" -C "$(dirname "$1")" "$(basename "$1")" | gzip --no-name --best >"$2"
}

dist() {
  local out=build/dist name folder
  prepare
  name=binfmt-$version-linux-$arch
  folder=$stage/$name
  rm -rf "$out"
  mkdir -p "$out" "$folder"/{completions,licences}
  install -m 755 "$stage/program/usr/bin/binfmt" "$folder/"
  cp "$stage"/program/usr/share/doc/binfmt/linked/* "$folder/licences/"
  cp LICENSE README.md CHANGELOG.md SECURITY.md "$stage/binfmt.1" "$folder/"
  cp -r docs "$folder/"
  cp "$stage"/{binfmt.bash,_binfmt,binfmt.fish} "$folder/completions/"
  units /usr/local/bin /usr/local/lib/binfmt "$folder/systemd"
  archive "$folder" "$out/$name.tar.gz"
  git diff --quiet HEAD || echo 'build.sh: the sources are the last commit, and files have changed since' >&2
  git archive --prefix "binfmt-$version/" HEAD | gzip --no-name --best >"$out/binfmt-$version.tar.gz"
  (cd "$out" && sha256sum -- *.tar.gz >SHA256SUMS && cat SHA256SUMS)
}

case ${1:-} in
  deb | dist) "$1" ;;
  *) fail "no such thing to build: ${1:-nothing}" 'deb and dist are' ;;
esac

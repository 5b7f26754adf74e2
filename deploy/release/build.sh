#!/usr/bin/env bash
# Builds the files that a release has for one host: build.sh PLATFORM [FOLDER]
#
# Into FOLDER (build/release), next to other hosts' files: the image as an archive, the single file, the licences and sources
# that belong to it, the Debian package, the archive of the program, and the bills of materials. What is the same for all
# hosts comes with each, as the same bytes: the archive of the sources, and the chart. It needs a Docker engine.
#
# From the environment: QEMU_FROM, source or package (as the file `hosts` has it).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

source deploy/release/artefacts.sh
export PLATFORM=$platform
QEMU_FROM=${QEMU_FROM:-$(deploy/release/hosts.sh emulators "$platform")}
export QEMU_FROM
tag=binfmt-release:$arch
work=build/release-$arch
committed=$(git log -1 --format=%ct)

step() { printf '\n== %s\n' "$*" >&2; }

mkdir -p "$out"
rm -rf "$work"
trap 'docker rmi "$tag" >/dev/null 2>&1 || :; rm -rf "$work"' EXIT

step "$platform: the image, with emulators of $QEMU_FROM"
make sbom IMAGE="$tag" PLATFORM="$platform"
mv build/sbom.spdx.json "$out/$image.spdx.json"
docker save --output "$out/$image.tar" "$tag"
chmod 644 "$out/$image.tar"

step "$platform: the single file"
qemu/image/build.sh single "$work/single"
install -m 755 "$work/single/binfmt" "$out/$single"
rm "$work/single/binfmt"
qemu/image/check-sbom.sh "$work/single/doc/binfmt/sbom.spdx.json"
cp "$work/single/doc/binfmt/sbom.spdx.json" "$out/$single.spdx.json"
mv "$work/single" "$work/$single"
tar --create --sort=name --format=gnu --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
  --mtime="@$committed" -C "$work" "$single" |
  gzip --no-name --best >"$out/$single-licences.tar.gz"

step "$platform: the Debian package and the archives"
make deb PLATFORM="$platform"
cp "build/package/$deb" "$out/"
make dist PLATFORM="$platform"
cp build/dist/*.tar.gz "$out/"

step 'the chart'
make build/kubernetes
mkdir "$work/chart"
# each job of a release has a checkout with files of another time
SOURCE_DATE_EPOCH=$committed build/kubernetes/helm package --destination "$work/chart" deploy/kubernetes/chart >/dev/null
mv "$work/chart/$name.tgz" "$out/$name-chart.tgz"

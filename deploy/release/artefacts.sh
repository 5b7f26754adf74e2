# shellcheck shell=bash disable=SC2034  # read by the scripts that source it
# What the files of a release are called, for one host. Sourced, in the project's folder, with the arguments PLATFORM [FOLDER].
platform=${1:?name a platform, such as linux/amd64}
out=${2:-build/release}
arch=${platform#linux/}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
name=binfmt-$version
# shellcheck source=qemu/host.sh
source qemu/host.sh
host "$arch" || { echo "there are no releases for $platform; see deploy/release/hosts" >&2; exit 1; }
single=$name-single-linux-$arch
image=$name-image-linux-$arch
deb=binfmt_${version}_$debian.deb

#!/usr/bin/env bash
# Builds the image `binfmt` and looks at what came out: what `make image` runs. It needs a Docker engine with BuildKit.
#
#   build.sh                  the image
#   build.sh STAGE FOLDER     the files of a stage of the Dockerfile, nothing else, into FOLDER
#
# From the environment, so that `make image NAME=VALUE` reaches it, and each may be left out:
#   PLATFORM       which machine the image is for, as linux/arm64 (the engine's; qemu/host.sh has them all). An image
#                  for another machine than the engine's is called binfmt:arm64, not binfmt
#   VARIANT        buildkit: our emulators alone, which BuildKit uses without a handler; called binfmt:buildkit
#   IMAGE          what the image is called (binfmt)
#   TARGETS, DEBIAN, QEMU_FROM, QEMU_RELEASE, ATTEMPT    see the Dockerfile
#
# The layers are cached, the fetched emulators with them; `docker builder prune` makes the next call fetch again.
set -euo pipefail
cd "$(dirname "$0")/../.."
source qemu/host.sh

fail() { # fail WHAT REMEDY
  printf 'build.sh: %s; %s\n' "$1" "$2" >&2
  exit 1
}

engine_platform() {
  docker version --format '{{.Server.Os}}/{{.Server.Arch}}' 2>/dev/null ||
    fail 'no Docker engine answers' 'install one and start it, or point DOCKER_HOST to one'
}

default() { # default ARGUMENT: its value in the Dockerfile
  sed -n "s/^ARG $1=//p" Dockerfile
}

revision() { # the commit, marked when the files are not those of it
  git describe --always --abbrev=40 --dirty --exclude='*' 2>/dev/null || echo unknown
}

build() { # build OPTION...: what is the same for the image and for a stage
  local name options=(--platform "$platform" --build-arg "BASE=$base")
  for name in DEBIAN QEMU_FROM QEMU_RELEASE TARGETS ATTEMPT; do
    [[ -z ${!name:-} ]] || options+=(--build-arg "$name=${!name}")
  done
  # Needed where a proxy speaks TLS with a certificate of its own.
  [[ ! -f $certificates ]] || options+=(--secret "id=ca-certificates,src=$certificates")
  DOCKER_BUILDKIT=1 docker build "${options[@]}" "$@" .
}

export_stage() { # export_stage STAGE FOLDER
  build --target "$1" --output "type=local,dest=$2"
}

# QEMU's own word, since a package's version may leave out the last number.
qemu_version() { # of the first emulator in $image
  local emulators=("$image"/usr/bin/*qemu-*) version
  version=$(grep -aoE -m 1 '[0-9.]+ \(Debian ' "${emulators[0]}") ||
    fail "${emulators[0]##*/} holds no version of QEMU" 'see the Dockerfile'
  echo "${version%% *}"
}

# The version is known when the image is there, and a label makes no layer. To build once more with it would compile QEMU
# twice where the engine has not kept the first pass.
label_with_version() {
  local without
  without=$(docker image inspect --format '{{.Id}}' "$tag")
  printf 'FROM %s\n' "$tag" | DOCKER_BUILDKIT=1 docker build --platform "$platform" --quiet --tag "$tag" \
    --label "org.qemu.version=$1" - >/dev/null
  # has no name any more, unless another build at the same time has given it one; the layers are the other one's too
  docker rmi "$without" >/dev/null 2>&1 || :
}

unpack() ( # the image's files, into $image
  # a variant names no program to run, and a container needs the name of one
  container=$(docker create --platform "$platform" "$tag" none)
  trap 'docker rm "$container" >/dev/null' EXIT
  docker export "$container" | tar -x -C "$image" --no-same-owner
)

files() {
  (cd "$image" && find . ! -type d -printf '%P\n' | grep -vE "$of_the_engine")
}

expected_files() {
  local target targets=${TARGETS:-$(default TARGETS)}
  printf 'usr/share/doc/binfmt/sbom.spdx.json\n'
  [[ $variant ]] || the_tool
  printf 'usr/share/doc/qemu-user/%s\n' copyright SHA256SUMS SOURCE
  libraries | sed 's|^|usr/share/doc/qemu-user/linked/|'
  [[ $QEMU_FROM == package ]] || how_it_was_built
  common_licences
  for target in ${targets//,/ }; do [[ $target == "$own" ]] || echo "usr/bin/$(emulator "$target")"; done
}

the_tool() {
  printf 'usr/bin/binfmt\n'
  printf 'usr/share/doc/binfmt/LICENSE\n'
  printf 'usr/share/doc/binfmt/linked/%s\n' crates gcc "$libc" rust
}

emulator() { # emulator TARGET: its name in the image
  case $variant:$1 in
    :*) echo "qemu-$1" ;;
    *:mips64el) echo buildkit-qemu-mips64le ;;
    *:loongarch64) echo buildkit-qemu-loong64 ;;
    *) echo "buildkit-qemu-$1" ;;
  esac
}

how_it_was_built() { # the rest of the emulators' source
  printf 'usr/share/doc/qemu-user/tuned/%s\n' build.sh host.sh options.sh SHA256SUMS
  (cd qemu/tuned && printf 'usr/share/doc/qemu-user/tuned/%s\n' patches/*)
}

libraries() { # those linked into the emulators, by the source packages that the image says they are from
  sed -n 's/^ *apt-get source \([^=]*\)=.*/\1/p' "$image/usr/share/doc/qemu-user/SOURCE" | grep -vx qemu
}

common_licences() { # the full texts that the licences in the image refer to
  grep -rohE 'usr/share/common-licenses/[A-Za-z0-9.-]*[A-Za-z0-9]' "$image/usr/share/doc" | sort -u
}

label() { # label NAME
  docker image inspect --format "{{index .Config.Labels \"$1\"}}" "$tag"
}

check() {
  local difference
  difference=$(diff <(expected_files | sort) <(files | sort)) ||
    fail "the files of $tag are not those that belong there: ${difference//$'\n'/ }" 'see the Dockerfile'
  [[ $(label org.qemu.version) == "$qemu" && $(label org.opencontainers.image.version) == "$version" ]] ||
    fail "the labels of $tag are not those of this build" 'see the Dockerfile'
}

certificates=/etc/ssl/certs/ca-certificates.crt
# What `docker create` puts into every container.
of_the_engine='^(\.dockerenv|dev/console|etc/(hostname|hosts|mtab|resolv\.conf))$'

engine=$(engine_platform)
platform=${PLATFORM:-$engine}
tag=${IMAGE:-binfmt}
[[ -n ${IMAGE:-} || $platform == "$engine" ]] || tag=binfmt:${platform#linux/}
variant=${VARIANT:-}
[[ $variant == @(|buildkit) ]] || fail "there is no variant $variant" 'leave VARIANT out, or say VARIANT=buildkit'
[[ -n ${IMAGE:-} || -z $variant ]] || tag=binfmt:$variant

host "${platform#linux/}" || fail "no image is built for $platform" "PLATFORM may be linux/ and one of $hosts"
# Releases are those of the package, so QEMU_RELEASE alone selects it.
QEMU_FROM=${QEMU_FROM:-${QEMU_RELEASE:+package}}
QEMU_FROM=${QEMU_FROM:-$(default QEMU_FROM)}
[[ -z $variant || $QEMU_FROM == source ]] ||
  fail "Debian's emulators start no program without a handler, so VARIANT=$variant needs ours" \
    'build it without QEMU_FROM and QEMU_RELEASE'

base=$(qemu/image/base.sh "${DEBIAN:-$(default DEBIAN)}")
if (($# == 2)); then
  # What is there stays in use until there is something in its place. Folders that Docker makes would be for nobody but
  # their owner, and the kernel starts emulators as whoever runs a program.
  rm -rf "$2.part"
  mkdir -p "$2.part"
  export_stage "$1" "$2.part"
  chmod 755 "$2.part"
  rm -rf "$2"
  mv "$2.part" "$2"
  exit
fi

image=$(mktemp -d)
trap 'rm -r "$image"' EXIT
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
build --build-arg "GIT_REVISION=$(revision)" --build-arg "VERSION=$version" --tag "$tag" ${variant:+--target "$variant"}
unpack
qemu=$(qemu_version)
label_with_version "$qemu"
check
size=$(docker image inspect --format '{{.Size}}' "$tag")
printf '%s: binfmt %s, QEMU %s, %s, %s MB\n' "$tag" "$version" "$qemu" "$platform" "$((size / 1000000))"

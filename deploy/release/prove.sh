#!/usr/bin/env bash
# Checks the files that build.sh has made for one host, and runs the programs in them: prove.sh PLATFORM [FOLDER]
#
# If this machine is such a host, they run here, in a private table (Linux 6.7), so that the machine's own stays as it is. If not,
# they run in a virtual machine with a kernel of that host.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

source deploy/release/artefacts.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() { # fail WHAT REMEDY
  printf 'prove.sh: %s; %s\n' "$1" "$2" >&2
  exit 1
}

is() { # is WHAT FOUND EXPECTED
  [[ $2 == "$3" ]] || fail "$1 is '$2', not '$3'" "make it anew: deploy/release/build.sh $platform"
}

machine() { # machine FILE: for which it was built, by the bytes of e_machine in its ELF header
  case $(od -An -tx1 -j18 -N2 "$1" | tr -d ' ') in
    3e00) echo amd64 ;;
    b700) echo arm64 ;;
    f300) echo riscv64 ;;
    1500) echo ppc64le ;;
    0016) echo s390x ;;
    *) echo unknown ;;
  esac
}

image_files() { # image_files FOLDER: what is in the image's archive, layer by layer
  local layer
  mkdir "$1"
  for layer in $(sed -n 's/.*"Layers":\[\([^]]*\)\].*/\1/p' "$work/manifest.json" | tr ',"' '  '); do
    tar -xOf "$out/$image.tar" "$layer" | tar -x -C "$1" --no-same-owner
  done
}

is "the machine of $single" "$(machine "$out/$single")" "$arch"
is "the architecture of $deb" "$(dpkg-deb --field "$out/$deb" Architecture)" "$debian"
is "the version of $deb" "$(dpkg-deb --field "$out/$deb" Version)" "$version"
tar -xzf "$out/$name-linux-$arch.tar.gz" -C "$work"
is 'the machine of the archived program' "$(machine "$work/$name-linux-$arch/binfmt")" "$arch"
tar -xOf "$out/$image.tar" manifest.json >"$work/manifest.json"
configuration=$(sed -n 's/.*"Config":"\([^"]*\)".*/\1/p' "$work/manifest.json")
tar -xOf "$out/$image.tar" "$configuration" >"$work/configuration.json"
grep -q "\"architecture\":\"$arch\"" "$work/configuration.json" || fail "the image is not for $arch" 'make it anew'
grep -q "\"org.opencontainers.image.version\":\"$version\"" "$work/configuration.json" ||
  fail "the image is not of version $version" 'make it anew'

chmod 755 "$out/$single" # what passes through GitHub's store of artefacts loses it
if [[ $(machine /proc/self/exe) != "$arch" ]]; then
  image_files "$work/image"
  tests/machines/host.sh "$platform" "$work/image" "$out/$single"
  echo "prove.sh: $platform: the files are as they should be, and what they have inside runs in a machine of that kind"
  exit
fi
is 'what the archived program says' "$("$work/$name-linux-$arch/binfmt" --version 2>&1 | head -n 1 | cut -d ' ' -f 1)" "binfmt/$version"
# shellcheck disable=SC2016  # the inner shell's
unshare --user --map-root-user --mount sh -euc '
  mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
  "$1" --install all
  "$1" --status' sh "$PWD/$out/$single" >"$work/said" 2>&1 ||
  fail "the single file does not install all: $(tail -n 1 "$work/said")" 'run it by hand'
grep '^linux/' "$work/said"
if docker version >/dev/null 2>&1; then
  loaded=$(docker load --input "$out/$image.tar" | sed -n 's/^Loaded image: //p')
  trap 'rm -rf "$work"; docker rmi "$loaded" >/dev/null' EXIT
  is 'what the image says' "$(docker run --rm "$loaded" --version 2>&1 | cut -d ' ' -f 1)" "binfmt/$version"
fi
echo "prove.sh: $platform: the files are as they should be, and what they have inside runs"

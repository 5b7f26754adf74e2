#!/usr/bin/env bash
# Makes sure that the machine has what the Makefile's targets call.
#
#   need.sh COMMAND...    cargo, cargo-fmt, cargo-clippy, shellcheck, unshare, newuidmap, c++, bindfs, qemu-system-x86_64 (aarch64, ppc64, riscv64, s390x), xz, zstd, objcopy, strace, venv (Python's)
#
# As root on Debian, what is missing is installed with apt; otherwise it is named, and the exit status is 1.
# For cargo, Rust must be as new as Cargo.toml's rust-version, and a linker and the certificates that downloading
# crates takes must be there.
set -euo pipefail
cd "$(dirname "$0")/.."

minimum=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

new_enough() { # new_enough VERSION
  [[ $(printf '%s\n' "$minimum" "$1" | sort --version-sort | head -n 1) == "$minimum" ]]
}

has() { # has COMMAND
  case $1 in
    cargo) command -v cargo && new_enough "$(rustc --version | cut -d ' ' -f 2)" ;;
    venv) python3 -c 'import ensurepip, venv' ;;
    certificates) [[ -s /etc/ssl/certs/ca-certificates.crt ]] ;;
    *) command -v "$1" ;;
  esac >/dev/null 2>&1
}

rust_flavour() { # bookworm's own Rust is too old for us; it has a newer one, for browsers, called rustc-web
  local flavour candidate
  for flavour in '' -web; do
    candidate=$(apt-cache policy "rustc$flavour" 2>/dev/null | sed -n 's/^  Candidate: //p')
    new_enough "${candidate/(none)/0}" && echo "$flavour" && return
  done
  echo "need.sh: no Rust $minimum or newer among this machine's packages; install it from https://rustup.rs" >&2
  exit 1
}

own_package() { # own_package NAME: that package where there is one; in older releases, one package has several machines
  if apt-cache show "$1" >/dev/null 2>&1; then echo "$1"; else echo qemu-system-misc; fi
}

package_of() { # package_of COMMAND: the Debian packages that bring it
  local flavour=''
  case $1 in cargo*) flavour=$(rust_flavour) ;; esac
  case $1 in
    cargo) echo "cargo$flavour rustc$flavour" ;;
    cargo-fmt) echo "rustfmt$flavour" ;;
    cargo-clippy) echo "rust$flavour-clippy" ;;
    cc) echo gcc libc6-dev ;;
    c++) echo g++ ;;
    certificates) echo ca-certificates ;;
    newuidmap) echo uidmap ;;
    objcopy) echo binutils ;;
    llvm-cov-*) echo "llvm-${1##*-}" ;;
    qemu-system-x86_64) echo qemu-system-x86 ;;
    qemu-system-aarch64) echo qemu-system-arm ;;
    qemu-system-ppc64) echo qemu-system-ppc ;;
    qemu-system-riscv64) echo "$(own_package qemu-system-riscv) opensbi" ;;
    qemu-system-s390x) own_package qemu-system-s390x ;;
    unshare) echo util-linux ;;
    venv) echo python3 python3-venv ;;
    xz) echo xz-utils ;;
    *) echo "$1" ;;
  esac
}

missing() { # missing COMMAND...: those that are not there
  local command
  for command in "$@"; do has "$command" || echo "$command"; done
}

install_packages() { # install_packages COMMAND...
  local command packages=()
  echo "need.sh: installing what is missing: $*" >&2
  apt-get -qq update
  for command in "$@"; do
    # shellcheck disable=SC2207  # package names hold no blanks
    packages+=($(package_of "$command"))
  done
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${packages[@]}" >/dev/null
}

wanted=("$@")
[[ " $* " == *' cargo '* ]] && wanted+=(cc certificates)
mapfile -t lacking < <(missing "${wanted[@]}")
((${#lacking[@]})) || exit 0

# Parts of a toolchain that rustup manages come from rustup, or they would not fit the compiler.
if [[ " ${lacking[*]} " == *' cargo-'* ]] && command -v rustup >/dev/null; then
  echo "need.sh: ${lacking[*]} missing; run: rustup component add rustfmt clippy" >&2
  exit 1
fi
if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
  echo "need.sh: missing: ${lacking[*]} (Rust $minimum or newer); install them, or run this once as root on Debian" >&2
  exit 1
fi
install_packages "${lacking[@]}"
mapfile -t lacking < <(missing "${wanted[@]}")
((${#lacking[@]} == 0)) || { echo "need.sh: still missing: ${lacking[*]}; install them by hand" >&2; exit 1; }

#!/usr/bin/env bash
# Brings files of a Debian package into a folder: the static QEMU emulators, unless told otherwise.
#
# It owns where emulators come from. apt does the work, with directories of its own (apt.sh): the machine's sources and
# package database stay as they are, another release or architecture than the host's works, and every download is
# checked against Debian's signature.
#
# The folder ends up with the files, the package's `copyright`, and SHA256SUMS: what `sha256sum --check` reads,
# with the package, its version and its sources in comments. The folder is made beside its final place and renamed, and
# SHA256SUMS is the last file written: what has it is complete.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/apt.sh"

usage() {
  cat <<'END'
usage: qemu/fetch.sh [OPTION]... [FOLDER]

Brings Debian's static QEMU emulators into FOLDER (build/emulators). A folder that is complete and undamaged is
left alone, without asking the network; to get a newer version, remove the folder first.

  --release NAME    Debian release (trixie); trixie-backports has a newer QEMU
  --arch NAME       architecture of the package, in Debian's words (this machine's)
  --targets LIST    only these emulators, by QEMU's names: aarch64,arm,riscv64 (all)
  --package NAME    another package (qemu-user)
  --keep GLOB       which of its files, by path: usr/bin/qemu-*; may be repeated
  --mirror URL      Debian mirror (the one in this machine's apt configuration)
END
}

wrong_usage() {
  printf 'fetch.sh: %s; see qemu/fetch.sh --help\n' "$1" >&2
  exit 2
}

parse() { # parse ARGUMENT...: sets the variables below
  local target targets='' suffix=''
  folder='' release=trixie arch='' package=qemu-user mirror='' keep=()
  while (($#)); do
    case $1 in
      --help | -h) usage; exit ;;
      --release | --arch | --targets | --package | --keep | --mirror)
        [[ -n ${2:-} ]] || wrong_usage "$1 needs a value"
        option "$1" "$2"
        shift ;;
      -*) wrong_usage "unknown option $1" ;;
      *) [[ -z $folder ]] || wrong_usage "one folder at a time, not also $1"; folder=$1 ;;
    esac
    shift
  done
  folder=${folder:-build/emulators}
  folder=${folder%/}
  [[ $package == *-static ]] && suffix=-static
  for target in ${targets//,/ }; do keep+=("usr/bin/qemu-$target$suffix"); done
  ((${#keep[@]})) || keep=('usr/bin/qemu-*')
}

option() { # option NAME VALUE
  case $1 in
    --release) release=$2 ;;
    --arch) arch=$2 ;;
    --package) package=$2 ;;
    --keep) keep+=("${2#/}") ;;
    --mirror) mirror=${2%/} ;;
    --targets) targets+=,$2 ;;
  esac
}

request() { # what SHA256SUMS says about the call that made it, apart from the version
  printf '# package: %s\n# architecture: %s\n# release: %s\n' "$package" "$arch" "$release"
  printf '# files: %s\n' "${keep[@]}"
  echo '# complete'
}

in_place() { # does the folder hold what this call asks for, undamaged?
  [[ -f $folder/SHA256SUMS ]] || return 1
  [[ $(grep '^# ' "$folder/SHA256SUMS" | grep -vE '^# (version|source): ') == "$(request)" ]] || return 1
  # Half a gigabyte: a few files for each core.
  (cd "$folder" && grep -v '^# ' SHA256SUMS | xargs -d '\n' -n 4 -P "$(nproc)" \
    sh -c 'printf "%s\n" "$@" | sha256sum --check --quiet --strict' sh) >/dev/null 2>&1
}

beside() { # beside SUFFIX: a hidden path next to the folder, so on the same file system
  printf '%s/.%s.%s' "$(dirname "$folder")" "$(basename "$folder")" "$1"
}

lock() { # one fetch at a time for each folder; released when this process ends
  if ! { mkdir -p "$(dirname "$folder")" && exec 9>"$(beside lock)"; } 2>/dev/null; then
    fail "cannot write beside $folder" 'name a folder that you may write to'
  fi
  flock 9
}

download() { # leaves the package in $work/deb
  apt_index "$release"
  mkdir "$work/deb"
  # As root, apt downloads as the user _apt where that one can write, and says so at length where it cannot.
  if ((EUID == 0)); then chown _apt "$work/deb" 2>/dev/null || true; fi
  (cd "$work/deb" && apt_of_our_own download "$package") ||
    fail "cannot download $package for $arch from $release: $(apt_complaint)" 'check --package and --arch'
}

unpack() { # fills $stage from the package: what was asked for, flat, regular files, under QEMU's own names
  local deb=("$work"/deb/*.deb) pattern patterns=(./usr/share/doc/"$package"/copyright)
  for pattern in "${keep[@]}"; do patterns+=("./$pattern"); done
  rm -rf "$stage"
  mkdir -p "$stage"
  dpkg-deb --fsys-tarfile "${deb[0]}" |
    tar -x -C "$stage" --no-same-owner --wildcards --transform='s|.*/||;s|-static$||' "${patterns[@]}" 2>>"$work/log" ||
    fail "cannot unpack $package: $(tail -n 2 "$work/log" | head -n 1)" 'check --keep, --targets and the free space'
  # Second names for the same emulator (qemu-arm64), which nothing here uses.
  find "$stage" -type l -delete
  version=$(dpkg-deb --field "${deb[0]}" Version)
  sources=$(sources "${deb[0]}")
}

sources() { # sources FILE: the source packages of what is in it, as NAME=VERSION; statically linked libraries' too
  # shellcheck disable=SC2016  # dpkg's variables
  dpkg-deb --show --showformat='# source: ${source:Package}=${source:Version}\n' "$1"
  dpkg-deb --field "$1" Built-Using Static-Built-Using | sed 's/^[A-Za-z-]*: //' | tr ',' '\n' |
    sed -nE 's/^ *([^ ]+) \(= ([^)]+)\).*/# source: \1=\2/p' | sort -u
}

seal() { # writes SHA256SUMS, last
  local sums
  sums=$(cd "$stage" && sha256sum -- *)
  printf '# version: %s\n%s\n%s\n%s\n' "$version" "$(request | sed '$d')" "$sources" "$sums" >"$stage/SHA256SUMS"
  echo '# complete' >>"$stage/SHA256SUMS"
}

refuse_strangers() { # nothing may be lost but what an earlier call brought
  local name
  while IFS= read -r name; do
    [[ $name == SHA256SUMS || -f $stage/$name ]] && continue
    grep -qsxE "[0-9a-f]{64}  ${name//./\\.}" "$folder/SHA256SUMS" && continue
    fail "$folder holds $name, which is not from $package" 'name another folder, or empty this one'
  done < <(find "$folder" -mindepth 1 -maxdepth 1 -printf '%P\n' 2>/dev/null)
}

main() {
  parse "$@"
  apt_is_there 'on another system, put static QEMU emulators into a folder of your own'
  [[ -n $arch ]] || arch=$(dpkg --print-architecture)
  in_place || lock
  if in_place; then
    echo "$folder: $package $(sed -n 's/^# version: //p' "$folder/SHA256SUMS") ($arch, $release) is in place"
    return
  fi
  echo "$folder: fetching $package ($arch, $release)"
  work=$(mktemp -d)
  stage=$(beside part)
  trap 'rm -rf "$work" "$stage"' EXIT
  download
  unpack
  seal
  refuse_strangers
  # whoever uses the old folder at this moment keeps its open files
  if [[ -e $folder ]]; then mv -T "$folder" "$work/old"; fi
  mv -T "$stage" "$folder"
  echo "$folder: $package $version ($arch, $release), $(grep -vc '^# ' "$folder/SHA256SUMS") files"
}

main "$@"

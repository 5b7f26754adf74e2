#!/usr/bin/env bash
# Makes an unpacked Debian of an architecture, whose programs the conformance tests run:
#
#   rootfs.sh [--release NAME] [--mirror URL] [--with FILE] ARCH FOLDER
#
#   FILE    a list of packages, a line each, that it has besides; what follows # is a comment
#   NAME    a Debian release. Without one it is trixie, or bookworm where trixie is not to be had: at times its index
#           is ahead of the packages of the rarer architectures, and mips64el it does not have
#   ARCH    in Debian's words: arm64, s390x
#   FOLDER  the root directory that comes out; one that is complete and made by this script is left alone
#
# It owns what is in it: a shell, perl, python, gcc, apt, sudo and what they depend on, without documentation. Nothing
# of that architecture is run, so no handler is needed: packages are downloaded (apt.sh) and unpacked, and what their
# maintainer scripts would have done is done here (`finish`), as far as those programs depend on it.
#
# The folder is made beside its final place and renamed. Its file .rootfs is written last: what has it is complete. Made
# by root, files belong to whom they should; made by others, all is theirs.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/apt.sh"

packages=(
  apt base-files base-passwd bash busybox coreutils dash debianutils diffutils dpkg findutils gcc grep gzip hostname
  libc-bin libc6-dev libpam-modules login.defs make mawk perl procps python3-minimal sed sudo tar util-linux
)
# Nothing that is run reads these: translations, documentation, and libraries for compiler options that are not used.
needless=(
  './usr/share/doc/*' './usr/share/locale/*' './usr/share/man/*' './usr/share/info/*' './usr/lib/*/gconv/*'
  './usr/lib/gcc/*/lto1' './usr/lib/gcc/*/lib*san*' './usr/lib/*/lib?san.so*' './usr/lib/*/libhwasan.so*'
  './usr/lib/*/libubsan.so*'
)

wrong_usage() {
  printf 'rootfs.sh: %s; usage: qemu/rootfs.sh [--release NAME] [--mirror URL] [--with FILE] ARCH FOLDER\n' "$1" >&2
  exit 2
}

parse() { # parse ARGUMENT...: sets the variables below
  local words=()
  release='' mirror='' more=()
  while (($#)); do
    case $1 in
      --release | --mirror | --with)
        [[ -n ${2:-} ]] || wrong_usage "$1 needs a value"
        case $1 in
          --release) release=$2 ;;
          --mirror) mirror=${2%/} ;;
          --with) [[ -r $2 ]] || fail "$2 cannot be read" 'name a list of packages'
            mapfile -t more < <(sed 's/ *#.*//;/^$/d' "$2") ;;
        esac
        shift ;;
      -*) wrong_usage "unknown option $1" ;;
      *) words+=("$1") ;;
    esac
    shift
  done
  ((${#words[@]} == 2)) || wrong_usage 'an architecture and a folder, please'
  arch=${words[0]} folder=${words[1]%/}
}

request() { # what .rootfs says about the call that made it: another script makes another folder
  printf '# %s, %s, rootfs.sh %s%s\n' "$arch" "$release" "$(sha256sum <"$0" | cut -c 1-16)" "${more[*]/#/ }"
}

is_in_place() {
  [[ -f $folder/.rootfs && $(head -n 1 "$folder/.rootfs") == "$(request)" ]]
}

beside() { # beside SUFFIX: a hidden path next to the folder, so on the same file system
  printf '%s/.%s.%s' "$(dirname "$folder")" "$(basename "$folder")" "$1"
}

download() { # leaves the packages in $work/cache/archives
  apt_index "$release"
  # login.defs became a package of its own after bookworm, where passwd has it
  [[ $release != bookworm ]] || packages=("${packages[@]/#login.defs/passwd}")
  apt_of_our_own install --download-only --yes --no-install-recommends "${packages[@]}" "${more[@]}" ||
    fail "cannot download the packages for $arch from $release: $(apt_complaint)" 'check --release and ARCH'
}

unpack_all() { # and dpkg's records of what is unpacked, which dpkg and apt read
  local deb name dpkg=$stage/var/lib/dpkg
  mkdir -p "$dpkg"/{info,updates,triggers,alternatives}
  echo 1 >"$dpkg/info/format"
  touch "$dpkg/available"
  join_usr
  for deb in "$work"/cache/archives/*.deb; do
    # shellcheck disable=SC2016  # dpkg's variables
    name=$(dpkg-deb --showformat='${Package}\n${Multi-Arch}' --show "$deb")
    [[ $name == *$'\n'same ]] && name=${name%$'\n'*}:$arch || name=${name%$'\n'*}
    dpkg-deb --fsys-tarfile "$deb" |
      tar -xv -C "$stage" --keep-directory-symlink --numeric-owner --preserve-permissions "${excluded[@]}" |
      sed 's|^\.||; s|/$||; s|^$|/.|' >"$dpkg/info/$name.list" ||
      fail "cannot unpack $(basename "$deb")" 'look at the free space'
    dpkg-deb --field "$deb" | sed '/^Package:/a Status: install ok installed'
    echo
  done >"$dpkg/status"
}

join_usr() { # bookworm's packages still have files in /bin and /lib, and it is debootstrap that joins those with /usr
  local name
  [[ $release == bookworm ]] || return 0
  for name in bin sbin lib lib64; do
    mkdir -p "$stage/usr/$name"
    ln -s "usr/$name" "$stage/$name"
  done
}

finish() { # what maintainer scripts and an installer do
  cp "$stage"/usr/share/base-passwd/passwd.master "$stage/etc/passwd"
  cp "$stage"/usr/share/base-passwd/group.master "$stage/etc/group"
  echo '_apt:x:42:65534::/nonexistent:/usr/sbin/nologin' >>"$stage/etc/passwd"
  echo 'user:x:1000:1000:A user:/home/user:/bin/bash' >>"$stage/etc/passwd"
  echo 'user:x:1000:' >>"$stage/etc/group"
  sed 's/^\([^:]*\):.*/\1:*:19000:0:99999:7:::/' "$stage/etc/passwd" >"$stage/etc/shadow"
  chmod 640 "$stage/etc/shadow"
  mkdir -p "$stage"/{home/user,root,proc,sys,dev,tmp,run,etc/sudoers.d,etc/pam.d}
  ((EUID != 0)) || chown 1000:1000 "$stage/home/user"
  chmod 1777 "$stage/tmp"
  printf 'passwd: files\ngroup: files\nshadow: files\nhosts: files\n' >"$stage/etc/nsswitch.conf"
  printf '127.0.0.1 localhost\n127.0.1.1 conformance\n' >"$stage/etc/hosts"
  echo conformance >"$stage/etc/hostname"
  echo 'user ALL=(ALL) NOPASSWD: ALL' >"$stage/etc/sudoers.d/user"
  chmod 440 "$stage/etc/sudoers.d/user"
  for stack in account auth password session session-noninteractive; do
    echo "${stack%-*} required pam_unix.so" >"$stage/etc/pam.d/common-$stack"
  done
  : >"$stage/etc/environment"
  ln -sf mawk "$stage/usr/bin/awk"
}

of_any_release() { # of_any_release ARGUMENT...: as main, which it calls with a release
  for release in trixie bookworm; do
    ! is_in_place || { echo "$folder: $arch ($release) is in place" && return; }
  done
  "$0" --release trixie "$@" || "$0" --release bookworm "$@"
}

main() {
  parse "$@"
  if [[ -z $release ]]; then
    of_any_release "$@"
    return
  fi
  apt_is_there 'the conformance tests need one'
  excluded=("${needless[@]/#/--exclude=}")
  if ! { mkdir -p "$(dirname "$folder")" && exec 9>"$(beside lock)"; } 2>/dev/null; then
    fail "cannot write beside $folder" 'name a folder that you may write to'
  fi
  flock 9
  if is_in_place; then
    echo "$folder: $arch ($release) is in place"
    return
  fi
  if [[ -e $folder && ! -f $folder/.rootfs ]]; then
    fail "$folder is none that this script has made" 'name another folder, or remove this one'
  fi
  echo "$folder: making $arch ($release)"
  work=$(mktemp -d)
  stage=$(beside part)
  trap 'rm -rf "$work" "$stage" "$(beside old)"' EXIT
  rm -rf "$stage" "$(beside old)"
  mkdir -p "$stage"
  chmod 755 "$stage"
  download
  unpack_all
  finish
  { request; (cd "$work/cache/archives" && sha256sum -- *.deb); } >"$stage/.rootfs"
  if [[ -e $folder ]]; then mv -T "$folder" "$(beside old)"; fi
  mv -T "$stage" "$folder"
  echo "$folder: $arch ($release), $(du -sm "$folder" | cut -f 1) MB"
}

main "$@"

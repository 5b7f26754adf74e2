# shellcheck shell=bash
# apt with directories of its own: sourced by the scripts that bring something from Debian's packages.
#
# It owns how they ask apt. Lists, cache, sources and package database are below $work, so the machine's stay as they
# are, another release or architecture than the host's works, and every download is checked against Debian's signature
# (apt-secure(8)). The mirror is the one that the machine's apt already uses.
#
# From its caller it takes $work, a folder that ends with the script, $arch, and $mirror, which may be empty.
: "${work:=}" "${arch:=}" "${mirror:=}"

fail() { # fail WHAT REMEDY
  printf '%s: %s; %s\n' "${0##*/}" "$1" "$2" >&2
  exit 1
}

apt_is_there() {
  if ! { command -v apt-get && command -v dpkg-deb; } >/dev/null; then
    fail 'there is no apt on this machine' "$1"
  fi
}

debian_keyring() { # the package has renamed it from .gpg to .pgp
  local file
  for file in /usr/share/keyrings/debian-archive-keyring.{pgp,gpg}; do
    [[ -e $file ]] && echo "$file" && return
  done
  fail 'no Debian signing keys in /usr/share/keyrings' 'install the package debian-archive-keyring'
}

machine_mirror() { # apt itself reads its configuration, in whichever format it is
  local found
  found=$(apt-get update --print-uris -o "Dir::State::lists=$work/lists" 2>/dev/null |
    sed -nE "s#^'(.*/debian(\.list|/[^']*)?)/dists/[^/]*/InRelease'.*#\1#p") || true
  [[ -n $found ]] || fail "this machine's apt configuration names no Debian mirror" 'give one with --mirror URL'
  echo "${found%%$'\n'*}"
}

apt_of_our_own() { # apt_of_our_own COMMAND...: apt-get, with nothing of the machine's but its proxy and the like
  apt-get -q -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=- \
    -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=- -o "Dir::State=$work" \
    -o "Dir::State::lists=$work/lists" -o "Dir::State::status=$work/status" -o "Dir::Cache=$work/cache" \
    -o "APT::Architecture=$arch" -o "APT::Architectures=$arch" -o Acquire::Retries=3 "$@" >>"$work/log" 2>&1
}

apt_complaint() { # the first error, on one line: the later ones only follow from it
  sed -nE '/^(E|W: GPG error): /{s/^[^:]*: //;s/\.$//;p;q}' "$work/log"
}

apt_index() { # apt_index RELEASE: reads the release's package index, with no package installed
  local keyring
  keyring=$(debian_keyring)
  mkdir -p "$work"/{lists/partial,cache/archives/partial}
  chmod 755 "$work"
  : >"$work/status"
  [[ -n $mirror ]] || mirror=$(machine_mirror)
  # Packages is the one index that is needed: no translations, no desktop metadata.
  echo "deb [signed-by=$keyring target=Packages] $mirror $1 main" >"$work/sources.list"
  apt_of_our_own update --error-on=any ||
    fail "cannot read the package index of $1: $(apt_complaint)" \
      'check --release and --mirror, the network, and that debian-archive-keyring is up to date'
}

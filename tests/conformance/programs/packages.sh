#!/bin/sh
# dpkg and apt: what they know, a package made here, installed from a repository on the loopback, and removed.
# shellcheck disable=SC2016  # variables of the scripts that are made
set -eu
umask 022
work=$(mktemp -d)
chmod 755 "$work"
cd "$work"
apt-get --version
apt-config dump | sha256sum
dpkg --print-architecture
dpkg --list | awk '{ print $1, $2, $3 }' | sha256sum
dpkg --search /usr/bin/perl
dpkg --status bash | head -n 8
dpkg-query --show --showformat='${Package} ${Version}\n' 'libc6*'
dpkg --compare-versions 1.0~rc1 lt 1.0-1 && echo less
apt-cache policy sudo

mkdir -p conformance/DEBIAN conformance/usr/share/conformance repository
cat >conformance/DEBIAN/control <<'END'
Package: conformance
Version: 1.2-3
Architecture: all
Maintainer: nobody <nobody@example.org>
Depends: bash
Description: a package
 that is made to be installed
END
printf '#!/bin/sh\necho "postinst $1"\n' >conformance/DEBIAN/postinst
printf '#!/bin/sh\necho "prerm $1"\n' >conformance/DEBIAN/prerm
chmod 755 conformance/DEBIAN/p*
seq 20000 >conformance/usr/share/conformance/numbers
touch -d @1000000000 conformance/usr/share/conformance/numbers
SOURCE_DATE_EPOCH=1000000000 dpkg-deb --root-owner-group --build conformance repository/conformance.deb
dpkg-deb --info repository/conformance.deb | grep -v bytes
dpkg-deb --contents repository/conformance.deb
dpkg --install repository/conformance.deb
dpkg --listfiles conformance
dpkg --verify conformance && echo verified
dpkg --remove conformance
test ! -e /usr/share/conformance && echo removed

cd repository
{
  dpkg-deb --field conformance.deb
  printf 'Filename: ./conformance.deb\nSize: %s\nSHA256: %s\n' "$(stat -c %s conformance.deb)" "$(sha256sum conformance.deb | cut -d ' ' -f 1)"
} >Packages
perl /conformance/programs/serve.pl 8765 "$work/repository" &
server=$!
while ! bash -c ': </dev/tcp/127.0.0.1/8765' 2>/dev/null; do sleep 0.1; done
echo 'deb [trusted=yes] http://127.0.0.1:8765/ ./' >/etc/apt/sources.list
rm -f /etc/apt/sources.list.d/*
# rates and times of transfer, and progress, differ
apt-get -qq update
apt-cache show conformance | grep -v ^Size
apt-get -qq -o Dpkg::Use-Pty=0 install --yes --no-install-recommends conformance
dpkg-query --show conformance
apt-get -qq -o Dpkg::Use-Pty=0 purge --yes conformance
apt-mark showauto | wc -l
kill $server

#!/bin/sh
# sudo, su and setpriv: privilege that comes from a file's setuid bit, and what a user may not.
# shellcheck disable=SC2012,SC2016  # variables of the shells that are started
set -u
cd /tmp || exit
as_user() { setpriv --reuid=1000 --regid=1000 --init-groups --reset-env -- "$@"; }
ls -l /usr/bin/sudo | cut -d ' ' -f 1
as_user id
as_user sudo -n id
as_user sudo -n -u _apt -- sh -c 'id -un; echo $HOME; echo $SUDO_USER'
as_user sudo -n sh -c 'cat /proc/self/status' | grep -E '^(Uid|Gid|Groups|NoNewPrivs)'
as_user sudo -n -l | tail -n 1
as_user sudo -n perl -e 'print "$< $>\n"'
as_user cat /etc/shadow
echo "status $?"
as_user sudo -n sh -c 'exit 3'
echo "status $?"
setpriv --no-new-privs --reuid=1000 --regid=1000 --clear-groups -- sudo -n id 2>&1 | head -n 1
cp /usr/bin/id setuid-id
chown 1000:1000 setuid-id
chmod 6755 setuid-id
./setuid-id
as_user ./setuid-id
su user -c 'id -u; echo $HOME'
cp /usr/bin/id hidden
chmod 4711 hidden
as_user ./hidden -u
as_user sh -c 'kill -0 1'
echo "status $?"
as_user sudo -n getent passwd 0 1000 | cut -d : -f 1
exit 0

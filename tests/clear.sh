#!/usr/bin/env bash
# Empties the machine's own table of handlers, as the tests that use it must find it: what .ci/run calls first.
#
# A run that was killed leaves its entries, its mount and its anchor, and the next one would refuse to start. Whose they are
# cannot be told, so everything goes; it is for machines that do nothing but continuous integration. Each thing that is
# removed is named. Prints `held` where the kernel keeps the table all the same: .ci/run tells the tests, which then say that
# they did not run. Waits while the tests of another checkout have their turn (tests/harness/turn.rs).
set -euo pipefail
table=/proc/sys/fs/binfmt_misc

say() { echo "tests/clear.sh: $*" >&2; }

((EUID == 0)) || exit 0
exec 9</sys/kernel
flock --timeout 600 9 || { say 'other tests have used the table for ten minutes; end them'; exit 1; }

# systemd's automount would mount the table at the first look
for unit in proc-sys-fs-binfmt_misc.automount proc-sys-fs-binfmt_misc.mount; do
  if systemctl is-active --quiet "$unit" 2>/dev/null; then
    say "stopping $unit"
    systemctl stop "$unit"
  fi
done

entries_and_anchor() { # in a mount namespace that ends with it: where nothing is mounted, the table may be held all the same
  local entry uprobes=/sys/kernel/tracing/uprobe_events
  mountpoint -q "$table" || mount -t binfmt_misc none "$table" || return 0
  for entry in "$table"/*; do
    case $entry in */register | */status) continue ;; esac
    say "removing the entry ${entry##*/} ($(sed -n 's/^interpreter //p' "$entry"))"
    echo -1 >"$entry"
  done
  mountpoint -q /sys/kernel/tracing || mount -t tracefs none /sys/kernel/tracing || return 0
  if grep -q '^p:binfmt/anchor ' "$uprobes"; then
    say 'removing the anchor, the uprobe binfmt/anchor'
    echo '-:binfmt/anchor' >>"$uprobes"
  fi
}
export -f entries_and_anchor say
export table
unshare --mount bash -euo pipefail -c entries_and_anchor

while mountpoint -q "$table"; do
  say "unmounting $table"
  umount --lazy "$table"
done

# Each mount namespace is private, so the table ends between the two, unless something keeps it that is not seen here.
entry=binfmt-test-held
unshare --mount sh -c "mount -t binfmt_misc none $table && echo ':$entry:E::$entry::/bin/true:' >$table/register" || exit 0
sleep 5
if unshare --mount sh -c "mount -t binfmt_misc none $table && test -e $table/$entry && echo -1 >$table/$entry"; then
  say 'the kernel keeps the table although nothing mounts it; only a restart of the machine ends it; until then the tests of what the last mount keeps do not run'
  echo held
fi

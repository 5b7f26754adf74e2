//! How long handlers last: what holds a table's superblock, and how this process makes it last longer.
//!
//! The kernel does not report what holds a superblock. This program can see the host's mounts, where the host's
//! processes are visible, and the age of the superblock: if it is older than our own mount, something else holds it.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::anyhow;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use procfs::process::Process;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::mountinfo::{device, mount_point, mounts_of};
use super::{DEFAULT, MountError, MountPoint, SOURCE, existing};
use crate::kernel::anchor;
use crate::kernel::namespace;
use crate::kernel::process;
use crate::kernel::table::Table;

/// What holds the table's superblock, and with it the handlers, once this process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldBy {
    /// A mount in the host's own mount namespace.
    Host,
    /// Something older than this container, or than this call: on an ordinary host, the host.
    Other,
    /// The user namespace that the table belongs to: its handlers end with it.
    UserNamespace,
    /// This mount namespace alone: the handlers end with it.
    NobodyElse,
}

/// How long handlers must last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// As long as this call, which keeps the table open.
    OfThisCall,
    /// Until they are uninstalled or the host ends. An anchor is set where the host is not seen to hold the table.
    Anchored,
    /// The same, without setting an anchor.
    Unanchored,
}

/// Makes the handlers of the table at `at`, which is `held_by` that, last for `lifetime`. If they may end earlier,
/// returns why and what to do.
///
/// Unless the host is seen to have the table mounted, it is anchored: nothing shows whether another holder stays. The
/// age of the superblock is trusted only where the anchor is refused.
pub fn ensure_lifetime(at: &MountPoint, held_by: HeldBy, lifetime: Lifetime) -> Option<anyhow::Error> {
    if matches!(held_by, HeldBy::Host | HeldBy::UserNamespace) {
        return None;
    }
    let refused = match lifetime {
        Lifetime::OfThisCall => return None,
        Lifetime::Unanchored if anchor::is_set() => return None,
        Lifetime::Unanchored => anyhow!("--anchor never"),
        Lifetime::Anchored => anchor::set(&at.dir.join("register")).err()?,
    };
    (held_by != HeldBy::Other).then(|| {
        refused.context(format!(
            "these handlers may end with this container or mount namespace; on the host: mount -t binfmt_misc \
             binfmt_misc {DEFAULT}, then install again; or run the container with --pid=host, or, where the host has \
             it mounted, with -v {DEFAULT}:/binfmt_misc and --mount /binfmt_misc"
        ))
    })
}

/// Opens the table that is mounted at `at`, if one is. As long as it is open, the kernel keeps the superblock and its
/// handlers.
///
/// It is opened by a copy of its mount that has no place (`open_tree(2)`, Linux 5.2), so that no `umount` fails as
/// busy. Where the kernel or a filter refuses the copy, the mount itself is held.
pub fn for_holding(at: &MountPoint) -> Result<Option<Table>, MountError> {
    let copy = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let found = existing(&at.dir)?;
    Ok(found.map(|table| match open_tree(&table, "", copy) {
        Ok(detached) => Table::new(&at.dir, File::from(detached)),
        Err(_) => table,
    }))
}

/// Whether `table` is what is mounted at `at`. Looking triggers an automount.
pub fn is_at(table: &Table, at: &MountPoint) -> bool {
    let device = |table: &Table| table.metadata(".").map(|m| m.dev()).ok();
    let found = existing(&at.dir).ok().flatten();
    found.is_some_and(|found| device(&found).is_some() && device(&found) == device(table))
}

/// What holds the table that is mounted at `at`; `None` if none is mounted there.
pub fn holder(at: &MountPoint) -> Option<HeldBy> {
    existing(&at.dir).ok()?.as_ref().map(holder_of)
}

/// What holds a table that was mounted before this call.
pub(super) fn holder_of(table: &Table) -> HeldBy {
    if namespace::shares_host_mounts() {
        HeldBy::Host
    } else if namespace::in_user_namespace() {
        HeldBy::UserNamespace
    } else if namespace::sees_host_init() {
        if is_held_by_host(table) { HeldBy::Host } else { HeldBy::NobodyElse }
    } else if !may_mount() || container_start().is_some_and(|start| has_older_holder(table, start - ROUNDING)) {
        HeldBy::Other
    } else {
        HeldBy::NobodyElse
    }
}

/// Whether a process of this container can have mounted the table. If none can, whoever made the container has mounted
/// it, even if the superblock is young because that triggered an automount.
fn may_mount() -> bool {
    /// `include/uapi/linux/capability.h`
    const CAP_SYS_ADMIN: u32 = 21;
    process::mask("CapBnd:").is_none_or(|bounds| bounds & 1 << CAP_SYS_ADMIN != 0)
}

/// Seconds by which [`container_start`] may be wrong: it adds three clocks in whole seconds.
const ROUNDING: i64 = 2;

/// When this container's first process started, in wall-clock seconds.
fn container_start() -> Option<i64> {
    let ticks = process::start(Pid::from_raw(1))?;
    let after_boot = i64::try_from(ticks / procfs::ticks_per_second()).ok()?;
    let now = clock_gettime(ClockId::CLOCK_REALTIME).ok()?.tv_sec();
    let up = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?.tv_sec();
    Some(now - up + after_boot)
}

/// Whether PID 1's mounts include this superblock.
fn is_held_by_host(table: &Table) -> bool {
    let mounts = mounts_of(Process::new(1)).unwrap_or_default();
    table.metadata(".").is_ok_and(|metadata| mounts.iter().any(|mount| device(mount) == Some(metadata.dev())))
}

/// Whether the topmost mount at `dir` was made by this program.
pub(super) fn mounted_by_us(dir: &Path) -> bool {
    // of this thread, which may be in another mount namespace than the process; by its number in this /proc, which may be
    // that of another PID namespace
    let own = fs::read_link("/proc/thread-self").map(|name| Path::new("/proc").join(name));
    let mounts = mounts_of(Process::new_with_root(own.unwrap_or_default())).unwrap_or_default();
    let top = mounts.iter().rev().find(|m| mount_point(m) == dir);
    top.is_some_and(|m| m.fs_type == "binfmt_misc" && m.mount_source.as_deref() == Some(SOURCE))
}

/// Whether something holds the table since before `moment`, in wall-clock seconds, and may go on to do so. A `--hold` that began
/// before it, in whichever container, ends, and is perhaps all that does.
pub(super) fn has_older_holder(table: &Table, moment: i64) -> bool {
    predates(table, moment) && !table.is_held_since_before(moment)
}

/// Whether the table's superblock existed before `moment`, in wall-clock seconds.
///
/// Its inodes have the coarse time of their creation. Removing an entry changes the root's times, and opening
/// `register` for truncation changes that file's, so the oldest of the three counts.
fn predates(table: &Table, moment: i64) -> bool {
    let names = [".", "status", "register"];
    let mut found = names.iter().filter_map(|name| table.metadata(name).ok());
    found.any(|metadata| metadata.ctime() < moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table's files are made when it is mounted, and so are these.
    #[test]
    fn a_hold_is_no_holder_that_stays() {
        let dir = std::env::temp_dir().join(format!("binfmt-test-held-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("status"), "enabled\n").unwrap();
        let table = Table::new(&dir, File::open(&dir).unwrap());
        let made = table.metadata("status").unwrap().ctime();
        assert!(!has_older_holder(&table, made) && has_older_holder(&table, made + 100));
        let held = table.hold(made + 50).unwrap();
        // that it is older has another reason
        assert!(has_older_holder(&table, made + 50));
        assert!(!has_older_holder(&table, made + 51));
        let other = table.hold(made + 70).unwrap();
        drop(held);
        assert!(has_older_holder(&table, made + 70) && !has_older_holder(&table, made + 100));
        drop(other);
        assert!(has_older_holder(&table, made + 100));
        fs::remove_dir_all(dir).unwrap();
    }
}

//! Who keeps a table: whether anything but this process's own mounts holds its superblock.
//!
//! The kernel does not tell. What can be seen: the host's mounts, where its processes are visible; and the age of the
//! superblock, since one that is older than our own mount has been held by somebody else.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, gettid};
use procfs::process::{MountInfo, Process};

use super::SOURCE;
use crate::kernel::namespace;
use crate::kernel::process::{self, bounding_capabilities};
use crate::kernel::table::Table;

/// What holds the table's superblock, and with it the handlers, once this process is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldBy {
    /// A mount in the host's own mount namespace.
    Host,
    /// Something that was there before this container, or long before this call: on an ordinary host, the host.
    Other,
    /// The user namespace that it belongs to: the handlers are its own, and end with it.
    UserNamespace,
    /// This mount namespace alone: the handlers end with it.
    NobodyElse,
}

/// What holds a table that was mounted before this call.
pub(super) fn holder_of(table: &Table) -> HeldBy {
    if namespace::shares_host_mounts() {
        return HeldBy::Host;
    }
    if namespace::in_user_namespace() {
        return HeldBy::UserNamespace;
    }
    if namespace::sees_host_init() {
        return if host_holds(table) {
            HeldBy::Host
        } else {
            HeldBy::NobodyElse
        };
    }
    if !may_mount() {
        return HeldBy::Other;
    }
    match container_start() {
        Some(start) if predates(table, start - ROUNDING) => HeldBy::Other,
        _ => HeldBy::NobodyElse,
    }
}

/// Whether any process of this container may have mounted it. What it is given with its first process, whoever made the
/// container has mounted; young it may be all the same, where that made an automount happen.
fn may_mount() -> bool {
    /// `include/uapi/linux/capability.h`
    const CAP_SYS_ADMIN: u32 = 21;
    bounding_capabilities(Pid::this()).is_none_or(|bounds| bounds & 1 << CAP_SYS_ADMIN != 0)
}

/// Seconds by which a start may be off that is put together from three clocks in whole seconds.
const ROUNDING: i64 = 2;

/// Whether PID 1's mounts include this very superblock.
fn host_holds(table: &Table) -> bool {
    let Ok(device) = table.metadata(".").map(|m| m.dev()) else {
        return false;
    };
    let majmin = format!("{}:{}", major(device), minor(device));
    mounts_of(Process::new(1))
        .iter()
        .any(|m| m.majmin == majmin)
}

pub(super) fn mounted_by_us(dir: &Path) -> bool {
    // of this thread, which may be in another mount namespace than the process
    let mounts = mounts_of(Process::new(gettid().as_raw()));
    let named = escaped(dir);
    let top = mounts.iter().rev().find(|m| m.mount_point == named);
    top.is_some_and(|m| m.fs_type == "binfmt_misc" && m.mount_source.as_deref() == Some(SOURCE))
}

/// `dir` as `/proc/PID/mountinfo` has it (`mangle_path` in the kernel's `fs/seq_file.c`), and the crate hands it on.
fn escaped(dir: &Path) -> PathBuf {
    let mut named = Vec::new();
    for byte in dir.as_os_str().as_bytes() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => named.extend(format!("\\{byte:03o}").bytes()),
            byte => named.push(*byte),
        }
    }
    OsString::from_vec(named).into()
}

fn mounts_of(process: procfs::ProcResult<Process>) -> Vec<MountInfo> {
    process
        .and_then(|p| p.mountinfo())
        .map(|m| m.0)
        .unwrap_or_default()
}

/// When this container's first process started, in wall-clock seconds.
fn container_start() -> Option<i64> {
    let ticks = process::start(Pid::from_raw(1))?;
    let after_boot = i64::try_from(ticks / procfs::ticks_per_second()).ok()?;
    let now = clock_gettime(ClockId::CLOCK_REALTIME).ok()?.tv_sec();
    let up = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?.tv_sec();
    Some(now - up + after_boot)
}

/// Whether the table's superblock was there before `moment`, in wall-clock seconds.
///
/// Its inodes carry the coarse clock of their creation. Removing an entry touches the root's times and opening
/// `register` for truncation that file's, so the oldest of the three counts.
pub(super) fn predates(table: &Table, moment: i64) -> bool {
    [".", "status", "register"]
        .iter()
        .filter_map(|name| table.metadata(name).ok())
        .any(|m| m.ctime() < moment)
}

//! Finding, joining or mounting `binfmt_misc`.
//!
//! Owns the policy of `--mount` and of mount namespaces: where a table is mounted and where it never is. What keeps it
//! alive is in `mount/lifetime.rs`.
//!
//! Rests on `fs/binfmt_misc.c`: one superblock per user namespace (`bm_get_tree`), freed with its last mount.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use nix::dir::{Dir, Entry};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{FsType, PROC_SUPER_MAGIC, fstatfs};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::geteuid;

use crate::kernel::anchor;
use crate::kernel::file_system::within_limit;
use crate::kernel::namespace;
use crate::kernel::table::{Lock, Table};
use crate::kernel::wording::{cause, errno_of, quoted};

mod lifetime;
pub mod mountinfo;
mod own;

pub use lifetime::{HeldBy, Lifetime, ensure_lifetime, for_holding, holder, is_at};
use lifetime::{has_older_holder, holder_of, mounted_by_us};
pub use own::{detached, errno, own};

pub const DEFAULT: &str = "/proc/sys/fs/binfmt_misc";

/// The source of our mounts, by which a later call knows that it may unmount them.
const SOURCE: &str = "by-binfmt";
/// Seconds. An older superblock has another holder than a call of ours that is about to end. One that stays (`--hold`) marks it.
const PASSING: i64 = 120;
/// `BINFMTFS_MAGIC` in the kernel's `include/uapi/linux/magic.h`.
pub(super) const BINFMTFS_MAGIC: FsType = FsType(0x4249_4e4d);
/// `AUTOFS_SUPER_MAGIC`, same file.
const AUTOFS_MAGIC: FsType = FsType(0x0187);

/// Where the command line says that the table is.
#[derive(Debug, Clone)]
pub struct MountPoint {
    pub dir: PathBuf,
    /// Whether the user named it. In a user namespace, only that asks for a mount.
    pub explicit: bool,
}

/// The table cannot be opened at a mount point: one line with what failed, on which path, and what to do.
#[derive(Debug)]
pub struct MountError {
    /// What a caller may do about it instead.
    pub kind: MountErrorKind,
    text: String,
}

/// The kinds of [`MountError`] that callers tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountErrorKind {
    /// This user, or this user namespace, may not mount a table. Handlers of the host may still run programs here.
    NotAllowed,
    /// The kernel refuses the mount to the root of a user namespace.
    DeniedInUserNamespace,
    Other,
}

impl MountError {
    fn new(kind: MountErrorKind, text: String) -> Self {
        Self { kind, text }
    }

    /// Whether only the privilege to mount a table is missing.
    pub fn is_not_allowed(&self) -> bool {
        self.kind == MountErrorKind::NotAllowed
    }

    /// `/proc` is not mounted, or is that of another PID namespace.
    pub fn no_proc() -> Self {
        let what = if Path::new("/proc/self").exists() { "is of another PID namespace" } else { "is not mounted" };
        Self::new(MountErrorKind::Other, format!("/proc {what}; mount it: mount -t proc proc /proc"))
    }
}

impl fmt::Display for MountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for MountError {}

#[derive(Debug)]
pub struct Mounted {
    pub table: Table,
    pub lock: Lock,
    pub held_by: HeldBy,
}

/// Opens the table for installing, mounting it where that is allowed:
///
/// - A table that is mounted at the mount point is used.
/// - On the host itself, one is mounted there, to stay.
/// - In a container with `--pid=host`, it is mounted here and on the host.
/// - In any other mount namespace, it is mounted here, and [`HeldBy`] tells whether it lasts.
/// - In a user namespace, it is mounted only if the user named the mount point, because it hides the host's handlers from that
///   namespace.
///
/// Errors: a [`MountError`], or that of [`Table::lock`].
pub fn for_installing(at: &MountPoint) -> Result<Mounted> {
    let on_host = namespace::shares_host_mounts();
    loop {
        let (table, held_by) = match existing(&at.dir)? {
            Some(table) => {
                let held_by = holder_of(&table);
                (table, held_by)
            }
            None => mount_here(at, on_host)?,
        };
        let joined = held_by != HeldBy::Host && mounted_on_host(&at.dir);
        let held_by = if joined { HeldBy::Host } else { held_by };
        let lock = table.lock()?;
        // the call that held the lock may have removed the last entry, and with it the mount
        if is_mounted(&table, &at.dir).map_err(|e| unfit(&at.dir, errno_of(&e)))? {
            return Ok(Mounted { table, lock, held_by });
        }
    }
}

fn mount_here(at: &MountPoint, on_host: bool) -> Result<(Table, HeldBy), MountError> {
    let in_namespace = namespace::in_user_namespace();
    if in_namespace && !at.explicit {
        return Err(in_user_namespace(&at.dir));
    }
    let now = clock_gettime(ClockId::CLOCK_REALTIME_COARSE).map_or(0, |now| now.tv_sec());
    mount_at(&at.dir)?;
    let table = existing(&at.dir)?.ok_or_else(|| refused(&at.dir, Errno::ENODEV))?;
    let held_by = if on_host {
        HeldBy::Host
    } else if in_namespace && namespace::shares_mounts_with_others() {
        HeldBy::UserNamespace
    } else if has_older_holder(&table, now - PASSING) {
        HeldBy::Other
    } else {
        HeldBy::NobodyElse
    };
    Ok((table, held_by))
}

/// Whether [`for_installing`] would mount the table. This mounts it only in passing, to see whether it may.
pub fn would_mount(at: &MountPoint) -> Result<bool, MountError> {
    match existing(&at.dir)? {
        Some(_) => Ok(false),
        None if namespace::in_user_namespace() && !at.explicit => Err(in_user_namespace(&at.dir)),
        None if !geteuid().is_root() => Err(denied(&at.dir)),
        None => match in_passing() {
            Err(error) if error.kind != MountErrorKind::Other => Err(not_allowed(&at.dir)),
            tried => tried.map(|_| true),
        },
    }
}

/// Whether an install could begin to change the table. This leaves nothing behind. Fails as [`for_installing`] and [`Table::lock`] do where
/// this process may not.
pub fn may_install(at: &MountPoint) -> Result<()> {
    match existing(&at.dir)? {
        Some(table) => table.may_change()?,
        None => drop(would_mount(at)?),
    }
    Ok(())
}

/// Opens the table for reading, without leaving a mount behind. `None` if there is none; probes still show what runs.
/// Fails when the mount point was named and is unfit.
pub fn for_looking(at: &MountPoint) -> Result<Option<Table>, MountError> {
    match existing(&at.dir) {
        // a mount here would hide the host's table; what is mounted at the usual place counts
        Ok(None) if namespace::in_user_namespace() => Ok(existing(Path::new(DEFAULT)).ok().flatten()),
        Ok(None) => Ok(in_passing().ok()),
        Err(_) if !at.explicit => Ok(None),
        found => found,
    }
}

/// Opens the table for removing entries, without leaving a mount behind. `None`: a user namespace that has no table, so
/// no entries.
pub fn for_uninstalling(at: &MountPoint) -> Result<Option<Table>, MountError> {
    match existing(&at.dir)? {
        None if namespace::in_user_namespace() => Ok(None),
        None => in_passing().map(Some),
        found => Ok(found),
    }
}

/// Opens the table through a mount that no other process sees and that ends when it is closed.
pub fn in_passing() -> Result<Table, MountError> {
    let dir = Path::new(DEFAULT);
    let opened = namespace::with_private_mounts(Path::new("/proc"), || {
        mount_at(dir)?;
        existing(dir)
    });
    match opened {
        Ok(table) => table?.ok_or_else(|| refused(dir, Errno::ENODEV)),
        Err(Errno::EPERM) => Err(denied(dir)),
        Err(errno) => Err(refused(dir, errno)),
    }
}

/// If no entry is left, removes what keeps the table: the anchor, and our own mounts at `at`, here and, with
/// `--pid=host`, on the host. Mounts of others stay. Returns whether no entry is left. Fails when the entries cannot be
/// read, or the kernel refuses to delete the anchor or to unmount.
pub fn tidy(table: &Table, _lock: &Lock, at: &MountPoint) -> Result<bool> {
    if !table.entries()?.is_empty() {
        return Ok(false);
    }
    anchor::clear()?;
    if namespace::sees_host_init() && !namespace::shares_host_mounts() {
        namespace::with_host_mounts(|| release(&at.dir)).unwrap_or(Ok(()))?;
    }
    release(&at.dir)?;
    Ok(true)
}

/// Unmounts ours. The lock's file is still open on it, so the mount is detached and ends with that file.
fn release(dir: &Path) -> Result<(), MountError> {
    if !mounted_by_us(dir) {
        return Ok(());
    }
    match umount2(dir, MntFlags::MNT_DETACH) {
        // locked in a user namespace: a copy of another namespace's mount
        Ok(()) | Err(Errno::EINVAL) => Ok(()),
        Err(errno) => Err(other(format!("cannot unmount {}: {} ({errno:?})", dir.display(), errno.desc()))),
    }
}

/// Whether `table` is still what is mounted at `dir`. Unlike [`is_at`], it says why it cannot tell: a caller that
/// looks again and again would not end where descriptors are few.
fn is_mounted(table: &Table, dir: &Path) -> io::Result<bool> {
    Ok(table.metadata(".")?.dev() == fs::metadata(dir)?.dev())
}

/// The table that is mounted at `dir`, if one is. Opening the path triggers an automount.
///
/// Everything is read from one open directory, because what is mounted at the path may change.
fn existing(dir: &Path) -> Result<Option<Table>, MountError> {
    // no file server has the usual place, and an automount there may take its time
    if dir == Path::new(DEFAULT) { look_at(dir) } else { within_limit(dir, || look_at(dir)) }
}

fn look_at(dir: &Path) -> Result<Option<Table>, MountError> {
    let unfit = |errno| unfit(dir, errno);
    let opened = File::open(dir.join(".")).map_err(|e| unfit(errno_of(&e)))?;
    let kind = fstatfs(&opened).map_err(unfit)?.filesystem_type();
    if kind == BINFMTFS_MAGIC {
        return Ok(Some(Table::new(dir, opened)));
    }
    if kind == AUTOFS_MAGIC {
        return Err(automount(dir));
    }
    let mut directory = Dir::from_fd(opened.into()).map_err(unfit)?;
    let is_own = |item: &Entry| matches!(item.file_name().to_bytes(), b"." | b"..");
    // a directory that cannot be listed gives an error each time, without end
    let found = directory.iter().find(|item| !item.as_ref().is_ok_and(is_own));
    let shown = dir.display();
    if found.transpose().map_err(unfit)?.is_some() {
        return Err(other(format!(
            "{shown} holds something else than binfmt_misc; name the mount point of binfmt_misc, or leave out --mount"
        )));
    }
    if dir == Path::new(DEFAULT) && kind != PROC_SUPER_MAGIC {
        return Err(other(format!(
            "{shown} is not binfmt_misc: another file system is mounted over it; unmount that: umount {shown}"
        )));
    }
    Ok(None)
}

/// What it means that `dir` cannot be opened.
fn unfit(dir: &Path, errno: Errno) -> MountError {
    let shown = dir.display();
    let is_default = dir == Path::new(DEFAULT);
    other(match errno {
        Errno::ENOENT if !Path::new("/proc/self").exists() => return MountError::no_proc(),
        // looking at the directory itself triggers no automount
        Errno::ENOENT if dir.symlink_metadata().is_ok_and(|m| m.is_dir()) => return automount(dir),
        Errno::ELOOP if is_default => return automount(dir),
        Errno::ENOENT if is_default => return no_support(dir),
        Errno::ENODEV => return no_support(dir),
        Errno::ENOENT => {
            format!("mount point {shown} does not exist; create it, or leave out --mount")
        }
        Errno::ENOTDIR => format!("mount point {shown} is not a directory; name one"),
        Errno::ELOOP => {
            format!("mount point {shown} is a circle of symbolic links; name a directory, or leave out --mount")
        }
        errno => return refused(dir, errno),
    })
}

fn other(text: String) -> MountError {
    MountError::new(MountErrorKind::Other, text)
}

fn refused(dir: &Path, errno: Errno) -> MountError {
    other(format!("cannot use mount point {}: {}", dir.display(), cause(&errno.into())))
}

fn no_support(dir: &Path) -> MountError {
    other(format!(
        "cannot mount {}: this kernel has no binfmt_misc; load it on the host: modprobe binfmt_misc (kernel option \
         CONFIG_BINFMT_MISC)",
        dir.display()
    ))
}

fn automount(dir: &Path) -> MountError {
    other(format!(
        "the automount at {} does not come up; on the host: systemctl restart proc-sys-fs-binfmt_misc.automount",
        dir.display()
    ))
}

/// The kernel refuses a mount at `dir`.
fn not_allowed(dir: &Path) -> MountError {
    if namespace::in_user_namespace() { denied_in_user_namespace(dir) } else { denied(dir) }
}

fn denied(dir: &Path) -> MountError {
    let text = format!(
        "permission denied mounting binfmt_misc at {}; run as root, or the container with --privileged",
        dir.display()
    );
    MountError::new(MountErrorKind::NotAllowed, text)
}

fn denied_in_user_namespace(dir: &Path) -> MountError {
    let text = format!(
        "permission denied mounting binfmt_misc at {} in this user namespace (needs Linux 6.7 and its root); run it on \
         the host instead",
        dir.display()
    );
    MountError::new(MountErrorKind::DeniedInUserNamespace, text)
}

/// Nothing is mounted in a user namespace unless the user names the mount point.
fn in_user_namespace(dir: &Path) -> MountError {
    let text = format!(
        "this is a user namespace without a binfmt_misc of its own; run it on the host (rootful), or for this namespace \
         alone, hiding the host's handlers from it: --mount {}",
        quoted(dir)
    );
    MountError::new(MountErrorKind::NotAllowed, text)
}

fn mount_at(dir: &Path) -> Result<(), MountError> {
    let kind = Some("binfmt_misc");
    match mount(Some(SOURCE), dir, kind, MsFlags::empty(), None::<&str>) {
        // another call was faster
        Ok(()) | Err(Errno::EBUSY) => Ok(()),
        Err(Errno::EPERM) => Err(not_allowed(dir)),
        Err(Errno::EACCES) => Err(denied(dir)),
        Err(errno) => Err(unfit(dir, errno)),
    }
}

/// In a container that can reach the host, mounts the table on the host unless it is mounted there. Returns whether it
/// is.
fn mounted_on_host(dir: &Path) -> bool {
    if !namespace::reaches_host_from_container() {
        return false;
    }
    let mounted = namespace::with_host_mounts(|| match existing(dir) {
        Ok(Some(_)) => true,
        Ok(None) => mount_at(dir).is_ok(),
        Err(_) => false,
    });
    mounted == Ok(true)
}

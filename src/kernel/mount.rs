//! Finding, joining or mounting `binfmt_misc`, and knowing what keeps it alive.
//!
//! Owns the policy of `--mount` and of the mount namespaces: where a table is mounted, where it never is, and who
//! else holds its superblock. What keeps it alive where nobody else does is [`crate::kernel::anchor`]'s.
//!
//! Rests on `fs/binfmt_misc.c`: one superblock per user namespace (`bm_get_tree`), freed with its last mount.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{FsType, PROC_SUPER_MAGIC, fstatfs};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::geteuid;

use crate::kernel::anchor;
use crate::kernel::namespace;
use crate::kernel::table::{Lock, Table};
use crate::kernel::wording::errno_of;

mod detached;
mod error;
mod keep;
mod keeper;
mod own;

pub use detached::{for_holding, is_at};
pub use error::MountError;
pub use keep::{Lifetime, ensure_lifetime};
pub use keeper::HeldBy;
use keeper::{holder_of, mounted_by_us, predates};
pub(crate) use own::detached;
pub use own::own;

/// Where the kernel expects it, and everybody looks.
pub const DEFAULT: &str = "/proc/sys/fs/binfmt_misc";

/// The mount's source, by which a later call knows that `binfmt` mounted it and may unmount it.
const SOURCE: &str = "by-binfmt";
/// Seconds that a call of ours may last, waiting for probes, and so hold a superblock in passing: a younger one need
/// not be held by anybody who stays.
const PASSING: i64 = 120;
/// `BINFMTFS_MAGIC` in the kernel's `include/uapi/linux/magic.h`.
const BINFMTFS_MAGIC: FsType = FsType(0x4249_4e4d);
/// `AUTOFS_SUPER_MAGIC`, same file.
const AUTOFS_MAGIC: FsType = FsType(0x0187);

/// Where the table is to be found, as the command line says it.
#[derive(Debug, Clone)]
pub struct MountPoint {
    /// The directory.
    pub dir: PathBuf,
    /// Whether the user named it. Naming one is what asks for a mount inside a user namespace.
    pub explicit: bool,
}

/// An open table, locked for this call, and its prospects.
#[derive(Debug)]
pub struct Mounted {
    /// The table.
    pub table: Table,
    /// Keeps other calls out.
    pub lock: Lock,
    /// What holds it.
    pub held_by: HeldBy,
}

/// Opens the table for installing, mounting it where that is allowed:
///
/// - mounted at the mount point already: that one;
/// - on the host itself: mounted there, to stay;
/// - in a container with `--pid=host`: here, and on the host too;
/// - in any other mount namespace: here, and [`HeldBy`] tells whether it will last;
/// - in a user namespace: only when the user named the mount point, since it would hide the host's handlers from that
///   namespace for as long as it lives.
///
/// # Errors
/// When the mount point is unfit, mounting is refused, or another call does not give up its lock.
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
            return Ok(Mounted {
                table,
                lock,
                held_by,
            });
        }
    }
}

fn mount_here(at: &MountPoint, on_host: bool) -> Result<(Table, HeldBy), MountError> {
    let in_user_namespace = namespace::in_user_namespace();
    if in_user_namespace && !at.explicit {
        return Err(MountError::UserNamespace(at.dir.clone()));
    }
    let now = clock_gettime(ClockId::CLOCK_REALTIME_COARSE).map_or(0, |now| now.tv_sec());
    mount_at(&at.dir)?;
    let refused = || MountError::Refused(at.dir.clone(), Errno::ENODEV);
    let table = existing(&at.dir)?.ok_or_else(refused)?;
    let held_by = if on_host {
        HeldBy::Host
    } else if in_user_namespace && namespace::shares_mounts_with_others() {
        HeldBy::UserNamespace
    } else if predates(&table, now - PASSING) {
        HeldBy::Other
    } else {
        HeldBy::NobodyElse
    };
    Ok((table, held_by))
}

/// Whether [`for_installing`] would mount the table, which this does not.
///
/// # Errors
/// When the mount point is unfit, or mounting would be refused for want of privilege.
pub fn would_mount(at: &MountPoint) -> Result<bool, MountError> {
    let dir = || at.dir.clone();
    match existing(&at.dir)? {
        Some(_) => Ok(false),
        None if namespace::in_user_namespace() && !at.explicit => {
            Err(MountError::UserNamespace(dir()))
        }
        None if !geteuid().is_root() => Err(MountError::Denied(dir())),
        None => Ok(true),
    }
}

/// Opens the table for looking, without leaving a mount behind. `None` where there is none to be had: what runs can be
/// found out all the same.
///
/// # Errors
/// When the mount point was named and is unfit.
pub fn for_looking(at: &MountPoint) -> Result<Option<Table>, MountError> {
    match existing(&at.dir) {
        // to mount one here would hide that of the host; what is mounted where all look is what counts
        Ok(None) if namespace::in_user_namespace() => {
            Ok(existing(Path::new(DEFAULT)).ok().flatten())
        }
        Ok(None) => Ok(in_passing().ok()),
        Err(_) if !at.explicit => Ok(None),
        found => found,
    }
}

/// Opens the table for removing entries, without leaving a mount behind. `None`: a user namespace without a table of
/// its own, so without entries.
///
/// # Errors
/// When the mount point is unfit, or the table cannot be opened.
pub fn for_uninstalling(at: &MountPoint) -> Result<Option<Table>, MountError> {
    match existing(&at.dir)? {
        None if namespace::in_user_namespace() => Ok(None),
        None => in_passing().map(Some),
        found => Ok(found),
    }
}

/// What holds the table that is mounted at `at`; `None` where none is, so that nothing can be told.
#[must_use]
pub fn holder(at: &MountPoint) -> Option<HeldBy> {
    existing(&at.dir).ok()?.as_ref().map(holder_of)
}

/// The table through a mount that nobody else sees and that goes when it is closed.
pub(crate) fn in_passing() -> Result<Table, MountError> {
    let dir = Path::new(DEFAULT);
    let opened = namespace::with_private_mounts(Path::new("/proc"), || {
        mount_at(dir)?;
        existing(dir)
    });
    let refused = |errno| MountError::Refused(dir.to_owned(), errno);
    match opened {
        Ok(table) => table?.ok_or_else(|| refused(Errno::ENODEV)),
        Err(Errno::EPERM) => Err(MountError::Denied(dir.to_owned())),
        Err(errno) => Err(refused(errno)),
    }
}

/// Where no entry is left, removes what keeps the table: the anchor, and what `binfmt` itself mounted at `at`, here
/// and, with `--pid=host`, on the host. Mounts of others stay. True if no entry is left.
///
/// # Errors
/// When the kernel refuses.
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

/// Unmounts ours. The lock's file is still open on it, so the mount is detached and goes with that.
fn release(dir: &Path) -> Result<(), MountError> {
    if !mounted_by_us(dir) {
        return Ok(());
    }
    match umount2(dir, MntFlags::MNT_DETACH) {
        // locked in a user namespace: a copy of somebody else's
        Ok(()) | Err(Errno::EINVAL) => Ok(()),
        Err(errno) => Err(MountError::Unmount(dir.to_owned(), errno)),
    }
}

/// Whether `table` is still what is mounted at `dir`.
fn is_mounted(table: &Table, dir: &Path) -> io::Result<bool> {
    Ok(table.metadata(".")?.dev() == fs::metadata(dir)?.dev())
}

/// The table that is mounted at `dir`, if one is. Touching the path lets an automount happen.
///
/// All is asked of one open directory: what is mounted at the path may change between two looks at it.
fn existing(dir: &Path) -> Result<Option<Table>, MountError> {
    let unfit = |errno| unfit(dir, errno);
    let opened = File::open(dir.join(".")).map_err(|e| unfit(errno_of(&e)))?;
    let kind = fstatfs(&opened).map_err(unfit)?.filesystem_type();
    if kind == BINFMTFS_MAGIC {
        return Ok(Some(Table::new(dir, opened)));
    }
    if kind == AUTOFS_MAGIC {
        return Err(MountError::Automount(dir.to_owned()));
    }
    let mut directory = Dir::from_fd(opened.into()).map_err(unfit)?;
    let mut names = directory.iter().flatten();
    match names.all(|item| matches!(item.file_name().to_bytes(), b"." | b"..")) {
        true if dir == Path::new(DEFAULT) && kind != PROC_SUPER_MAGIC => {
            Err(MountError::Covered(dir.to_owned()))
        }
        true => Ok(None),
        false => Err(MountError::Occupied(dir.to_owned())),
    }
}

fn unfit(dir: &Path, errno: Errno) -> MountError {
    match errno {
        Errno::ENOENT if !Path::new("/proc/self").exists() => MountError::NoProc,
        // looking at the directory itself makes no automount happen
        Errno::ENOENT if dir.symlink_metadata().is_ok_and(|m| m.is_dir()) => {
            MountError::Automount(dir.to_owned())
        }
        Errno::ENOENT if dir == Path::new(DEFAULT) => MountError::NoSupport(dir.to_owned()),
        Errno::ENOENT => MountError::Missing(dir.to_owned()),
        Errno::ENOTDIR => MountError::NotADirectory(dir.to_owned()),
        Errno::ELOOP if dir == Path::new(DEFAULT) => MountError::Automount(dir.to_owned()),
        Errno::ELOOP => MountError::Circle(dir.to_owned()),
        errno => MountError::Refused(dir.to_owned(), errno),
    }
}

fn mount_at(dir: &Path) -> Result<(), MountError> {
    let nothing = None::<&str>;
    let mounted = mount(
        Some(SOURCE),
        dir,
        Some("binfmt_misc"),
        MsFlags::empty(),
        nothing,
    );
    if mounted == Err(Errno::EBUSY) {
        // another call was faster
        return Ok(());
    }
    mounted.map_err(|errno| match errno {
        Errno::ENODEV => MountError::NoSupport(dir.to_owned()),
        Errno::EPERM if namespace::in_user_namespace() => {
            MountError::DeniedInUserNamespace(dir.to_owned())
        }
        Errno::EPERM | Errno::EACCES => MountError::Denied(dir.to_owned()),
        Errno::EROFS => MountError::ReadOnly(dir.to_owned()),
        errno => unfit(dir, errno),
    })
}

/// From a container that can reach the host: sees to it that the host itself has the table mounted, by its automount
/// or by ours.
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

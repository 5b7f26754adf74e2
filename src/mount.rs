//! Finding, joining or mounting `binfmt_misc`, and knowing what keeps it alive.
//!
//! Owns the policy of `--mount` and of the mount namespaces: where a table is mounted, where it never is, and who
//! else holds its superblock. What keeps it alive where nobody else does is [`crate::anchor`]'s.
//!
//! Rests on `fs/binfmt_misc.c`: one superblock per user namespace (`bm_get_tree`), freed with its last mount.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount, umount};
use nix::sys::stat::{major, minor};
use nix::sys::statfs::{FsType, statfs};
use nix::time::{ClockId, clock_gettime};
use procfs::process::{MountInfo, Process};

use crate::namespace;
use crate::table::Table;

/// Where the kernel expects it, and everybody looks.
pub const DEFAULT: &str = "/proc/sys/fs/binfmt_misc";

/// The mount's source, by which a later call knows that `binfmt` mounted it and may unmount it.
const SOURCE: &str = "binfmt";
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

/// What holds the table's superblock, and with it the handlers, once this process is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    /// A mount in the host's own mount namespace.
    Host,
    /// Some other mount that was there before: on an ordinary host, the host's.
    Other,
    /// This mount namespace alone: the handlers end with it.
    NobodyElse,
}

/// An open table and its prospects.
#[derive(Debug)]
pub struct Mounted {
    /// The table.
    pub table: Table,
    /// What holds it.
    pub keeper: Keeper,
}

/// Opens the table for changing it, mounting it where that is allowed:
///
/// - mounted at the mount point already: that one;
/// - on the host itself: mounted there, to stay;
/// - in a container with `--pid=host`: on the host too, then here;
/// - in any other mount namespace: here, and [`Keeper`] tells whether it will last;
/// - in a user namespace: only when the user named the mount point, since it would hide the host's handlers from that
///   namespace for as long as it lives.
///
/// # Errors
/// When the mount point is unfit, or mounting is refused.
pub fn for_writing(at: &MountPoint) -> Result<Mounted, MountError> {
    if let Some(table) = existing(&at.dir)? {
        let keeper = keeper_of(&table);
        return Ok(Mounted { table, keeper });
    }
    if namespace::in_user_namespace() && !at.explicit {
        return Err(MountError::UserNamespace(at.dir.clone()));
    }
    let on_host = namespace::shares_host_mounts();
    let joined = namespace::reaches_host_from_container() && mounted_on_host(&at.dir);
    let started = clock_gettime(ClockId::CLOCK_REALTIME_COARSE);
    mount_at(&at.dir)?;
    let table =
        existing(&at.dir)?.ok_or_else(|| MountError::Refused(at.dir.clone(), Errno::ENODEV))?;
    let keeper = match started {
        _ if on_host || joined => Keeper::Host,
        Ok(started) if predates(&table, (started.tv_sec(), started.tv_nsec())) => Keeper::Other,
        _ => Keeper::NobodyElse,
    };
    Ok(Mounted { table, keeper })
}

/// Opens the table for looking, or for removing entries, without leaving a mount behind. `None`: this namespace has
/// none, and none may be mounted here.
///
/// # Errors
/// When the mount point is unfit.
pub fn for_reading(at: &MountPoint) -> Result<Option<Table>, MountError> {
    if let Some(table) = existing(&at.dir)? {
        return Ok(Some(table));
    }
    if namespace::in_user_namespace() {
        return Ok(None);
    }
    let opened = namespace::with_private_mounts(Path::new("/proc"), || {
        mount_at(Path::new(DEFAULT))?;
        existing(Path::new(DEFAULT))
    });
    match opened {
        Ok(Ok(table)) => Ok(table),
        Ok(Err(_)) | Err(_) => Ok(None),
    }
}

/// Unmounts what `binfmt` itself mounted at `at`, here and, with `--pid=host`, on the host. Mounts of others stay.
/// To be called with no [`Table`] open and no entry left.
///
/// # Errors
/// When the kernel refuses to unmount ours.
pub fn release(at: &MountPoint) -> Result<(), MountError> {
    let unmount = || {
        if !mounted_by_us(&at.dir) {
            return Ok(());
        }
        umount(&at.dir).map_err(|errno| MountError::Unmount(at.dir.clone(), errno))
    };
    if namespace::reaches_host_from_container() {
        if let Ok(result) = namespace::with_host_mounts(unmount) {
            result?;
        }
    }
    unmount()
}

/// The table that is mounted at `dir`, if one is. Touching the path lets an automount happen.
fn existing(dir: &Path) -> Result<Option<Table>, MountError> {
    let kind = match statfs(&dir.join(".")) {
        Ok(stat) => stat.filesystem_type(),
        Err(errno) => return Err(unfit(dir, errno)),
    };
    if kind == BINFMTFS_MAGIC {
        let opened = File::open(dir)
            .map_err(|e| unfit(dir, Errno::from_raw(e.raw_os_error().unwrap_or(0))))?;
        return Ok(Some(Table::new(dir, opened)));
    }
    if kind == AUTOFS_MAGIC {
        return Err(MountError::Automount(dir.to_owned()));
    }
    match fs::read_dir(dir).map(|mut items| items.next().is_none()) {
        Ok(true) => Ok(None),
        Ok(false) => Err(MountError::Occupied(dir.to_owned())),
        Err(e) => Err(unfit(dir, Errno::from_raw(e.raw_os_error().unwrap_or(0)))),
    }
}

fn unfit(dir: &Path, errno: Errno) -> MountError {
    match errno {
        Errno::ENOENT if dir == Path::new(DEFAULT) => MountError::NoSupport(dir.to_owned()),
        Errno::ENOENT => MountError::Missing(dir.to_owned()),
        Errno::ENOTDIR => MountError::NotADirectory(dir.to_owned()),
        Errno::ELOOP => MountError::Automount(dir.to_owned()),
        errno => MountError::Refused(dir.to_owned(), errno),
    }
}

fn mount_at(dir: &Path) -> Result<(), MountError> {
    let nothing = None::<&str>;
    mount(
        Some(SOURCE),
        dir,
        Some("binfmt_misc"),
        MsFlags::empty(),
        nothing,
    )
    .map_err(|errno| match errno {
        Errno::ENODEV => MountError::NoSupport(dir.to_owned()),
        Errno::EPERM if namespace::in_user_namespace() => {
            MountError::DeniedInUserNamespace(dir.to_owned())
        }
        Errno::EPERM | Errno::EACCES => MountError::Denied(dir.to_owned()),
        Errno::EROFS => MountError::ReadOnly(dir.to_owned()),
        errno => unfit(dir, errno),
    })
}

/// Sees to it that the host itself has the table mounted, by its automount or by ours.
fn mounted_on_host(dir: &Path) -> bool {
    let mounted = namespace::with_host_mounts(|| match existing(dir) {
        Ok(Some(_)) => true,
        Ok(None) => mount_at(dir).is_ok(),
        Err(_) => false,
    });
    mounted == Ok(true)
}

/// What holds a table that was mounted before this call.
fn keeper_of(table: &Table) -> Keeper {
    if namespace::shares_host_mounts() {
        return Keeper::Host;
    }
    if namespace::in_user_namespace() {
        return Keeper::Other;
    }
    if namespace::sees_host_init() {
        return if host_holds(table) {
            Keeper::Host
        } else {
            Keeper::NobodyElse
        };
    }
    match container_start() {
        Some(start) if !predates(table, start) => Keeper::NobodyElse,
        _ => Keeper::Other,
    }
}

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

fn mounted_by_us(dir: &Path) -> bool {
    let mounts = mounts_of(Process::myself());
    let top = mounts.iter().rev().find(|m| m.mount_point == dir);
    top.is_some_and(|m| m.fs_type == "binfmt_misc" && m.mount_source.as_deref() == Some(SOURCE))
}

fn mounts_of(process: procfs::ProcResult<Process>) -> Vec<MountInfo> {
    process
        .and_then(|p| p.mountinfo())
        .map(|m| m.0)
        .unwrap_or_default()
}

/// When this container's first process started, in wall-clock seconds and nanoseconds.
fn container_start() -> Option<(i64, i64)> {
    let ticks = Process::new(1).and_then(|p| p.stat()).ok()?.starttime;
    let after_boot = i64::try_from(ticks / procfs::ticks_per_second()).ok()?;
    let now = clock_gettime(ClockId::CLOCK_REALTIME).ok()?.tv_sec();
    let up = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?.tv_sec();
    Some((now - up + after_boot, 0))
}

/// Whether the table's superblock was there before `moment`.
///
/// Its inodes carry the coarse clock of their creation. Removing an entry touches the root's times and opening
/// `register` for truncation that file's, so the oldest of the three counts.
fn predates(table: &Table, moment: (i64, i64)) -> bool {
    [".", "status", "register"]
        .iter()
        .filter_map(|name| table.metadata(name).ok())
        .any(|m| (m.ctime(), m.ctime_nsec()) < moment)
}

/// The table cannot be had at this mount point.
#[derive(Debug)]
pub enum MountError {
    /// No such directory.
    Missing(PathBuf),
    /// The path is a file.
    NotADirectory(PathBuf),
    /// Another file system, or a directory with files, is there.
    Occupied(PathBuf),
    /// The kernel lacks `binfmt_misc`, or its module is not to be found.
    NoSupport(PathBuf),
    /// An automount that does not come up.
    Automount(PathBuf),
    /// No privilege to mount.
    Denied(PathBuf),
    /// No privilege to mount, in a user namespace.
    DeniedInUserNamespace(PathBuf),
    /// In a user namespace nothing is mounted unasked.
    UserNamespace(PathBuf),
    /// The mount point does not allow a mount.
    ReadOnly(PathBuf),
    /// Anything else.
    Refused(PathBuf, Errno),
    /// Our own mount cannot be undone.
    Unmount(PathBuf, Errno),
}

impl fmt::Display for MountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(dir) => write!(
                f,
                "mount point {} does not exist; create it, or leave out --mount",
                dir.display()
            ),
            Self::NotADirectory(dir) => write!(
                f,
                "mount point {} is not a directory; name one",
                dir.display()
            ),
            Self::Occupied(dir) => write!(
                f,
                "{} is not binfmt_misc, and not empty; name the mount point of binfmt_misc, or leave out --mount",
                dir.display()
            ),
            Self::NoSupport(dir) => write!(
                f,
                "cannot mount {}: this kernel has no binfmt_misc; load it on the host: modprobe binfmt_misc (kernel \
                 option CONFIG_BINFMT_MISC)",
                dir.display()
            ),
            Self::Automount(dir) => write!(
                f,
                "the automount at {0} does not come up; on the host: systemctl restart proc-sys-fs-binfmt_misc.automount",
                dir.display()
            ),
            Self::Denied(dir) => write!(
                f,
                "permission denied mounting binfmt_misc at {}; run as root, or the container with --privileged",
                dir.display()
            ),
            Self::DeniedInUserNamespace(dir) => write!(
                f,
                "permission denied mounting binfmt_misc at {} in this user namespace (needs Linux 6.7 and its root); \
                 run it on the host instead",
                dir.display()
            ),
            Self::UserNamespace(dir) => write!(
                f,
                "this is a user namespace without a binfmt_misc of its own; run it on the host (rootful), or for this \
                 namespace alone, hiding the host's handlers from it: --mount {}",
                dir.display()
            ),
            Self::ReadOnly(dir) => write!(f, "mount point {} is read-only", dir.display()),
            Self::Refused(dir, errno) => write!(
                f,
                "cannot use mount point {}: {} ({errno:?})",
                dir.display(),
                errno.desc()
            ),
            Self::Unmount(dir, errno) => write!(
                f,
                "cannot unmount {}: {} ({errno:?})",
                dir.display(),
                errno.desc()
            ),
        }
    }
}

impl std::error::Error for MountError {}

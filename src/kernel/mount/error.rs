//! Why a table cannot be had at a mount point, and what to do about it.

use std::fmt;
use std::path::PathBuf;

use nix::errno::Errno;

/// The table cannot be had at this mount point.
#[derive(Debug)]
pub enum MountError {
    /// No such directory.
    Missing(PathBuf),
    /// There is no `/proc`.
    NoProc,
    /// The path is a file.
    NotADirectory(PathBuf),
    /// The path never ends.
    Circle(PathBuf),
    /// Another file system, or a directory with files, is there.
    Occupied(PathBuf),
    /// Another file system lies over the place of the kernel's own.
    Covered(PathBuf),
    /// The kernel lacks `binfmt_misc`, or its module is not to be found.
    NoSupport(PathBuf),
    /// An automount that does not come up.
    Automount(PathBuf),
    /// No privilege to mount.
    Denied(PathBuf),
    /// No privilege to mount, in a user namespace.
    DeniedInUserNamespace(PathBuf),
    /// This kernel, a release, has no tables of user namespaces.
    TooOld(String),
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
            Self::NoProc => f.write_str("/proc is not mounted; mount it: mount -t proc proc /proc"),
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
            Self::Circle(dir) => write!(
                f,
                "mount point {} is a circle of symbolic links; name a directory, or leave out --mount",
                dir.display()
            ),
            Self::Occupied(dir) => write!(
                f,
                "{} holds something else than binfmt_misc; name the mount point of binfmt_misc, or leave out --mount",
                dir.display()
            ),
            Self::Covered(dir) => write!(
                f,
                "{0} is not binfmt_misc: another file system is mounted over it; unmount that: umount {0}",
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
            Self::TooOld(release) => write!(
                f,
                "this kernel, Linux {release}, has no handlers of a user namespace's own, which takes 6.7 or newer; have \
                 root install them for all: binfmt --install LIST"
            ),
            Self::UserNamespace(dir) => write!(
                f,
                "this is a user namespace without a binfmt_misc of its own; run it on the host (rootful), or for this \
                 namespace alone, hiding the host's handlers from it: --mount {}",
                dir.display()
            ),
            Self::ReadOnly(dir) => write!(
                f,
                "mount point {} is read-only; name another, or remount it: mount -o remount,rw",
                dir.display()
            ),
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

//! Why a file is not opened, and why a root directory is of no use, in words.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::kernel::wording::{cause, shown};

/// Why a file is not opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unopened {
    /// There is none.
    Missing,
    /// There is a symbolic link, and nothing where it leads.
    Dangling(PathBuf),
    /// It is no regular file: its kind.
    NoFile(&'static str),
    /// Nobody has execute permission.
    NotExecutable,
    /// Its file system is mounted noexec.
    NoExec,
    /// This user has no permission.
    Denied,
    /// It may be executed, but not read by this user, so that nothing can be said of it.
    Unreadable,
    /// It is open for writing, by this process if that is known: number and name.
    BeingWritten(String),
    /// The system says something else.
    Refused(Errno),
}

impl Unopened {
    /// What `execve(2)` fails with. `None`: that is not known.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Missing | Self::Dangling(_) => Some(Errno::ENOENT),
            Self::NoFile(_) | Self::NotExecutable | Self::NoExec | Self::Denied => {
                Some(Errno::EACCES)
            }
            Self::BeingWritten(_) => Some(Errno::ETXTBSY),
            Self::Refused(errno) => Some(*errno),
            Self::Unreadable => None,
        }
    }
}

impl fmt::Display for Unopened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("does not exist"),
            Self::Dangling(target) => {
                write!(
                    f,
                    "is a symbolic link to {}, which does not exist",
                    shown(target.as_os_str())
                )
            }
            Self::NoFile(kind) => write!(f, "is {kind}, not a file"),
            Self::NotExecutable => f.write_str("is not executable: its mode has no x"),
            Self::NoExec => f.write_str("is on a file system that is mounted noexec"),
            Self::Denied => f.write_str("may not be executed by this user"),
            Self::Unreadable => {
                f.write_str("cannot be read by this user, so nothing can be said of it")
            }
            Self::BeingWritten(writer) => write!(f, "is open for writing, by {writer}"),
            Self::Refused(Errno::ENOTDIR) => {
                f.write_str("has a path that leads through something that is not a directory")
            }
            Self::Refused(Errno::ELOOP) => f.write_str("is a circle of symbolic links"),
            Self::Refused(errno) => write!(f, "cannot be opened: {}", errno.desc()),
        }
    }
}

/// Why a root directory is of no use.
#[derive(Debug)]
pub enum RootError {
    /// It cannot be opened, or not be searched.
    Unopened(PathBuf, io::Error),
    /// `openat2(2)` is missing: before Linux 5.6, or where a filter of system calls forbids it.
    NoLookUp(PathBuf, Errno),
}

impl fmt::Display for RootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |root: &Path| shown(root.as_os_str());
        match self {
            Self::Unopened(root, error) => write!(
                f,
                "cannot open the root directory {}: {}; name another with --root",
                name(root),
                cause(error)
            ),
            Self::NoLookUp(root, errno) => write!(
                f,
                "cannot look for files in the root directory {}: openat2 fails: {}; it needs Linux 5.6, and a seccomp filter \
                 may forbid it: run binfmt elsewhere, or inside that directory by chroot, without --root",
                name(root),
                cause(&(*errno).into())
            ),
        }
    }
}

impl Error for RootError {}

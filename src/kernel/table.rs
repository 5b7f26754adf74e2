//! The kernel's table: list, register, remove, lock; and what each errno of those means.
//!
//! Owns every read and write below the `binfmt_misc` mount point. How that mount came about is [`crate::kernel::mount`]'s
//! business; which entries ought to be there is decided by [`crate::policy::install`] and [`crate::policy::uninstall`].
//!
//! Rests on `Documentation/admin-guide/binfmt-misc.rst` and `fs/binfmt_misc.c`.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use binfmt_magic::entry::Entry;
use binfmt_magic::rule::Rule;
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{AccessFlags, faccessat};

use crate::kernel::lock::lock;
use crate::kernel::wording::errno_of;

mod error;

use error::Op;
pub use error::{RegisterError, TableError};

/// How long a second call waits for the one that holds the lock. That takes well under a second, or a few times the
/// limit of an emulator that hangs.
const LOCK_PATIENCE: Duration = Duration::from_secs(120);

/// The file whose lock is the table's.
const LOCKED: &str = "register";

/// An open `binfmt_misc` mount. All access goes through the directory that was opened, so a mount that another
/// process lays over the path afterwards does not divert it.
#[derive(Debug)]
pub struct Table {
    path: PathBuf,
    dir: File,
}

/// Held while the table is changed; dropped, or the process killed, it is free again. It is an advisory lock on
/// `register` itself, so that it works across containers, leaves no file behind, and needs write access to the table. A caller
/// without that cannot modify the table, and holds none.
#[derive(Debug)]
pub struct Lock {
    _held: Option<File>,
}

impl AsFd for Table {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

impl Table {
    /// Takes `dir`, an open directory at the root of a `binfmt_misc` file system; `path` is how messages call it.
    #[must_use]
    pub fn new(path: &Path, dir: File) -> Self {
        Self {
            path: path.to_owned(),
            dir,
        }
    }

    /// The mount point, as messages call it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the kernel says of a file of this table: times, and the device that is the superblock.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn metadata(&self, name: impl AsRef<OsStr>) -> io::Result<Metadata> {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        File::from(openat(&self.dir, name.as_ref(), flags, Mode::empty())?).metadata()
    }

    /// When the entry `name` was registered or, since then, last written to from a shell, in seconds since 1970: its inode is made
    /// when it is registered (`bm_get_inode` in `fs/binfmt_misc.c`), and no write changes its times, but `>` truncates, and that
    /// does (`simple_setattr`). `None`: it is gone.
    #[must_use]
    pub fn changed(&self, name: &OsStr) -> Option<i64> {
        self.metadata(name).ok().map(|metadata| metadata.mtime())
    }

    /// Whether the table as a whole is switched on (`status`). Off, no entry has any effect.
    ///
    /// # Errors
    /// When `status` cannot be read.
    pub fn enabled(&self) -> Result<bool, TableError> {
        let text = self.read(OsStr::new("status"))?;
        Ok(text.starts_with(b"enabled"))
    }

    /// All entries, the one that the kernel tries first in front.
    ///
    /// The kernel tries the newest registration first, and lists a directory of this file system newest first too
    /// (`d_alloc` puts a new dentry at the head of its parent's children). Listing and reading are no one step: while
    /// somebody else replaces entries, it is done again until nothing has changed under it.
    ///
    /// # Errors
    /// When the directory or an entry cannot be read.
    pub fn entries(&self) -> Result<Vec<Entry>, TableError> {
        const TRIES: u32 = 100;
        let mut entries = Vec::new();
        for _ in 0..TRIES {
            let names = self.names()?;
            entries = self.read_all(&names)?;
            if entries.len() == names.len() && self.names()? == names {
                break;
            }
        }
        Ok(entries)
    }

    /// The entries of these names and inodes that are still there.
    fn read_all(&self, names: &[(OsString, u64)]) -> Result<Vec<Entry>, TableError> {
        let read = |(name, inode): &(OsString, u64)| match self.read(name) {
            Ok(text) => Some(Ok(Entry {
                registration: *inode,
                ..Entry::parse(name, &text)
            })),
            Err(error) if error.errno == Errno::ENOENT => None,
            Err(error) => Some(Err(error)),
        };
        names.iter().filter_map(read).collect()
    }

    /// Hands `rule` to the kernel in one `write(2)`, as `register` demands.
    ///
    /// # Errors
    /// The kernel's refusal, with its meaning; or a rule that the kernel would refuse.
    pub fn register(&self, rule: &Rule) -> Result<(), RegisterError> {
        let line = rule.encode().map_err(RegisterError::Rule)?;
        self.write(OsStr::new("register"), &line)
            .map_err(|refused| RegisterError::Refused {
                refused,
                name: rule.name.clone(),
                interpreter: rule.interpreter.clone(),
            })
    }

    /// Whether this process may change the table.
    ///
    /// # Errors
    /// What a change would fail with.
    pub fn may_change(&self) -> Result<(), TableError> {
        let (name, flags) = (OsStr::new("register"), AtFlags::AT_EACCESS);
        faccessat(&self.dir, name, AccessFlags::W_OK, flags)
            .map_err(|errno| self.error(Op::Open, name, errno))
    }

    /// Removes the entry `name`. One that is not there is fine. Tried twice: what could not be removed stays in everybody's
    /// way, and a shortage may have passed.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn remove(&self, name: &OsStr) -> Result<(), TableError> {
        self.remove_if(name, None).map(drop)
    }

    /// The same, but only if it is the registration `only` ([`Entry::registration`]), where that is known. False: another one has
    /// the name by now, and stays.
    ///
    /// The entry's file is opened first and then compared, so what is removed is what was compared.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn remove_if(&self, name: &OsStr, only: Option<u64>) -> Result<bool, TableError> {
        let remove = || {
            let file = self.open(name, OFlag::O_WRONLY, Op::Open)?;
            let metadata = file.metadata();
            let metadata = metadata.map_err(|e| self.error(Op::Open, name, errno_of(&e)))?;
            if only.is_some_and(|registration| registration != metadata.ino()) {
                return Ok(false);
            }
            self.write_to(file, name, b"-1").map(|()| true)
        };
        match remove().or_else(|_| remove()) {
            Err(error) if error.errno == Errno::ENOENT => Ok(true),
            other => other,
        }
    }

    /// Waits until no other call changes this table, then keeps others out.
    ///
    /// # Errors
    /// When the lock is still taken after two minutes, this process is told to end, or this file system cannot be locked.
    pub fn lock(&self) -> Result<Lock, TableError> {
        let file = match self.open(OsStr::new(LOCKED), OFlag::O_WRONLY, Op::Open) {
            Err(error) if [Errno::EROFS, Errno::EACCES, Errno::EPERM].contains(&error.errno) => {
                return Ok(Lock { _held: None });
            }
            file => file?,
        };
        lock(&file, &self.path.join(LOCKED), LOCK_PATIENCE)
            .map_err(|error| self.error(Op::Lock, OsStr::new(LOCKED), errno_of(&error)))?;
        Ok(Lock { _held: Some(file) })
    }

    /// The names of all entries, and the numbers of their inodes.
    fn names(&self) -> Result<Vec<(OsString, u64)>, TableError> {
        let refused = |errno| self.error(Op::Read, OsStr::new("."), errno);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut dir = Dir::openat(&self.dir, ".", flags, Mode::empty()).map_err(refused)?;
        let mut names = Vec::new();
        for item in dir.iter() {
            let item = item.map_err(refused)?;
            let name = item.file_name().to_bytes();
            if item.file_type() != Some(Type::Directory) && name != b"register" && name != b"status"
            {
                names.push((OsStr::from_bytes(name).to_owned(), item.ino()));
            }
        }
        Ok(names)
    }

    fn read(&self, name: &OsStr) -> Result<Vec<u8>, TableError> {
        let mut file = self.open(name, OFlag::O_RDONLY, Op::Read)?;
        let mut text = Vec::new();
        match file.read_to_end(&mut text) {
            Ok(_) => Ok(text),
            Err(error) => Err(self.error(Op::Read, name, errno_of(&error))),
        }
    }

    fn write(&self, name: &OsStr, line: &[u8]) -> Result<(), TableError> {
        self.write_to(self.open(name, OFlag::O_WRONLY, Op::Open)?, name, line)
    }

    fn write_to(&self, mut file: File, name: &OsStr, line: &[u8]) -> Result<(), TableError> {
        match file.write(line) {
            Ok(written) if written == line.len() => Ok(()),
            Ok(_) => Err(self.error(Op::Write, name, Errno::EIO)),
            Err(error) => Err(self.error(Op::Write, name, errno_of(&error))),
        }
    }

    fn open(&self, name: &OsStr, flags: OFlag, op: Op) -> Result<File, TableError> {
        openat(&self.dir, name, flags | OFlag::O_CLOEXEC, Mode::empty())
            .map(File::from)
            .map_err(|errno| self.error(op, name, errno))
    }

    fn error(&self, op: Op, name: &OsStr, errno: Errno) -> TableError {
        TableError {
            op,
            path: self.path.join(name),
            errno,
        }
    }
}

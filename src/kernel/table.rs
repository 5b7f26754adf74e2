//! The kernel's table: list, register, remove and lock entries.
//!
//! Owns every read and write below the `binfmt_misc` mount point, and what each errno means. [`crate::kernel::mount`]
//! mounts it.
//!
//! Rests on `Documentation/admin-guide/binfmt-misc.rst` and `fs/binfmt_misc.c`.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use binfmt_magic::entry::Entry;
use binfmt_magic::rule::{Rule, RuleError};
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{AccessFlags, faccessat};

use crate::kernel::lock::{is_marked_before, lock, mark};
use crate::kernel::process::sysctl;
use crate::kernel::wording::errno_of;

mod error;

pub use error::TableError;
use error::not_registered;

/// How many interpreters the kernel keeps open for entries with flag F. Each user namespace has a limit of its own, and what is
/// opened in one also counts in those above it (`inc_ucount` in `kernel/ucount.c`).
const LIMIT: &str = "user.max_binfmt_misc_interpreters";

/// Whether this kernel may know flag T, so that a try is worth its time: Linux 7.3 has brought it together with a limit of the
/// interpreters that are kept open.
pub fn may_be_transparent() -> bool {
    sysctl(LIMIT).is_some()
}

/// How long a call waits for another one's lock. A call lasts well under a second, or a few times the limit of an
/// emulator that times out.
const LOCK_PATIENCE: Duration = Duration::from_secs(120);

/// The file that takes registrations, whose lock is the table's.
const REGISTER: &str = "register";
/// The file that switches the table on and off. Any user may read it.
const STATUS: &str = "status";

/// An open `binfmt_misc` mount. All access goes through the opened directory, so a later mount over its path changes
/// nothing.
#[derive(Debug)]
pub struct Table {
    path: PathBuf,
    dir: File,
}

/// The lock on a table; the kernel releases it when this is dropped or the process ends. It is an advisory lock on
/// `register`, so it works across containers and leaves no file behind. A caller without write access cannot modify the
/// table, so it takes no lock.
#[derive(Debug)]
pub struct Lock {
    _held: Option<Arc<File>>,
}

impl AsFd for Table {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

impl Table {
    /// The table whose root directory is open as `dir`; `path` is its name in messages.
    pub fn new(path: &Path, dir: File) -> Self {
        Self { path: path.to_owned(), dir }
    }

    /// The mount point, as messages name it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The metadata of a file of this table: its times, and the device number of the superblock.
    pub fn metadata(&self, name: impl AsRef<OsStr>) -> io::Result<Metadata> {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        File::from(openat(&self.dir, name.as_ref(), flags, Mode::empty())?).metadata()
    }

    /// When the entry `name` was registered, or later truncated by a shell's `>`, in seconds since 1970. Its inode is
    /// made when it is registered (`bm_get_inode` in `fs/binfmt_misc.c`); a write does not change its times, truncation
    /// does (`simple_setattr`). `None`: it does not exist any more.
    pub fn changed(&self, name: &OsStr) -> Option<i64> {
        self.metadata(name).ok().map(|metadata| metadata.mtime())
    }

    /// Tells other calls that this process holds the table since `began`, in seconds since 1970, as long as the returned file is
    /// open. Fails when `status` cannot be opened or locked.
    pub fn hold(&self, began: i64) -> Result<File, TableError> {
        let status = self.open(OsStr::new(STATUS), OFlag::O_RDONLY, "open")?;
        mark(&status, began).map_err(|error| self.error("lock", OsStr::new(STATUS), errno_of(&error)))?;
        Ok(status)
    }

    /// Whether a process [holds](Self::hold) the table that began to do so before `moment`, in seconds since 1970.
    pub fn is_held_since_before(&self, moment: i64) -> bool {
        let status = self.open(OsStr::new(STATUS), OFlag::O_RDONLY, "open");
        status.is_ok_and(|status| is_marked_before(&status, moment).unwrap_or(false))
    }

    /// Whether the table is switched on (`status`). If not, no entry has any effect.
    pub fn enabled(&self) -> Result<bool, TableError> {
        let text = self.read(OsStr::new(STATUS))?;
        Ok(text.starts_with(b"enabled"))
    }

    /// All entries, in the order in which the kernel tries them: the newest first.
    ///
    /// The kernel lists this directory newest first too (`d_alloc` puts a new dentry at the head of its parent's
    /// children). Other processes may change entries between listing and reading; then both are repeated.
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

    /// The entries of these names and inodes that still exist.
    fn read_all(&self, names: &[(OsString, u64)]) -> Result<Vec<Entry>, TableError> {
        let read = |(name, inode): &(OsString, u64)| match self.read(name) {
            Ok(text) => Some(Ok(Entry { registration: *inode, ..Entry::parse(name, &text) })),
            Err(error) if error.errno == Errno::ENOENT => None,
            Err(error) => Some(Err(error)),
        };
        names.iter().filter_map(read).collect()
    }

    /// Hands `rule` to the kernel in one `write(2)`, as `register` demands. Fails when the rule does not fit a line of
    /// `register`, or the kernel refuses it; with what to do.
    pub fn register(&self, rule: &Rule) -> Result<()> {
        let line = rule.encode().map_err(|error| match error {
            RuleError::Length(_) => anyhow!("{error}; set QEMU_BINARY_PATH to a shorter path"),
            error => error.into(),
        })?;
        let name = OsStr::new(REGISTER);
        let written =
            self.open(name, OFlag::O_WRONLY, "open").and_then(|mut file| self.write_to(&mut file, name, &line));
        written.map_err(|refused| anyhow!(not_registered(rule, &refused)))
    }

    pub fn may_change(&self) -> Result<(), TableError> {
        let (name, flags) = (OsStr::new(REGISTER), AtFlags::AT_EACCESS);
        faccessat(&self.dir, name, AccessFlags::W_OK, flags).map_err(|errno| self.error("open", name, errno))
    }

    /// Removes the entry `name`, if it exists.
    pub fn remove(&self, name: &OsStr) -> Result<(), TableError> {
        self.remove_if(name, None).map(drop)
    }

    /// Removes the entry `name` only if it is the registration `only` ([`Entry::registration`]). False: another
    /// registration has the name by now, and stays.
    ///
    /// The entry's file is opened and then compared, so exactly what was compared is removed. Tried twice, because a shortage of
    /// memory may pass.
    pub fn remove_if(&self, name: &OsStr, only: Option<u64>) -> Result<bool, TableError> {
        let remove = || self.unlink(name, only);
        match remove().or_else(|_| remove()) {
            Err(error) if error.errno == Errno::ENOENT => Ok(true),
            other => other.map(|removed| removed.is_some()),
        }
    }

    /// Removes the entry `name` as [`Self::remove_if`] does, and returns its file; `None` if another registration has the name. The
    /// kernel closes the entry's emulator once that file is closed.
    pub fn unlink(&self, name: &OsStr, only: Option<u64>) -> Result<Option<File>, TableError> {
        let mut file = self.open(name, OFlag::O_WRONLY, "open")?;
        let metadata = file.metadata().map_err(|error| self.error("open", name, errno_of(&error)))?;
        if only.is_some_and(|registration| registration != metadata.ino()) {
            return Ok(None);
        }
        self.write_to(&mut file, name, b"-1")?;
        Ok(Some(file))
    }

    /// Waits until no other call has the lock, and takes it. Fails when another call has the lock for [`LOCK_PATIENCE`], this
    /// process is told to end, or the file system has no locks.
    pub fn lock(&self) -> Result<Lock, TableError> {
        let file = match self.open(OsStr::new(REGISTER), OFlag::O_WRONLY, "open") {
            Err(error) if [Errno::EROFS, Errno::EACCES, Errno::EPERM].contains(&error.errno) => {
                return Ok(Lock { _held: None });
            }
            file => Arc::new(file?),
        };
        lock(&file, &self.path.join(REGISTER), LOCK_PATIENCE)
            .map_err(|error| self.error("lock", OsStr::new(REGISTER), errno_of(&error)))?;
        Ok(Lock { _held: Some(file) })
    }

    /// The names and inode numbers of all entries.
    fn names(&self) -> Result<Vec<(OsString, u64)>, TableError> {
        let refused = |errno| self.error("read", OsStr::new("."), errno);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut dir = Dir::openat(&self.dir, ".", flags, Mode::empty()).map_err(refused)?;
        let mut names = Vec::new();
        for item in dir.iter() {
            let item = item.map_err(refused)?;
            let name = item.file_name().to_bytes();
            if item.file_type() != Some(Type::Directory) && name != REGISTER.as_bytes() && name != STATUS.as_bytes() {
                names.push((OsStr::from_bytes(name).to_owned(), item.ino()));
            }
        }
        Ok(names)
    }

    fn read(&self, name: &OsStr) -> Result<Vec<u8>, TableError> {
        let mut file = self.open(name, OFlag::O_RDONLY, "read")?;
        let mut text = Vec::new();
        match file.read_to_end(&mut text) {
            Ok(_) => Ok(text),
            Err(error) => Err(self.error("read", name, errno_of(&error))),
        }
    }

    fn write_to(&self, file: &mut File, name: &OsStr, line: &[u8]) -> Result<(), TableError> {
        match file.write(line) {
            Ok(written) if written == line.len() => Ok(()),
            Ok(_) => Err(self.error("write", name, Errno::EIO)),
            Err(error) => Err(self.error("write", name, errno_of(&error))),
        }
    }

    fn open(&self, name: &OsStr, flags: OFlag, verb: &'static str) -> Result<File, TableError> {
        openat(&self.dir, name, flags | OFlag::O_CLOEXEC, Mode::empty())
            .map(File::from)
            .map_err(|errno| self.error(verb, name, errno))
    }

    /// That something about the file `name` was refused.
    pub fn error(&self, verb: &'static str, name: &OsStr, errno: Errno) -> TableError {
        TableError { verb, path: self.path.join(name), errno }
    }
}

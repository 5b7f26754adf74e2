//! Files that are replaced as a whole, each by a name in an open directory. A symbolic link of that name is not followed; links in
//! the path before it lead to where they do on the host.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};

use super::FileOutcome;
use crate::emulator::identity;
use crate::kernel::root_directory::{self, IN_ROOT};
use crate::kernel::wording::{cause, errno_of};

/// The ending of a file that is being written.
pub(super) const NEW: &str = "binfmt-new";
/// The ending of the former file, until the new one has passed its trial.
pub(super) const FORMER: &str = "binfmt-former";

/// A name in an open directory.
#[derive(Debug)]
pub(crate) struct Spot {
    dir: OwnedFd,
    name: OsString,
}

impl Spot {
    /// The name `name` in `dir`.
    pub(crate) fn new(dir: OwnedFd, name: &OsStr) -> Self {
        let name = name.to_owned();
        Self { dir, name }
    }

    /// `path` on the host whose root directory this thread has.
    ///
    /// # Errors
    /// When its directory is not there.
    pub(super) fn of(path: &Path) -> nix::Result<Self> {
        let (dir, name) = (path.parent(), path.file_name());
        let dir = find(dir.unwrap_or(Path::new("/")), OFlag::O_DIRECTORY)?;
        Ok(Self::new(dir, name.ok_or(Errno::EISDIR)?))
    }

    /// `.NAME.ENDING`: a name that only we use.
    fn beside(&self, ending: &str) -> OsString {
        let mut name = OsString::from(".");
        name.push(&self.name);
        name.push(".");
        name.push(ending);
        name
    }

    /// Opens the regular file of this name for reading. Anything else is `ELOOP`; opening it does not block.
    ///
    /// # Errors
    /// Those of opening it.
    pub(crate) fn open(&self) -> io::Result<File> {
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = File::from(openat(&self.dir, &*self.name, flags, Mode::empty())?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(Errno::ELOOP.into()) }
    }

    /// The file's digest. `None`: there is no file. Anything but a regular file has an empty digest, which matches none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn digest(&self) -> Result<Option<String>> {
        match self.open().and_then(|file| identity::sha256(&file)) {
            Ok(digest) => Ok(Some(digest)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // a socket cannot even be opened
            Err(error) if [Errno::ELOOP, Errno::ENXIO].contains(&errno_of(&error)) => Ok(Some(String::new())),
            Err(error) => Err(anyhow!("it cannot be read: {}", cause(&error))),
        }
    }

    /// Opens the file for writing, or makes one that only its owner can open. Opening it does not block.
    ///
    /// # Errors
    /// Those of opening it.
    pub(super) fn open_or_create(&self) -> nix::Result<File> {
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let flags = flags | OFlag::O_WRONLY | OFlag::O_CREAT;
        let private = Mode::from_bits_truncate(0o600);
        openat(&self.dir, &*self.name, flags, private).map(File::from)
    }

    /// Device and inode of the file.
    ///
    /// # Errors
    /// `ENOENT` if there is none.
    pub(super) fn id(&self) -> nix::Result<(u64, u64)> {
        self.status(&self.name).map(|status| (status.st_dev, status.st_ino))
    }

    fn status(&self, name: &OsStr) -> nix::Result<FileStat> {
        fstatat(&self.dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)
    }

    /// Checks that `bytes` may be written there. `None`: they may; or they are there already.
    ///
    /// # Errors
    /// When a directory has the name, or a file that is not `is_ours`, unless `force`. `option`: the option that would write.
    pub(crate) fn replaceable(
        &self,
        bytes: &[u8],
        option: &str,
        force: bool,
        is_ours: impl Fn(&str) -> bool,
    ) -> Result<Option<FileOutcome>> {
        let Some(there) = self.digest()? else {
            return Ok(None);
        };
        if there == identity::digest(bytes) {
            return Ok(Some(FileOutcome::Unchanged));
        }
        let kind = self.status(&self.name).map(|status| status.st_mode);
        if kind.is_ok_and(|mode| SFlag::from_bits_truncate(mode) & SFlag::S_IFMT == SFlag::S_IFDIR) {
            bail!("there is a directory of that name; remove it");
        }
        if !force && !is_ours(&there) {
            bail!("it exists and was not written by {option}; remove it, or replace it with --force");
        }
        Ok(None)
    }

    /// Replaces the file as a whole, and syncs it to the disk. Until then its name has `ending`.
    ///
    /// # Errors
    /// When it cannot be written; nothing of it is left. If only its directory cannot be synced, it is in place, and a power cut may
    /// undo that.
    pub(crate) fn replace(&self, bytes: &[u8], mode: u32, ending: &str) -> Result<()> {
        let new = Self::new(self.dir.try_clone()?, &self.beside(ending));
        let write = || -> io::Result<()> {
            // left by a killed call
            let _ = new.remove();
            let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
            let private = Mode::from_bits_truncate(0o600);
            let mut file = File::from(openat(&self.dir, &*new.name, flags, private)?);
            file.write_all(bytes)?;
            file.set_permissions(Permissions::from_mode(mode))?;
            file.sync_all()?;
            renameat(&self.dir, &*new.name, &self.dir, &*self.name)?;
            sync_dir(&self.dir)
        };
        write().map_err(|error| {
            // it may not exist
            let _ = new.remove();
            anyhow!("{}", cause(&error))
        })
    }

    /// Removes the file. Directories stay.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub(crate) fn remove(&self) -> nix::Result<()> {
        unlinkat(&self.dir, &*self.name, UnlinkatFlags::NoRemoveDir)
    }

    /// Removes the files that calls left beside it, the former file included.
    pub(super) fn clear(&self) {
        for ending in [NEW, FORMER] {
            self.forget(ending);
        }
    }

    /// Removes the file with this ending, if there is one.
    pub(super) fn forget(&self, ending: &str) {
        let _ = unlinkat(&self.dir, &*self.beside(ending), UnlinkatFlags::NoRemoveDir);
    }

    /// Keeps a link to the file, if there is one, as the former file.
    ///
    /// # Errors
    /// When it cannot be linked.
    pub(super) fn keep_former(&self) -> Result<()> {
        let former = self.beside(FORMER);
        let link = linkat(&self.dir, &*self.name, &self.dir, &*former, AtFlags::empty());
        match link {
            // there is no file; or a killed call has kept the former file, which is the one that passed its trial
            Err(Errno::ENOENT | Errno::EEXIST) => Ok(()),
            kept => kept.map_err(|errno| anyhow!("{}", cause(&errno.into()))),
        }
    }

    /// Restores the former file, and returns whether there was one.
    ///
    /// # Errors
    /// When it cannot be restored.
    pub(super) fn restore_former(&self) -> nix::Result<bool> {
        let former = self.beside(FORMER);
        match renameat(&self.dir, &*former, &self.dir, &*self.name) {
            Ok(()) => {
                // rename(2) does nothing if both are the same file
                self.forget(FORMER);
                Ok(true)
            }
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}

/// Opens `path` of the host whose root directory this thread has.
pub(super) fn find(path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    root_directory::find(AT_FDCWD, path, flags, IN_ROOT)
}

fn sync_dir(dir: &OwnedFd) -> io::Result<()> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    match File::from(openat(dir, ".", flags, Mode::empty())?).sync_all() {
        // this file system does not sync directories (fsync(2))
        Err(error) if errno_of(&error) == Errno::EINVAL => Ok(()),
        synced => synced,
    }
}

/// Makes a directory that only its owner can write to, whatever the umask.
///
/// # Errors
/// When it does not exist and cannot be made.
pub(super) fn make_dir(dir: &Path) -> Result<()> {
    let make = || -> io::Result<()> {
        let spot = Spot::of(dir)?;
        match mkdirat(&spot.dir, &*spot.name, Mode::from_bits_truncate(0o700)) {
            Err(Errno::EEXIST) => return Ok(()),
            made => made?,
        }
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let made = File::from(openat(&spot.dir, &*spot.name, flags, Mode::empty())?);
        made.set_permissions(Permissions::from_mode(0o755))
    };
    make().map_err(|error| anyhow!("{}: {}", dir.display(), cause(&error)))
}

/// Removes a directory if it is empty.
pub(super) fn remove_dir(dir: &Path) {
    let _ = Spot::of(dir).and_then(|spot| unlinkat(&spot.dir, &*spot.name, UnlinkatFlags::RemoveDir));
}

/// The digest of the file at `path` of the host, as [`Spot::digest`] returns it.
///
/// # Errors
/// When it cannot be read.
pub(super) fn digest_of(path: &Path) -> Result<Option<String>> {
    match Spot::of(path) {
        Ok(spot) => spot.digest(),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(anyhow!("it cannot be read: {}", cause(&errno.into()))),
    }
}

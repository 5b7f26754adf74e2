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
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::{AccessFlags, UnlinkatFlags, faccessat, unlinkat};

use super::FileOutcome;
use crate::emulator::{Privilege, identity};
use crate::kernel::file_system::within_limit;
use crate::kernel::root_directory::{self, IN_ROOT};
use crate::kernel::wording::{cause, errno_of};

/// The ending of a file that is being written, or tried.
pub(super) const NEW: &str = "binfmt-new";

/// The file of this name in an open directory (`openat(2)`), if there is one.
#[derive(Debug)]
pub struct FileAt {
    dir: OwnedFd,
    name: OsString,
}

impl FileAt {
    pub fn new(dir: OwnedFd, name: &OsStr) -> Self {
        Self { dir, name: name.to_owned() }
    }

    /// `path` on the host whose root directory this thread has.
    pub(super) fn of(path: &Path) -> nix::Result<Self> {
        let (dir, name) = (path.parent(), path.file_name());
        let dir = find(dir.unwrap_or(Path::new("/")), OFlag::O_DIRECTORY)?;
        Ok(Self::new(dir, name.ok_or(Errno::EISDIR)?))
    }

    /// The same, with an error for people.
    pub(super) fn to_write(path: &Path) -> Result<Self> {
        Self::of(path).map_err(|errno| anyhow!(unreachable(path, errno)))
    }

    /// Opens the regular file of this name for reading. Anything else is `ELOOP`; opening it does not block.
    pub fn open(&self) -> io::Result<File> {
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = File::from(openat(&self.dir, &*self.name, flags, Mode::empty())?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(Errno::ELOOP.into()) }
    }

    /// The file's digest. `None`: there is no file. What is not a regular file, or is too large, has an empty
    /// digest, which matches none.
    pub fn digest(&self) -> Result<Option<String>> {
        match self.open().and_then(|file| identity::sha256(&file)) {
            Ok(digest) => Ok(Some(digest)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // it is larger than any of ours
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Ok(Some(String::new())),
            // a socket cannot even be opened
            Err(error) if [Errno::ELOOP, Errno::ENXIO].contains(&errno_of(&error)) => Ok(Some(String::new())),
            Err(error) => Err(anyhow!("it cannot be read: {}", cause(&error))),
        }
    }

    /// Opens the file for writing, or makes one that only its owner can open. Opening it does not block.
    pub(super) fn open_or_create(&self) -> nix::Result<File> {
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let flags = flags | OFlag::O_WRONLY | OFlag::O_CREAT;
        let private = Mode::from_bits_truncate(0o600);
        openat(&self.dir, &*self.name, flags, private).map(File::from)
    }

    /// Fails if no file could be written or removed there, as on a file system that is mounted read-only.
    pub(super) fn check_writable(&self) -> nix::Result<()> {
        faccessat(&self.dir, ".", AccessFlags::W_OK, AtFlags::AT_EACCESS)
    }

    /// Device and inode of the file. `ENOENT` if there is none.
    pub(super) fn id(&self) -> nix::Result<(u64, u64)> {
        self.status(&self.name).map(|status| (status.st_dev, status.st_ino))
    }

    fn status(&self, name: &OsStr) -> nix::Result<FileStat> {
        fstatat(&self.dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)
    }

    /// What writing `bytes` there comes to. Fails when a directory has the name, or a file that is not `is_ours`, unless
    /// `force`. `option`: the option that would write.
    pub fn replaceable(
        &self,
        bytes: &[u8],
        option: &str,
        force: bool,
        is_ours: impl Fn(&str) -> bool,
    ) -> Result<FileOutcome> {
        let Some(there) = self.digest()? else {
            return Ok(FileOutcome::Written);
        };
        if there == identity::digest(bytes) {
            // an emulator that has become setuid is replaced
            let gives = self.open().and_then(|file| Privilege::of(&file));
            return Ok(if matches!(gives, Ok(None)) { FileOutcome::Unchanged } else { FileOutcome::Written });
        }
        let kind = self.status(&self.name).map(|status| status.st_mode);
        if kind.is_ok_and(|mode| SFlag::from_bits_truncate(mode) & SFlag::S_IFMT == SFlag::S_IFDIR) {
            bail!("there is a directory of that name; remove it");
        }
        if !force && !is_ours(&there) {
            bail!("it exists and was not written by {option}; remove it, or replace it with --force");
        }
        Ok(FileOutcome::Written)
    }

    /// Replaces the file as a whole, and syncs it to the disk. Until then its name has `ending`. If it cannot be
    /// written, nothing of it is left; if only its directory cannot be synced, it is in place, and a power cut may undo
    /// that.
    pub fn replace(&self, bytes: &[u8], mode: u32, ending: &str) -> Result<()> {
        self.write_beside(bytes, mode, ending)?;
        self.put_in_place(ending)
    }

    /// Writes a file beside this one, whose name has `ending`, and syncs it to the disk.
    pub(super) fn write_beside(&self, bytes: &[u8], mode: u32, ending: &str) -> Result<()> {
        let new = beside(&self.name, ending);
        let write = || -> io::Result<()> {
            // left by a killed call
            self.clear(ending);
            let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
            let private = Mode::from_bits_truncate(0o600);
            let mut file = File::from(openat(&self.dir, &*new, flags, private)?);
            file.write_all(bytes)?;
            file.set_permissions(Permissions::from_mode(mode))?;
            file.sync_all()
        };
        write().map_err(|error| self.not_written(ending, &error))
    }

    /// Renames the file beside this one over it.
    pub(super) fn put_in_place(&self, ending: &str) -> Result<()> {
        let renamed = renameat(&self.dir, &*beside(&self.name, ending), &self.dir, &*self.name);
        renamed.map_err(io::Error::from).and_then(|()| sync_dir(&self.dir)).map_err(|e| self.not_written(ending, &e))
    }

    fn not_written(&self, ending: &str, error: &io::Error) -> anyhow::Error {
        self.clear(ending);
        anyhow!("{}", cause(error))
    }

    /// Removes the file. Directories stay.
    pub fn remove(&self) -> nix::Result<()> {
        unlinkat(&self.dir, &*self.name, UnlinkatFlags::NoRemoveDir)
    }

    /// Removes the file beside it whose name has `ending`, if there is one.
    pub(super) fn clear(&self, ending: &str) {
        let _ = unlinkat(&self.dir, &*beside(&self.name, ending), UnlinkatFlags::NoRemoveDir);
    }
}

/// Why `path` of the host cannot be reached, and what to do.
pub(super) fn unreachable(path: &Path, errno: Errno) -> String {
    let cause = cause(&errno.into());
    let is_file = |dir: &&Path| find(dir, OFlag::O_DIRECTORY).is_err_and(|errno| errno == Errno::ENOTDIR);
    match path.ancestors().skip(1).filter(is_file).last() {
        Some(file) => format!("{cause}: {} of that host; put a directory in its place", file.display()),
        None => cause,
    }
}

/// `.NAME.ENDING`: a name that only we use.
pub(super) fn beside(name: &OsStr, ending: &str) -> OsString {
    [OsStr::new("."), name, OsStr::new("."), OsStr::new(ending)].into_iter().collect()
}

/// Fails if no file could be written to the folder of `path` or, of an emulator, none be started there. A folder that does not exist
/// yet is judged by the one that it would be made in.
pub(super) fn check_place(path: &Path, is_emulator: bool) -> Result<()> {
    let mut targets = path.ancestors().filter_map(|path| FileAt::of(path).ok());
    let target = targets.next().ok_or(Errno::ENOENT)?;
    target.check_writable().map_err(|errno| anyhow!("{}", cause(&errno.into())))?;
    if is_emulator && fstatvfs(&target.dir)?.flags().contains(FsFlags::ST_NOEXEC) {
        bail!("no emulator can be started there, since its file system is mounted noexec; remount it with exec");
    }
    Ok(())
}

/// Opens `path` of the host whose root directory this thread has.
pub(super) fn find(path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    within_limit(path, || root_directory::find(AT_FDCWD, path, flags, IN_ROOT))
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
pub(super) fn make_dir(dir: &Path) -> Result<()> {
    let make = || -> io::Result<()> {
        let target = FileAt::of(dir)?;
        match mkdirat(&target.dir, &*target.name, Mode::from_bits_truncate(0o700)) {
            Err(Errno::EEXIST) => return Ok(()),
            made => made?,
        }
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        File::from(openat(&target.dir, &*target.name, flags, Mode::empty())?)
            .set_permissions(Permissions::from_mode(0o755))
    };
    make().map_err(|error| anyhow!("{}: {}", dir.display(), unreachable(dir, errno_of(&error))))
}

pub(super) fn remove_dir(dir: &Path) {
    let _ = FileAt::of(dir).and_then(|target| unlinkat(&target.dir, &*target.name, UnlinkatFlags::RemoveDir));
}

/// The digest of the file at `path` of the host, as [`FileAt::digest`] returns it.
pub(super) fn digest_of(path: &Path) -> Result<Option<String>> {
    match FileAt::of(path) {
        Ok(target) => target.digest(),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(anyhow!("it cannot be read: {}", unreachable(path, errno))),
    }
}

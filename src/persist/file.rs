//! Files of a host whose root directory the thread has: read without following a link at their end, and put into place as a whole.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::identity;
use crate::wording::{cause, errno_of};

/// What is being written.
pub(super) const NEW: &str = "binfmt-new";
/// What was there before, until what took its place has passed its trial.
pub(super) const FORMER: &str = "binfmt-former";

/// `/etc/.NAME.ENDING` of `/etc/NAME`: names that nobody else has.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".");
    name.push(ending);
    path.with_file_name(name)
}

/// A regular file, to be read. Anything else is `ELOOP`, and not waited for.
///
/// # Errors
/// Those of opening it.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = options.read(true).custom_flags(flags.bits()).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(Errno::ELOOP.into())
    }
}

/// What is at `path`. `None`: nothing; what is no regular file has an empty digest, which is nobody's.
///
/// # Errors
/// When it cannot be read.
pub(super) fn digest_of(path: &Path) -> Result<Option<String>> {
    let digest = open(path).and_then(|file| identity::sha256(&file));
    match digest {
        Ok(digest) => Ok(Some(digest)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if errno_of(&error) == Errno::ELOOP => Ok(Some(String::new())),
        Err(error) => Err(anyhow!("it cannot be read: {}", cause(&error))),
    }
}

/// Puts a file in its place as a whole, on the disk, whatever the umask.
///
/// # Errors
/// When it cannot be written. Then nothing of it is left, unless only its directory could not be brought to the disk: then it is
/// in its place, and a power cut may undo that.
pub(super) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let new = beside(path, NEW);
    let write = || -> io::Result<()> {
        // what a call that was killed left
        let _ = fs::remove_file(&new);
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(bytes)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        sync_dir(path.parent().unwrap_or(Path::new("/")))
    };
    write().map_err(|error| {
        // it may not even have been made
        let _ = fs::remove_file(&new);
        anyhow!("{}", cause(&error))
    })
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    match File::open(dir)?.sync_all() {
        // a file system that does not do that for directories (fsync(2)): there is no more to be had
        Err(error) if errno_of(&error) == Errno::EINVAL => Ok(()),
        synced => synced,
    }
}

/// Makes a directory that nobody but its owner writes to, whatever the umask.
///
/// # Errors
/// When it cannot be made. One that is there is fine.
pub(super) fn make_dir(dir: &Path) -> Result<()> {
    let make = || {
        match fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            made => made?,
        }
        fs::set_permissions(dir, Permissions::from_mode(0o755))
    };
    make().map_err(|error| anyhow!("{}: {}", dir.display(), cause(&error)))
}

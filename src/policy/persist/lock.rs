//! The lock that lets one call at a time write to a host, on a file that only root can open.
//!
//! The file exists only while a call runs, so a lock counts only if the file is still at its path.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Error, Result, anyhow};
use nix::errno::Errno;

use super::file::FileAt;
use crate::kernel::lock::lock;
use crate::kernel::namespace::with_root_directory;
use crate::kernel::wording::{cause, errno_of};

/// Its directory is one that no call makes or removes, like that of `/etc/.pwd.lock`.
const PATH: &str = "/etc/.binfmt-persist.lock";
/// How long to wait for another call on the same host.
const PATIENCE: Duration = Duration::from_secs(60);

/// A host's root directory, locked while this exists.
#[derive(Debug)]
pub(super) struct Locked {
    pub(super) root: File,
    /// `None` in a dry run, which writes nothing.
    held: Option<Arc<File>>,
}

impl Locked {
    /// Waits until no other call writes to the host whose root directory is `root`; `dir` is its name in messages.
    pub(super) fn new(root: File, dir: &Path) -> Result<Self> {
        let held = wait(&root, dir).map_err(|error| refused(dir, &error))?;
        Ok(Self { root, held: Some(held) })
    }

    /// Not locked, for a dry run. Fails when something else has the lock's place, or no file can be made there.
    pub(super) fn dry(root: File, dir: &Path) -> Result<Self> {
        let looked = with_root_directory(&root, || {
            let target = lock_file()?;
            match target.open() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                there => drop(there?),
            }
            Ok(target.check_writable()?)
        });
        looked.map_err(Into::into).and_then(|looked| looked).map_err(|error| refused(dir, &error))?;
        Ok(Self { root, held: None })
    }

    pub(super) fn is_dry(&self) -> bool {
        self.held.is_none()
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        if self.is_dry() {
            return;
        }
        // the lock is still held: a waiting call finds the file gone, and makes another
        let _ = with_root_directory(&self.root, || lock_file()?.remove());
    }
}

fn refused(dir: &Path, error: &io::Error) -> Error {
    let (dir, cause) = (dir.display(), cause(error));
    match errno_of(error) {
        Errno::EWOULDBLOCK | Errno::EINTR => {
            anyhow!("{dir} is locked by another call that writes there: {cause}; try again")
        }
        Errno::ELOOP | Errno::ENOTSUP | Errno::ENXIO | Errno::EISDIR => {
            anyhow!("{dir}{PATH} cannot be locked, since it is not a file; remove it")
        }
        _ => anyhow!("{PATH} of {dir} cannot be locked: {cause}; is {dir} the host's root directory, and writable?"),
    }
}

fn wait(root: &File, dir: &Path) -> io::Result<Arc<File>> {
    let shown = dir.join(PATH.trim_start_matches('/'));
    loop {
        let file = Arc::new(with_root_directory(root, open)??);
        // outside of that root directory, which may have no /proc
        lock(&file, &shown, PATIENCE)?;
        // otherwise the call that had the lock has removed the file
        if with_root_directory(root, || is_at_its_path(&file))?? {
            return Ok(file);
        }
    }
}

fn lock_file() -> nix::Result<FileAt> {
    FileAt::of(Path::new(PATH))
}

fn open() -> io::Result<File> {
    let file = lock_file()?.open_or_create()?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(Errno::ENOTSUP.into()) }
}

fn is_at_its_path(file: &File) -> io::Result<bool> {
    let own = file.metadata()?;
    match lock_file()?.id() {
        Ok(there) => Ok(there == (own.dev(), own.ino())),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

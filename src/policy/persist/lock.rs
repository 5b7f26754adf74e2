//! The lock that lets one call at a time write to a host, on a file that only root can open.
//!
//! The file exists only while a call runs, so a lock counts only if the file is still at its path.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, anyhow};
use nix::errno::Errno;

use super::file::Spot;
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
    _held: File,
}

impl Locked {
    /// Waits until no other call writes to the host whose root directory is `root`; `dir` is its name in messages.
    pub(super) fn new(root: File, dir: &Path) -> Result<Self> {
        let held = wait(&root, dir).map_err(|error| {
            let (dir, cause) = (dir.display(), cause(&error));
            match errno_of(&error) {
                Errno::EWOULDBLOCK | Errno::EINTR => {
                    anyhow!("{dir} is locked by another call that writes there: {cause}; try again")
                }
                Errno::ELOOP | Errno::ENOTSUP | Errno::ENXIO => {
                    anyhow!("{dir}{PATH} cannot be locked, since it is not a file; remove it")
                }
                _ => anyhow!(
                    "{PATH} of {dir} cannot be locked: {cause}; is {dir} the host's root directory, and writable?"
                ),
            }
        })?;
        Ok(Self { root, _held: held })
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // the lock is still held: a waiting call finds the file gone, and makes another
        let _ = with_root_directory(&self.root, || spot()?.remove());
    }
}

fn wait(root: &File, dir: &Path) -> io::Result<File> {
    let shown = dir.join(PATH.trim_start_matches('/'));
    loop {
        let file = with_root_directory(root, open)??;
        // outside of that root directory, which may have no /proc
        lock(&file, &shown, PATIENCE)?;
        // otherwise the call that had the lock has removed the file
        if with_root_directory(root, || is_at_its_path(&file))?? {
            return Ok(file);
        }
    }
}

fn spot() -> nix::Result<Spot> {
    Spot::of(Path::new(PATH))
}

fn open() -> io::Result<File> {
    let file = spot()?.open_or_create()?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(Errno::ENOTSUP.into()) }
}

fn is_at_its_path(file: &File) -> io::Result<bool> {
    let own = file.metadata()?;
    match spot()?.id() {
        Ok(there) => Ok(there == (own.dev(), own.ino())),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

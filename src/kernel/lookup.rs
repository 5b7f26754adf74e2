//! Looking paths up in a directory that somebody else has filled, so that none of its symbolic links leads out of it.
//!
//! Owns the one call of `openat2(2)` (Linux 5.6), and which of its promises are asked for. Nothing here opens a file for
//! reading or writing, so no device or pipe is touched.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

/// Symbolic links lead to where they do in that directory as root directory; those of `/proc`, which lead anywhere, nowhere.
pub const IN_ROOT: ResolveFlag = ResolveFlag::RESOLVE_IN_ROOT.union(ResolveFlag::RESOLVE_NO_MAGICLINKS);
/// No symbolic link is followed at all.
pub const NO_LINKS: ResolveFlag = ResolveFlag::RESOLVE_BENEATH.union(ResolveFlag::RESOLVE_NO_SYMLINKS);

/// How often a look-up is repeated that the kernel gives up because something was renamed or mounted meanwhile.
const TRIES: usize = 1000;

/// What is at `path` of `root`, with `O_PATH` and `flags`.
///
/// # Errors
/// Those of `openat2(2)`: `ENOSYS` or `EPERM` where it cannot be called.
pub fn find(root: impl AsFd, path: &Path, flags: OFlag, resolve: ResolveFlag) -> nix::Result<OwnedFd> {
    let flags = flags | OFlag::O_PATH | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags).resolve(resolve);
    let mut tries = (0..TRIES).map(|_| openat2(root.as_fd(), path, how));
    tries.find(|found| !matches!(found, Err(Errno::EAGAIN))).unwrap_or(Err(Errno::EAGAIN))
}

//! The lock that keeps other calls out while one changes something.
//!
//! It is a write lock of an open file description (`F_OFD_SETLK`, `fcntl_locking(2)`), which requires a descriptor that
//! is open for writing. `flock(2)` does not: every user who can read the file, even on a read-only mount, could keep
//! all calls out. The lock ends with its process. A user who can only read the file may take a read lock, and keep
//! writers out. No call takes a read lock, so one belongs to a stranger, and is not waited for.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{self, c_short};
use nix::sys::stat::{major, minor};

use crate::kernel::process;
use crate::kernel::wait::{self, Wait};

/// How often a lock is tried.
const PAUSE: Duration = Duration::from_millis(5);

/// Tries to lock `file`, which is open for writing, for as long as it is open. False: another process has the lock.
/// Errors: those of `fcntl(2)`: `ENOLCK` where the file system has no locks.
fn try_lock(file: &File) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&of_all(libc::F_WRLCK))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Waits until `file`, which is open for writing, is locked. If a stranger's read lock keeps all calls out, goes on
/// without the lock, and says so. `path` is the file's name in messages. Errors: `EWOULDBLOCK` when another call still
/// has it after `patience`, `EINTR` when this process is told to end; or those of [`try_lock`].
pub fn lock(file: &File, path: &Path, patience: Duration) -> io::Result<()> {
    let mut wait = Wait::at_most(patience);
    while !try_lock(file)? {
        if wait.is_long() && is_read_locked(file)? {
            let who = holder(file, "READ").unwrap_or_else(|| "a process that cannot be seen from here".to_owned());
            wait::say(&format!(
                "going on without the lock on {}: {who} keeps it locked and may only read it",
                path.display()
            ));
            return Ok(());
        }
        let awaited = || {
            let who =
                holder(file, "WRITE").unwrap_or_else(|| "another call, which cannot be seen from here,".to_owned());
            format!("{who} to unlock {}", path.display())
        };
        if !wait.goes_on(None, PAUSE, awaited)? {
            return Err(if wait::is_told_to_end() { Errno::EINTR } else { Errno::EWOULDBLOCK }.into());
        }
    }
    Ok(())
}

#[expect(clippy::cast_possible_truncation, reason = "the numbers are 0 to 2")]
fn of_all(kind: libc::c_int) -> libc::flock {
    libc::flock { l_type: kind as c_short, l_whence: libc::SEEK_SET as c_short, l_start: 0, l_len: 0, l_pid: 0 }
}

fn is_read_locked(file: &File) -> io::Result<bool> {
    let mut found = of_all(libc::F_WRLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut found))?;
    Ok(libc::c_int::from(found.l_type) == libc::F_RDLCK)
}

/// The process that has a lock of this kind, as far as it can be seen (`proc_pid_fdinfo(5)`).
fn holder(file: &File, kind: &str) -> Option<String> {
    let file = file.metadata().ok()?;
    let (major, minor, inode) = (major(file.dev()), minor(file.dev()), file.ino());
    let id = format!(" {major:02x}:{minor:02x}:{inode} ");
    let has_it =
        |line: &str| line.starts_with("lock:") && !line.contains("FLOCK") && line.contains(kind) && line.contains(&id);
    process::find(|process| {
        let mut open = fs::read_dir(process.join("fdinfo")).into_iter().flatten().flatten();
        open.any(|open| fs::read_to_string(open.path()).is_ok_and(|text| text.lines().any(has_it)))
    })
}

//! The lock that keeps other calls out while one changes something.
//!
//! It is a write lock of an open file description (`F_OFD_SETLK`, `fcntl_locking(2)`), which requires a descriptor that
//! is open for writing. `flock(2)` does not: every user who can read the file, even on a read-only mount, could keep
//! all calls out. The lock ends with its process. A user who can only read the file may take a read lock, and keep
//! writers out. No call takes a read lock of this file, so one belongs to a stranger, and is not waited for.
//!
//! A call that stays (`--hold`) takes a read lock of another file, by which other calls, also those of other containers, know of
//! it: of the byte whose number is the time at which it began, in seconds since 1970.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{self, c_short};
use nix::sys::stat::{major, minor};

use crate::kernel::process;
use crate::kernel::wait::{self, Wait};

/// How often a lock is tried.
const PAUSE: Duration = Duration::from_millis(5);

/// The files that this process has locked.
static LOCKED: Mutex<Vec<Weak<File>>> = Mutex::new(Vec::new());

/// Unlocks all that this process has locked. A process that ends while it waits for a file server stays until that answers, and
/// other calls must not wait with it.
pub fn unlock_all() {
    for file in LOCKED.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        if let Some(file) = file.upgrade() {
            // the process ends in any case
            let _ = fcntl(&*file, FcntlArg::F_OFD_SETLK(&of_all(libc::F_UNLCK)));
        }
    }
}

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
pub fn lock(file: &Arc<File>, path: &Path, patience: Duration) -> io::Result<()> {
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
    LOCKED.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(file));
    Ok(())
}

#[expect(clippy::cast_possible_truncation, reason = "the numbers are 0 to 2")]
fn of_all(kind: libc::c_int) -> libc::flock {
    libc::flock { l_type: kind as c_short, l_whence: libc::SEEK_SET as c_short, l_start: 0, l_len: 0, l_pid: 0 }
}

/// Marks `file` for as long as it is open with the moment at which this process began to hold it.
pub fn mark(file: &File, began: i64) -> io::Result<()> {
    let byte = libc::flock { l_start: began, l_len: 1, ..of_all(libc::F_RDLCK) };
    fcntl(file, FcntlArg::F_OFD_SETLK(&byte))?;
    Ok(())
}

/// Whether a process has [`mark`]ed `file` with an earlier moment than this, and still holds it.
pub fn is_marked_before(file: &File, moment: i64) -> io::Result<bool> {
    is_read_locked_in(file, libc::flock { l_len: moment.max(1), ..of_all(libc::F_WRLCK) })
}

fn is_read_locked(file: &File) -> io::Result<bool> {
    is_read_locked_in(file, of_all(libc::F_WRLCK))
}

fn is_read_locked_in(file: &File, mut found: libc::flock) -> io::Result<bool> {
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
    // both kinds need a mode of the descriptor
    let mode = if kind == "READ" { 0o400 } else { 0o200 };
    process::find_by_descriptor(|_, info, link| link.mode() & mode != 0 && info.lines().any(has_it))
}

#[cfg(test)]
mod tests {
    use nix::fcntl::{Flock, FlockArg};

    use super::*;

    /// The locks of any process are found in the same way, and those of this one are seen whoever runs the tests.
    #[test]
    fn the_process_that_has_a_lock_is_found_and_none_that_only_has_the_file_open() {
        let path = std::env::temp_dir().join(format!("binfmt-test-lock-{}", std::process::id()));
        let open = || File::options().read(true).write(true).create(true).truncate(false).open(&path).unwrap();
        let (waiting, has) = (open(), open());
        let own = format!("process {} (", std::process::id());
        let found = |file: &File, kind| holder(file, kind).is_some_and(|found| found.starts_with(&own));
        assert!(!found(&waiting, "WRITE") && !found(&waiting, "READ"));
        fcntl(&has, FcntlArg::F_OFD_SETLK(&of_all(libc::F_RDLCK))).unwrap();
        assert!(found(&waiting, "READ") && !found(&waiting, "WRITE"));
        assert!(try_lock(&has).unwrap());
        assert!(found(&waiting, "WRITE") && !found(&waiting, "READ"));
        // that of flock(2) keeps nobody out
        drop(has);
        let flocked = Flock::lock(open(), FlockArg::LockExclusiveNonblock).unwrap();
        assert!(!found(&waiting, "WRITE"));
        drop(flocked);
        std::fs::remove_file(path).unwrap();
    }
}

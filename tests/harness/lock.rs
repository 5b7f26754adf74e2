//! Locks as a call of the tool takes them (`F_OFD_SETLK`), held by the test: each until its file is dropped.

use std::fs::{File, OpenOptions};
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{self, c_int, c_short};

/// Waits for what another call would wait for.
#[track_caller]
pub(crate) fn of_call(path: &Path) -> File {
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false);
    lock(options.open(path).expect("a file to lock"), libc::F_WRLCK)
}

/// All that somebody can lock who may only read the file.
#[track_caller]
pub(crate) fn of_reader(path: &Path) -> File {
    lock(File::open(path).expect("a file to read"), libc::F_RDLCK)
}

#[track_caller]
fn lock(file: File, kind: c_int) -> File {
    let all = libc::flock {
        l_type: c_short::try_from(kind).expect("a kind of lock"),
        l_whence: 0,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_OFD_SETLKW(&all)).expect("a lock");
    file
}

/// The first byte of the file that another process keeps others from writing to.
#[track_caller]
pub(crate) fn first_read_locked(path: &Path) -> Option<i64> {
    let mut found = libc::flock {
        l_type: c_short::try_from(libc::F_WRLCK).expect("a kind of lock"),
        l_whence: 0,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(File::open(path).expect("a file to read"), FcntlArg::F_OFD_GETLK(&mut found)).expect("an answer");
    (c_int::from(found.l_type) == libc::F_RDLCK).then_some(found.l_start)
}

//! What is mounted, and where: `/proc/PID/mountinfo` (`proc_pid_mountinfo(5)`).

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, makedev};
use procfs::process::{MountInfo, MountInfos, Process};
use procfs::{FromBufRead, ProcResult};

/// The mounts of this process's mount namespace below its root directory, in the order in which they were made. Fails where
/// `/proc` cannot be read.
pub fn mounts() -> io::Result<Vec<MountInfo>> {
    mounts_of(Process::myself())
}

/// The same by an open `/proc`. What is at that path now may be somebody else's.
pub fn mounts_by(proc: &OwnedFd) -> io::Result<Vec<MountInfo>> {
    let file = openat(proc, "self/mountinfo", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mounts = MountInfos::from_buf_read(BufReader::new(File::from(file))).map_err(io::Error::other)?;
    Ok(mounts.0)
}

/// The same of another process, or of a thread.
pub(super) fn mounts_of(process: ProcResult<Process>) -> io::Result<Vec<MountInfo>> {
    let mounts = process.and_then(|process| process.mountinfo()).map_err(io::Error::other)?;
    Ok(mounts.0)
}

/// How the types of file systems begin whose files another process or machine serves.
const SERVED: [&str; 11] =
    ["9p", "afs", "beegfs", "ceph", "cifs", "fuse", "lustre", "nfs", "orangefs", "smb", "virtiofs"];

/// Whether one of the mounts may have a file server. Also where `/proc` cannot be read.
pub fn has_file_servers() -> bool {
    // by the text: a call that does next to nothing has no time for more
    let Ok(text) = fs::read_to_string("/proc/self/mountinfo") else { return true };
    let types = text.lines().filter_map(|mount| mount.split_once(" - ")?.1.split(' ').next());
    // those are the kernel's own, by which servers are controlled
    let mut types = types.filter(|kind| !["fusectl", "nfsd"].contains(kind));
    types.any(|kind| SERVED.iter().any(|served| kind.starts_with(served)))
}

/// Where it is mounted. In the file, some bytes of the path are octal numbers (`mangle_path` in the kernel's `fs/seq_file.c`), and
/// procfs leaves them so.
pub fn mount_point(mount: &MountInfo) -> PathBuf {
    let mut parts = mount.mount_point.as_os_str().as_bytes().split(|byte| *byte == b'\\');
    let mut bytes = parts.next().unwrap_or_default().to_vec();
    for part in parts {
        let (number, rest) = part.split_at(part.len().min(3));
        bytes.push(number.iter().fold(0, |byte: u8, digit| byte << 3 | digit & 7));
        bytes.extend(rest);
    }
    OsString::from_vec(bytes).into()
}

/// The device number of its file system, as `stat(2)` has it.
pub fn device(mount: &MountInfo) -> Option<u64> {
    let (major, minor) = mount.majmin.split_once(':')?;
    Some(makedev(major.parse().ok()?, minor.parse().ok()?))
}

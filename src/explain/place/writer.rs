//! Who has a file open for writing: the kernel does not start such a file (`ETXTBSY`), and does not say who it is.
//!
//! That it is so the kernel tells since Linux 6.14, to `execveat(2)` with `AT_EXECVE_CHECK`; who it is only proc(5), by
//! `/proc/PID/fd` and `flags` in `/proc/PID/fdinfo`. What other users' processes do is seen there by root only.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::unistd::execveat;

use crate::kernel::wording::printable;

/// `AT_EXECVE_CHECK` in the kernel's `include/uapi/linux/fcntl.h`: all that is checked is checked, and nothing is started.
const CHECK: i32 = 0x1_0000;

/// Who has `file` open for writing, if anybody has: `process 123 (cp)`.
///
/// # Errors
/// When the file cannot be looked at.
pub(super) fn of(file: &File) -> io::Result<Option<String>> {
    let metadata = file.metadata()?;
    Ok(match check(file) {
        Some(Errno::UnknownErrno) => None,
        Some(Errno::ETXTBSY) => {
            let unknown = "a process that this user may not look into";
            Some(first(&metadata).unwrap_or_else(|| unknown.to_owned()))
        }
        // before Linux 6.14, or something else is in the way: nobody says but the processes
        _ => first(&metadata),
    })
}

/// What the kernel says to starting it; `UnknownErrno`, whose number is zero: nothing. A kernel that does not know the
/// flag refuses the call (`EINVAL`), as each has done since there is `execveat`.
fn check(file: &File) -> Option<Errno> {
    let flags = AtFlags::AT_EMPTY_PATH | AtFlags::from_bits_retain(CHECK);
    // the call returns where it is not meant to, and leaves the last errno alone
    Errno::UnknownErrno.set();
    execveat(file, c"", &[c""], &[c""; 0], flags).err()
}

/// The first process that is seen to have it open so.
fn first(file: &Metadata) -> Option<String> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let numbers = processes.filter_map(|item| item.file_name().to_str()?.parse::<u32>().ok());
    let mut writers = numbers.filter(|pid| writes(*pid, file));
    let pid = writers.next()?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("process {pid} ({})", printable(name.trim_end())))
}

fn writes(pid: u32, file: &Metadata) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    let same = |path: &Path| {
        let other = fs::metadata(path);
        other.is_ok_and(|other| (other.dev(), other.ino()) == (file.dev(), file.ino()))
    };
    // what fdinfo says first: asking a file itself can wait for a dead server
    let mut open = descriptors.flatten().filter(|item| {
        let info = Path::new(&format!("/proc/{pid}/fdinfo")).join(item.file_name());
        let info = fs::read_to_string(info);
        info.is_ok_and(|info| is_for_writing(&info, file.ino()))
    });
    open.any(|item| same(&item.path()))
}

/// Whether a descriptor is for writing, and perhaps that of this inode; before Linux 5.14 its inode is not told.
fn is_for_writing(info: &str, inode: u64) -> bool {
    let value = |key| {
        info.lines()
            .find_map(|line| line.strip_prefix(key))
            .map(str::trim)
    };
    if value("ino:").is_some_and(|ino| ino != inode.to_string()) {
        return false;
    }
    let flags = value("flags:").and_then(|octal| i32::from_str_radix(octal, 8).ok());
    flags.map(OFlag::from_bits_retain).is_some_and(|flags| {
        let mode = flags & OFlag::O_ACCMODE;
        !flags.contains(OFlag::O_PATH) && (mode == OFlag::O_WRONLY || mode == OFlag::O_RDWR)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_of_a_descriptor_are_octal() {
        for (flags, expected) in [
            ("0100000", false),
            ("0100001", true),
            ("0100002", true),
            ("02100001", true),
            ("012100001", false),
            ("", false),
        ] {
            let info = format!("pos:\t0\nflags:\t{flags}\nmnt_id:\t21\n");
            assert_eq!(is_for_writing(&info, 7), expected, "{flags}");
            let info = info + "ino:\t7\n";
            assert_eq!(is_for_writing(&info, 7), expected, "{flags}");
            assert!(!is_for_writing(&info, 77), "{flags}");
        }
    }
}

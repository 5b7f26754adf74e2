//! Who has a file open for writing: the kernel does not start such a file (`ETXTBSY`), and does not say who it is.
//!
//! Rests on proc(5): `/proc/PID/fd` and `flags` in `/proc/PID/fdinfo`. What other users' processes do is seen by root only.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::OFlag;

use crate::wording::printable;

/// The first process that has `file` open for writing: `process 123 (cp)`.
pub(super) fn of(file: &Metadata) -> Option<String> {
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

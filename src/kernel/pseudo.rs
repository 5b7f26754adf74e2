//! The file systems whose files the kernel makes up as they are read.
//!
//! None of these files is a program, and a read may change the machine: one of `/proc/kmsg` takes the messages out of it
//! (`proc_kmsg(5)`). Rests on `fstatfs(2)` and the numbers of `include/uapi/linux/magic.h`.

use std::os::fd::AsFd;

use nix::sys::statfs::{
    BPF_FS_MAGIC, CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, DEBUGFS_MAGIC, FsType, PROC_SUPER_MAGIC, SECURITYFS_MAGIC,
    SELINUX_MAGIC, SYSFS_MAGIC, TRACEFS_MAGIC, fstatfs,
};

use super::mount::BINFMTFS_MAGIC;

const FILE_SYSTEMS: [(FsType, &str); 10] = [
    (PROC_SUPER_MAGIC, "procfs"),
    (SYSFS_MAGIC, "sysfs"),
    (CGROUP_SUPER_MAGIC, "cgroup"),
    (CGROUP2_SUPER_MAGIC, "cgroup2"),
    (DEBUGFS_MAGIC, "debugfs"),
    (TRACEFS_MAGIC, "tracefs"),
    (SECURITYFS_MAGIC, "securityfs"),
    (SELINUX_MAGIC, "selinuxfs"),
    (BPF_FS_MAGIC, "bpf"),
    (BINFMTFS_MAGIC, "binfmt_misc"),
];

/// The name of the file system of such a `file`, which may be open by its name alone (`O_PATH`). `None`: it is an ordinary file, or
/// its file system cannot be seen.
pub fn file_system(file: impl AsFd) -> Option<&'static str> {
    let found = fstatfs(&file).ok()?.filesystem_type();
    FILE_SYSTEMS.iter().find_map(|(kind, name)| (*kind == found).then_some(*name))
}

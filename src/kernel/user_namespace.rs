//! Entering a user namespace, and which user this process is in there.
//!
//! Owns the system call, the maps of this process's own ids, and what a refusal means. Other ids are mapped by a
//! process with the privilege for that, see `helper::ids`.
//!
//! Rests on `user_namespaces(7)`. Only a process with one thread can enter a user namespace.

use std::fs;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, getegid, geteuid};

use crate::kernel::file_system::stop_watching;
use crate::kernel::wording::errno_of;

mod refusal;

pub use refusal::Refused;

/// Enters a user namespace in which this user is root and no other user is mapped, and a mount namespace that belongs
/// to it.
pub fn enter_as_root() -> nix::Result<()> {
    let (root, group) = (Uid::from_raw(0), Gid::from_raw(0));
    enter_as(root, group, CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
}

/// Enters a user namespace below this one, in which this user is `user` and `group`, and no other user is mapped.
/// Programs there have no privilege over the namespaces above, and still run through the table of those
/// (`current_binfmt_misc` in the kernel's `fs/binfmt_misc.c`).
pub fn become_user(user: Uid, group: Gid) -> nix::Result<()> {
    enter_as(user, group, CloneFlags::CLONE_NEWUSER)
}

fn enter_as(user: Uid, group: Gid, flags: CloneFlags) -> nix::Result<()> {
    let outside = (geteuid(), getegid());
    unshare_alone(flags)?;
    map_user(user, outside.0)?;
    map_group(group, outside.1)
}

/// Enters the namespaces. A thread that was joined may exist for a moment more, and until then the kernel refuses
/// (`EINVAL`).
pub fn unshare_alone(flags: CloneFlags) -> nix::Result<()> {
    const PATIENCE: u32 = 100;
    stop_watching();
    for _ in 0..PATIENCE {
        match unshare(flags) {
            Err(Errno::EINVAL) => thread::sleep(Duration::from_millis(1)),
            result => return result,
        }
    }
    unshare(flags)
}

/// Maps this user: one that is not mapped can create no files.
pub fn map_user(inside: Uid, outside: Uid) -> nix::Result<()> {
    write("/proc/self/uid_map", &format!("{inside} {outside} 1"))
}

pub fn map_group(inside: Gid, outside: Gid) -> nix::Result<()> {
    // a process that may change its groups could leave one that is denied access to a file (CVE-2014-8989)
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/gid_map", &format!("{inside} {outside} 1"))
}

/// Forbids cgroup namespaces in this process's user namespace and in all below it: with one of its own, root could mount the host's
/// control groups writable. A process below this namespace can change its own limit, not this one (`namespaces(7)`). Fails where
/// `/proc/sys` cannot be written.
pub fn forbid_cgroup_namespaces() -> nix::Result<()> {
    write(MAX_CGROUP_NAMESPACES, "0")
}

/// The file with that limit.
pub const MAX_CGROUP_NAMESPACES: &str = "/proc/sys/user/max_cgroup_namespaces";

fn write(path: &str, text: &str) -> Result<(), Errno> {
    fs::write(path, text).map_err(|error| errno_of(&error))
}

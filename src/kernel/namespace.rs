//! Which namespaces this process is in, and how to do one thing in another mount namespace or root directory.
//!
//! A thread may leave its process's mount namespace and root directory; the thread's end undoes it, also when the
//! process is killed. So whatever is mounted in one of these leaves no trace, and no `unsafe` fork is needed. See
//! `mount_namespaces(7)`, `unshare(2)` and `setns(2)`.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::LazyLock;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{chroot, fchdir};

use crate::kernel::process::{self, sysctl};
use crate::kernel::wording::errno_of;

/// Inode of the initial user namespace (`PROC_USER_INIT_INO` in the kernel's `include/linux/proc_ns.h`).
const INITIAL_USER: &str = "user:[4026531837]";
/// Inode of the initial PID namespace (`PROC_PID_INIT_INO`).
const INITIAL_PID: &str = "pid:[4026531836]";

/// Inodes that the initial mount namespace can have: `MNT_NS_INIT_INO` since 6.18, before that the first or second
/// of those that the kernel hands out (`PROC_DYNAMIC_FIRST`).
const INITIAL_MOUNT: [&str; 3] = ["mnt:[4026531832]", "mnt:[4026531840]", "mnt:[4026531841]"];

/// Whether this process is in a user namespace of a container or of `unshare --user`, not the host's. Kernels since
/// 6.7 keep a table per user namespace.
pub fn in_user_namespace() -> bool {
    fs::read_link("/proc/self/ns/user").is_ok_and(|link| link.as_os_str() != INITIAL_USER)
}

/// The number that stands for users from outside of this process's user namespace, if it has one of its own.
///
/// It is read once, in the process's own root directory: below another one, `/proc` has what the owner of that directory
/// put there.
static OUTSIDERS: LazyLock<Option<u32>> = LazyLock::new(outsiders);

/// Whether `user` stands for users from outside of this process's user namespace. The host's root, the owner of the
/// system's files, looks like every other user from outside. Never true on the host.
pub fn is_outsider(user: u32) -> bool {
    *OUTSIDERS == Some(user)
}

/// That number, unless it is that of a user of this namespace, too. Only a user from outside owns the root directory.
fn outsiders() -> Option<u32> {
    let number = sysctl("kernel.overflowuid")?.parse().ok().filter(|_| in_user_namespace())?;
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let owns_root = || fs::metadata("/").is_ok_and(|root| root.uid() == number);
    let is_known = map.lines().any(|line| maps(line, number));
    (!is_known || owns_root()).then_some(number)
}

/// Whether this line of a map of ids, `INSIDE OUTSIDE COUNT`, has this one (`user_namespaces(7)`).
fn maps(line: &str, user: u32) -> bool {
    let mut numbers = line.split_whitespace().map_while(|number| number.parse::<u64>().ok());
    match (numbers.next(), numbers.nth(1)) {
        (Some(first), Some(count)) => (first..first.saturating_add(count)).contains(&user.into()),
        _ => true,
    }
}

/// Whether PID 1, as seen here, is the host's init.
pub fn sees_host_init() -> bool {
    fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link.as_os_str() == INITIAL_PID)
}

/// Whether this process shares the host's mount namespace, so that what is mounted here stays.
///
/// If PID 1 cannot be inspected, the number of the namespace decides: the first one is made at boot, before any other,
/// and has a number that no later one gets (`MNT_NS_INIT_INO`, or the first of the others).
pub fn shares_host_mounts() -> bool {
    let (own, init) = (fs::read_link("/proc/self/ns/mnt"), fs::read_link("/proc/1/ns/mnt"));
    match (own, init) {
        _ if !sees_host_init() => false,
        (Ok(own), Ok(init)) => own == init,
        (Ok(own), Err(_)) => INITIAL_MOUNT.iter().any(|initial| own.as_os_str() == *initial),
        (Err(_), _) => false,
    }
}

/// Whether another process is in this mount namespace, so that the namespace outlives this process.
pub fn shares_mounts_with_others() -> bool {
    let own = fs::read_link("/proc/self/ns/mnt").ok();
    let name = process::own_name().unwrap_or_default();
    let is_other = |process: &Path| !process.ends_with(&name) && fs::read_link(process.join("ns/mnt")).ok() == own;
    own.is_some() && process::find(is_other).is_some()
}

/// Whether this is a container that was given the host's processes (`--pid=host`): its mounts and its root directory
/// are its own, yet it can reach the host's. A private mount namespace on the host's own root directory does not count:
/// its mounts are meant to be kept apart.
pub fn reaches_host_from_container() -> bool {
    sees_host_init() && !shares_host_mounts() && shares_init_root() == Some(false)
}

/// Whether an init system finds the same file at a path as this process: both have the root directory of the host's PID
/// 1, or of the systemd that this container was booted with (`sd_booted(3)`). `None` if PID 1 cannot be inspected.
pub fn shares_root_with_init() -> Option<bool> {
    let booted = sees_host_init() || Path::new("/run/systemd/system").is_dir();
    if booted { shares_init_root() } else { Some(false) }
}

fn shares_init_root() -> Option<bool> {
    let root_of = |path| fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
    Some(root_of("/")? == root_of("/proc/1/root/")?)
}

/// Does `work` in a mount namespace of its own, a copy of this one, where nothing mounted below the mount point
/// `under` reaches any other namespace. Fails when a mount namespace is refused (`EPERM` without `CAP_SYS_ADMIN`), or
/// `under` is no mount point.
pub fn with_private_mounts<T: Send>(under: &Path, work: impl FnOnce() -> T + Send) -> nix::Result<T> {
    in_thread(|| {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, under, None::<&str>, private, None::<&str>)?;
        Ok(work())
    })
}

/// Does `work` in the mount namespace and root directory of PID 1. Fails when that namespace may not be entered
/// (`EPERM` without `CAP_SYS_ADMIN` and `CAP_SYS_PTRACE`).
pub fn with_host_mounts<T: Send>(work: impl FnOnce() -> T + Send) -> nix::Result<T> {
    in_thread(|| {
        let host = File::open("/proc/1/ns/mnt").map_err(|e| errno_of(&e))?;
        unshare(CloneFlags::CLONE_FS)?;
        setns(host, CloneFlags::CLONE_NEWNS)?;
        Ok(work())
    })
}

/// Does `work` with `root`, a directory that is open, as root directory and current one. `work` must read nothing from
/// `/proc`, which is that of `root`, and may be anything. Fails when it cannot become the root directory (`EPERM` without
/// `CAP_SYS_CHROOT`).
pub fn with_root_directory<T: Send>(root: impl AsFd + Send, work: impl FnOnce() -> T + Send) -> nix::Result<T> {
    LazyLock::force(&OUTSIDERS);
    in_thread(|| {
        unshare(CloneFlags::CLONE_FS)?;
        fchdir(root)?;
        chroot(".")?;
        Ok(work())
    })
}

fn in_thread<T: Send>(work: impl FnOnce() -> nix::Result<T> + Send) -> nix::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, work);
        match thread.map_err(|e| errno_of(&e))?.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_a_map_has_are_known() {
        assert!(maps("         0       1000          1", 0));
        assert!(!maps("         0       1000          1", 65534));
        assert!(maps("         1     100000      65536", 65534));
        assert!(!maps("         1     100000      65533", 65534));
        assert!(maps("         0          0 4294967295", 65534));
        assert!(maps("nonsense", 65534));
    }
}

//! A root file system made this process's root directory, with what programs expect mounted in it: as much as needs no
//! privilege over anything but one's own mount namespace.
//!
//! Owns which mounts those are. In a user namespace none can be made of `proc` and `sysfs` without also owning the
//! processes and the network, so the caller's own appear; devices are the caller's, one by one, as the OCI runtime
//! specification lists them. Copies of these mounts are made first (`open_tree(2)`) and attached to directories that are
//! open, looked up once the root directory is that of the root file system and without following its symbolic links.
//!
//! Rests on `pivot_root(2)`; a process under `chroot(2)` could make no user namespace of its own.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, mkdirat};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::{chdir, chroot, fchdir, pivot_root, symlinkat};
use procfs::process::Process;
use rustix::fs::CWD;
use rustix::mount::{MountAttrFlags, MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::kernel::lookup::{self, IN_ROOT, NO_LINKS};
use crate::kernel::mount::detached;
use crate::kernel::wording::{cause, errno_of, shown};

/// Those that every program may expect, besides the terminal's.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Names for what a process has open.
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];
/// Where a root file system has its programs, those of root's included.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where names of the network are looked up.
const RESOLVER: &str = "/etc/resolv.conf";

/// What keeps a directory from becoming the root directory.
#[derive(Debug)]
pub enum RootDirectoryError {
    /// The system call of this name is refused, on this directory.
    Refused(&'static str, PathBuf, Errno),
    /// There is no `/proc` in it, and none can be made.
    NoProc(PathBuf, io::Error),
}

impl fmt::Display for RootDirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(call, dir, errno) => write!(
                f,
                "cannot make {} the root directory: {call} fails: {}; that takes mounts in mounts, which a container's \
                 filter of system calls or a security module may forbid",
                shown(dir.as_os_str()),
                cause(&(*errno).into())
            ),
            Self::NoProc(dir, error) if errno_of(error) == Errno::ELOOP => write!(
                f,
                "{}/proc is a symbolic link, which is not followed; put a directory in its place",
                shown(dir.as_os_str())
            ),
            Self::NoProc(dir, error) if errno_of(error) == Errno::ENOTDIR => write!(
                f,
                "{0}/proc is not a directory; replace it: rm {0}/proc && mkdir {0}/proc",
                shown(dir.as_os_str())
            ),
            Self::NoProc(dir, error) => write!(
                f,
                "{} has no directory proc, and none can be made: {}; make one: mkdir {0}/proc",
                shown(dir.as_os_str()),
                cause(error)
            ),
        }
    }
}

impl std::error::Error for RootDirectoryError {}

/// What programs may expect in a root directory, and what is not mounted there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotMounted {
    /// Its path below the root directory, without a slash at its beginning.
    pub path: &'static str,
    /// Why.
    pub errno: Errno,
}

impl NotMounted {
    /// The reason, in words that follow the path.
    #[must_use]
    pub fn reason(self) -> String {
        match self.errno {
            Errno::ELOOP => "is a symbolic link, so nothing is mounted there".to_owned(),
            // move_mount(2) has both for a file and a directory
            Errno::ENOTDIR | Errno::EINVAL => {
                "is of the wrong kind, so nothing is mounted there".to_owned()
            }
            errno => format!("is not mounted: {}", cause(&errno.into())),
        }
    }
}

/// Makes `dir` the root directory and the current one. This process must be root of a user namespace, and in a mount
/// namespace of its own. What is mounted below `/proc`, the table included, is there again; the rest is a matter of what
/// `dir` has directories for, and of what is allowed: without one of these, what needs it fails and says so. Where they
/// are missing, `/proc`, `/dev`, `/sys` and `/etc/resolv.conf` are made, as places to mount on. By way of a symbolic link
/// nothing is made or mounted. Returns what is not mounted although the caller has it, with the reason.
///
/// # Errors
/// When `dir` cannot become the root directory, or `/proc` not be had there.
pub fn enter(dir: &Path) -> Result<Vec<NotMounted>, RootDirectoryError> {
    let refused =
        |call| move |errno: Errno| RootDirectoryError::Refused(call, dir.to_owned(), errno);
    let proc = tree("/proc").map_err(refused("open_tree"))?;
    let sys = tree("/sys");
    let resolver = fs::canonicalize(RESOLVER).map(|file| copy(CWD, &file, OpenTreeFlags::empty()));
    let devices = Devices::of_caller();

    let place = open(dir, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
    let place = place.map_err(refused("open"))?;
    let whole = OpenTreeFlags::AT_EMPTY_PATH | OpenTreeFlags::AT_RECURSIVE;
    let root = copy(&place, Path::new(""), whole).map_err(refused("open_tree"))?;
    attach(&root, &place).map_err(refused("move_mount"))?;
    fchdir(&root).map_err(refused("fchdir"))?;
    change_root().map_err(refused("chroot"))?;

    let no_proc = |errno: Errno| RootDirectoryError::NoProc(dir.to_owned(), errno.into());
    let place = directory(&root, "proc").map_err(no_proc)?;
    attach(&proc, &place).map_err(refused("move_mount"))?;
    let mut missing = Vec::new();
    let mut note = |path, mounted: nix::Result<()>| {
        missing.extend(mounted.err().map(|errno| NotMounted { path, errno }));
    };
    if let Ok(sys) = sys {
        let mounted = directory(&root, "sys").and_then(|place| attach(&sys, &place));
        if mounted.is_ok() {
            make_all_read_only(&sys);
        }
        note("sys", mounted);
    }
    let dev = directory(&root, "dev");
    // without one of the devices, what needs it fails and says so
    note(
        "dev",
        dev.map(|place| {
            let _ = devices.appear(&place);
        }),
    );
    if let Ok(Ok(resolver)) = resolver {
        let mounted = resolver_of(&root).and_then(|place| attach(&resolver, &place));
        if mounted.is_ok() {
            let _ = make_read_only(&resolver);
        }
        note("etc/resolv.conf", mounted);
    }
    Ok(missing)
}

/// A copy of the mount at a path of this process, with all that is mounted below: in a user namespace, what others have
/// mounted cannot be taken off.
fn tree(path: &str) -> nix::Result<OwnedFd> {
    copy(CWD, Path::new(path), OpenTreeFlags::AT_RECURSIVE)
}

/// A copy of a mount, not yet anywhere.
fn copy(at: impl AsFd, path: &Path, more: OpenTreeFlags) -> nix::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | more;
    open_tree(at, path, flags).map_err(|error| Errno::from_raw(error.raw_os_error()))
}

/// Mounts it on the very file that is open, be that a symbolic link.
fn attach(mounted: &OwnedFd, place: &OwnedFd) -> nix::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mounted, "", place, "", flags).map_err(|e| Errno::from_raw(e.raw_os_error()))
}

/// The current directory, where something is mounted, becomes the root directory, and what was it goes.
fn change_root() -> nix::Result<()> {
    match pivot_root(".", ".") {
        Ok(()) => umount2(".", MntFlags::MNT_DETACH)?,
        // where the root directory is the one that the kernel was booted with, nothing can be put in its place; then programs
        // can make no user namespaces of their own
        Err(_) => chroot(".")?,
    }
    chdir("/")
}

/// The directory of this name in `root` itself, made if there is nothing. `ELOOP`: it is a symbolic link.
fn directory(root: &OwnedFd, name: &str) -> nix::Result<OwnedFd> {
    let made = mkdirat(root, name, Mode::from_bits_truncate(0o755));
    match lookup::find(root, Path::new(name), OFlag::O_DIRECTORY, NO_LINKS) {
        Err(Errno::ENOENT) => Err(made.err().unwrap_or(Errno::ENOENT)),
        found => found,
    }
}

/// What [`RESOLVER`] is in `root`, be it a link to what a program would make at boot. Where there is nothing, an empty file is made,
/// unless `/etc` is a link.
fn resolver_of(root: &OwnedFd) -> nix::Result<OwnedFd> {
    const NAME: &str = "resolv.conf";
    let etc = |links| lookup::find(root, Path::new("etc"), OFlag::O_DIRECTORY, links);
    let there = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat(etc(IN_ROOT)?, NAME, there, Mode::empty()) {
        Err(Errno::ENOENT) => create(&etc(NO_LINKS)?, NAME),
        found => found,
    }
}

/// A file that is not there yet.
fn create(dir: &OwnedFd, name: &str) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    openat(dir, name, flags, Mode::from_bits_truncate(0o644))
}

/// A mount and those below it, each of which is read-only or not by itself.
fn make_all_read_only(tree: &OwnedFd) {
    let _ = make_read_only(tree);
    let mounts = Process::myself().and_then(|process| process.mountinfo());
    let places = mounts.into_iter().flatten().map(|mount| mount.mount_point);
    for place in places {
        if let Ok(place) = place.strip_prefix("/sys") {
            if let Ok(mount) = lookup::find(tree, place, OFlag::empty(), NO_LINKS) {
                let _ = make_read_only(&mount);
            }
        }
    }
}

/// Root, outside as here, could do harm by it. The mount's other settings are locked, and must be repeated.
fn make_read_only(mounted: &OwnedFd) -> nix::Result<()> {
    let set = fstatvfs(mounted)?.flags();
    let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    for (is, flag) in [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
    ] {
        flags.set(flag, set.contains(is));
    }
    let name = format!("/proc/self/fd/{}", mounted.as_raw_fd());
    mount(None::<&str>, &*name, None::<&str>, flags, None::<&str>)
}

/// What is to be in `/dev`: copies of the caller's devices, and how they are called there.
struct Devices(Vec<(&'static str, OwnedFd)>);

impl Devices {
    fn of_caller() -> Self {
        let device = |name, path: &Path| {
            let copied = copy(CWD, path, OpenTreeFlags::empty()).ok()?;
            Some((name, copied))
        };
        let named = DEVICES
            .iter()
            .filter_map(|name| device(*name, &Path::new("/dev").join(name)));
        // by its own name it is in another place than the terminals that are made here, so that it needs one more
        let console = terminal().and_then(|path| device("console", &path));
        Self(named.chain(console).collect())
    }

    fn appear(self, place: &OwnedFd) -> nix::Result<()> {
        let quiet = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let dev = detached("tmpfs", &[("size", "64k"), ("mode", "755")], quiet)?;
        attach(&dev, place)?;
        for (name, device) in self.0 {
            attach(&device, &create(&dev, name)?)?;
        }
        for (to, name) in LINKS {
            symlinkat(to, &dev, name)?;
        }
        let pts = [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "620")];
        attach(&detached("devpts", &pts, quiet)?, &directory(&dev, "pts")?)?;
        let no_devices = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        let shm = detached("tmpfs", &[("mode", "1777")], no_devices)?;
        attach(&shm, &directory(&dev, "shm")?)
    }
}

/// The terminal that this process has on one of its standard descriptors.
fn terminal() -> Option<PathBuf> {
    let names = (0..=2).filter_map(|fd| fs::read_link(format!("/proc/self/fd/{fd}")).ok());
    let is_terminal = |name: &PathBuf| {
        let name = name.as_os_str().as_encoded_bytes();
        name.starts_with(b"/dev/pts/") || name.starts_with(b"/dev/tty")
    };
    let mut terminals = names.filter(is_terminal);
    terminals.next()
}

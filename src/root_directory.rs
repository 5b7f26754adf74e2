//! A root file system made this process's root directory, with what programs expect mounted in it: as much as needs no
//! privilege over anything but one's own mount namespace.
//!
//! Owns which mounts those are. In a user namespace none can be made of `proc` and `sysfs` without also owning the
//! processes and the network, so the caller's own appear; devices are the caller's, one by one, as the OCI runtime
//! specification lists them. Copies of these mounts are made first (`open_tree(2)`) and attached once the root directory
//! is that of the root file system, so that none of its symbolic links leads out of it.
//!
//! Rests on `pivot_root(2)`; a process under `chroot(2)` could make no user namespace of its own.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{chdir, chroot, fchdir, pivot_root};
use procfs::process::Process;
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::wording::{cause, shown};

/// Those that every program may expect, besides the terminal's.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Names for what a process has open.
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
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

/// Makes `dir` the root directory and the current one. This process must be root of a user namespace, and in a mount
/// namespace of its own. What is mounted below `/proc`, the table included, is there again; the rest is a matter of what
/// `dir` has directories for, and of what is allowed: without one of these, what needs it fails and says so. Where they
/// are missing, `/proc`, `/dev`, `/sys` and `/etc/resolv.conf` are made, as places to mount on.
///
/// # Errors
/// When `dir` cannot become the root directory, or `/proc` not be had there.
pub fn enter(dir: &Path) -> Result<(), RootDirectoryError> {
    let refused =
        |call| move |errno: Errno| RootDirectoryError::Refused(call, dir.to_owned(), errno);
    let tree = |path: &Path| copy(path, OpenTreeFlags::AT_RECURSIVE);
    let proc = tree(Path::new("/proc")).map_err(refused("open_tree"))?;
    let sys = tree(Path::new("/sys"));
    let resolver = fs::canonicalize(RESOLVER).map(|file| copy(&file, OpenTreeFlags::empty()));
    let devices = Devices::of_caller();

    let root = tree(dir).map_err(refused("open_tree"))?;
    attach(&root, dir).map_err(refused("move_mount"))?;
    fchdir(&root).map_err(refused("fchdir"))?;
    change_root().map_err(refused("chroot"))?;

    make_directory("/proc").map_err(|error| RootDirectoryError::NoProc(dir.to_owned(), error))?;
    attach(&proc, Path::new("/proc")).map_err(refused("move_mount"))?;
    if let (Ok(sys), Ok(())) = (sys, make_directory("/sys")) {
        if attach(&sys, Path::new("/sys")).is_ok() {
            for place in below("/sys") {
                let _ = make_read_only(&place);
            }
        }
    }
    if make_directory("/dev").is_ok() {
        let _ = devices.appear();
    }
    if let Ok(Ok(resolver)) = resolver {
        // a link to what a program would make at boot
        if let Ok(to) = fs::read_link(RESOLVER) {
            let _ = Path::new("/etc").join(to).parent().map(fs::create_dir_all);
        }
        let mut place = OpenOptions::new();
        place.append(true).create(true);
        // whatever DIR has there must not be waited for
        place.custom_flags(OFlag::O_NONBLOCK.bits());
        let place = place.open(RESOLVER);
        let place = place.is_ok() || Path::new(RESOLVER).exists();
        let file = Path::new(RESOLVER);
        let _ = place.then(|| attach(&resolver, file).and_then(|()| make_read_only(file)));
    }
    Ok(())
}

/// A copy of a mount, not yet anywhere. Of a directory it must be recursive: what others have mounted below cannot be
/// taken off in a user namespace.
fn copy(path: &Path, recursive: OpenTreeFlags) -> nix::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | recursive;
    open_tree(CWD, path, flags).map_err(|error| Errno::from_raw(error.raw_os_error()))
}

fn attach(mounted: &OwnedFd, path: &Path) -> nix::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    move_mount(mounted, "", CWD, path, flags).map_err(|error| Errno::from_raw(error.raw_os_error()))
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

fn make_directory(path: &str) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(_) if Path::new(path).is_dir() => Ok(()),
        made => made,
    }
}

/// The mounts at a path and below, each of which is read-only or not by itself.
fn below(path: &str) -> Vec<PathBuf> {
    let mounts = Process::myself().and_then(|process| process.mountinfo());
    let places = mounts.into_iter().flatten().map(|mount| mount.mount_point);
    places.filter(|place| place.starts_with(path)).collect()
}

/// Root, outside as here, could do harm by it. The mount's other settings are locked, and must be repeated.
fn make_read_only(path: &Path) -> nix::Result<()> {
    let set = statvfs(path)?.flags();
    let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    for (is, flag) in [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
    ] {
        flags.set(flag, set.contains(is));
    }
    mount(None::<&str>, path, None::<&str>, flags, None::<&str>)
}

/// What is to be in `/dev`: copies of the caller's devices, and where they go.
struct Devices(Vec<(String, OwnedFd)>);

impl Devices {
    fn of_caller() -> Self {
        let device = |name: String, path: &Path| {
            let copied = copy(path, OpenTreeFlags::empty()).ok()?;
            Some((format!("/dev/{name}"), copied))
        };
        let named = DEVICES.iter().filter_map(|name| {
            let path = Path::new("/dev").join(name);
            device((*name).to_owned(), &path)
        });
        // by its own name it is in another place than the terminals that are made here, so that it needs one more
        let console = terminal().and_then(|path| device("console".to_owned(), &path));
        Self(named.chain(console).collect())
    }

    fn appear(self) -> io::Result<()> {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        tmpfs("/dev", flags, "size=64k,mode=755")?;
        for (path, device) in self.0 {
            File::create(&path)?;
            attach(&device, Path::new(&path))?;
        }
        for (to, name) in LINKS {
            symlink(to, name)?;
        }
        fs::create_dir("/dev/pts")?;
        fs::create_dir("/dev/shm")?;
        let options = Some("newinstance,ptmxmode=0666,mode=620");
        mount(Some("devpts"), "/dev/pts", Some("devpts"), flags, options)?;
        tmpfs(
            "/dev/shm",
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            "mode=1777",
        )
    }
}

fn tmpfs(path: &str, flags: MsFlags, options: &str) -> io::Result<()> {
    Ok(mount(
        Some("tmpfs"),
        path,
        Some("tmpfs"),
        flags,
        Some(options),
    )?)
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

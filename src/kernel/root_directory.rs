//! Other root directories: looks paths up in one so that no symbolic link leads out of it, and makes one this process's
//! own, with the mounts that programs expect, and with no privilege beyond this process's own mount namespace.
//!
//! What root runs there is root for the kernel's files, too: `/proc/sys`, the table, the caller's devices. So root's mounts
//! are read-only, and a second user namespace locks them: nobody in it can change or remove them (`mount_namespaces(7)`).
//!
//! A user namespace cannot mount a `proc` or `sysfs` unless it owns the processes and the network, so copies of the
//! caller's mounts are used (`open_tree(2)`). Devices are the caller's, those that the OCI runtime specification lists.
//! Each copy is made first, and then attached to an open directory of the new root, which is looked up without
//! following symbolic links.
//!
//! Rests on `pivot_root(2)`; a process under `chroot(2)` could not make user namespaces.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::{chdir, chroot, fchdir, pivot_root, symlinkat};
use rustix::fs::CWD;
use rustix::mount::{MountAttrFlags, MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::kernel::mount::mountinfo::{mount_point, mounts_by};
use crate::kernel::mount::{detached, errno};
use crate::kernel::process::path_of;
use crate::kernel::wording::{cause, errno_of, quoted, shown};

/// The devices that every program may expect, besides the terminal.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Symbolic links in `/dev`: target and name.
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];
/// The default search path in a root file system, root's programs included.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The file that names the resolvers.
const RESOLVER: &str = "/etc/resolv.conf";

/// Symbolic links are followed as if that directory were the root directory. Those of `/proc` that lead anywhere are
/// refused.
pub const IN_ROOT: ResolveFlag = ResolveFlag::RESOLVE_IN_ROOT.union(ResolveFlag::RESOLVE_NO_MAGICLINKS);
/// No symbolic link is followed at all.
pub const NO_LINKS: ResolveFlag = ResolveFlag::RESOLVE_BENEATH.union(ResolveFlag::RESOLVE_NO_SYMLINKS);

/// How often a look-up is repeated if the kernel gives it up because something was renamed or mounted meanwhile.
const TRIES: usize = 1000;

/// Why nothing is mounted at a path, in words that follow it.
fn not_mounted(errno: Errno) -> String {
    match errno {
        Errno::ELOOP => "is a symbolic link, so nothing is mounted there".to_owned(),
        // move_mount(2) has both for a file and a directory
        Errno::ENOTDIR | Errno::EINVAL => "is of the wrong kind, so nothing is mounted there".to_owned(),
        errno => format!("is not mounted: {}", cause(&errno.into())),
    }
}

/// Opens what is at `path` of the directory `root`, which others may have filled, with `O_PATH` and `flags`: no device
/// or pipe is touched. `resolve` is [`IN_ROOT`] or [`NO_LINKS`]. Errors: those of `openat2(2)` (Linux 5.6): `ENOSYS` or
/// `EPERM` where it cannot be called.
pub fn find(root: impl AsFd, path: &Path, flags: OFlag, resolve: ResolveFlag) -> nix::Result<OwnedFd> {
    let flags = flags | OFlag::O_PATH | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags).resolve(resolve);
    let mut tries = (0..TRIES).map(|_| openat2(root.as_fd(), path, how));
    tries.find(|found| !matches!(found, Err(Errno::EAGAIN))).unwrap_or(Err(Errno::EAGAIN))
}

/// Makes `dir` the root directory and the current directory. This process must be root of a user namespace, in a mount
/// namespace of its own.
///
/// `/proc`, with all that is mounted below it, the table included, is mounted again. So are `/sys`, `/dev` and
/// `/etc/resolv.conf`, where that is allowed. Missing mount points are made, and symbolic links are not followed.
/// Device nodes of `dir` itself cannot be opened. With `by_root`, all of `/proc` except the processes is read-only, and its
/// files that only root may read are hidden. A program can undo this unless it starts in a further user namespace.
///
/// Returns what is not mounted although the caller has it: its path below `dir`, and the reason. Fails when `dir` cannot
/// become the root directory, gets no `/proc`, or a mount cannot be made read-only.
pub fn enter(dir: &Path, by_root: bool) -> Result<Vec<String>> {
    let name = shown(dir.as_os_str());
    let refused = |call: &'static str| {
        let name = name.clone();
        move |errno: Errno| {
            anyhow!(
                "cannot make {name} the root directory: {call} fails: {}; this needs mounts inside mounts, which a \
                 container's seccomp filter or a security module may forbid",
                cause(&errno.into())
            )
        }
    };
    let place = open(dir, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
    let place = place.map_err(refused("open"))?;
    // what the host mounts later would be writable
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).map_err(refused("mount"))?;
    // while paths are the caller's: whoever owns `dir` may rename what is in there, with what is mounted on it
    let own = Root::of_caller().map_err(refused("open"))?;
    if by_root {
        let nothing = copy(CWD, Path::new("/dev/null"), OpenTreeFlags::empty()).map_err(refused("open_tree"))?;
        own.protect_proc(&nothing).map_err(refused("mount"))?;
    }
    own.restrict(Path::new("/sys"), MsFlags::MS_RDONLY).map_err(refused("mount"))?;
    let proc = tree("/proc").map_err(refused("open_tree"))?;
    let sys = tree("/sys");
    let resolver = fs::canonicalize(RESOLVER).map(|file| copy(CWD, &file, OpenTreeFlags::empty()));
    let devices = Devices::of_caller();

    let whole = OpenTreeFlags::AT_EMPTY_PATH | OpenTreeFlags::AT_RECURSIVE;
    let root = copy(&place, Path::new(""), whole).map_err(refused("open_tree"))?;
    attach(&root, &place).map_err(refused("move_mount"))?;
    fchdir(&root).map_err(refused("fchdir"))?;
    change_root().map_err(refused("chroot"))?;

    let place = directory(&root, "proc").map_err(|errno| match errno {
        Errno::ELOOP => anyhow!("{name}/proc is a symbolic link, which is not followed; put a directory in its place"),
        Errno::ENOTDIR => {
            anyhow!(
                "{name}/proc is not a directory; replace it: rm {own} && mkdir {own}",
                own = quoted(dir.join("proc"))
            )
        }
        errno => anyhow!(
            "{name} has no directory proc, and it cannot be made: {}; make it: mkdir {}",
            cause(&errno.into()),
            quoted(dir.join("proc"))
        ),
    })?;
    attach(&proc, &place).map_err(refused("move_mount"))?;
    let new = Root { top: root, proc: own.proc };
    new.restrict(Path::new("/"), MsFlags::MS_NODEV).map_err(refused("mount"))?;
    let root = &new.top;
    let mut missing = Vec::new();
    let mut note = |path, mounted: nix::Result<()>| {
        missing.extend(mounted.err().map(|errno| format!("{path} {}", not_mounted(errno))));
    };
    let mounted = sys.and_then(|sys| attach(&sys, &directory(root, "sys")?).map(|()| sys));
    if let Ok(sys) = &mounted {
        // where the caller has none, that is a part of another mount
        new.restrict_one(sys, MsFlags::MS_RDONLY).map_err(refused("mount"))?;
    }
    note("sys", mounted.map(drop));
    note("dev", directory(root, "dev").and_then(|place| devices.mount_in(&place, &new)));
    if let Ok(Ok(resolver)) = resolver {
        let mounted = resolver_of(root).and_then(|place| attach(&resolver, &place));
        if mounted.is_ok() {
            new.restrict_one(&resolver, MsFlags::MS_RDONLY).map_err(refused("mount"))?;
        }
        note("etc/resolv.conf", mounted);
    }
    chdir("/").map_err(refused("chdir"))?;
    Ok(missing)
}

/// A copy of the mount at `path`, with all mounts below it: a user namespace cannot take off the mounts of others.
fn tree(path: &str) -> nix::Result<OwnedFd> {
    copy(CWD, Path::new(path), OpenTreeFlags::AT_RECURSIVE)
}

/// A copy of a mount that is not attached anywhere.
fn copy(at: impl AsFd, path: &Path, more: OpenTreeFlags) -> nix::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | more;
    open_tree(at, path, flags).map_err(errno)
}

/// Attaches `mounted` to the open file `place`, even if that is a symbolic link.
fn attach(mounted: &OwnedFd, place: &OwnedFd) -> nix::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mounted, "", place, "", flags).map_err(errno)
}

/// Makes the current directory, which is a mount point, the root directory, and detaches the old root.
fn change_root() -> nix::Result<()> {
    match pivot_root(".", ".") {
        Ok(()) => umount2(".", MntFlags::MNT_DETACH)?,
        // the kernel's initial root cannot be replaced; under chroot(2), programs cannot make user namespaces
        Err(_) => chroot(".")?,
    }
    chdir("/")
}

/// Opens the directory `name` of `root`, and makes it if it does not exist. `ELOOP`: it is a symbolic link.
fn directory(root: &OwnedFd, name: &str) -> nix::Result<OwnedFd> {
    let made = mkdirat(root, name, Mode::from_bits_truncate(0o755));
    match find(root, Path::new(name), OFlag::O_DIRECTORY, NO_LINKS) {
        Err(Errno::ENOENT) => Err(made.err().unwrap_or(Errno::ENOENT)),
        found => found,
    }
}

/// Opens [`RESOLVER`] in `root`, which may be a dangling symbolic link. If it does not exist, makes an empty file,
/// unless `/etc` is a link.
fn resolver_of(root: &OwnedFd) -> nix::Result<OwnedFd> {
    const NAME: &str = "resolv.conf";
    let etc = |links| find(root, Path::new("etc"), OFlag::O_DIRECTORY, links);
    let there = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat(etc(IN_ROOT)?, NAME, there, Mode::empty()) {
        Err(Errno::ENOENT) => create(&etc(NO_LINKS)?, NAME),
        found => found,
    }
}

/// Makes a file that does not exist yet.
fn create(dir: &OwnedFd, name: &str) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    openat(dir, name, flags, Mode::from_bits_truncate(0o644))
}

/// A root directory whose mounts are restricted.
struct Root {
    top: OwnedFd,
    /// The caller's `/proc`. Nothing is looked up by that path: the owner of the new root directory may put another folder there.
    proc: OwnedFd,
}

impl Root {
    fn of_caller() -> nix::Result<Self> {
        let directory = |path| open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
        Ok(Self { top: directory("/")?, proc: directory("/proc")? })
    }

    /// Covers what is in `/proc`, except the directories of processes and the links to them, with read-only mounts of the same,
    /// or with `nothing` if only its owner may read it. Read-only is also what is mounted there already.
    fn protect_proc(&self, nothing: &OwnedFd) -> nix::Result<()> {
        let whole = OpenTreeFlags::AT_EMPTY_PATH | OpenTreeFlags::AT_RECURSIVE;
        for item in fs::read_dir("/proc").map_err(|error| errno_of(&error))?.flatten() {
            let name = item.file_name();
            let is_process = name.as_encoded_bytes().first().is_some_and(u8::is_ascii_digit);
            if is_process || item.file_type().is_ok_and(|kind| kind.is_symlink()) {
                continue;
            }
            let place = find(&self.top, &Path::new("proc").join(&name), OFlag::empty(), NO_LINKS)?;
            let found = fstat(&place)?;
            let is_secret = found.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits()
                && !Mode::from_bits_truncate(found.st_mode).contains(Mode::S_IROTH);
            let cover = if is_secret { nothing } else { &place };
            attach(&copy(cover, Path::new(""), whole)?, &place)?;
            self.restrict(&Path::new("/proc").join(&name), MsFlags::MS_RDONLY)?;
        }
        Ok(())
    }

    /// Adds `flags` to each mount at or below the path `below`. The directories above a mount may be renamed meanwhile, and then it is
    /// looked for again.
    fn restrict(&self, below: &Path, flags: MsFlags) -> nix::Result<()> {
        const RENAMED: usize = 50;
        for _ in 0..RENAMED {
            let mut is_missing = false;
            let mounts = mounts_by(&self.proc).map_err(|error| errno_of(&error))?;
            let places = mounts.iter().map(mount_point);
            for place in places.filter(|place| place.starts_with(below)) {
                let place = place.strip_prefix("/").unwrap_or(&place);
                let place = if place.as_os_str().is_empty() { Path::new(".") } else { place };
                match find(&self.top, place, OFlag::empty(), NO_LINKS) {
                    Err(Errno::ENOENT) => is_missing = true,
                    found => self.restrict_one(&found?, flags)?,
                }
            }
            if !is_missing {
                break;
            }
        }
        // one that is still missing is hidden by another mount, which is locked there
        Ok(())
    }

    /// Adds `flags` to an attached mount. Its other flags may be locked, and are repeated.
    fn restrict_one(&self, mounted: &OwnedFd, mut flags: MsFlags) -> nix::Result<()> {
        let set = fstatvfs(mounted)?.flags();
        for (is, flag) in [
            (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
            (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
            (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
            (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        ] {
            flags.set(flag, flags.contains(flag) || set.contains(is));
        }
        flags |= MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
        // mount(2) takes nothing but a path
        fchdir(&self.proc)?;
        let path = path_of(mounted);
        let path = path.strip_prefix("/proc").unwrap_or(&path);
        mount(None::<&str>, path, None::<&str>, flags, None::<&str>)
    }
}

/// Copies of the caller's devices, and their names in `/dev`.
struct Devices(Vec<(&'static str, OwnedFd)>);

impl Devices {
    fn of_caller() -> Self {
        let device = |name, path: &Path| {
            let copied = copy(CWD, path, OpenTreeFlags::empty()).ok()?;
            Some((name, copied))
        };
        let named = DEVICES.iter().filter_map(|name| device(*name, &Path::new("/dev").join(name)));
        // its own name is in a /dev/pts that this root does not have, so it gets a second name
        let console = terminal().and_then(|path| device("console", &path));
        Self(named.chain(console).collect())
    }

    fn mount_in(self, place: &OwnedFd, root: &Root) -> nix::Result<()> {
        let quiet = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let dev = detached("tmpfs", &[("size", "64k"), ("mode", "755")], quiet)?;
        attach(&dev, place)?;
        for (name, device) in self.0 {
            attach(&device, &create(&dev, name)?)?;
            // it can still be written to, but its mode cannot be changed
            root.restrict_one(&device, MsFlags::MS_RDONLY)?;
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

/// The terminal on one of this process's standard descriptors.
fn terminal() -> Option<PathBuf> {
    let names = (0..=2).filter_map(|fd| fs::read_link(format!("/proc/self/fd/{fd}")).ok());
    let is_terminal = |name: &PathBuf| {
        let name = name.as_os_str().as_encoded_bytes();
        name.starts_with(b"/dev/pts/") || name.starts_with(b"/dev/tty")
    };
    let mut terminals = names.filter(is_terminal);
    terminals.next()
}

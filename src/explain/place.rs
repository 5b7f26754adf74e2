//! The root directory that a program would run in, and opening a file there as `execve(2)` opens it.
//!
//! Owns every access to the files that are explained: each is looked at through a descriptor that can neither read nor
//! block (`O_PATH`), and only a regular file is then opened for reading, once.
//!
//! Rests on `do_open_execat` and `may_open` in Linux's `fs/exec.c` and `fs/namei.c`, and on `openat2(2)`, by which no
//! symbolic link leads out of a root directory that is not this process's own. The kernel does not start a file that is
//! open for writing (`ETXTBSY`). Since Linux 6.14 it tells so without starting it (`AT_EXECVE_CHECK` of `execveat(2)`);
//! which process has the file open, only `proc_pid_fd(5)` tells, and of other users' processes to root only.

use std::cell::OnceCell;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open, readlinkat};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::{AccessFlags, execveat, faccessat};

use super::fault::{End, Fix, Remedy};
use crate::kernel::file_system::within_limit;
use crate::kernel::process::{self, sysctl};
use crate::kernel::pseudo;
use crate::kernel::root_directory::{self, IN_ROOT};
use crate::kernel::wait::Wait;
use crate::kernel::wording::{cause, errno_of, shown};

/// How much of a file's beginning tells what it is; the kernel's own decision rests on less, see [`super::WINDOW`].
const HEAD: u64 = 512;

/// `AT_EXECVE_CHECK` in the kernel's `include/uapi/linux/fcntl.h`: all that is checked is checked, and nothing is
/// started.
const EXECVE_CHECK: i32 = 0x1_0000;

/// How long the kernel lets a lease stand, unless `fs.lease-break-time` says otherwise (`proc_sys_fs(5)`); and how much longer to
/// wait for it. All leases on the files of one [`Place`] together get this time, lest the owner of a chain of scripts holds one on
/// each.
const LEASE: Duration = Duration::from_secs(45);
const GRACE: Duration = Duration::from_secs(5);

/// Kinds of files that are no programs.
const PIPE: &str = "a named pipe";
const DEVICE: &str = "a device";

#[derive(Debug)]
pub struct Place {
    /// If it is another than this process's: open, and where it is.
    root: Option<(OwnedFd, PathBuf)>,
    /// When to wait for leases no longer, once one was waited for.
    leases_end: OnceCell<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The kernel is to start it, or map it as a loader.
    Execute,
    /// As `Execute`, for a copy outside the noexec file system that it is on.
    ExecuteElsewhere,
    /// An emulator reads it.
    Read,
}

/// A regular file, open.
#[derive(Debug)]
pub struct Opened {
    pub head: Vec<u8>,
    /// As it was when it was opened.
    pub metadata: Metadata,
    /// Where it really is, if symbolic links lead to it: as this process sees it, not as the root directory does.
    pub real: PathBuf,
    pub nosuid: bool,
    pub file: File,
}

impl Place {
    /// This process's own root directory.
    pub fn here() -> Self {
        Self { root: None, leases_end: OnceCell::new() }
    }

    /// The root directory of an unpacked image, or of a chroot. Fails when it cannot be opened, or nothing can be
    /// looked up in it: `openat2(2)` is missing before Linux 5.6, and where a filter of system calls forbids it.
    pub fn below(dir: &Path) -> Result<Self> {
        let name = shown(dir.as_os_str());
        let unopened = |error: io::Error| {
            anyhow!("cannot open the root directory {name}: {}; name another with --root", cause(&error))
        };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = within_limit(dir, || open(dir, flags, Mode::empty()));
        let root = root.map_err(|errno| unopened(errno.into()))?;
        let path = dir.canonicalize().map_err(unopened)?;
        let place = Self { root: Some((root, path)), leases_end: OnceCell::new() };
        // said here once, and not for each file; unlike a look at "/", one at "/." needs the right to search the
        // directory
        match place.look_up(Path::new("/."), OFlag::empty()) {
            Ok(_) => Ok(place),
            Err(errno @ Errno::EACCES) => Err(unopened(errno.into())),
            Err(errno) => Err(anyhow!(
                "cannot look for files in the root directory {name}: openat2 fails: {}; it needs Linux 5.6, and a seccomp \
                 filter may forbid it: run binfmt elsewhere, or inside that directory by chroot, without --root",
                cause(&errno.into())
            )),
        }
    }

    /// `path`, absolute, as this process reaches it if no symbolic link is in the way. `..` leads out of no root
    /// directory.
    pub fn outside(&self, path: &Path) -> PathBuf {
        let Some((_, root)) = &self.root else {
            return std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        };
        let mut inside = PathBuf::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => inside.push(name),
                Component::ParentDir => drop(inside.pop()),
                _ => {}
            }
        }
        root.join(inside)
    }

    /// How this root directory calls `path`, which is one of this process's, if it is in there.
    pub fn inside(&self, path: &Path) -> Option<PathBuf> {
        let (_, root) = self.root.as_ref()?;
        let inside = |path: &Path| Some(Path::new("/").join(path.strip_prefix(root).ok()?));
        let absolute = std::path::absolute(path).ok()?;
        inside(&absolute).or_else(|| inside(&absolute.canonicalize().ok()?))
    }

    /// The program called `name` in the first of the directories that has one, as `execvp(3)` finds it.
    pub fn search(&self, name: &Path, directories: &OsStr) -> Option<PathBuf> {
        let mut paths = std::env::split_paths(directories).map(|directory| directory.join(name));
        paths.find(|path| {
            let opened = self.open(path, Purpose::Execute);
            matches!(opened, Ok(_) | Err(Unopened::Unreadable))
        })
    }

    /// Where `path` leads, as this process sees it, if it leads anywhere.
    pub fn real(&self, path: &Path) -> Option<PathBuf> {
        let found = self.look_up(path, OFlag::empty()).ok()?;
        fs::read_link(process::path_of(&found)).ok()
    }

    /// Opens `path`, in the kernel's order of checks.
    pub fn open(&self, path: &Path, purpose: Purpose) -> Result<Opened, Unopened> {
        let found = self.look_up(path, OFlag::empty()).map_err(|errno| match errno {
            Errno::ENOENT => self.missing(path),
            Errno::EACCES => Unopened::Denied,
            errno => Unopened::Refused(errno),
        })?;
        let found = File::from(found);
        let name = process::path_of(&found);
        within_limit(path, || {
            check_kind(&found)?;
            if let Some(file_system) = pseudo::file_system(&found) {
                return Err(Unopened::MadeUp(file_system));
            }
            if purpose == Purpose::Read { Ok(()) } else { check_executable(&found, &name, purpose) }
        })?;
        let file = self.open_whoever_leases(path, &name).map_err(|errno| match errno {
            Errno::EACCES => Unopened::Unreadable,
            errno => Unopened::Refused(errno),
        })?;
        let refused = |error: io::Error| Unopened::Refused(errno_of(&error));
        if purpose == Purpose::Execute {
            let writer = within_limit(path, || writer_of(&file)).map_err(refused)?;
            writer.map_or(Ok(()), |writer| Err(Unopened::BeingWritten(writer)))?;
        }
        let real = fs::read_link(&name).unwrap_or_else(|_| path.to_owned());
        within_limit(path, || Opened::new(file, real)).map_err(refused)
    }

    fn look_up(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        within_limit(&self.outside(path), || match &self.root {
            None => open(path, flags | OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()),
            Some((root, _)) => root_directory::find(root, path, flags, IN_ROOT),
        })
    }

    fn missing(&self, path: &Path) -> Unopened {
        let link = self.look_up(path, OFlag::O_NOFOLLOW);
        let target: Option<OsString> = link.ok().and_then(|link| readlinkat(&link, "").ok());
        target.map_or(Unopened::Missing, |target| Unopened::Dangling(target.into()))
    }

    /// Opens `name`, which is `path`, for reading. If another process has a lease on it, waits until the kernel has broken that, as
    /// `execve(2)` does (`fcntl(2)`, `F_SETLEASE`).
    fn open_whoever_leases(&self, path: &Path, name: &Path) -> nix::Result<File> {
        const PAUSE: Duration = Duration::from_millis(100);
        let mut waiting: Option<Wait> = None;
        loop {
            let mut options = OpenOptions::new();
            let options = options.read(true).custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits());
            let opened = within_limit(path, || options.open(name)).map_err(|error| errno_of(&error));
            if opened.as_ref().err() != Some(&Errno::EWOULDBLOCK) {
                return opened;
            }
            let left = self.left_for_leases();
            let wait = waiting.get_or_insert_with(|| Wait::at_most(left));
            let what = || format!("another process's lease on {}, for {} s at most", path.display(), left.as_secs());
            if !wait.goes_on(None, PAUSE, what).map_err(|error| errno_of(&error))? {
                return opened;
            }
        }
    }

    fn left_for_leases(&self) -> Duration {
        let end = self.leases_end.get_or_init(|| {
            let limit = sysctl("fs.lease-break-time").and_then(|seconds| seconds.parse().ok());
            Instant::now() + limit.map_or(LEASE, Duration::from_secs) + GRACE
        });
        end.saturating_duration_since(Instant::now())
    }
}

fn check_kind(found: &File) -> Result<(), Unopened> {
    let metadata = found.metadata().map_err(|error| Unopened::Refused(errno_of(&error)))?;
    let kind = metadata.file_type();
    Err(Unopened::NoFile(if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        PIPE
    } else if kind.is_socket() {
        "a socket"
    } else {
        DEVICE
    }))
}

/// The kernel's own answer, which knows of access lists and mount options; then which of the two it was.
fn check_executable(found: &File, name: &Path, purpose: Purpose) -> Result<(), Unopened> {
    if faccessat(AT_FDCWD, name, AccessFlags::X_OK, AtFlags::AT_EACCESS).is_ok() {
        return Ok(());
    }
    let noexec = fstatvfs(found).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_NOEXEC));
    let has_x = found.metadata().is_ok_and(|metadata| metadata.mode() & 0o111 != 0);
    Err(match (noexec, has_x) {
        (true, true) if purpose == Purpose::ExecuteElsewhere => return Ok(()),
        (true, _) if purpose == Purpose::Execute => Unopened::NoExec,
        (_, false) => Unopened::NotExecutable,
        (_, true) => Unopened::Denied,
    })
}

impl Opened {
    fn new(mut file: File, real: PathBuf) -> io::Result<Self> {
        let mut head = Vec::new();
        file.by_ref().take(HEAD).read_to_end(&mut head)?;
        file.rewind()?;
        Ok(Self {
            head,
            metadata: file.metadata()?,
            real,
            nosuid: fstatvfs(&file).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_NOSUID)),
            file,
        })
    }
}

/// What has `file` open for writing, if something has: `process 123 (cp)`.
fn writer_of(file: &File) -> io::Result<Option<String>> {
    let metadata = file.metadata()?;
    let answer = check(file);
    if matches!(answer, None | Some(Errno::UnknownErrno)) {
        return Ok(None);
    }
    // before Linux 6.14, or if something else is in the way, only the processes tell
    let unknown = || (answer == Some(Errno::ETXTBSY)).then(|| "a process that this user may not look into".to_owned());
    Ok(process::find_by_descriptor(|path, info, link| writes(path, info, link, &metadata)).or_else(unknown))
}

/// What the kernel says to starting it; `UnknownErrno`, whose number is zero: nothing. A kernel that does not know the
/// flag refuses the call (`EINVAL`), as every kernel has done since `execveat` exists.
fn check(file: &File) -> Option<Errno> {
    let flags = AtFlags::AT_EMPTY_PATH | AtFlags::from_bits_retain(EXECVE_CHECK);
    // the call returns where it is not meant to, and leaves the last errno alone
    Errno::UnknownErrno.set();
    execveat(file, c"", &[c""], &[c""; 0], flags).err()
}

/// Whether this descriptor, by its link in `/proc/PID/fd` and its text in `fdinfo`, is one of `file` that is open for writing.
fn writes(path: &Path, info: &str, link: &Metadata, file: &Metadata) -> bool {
    // the number of the inode first, since Linux 5.14: to ask a file itself can take until a dead server answers
    let inode = info.lines().find_map(|line| line.strip_prefix("ino:"));
    link.mode() & 0o200 != 0
        && inode.is_none_or(|inode| inode.trim() == file.ino().to_string())
        && fs::metadata(path).is_ok_and(|other| (other.dev(), other.ino()) == (file.dev(), file.ino()))
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unopened {
    Missing,
    /// A symbolic link to this path, which does not exist.
    Dangling(PathBuf),
    /// It is no regular file: its kind.
    NoFile(&'static str),
    /// The kernel makes it up as it is read: the name of its file system. It is not read, since that may change the machine.
    MadeUp(&'static str),
    /// Its mode gives nobody the permission to execute it.
    NotExecutable,
    NoExec,
    Denied,
    /// It may be executed, but not read by this user, so that nothing can be said of it.
    Unreadable,
    /// It is open for writing, by this process if that is known: number and name.
    BeingWritten(String),
    Refused(Errno),
}

impl Unopened {
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Missing | Self::Dangling(_))
    }

    /// Whether something is at the path that is no program, whatever its mode.
    pub fn is_no_program(&self) -> bool {
        matches!(self, Self::NoFile(_) | Self::MadeUp(_))
    }

    /// How it ends if an emulator opens it as a program's loader: it waits at a pipe, and so it may at a device.
    pub(super) fn end_of_loader(&self) -> End {
        match self {
            Self::NoFile(PIPE) => End::Waits,
            Self::NoFile(DEVICE) | Self::MadeUp(_) => End::Unknown,
            other => other.end(),
        }
    }

    pub(super) fn end(&self) -> End {
        End::Refused(match self {
            Self::Unreadable => return End::Unknown,
            Self::Missing | Self::Dangling(_) => Errno::ENOENT,
            Self::NoFile(_) | Self::MadeUp(_) | Self::NotExecutable | Self::NoExec | Self::Denied => Errno::EACCES,
            Self::BeingWritten(_) => Errno::ETXTBSY,
            Self::Refused(errno) => *errno,
        })
    }

    /// What to do about the file at `path`, which a shell calls `file`. It is there.
    pub(super) fn remedy(&self, path: &Path, file: &str) -> Remedy {
        match self {
            Self::NotExecutable => Remedy::with(format!("chmod +x {file}"), Fix::Executable(path.to_owned())),
            Self::NoExec => {
                let mount = format!("$(findmnt -n -o TARGET -T {file})");
                let text = format!("copy it elsewhere, or: mount -o remount,exec \"{mount}\"");
                Remedy::with(text, Fix::Copied(path.to_owned()))
            }
            Self::Unreadable => Remedy::advice("ask again as root"),
            Self::BeingWritten(_) => Remedy::advice("try again once that is done"),
            Self::NoFile(_) => Remedy::advice("name a file"),
            Self::MadeUp(_) => Remedy::advice("name a program"),
            Self::Refused(Errno::EMFILE | Errno::ENFILE) => Remedy::advice("raise the limit of open files: ulimit -n"),
            _ => Remedy::advice(format!("see what is in the way: namei -l {file}")),
        }
    }
}

impl fmt::Display for Unopened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("does not exist"),
            Self::Dangling(target) => {
                write!(f, "is a symbolic link to {}, which does not exist", shown(target.as_os_str()))
            }
            Self::NoFile(kind) => write!(f, "is {kind}, not a file"),
            Self::MadeUp(file_system) => {
                write!(f, "is a file that the kernel makes up ({file_system}), so it is no program, and was not read")
            }
            Self::NotExecutable => f.write_str("is not executable: its mode has no x"),
            Self::NoExec => f.write_str("is on a file system that is mounted noexec"),
            Self::Denied => f.write_str("may not be executed by this user"),
            Self::Unreadable => f.write_str("cannot be read by this user, so nothing can be said of it"),
            Self::BeingWritten(writer) => write!(f, "is open for writing, by {writer}"),
            Self::Refused(Errno::ENOTDIR) => {
                f.write_str("has a path that leads through something that is not a directory")
            }
            Self::Refused(Errno::ELOOP) => f.write_str("is a circle of symbolic links"),
            Self::Refused(errno) => write!(f, "cannot be opened: {}", errno.desc()),
        }
    }
}

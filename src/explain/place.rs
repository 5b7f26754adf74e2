//! The root directory that a program would run in, and opening a file there as `execve(2)` opens it.
//!
//! Owns every access to the files that are explained: each is looked at through a descriptor that can neither read nor
//! block (`O_PATH`), and only a regular file is then opened for reading, once. What they hold is for others to say.
//!
//! Rests on `do_open_execat` and `may_open` in Linux's `fs/exec.c` and `fs/namei.c`, and on `openat2(2)`, by which no
//! symbolic link leads out of a root directory that is not this process's own.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open, readlinkat};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::{AccessFlags, faccessat};

use crate::kernel::lookup;
use crate::kernel::wording::errno_of;

mod error;
mod writer;

pub use error::{RootError, Unopened};

/// How much of a file's beginning tells what it is; the kernel's own decision rests on less, see [`super::WINDOW`].
const HEAD: u64 = 512;

/// A root directory.
#[derive(Debug)]
pub struct Place {
    /// If it is another than this process's: open, and where it is.
    root: Option<(OwnedFd, PathBuf)>,
}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The kernel is to start it, or map it as a loader.
    Execute,
    /// The same, had it been copied from where nothing is executed.
    ExecuteElsewhere,
    /// An emulator reads it.
    Read,
}

/// A regular file, open.
#[derive(Debug)]
pub struct Opened {
    /// Its first bytes.
    pub head: Vec<u8>,
    /// How many bytes it had when it was opened.
    pub length: u64,
    /// Where it really is, if symbolic links lead to it: as this process sees it, not as the root directory does.
    pub real: PathBuf,
    /// Permission bits, and whose privilege the setuid and setgid bits among them stand for.
    pub mode: u32,
    /// The owner.
    pub owner: u32,
    /// The group.
    pub group: u32,
    /// Whether its file system is mounted nosuid.
    pub nosuid: bool,
    file: File,
}

impl Place {
    /// This process's own root directory.
    #[must_use]
    pub fn here() -> Self {
        Self { root: None }
    }

    /// The root directory of an unpacked image, or of a chroot.
    ///
    /// # Errors
    /// When it cannot be opened, or nothing can be looked up in it.
    pub fn below(dir: &Path) -> Result<Self, RootError> {
        let unopened = |cause| RootError::Unopened(dir.to_owned(), cause);
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = open(dir, flags, Mode::empty());
        let root = root.map_err(|errno| unopened(errno.into()))?;
        let path = dir.canonicalize().map_err(unopened)?;
        let place = Self {
            root: Some((root, path)),
        };
        // Said here once, not as of each file that it is not there. Unlike a look at "/", that at "/." takes the right to search
        // the directory.
        match place.look_up(Path::new("/."), OFlag::empty()) {
            Ok(_) => Ok(place),
            Err(errno @ Errno::EACCES) => Err(unopened(errno.into())),
            Err(errno) => Err(RootError::NoLookUp(dir.to_owned(), errno)),
        }
    }

    /// `path`, absolute, as this process reaches it if no symbolic link is in the way. `..` leads out of no root directory.
    #[must_use]
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
    #[must_use]
    pub fn inside(&self, path: &Path) -> Option<PathBuf> {
        let (_, root) = self.root.as_ref()?;
        let inside = |path: &Path| Some(Path::new("/").join(path.strip_prefix(root).ok()?));
        let absolute = std::path::absolute(path).ok()?;
        inside(&absolute).or_else(|| inside(&absolute.canonicalize().ok()?))
    }

    /// The program called `name` in the first of the directories that has one, as `execvp(3)` finds it.
    #[must_use]
    pub fn search(&self, name: &Path, directories: &OsStr) -> Option<PathBuf> {
        let mut paths = std::env::split_paths(directories).map(|directory| directory.join(name));
        paths.find(|path| {
            let opened = self.open(path, Purpose::Execute);
            matches!(opened, Ok(_) | Err(Unopened::Unreadable))
        })
    }

    /// Where `path` leads, as this process sees it, if it leads anywhere.
    #[must_use]
    pub fn real(&self, path: &Path) -> Option<PathBuf> {
        let found = self.look_up(path, OFlag::empty()).ok()?;
        fs::read_link(name_of(&found)).ok()
    }

    /// Opens `path`, in the kernel's order of checks.
    ///
    /// # Errors
    /// The first of them that fails.
    pub fn open(&self, path: &Path, purpose: Purpose) -> Result<Opened, Unopened> {
        let found = self
            .look_up(path, OFlag::empty())
            .map_err(|errno| match errno {
                Errno::ENOENT => self.missing(path),
                Errno::EACCES => Unopened::Denied,
                errno => Unopened::Refused(errno),
            })?;
        let found = File::from(found);
        let name = name_of(&found);
        check_kind(&found)?;
        if purpose != Purpose::Read {
            check_executable(&found, &name, purpose)?;
        }
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits());
        let file = file.open(&name).map_err(|error| match errno_of(&error) {
            Errno::EACCES => Unopened::Unreadable,
            errno => Unopened::Refused(errno),
        })?;
        let refused = |error: io::Error| Unopened::Refused(errno_of(&error));
        if purpose == Purpose::Execute {
            let writer = writer::of(&file).map_err(refused)?;
            writer.map_or(Ok(()), |writer| Err(Unopened::BeingWritten(writer)))?;
        }
        Opened::new(
            file,
            fs::read_link(&name).unwrap_or_else(|_| path.to_owned()),
        )
        .map_err(refused)
    }

    fn look_up(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        match &self.root {
            None => open(
                path,
                flags | OFlag::O_PATH | OFlag::O_CLOEXEC,
                Mode::empty(),
            ),
            Some((root, _)) => lookup::find(root, path, flags, lookup::IN_ROOT),
        }
    }

    fn missing(&self, path: &Path) -> Unopened {
        let link = self.look_up(path, OFlag::O_NOFOLLOW);
        let target: Option<OsString> = link.ok().and_then(|link| readlinkat(&link, "").ok());
        target.map_or(Unopened::Missing, |target| {
            Unopened::Dangling(target.into())
        })
    }
}

/// The name in `/proc` of a descriptor, by which one of `O_PATH` is opened for real.
fn name_of(descriptor: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))
}

fn check_kind(found: &File) -> Result<(), Unopened> {
    let metadata = found
        .metadata()
        .map_err(|error| Unopened::Refused(errno_of(&error)))?;
    let kind = metadata.file_type();
    let name = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a named pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(Unopened::NoFile(name))
}

/// The kernel's own answer, which knows of access lists and mount options; then which of the two it was.
fn check_executable(found: &File, name: &Path, purpose: Purpose) -> Result<(), Unopened> {
    if faccessat(AT_FDCWD, name, AccessFlags::X_OK, AtFlags::AT_EACCESS).is_ok() {
        return Ok(());
    }
    let noexec = fstatvfs(found).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_NOEXEC));
    let has_x = found
        .metadata()
        .is_ok_and(|metadata| metadata.mode() & 0o111 != 0);
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
        let metadata = file.metadata()?;
        Ok(Self {
            head,
            length: metadata.len(),
            real,
            mode: metadata.mode(),
            owner: metadata.uid(),
            group: metadata.gid(),
            nosuid: fstatvfs(&file).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_NOSUID)),
            file,
        })
    }

    /// The file itself.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }
}

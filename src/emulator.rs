//! An emulator's file, before it is registered: is it a static ELF program for this host that really starts, and
//! which QEMU is it?
//!
//! A wrong file is refused here, by name, because the kernel would take it and every program of that architecture
//! would fail later. Registered emulators, and what the kernel pinned of them, are not this module's.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use binfmt_magic::arch::{Arch, Class};
use binfmt_magic::entry::Entry;
use goblin::container::{Container, Ctx};
use goblin::elf::header::{header32, header64};
use goblin::elf::program_header::{PT_INTERP, PT_LOAD};
use goblin::elf::{Elf, ProgramHeader};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::geteuid;

use crate::runner::{NotStarted, Other};
use crate::wording::{cause, errno_of};

/// How much of the file is read: the headers of every emulator are in its first page.
pub(crate) const HEAD: u64 = 4096;
/// How long an emulator may take to print its version.
const LIMIT: Duration = Duration::from_secs(20);

/// Why a file cannot serve as an interpreter.
#[derive(Debug)]
pub enum Unfit {
    /// No such file.
    Missing,
    /// A directory, a device, ….
    NotAFile,
    /// No execute permission bit.
    NotExecutable,
    /// A file of no bytes.
    Empty,
    /// No ELF file.
    NotElf,
    /// Its segments lie beyond its end.
    Truncated,
    /// It needs a dynamic loader, which no container has at the path that it asks for.
    Dynamic,
    /// An ELF file of another architecture than this host's, with that one's name.
    Foreign(&'static str),
    /// Anybody may write to this file or folder of its path, and so choose what root starts.
    Replaceable(PathBuf),
    /// It was killed from outside.
    Killed,
    /// The operating system does not let it be read or started.
    Refused(io::Error),
    /// It does not start, or is no QEMU; what it did instead.
    Broken(String),
}

/// An [`Unfit`] file, with its path.
#[derive(Debug)]
pub struct EmulatorError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub unfit: Unfit,
}

impl fmt::Display for EmulatorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.unfit {
            Unfit::Missing => write!(
                f,
                "{path} does not exist; set QEMU_BINARY_PATH to the directory of the emulators"
            ),
            Unfit::NotAFile => write!(
                f,
                "{path} is not a file; set QEMU_BINARY_PATH to the directory of the emulators"
            ),
            Unfit::NotExecutable => write!(f, "{path} is not executable; chmod +x it"),
            Unfit::Empty => write!(f, "{path} is empty; fetch it again"),
            Unfit::NotElf => write!(f, "{path} is not an ELF program; an emulator must be one"),
            Unfit::Truncated => write!(f, "{path} is truncated; fetch it again"),
            Unfit::Dynamic => write!(
                f,
                "{path} is dynamically linked, so it would not start inside a container; use a static build"
            ),
            Unfit::Foreign(other) => write!(
                f,
                "{path} is a program for {other}, not for this host; use this host's build"
            ),
            Unfit::Replaceable(place) => {
                let place = place.display();
                write!(
                    f,
                    "{path} can be replaced by any user, since all may write to {place}; chmod o-w {place}"
                )
            }
            Unfit::Refused(error) => match errno_of(error) {
                Errno::ELOOP => write!(
                    f,
                    "{path} is a circle of symbolic links (ELOOP); put the file itself there"
                ),
                Errno::ETXTBSY => write!(
                    f,
                    "{path} is being written (ETXTBSY); try again once its writer is done"
                ),
                Errno::EACCES => write!(
                    f,
                    "{path} may not be read or executed (EACCES); check its mode, and whether its file system is \
                     mounted noexec"
                ),
                _ => write!(f, "cannot use {path}: {}", cause(error)),
            },
            Unfit::Killed => write!(
                f,
                "{path} was killed (SIGKILL) when it was started; look for a limit of memory (docker run --memory) or \
                 processor time (ulimit -t)"
            ),
            Unfit::Broken(what) => {
                write!(f, "{path} is no working emulator: {what}; fetch it again")
            }
        }
    }
}

impl std::error::Error for EmulatorError {}

/// Opens the file after a look at it without running it: an executable, static, complete ELF program of this host.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn open(path: &Path) -> Result<File, EmulatorError> {
    look(path).map_err(|unfit| EmulatorError {
        path: path.to_owned(),
        unfit,
    })
}

/// Runs the emulator at `path` and returns QEMU's version.
///
/// # Errors
/// When it cannot be opened, and those of [`Asked::version`] and [`Asked::answer`].
pub fn version(path: &Path) -> Result<Version, EmulatorError> {
    Asked::version(path, &open(path)?)?.answer()
}

fn refused(path: &Path, error: io::Error) -> EmulatorError {
    EmulatorError {
        path: path.to_owned(),
        unfit: Unfit::Refused(error),
    }
}

/// What an emulator says it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Version {
    /// QEMU's: `10.0.13`.
    pub number: String,
    /// Whoever built it adds: `Debian 1:10.0.13+ds-0+deb13u1`.
    pub package: Option<String>,
}

impl Version {
    /// `qemu-aarch64 version 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)`
    fn parse(text: &str) -> Option<Self> {
        let (_, after) = text.lines().next()?.split_once(" version ")?;
        let (number, rest) = after.split_once(' ').unwrap_or((after, ""));
        let package = rest
            .trim()
            .strip_prefix('(')
            .and_then(|rest| rest.strip_suffix(')'));
        number
            .starts_with(|c: char| c.is_ascii_digit())
            .then(|| Self {
                number: number.to_owned(),
                package: package.map(str::to_owned),
            })
    }

    /// The parts of the number, to tell older from newer. What is no number counts as nought.
    #[must_use]
    pub fn order(&self) -> Vec<u32> {
        let parts = self.number.split(['.', '-', '+', '~']);
        parts.map(|part| part.parse().unwrap_or(0)).collect()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.number)
    }
}

/// Whether the interpreter of `handler`, whose path is `path` by now, takes `--version` for a question. What runs programs
/// of other systems need not.
#[must_use]
pub fn may_be_asked(handler: Option<&Entry>, path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    handler.is_some_and(Entry::is_qemu) || name.to_string_lossy().contains("qemu")
}

/// An emulator that was started to print its version. Several can be under way at once.
#[derive(Debug)]
pub struct Asked {
    path: PathBuf,
    child: Child,
    deadline: Instant,
}

impl Asked {
    /// Starts `file` with `--version`; `path` is how messages call it.
    ///
    /// # Errors
    /// [`Unfit::Refused`] when no process can be started.
    pub fn version(path: &Path, file: &File) -> Result<Self, EmulatorError> {
        let start = || {
            let mut command = Other::Stdin("--version").command();
            command.stdin(file.try_clone()?);
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
        };
        let child = start().map_err(|error| refused(path, error))?;
        let (path, deadline) = (path.to_owned(), Instant::now() + LIMIT);
        Ok(Self {
            path,
            child,
            deadline,
        })
    }

    /// Waits for what it prints.
    ///
    /// # Errors
    /// [`Unfit::Broken`] when it does not end by itself and well, or says nothing of a version.
    pub fn answer(mut self) -> Result<Version, EmulatorError> {
        let text = self.text();
        let version = text.and_then(|text| {
            let version = Version::parse(&text);
            version.ok_or_else(|| Unfit::Broken("it prints no version".to_owned()))
        });
        version.map_err(|unfit| EmulatorError {
            path: self.path.clone(),
            unfit,
        })
    }

    fn text(&mut self) -> Result<String, Unfit> {
        let pipes = (self.child.stdout.take(), self.child.stderr.take());
        let (Some(stdout), Some(stderr)) = pipes else {
            return Err(Unfit::Broken("it was asked before".to_owned()));
        };
        let text = read_until(stdout, self.deadline).map_err(Unfit::Refused)?;
        let complaint = read_until(stderr, self.deadline).map_err(Unfit::Refused)?;
        loop {
            match self.child.try_wait().map_err(Unfit::Refused)? {
                Some(status) if status.success() => return Ok(text),
                Some(status) => return Err(why_not(&complaint, status)),
                None if Instant::now() >= self.deadline => {
                    return Err(Unfit::Broken("--version does not end".to_owned()));
                }
                None => thread::sleep(Duration::from_micros(100)),
            }
        }
    }
}

/// It does not outlive its use.
impl Drop for Asked {
    fn drop(&mut self) {
        // fails only for one that has ended and been waited for
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What kept it from printing its version: it could not be started, or it failed.
fn why_not(complaint: &str, status: ExitStatus) -> Unfit {
    if let Some(errno) = NotStarted::read(complaint) {
        return Unfit::Refused(errno.into());
    }
    if status.signal() == Some(Signal::SIGKILL as i32) {
        return Unfit::Killed;
    }
    match complaint.lines().next_back() {
        Some(last) => Unfit::Broken(format!("--version ends with {status}, saying: {last}")),
        None => Unfit::Broken(format!("--version ends with {status}")),
    }
}

/// Reads to the end, or to the deadline, or as much as a version can be.
pub(crate) fn read_until(mut pipe: impl Read + AsFd, deadline: Instant) -> io::Result<String> {
    let mut text = Vec::new();
    let mut chunk = [0; 1024];
    while text.len() < 4 * chunk.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        if poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], left)? == 0 {
            break;
        }
        match pipe.read(&mut chunk)? {
            0 => break,
            length => text.extend(&chunk[..length]),
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn look(path: &Path) -> Result<File, Unfit> {
    let metadata = path.metadata().map_err(|e| match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Unfit::Missing,
        _ => Unfit::Refused(e),
    })?;
    if !metadata.is_file() {
        return Err(Unfit::NotAFile);
    }
    if metadata.mode() & 0o111 == 0 {
        return Err(Unfit::NotExecutable);
    }
    if geteuid().is_root() {
        if let Some(place) = open_to_all(path).map_err(Unfit::Refused)? {
            return Err(Unfit::Replaceable(place));
        }
    }
    let mut head = Vec::new();
    let file = File::open(path).map_err(Unfit::Refused)?;
    let mut start = (&file).take(HEAD);
    start.read_to_end(&mut head).map_err(Unfit::Refused)?;
    check_head(&head, metadata.len())?;
    Ok(file)
}

/// The first place on `path`, as it is given and as it is with all links followed, at which every user may put another file:
/// it is writable by all, and is no folder like `/tmp` (sticky), in which nobody may replace what others have put there. Folders
/// of links between the two are not looked at, nor is who owns what.
fn open_to_all(path: &Path) -> io::Result<Option<PathBuf>> {
    let real = path.canonicalize()?;
    for place in path.ancestors().chain(real.ancestors()) {
        if place == Path::new("") {
            continue;
        }
        let metadata = place.metadata()?;
        let sticky = metadata.is_dir() && metadata.mode() & 0o1000 != 0;
        if metadata.mode() & 0o002 != 0 && !sticky {
            return Ok(Some(place.to_owned()));
        }
    }
    Ok(None)
}

/// `head` is the start of a file of `length` bytes.
fn check_head(head: &[u8], length: u64) -> Result<(), Unfit> {
    if head.is_empty() {
        return Err(Unfit::Empty);
    }
    if !head.starts_with(b"\x7fELF") {
        return Err(Unfit::NotElf);
    }
    let segments = segments(head).ok_or(Unfit::Truncated)?;
    if let Some(host) = Arch::of_host() {
        if !host.matches(head) {
            let other = binfmt_magic::arch::ARCHES
                .iter()
                .find(|arch| arch.matches(head));
            return Err(Unfit::Foreign(
                other.map_or("an unknown architecture", |arch| arch.oci),
            ));
        }
    }
    let loaded = |s: &&ProgramHeader| s.p_type == PT_LOAD;
    let end = segments
        .iter()
        .filter(loaded)
        .map(|s| s.p_offset.saturating_add(s.p_filesz))
        .max();
    if end.is_none_or(|end| end > length) {
        return Err(Unfit::Truncated);
    }
    if segments.iter().any(|s| s.p_type == PT_INTERP) {
        return Err(Unfit::Dynamic);
    }
    Ok(())
}

/// The program headers, if `head` reaches that far.
pub(crate) fn segments(head: &[u8]) -> Option<Vec<ProgramHeader>> {
    let header = Elf::parse_header(head).ok()?;
    let (container, size) = if header.e_ident[4] == Class::Elf64 as u8 {
        (Container::Big, header64::SIZEOF_EHDR)
    } else {
        (Container::Little, header32::SIZEOF_EHDR)
    };
    let context = Ctx::new(container, header.endianness().ok()?);
    let start = usize::try_from(header.e_phoff).ok()?;
    if start < size {
        return None;
    }
    ProgramHeader::parse(head, start, usize::from(header.e_phnum), context).ok()
}

//! Deeper than a probe: real programs of a root file system of the architecture, run by its own shell.
//!
//! Each check is a script of what a POSIX shell does with the operating system: processes, pipes, signals, memory,
//! threads. What a root file system has no programs for is told as not tried. Nothing of it is changed: what is written
//! goes to a `/tmp` that ends with the check ([`crate::runner`] runs it apart).

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use binfmt_magic::arch::{ARCHES, Arch};
use goblin::elf::program_header::PT_INTERP;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

use crate::complaint;
use crate::emulator::{HEAD, read_until, segments};
use crate::runner::{NotStarted, Other};
use crate::wording::cause;

mod checks;

use checks::{CHECKS, Check, UNTRIED};

/// How long all checks of a root file system may take, running at the same time.
const LIMIT: Duration = Duration::from_secs(60);

/// What the start of a dynamically linked shell shows: its loader maps libraries.
const LOADING: &str = "dynamic loading";

/// What came of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tried {
    /// It did what it ought to.
    Passed,
    /// It did not; what it did.
    Failed(String),
    /// It was not tried; why.
    Not(String),
}

/// What came of a root file system.
#[derive(Debug)]
pub struct Examined {
    /// Its directory.
    pub root: PathBuf,
    /// The architecture of its shell.
    pub arch: &'static Arch,
    /// Each check by its name.
    pub checks: Vec<(&'static str, Tried)>,
}

/// Why a directory is no root file system to try.
#[derive(Debug)]
pub enum RootError {
    /// Its `/bin/sh` cannot be opened.
    NoShell(PathBuf, io::Error),
    /// Its `/bin/sh` is no ELF program of a known architecture.
    Unknown(PathBuf),
    /// Processes cannot be started.
    Refused(PathBuf, io::Error),
}

impl fmt::Display for RootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoShell(root, error) => write!(
                f,
                "{} is no root file system to try: its /bin/sh: {}; give --deep the directory of one",
                root.display(),
                cause(error)
            ),
            Self::Unknown(root) => write!(
                f,
                "the /bin/sh of {} is no program of an architecture that QEMU runs; give --deep another directory",
                root.display()
            ),
            Self::Refused(root, error) => write!(
                f,
                "cannot run the shell of {}: {}; run it as root",
                root.display(),
                cause(error)
            ),
        }
    }
}

impl std::error::Error for RootError {}

/// The architecture that the shell of `root` is for, and whether it is dynamically linked.
fn shell_of(root: &Path) -> Result<(&'static Arch, bool), RootError> {
    let refused = |error| RootError::NoShell(root.to_owned(), error);
    let file = open_in(root, "bin/sh").map_err(refused)?;
    let mut head = Vec::new();
    let read = File::from(file).take(HEAD).read_to_end(&mut head);
    read.map_err(refused)?;
    let arch = ARCHES.iter().find(|arch| arch.matches(&head));
    let arch = arch.ok_or_else(|| RootError::Unknown(root.to_owned()))?;
    let segments = segments(&head).unwrap_or_default();
    Ok((arch, segments.iter().any(|s| s.p_type == PT_INTERP)))
}

/// Opens what `path` is to a program in `root`: symbolic links of it lead nowhere else.
fn open_in(root: &Path, path: &str) -> io::Result<OwnedFd> {
    let dir = open(root, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT);
    Ok(openat2(dir, path, how)?)
}

/// Tries everything in `root`, at the same time. `credentials`: whether a handler honours the setuid bit, by
/// architecture.
///
/// # Errors
/// When it is no root file system, or no process can be started in it.
pub fn examine(root: &Path, credentials: impl Fn(&Arch) -> bool) -> Result<Examined, RootError> {
    let (arch, is_dynamic) = shell_of(root)?;
    let deadline = Instant::now() + LIMIT;
    let mut running = Vec::new();
    for check in CHECKS {
        let reason = match check.name {
            "setuid" if !credentials(arch) => {
                Some("its handler does not honour the setuid bit".to_owned())
            }
            _ => lacks(root, check),
        };
        running.push(match reason {
            Some(reason) => Err(Tried::Not(reason)),
            None => Ok(Running::start(root, check, deadline)
                .map_err(|error| RootError::Refused(root.to_owned(), error))?),
        });
    }
    let mut checks = Vec::new();
    for (check, running) in CHECKS.iter().zip(running) {
        let tried = match running {
            Ok(running) => running
                .answer(check)
                .map_err(|error| RootError::Refused(root.to_owned(), error))?,
            Err(not) => not,
        };
        checks.push((check.name, tried));
    }
    let starts = matches!(checks.first(), Some((_, Tried::Passed)));
    if !starts {
        let not = || Tried::Not("its shell does not start".to_owned());
        checks
            .iter_mut()
            .skip(1)
            .for_each(|(_, tried)| *tried = not());
    }
    let loading = match (starts, is_dynamic) {
        (false, _) => Tried::Not("its shell does not start".to_owned()),
        (true, true) => Tried::Passed,
        (true, false) => Tried::Not("its shell is static".to_owned()),
    };
    checks.insert(1, (LOADING, loading));
    Ok(Examined {
        root: root.to_owned(),
        arch,
        checks,
    })
}

/// What `root` does not have of what `check` needs.
fn lacks(root: &Path, check: &Check) -> Option<String> {
    let is_there = |path: &str| open_in(root, path).is_ok();
    let folder = check.folders.iter().find(|folder| !is_there(folder));
    if let Some(folder) = folder {
        return Some(format!("there is no directory /{folder}"));
    }
    let has = |program: &&&str| {
        ["usr/bin", "bin"]
            .iter()
            .any(|folder| is_there(&format!("{folder}/{program}")))
    };
    let program = check.programs.iter().find(|program| !has(program));
    program.map(|program| format!("there is no program {program}"))
}

/// A check under way. It does not outlive its use, nor does what it has started.
struct Running {
    child: Child,
    deadline: Instant,
}

impl Running {
    fn start(root: &Path, check: &Check, deadline: Instant) -> io::Result<Self> {
        let mut command = Other::Shell(root, check.script).command();
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Self { child, deadline })
    }

    fn answer(mut self, check: &Check) -> io::Result<Tried> {
        let (stdout, stderr) = (self.child.stdout.take(), self.child.stderr.take());
        let said = stdout.map_or(Ok(String::new()), |pipe| read_until(pipe, self.deadline))?;
        let said_otherwise =
            stderr.map_or(Ok(String::new()), |pipe| read_until(pipe, self.deadline))?;
        if let Some(errno) = NotStarted::read(&said_otherwise) {
            return not_started(errno);
        }
        let said = said.trim_end();
        if said == check.expected {
            return Ok(Tried::Passed);
        }
        if let Some(why) = said.strip_prefix(UNTRIED) {
            return Ok(Tried::Not(why.to_owned()));
        }
        let mut what = vec![format!("printed {said:?}, not {:?}", check.expected)];
        if Instant::now() >= self.deadline {
            what.push("did not end".to_owned());
        }
        let line = complaint::telling(said_otherwise.trim_end());
        what.extend(line.map(|line| format!("said: {line}")));
        Ok(Tried::Failed(what.join("; ")))
    }
}

/// The shell's own `execve(2)` tells of its handler; anything else of what this process may do.
fn not_started(errno: Errno) -> io::Result<Tried> {
    match errno {
        Errno::ENOEXEC => Ok(Tried::Failed("no handler runs it (ENOEXEC)".to_owned())),
        Errno::ENOENT => Ok(Tried::Failed(
            "its loader, or the interpreter of its handler, is not there (ENOENT)".to_owned(),
        )),
        errno => Err(errno.into()),
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // fails only for one that has ended and been waited for
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

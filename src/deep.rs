//! Deeper than a probe: real programs of a root file system of the architecture, run by its own shell.
//!
//! Each check is a script of what a POSIX shell does with the operating system: processes, pipes, signals, memory,
//! threads. What a root file system has no programs for is told as not tried. Nothing of it is changed: what is written
//! goes to a `/tmp` that ends with the check ([`crate::runner`] runs it apart).

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use binfmt_magic::arch::{ARCHES, Arch};
use goblin::elf::program_header::PT_INTERP;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;

use crate::complaint;
use crate::emulator::{HEAD, segments};
use crate::lookup;
use crate::runner::{NotStarted, Other, refusal};
use crate::wording::{cause, errno_of};

mod checks;

use checks::{CHECKS, Check, START, UNTRIED};

/// How long all checks of a root file system may take, running at the same time.
const LIMIT: Duration = Duration::from_secs(60);

/// How long its shell may take for one line, the others running at the same time. What does not even do that is not
/// waited for any longer.
const START_LIMIT: Duration = Duration::from_secs(15);

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
    /// The architecture of its shell.
    pub arch: &'static Arch,
    /// Whether its shell starts; without that nothing else is tried.
    pub starts: bool,
    /// Each check by its name.
    pub checks: Vec<(&'static str, Tried)>,
}

impl Examined {
    /// The names of the checks that have failed.
    #[must_use]
    pub fn failing(&self) -> Vec<&'static str> {
        let failed = |(_, tried): &&(&str, Tried)| matches!(tried, Tried::Failed(_));
        self.checks
            .iter()
            .filter(failed)
            .map(|(name, _)| *name)
            .collect()
    }
}

/// Why a directory is no root file system to try.
#[derive(Debug)]
pub enum RootError {
    /// Its `/bin/sh` cannot be looked at; why.
    NoShell(PathBuf, String),
    /// Its `/bin/sh` is no ELF program of a known architecture.
    Unknown(PathBuf),
    /// The kernel cannot look up paths in another root directory.
    TooOld(PathBuf),
    /// Processes cannot be started apart.
    Refused(PathBuf, io::Error),
}

impl fmt::Display for RootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoShell(root, why) => write!(
                f,
                "{} is no root file system to try: its /bin/sh: {why}; give --deep the directory of one",
                root.display()
            ),
            Self::Unknown(root) => write!(
                f,
                "the /bin/sh of {} is no program of an architecture that QEMU runs; give --deep another directory",
                root.display()
            ),
            Self::TooOld(root) => write!(
                f,
                "cannot look into {}: there is no openat2 here (ENOSYS); use Linux 5.6, and a container runtime that lets it through",
                root.display()
            ),
            Self::Refused(root, error) => {
                let remedy = match errno_of(error) {
                    Errno::EPERM => "run it as root",
                    _ => {
                        "it takes namespaces, see the limits user.max_mnt_namespaces and user.max_pid_namespaces"
                    }
                };
                let root = root.display();
                write!(
                    f,
                    "cannot run the shell of {root}: {}; {remedy}",
                    cause(error)
                )
            }
        }
    }
}

impl std::error::Error for RootError {}

/// The architecture that the shell of `root` is for, and whether it is dynamically linked.
fn shell_of(root: &Path) -> Result<(&'static Arch, bool), RootError> {
    let head = head_of(root, "bin/sh").map_err(|error| match errno_of(&error) {
        Errno::ENOSYS => RootError::TooOld(root.to_owned()),
        _ => RootError::NoShell(root.to_owned(), cause(&error)),
    })?;
    let arch = ARCHES.iter().find(|arch| arch.matches(&head));
    let arch = arch.ok_or_else(|| RootError::Unknown(root.to_owned()))?;
    let segments = segments(&head).unwrap_or_default();
    Ok((arch, segments.iter().any(|s| s.p_type == PT_INTERP)))
}

/// The first bytes of a regular file. Nothing else is opened, for that may block.
fn head_of(root: &Path, path: &str) -> io::Result<Vec<u8>> {
    let found = find_in(root, path)?;
    if !found.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut head = Vec::new();
    let file = File::open(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
    file.take(HEAD).read_to_end(&mut head)?;
    Ok(head)
}

/// Finds what `path` is to a program in `root`: symbolic links of it lead nowhere else. Needs no permission for the
/// file itself, for neither does a program that may only be executed.
fn find_in(root: &Path, path: &str) -> io::Result<File> {
    let dir = open(root, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let found = lookup::find(dir, Path::new(path), OFlag::empty(), lookup::IN_ROOT)?;
    Ok(found.into())
}

/// Tries everything in `root`, at the same time. `credentials`: whether the handler of an architecture honours the
/// setuid bit.
///
/// # Errors
/// When it is no root file system, or no process can be started in it.
pub fn examine(root: &Path, credentials: impl Fn(&Arch) -> bool) -> Result<Examined, RootError> {
    let (arch, is_dynamic) = shell_of(root)?;
    let credentials = credentials(arch);
    let refused = |error| RootError::Refused(root.to_owned(), error);
    let now = Instant::now();
    let start = Running::start(root, &START, now + START_LIMIT).map_err(refused)?;
    let mut running = Vec::new();
    for check in CHECKS {
        let no_credentials = check.credentials && !credentials;
        let reason = no_credentials
            .then(|| "its handler does not honour the setuid bit".to_owned())
            .or_else(|| lacks(root, check));
        running.push(match reason {
            Some(reason) => Err(Tried::Not(reason)),
            None => Ok(Running::start(root, check, now + LIMIT).map_err(refused)?),
        });
    }
    let started = start.answer(&START).map_err(refused)?;
    let starts = started == Tried::Passed;
    let not = || Tried::Not("its shell does not start".to_owned());
    let loading = match (starts, is_dynamic) {
        (false, _) => not(),
        (true, true) => Tried::Passed,
        (true, false) => Tried::Not("its shell is static".to_owned()),
    };
    let mut checks = vec![(START.name, started), (LOADING, loading)];
    for (check, running) in CHECKS.iter().zip(running) {
        let tried = match running {
            _ if !starts => not(),
            Ok(running) => running.answer(check).map_err(refused)?,
            Err(not) => not,
        };
        checks.push((check.name, tried));
    }
    Ok(Examined {
        arch,
        starts,
        checks,
    })
}

/// What `root` does not have of what `check` needs.
fn lacks(root: &Path, check: &Check) -> Option<String> {
    let is_there = |path: &str| find_in(root, path).is_ok();
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
            return Err(errno.into());
        }
        if let Some(errno) = refusal(&said_otherwise) {
            return Ok(Tried::Failed(refused(errno)));
        }
        let end = self.end()?;
        let said = said.trim_end();
        match said.strip_prefix(UNTRIED) {
            _ if end.is_some() => {}
            Some(why) => return Ok(Tried::Not(why.to_owned())),
            None if said == check.expected => return Ok(Tried::Passed),
            None => {}
        }
        let mut what = Vec::new();
        if said != check.expected {
            what.push(format!("printed {said:?}, not {:?}", check.expected));
        }
        what.extend(end);
        let line = complaint::telling(said_otherwise.trim_end());
        what.extend(line.map(|line| format!("said: {line}")));
        Ok(Tried::Failed(what.join("; ")))
    }

    /// Waits for its end; what was wrong with it.
    fn end(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok((!status.success()).then(|| format!("ended with {status}")));
            }
            if Instant::now() >= self.deadline {
                return Ok(Some("did not end".to_owned()));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// What the shell's own `execve(2)` tells of its handler, and of the file.
fn refused(errno: Errno) -> String {
    match errno {
        Errno::ENOEXEC => "no handler runs it (ENOEXEC)".to_owned(),
        Errno::ENOENT => {
            "its loader, or the interpreter of its handler, is not there (ENOENT)".to_owned()
        }
        Errno::ELOOP => {
            "the interpreter of its handler is itself taken by a handler (ELOOP)".to_owned()
        }
        errno => format!("the kernel does not start it: {} ({errno:?})", errno.desc()),
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // fails only for one that has ended and been waited for
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads to the end, or to the deadline, or as much as an answer can be.
fn read_until(mut pipe: impl Read + AsFd, deadline: Instant) -> io::Result<String> {
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

//! What a process of ours that was just started does before it becomes another program: it ties its life to its
//! parent's.
//!
//! The standard library cannot do that between `fork` and `exec` without `unsafe`, so this program is started again
//! with a hidden first argument ([`BECOME`]) and does it to itself.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

use super::BECOME;
use super::apart;

/// What it becomes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Other<'a> {
    /// The shell of this root file system with this script, in namespaces of its own that end with it.
    Shell(&'a Path, &'a str),
}

impl Other<'_> {
    pub(super) const SHELL: &'static str = "shell";
    /// Not asked for from outside: the first process of the namespaces of [`Other::Shell`].
    pub(super) const INIT: &'static str = "init";

    /// A process that becomes it. It ends with the calling thread.
    pub(crate) fn command(self) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.arg(BECOME).arg(std::process::id().to_string());
        match self {
            Self::Shell(root, script) => command.arg(Self::SHELL).arg(root).arg(script),
        };
        command.env_clear().stdin(Stdio::null());
        command
    }
}

/// Why a process could not become what it was to become. Its text on stderr tells the parent.
#[derive(Debug)]
pub struct NotStarted(Errno);

impl NotStarted {
    /// What no program says.
    const PREFIX: &'static str = "\0errno ";

    /// What a process says that has ended; `None` if it became the other program.
    pub(crate) fn read(stderr: &str) -> Option<Errno> {
        let errno = stderr.trim().strip_prefix(Self::PREFIX)?;
        errno.parse().ok().map(Errno::from_raw)
    }
}

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, self.0 as i32)
    }
}

impl From<io::Error> for NotStarted {
    fn from(error: io::Error) -> Self {
        Self(crate::wording::errno_of(&error))
    }
}

impl From<Errno> for NotStarted {
    fn from(errno: Errno) -> Self {
        Self(errno)
    }
}

/// What the process does that was started with [`BECOME`]; `words` follow the verb.
///
/// # Errors
/// Why it did not become the other program.
pub fn become_other(words: &[OsString]) -> Result<Infallible, NotStarted> {
    let [parent, kind, arguments @ ..] = words else {
        return Err(Errno::EINVAL.into());
    };
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // it may have ended before this was asked for
    if *parent != *getppid().to_string() {
        return Err(Errno::ESRCH.into());
    }
    match (kind.to_str(), arguments) {
        (Some(Other::SHELL), [root, script]) => apart::enter(Path::new(root), script),
        (Some(Other::INIT), [root, script]) => apart::run_shell(Path::new(root), script),
        _ => Err(Errno::EINVAL.into()),
    }
}

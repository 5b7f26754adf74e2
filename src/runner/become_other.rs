//! What a process of ours that was just started does before it becomes another program: it ties its life to its
//! parent's and, for a probe, lets itself be held at the start.
//!
//! The standard library can do neither between `fork` and `exec` without `unsafe`, so this program is started again
//! with a hidden first argument ([`BECOME`]) and does it to itself.

use std::convert::Infallible;
use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::io::{self, stdin};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

use binfmt_magic::probe;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::ptrace;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{chroot, execve, fexecve, getppid};

use super::BECOME;
use super::apart;
use super::serve::LIMIT;

/// What it becomes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Other<'a> {
    /// The program that is open as its standard input, with this argument. Needs no path, so that a file that has been
    /// deleted, or is in somebody else's mount namespace, can be started.
    Stdin(&'a str),
    /// This probe, held at its start, in this root directory.
    Probe(&'a Path, &'a Path),
    /// The shell of this root file system with this script, in namespaces of its own that end with it.
    Shell(&'a Path, &'a str),
}

impl Other<'_> {
    const STDIN: &'static str = "stdin";
    const PROBE: &'static str = "probe";
    pub(super) const SHELL: &'static str = "shell";
    /// Not asked for from outside: the first process of the namespaces of [`Other::Shell`].
    pub(super) const INIT: &'static str = "init";

    /// A process that becomes it. It ends with the calling thread.
    pub(crate) fn command(self) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.arg(BECOME).arg(std::process::id().to_string());
        match self {
            Self::Stdin(argument) => command.args([Self::STDIN, argument]),
            Self::Probe(root, program) => command.arg(Self::PROBE).arg(root).arg(program),
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
        (Some(Other::STDIN), [argument]) => become_stdin(argument),
        (Some(Other::PROBE), [root, program]) => become_probe(Path::new(root), program),
        (Some(Other::SHELL), [root, script]) => apart::enter(Path::new(root), script),
        (Some(Other::INIT), [root, script]) => apart::run_shell(Path::new(root), script),
        _ => Err(Errno::EINVAL.into()),
    }
}

fn become_stdin(argument: &OsStr) -> Result<Infallible, NotStarted> {
    let name = CString::from(c"qemu");
    let argument = CString::new(argument.as_bytes()).map_err(|_| Errno::EINVAL)?;
    let (arguments, environment) = ([name, argument], [] as [CString; 0]);
    // By its number first: /proc may be another PID namespace's. Kernels of the 5.10 series were seen to know no file by
    // number alone, and say that there is none.
    match fexecve(stdin(), &arguments, &environment) {
        Err(Errno::ENOENT) => Ok(execve(c"/proc/self/fd/0", &arguments, &environment)?),
        other => Ok(other?),
    }
}

fn become_probe(root: &Path, program: &OsStr) -> Result<Infallible, NotStarted> {
    if root != Path::new("/") {
        chroot(root)?;
        env::set_current_dir("/")?;
    }
    // the last resort should nobody be left to end it; a refusal means a tighter limit already
    let seconds = LIMIT.as_secs();
    let _ = setrlimit(Resource::RLIMIT_CPU, seconds, seconds);
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    // Where it is refused, the probe runs unheld and nobody sees which file the kernel runs for it.
    let _ = ptrace::traceme();
    // not by way of execvp(3), which has a shell try what the kernel refuses
    let program = CString::new(program.as_bytes()).map_err(|_| Errno::EINVAL)?;
    let argv0 = CString::new([probe::ARGV0]).map_err(|_| Errno::EINVAL)?;
    Ok(execve(&program, &[argv0], &[] as &[CString])?)
}

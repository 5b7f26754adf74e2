//! Why programs of an architecture do not run.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use binfmt_magic::arch::{Arch, Class};
use nix::errno::Errno;
use nix::sys::signal::Signal;

use crate::emulator::complaint::{Cause, Complaint};
use crate::helper::probes::ProbeOutcome;
use crate::kernel::wording::shown;

/// Why programs of an architecture do not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The kernel knows no way to run them.
    NoHandler,
    /// There is a handler, but it is switched off: the whole table, or this entry alone.
    SwitchedOff {
        /// If it is the whole table: the file that switches it on.
        table: Option<PathBuf>,
    },
    /// The handler's interpreter is looked up where the program runs, and is missing there.
    NotPinned,
    /// The handler's interpreter is pinned, and needs a loader that is missing where the program runs.
    NoLoader,
    /// `execve(2)` fails otherwise.
    Refused(Errno),
    /// A signal ended the emulator.
    Killed(i32, Complaint),
    /// The emulator ended with a status that is none of the probe's.
    WrongAnswer(i32, Complaint),
    /// The emulator did not end.
    TimedOut(Complaint),
    /// The kernel would run them natively, but an entry takes them.
    Hijacked { entry: OsString, failure: Box<Failure> },
}

impl Failure {
    pub(super) fn of(outcome: ProbeOutcome, pinned: Option<bool>, complaint: Complaint) -> Self {
        match outcome {
            ProbeOutcome::Exited(status) => Self::WrongAnswer(status, complaint),
            ProbeOutcome::Killed(signal) => Self::Killed(signal, complaint),
            ProbeOutcome::TimedOut | ProbeOutcome::Setuid(_) => Self::TimedOut(complaint),
            ProbeOutcome::Refused(errno) => match (Errno::from_raw(errno), pinned) {
                (Errno::ENOEXEC, None) => Self::NoHandler,
                (Errno::ENOENT, Some(false)) => Self::NotPinned,
                // the interpreter itself is open, so the missing file is the one that it names (PT_INTERP, or #!)
                (Errno::ENOENT, Some(true)) => Self::NoLoader,
                (errno, _) => Self::Refused(errno),
            },
        }
    }

    /// What to do, if the emulator's complaint shows a cause that another install does not remove.
    pub fn outer_remedy(&self, arch: &Arch) -> Option<String> {
        let (Self::Killed(_, complaint) | Self::WrongAnswer(_, complaint) | Self::TimedOut(complaint)) = self else {
            return None;
        };
        let starved = arch.class == Class::Elf32 && complaint.limits.deny_32_bit() && self.is_out_of_time();
        // with so little memory, it may crash before it can complain
        let crashed = matches!(self, Self::Killed(..)) && complaint.limits.are_tight();
        let starved = starved || crashed;
        complaint.cause().or(starved.then_some(Cause::AddressSpace))?.remedy(&complaint.limits)
    }

    pub fn is_timeout(&self) -> bool {
        match self {
            Self::TimedOut(_) => true,
            Self::Hijacked { failure, .. } => failure.is_timeout(),
            _ => false,
        }
    }

    /// Whether the emulator used more time, or processor time, than a probe may.
    fn is_out_of_time(&self) -> bool {
        const BY_LIMIT: [Signal; 2] = [Signal::SIGKILL, Signal::SIGXCPU];
        match self {
            Self::TimedOut(_) => true,
            Self::Killed(signal, _) => BY_LIMIT.iter().any(|limit| *limit as i32 == *signal),
            _ => false,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let complaint = match self {
            Self::NoHandler => return f.write_str("no handler"),
            Self::SwitchedOff { table: Some(_) } => return f.write_str("binfmt_misc is switched off"),
            Self::SwitchedOff { table: None } => return f.write_str("its handler is switched off"),
            Self::Hijacked { entry, failure } => {
                return write!(f, "native, but {} takes its programs: {failure}", shown(entry));
            }
            Self::NotPinned => return f.write_str("not pinned (no flag F): containers do not find its interpreter"),
            Self::NoLoader => {
                return f
                    .write_str("its interpreter is dynamically linked: containers do not find its loader (ENOENT)");
            }
            Self::Refused(errno) => {
                return match errno {
                    Errno::ELOOP => f.write_str("its interpreter is itself taken by a handler (ELOOP)"),
                    Errno::ENOEXEC => f.write_str("its interpreter is no program that runs here (ENOEXEC)"),
                    errno => write!(f, "the kernel does not start it: {} ({errno:?})", errno.desc()),
                };
            }
            Self::Killed(signal, complaint) => {
                match Signal::try_from(*signal) {
                    Ok(name) => write!(f, "killed by {name}")?,
                    Err(_) => write!(f, "killed by signal {signal}")?,
                }
                complaint
            }
            Self::WrongAnswer(status, complaint) => {
                write!(f, "wrong answer (exit status {status})")?;
                complaint
            }
            Self::TimedOut(complaint) => {
                f.write_str("timed out")?;
                complaint
            }
        };
        complaint.telling().map_or(Ok(()), |line| write!(f, "; the emulator said: {line}"))
    }
}

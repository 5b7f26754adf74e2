//! Why programs of an architecture do not run.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use binfmt_magic::arch::{Arch, Class, Kind};
use nix::errno::Errno;
use nix::sys::signal::Signal;

use crate::emulator::complaint::{Cause, Complaint};
use crate::helper::probes::ProbeOutcome;
use crate::kernel::wording::shown;

/// What to do about an emulator that runs no programs for a reason of its own.
pub const ANOTHER_BUILD: &str = "put another build there";

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
    /// The same, and it is missing at this path here, too.
    NoInterpreter(PathBuf),
    /// The handler's interpreter is pinned, and needs a loader that is missing where the program runs.
    NoLoader,
    /// The entry only replaces the loader of native programs (flag L), and the kernel refuses all others that it takes.
    NativeOnly,
    /// `execve(2)` fails otherwise.
    Refused(Errno),
    /// A signal ended the emulator.
    Killed(i32, Complaint),
    /// The emulator ended with a status that is none of the probe's.
    WrongAnswer(i32, Complaint),
    /// The emulator did not end.
    TimedOut(Complaint),
    /// The kernel still waited for the emulator's file when the time was up.
    Stuck,
    /// Most programs run, but not those of this kind: an entry takes them, or none does.
    OfKind { kind: Kind, entry: Option<OsString>, failure: Box<Self> },
    /// Only programs of this kind are taken by a handler; why they do not run, if they do not.
    OnlyOfKind { kind: Kind, failure: Option<Box<Self>> },
    /// The kernel would run them natively, but an entry takes them.
    Hijacked { entry: OsString, failure: Box<Self> },
}

impl Failure {
    pub(super) fn of(outcome: ProbeOutcome, pinned: Option<bool>, complaint: Complaint) -> Self {
        match outcome {
            ProbeOutcome::Exited(status) => Self::WrongAnswer(status, complaint),
            ProbeOutcome::Killed(signal) => Self::Killed(signal, complaint),
            ProbeOutcome::Stuck => Self::Stuck,
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

    /// What the emulator said, if it was started.
    fn complaint(&self) -> Option<&Complaint> {
        match self {
            Self::Killed(_, complaint) | Self::WrongAnswer(_, complaint) | Self::TimedOut(complaint) => Some(complaint),
            _ => None,
        }
    }

    /// What to do, if the emulator's complaint shows a cause that another install does not remove.
    pub fn outer_remedy(&self, arch: &Arch) -> Option<String> {
        let complaint = self.complaint()?;
        let starved = arch.class == Class::Elf32 && complaint.limits.deny_32_bit() && self.is_out_of_time();
        // with so little memory, it may crash before it can complain
        let crashed = matches!(self, Self::Killed(..)) && complaint.limits.are_tight();
        let starved = starved || crashed;
        complaint.cause().or(starved.then_some(Cause::AddressSpace))?.remedy(&complaint.limits)
    }

    /// What to do about an emulator that fails so when it is tried.
    pub fn remedy_of_emulator(&self, arch: &Arch) -> String {
        self.outer_remedy(arch).unwrap_or_else(|| ANOTHER_BUILD.to_owned())
    }

    /// Whether programs may run here all the same: a probe runs in an empty root directory, and this one needs a file.
    pub fn is_of_containers(&self) -> bool {
        matches!(self, Self::NotPinned | Self::NoLoader)
    }

    pub fn is_timeout(&self) -> bool {
        match self {
            Self::TimedOut(_) | Self::Stuck => true,
            Self::Hijacked { failure, .. }
            | Self::OfKind { failure, .. }
            | Self::OnlyOfKind { failure: Some(failure), .. } => failure.is_timeout(),
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
        match self {
            Self::NoHandler => f.write_str("no handler"),
            Self::SwitchedOff { table: Some(_) } => f.write_str("binfmt_misc is switched off"),
            Self::SwitchedOff { table: None } => f.write_str("its handler is switched off"),
            Self::Hijacked { entry, failure } => {
                write!(f, "native, but {} takes its programs: {failure}", shown(entry))
            }
            Self::OfKind { kind, entry: Some(entry), failure } => {
                write!(f, "most run, but {} takes {}: {failure}", shown(entry), named(*kind))
            }
            Self::OfKind { kind, entry: None, .. } => write!(f, "most run, but no handler takes {}", named(*kind)),
            Self::OnlyOfKind { kind, failure: Some(failure) } => {
                write!(f, "its handler takes only {}: {failure}", named(*kind))
            }
            Self::OnlyOfKind { kind, failure: None } => {
                write!(f, "only {} run: its handler takes no others", named(*kind))
            }
            Self::NotPinned => f.write_str(
                "not pinned (no flag F): containers do not find its interpreter, and only root directories that have it can \
                 run them",
            ),
            Self::NoInterpreter(path) => {
                write!(f, "its interpreter {} does not exist, and none is pinned (no flag F)", path.display())
            }
            Self::NoLoader => f.write_str(
                "its interpreter is dynamically linked: containers do not find its loader (ENOENT), and only root \
                 directories that have it can run them",
            ),
            Self::NativeOnly => f.write_str(
                "the entry that takes them only replaces the loader of native programs (flag L), so the kernel refuses these \
                 (ENOEXEC)",
            ),
            Self::Refused(Errno::ELOOP) => f.write_str("its interpreter is itself taken by a handler (ELOOP)"),
            Self::Refused(Errno::ENOEXEC) => f.write_str("its interpreter is no program that runs here (ENOEXEC)"),
            Self::Refused(errno) => write!(f, "the kernel does not start it: {} ({errno:?})", errno.desc()),
            Self::Killed(signal, _) => match Signal::try_from(*signal) {
                Ok(name) => write!(f, "killed by {name}"),
                Err(_) => write!(f, "killed by signal {signal}"),
            },
            Self::WrongAnswer(status, _) => write!(f, "wrong answer (exit status {status})"),
            Self::TimedOut(_) => f.write_str("timed out"),
            Self::Stuck => f.write_str("timed out: the kernel waits for its interpreter's file system, which does not answer"),
        }?;
        let line = self.complaint().and_then(Complaint::telling);
        line.map_or(Ok(()), |line| write!(f, "; the emulator said: {line}"))
    }
}

fn named(kind: Kind) -> &'static str {
    match kind {
        Kind::Pie => "position-independent ones (ET_DYN)",
        Kind::Gnu => "those with the mark of GNU (EI_OSABI 3)",
        Kind::GnuPie => "position-independent ones with the mark of GNU (ET_DYN, EI_OSABI 3)",
    }
}

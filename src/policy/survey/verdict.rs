//! What probes have shown: of an architecture, or of a kind of its programs; and of what the kernel does with setuid programs.

use std::path::Path;

use binfmt_magic::arch::Arch;
use binfmt_magic::entry::Entry;
use binfmt_magic::probe::{self, Reading};
use nix::errno::Errno;

use super::{Failure, may_be_native};
use crate::emulator::complaint::{Complaint, Limits};
use crate::helper::files::Files;
use crate::helper::probes::{Job, ProbeOutcome, Run};

/// What one architecture's probe showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Works {
        /// Micro-architecture level: 1 to 4 on amd64, else 1.
        level: u8,
        /// Whether a program sees the `argv[0]` that its caller chose (the effect of flag P).
        argv0: bool,
        /// Processor time of one start, in microseconds.
        micros: u64,
    },
    Fails(Failure),
}

impl Verdict {
    /// What `run` of the probe of `arch` shows. `pinned`: whether its handler has flag F, if it has a handler.
    pub fn of(arch: &Arch, pinned: Option<bool>, run: &Run) -> Self {
        let reading = match run.outcome {
            ProbeOutcome::Exited(status) => probe::read(arch, status),
            _ => Reading::Wrong,
        };
        let (level, argv0) = match reading {
            Reading::Wrong => {
                let complaint = Complaint::new(&run.complaint, Limits::of_this_process());
                return Self::Fails(Failure::of(run.outcome, pinned, complaint));
            }
            // it was not run in an empty root directory: programs in containers do not find the interpreter
            _ if pinned == Some(false) => return Self::Fails(Failure::NotPinned),
            Reading::Kept { level } => (level, true),
            Reading::Replaced { level } => (level, false),
        };
        Self::Works { level, argv0, micros: run.micros }
    }

    /// Why programs do not run, if they do not.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Fails(failure) => Some(failure),
            Self::Works { .. } => None,
        }
    }

    /// The micro-architecture level that was seen to run, if programs run.
    pub fn level(&self) -> Option<u8> {
        match self {
            Self::Works { level, .. } => Some(*level),
            Self::Fails(_) => None,
        }
    }
}

/// Tells interpreters that are not pinned from those that do not exist at all: each verdict comes with its handler.
pub(super) fn find_missing<'a>(verdicts: impl Iterator<Item = (Option<&'a Entry>, &'a mut Verdict)>) {
    let unpinned = verdicts.filter_map(|(handler, verdict)| {
        let path = handler?.interpreter.as_deref().filter(|path| path.is_absolute())?;
        (*verdict == Verdict::Fails(Failure::NotPinned)).then_some((path, verdict))
    });
    let unpinned: Vec<(&Path, &mut Verdict)> = unpinned.collect();
    let there = Files::at(&unpinned.iter().map(|(path, _)| *path).collect::<Vec<_>>());
    for (path, verdict) in unpinned {
        if there.get(path) == Some(Err(Errno::ENOENT)) {
            *verdict = Verdict::Fails(Failure::NoInterpreter(path.to_owned()));
        }
    }
}

/// What the kernel does with setuid programs, and so what a handler does with them (flag C).
#[derive(Debug, Default)]
pub(super) struct Setuid {
    /// Whether native ones get their owner's privilege. If not, nothing can be said: a traced process gets no privilege if its
    /// tracer has none, and neither does one with `no_new_privs`.
    natively: bool,
    /// Whether those of a handler with flag C get it, if one was seen.
    by_flag: Option<bool>,
}

impl Setuid {
    pub(super) fn of(jobs: &[Job], runs: &[Run]) -> Self {
        let mut seen = Self::default();
        for (job, run) in jobs.iter().zip(runs) {
            match run.outcome {
                ProbeOutcome::Setuid(Some(privileged)) if may_be_native(job.arch) => {
                    seen.natively |= privileged;
                }
                ProbeOutcome::Setuid(privileged) => seen.by_flag = privileged,
                _ => {}
            }
        }
        seen
    }

    /// Whether setuid programs get their owner's privilege through `handler`.
    pub(super) fn with(&self, handler: &Entry) -> Option<bool> {
        let by_flag = if handler.flags.credentials { self.by_flag } else { Some(false) };
        by_flag.filter(|_| self.natively)
    }
}

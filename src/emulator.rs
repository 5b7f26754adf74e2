//! An emulator's file, before it is registered: is it a static ELF program for this host that nobody else can replace, and
//! which QEMU is it?
//!
//! A wrong file is refused here, by name, because the kernel would take it and every program of that architecture
//! would fail later. Registered emulators, and what the kernel pinned of them, are not this module's.

use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use crate::emulator::complaint::{Cause, Limits, recognise};
use crate::helper::probes::{self, ProbeOutcome, Run};
use crate::kernel::wording::errno_of;

pub mod complaint;
pub mod identity;

#[cfg(feature = "carried")]
mod carried;
#[cfg(not(feature = "carried"))]
#[path = "emulator/carries_none.rs"]
mod carried;
mod file;
mod missing;
mod qemu;
mod source;
mod trust;
mod unfit;

// public for fuzz/, as are the parsers below
#[cfg(feature = "carried")]
pub use carried::places;
pub(crate) use file::read_up_to;
pub use file::{HEAD, check_head, segments};
pub use qemu::{Qemu, Version, qemu_of};
pub use source::{DIR, Source};
pub use trust::Stranger;
pub use unfit::{EmulatorError, Unfit};

/// The version of the emulator of `source` at `path`.
///
/// # Errors
/// When it cannot be opened, and those of [`versions`].
pub fn version(path: &Path, source: &Source) -> Result<Version, EmulatorError> {
    let file = &source.open(path)?;
    let question = Question {
        path,
        file,
        may_start: true,
    };
    versions(&[question], probes::LIMIT).remove(0)
}

/// Whether a mount that nobody else sees was refused for want of privilege, by a filter, or by a kernel that knows no such mounts.
fn cannot_mount(error: &io::Error) -> bool {
    [Errno::EPERM, Errno::EACCES, Errno::ENOSYS].contains(&errno_of(error))
}

/// Which QEMU is it?
#[derive(Debug)]
pub struct Question<'a> {
    /// How messages call it.
    pub path: &'a Path,
    /// The emulator.
    pub file: &'a File,
    /// Whether it may be started where its bytes do not tell.
    pub may_start: bool,
}

/// The versions of emulators, in the order of `questions`, from their bytes. What these do not tell is started with
/// `--version`, all at once and as [`probes::ask`] does, each for up to `limit`.
///
/// Errors: [`Unfit::NotAsked`] for one that may not be started, [`Unfit::Broken`] and its like for one that does not end by
/// itself and well, or says nothing of a version.
#[must_use]
pub fn versions(questions: &[Question], limit: Duration) -> Vec<Result<Version, EmulatorError>> {
    let mut known: Vec<_> = questions.iter().map(by_bytes).collect();
    let open = known.iter_mut().zip(questions);
    let open = open
        .filter(|(known, question)| question.may_start && matches!(known, Err(Unfit::NotAsked)));
    let (open, files): (Vec<_>, Vec<&File>) = open.map(|(known, q)| (known, q.file)).unzip();
    match probes::ask(&files, limit) {
        Ok(runs) => {
            for (known, run) in open.into_iter().zip(&runs) {
                *known = answer(run);
            }
        }
        Err(error) => {
            for known in open {
                *known = Err(Unfit::Refused(io::Error::other(format!("{error:#}"))));
            }
        }
    }
    let answers = known.into_iter().zip(questions);
    let named = answers.map(|(answer, question)| {
        answer.map_err(|unfit| EmulatorError {
            path: question.path.to_owned(),
            unfit,
        })
    });
    named.collect()
}

fn by_bytes(question: &Question) -> Result<Version, Unfit> {
    let qemu = qemu_of(question.file).map_err(Unfit::Refused)?;
    qemu.map(|qemu| qemu.version).ok_or(Unfit::NotAsked)
}

/// What it said when it was asked.
fn answer(run: &Run) -> Result<Version, Unfit> {
    let status = match run.outcome {
        ProbeOutcome::Exited(0) => {
            let version = run.complaint.lines().find_map(Version::parse);
            return version.ok_or_else(|| Unfit::Broken("it prints no version".to_owned()));
        }
        ProbeOutcome::Exited(status) => ExitStatus::from_raw(status << 8),
        ProbeOutcome::Killed(signal) => ExitStatus::from_raw(signal),
        ProbeOutcome::Refused(errno) => return Err(Unfit::Refused(Errno::from_raw(errno).into())),
        ProbeOutcome::TimedOut | ProbeOutcome::Setuid(_) => return Err(Unfit::Hangs),
    };
    Err(why_not(&run.complaint, status))
}

/// What kept it from printing its version: it could not be started, or it failed.
fn why_not(complaint: &str, status: ExitStatus) -> Unfit {
    if status.signal() == Some(Signal::SIGKILL as i32) {
        return Unfit::Killed;
    }
    let what = match complaint.lines().next_back() {
        Some(last) => format!("--version ends with {status}, saying: {last}"),
        None => format!("--version ends with {status}"),
    };
    let limits = Limits::of_this_process();
    let starved = limits.are_tight().then_some(Cause::AddressSpace);
    let cause = recognise(complaint).or(starved);
    match cause.and_then(|cause| cause.remedy(&limits)) {
        Some(remedy) => Unfit::Starved(what, remedy),
        None => Unfit::Broken(what),
    }
}

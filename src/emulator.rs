//! An emulator's file, before it is registered: is it a static ELF program for this host that no other user can
//! replace, and which QEMU is it?
//!
//! A wrong file is refused here, by name, because the kernel would take it and every program of that architecture
//! would fail later.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use crate::emulator::complaint::{Cause, Complaint, Limits};
use crate::helper::probes::{self, ProbeOutcome, Run};
use crate::kernel::wording::{cause, errno_of};

pub mod complaint;
pub mod identity;

mod defects;
mod embedded;
mod file;
mod missing;
mod qemu;
mod source;
mod trust;

pub use defects::{KnownDefect, known_defects};
// public for fuzz/, as are the parsers below
pub use embedded::places;
pub use file::{HEAD, Privilege, check_head, segments};
pub use file::{context_of, read_up_to};
pub use qemu::{Qemu, Version, qemu_of};
pub use source::{DIR, Source};
pub use trust::Stranger;
pub use trust::{Folder, stranger_in};

/// Why a file cannot serve as an interpreter.
#[derive(Debug)]
pub enum Unfit {
    /// It does not exist; where to get it.
    Missing(String),
    /// It has no execute permission bit.
    NotExecutable,
    /// Another user can put another file in its place.
    Replaceable(Stranger),
    /// It gives privileges to whoever starts it, and so to every foreign program.
    Privileged(Privilege),
    /// It may not be started, and its bytes do not tell which QEMU it is.
    NotAsked,
    /// It does not print its version in the time that it is given.
    TimedOut,
    /// The kernel still waits for its file when that time is over.
    Stuck,
    /// The operating system does not let it be read or started.
    Refused(io::Error),
    /// What else is wrong, and what to do; follows the path.
    Wrong(String),
}

/// A file that cannot serve as an interpreter, and why.
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
        let what = match &self.unfit {
            Unfit::Missing(remedy) => return write!(f, "{path} does not exist; {remedy}"),
            Unfit::Replaceable(stranger) => {
                return write!(f, "{path} can be replaced by {stranger}");
            }
            Unfit::Privileged(privilege) => {
                return write!(f, "{path} {privilege}; {}", privilege.removal(&self.path));
            }
            Unfit::Wrong(what) => what,
            Unfit::NotExecutable => "is not executable; chmod +x it",
            Unfit::NotAsked => "is not known to be QEMU",
            Unfit::Stuck => "does not open, so its file system does not answer; see whether that file server runs",
            Unfit::TimedOut => "is no working emulator: --version does not end; fetch it again",
            Unfit::Refused(error) => match errno_of(error) {
                Errno::ELOOP => "is a circle of symbolic links (ELOOP); put the file itself there",
                Errno::ESTALE => "was replaced while it was looked at (ESTALE); run it again",
                Errno::EAGAIN => "is leased by another process (F_SETLEASE, EAGAIN); try again in a minute",
                Errno::ETXTBSY => "is being written (ETXTBSY); try again once its writer is done",
                Errno::EACCES => {
                    "may not be read or executed (EACCES); check its mode, and whether its file system is mounted noexec"
                }
                _ => return write!(f, "cannot use {path}: {}", cause(error)),
            },
        };
        write!(f, "{path} {what}")
    }
}

impl std::error::Error for EmulatorError {}

/// The version of the first emulator of `source` at these paths that has one, and the errors of those before it. All that have
/// to be started for that are started at once.
pub fn first_version(source: &Source, paths: &[PathBuf]) -> (Option<Version>, Vec<EmulatorError>) {
    let (mut mute, mut errors, mut first) = (Vec::new(), Vec::new(), None);
    for path in paths {
        let opened = source.open(path).map(|file| {
            let question = Question { path, file: &file, may_start: false };
            let version = versions(&[question], probes::LIMIT).remove(0);
            (file, version)
        });
        match opened {
            Ok((_, Ok(version))) => {
                first = Some(version);
                break;
            }
            Ok((file, Err(EmulatorError { unfit: Unfit::NotAsked, .. }))) => mute.push((path, file)),
            Ok((_, Err(error))) | Err(error) => errors.push(error),
        }
    }
    let questions: Vec<_> = mute.iter().map(|(path, file)| Question { path, file, may_start: true }).collect();
    for answer in versions(&questions, probes::LIMIT) {
        match answer {
            Ok(version) => return (Some(version), errors),
            Err(error) => errors.push(error),
        }
    }
    (first, errors)
}

/// Whether the kernel refused a private mount for lack of privilege, by a filter, or because it is too old for such
/// mounts.
fn cannot_mount(error: &io::Error) -> bool {
    [Errno::EPERM, Errno::EACCES, Errno::ENOSYS].contains(&errno_of(error))
}

/// Which QEMU is it?
#[derive(Debug)]
pub struct Question<'a> {
    /// Its name in messages.
    pub path: &'a Path,
    pub file: &'a File,
    /// Whether it may be started where its bytes do not tell.
    pub may_start: bool,
}

/// The versions of emulators, in the order of `questions`, from their bytes. What these do not tell is started with
/// `--version`, all at once and as [`probes::ask`] does, each for up to `limit`.
///
/// Errors: [`Unfit::NotAsked`] for one that may not be started, others for one that does not end by itself with status
/// 0, or does not print a version.
pub fn versions(questions: &[Question], limit: Duration) -> Vec<Result<Version, EmulatorError>> {
    let by_bytes = |question: &Question| match qemu_of(question.file) {
        Ok(qemu) => qemu.map(|qemu| qemu.version).ok_or(Unfit::NotAsked),
        Err(error) => Err(Unfit::Refused(error)),
    };
    let mut known: Vec<_> = questions.iter().map(by_bytes).collect();
    let open = known.iter_mut().zip(questions);
    let open = open.filter(|(known, question)| question.may_start && matches!(known, Err(Unfit::NotAsked)));
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
    let named = answers
        .map(|(answer, question)| answer.map_err(|unfit| EmulatorError { path: question.path.to_owned(), unfit }));
    named.collect()
}

/// The version that an emulator printed, or why it printed none.
fn answer(run: &Run) -> Result<Version, Unfit> {
    let broken = |what: &str| Unfit::Wrong(format!("is no working emulator: {what}; fetch it again"));
    let status = match run.outcome {
        ProbeOutcome::Exited(0) => {
            let version = run.complaint.lines().find_map(Version::parse);
            return version.ok_or_else(|| broken("it prints no version"));
        }
        ProbeOutcome::Killed(signal) if signal == Signal::SIGKILL as i32 => {
            return Err(Unfit::Wrong(
                "was killed (SIGKILL) when it was started; look for a limit of memory (docker run --memory) or processor \
                 time (ulimit -t)"
                    .to_owned(),
            ));
        }
        ProbeOutcome::Exited(status) => ExitStatus::from_raw(status << 8),
        ProbeOutcome::Killed(signal) => ExitStatus::from_raw(signal),
        ProbeOutcome::Refused(errno) => return Err(Unfit::Refused(Errno::from_raw(errno).into())),
        ProbeOutcome::Stuck => return Err(Unfit::Stuck),
        ProbeOutcome::TimedOut | ProbeOutcome::Setuid(_) => return Err(Unfit::TimedOut),
    };
    let what = match run.complaint.lines().next_back() {
        Some(last) => format!("--version ends with {status}, saying: {last}"),
        None => format!("--version ends with {status}"),
    };
    let limits = Limits::of_this_process();
    let starved = limits.are_tight().then_some(Cause::AddressSpace);
    let cause = Complaint::new(&run.complaint, limits).cause().or(starved);
    Err(match cause.and_then(|cause| cause.remedy(&limits)) {
        Some(remedy) => Unfit::Wrong(format!("does not start: {what}; {remedy}")),
        None => broken(&what),
    })
}

//! Running probes through the kernel, all at once, and saying what came of each and which file the kernel ran.
//!
//! The work is done by this same program, started again with a hidden first argument ([`VERB`]): that process takes a
//! mount namespace for itself, writes the probes into an empty directory there, and starts each with that as its root.
//! Because the root is empty, a probe that runs proves its interpreter pinned (flag F); where no such root is to be had,
//! the entry's flags must do. Because everything happens in that process's own namespaces, nothing is left behind,
//! however it ends.
//!
//! Each probe is held by `ptrace(2)` between `execve` and its first instruction. Then `/proc/PID/exe` is the very file
//! that the kernel runs for it: of a handler, the pinned interpreter, whoever registered it and whatever has become of
//! its path.
//!
//! Which answer a probe must give is [`binfmt_magic::probe`]'s; what the answer means for a platform is
//! [`crate::survey`]'s.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use binfmt_magic::arch::Arch;

use crate::wording::not_started;

mod answer;
mod apart;
mod become_other;
mod root;
mod serve;

use answer::{Answer, Shown};
pub(crate) use apart::refusal;
pub(crate) use become_other::Other;
pub use become_other::{NotStarted, become_other};
pub use serve::serve;

/// First argument of the process that runs probes. Not part of the command line.
pub const VERB: &str = "--run-probes";

/// First argument of a process that becomes another program, and ends with its parent. Not part of the command line
/// either.
pub const BECOME: &str = "--become";

/// What the names of entries begin with that take [`mark`]ed probes only.
pub const TRIAL: &str = "binfmt-trial-";

/// Whether an entry of this name takes marked probes only, and so no program of anybody's.
#[must_use]
pub fn is_trial(name: &OsStr) -> bool {
    name.as_bytes().starts_with(TRIAL.as_bytes())
}

/// One probe to run.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    /// The architecture.
    pub arch: &'static Arch,
    /// In which form.
    pub form: Form,
}

/// In which form a probe is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    Plain,
    /// As it is, in this process's own root directory. What else runs with it does, too.
    Here,
    /// [`mark`]ed, so that only a trial entry takes it.
    Marked,
    /// Setuid, and ended before its first instruction: whether it has its owner's privilege shows whether the handler
    /// honours credentials (flag C).
    Setuid,
}

/// What came of starting one probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It ended by itself with this status.
    Exited(i32),
    /// A signal ended it.
    Killed(i32),
    /// It was still running at the limit.
    TimedOut,
    /// The kernel did not start it: an errno of `execve(2)`.
    Refused(i32),
    /// Of [`Form::Setuid`]: whether it had its owner's privilege; `None` where no file can be given to another owner. The
    /// kernel also ignores the bit of a process that is held by one without privilege, or may get none.
    Setuid(Option<bool>),
}

/// The outcome of one [`Job`].
#[derive(Debug, Clone)]
pub struct Run {
    /// What came of it.
    pub outcome: Outcome,
    /// Processor time of one start, in microseconds.
    pub micros: u64,
    /// The file that the kernel ran for it.
    pub ran: Ran,
    /// What the emulator complained of on stderr; the last few kilobytes.
    pub complaint: String,
}

/// The file that the kernel ran for a probe.
#[derive(Debug, Clone)]
pub enum Ran {
    /// The probe itself, so no handler's; or nothing at all.
    Itself,
    /// An interpreter. Open, so that it can be read, started and compared even if it has no path any more.
    Interpreter(Arc<File>),
    /// It could not be seen; why.
    Unseen(String),
}

/// Marks a probe, or the magic that is to match nothing but marked probes, in the padding of `e_ident` (gABI, figure
/// 4-4): bytes that no loader reads and that every ordinary program leaves zero.
///
/// # Panics
/// When `start` is shorter than `e_ident`, 16 bytes.
pub fn mark(start: &mut [u8]) {
    const PADDING: std::ops::Range<usize> = 9..16;
    start[PADDING].copy_from_slice(b"binfmt!");
}

/// Runs `jobs` at the same time; the answer is in their order.
///
/// # Errors
/// When this process may not give itself an empty root directory, or cannot start itself again.
pub fn run(jobs: &[Job]) -> Result<Vec<Run>> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let mut server = Server::start(jobs)?;
    let answers: Option<Vec<Answer>> = jobs.iter().map(|_| server.answer()).collect();
    let Some(answers) = answers else {
        bail!("cannot run the probes: {}", server.excuse());
    };
    Ok(answers
        .into_iter()
        .map(|answer| server.run_of(answer))
        .collect())
}

/// The process that runs probes. Once it has answered it keeps open what it has found, until it is dropped.
struct Server {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Server {
    fn start(jobs: &[Job]) -> Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg(VERB)
            .args(jobs.iter().map(answer::word))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| {
                anyhow!(
                    "cannot start /proc/self/exe to run the probes: {}",
                    not_started(&error)
                )
            })?;
        let stdout = child.stdout.take().context("a pipe that was asked for")?;
        let answers = BufReader::new(stdout);
        Ok(Self { child, answers })
    }

    fn answer(&mut self) -> Option<Answer> {
        let mut fields = [const { String::new() }; answer::FIELDS];
        for field in &mut fields {
            let mut bytes = Vec::new();
            self.answers.read_until(0, &mut bytes).ok()?;
            (bytes.pop() == Some(0)).then_some(())?;
            *field = String::from_utf8_lossy(&bytes).into_owned();
        }
        Answer::parse(&fields)
    }

    /// Why it gave no answer.
    fn excuse(&mut self) -> String {
        let mut reason = String::new();
        // it may be waiting for the end of that
        drop(self.child.stdin.take());
        let stderr = self.child.stderr.as_mut();
        let read = stderr.and_then(|stderr| stderr.read_to_string(&mut reason).ok());
        match read {
            Some(1..) => reason.trim_end().to_owned(),
            _ => "their process ended, or made no sense".to_owned(),
        }
    }

    fn run_of(&self, answer: Answer) -> Run {
        let ran = match answer.ran {
            Shown::Itself => Ran::Itself,
            Shown::Unseen(why) => Ran::Unseen(why),
            Shown::Open(fd) => match File::open(format!("/proc/{}/fd/{fd}", self.child.id())) {
                Ok(file) => Ran::Interpreter(Arc::new(file)),
                Err(error) => Ran::Unseen(crate::wording::cause(&error)),
            },
        };
        Run {
            outcome: answer.outcome,
            micros: answer.micros,
            ran,
            complaint: answer.complaint,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // whatever it started ends with it; fails only for one that has been waited for
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use binfmt_magic::probe;

    use super::*;

    #[test]
    fn the_mark_is_no_magic_of_any_architecture() {
        for arch in &binfmt_magic::arch::ARCHES {
            let mut marked = probe::elf(arch);
            mark(&mut marked);
            assert!(!arch.matches(&marked), "{}", arch.qemu);
        }
    }
}

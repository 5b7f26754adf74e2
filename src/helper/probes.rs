//! Running probes through the kernel, all at once. The outcome of each, and the file that the kernel ran for it, are
//! returned. Emulators that must be asked for their version are started the same way.
//!
//! The work is done by a process of this same program, that of [`Verb::RunProbes`](super::Verb): it takes a mount
//! namespace for itself, writes the probes into an empty directory there, and makes that its root directory. What it
//! starts has that root directory, no environment, and no descriptor but a pipe to talk to. Because the root is empty,
//! a probe that runs proves its interpreter pinned (flag F); without such a root, the entry's flags must do. The
//! process is the first one of a PID namespace where that is allowed, so whatever it has started ends with it.
//!
//! Each probe is held by `ptrace(2)` between `execve` and its first instruction. Then `/proc/PID/exe` is the very file
//! that the kernel runs for it: of a handler, the pinned interpreter, whoever registered it and whatever has become of
//! its path. Where that is the probe's own file, the code that is mapped shows whether an interpreter runs it all the same
//! (flag T).
//!
//! Which answer a probe must give is in [`binfmt_magic::probe`].

use std::fs::File;
use std::mem::take;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::panic::resume_unwind;
use std::slice;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use binfmt_magic::arch::{Arch, Kind};
use binfmt_magic::entry::Entry;
use binfmt_magic::rule::Matcher;

use crate::kernel::process;

mod protocol;
mod root;
mod serve;
mod starter;
mod watch;

use protocol::Task;
pub use root::in_memory_file;
pub use serve::{LIMIT, serve};

/// The start of the names of entries that take only [`mark`]ed probes.
pub const TRIAL: &str = "binfmt-trial-";

/// Whether this is an entry of a trial: it has such a name, and takes only [`mark`]ed probes.
pub fn is_trial(entry: &Entry) -> bool {
    let Some(Matcher::Magic { offset: 0, magic, mask }) = &entry.matcher else {
        return false;
    };
    let counts =
        mask.as_ref().is_none_or(|mask| mask.get(PADDING).is_some_and(|mask| mask.iter().all(|bits| *bits == 0xff)));
    entry.name.as_bytes().starts_with(TRIAL.as_bytes()) && magic.get(PADDING) == Some(MARK) && counts
}

const PADDING: Range<usize> = 9..16;
const MARK: &[u8] = b"binfmt!";

/// One probe to run.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    pub arch: &'static Arch,
    pub form: Form,
}

/// The form in which a probe is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    Plain,
    /// In this process's own root directory. All probes of the same run then start there.
    Here,
    /// [`mark`]ed, so that only a trial entry takes it.
    Marked,
    /// With the header of this kind, else plain.
    Of(Kind),
    /// Setuid, and ended before its first instruction: whether it has its owner's privilege shows whether the handler
    /// honours credentials (flag C).
    Setuid,
}

/// The outcome of starting one probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// With this status, by itself.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    TimedOut,
    /// The kernel still waited for a file when the time was up: its interpreter is on a file server that does not answer, or somebody
    /// holds a lease on it.
    Stuck,
    /// The kernel did not start it: an errno of `execve(2)`.
    Refused(i32),
    /// Of [`Form::Setuid`]: whether it had its owner's privilege; `None` where no file can be given to another owner.
    /// The kernel also ignores the bit of a process that is held by one without privilege, or may get none.
    Setuid(Option<bool>),
}

/// The outcome of one [`Job`].
#[derive(Debug, Clone)]
pub struct Run {
    pub outcome: ProbeOutcome,
    /// Processor time of one start, in microseconds.
    pub micros: u64,
    pub ran: Ran,
    /// Whether the interpreter is invisible (flag T): `/proc/PID/exe` is the probe's own file.
    pub transparent: bool,
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
    /// Why it could not be seen.
    Unseen(String),
}

/// Marks a probe, or the magic that is to match nothing but marked probes, in the padding of `e_ident` (gABI, figure
/// 4-4): no loader reads these bytes, and every ordinary program leaves them zero.
///
/// # Panics
/// When `start` is shorter than `e_ident`, 16 bytes.
pub fn mark(start: &mut [u8]) {
    start[PADDING].copy_from_slice(MARK);
}

/// Runs `jobs` at the same time, each for up to [`LIMIT`]; the answer is in their order. Fails when the process that starts
/// probes cannot be started, or does not answer.
pub fn run(jobs: &[Job]) -> Result<Vec<Run>> {
    run_within(LIMIT, jobs)
}

/// [`run`], where each job may take up to `limit`.
pub fn run_within(limit: Duration, jobs: &[Job]) -> Result<Vec<Run>> {
    /// A crash at start is retried: emulators have had races there, and one lost start in many does not mean that it
    /// does not work.
    const TRIES: u32 = 2;
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let tasks: Vec<Task> = jobs.iter().map(|job| Task::Probe(*job)).collect();
    let mut runs = start(&tasks, limit)?;
    for _ in 1..TRIES {
        let crashed = |run: &&mut Run| matches!(run.outcome, ProbeOutcome::Killed(_));
        let again = runs.iter_mut().zip(&tasks).filter(|(run, _)| crashed(run));
        let (crashed, again): (Vec<_>, Vec<_>) = again.map(|(run, task)| (run, task.clone())).unzip();
        if again.is_empty() {
            break;
        }
        for (first, second) in crashed.into_iter().zip(start(&again, limit)?) {
            *first = second;
        }
    }
    Ok(runs)
}

/// Starts each of `emulators` with `--version`, all at the same time and confined as the probes' are. What each prints
/// is its [`Run::complaint`]; each may take up to `limit`. Fails as [`run`] does.
pub fn ask(emulators: &[&File], limit: Duration) -> Result<Vec<Run>> {
    if emulators.is_empty() {
        return Ok(Vec::new());
    }
    let own = process::own_name().unwrap_or_default();
    let paths = emulators.iter().map(|file| format!("/proc/{own}/fd/{}", file.as_raw_fd()));
    let tasks: Vec<Task> = paths.map(|path| Task::Ask(path.into())).collect();
    start(&tasks, limit)
}

/// Starts all of them at once; and each in a process of its own that waits for a file server, or that such a one kept from being
/// started.
fn start(tasks: &[Task], limit: Duration) -> Result<Vec<Run>> {
    let runs = watch::start(tasks, limit, true)?;
    let is_alone = tasks.len() == 1;
    let alone = |task: &Task, says| {
        let runs = watch::start(slice::from_ref(task), limit, says)?;
        runs.into_iter().next().context("an answer to each task")
    };
    let mut says = true;
    thread::scope(|scope| {
        let runs = runs.into_iter().zip(tasks).map(|(run, task)| {
            if is_alone || run.outcome != ProbeOutcome::Stuck {
                return Ok(run);
            }
            let says = take(&mut says);
            Err(thread::Builder::new().spawn_scoped(scope, move || alone(task, says)))
        });
        let runs: Vec<_> = runs.collect();
        let runs = runs.into_iter().map(|run| match run {
            Ok(run) => Ok(run),
            Err(thread) => thread?.join().unwrap_or_else(|panic| resume_unwind(panic)),
        });
        runs.collect()
    })
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

//! Running probes through the kernel, all at once, and saying what came of each.
//!
//! The work is done by this same program, started again with a hidden first argument ([`VERB`]): that process takes a
//! mount namespace and an empty root directory for itself, writes the probes there and starts them. Because the root
//! is empty, a probe that runs proves its interpreter pinned (flag F); where no such root is to be had, the entry's
//! flags must do. Because everything happens in that process's own namespaces, nothing is left behind, however it ends.
//!
//! Which answer a probe must give is [`binfmt_magic::probe`]'s; what the answer means for a platform is
//! [`crate::survey`]'s.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use binfmt_magic::arch::Arch;

mod root;
mod serve;

pub use serve::{become_bound, serve};

/// First argument of the process that runs probes. Not part of the command line.
pub const VERB: &str = "--run-probes";

/// First argument of a process that becomes another program, and ends with the process whose number comes second.
/// Not part of the command line either.
pub const BOUND: &str = "--bound-to";

/// What such a process prints before the errno, if it cannot become the program.
pub const NOT_STARTED: &str = "\0errno ";

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
    /// Whether the probe is [`mark`]ed, so that only a trial entry takes it.
    pub marked: bool,
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
}

/// The outcome of one [`Job`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What came of it.
    pub outcome: Outcome,
    /// Processor time of one start, in microseconds.
    pub micros: u64,
    /// The file that the kernel ran: of a handler, its pinned interpreter. `None` where that was not to be seen.
    pub interpreter: Option<FileId>,
    /// What the emulator complained of on stderr; the last few kilobytes.
    pub complaint: String,
}

/// Which file this is, as far as its inode tells. Copies of one file on different file systems, such as the layers of
/// two containers from one image, have size and time in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    size: u64,
    modified: i64,
}

impl From<&Metadata> for FileId {
    fn from(metadata: &Metadata) -> Self {
        Self {
            size: metadata.size(),
            modified: metadata.mtime(),
        }
    }
}

impl Run {
    fn refused(errno: i32) -> Self {
        let (outcome, complaint) = (Outcome::Refused(errno), String::new());
        Self {
            outcome,
            micros: 0,
            interpreter: None,
            complaint,
        }
    }

    /// Six fields, each ended by a NUL: kind, its number, time, size and time of the interpreter, complaint.
    fn to_fields(&self) -> String {
        let (kind, number) = match self.outcome {
            Outcome::Exited(status) => ("exited", status),
            Outcome::Killed(signal) => ("killed", signal),
            Outcome::TimedOut => ("timed out", 0),
            Outcome::Refused(errno) => ("refused", errno),
        };
        let file = self
            .interpreter
            .map(|file| format!("{}\0{}", file.size, file.modified));
        let file = file.unwrap_or_else(|| "\0".to_owned());
        let complaint = self.complaint.replace('\0', " ");
        format!("{kind}\0{number}\0{}\0{file}\0{complaint}\0", self.micros)
    }

    fn parse_all(answer: &str) -> Option<Vec<Self>> {
        let fields: Vec<&str> = answer.split_terminator('\0').collect();
        fields.chunks(6).map(Self::parse).collect()
    }

    fn parse(fields: &[&str]) -> Option<Self> {
        let [kind, number, micros, size, modified, complaint] = fields else {
            return None;
        };
        let number = number.parse().ok()?;
        let outcome = match *kind {
            "exited" => Outcome::Exited(number),
            "killed" => Outcome::Killed(number),
            "timed out" => Outcome::TimedOut,
            "refused" => Outcome::Refused(number),
            _ => return None,
        };
        let interpreter = match (size.parse(), modified.parse()) {
            (Ok(size), Ok(modified)) => Some(FileId { size, modified }),
            _ => None,
        };
        let (micros, complaint) = (micros.parse().ok()?, (*complaint).to_owned());
        Some(Self {
            outcome,
            micros,
            interpreter,
            complaint,
        })
    }
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
    let words = jobs
        .iter()
        .map(|job| format!("{}{}", if job.marked { "+" } else { "" }, job.arch.qemu));
    let output = Command::new("/proc/self/exe")
        .arg(VERB)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .context("cannot start /proc/self/exe to run the probes; are /proc and /dev/null there?")?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        bail!("cannot run the probes: {}", reason.trim_end());
    }
    let answer = String::from_utf8_lossy(&output.stdout);
    let runs = Run::parse_all(&answer).filter(|runs| runs.len() == jobs.len());
    runs.context("cannot read what the probes answered")
}

#[cfg(test)]
mod tests {
    use binfmt_magic::probe;

    use super::*;

    #[test]
    fn answers_survive_the_way_between_the_processes() {
        let run = |outcome, complaint: &str| Run {
            outcome,
            micros: 4100,
            interpreter: complaint.is_empty().then_some(FileId {
                size: 9,
                modified: -1,
            }),
            complaint: complaint.to_owned(),
        };
        let runs = [
            run(Outcome::Exited(81), ""),
            run(Outcome::Killed(11), "two\nlines"),
            run(Outcome::TimedOut, "ünïcode"),
            run(Outcome::Refused(8), ""),
        ];
        let answer: String = runs.iter().map(Run::to_fields).collect();
        assert_eq!(Run::parse_all(&answer).unwrap(), runs);
        assert_eq!(Run::parse_all(&answer[..answer.len() - 3]), None);
        assert_eq!(Run::parse_all("exited\0many\0\x31\0\0"), None);
    }

    #[test]
    fn the_mark_is_no_magic_of_any_architecture() {
        for arch in &binfmt_magic::arch::ARCHES {
            let mut marked = probe::elf(arch);
            mark(&mut marked);
            assert!(!arch.matches(&marked), "{}", arch.qemu);
        }
    }
}

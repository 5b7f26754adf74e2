//! The protocol between the process that starts programs and the one that watches it: tasks as arguments, answers as fields on
//! stdout, each ended by a NUL.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use binfmt_magic::arch::Arch;

use super::{Form, Job, ProbeOutcome};

/// What the watching process says when it holds this process.
pub(super) const HELD: u8 = b'h';
/// What it says when it may not.
pub(super) const UNHELD: u8 = b'u';
/// What is said in place of a file's device and inode where nothing is started.
pub(super) const NOT_STARTED: &str = "-";
/// An answer's fields: kind, its number, time, what was said.
pub(super) const FIELDS: usize = 4;
/// What the word of an emulator to be asked begins with; its path follows.
const ASK: char = '?';

/// What is started.
#[derive(Debug, Clone)]
pub(super) enum Task {
    /// A probe.
    Probe(Job),
    /// The emulator at this path, asked for its version.
    Ask(PathBuf),
}

impl Task {
    /// It as an argument.
    pub(super) fn word(&self) -> String {
        match self {
            Self::Probe(job) => {
                let form = match job.form {
                    Form::Plain => "",
                    Form::Here => "/",
                    Form::Marked => "+",
                    Form::Setuid => "@",
                };
                format!("{form}{}", job.arch.qemu)
            }
            Self::Ask(path) => format!("{ASK}{}", path.display()),
        }
    }

    /// The task that an argument names.
    pub(super) fn parse(word: &OsStr) -> Result<Self> {
        let word = word.to_str().context("not a probe's name")?;
        if let Some(path) = word.strip_prefix(ASK) {
            return Ok(Self::Ask(path.into()));
        }
        let name = word.trim_start_matches(['/', '+', '@']);
        let form = match word.chars().next() {
            Some('/') => Form::Here,
            Some('+') => Form::Marked,
            Some('@') => Form::Setuid,
            _ => Form::Plain,
        };
        let arch = Arch::by_qemu(name).with_context(|| format!("no probe {name}"))?;
        Ok(Self::Probe(Job { arch, form }))
    }

    pub(super) fn is_setuid(&self) -> bool {
        matches!(self, Self::Probe(job) if job.form == Form::Setuid)
    }
}

/// What the process that started it saw of one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) outcome: ProbeOutcome,
    /// Processor time, from before it became the program.
    pub(super) micros: u64,
    pub(super) said: String,
}

impl Answer {
    pub(super) fn to_fields(&self) -> String {
        let (kind, number) = match self.outcome {
            ProbeOutcome::Exited(status) => ("exited", status),
            ProbeOutcome::Killed(signal) => ("killed", signal),
            ProbeOutcome::TimedOut => ("timed out", 0),
            ProbeOutcome::Refused(errno) => ("refused", errno),
            ProbeOutcome::Setuid(honoured) => ("setuid", honoured.map_or(-1, i32::from)),
        };
        let said = self.said.replace('\0', " ");
        format!("{kind}\0{number}\0{}\0{said}\0", self.micros)
    }

    pub(super) fn parse(fields: &[String; FIELDS]) -> Option<Self> {
        let [kind, number, micros, said] = fields;
        let number = number.parse().ok()?;
        let outcome = match kind.as_str() {
            "exited" => ProbeOutcome::Exited(number),
            "killed" => ProbeOutcome::Killed(number),
            "timed out" => ProbeOutcome::TimedOut,
            "refused" => ProbeOutcome::Refused(number),
            "setuid" => ProbeOutcome::Setuid((number >= 0).then_some(number == 1)),
            _ => return None,
        };
        Some(Self { outcome, micros: micros.parse().ok()?, said: said.clone() })
    }
}

/// Which file it is: device and inode.
pub(super) fn id(file: &impl MetadataExt) -> String {
    format!("{}:{}", file.dev(), file.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_survive_the_way_between_the_processes() {
        let answer = |outcome, said: &str| Answer { outcome, micros: 4100, said: said.to_owned() };
        for sent in [
            answer(ProbeOutcome::Exited(81), ""),
            answer(ProbeOutcome::Killed(11), "two\nlines"),
            answer(ProbeOutcome::TimedOut, "ünïcode"),
            answer(ProbeOutcome::Refused(8), ""),
            answer(ProbeOutcome::Setuid(None), ""),
        ] {
            let text = sent.to_fields();
            let fields: Vec<String> = text.split_terminator('\0').map(str::to_owned).collect();
            let fields = fields.try_into().expect("four fields");
            assert_eq!(Answer::parse(&fields), Some(sent));
        }
    }

    #[test]
    fn nonsense_is_no_answer() {
        let fields = |kind: &str, number: &str| [kind, number, "1", ""].map(str::to_owned);
        for (kind, number) in [("exited", "many"), ("vanished", "0"), ("exited", "")] {
            assert_eq!(Answer::parse(&fields(kind, number)), None, "{kind} {number}");
        }
    }

    #[test]
    fn every_task_is_one_word() {
        for arch in &binfmt_magic::arch::ARCHES {
            for form in [Form::Plain, Form::Here, Form::Marked, Form::Setuid] {
                let task = Task::Probe(Job { arch, form });
                assert_eq!(Task::parse(OsStr::new(&task.word())).unwrap().word(), task.word());
            }
        }
        let task = Task::Ask("/proc/7/fd/3".into());
        assert_eq!(Task::parse(OsStr::new(&task.word())).unwrap().word(), task.word());
        assert!(Task::parse(OsStr::new("+pdp11")).is_err());
    }
}

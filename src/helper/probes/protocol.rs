//! The protocol between the process that starts programs and the one that watches it. Tasks are arguments. On stdout come the files
//! that are to be started, how many were started, each a line, and the answers, each ended by a NUL.

use std::ffi::OsStr;
use std::io::{self, BufRead, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use binfmt_magic::arch::{Arch, Kind};

use super::{Form, Job, ProbeOutcome};

/// The byte by which the watching process says that it traces this process. Any other: it may not.
pub(super) const HELD: u8 = b'h';
/// Stands for a file's device and inode if nothing is started.
pub(super) const NOT_STARTED: &str = "-";
/// The first character of a task that asks an emulator; its path follows.
const ASK: char = '?';
/// The first character of a probe that is not plain; its architecture follows.
const FORMS: [(char, Form); 6] = [
    ('/', Form::Here),
    ('+', Form::Marked),
    ('@', Form::Setuid),
    ('~', Form::Of(Kind::Pie)),
    ('%', Form::Of(Kind::Gnu)),
    ('^', Form::Of(Kind::GnuPie)),
];

/// What is started.
#[derive(Debug, Clone)]
pub(super) enum Task {
    Probe(Job),
    /// The emulator at this path, asked for its version.
    Ask(PathBuf),
}

impl Task {
    /// The argument that [`Self::parse`] reads.
    pub(super) fn word(&self) -> String {
        match self {
            Self::Probe(Job { arch, form }) => {
                let sign = FORMS.iter().find(|(_, known)| known == form);
                sign.map(|(sign, _)| sign.to_string()).unwrap_or_default() + arch.qemu
            }
            Self::Ask(path) => format!("{ASK}{}", path.display()),
        }
    }

    pub(super) fn parse(word: &OsStr) -> Result<Self> {
        let word = word.to_str().context("not a probe's name")?;
        if let Some(path) = word.strip_prefix(ASK) {
            return Ok(Self::Ask(path.into()));
        }
        let marked = FORMS.iter().find_map(|(sign, form)| Some((word.strip_prefix(*sign)?, *form)));
        let (name, form) = marked.unwrap_or((word, Form::Plain));
        let arch = Arch::by_qemu(name).with_context(|| format!("no probe {name}"))?;
        Ok(Self::Probe(Job { arch, form }))
    }

    pub(super) fn is_setuid(&self) -> bool {
        matches!(self, Self::Probe(job) if job.form == Form::Setuid)
    }
}

/// Writes that `count` programs were started, or refused. What keeps the next one from being started, and the rest, is
/// [`ProbeOutcome::Stuck`].
pub(super) fn write_started(answer: &mut impl Write, count: usize) -> io::Result<()> {
    writeln!(answer, "{count}")?;
    answer.flush()
}

/// Reads what [`write_started`] wrote.
pub(super) fn read_started(answers: &mut impl BufRead) -> Option<usize> {
    let mut line = String::new();
    answers.read_line(&mut line).ok()?;
    line.trim_end().parse().ok()
}

/// What the process that started it saw of one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) outcome: ProbeOutcome,
    /// Processor time in microseconds, from before it became the program.
    pub(super) micros: u64,
    pub(super) said: String,
}

impl Answer {
    pub(super) fn without_words(outcome: ProbeOutcome) -> Self {
        Self { outcome, micros: 0, said: String::new() }
    }

    /// `exited 81 4100 words`, and a NUL.
    pub(super) fn encode(&self) -> String {
        let (kind, number) = match self.outcome {
            ProbeOutcome::Exited(status) => ("exited", status),
            ProbeOutcome::Killed(signal) => ("killed", signal),
            ProbeOutcome::TimedOut => ("timed-out", 0),
            ProbeOutcome::Stuck => ("stuck", 0),
            ProbeOutcome::Refused(errno) => ("refused", errno),
            ProbeOutcome::Setuid(honoured) => ("setuid", honoured.map_or(-1, i32::from)),
        };
        format!("{kind} {number} {} {}\0", self.micros, self.said.replace('\0', " "))
    }

    /// Reads what [`Self::encode`] wrote, without the NUL.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut fields = text.splitn(4, ' ');
        let (kind, number) = (fields.next()?, fields.next()?.parse().ok()?);
        let outcome = match kind {
            "exited" => ProbeOutcome::Exited(number),
            "killed" => ProbeOutcome::Killed(number),
            "timed-out" => ProbeOutcome::TimedOut,
            "stuck" => ProbeOutcome::Stuck,
            "refused" => ProbeOutcome::Refused(number),
            "setuid" => ProbeOutcome::Setuid((number >= 0).then_some(number == 1)),
            _ => return None,
        };
        Some(Self { outcome, micros: fields.next()?.parse().ok()?, said: fields.next()?.to_owned() })
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
        for (outcome, said) in [
            (ProbeOutcome::Exited(81), ""),
            (ProbeOutcome::Killed(11), "two\nlines with blanks"),
            (ProbeOutcome::TimedOut, "ünïcode"),
            (ProbeOutcome::Stuck, ""),
            (ProbeOutcome::Refused(8), " "),
            (ProbeOutcome::Setuid(None), ""),
        ] {
            let sent = Answer { outcome, micros: 4100, said: said.to_owned() };
            assert_eq!(Answer::parse(sent.encode().strip_suffix('\0').unwrap()), Some(sent));
        }
        for nonsense in ["", "exited many 1 ", "vanished 0 1 ", "exited 0 1"] {
            assert_eq!(Answer::parse(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn every_task_is_one_word() {
        let forms = [Form::Plain].into_iter().chain(FORMS.map(|(_, form)| form));
        let of = |arch| forms.clone().map(move |form| Task::Probe(Job { arch, form }));
        let probes = binfmt_magic::arch::ARCHES.iter().flat_map(of);
        for task in probes.chain([Task::Ask("/proc/7/fd/3".into())]) {
            assert_eq!(Task::parse(OsStr::new(&task.word())).unwrap().word(), task.word());
        }
        assert!(Task::parse(OsStr::new("+pdp11")).is_err());
    }
}

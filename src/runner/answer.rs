//! What the process that runs probes and the one that wants to know say to each other: jobs as arguments, answers as
//! fields on stdout, each ended by a NUL.

use std::ffi::OsStr;

use anyhow::{Context, Result};
use binfmt_magic::arch::Arch;

use super::{Form, Job, Outcome};

/// An answer's fields: kind, its number, time, descriptor, why there is none, complaint.
pub(super) const FIELDS: usize = 6;

/// A [`Run`](super::Run), as it is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) outcome: Outcome,
    pub(super) micros: u64,
    pub(super) ran: Shown,
    pub(super) complaint: String,
}

/// The file that the kernel ran, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shown {
    Itself,
    /// This descriptor of the answering process.
    Open(i32),
    Unseen(String),
}

impl Answer {
    pub(super) fn to_fields(&self) -> String {
        let (kind, number) = match self.outcome {
            Outcome::Exited(status) => ("exited", status),
            Outcome::Killed(signal) => ("killed", signal),
            Outcome::TimedOut => ("timed out", 0),
            Outcome::Refused(errno) => ("refused", errno),
            Outcome::Setuid(honoured) => ("setuid", honoured.map_or(-1, i32::from)),
        };
        let (fd, why) = match &self.ran {
            Shown::Itself => (String::new(), ""),
            Shown::Open(fd) => (fd.to_string(), ""),
            Shown::Unseen(why) => (String::new(), why.as_str()),
        };
        let (why, complaint) = (why.replace('\0', " "), self.complaint.replace('\0', " "));
        format!(
            "{kind}\0{number}\0{}\0{fd}\0{why}\0{complaint}\0",
            self.micros
        )
    }

    pub(super) fn parse(fields: &[String; FIELDS]) -> Option<Self> {
        let [kind, number, micros, fd, why, complaint] = fields;
        let number = number.parse().ok()?;
        let outcome = match kind.as_str() {
            "exited" => Outcome::Exited(number),
            "killed" => Outcome::Killed(number),
            "timed out" => Outcome::TimedOut,
            "refused" => Outcome::Refused(number),
            "setuid" => Outcome::Setuid((number >= 0).then_some(number == 1)),
            _ => return None,
        };
        let ran = match (fd.as_str(), why.as_str()) {
            ("", "") => Shown::Itself,
            ("", why) => Shown::Unseen(why.to_owned()),
            (fd, _) => Shown::Open(fd.parse().ok()?),
        };
        Some(Self {
            outcome,
            micros: micros.parse().ok()?,
            ran,
            complaint: complaint.clone(),
        })
    }
}

/// A job as an argument.
pub(super) fn word(job: &Job) -> String {
    let form = match job.form {
        Form::Plain => "",
        Form::Here => "/",
        Form::Marked => "+",
        Form::Setuid => "@",
    };
    format!("{form}{}", job.arch.qemu)
}

/// The job that an argument names.
///
/// # Errors
/// When there is no such.
pub(super) fn parse_word(word: &OsStr) -> Result<Job> {
    let word = word.to_str().context("not a probe's name")?;
    let name = word.trim_start_matches(['/', '+', '@']);
    let form = match word.chars().next() {
        Some('/') => Form::Here,
        Some('+') => Form::Marked,
        Some('@') => Form::Setuid,
        _ => Form::Plain,
    };
    let arch = Arch::by_qemu(name).with_context(|| format!("no probe {name}"))?;
    Ok(Job { arch, form })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_survive_the_way_between_the_processes() {
        let answer = |outcome, ran, complaint: &str| Answer {
            outcome,
            micros: 4100,
            ran,
            complaint: complaint.to_owned(),
        };
        for sent in [
            answer(Outcome::Exited(81), Shown::Open(7), ""),
            answer(Outcome::Killed(11), Shown::Itself, "two\nlines"),
            answer(Outcome::TimedOut, Shown::Unseen("EPERM".into()), "ünïcode"),
            answer(Outcome::Refused(8), Shown::Itself, ""),
            answer(Outcome::Setuid(None), Shown::Itself, ""),
            answer(Outcome::Setuid(Some(true)), Shown::Itself, ""),
            answer(Outcome::Setuid(Some(false)), Shown::Itself, ""),
        ] {
            let text = sent.to_fields();
            let fields: Vec<String> = text.split_terminator('\0').map(str::to_owned).collect();
            let fields = fields.try_into().expect("six fields");
            assert_eq!(Answer::parse(&fields), Some(sent));
        }
    }

    #[test]
    fn nonsense_is_no_answer() {
        let fields =
            |kind: &str, number: &str, fd: &str| [kind, number, "1", fd, "", ""].map(str::to_owned);
        for (kind, number, fd) in [
            ("exited", "many", ""),
            ("vanished", "0", ""),
            ("exited", "0", "x"),
        ] {
            assert_eq!(
                Answer::parse(&fields(kind, number, fd)),
                None,
                "{kind} {number} {fd}"
            );
        }
    }

    #[test]
    fn every_job_is_one_word() {
        for arch in &binfmt_magic::arch::ARCHES {
            for form in [Form::Plain, Form::Marked, Form::Setuid] {
                let job = parse_word(OsStr::new(&word(&Job { arch, form }))).unwrap();
                assert_eq!((job.arch.qemu, job.form), (arch.qemu, form));
            }
        }
        assert!(parse_word(OsStr::new("+pdp11")).is_err());
    }
}

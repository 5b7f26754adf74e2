//! How long starts of an emulated program take, in a root directory, through whatever emulator is registered.
//!
//! A fresh copy of this program (the hidden verb [`VERB`]) enters the root directory, since no process gets out of one
//! again, and since the kernel counts what children used for the whole life of their parent. Elapsed time is from before
//! the first start until the last has been waited for and its output read; processor time is that of all processes that
//! were waited for, in them and in the kernel (getrusage(2)).

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::unistd::{chdir, chroot};

use super::root::WORK;
use crate::report;

/// First argument of the copy that enters the root directory.
pub(crate) const VERB: &str = "sample-in-root";

/// What programs are started with, and nothing else: QEMU and gcc listen to the environment.
const ENVIRONMENT: [(&str, &str); 3] = [("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("LC_ALL", "C"), ("HOME", WORK)];

/// A program as `execve(2)` takes it, and how it ought to end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Program {
    /// Absolute, in the root directory.
    pub(super) path: &'static str,
    /// Its name first.
    pub(super) argv: &'static [&'static str],
    /// The exit status of a run that did what it ought to.
    pub(super) status: i32,
}

/// What some starts of one program came to, all of which ended alike.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// Elapsed milliseconds of one start.
    pub(super) elapsed: f64,
    /// Processor milliseconds of one start.
    pub(super) processor: f64,
    /// Page faults of one start that needed no I/O; those of the emulator and of all processes that were waited for.
    pub(super) minor_faults: f64,
    /// How each ended.
    pub(super) outcome: Outcome,
    /// What they said on stderr.
    pub(super) stderr: String,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    /// As a shell tells it: 128 and the number, if by a signal.
    pub(super) status: i32,
    /// What it printed on stdout, without white space at the end.
    pub(super) stdout: String,
}

impl fmt::Display for Outcome {
    /// On one line, however much it printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 200;
        let start: String = self.stdout.chars().take(SHOWN).collect();
        let start = start.replace('\n', ", ");
        let printed = if start.is_empty() { "nothing" } else { &start };
        write!(f, "exit status {}, printed {printed}", self.status)
    }
}

/// Starts `program` as often as that, one after the other, with `setting` in its environment.
///
/// # Errors
/// It cannot be started, or the starts do not all end alike.
pub(super) fn take(root: &Path, program: Program, starts: u32, setting: Option<&str>) -> Result<Sample> {
    // not by its path: a build may have put another program there meanwhile
    let mut copy = Command::new("/proc/self/exe");
    copy.arg(VERB).arg(root).arg(starts.to_string()).arg(setting.unwrap_or_default());
    copy.arg(program.path).args(program.argv);
    let output = copy.stdin(Stdio::null()).output()?;
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if !output.status.success() {
        bail!("{}", stderr.trim_start_matches("bench: "));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    parse(&text, starts, stderr).context("a sample is four numbers and an output")
}

/// What the copy printed: microseconds elapsed and of the processor, page faults, exit status, and on the next line whatever the program did.
fn parse(text: &str, starts: u32, stderr: String) -> Option<Sample> {
    let (numbers, stdout) = text.split_once('\n')?;
    let mut numbers = numbers.split(' ');
    let mut of_one = || Some(numbers.next()?.parse::<f64>().ok()? / f64::from(starts));
    Some(Sample {
        elapsed: of_one()? / 1000.0,
        processor: of_one()? / 1000.0,
        minor_faults: of_one()?,
        outcome: Outcome { status: numbers.next()?.parse().ok()?, stdout: stdout.trim_end().to_owned() },
        stderr,
    })
}

/// The copy's whole work: enter the root directory, start the program, print what [`parse`] reads.
///
/// # Errors
/// The program cannot be started, or the starts do not all end alike.
pub(crate) fn answer(arguments: &[OsString]) -> Result<()> {
    let [root, starts, setting, path, argv0, rest @ ..] = arguments else {
        bail!("{VERB} needs a root directory, a number, a setting, a program and its argv")
    };
    let starts: usize = starts.to_str().context("not a number")?.parse()?;
    let (root, path) = (Path::new(root), Path::new(path));
    chroot(root).with_context(|| format!("cannot enter {}", root.display()))?;
    chdir(WORK).with_context(|| format!("cannot enter {WORK}"))?;
    let mut command = Command::new(path);
    command.arg0(argv0).args(rest);
    command.env_clear().envs(ENVIRONMENT).envs(setting.to_str().and_then(|setting| setting.split_once('=')));
    command.stdin(Stdio::null()).stderr(Stdio::inherit());

    let start = Instant::now();
    let outputs: io::Result<Vec<Output>> = (0..starts).map(|_| command.output()).collect();
    let elapsed = start.elapsed().as_micros();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let outputs = outputs.with_context(|| {
        let (path, root) = (path.display(), root.display());
        format!("cannot start {path}; does {root} have it?")
    })?;
    let Outcome { status, stdout } = common_outcome(&outputs)?;
    let processor = (usage.user_time() + usage.system_time()).num_microseconds();
    let faults = usage.minor_page_faults();
    report::say(&format!("{elapsed} {processor} {faults} {status}\n{stdout}"))
}

/// How all of these ended.
fn common_outcome(outputs: &[Output]) -> Result<Outcome> {
    let outcome = |output: &Output| Outcome {
        status: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or_default()),
        stdout: String::from_utf8_lossy(&output.stdout).trim_end().to_owned(),
    };
    let mut outcomes = outputs.iter().map(outcome);
    let first = outcomes.next().context("it was not started at all")?;
    match outcomes.find(|other| *other != first) {
        Some(other) => bail!("one start ends with {first}; another with {other}"),
        None => Ok(first),
    }
}

#[cfg(test)]
mod tests {
    use std::process::ExitStatus;

    use super::*;

    fn output(wait_status: i32, stdout: &str) -> Output {
        Output { status: ExitStatus::from_raw(wait_status), stdout: stdout.into(), stderr: Vec::new() }
    }

    #[test]
    fn numbers_are_those_of_one_start() {
        let sample = parse("3000 1500 450 81\nline\nline\n", 3, "said".to_owned()).unwrap();
        assert!((sample.elapsed - 1.0).abs() < 1e-9, "{sample:?}");
        assert!((sample.processor - 0.5).abs() < 1e-9, "{sample:?}");
        assert!((sample.minor_faults - 150.0).abs() < 1e-9, "{sample:?}");
        assert_eq!(sample.outcome.status, 81);
        assert_eq!(sample.outcome.stdout, "line\nline");
        for text in ["", "3 2 1 81", "3 2 1\n", "3 2 many 81\n"] {
            assert!(parse(text, 3, String::new()).is_none(), "{text}");
        }
    }

    #[test]
    fn starts_end_alike_or_not_at_all() {
        let (hello, failed, killed) = (output(0, "hello\n"), output(256, ""), output(11, ""));
        for (outputs, expected) in [
            (vec![hello.clone(), hello.clone()], Ok((0, "hello"))),
            (vec![killed.clone()], Ok((139, ""))),
            (
                vec![hello.clone(), hello, failed],
                Err("one start ends with exit status 0, printed hello; another with exit status 1, printed nothing"),
            ),
            (vec![], Err("it was not started at all")),
        ] {
            let found = common_outcome(&outputs);
            let found = found.as_ref().map(|found| (found.status, &*found.stdout));
            let found = found.map_err(ToString::to_string);
            assert_eq!(found, expected.map_err(str::to_owned));
        }
    }
}

//! Faults: a program that lets another one's system calls go wrong, and calls of the tool under it.
//!
//! Which calls may fail, and with what, is `tests/harness/inject.c`'s; what must be so afterwards, the tests'.

use std::fs;
use std::path::PathBuf;

use super::{BINFMT, Host, Output, emulators};

/// What `inject.c` says of a call with survivors.
pub(crate) const LEFTOVER: i32 = 250;
/// Ways in which a system call may fail, as `inject.c` counts them; one that has fewer says so.
pub(crate) const VARIANTS: usize = 3;
/// What a program ends with that a signal has ended.
const BY_SIGNAL: i32 = 128;
/// Rust's runtime gives up so, with a word, when there is no memory: before `main`, and where an allocation fails.
const ABORTED: i32 = BY_SIGNAL + 6;
/// So does musl, without one, where there is no memory for the variables of the first thread: what a static program
/// asks for before all else.
const CRASHED: i32 = BY_SIGNAL + 11;

/// Whether a call whose system call `point` was made to fail has left what a kill leaves, for want of memory. Fails where it has
/// ended without a word, or by a signal otherwise.
#[track_caller]
pub(crate) fn is_as_killed(output: &Output, point: usize, what: &str) -> bool {
    let before_main = point == 1 && output.status == CRASHED;
    let says = output.stderr.lines().next_back().unwrap_or_default();
    let silent = says.is_empty() && !before_main;
    assert!(output.status == 0 || !silent, "{what}: {output}");
    let killed = before_main || output.status == ABORTED;
    assert!(killed || output.status < BY_SIGNAL, "{what}: {output}");
    killed
}

impl Host {
    /// The program that lets another one's system calls go wrong; `tests/harness/inject.c` says how it is called.
    pub(crate) fn injector(&self) -> PathBuf {
        let path = self.scratch().join("inject");
        self.compile_source(&path, "-O1 -Wall -Wextra -Werror", include_str!("inject.c"));
        path
    }
}

/// A call of the tool, to be made again and again with something going wrong.
#[derive(Debug)]
pub(crate) struct Faults {
    inject: PathBuf,
    report: PathBuf,
    args: &'static [&'static str],
}

/// What goes wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// The tool is killed before the system call of this number.
    Kill(usize),
    /// The system call of this number fails, in this of [`VARIANTS`] ways.
    Fail(usize, usize),
}

/// How many system calls a call makes that may fail.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Count {
    /// All of them.
    pub(crate) all: usize,
    /// Those before it first starts a process.
    pub(crate) alone: usize,
}

impl Faults {
    /// Faults of `binfmt ARGS...`; `tools` is the host whose scratch folder has what it takes.
    pub(crate) fn of(args: &'static [&'static str], tools: &Host) -> Self {
        Self { inject: tools.injector(), report: tools.scratch().join("report"), args }
    }

    /// Calls it with nothing going wrong.
    pub(crate) fn count(&self, host: &Host) -> Count {
        self.run(host, ["count", "0", "0"]).ok();
        let (all, alone) = self.report();
        let alone = alone.parse().expect("a number");
        Count { all, alone }
    }

    /// What became of the call, and in words what was done to it; `None` where nothing was: there is no such system call, or
    /// no such way.
    pub(crate) fn call(&self, host: &Host, fault: Fault) -> (Output, Option<String>) {
        let (what, point, variant) = match fault {
            Fault::Kill(point) => ("kill", point, 0),
            Fault::Fail(point, variant) => ("fail", point, variant),
        };
        let output = self.run(host, [what, &point.to_string(), &variant.to_string()]);
        let done = self.report().1;
        (output, (!done.is_empty()).then_some(format!("{:?}, system call {point}: {done}", self.args)))
    }

    fn run(&self, host: &Host, how: [&str; 3]) -> Output {
        // one that is not written anew would tell of the call before
        let _ = fs::remove_file(&self.report);
        let call = host.program(&self.inject).args([&self.report]).args(how).args([BINFMT]).args(self.args);
        call.emulators(&emulators()).run()
    }

    fn report(&self) -> (usize, String) {
        let text = fs::read_to_string(&self.report).expect("a report");
        let mut lines = text.lines();
        let counted = lines.next().and_then(|line| line.parse().ok());
        let done = lines.next().unwrap_or_default().to_owned();
        (counted.expect("a number"), done)
    }
}

/// The numbers up to `count`: `few` of them, spread evenly, or `many` where `BINFMT_TEST_FAULTS=all`.
pub(crate) fn points(count: usize, few: usize, many: usize) -> impl Iterator<Item = usize> {
    let all = std::env::var_os("BINFMT_TEST_FAULTS").is_some_and(|value| value == "all");
    let number = if all { many } else { few };
    (1..=count).step_by(count.div_ceil(number).max(1))
}

//! Tier: kernel. Every system call of an install, an upgrade and an uninstall fails, once with each error that it may have,
//! or is the last before a `SIGKILL`; `faults/inject.c` sees to that, in the tool and in the processes that it starts.
//!
//! After each: what worked before works, no entry is left that does not run, nobody lives on, the exit status is honest, and the next
//! call mends everything. All system calls are some hours' worth with a debug build's dynamic loader, so without
//! `BINFMT_TEST_FAULTS=all` it is [`SAMPLE`] of them.

mod harness;

use std::fs;
use std::path::PathBuf;

use harness::{BINFMT, Host, Output, emulators, old_emulators, tally};

/// System calls of each test, spread evenly.
const SAMPLE: usize = 25;
/// Rust's runtime gives up so, with a word, when there is no memory: before `main`, and where an allocation fails.
const ABORTED: i32 = 134;
/// What `inject.c` says of a call with survivors.
const LEFTOVER: i32 = 250;
/// Ways in which a system call may fail, as `inject.c` counts them; one that has fewer says so.
const VARIANTS: usize = 3;

/// Installed at all times, and in nobody's list: what a failure must not touch.
const BYSTANDER: &str = "arm";
const PLATFORMS: [&str; 2] = ["arm64", "riscv64"];
const LIST: &str = "arm64,riscv64";

#[test]
fn an_install_that_fails_says_so_and_leaves_only_what_runs() {
    let laboratory = Laboratory::new(&["--install", LIST], Before::Bystander);
    laboratory.fail_everywhere(|host, output, what| {
        let runs = PLATFORMS.map(|debian| host.runs(debian).is_ok());
        if output.status == 0 {
            assert_eq!(runs, [true; 2], "{what}: {output}");
        }
        let expected = ["qemu-aarch64", "qemu-riscv64"].into_iter().zip(runs);
        let expected = expected.filter_map(|(name, runs)| runs.then_some(name));
        assert_entries(host, expected, what);
    });
}

#[test]
fn an_upgrade_that_fails_says_so_and_loses_nothing() {
    let laboratory = Laboratory::new(&["--install", LIST], Before::Old);
    laboratory.fail_everywhere(|host, output, what| {
        let new = ["qemu-aarch64", "qemu-riscv64"].map(|name| interpreter_is_new(host, name));
        if output.status == 0 {
            assert_eq!(new, [true; 2], "{what}: {output}");
        }
        assert_entries(host, ["qemu-aarch64", "qemu-riscv64"], what);
        assert_run(host, &PLATFORMS, what);
    });
}

#[test]
fn an_uninstall_that_fails_says_so_and_takes_no_more_than_it_should() {
    let laboratory = Laboratory::new(&["--uninstall", "riscv64"], Before::Old);
    laboratory.fail_everywhere(|host, output, what| {
        let runs = host.runs("riscv64").is_ok();
        assert!(output.status != 0 || !runs, "{what}: {output}");
        let expected = ["qemu-aarch64"]
            .into_iter()
            .chain(runs.then_some("qemu-riscv64"));
        assert_entries(host, expected, what);
        assert_run(host, &["arm64"], what);
    });
}

#[test]
fn an_upgrade_killed_at_any_system_call_loses_nothing() {
    let laboratory = Laboratory::new(&["--install", LIST], Before::Old);
    laboratory.kill_everywhere(|host, what| assert_run(host, &PLATFORMS, what));
}

#[test]
fn an_uninstall_killed_at_any_system_call_takes_no_more_than_it_should() {
    let laboratory = Laboratory::new(&["--uninstall", "riscv64"], Before::Old);
    laboratory.kill_everywhere(|host, what| assert_run(host, &["arm64"], what));
}

/// What is there before each call, besides [`BYSTANDER`].
#[derive(Debug, Clone, Copy)]
enum Before {
    /// Nothing.
    Bystander,
    /// [`LIST`], of an older QEMU.
    Old,
}

/// A host, a call, and what lets it go wrong.
#[derive(Debug)]
struct Laboratory {
    host: Host,
    inject: PathBuf,
    args: &'static [&'static str],
    before: Before,
}

impl Laboratory {
    fn new(args: &'static [&'static str], before: Before) -> Self {
        let host = Host::new();
        let inject = host.injector();
        host.binfmt(&["--install", BYSTANDER]).ok();
        Self {
            host,
            inject,
            args,
            before,
        }
    }

    fn fail_everywhere(&self, after: impl Fn(&Host, &Output, &str)) {
        let mut faults = 0;
        let mounts = self.mounts();
        for point in self.points() {
            for variant in 0..VARIANTS {
                self.prepare();
                let (output, what) = self.call("fail", point, variant);
                let Some(what) = what else { break };
                faults += 1;
                assert_ne!(output.status, LEFTOVER, "survivors, {what}");
                assert_eq!(self.mounts(), mounts, "{what}");
                let says = output.stderr.lines().next_back().unwrap_or_default();
                assert!(output.status == 0 || !says.is_empty(), "{what}: {output}");
                let by_signal = output.status > 128 && output.status != ABORTED;
                assert!(!by_signal, "{what}: {output}");
                assert_run(&self.host, &["armhf"], &what);
                after(&self.host, &output, &what);
                self.mends(&what);
            }
        }
        assert!(faults >= SAMPLE, "only {faults} faults");
        tally("system calls made to fail", faults);
    }

    fn kill_everywhere(&self, after: impl Fn(&Host, &str)) {
        let mut kills = 0;
        let mounts = self.mounts();
        for point in self.points() {
            self.prepare();
            let (output, what) = self.call("kill", point, 0);
            let Some(what) = what else { continue };
            kills += 1;
            assert_ne!(output.status, LEFTOVER, "survivors, {what}");
            assert_eq!(self.mounts(), mounts, "{what}");
            assert_run(&self.host, &["armhf"], &what);
            after(&self.host, &what);
            self.mends(&what);
        }
        assert!(kills >= SAMPLE / 2, "only {kills} kills");
        tally("system calls killed at", kills);
    }

    /// The numbers of the system calls that are looked at.
    fn points(&self) -> impl Iterator<Item = usize> {
        self.prepare();
        let (output, _) = self.call("count", 0, 0);
        output.ok();
        let all = self.report().0;
        let every = std::env::var_os("BINFMT_TEST_FAULTS").is_some_and(|value| value == "all");
        (1..=all).step_by(if every { 1 } else { all.div_ceil(SAMPLE) })
    }

    fn prepare(&self) {
        let call = match self.before {
            Before::Bystander => self.host.call(&["--uninstall", LIST]),
            Before::Old => self.host.call(&["--install", LIST]),
        };
        call.emulators(&old_emulators()).run().ok();
    }

    /// What became of the call, and what was done to it; `None` where nothing was.
    fn call(&self, what: &str, point: usize, variant: usize) -> (Output, Option<String>) {
        let report = self.host.scratch().join("report");
        let call = self.host.program(&self.inject).args([&report]);
        let numbers = [what, &point.to_string(), &variant.to_string()];
        let call = call.args(numbers).args([BINFMT]).args(self.args);
        let output = call.emulators(&emulators()).run();
        let done = self.report().1;
        let what = format!("{:?}, system call {point}: {done}", self.args);
        (output, (!done.is_empty()).then_some(what))
    }

    /// What is mounted in the host of the file systems that the tool mounts; nothing comes, and nothing goes. Others' mounts
    /// may: they propagate.
    fn mounts(&self) -> String {
        let mounts = "grep -E ' - (binfmt_misc|tracefs) ' /proc/self/mountinfo";
        self.host.sh(mounts).ok().stdout
    }

    fn report(&self) -> (usize, String) {
        let text = fs::read_to_string(self.host.scratch().join("report")).expect("a report");
        let mut lines = text.lines();
        let counted = lines.next().and_then(|line| line.parse().ok());
        let done = lines.next().unwrap_or_default().to_owned();
        (counted.expect("a number"), done)
    }

    /// The same call once more, with nothing in its way.
    #[track_caller]
    fn mends(&self, what: &str) {
        let next = self.host.binfmt(self.args);
        assert_eq!(next.status, 0, "the call after: {what}: {next}");
        let kept: &[&str] = match self.args[0] {
            "--uninstall" => &["qemu-aarch64"],
            _ => &["qemu-aarch64", "qemu-riscv64"],
        };
        assert_entries(&self.host, kept.iter().copied(), what);
        for name in kept.iter().filter(|_| self.args[0] == "--install") {
            assert!(interpreter_is_new(&self.host, name), "{name} after: {what}");
        }
    }
}

fn interpreter_is_new(host: &Host, name: &str) -> bool {
    let line = format!("interpreter {}\n", emulators().join(name).display());
    host.entry(name).is_some_and(|entry| entry.contains(&line))
}

#[track_caller]
fn assert_run(host: &Host, debian: &[&str], what: &str) {
    for name in debian {
        let runs = host.runs(name);
        assert!(runs.is_ok(), "{name}: {what}: {runs:?}");
    }
}

/// These and the bystander's, no more and no less.
#[track_caller]
fn assert_entries<'a>(host: &Host, expected: impl IntoIterator<Item = &'a str>, what: &str) {
    let mut expected: Vec<_> = expected.into_iter().chain(["qemu-arm"]).collect();
    expected.sort_unstable();
    let mut entries = host.entries();
    entries.sort();
    assert_eq!(entries, expected, "{what}");
}

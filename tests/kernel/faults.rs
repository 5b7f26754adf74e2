//! Every system call of an install, an upgrade and an uninstall fails, once with each error that it may have,
//! or is the last before a `SIGKILL`; `tests/harness/inject.c` sees to that, in the tool and in the processes that it starts.
//!
//! After each: what worked before works, no entry is left that does not run, nobody lives on, and the next call repairs everything.
//! After a failure, the exit status is honest too, and nothing is left to be cleared away; after a kill a trial may be.
//!
//! All system calls take ten minutes of two processors with a static binary, hours with a debug build's dynamic loader, so without
//! `BINFMT_TEST_FAULTS=all` it is [`SAMPLE`] of them.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::Write;

use crate::harness::faults::{Fault, Faults, LEFTOVER, VARIANTS, is_as_killed, points};
use crate::harness::{Host, MOUNT_POINT, Output, emulators, old_emulators, tally};
use binfmt_magic::entry::Entry;

/// System calls of each test, spread evenly.
const SAMPLE: usize = 25;
/// Installed at all times, and in nobody's list: what a failure must not touch.
const BYSTANDER: &str = "arm";
const LIST: &str = "arm64,riscv64";
/// Debian's names of [`BYSTANDER`] and [`LIST`].
const PROGRAMS: [&str; 3] = ["armhf", "arm64", "riscv64"];
const ENTRIES: [&str; 3] = ["qemu-arm", "qemu-aarch64", "qemu-riscv64"];

#[test]
fn an_install_that_fails_says_so_and_leaves_only_what_runs() {
    let mut laboratory = Laboratory::new(&["--install", LIST], Before::Bystander);
    let points = laboratory.points();
    laboratory.fail_everywhere(&points, |state, output, _, what| {
        if output.status == 0 {
            assert_eq!(state.runs, [true; 3], "{what}: {output}");
        }
        assert_eq!(state.there, state.runs, "{what}: {output}");
    });
}

#[test]
fn an_upgrade_that_fails_early_says_so_and_loses_nothing() {
    fail_an_upgrade(|points, middle| &points[..middle]);
}

/// Two tests, since it takes as long as all others.
#[test]
fn an_upgrade_that_fails_late_says_so_and_loses_nothing() {
    fail_an_upgrade(|points, middle| &points[middle..]);
}

fn fail_an_upgrade(part: impl Fn(&[usize], usize) -> &[usize]) {
    let mut laboratory = Laboratory::new(&["--install", LIST], Before::Old);
    let points = laboratory.points();
    // what fails late takes longer
    let middle = points.len() * 3 / 5;
    laboratory.fail_everywhere(part(&points, middle), |state, output, killed, what| {
        if output.status == 0 {
            assert_eq!(state.new, [true; 3], "{what}: {output}");
        }
        assert_eq!(state.runs, [true; 3], "{what}: {output}");
        // else what stands in for an entry has its name in the end
        assert!(killed || state.there == [true; 3], "{what}: {output}");
    });
}

#[test]
fn an_uninstall_that_fails_says_so_and_takes_no_more_than_it_should() {
    let mut laboratory = Laboratory::new(&["--uninstall", "riscv64"], Before::Old);
    let points = laboratory.points();
    laboratory.fail_everywhere(&points, |state, output, _, what| {
        let [_, _, runs] = state.runs;
        assert!(output.status != 0 || !runs, "{what}: {output}");
        assert_eq!(state.runs, [true, true, runs], "{what}: {output}");
        assert_eq!(state.there, state.runs, "{what}: {output}");
    });
}

#[test]
fn an_install_killed_at_any_system_call_leaves_only_what_runs() {
    let mut laboratory = Laboratory::new(&["--install", LIST], Before::Bystander);
    laboratory.kill_everywhere(|state, what| {
        assert_eq!(state.there, state.runs, "{what}");
        assert!(state.runs[0], "{what}");
    });
}

#[test]
fn an_upgrade_killed_at_any_system_call_loses_nothing() {
    let mut laboratory = Laboratory::new(&["--install", LIST], Before::Old);
    laboratory.kill_everywhere(|state, what| assert_eq!(state.runs, [true; 3], "{what}"));
}

#[test]
fn an_uninstall_killed_at_any_system_call_takes_no_more_than_it_should() {
    let mut laboratory = Laboratory::new(&["--uninstall", "riscv64"], Before::Old);
    laboratory.kill_everywhere(|state, what| assert_eq!(state.runs[..2], [true; 2], "{what}"));
}

/// What is there before each call, besides [`BYSTANDER`].
#[derive(Debug, Clone, Copy)]
enum Before {
    /// Nothing.
    Bystander,
    /// [`LIST`], of an older QEMU.
    Old,
}

/// How things are after a call: of [`PROGRAMS`] and [`ENTRIES`], each.
#[derive(Debug, Clone, Copy)]
struct State {
    /// Its programs run.
    runs: [bool; 3],
    /// There is an entry of its name.
    there: [bool; 3],
    /// That is of the newer QEMU.
    new: [bool; 3],
    /// There is no entry but those.
    tidy: bool,
}

impl State {
    fn of(host: &Host) -> Self {
        let of_new = |name| {
            let line = format!("interpreter {}\n", emulators().join(name).display());
            host.entry(name).is_some_and(|entry| entry.contains(&line))
        };
        Self {
            runs: PROGRAMS.map(|debian| host.runs(debian).is_ok()),
            there: ENTRIES.map(|name| host.entry(name).is_some()),
            new: ENTRIES.map(of_new),
            tidy: host.entries().iter().all(|entry| ENTRIES.contains(&entry.as_str())),
        }
    }
}

/// A host, a call, and what lets it go wrong.
#[derive(Debug)]
struct Laboratory {
    host: Host,
    faults: Faults,
    args: &'static [&'static str],
    /// The table before each call.
    begin: String,
    /// The lines that make it.
    rules: Vec<Vec<u8>>,
    /// What programs meet is decided by the table alone, and so is what the next call does: one that is as it was after
    /// another fault is not tried again.
    seen: HashMap<String, State>,
}

impl Laboratory {
    fn new(args: &'static [&'static str], before: Before) -> Self {
        let host = Host::new();
        host.binfmt(&["--install", BYSTANDER]).ok();
        if let Before::Old = before {
            host.call(&["--install", LIST]).emulators(&old_emulators()).run().ok();
        }
        let entries = host.entries();
        let rules = entries.iter().rev().map(|name| {
            let text = host.entry(name).expect("an entry");
            let rule = Entry::parse(OsStr::new(name), text.as_bytes()).to_rule();
            let line = rule.expect("a rule").encode();
            line.expect("a registration line")
        });
        Self {
            faults: Faults::of(args, &host),
            args,
            begin: host.table(),
            rules: rules.collect(),
            seen: HashMap::new(),
            host,
        }
    }

    /// `after` also gets to know whether the call has left what a kill leaves.
    fn fail_everywhere(&mut self, points: &[usize], after: impl Fn(State, &Output, bool, &str)) {
        let mut faults = 0;
        let mounts = self.mounts();
        for &point in points {
            for variant in 0..VARIANTS {
                self.prepare();
                let fault = Fault::Fail(point, variant);
                let (output, what) = self.faults.call(&self.host, fault);
                let Some(what) = what else { break };
                faults += 1;
                assert_ne!(output.status, LEFTOVER, "survivors, {what}");
                assert_eq!(self.mounts(), mounts, "{what}");
                let killed = is_as_killed(&output, point, &what);
                self.examine(&what, |state| {
                    assert!(state.tidy || killed, "{what}: {output}");
                    after(state, &output, killed, &what);
                });
            }
        }
        assert!(faults >= SAMPLE / 2, "only {faults} faults");
        tally("system calls made to fail", faults);
    }

    fn kill_everywhere(&mut self, after: impl Fn(State, &str)) {
        let mut kills = 0;
        let mounts = self.mounts();
        for point in self.points() {
            self.prepare();
            let (output, what) = self.faults.call(&self.host, Fault::Kill(point));
            let Some(what) = what else { continue };
            kills += 1;
            assert_ne!(output.status, LEFTOVER, "survivors, {what}");
            assert_eq!(self.mounts(), mounts, "{what}");
            self.examine(&what, |state| after(state, &what));
        }
        assert!(kills >= SAMPLE / 2, "only {kills} kills");
        tally("system calls killed at", kills);
    }

    /// The numbers of the system calls that are looked at.
    fn points(&self) -> Vec<usize> {
        self.prepare();
        points(self.faults.count(&self.host).all, SAMPLE, usize::MAX).collect()
    }

    /// Makes the table what it is before each call. By hand, since it is done thousands of times.
    fn prepare(&self) {
        if self.host.table() == self.begin {
            return;
        }
        let table = self.host.path(MOUNT_POINT);
        let write = |file: &str, bytes: &[u8]| {
            let file = OpenOptions::new().write(true).open(table.join(file));
            file.and_then(|mut file| file.write_all(bytes)).expect("a table");
        };
        for entry in self.host.entries() {
            write(&entry, b"-1");
        }
        for rule in &self.rules {
            write("register", rule);
        }
        assert_eq!(self.host.table(), self.begin);
    }

    /// What is mounted in the host of the file systems that the tool mounts; nothing comes, and nothing goes. Others' mounts
    /// may: they propagate.
    fn mounts(&self) -> String {
        let mounts = self.host.mountinfo();
        let ours = |line: &&str| line.contains(" - binfmt_misc ") || line.contains(" - tracefs ");
        mounts.lines().filter(ours).collect::<Vec<_>>().join("\n")
    }

    /// Judges how things are, and, if they have not been so before, has the next call repair them.
    #[track_caller]
    fn examine(&mut self, what: &str, judge: impl Fn(State)) {
        let table = self.host.table();
        if let Some(state) = self.seen.get(&table) {
            return judge(*state);
        }
        let state = State::of(&self.host);
        judge(state);
        self.repairs(what);
        self.seen.insert(table, state);
    }

    /// The same call once more, with nothing in its way.
    #[track_caller]
    fn repairs(&self, what: &str) {
        let next = self.host.binfmt(self.args);
        assert_eq!(next.status, 0, "the call after: {what}: {next}");
        let state = State::of(&self.host);
        assert!(state.tidy, "after: {what}: {state:?}");
        let kept = if self.args[0] == "--install" {
            assert_eq!(state.new, [true; 3], "after: {what}");
            [true; 3]
        } else {
            [true, true, false]
        };
        assert_eq!(state.there, kept, "after: {what}");
        assert_eq!(state.runs, kept, "after: {what}");
    }
}

//! Faults around the anchor: system calls of an install that mounts the table and anchors it, and of the uninstall that ends both,
//! fail, or are the last before a `SIGKILL`, up to where the first process is started. What comes later is
//! `tests/kernel/faults.rs`'s, whose hosts have no tracefs.
//!
//! After each: a call that said it was done has done it, one that failed has left no mount and no anchor of nothing, and the
//! next calls find nothing in their way.

use super::machine::{Machine, Namespace};
use crate::harness::faults::{Fault, Faults, LEFTOVER, VARIANTS, is_as_killed, points};
use crate::harness::turn::{self, is_mounted};
use crate::harness::{Output, tally};

/// System calls of each test, spread evenly: each takes a second ...
const SAMPLE: usize = 6;
/// ... and with `BINFMT_TEST_FAULTS=all`.
const LARGE_SAMPLE: usize = 20;
const INSTALL: &[&str] = &["--install", "arm64"];
const UNINSTALL: &[&str] = &["--uninstall", "all"];

#[test]
fn an_install_that_fails_has_no_anchor_of_nothing() {
    let Some(machine) = Machine::take() else { return };
    Laboratory::new(machine, INSTALL).fail_everywhere(|status, installed, anchored| match status {
        0 => installed && anchored,
        _ => installed == anchored,
    });
}

#[test]
fn an_uninstall_that_fails_takes_the_anchor_of_no_handler() {
    let Some(machine) = Machine::take() else { return };
    Laboratory::new(machine, UNINSTALL).fail_everywhere(|status, installed, anchored| match status {
        0 => !installed && !anchored,
        // an anchor that cannot be deleted stays
        _ => anchored,
    });
}

#[test]
fn what_a_killed_install_leaves_is_in_nobodys_way() {
    let Some(machine) = Machine::take() else { return };
    Laboratory::new(machine, INSTALL).kill_everywhere();
}

#[test]
fn what_a_killed_uninstall_leaves_is_in_nobodys_way() {
    let Some(machine) = Machine::take() else { return };
    Laboratory::new(machine, UNINSTALL).kill_everywhere();
}

/// The machine, and what lets a call there go wrong.
#[derive(Debug)]
struct Laboratory {
    machine: Machine,
    /// Has the program that injects faults, and what it reports.
    _tools: Namespace,
    args: &'static [&'static str],
    faults: Faults,
}

impl Laboratory {
    fn new(machine: Machine, args: &'static [&'static str]) -> Self {
        let tools = Namespace::host();
        Self { faults: Faults::of(args, &tools.host), args, machine, _tools: tools }
    }

    /// `is_right` says whether the status is that of what is there afterwards: whether arm64 is installed, and an anchor set.
    fn fail_everywhere(&self, is_right: impl Fn(i32, bool, bool) -> bool) {
        let mut faults = 0;
        for point in self.points() {
            for variant in 0..VARIANTS {
                let (output, what) = self.call(Fault::Fail(point, variant));
                let Some(what) = what else { break };
                faults += 1;
                let killed = is_as_killed(&output, point, &what);
                let entries = turn::entries();
                let (installed, anchored) = (self.is_installed(), turn::anchors() == 1);
                assert!(killed || installed != entries.is_empty(), "{what}: {entries:?}");
                let right = killed || is_right(output.status, installed, anchored);
                assert!(right, "installed: {installed}, anchored: {anchored}, {what}: {output}");
                self.repairs(&what);
            }
        }
        assert!(faults >= SAMPLE, "only {faults} faults");
        tally("system calls made to fail beside the anchor", faults);
    }

    fn kill_everywhere(&self) {
        let mut kills = 0;
        for point in self.points() {
            let (_, what) = self.call(Fault::Kill(point));
            let Some(what) = what else { continue };
            kills += 1;
            self.repairs(&what);
        }
        assert!(kills >= SAMPLE / 2, "only {kills} kills");
        tally("system calls killed at beside the anchor", kills);
    }

    fn points(&self) -> impl Iterator<Item = usize> + use<> {
        let namespace = self.prepared();
        let count = self.faults.count(&namespace.host);
        namespace.ends();
        self.repairs("nothing");
        points(count.alone, SAMPLE, LARGE_SAMPLE)
    }

    /// A mount namespace to call it from, with something to uninstall if that is what it does.
    fn prepared(&self) -> Namespace {
        if self.args == UNINSTALL {
            Namespace::new().binfmt(INSTALL).ok();
        }
        Namespace::new()
    }

    /// The call in a mount namespace, which ends; the table then has what outlived it.
    fn call(&self, fault: Fault) -> (Output, Option<String>) {
        let namespace = self.prepared();
        let (output, what) = self.faults.call(&namespace.host, fault);
        namespace.ends();
        assert_ne!(output.status, LEFTOVER, "survivors: {what:?}");
        assert!(!is_mounted(), "{what:?}: {output}");
        let held = turn::anchors() == 0 && turn::is_held();
        assert!(!held, "something holds the table, {what:?}: {output}");
        (output, what)
    }

    fn is_installed(&self) -> bool {
        turn::entries() == ["qemu-aarch64"] && self.machine.host.runs("arm64").is_ok()
    }

    /// The next install works, and the next last uninstall leaves no trace.
    #[track_caller]
    fn repairs(&self, what: &str) {
        let namespace = Namespace::new();
        let next = namespace.binfmt(INSTALL);
        assert_eq!(next.status, 0, "the install after: {what}: {next}");
        namespace.ends();
        assert!(self.is_installed(), "after: {what}: {next}");
        let last = Namespace::new().binfmt(UNINSTALL);
        assert_eq!(last.status, 0, "the uninstall after: {what}: {last}");
        self.machine.is_clean();
    }
}

//! The benchmarks of `docs/measurements.md`, as make calls them, with a round of each: that they compare what they
//! are to compare, and print a row of all that they measure. How fast anything is, they do not tell then.
//!
//! They are compiled as these tests are, without the release's optimization, which would take longer than they do.

use std::path::Path;
use std::process::Command;

use crate::harness::machine::{Machine, built, root, run};
use crate::harness::turn::cannot_run;
use crate::harness::{BINFMT, old_emulators};

/// What `make` with these words prints, where emulators and the tool are there already.
fn make(words: &[&str]) -> String {
    let mut make = Command::new("make");
    make.arg("-C").arg(root()).args(["--old-file=build", "--old-file=emulators"]);
    make.args(["ROUNDS=1", "BENCH=cargo run --locked --quiet --package binfmt-bench --"]);
    // so that the tests of emulators need not be built for those of the tool
    run(make.env("QEMU_FROM", "package").args(words))
}

#[track_caller]
fn has_rows(printed: &str, rows: &[&str]) {
    for row in rows {
        let mut lines = printed.lines();
        assert!(lines.any(|line| line.starts_with(row)), "no {row:?} in {printed}");
    }
}

#[test]
fn make_bench_compares_binaries() {
    let rival = format!("RIVAL={BINFMT}");
    let printed = make(&["bench", &format!("BINFMT={BINFMT}"), &rival]);
    has_rows(
        &printed,
        &[
            "ours: ",
            "rival: /",
            "status: processor time",
            "install: processor time",
            "install again: processor time",
            "--version: processor time",
            "size",
        ],
    );
}

#[test]
fn make_bench_has_a_rival_without_one() {
    let printed = make(&["bench", &format!("BINFMT={BINFMT}")]);
    has_rows(&printed, &["rival: none", "install: processor time"]);
}

#[test]
fn make_bench_image_compares_images() {
    // whether it can be had; the benchmark takes a turn of its own
    if Machine::take().is_none() {
        return;
    }
    let printed = make(&["bench-image"]);
    run(Command::new("docker").args(["rmi", "--force", "binfmt-bench-floor", "binfmt-bench-shape"]));
    has_rows(&printed, &["install all, first", "install all, again", "status", "uninstall", "image", "compressed"]);
}

#[test]
fn make_bench_emulators_compares_directories() {
    // of ours, one that continuous integration makes and that an older QEMU has
    if !built("tuned/qemu-s390x").exists() {
        return cannot_run("it needs an emulator of our own: make tuned TARGETS=s390x");
    }
    let plots = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let printed = make(&[
        "bench-emulators",
        "ARCH=s390x",
        "OPTIONS=--processor-time --only probe",
        &format!("RIVALS=old={}", old_emulators().display()),
        &format!("PLOTS={}", plots.display()),
    ]);
    has_rows(&printed, &["linux/s390x, processor time", "start, smallest program", "size of the emulator"]);
    assert!(printed.contains("tuned / debian  tuned / alone  tuned / old"), "{printed}");
    assert!(plots.join("s390x.svg").exists());
}

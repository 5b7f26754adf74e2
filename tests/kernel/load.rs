//! Fifty calls at once, again and again, while programs of the platforms that nobody uninstalls are started all
//! the time: not one start fails, not one call, and nothing is left over.
//!
//! It goes on for `BINFMT_TEST_LOAD` seconds, 10 by default. Interleavings that are known to matter have tests that hold a
//! call right there (concurrency.rs); here it is luck, and numbers.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use crate::harness::{Host, emulators, old_emulators, program, tally};

const CALLS_AT_ONCE: usize = 50;
/// Never uninstalled, only replaced.
const KEPT: [&str; 2] = ["arm64", "riscv64"];

#[test]
fn not_one_program_misses_its_handler_while_fifty_calls_change_the_table() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64,riscv64"]).ok();
    let seconds = std::env::var("BINFMT_TEST_LOAD")
        .map_or(10, |seconds| seconds.parse().expect("BINFMT_TEST_LOAD is a number of seconds"));
    let end = Instant::now() + Duration::from_secs(seconds);
    let stop = host.scratch().join("stop");
    let calls = AtomicUsize::new(0);
    let starts: usize = thread::scope(|scope| {
        let loops = KEPT.map(|debian| {
            let (host, stop) = (&host, &stop);
            scope.spawn(move || start_until(host, debian, stop))
        });
        let callers: Vec<_> = (0..CALLS_AT_ONCE)
            .map(|caller| {
                let (host, calls) = (&host, &calls);
                scope.spawn(move || call_until(host, caller, end, calls))
            })
            .collect();
        let results: Vec<_> = callers.into_iter().map(ScopedJoinHandle::join).collect();
        File::create(&stop).expect("a file");
        for result in results {
            result.expect("a caller without complaint");
        }
        loops.map(|starts| starts.join().expect("a loop")).iter().sum()
    });
    let calls = calls.into_inner();
    assert!(starts >= KEPT.len() * 5, "only {starts} programs started");

    host.binfmt(&["--install", "arm64,riscv64"]).ok();
    host.binfmt(&["--uninstall", "arm,ppc64le,s390x"]).ok();
    let mut entries = host.entries();
    entries.sort();
    assert_eq!(entries, ["qemu-aarch64", "qemu-riscv64"]);
    tally("calls under load", calls);
    tally("programs started under load", starts);
}

/// Calls, each caller from another place on.
fn call_until(host: &Host, caller: usize, end: Instant, calls: &AtomicUsize) {
    let folders: [PathBuf; 2] = [emulators(), old_emulators()];
    let choices: [(&[&str], &Path); 11] = [
        (&["--install", "arm64"], &folders[0]),
        (&["--status", "arm64,riscv64"], &folders[0]),
        (&["--install", "arm64,riscv64"], &folders[1]),
        (&["--uninstall", "ppc64le"], &folders[0]),
        (&["--install", "ppc64le,riscv64"], &folders[0]),
        (&["--verify", "s390x"], &folders[0]),
        (&["--install", "arm,s390x"], &folders[1]),
        (&["--uninstall", "arm,s390x"], &folders[1]),
        (&["--install", "riscv64", "--credentials", "no"], &folders[0]),
        (&["--list"], &folders[0]),
        (&[], &folders[0]),
    ];
    for step in 0.. {
        let (args, folder) = choices[(caller * 5 + step) % choices.len()];
        // so that the older emulators take the newer ones' place, too
        let output = host.call(args).env("QEMU_BINARY_REPLACE", "1").emulators(folder).run();
        // whether what others change all the time is as it should be is anybody's guess
        let audits = args.first() == Some(&"--verify");
        assert!(output.status == 0 || audits && output.status == 1, "{output}");
        calls.fetch_add(1, Ordering::Relaxed);
        if Instant::now() > end {
            return;
        }
    }
}

/// How many times a program started before `stop` was there. A start that fails ends it with a panic.
fn start_until(host: &Host, debian: &str, stop: &Path) -> usize {
    let script = format!(
        "runs=0; while [ ! -e {} ]; do {} true; runs=$((runs + 1)); done; echo $runs",
        stop.display(),
        program(debian).display()
    );
    let output = host.command("sh").args(["-e", "-c", &script]).output();
    let output = output.expect("nsenter");
    assert!(output.status.success(), "{debian}: {output:?}");
    let runs = String::from_utf8_lossy(&output.stdout);
    runs.trim().parse().expect("a number of runs")
}

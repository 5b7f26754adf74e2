//! QEMU's own tests of user emulation, `tests/tcg` of its source, which `qemu/tcg-tests.sh` builds: how they are run.
//!
//! Owns which of them tell nothing, and why. Each is started as QEMU's makefiles start it, with the emulator's options
//! that belong to it. The tests that need gdb or plugins are not among those that are built.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::turn;
use crate::sandbox::{Outcome, runner};
use crate::{Pair, folder};

/// Seconds for one test.
const LIMIT: &str = "60";

/// What of a test's output differs from run to run under one and the same emulator.
#[derive(Debug, Clone, Copy)]
enum Varies {
    /// All of it: its exit status is compared alone.
    All,
    /// Its numbers.
    Numbers,
    /// The lines that begin so.
    Lines(&'static [&'static str]),
}

/// The tests that differ between two runs of Debian's own emulator, or on purpose, and why. Their exit status is compared nonetheless.
#[rustfmt::skip]
const VARYING: [(&str, Varies, &str); 11] = [
    ("mte-8",      Varies::Numbers, "prints where the emulator got memory"),
    ("pauth-1",    Varies::Numbers, "how many of its random pointers are told to be false"),
    ("pauth-4",    Varies::Numbers, "how many of its random pointers are told to be false"),
    ("prno-trng",  Varies::Numbers, "how often it is interrupted"),
    ("signals",    Varies::All,     "threads print as they come, and how many alarms they saw"),
    ("sysregs",    Varies::Lines(&["cntvct_el0", "id_aa64isar1_el1"]), "the time; no pointer authentication (patch 20)"),
    ("test-3dnow", Varies::Lines(&["r7 ="]),          "the stack pointer"),
    ("test-avx",   Varies::Lines(&["r7 =", "r13 ="]), "the stack pointer, and what the C library left in a register"),
    ("test-mmx",   Varies::Lines(&["r7 ="]),          "the stack pointer"),
    ("test-mmap",  Varies::Numbers, "prints where the emulator got memory"),
    ("testthread", Varies::All,     "threads print as they come"),
];

/// One run of a test.
#[derive(Debug)]
pub(crate) struct Test<'a> {
    pair: &'a Pair,
    folder: PathBuf,
    /// The emulator's arguments, the test last.
    arguments: String,
}

impl Varies {
    /// The rest of the text.
    fn without(self, text: &str) -> String {
        let is_number = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit());
        match self {
            Self::All => String::new(),
            Self::Numbers => {
                let words = text.split(|c: char| !c.is_ascii_alphanumeric());
                words.filter(|word| !is_number(word)).collect::<Vec<_>>().join(" ")
            }
            Self::Lines(starts) => {
                let varies = |line: &&str| starts.iter().any(|start| line.starts_with(start));
                text.split('\n').filter(|line| !varies(line)).collect::<Vec<_>>().join("\n")
            }
        }
    }
}

/// All of these emulators' tests. `None`, with the reason on stderr: none are there.
pub(crate) fn tests(pairs: &[Pair]) -> Option<Vec<Test<'_>>> {
    let built = folder("BINFMT_TEST_TCG", "tcg-tests");
    if !built.join(".made").exists() {
        turn::cannot_run(format!("there is no {}; qemu/tcg-tests.sh makes it", built.display()).as_str());
        return None;
    }
    let tests = pairs.iter().flat_map(|pair| {
        let folder = built.join(pair.arch.qemu);
        // a target without a cross compiler has no folder
        let runs = fs::read_to_string(folder.join("runs")).unwrap_or_default();
        let test = |line: &str| Test { pair, folder: folder.clone(), arguments: line.to_owned() };
        runs.lines().map(test).collect::<Vec<_>>()
    });
    Some(tests.collect())
}

impl Test<'_> {
    /// Runs it under both emulators.
    pub(crate) fn compare(&self) -> Result<(), String> {
        let name = self.arguments.rsplit(' ').next().unwrap_or_default();
        let varies = VARYING.iter().find(|(varying, ..)| *varying == name);
        self.pair.compare(&format!("tests/tcg {}", self.arguments), |emulator| {
            let mut outcome = self.run(emulator);
            if let Some((_, varies, _)) = varies {
                for text in [&mut outcome.stdout, &mut outcome.stderr] {
                    *text = varies.without(text);
                }
            }
            outcome
        })
    }

    /// In a PID namespace, so that nothing outlives it; behind a shell, since a signal that is not handled passes the
    /// first process of one by.
    fn run(&self, emulator: &Path) -> Outcome {
        Outcome::of(
            Command::new("timeout")
                .args(["--kill-after=5", LIMIT, "unshare"])
                .args(["--user", "--map-root-user", "--pid", "--ipc", "--fork"])
                .args(["--kill-child", "--mount-proc", "--"])
                .args(["sh", "-c", "\"$@\"; exit $?", "sh"])
                .args(runner(emulator).map(|(_, runner)| runner))
                .arg(emulator)
                .args(self.arguments.split_whitespace())
                .current_dir(&self.folder)
                // which some start again
                .env("QEMU", emulator),
        )
    }
}

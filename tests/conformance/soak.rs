//! Programs that nobody wrote for these tests: compilers, databases, servers, and the test suites that languages have of their
//! own. What `make soak` runs.
//!
//! Each script of `conformance/soak` ends with status 0 if all went well. It runs in the Debian of `build/soak` (`qemu/rootfs.sh
//! --with conformance/soak/packages`), first through Debian's emulator, then through the one under test. On the machine's own
//! architecture it runs without an emulator, once: what fails there is the script's own mistake.
//!
//! `BINFMT_TEST_SOAK` says which: `arm64:` is all in that Debian, `arm64:go,node` are two of them.

use std::env;
use std::path::Path;
use std::time::{Duration, Instant};

use binfmt_magic::arch::Arch;

use crate::sandbox::{Outcome, Sandbox};
use crate::userland::USERLANDS;
use crate::{emulators, folder, names};

/// How long one may take: minutes where a compiler is emulated that needs seconds.
const LIMIT: Duration = Duration::from_secs(40 * 60);

/// What fails under an emulator of ours, and why. All else has to pass.
const FAIL: [(&str, &str, &str); 0] = [];

#[test]
#[ignore = "takes an hour for each architecture: `make soak`"]
fn programs_of_others_pass() {
    let wanted = env::var("BINFMT_TEST_SOAK").unwrap_or_default();
    let (debian, wanted) = wanted.split_once(':').expect("BINFMT_TEST_SOAK=arm64: or arm64:go,node");
    let is_wanted = |name: &str| wanted.is_empty() || wanted.split(',').any(|wanted| wanted == name);
    let scripts: Vec<_> = names("soak", "sh").into_iter().filter(|script| is_wanted(name_of(script))).collect();
    assert!(!scripts.is_empty(), "BINFMT_TEST_SOAK names no script of tests/conformance/soak: {wanted}");
    let sandboxes = sandboxes(debian);
    println!(
        "| {debian} | {} |",
        if sandboxes.len() == 1 { "without an emulator" } else { "Debian's | ours | ratio of the time" }
    );
    let mut defects = Vec::new();
    for script in &scripts {
        let name = name_of(script);
        let ran: Vec<Run> = sandboxes.iter().map(|sandbox| Run::of(sandbox, script)).collect();
        let mut row: Vec<String> = ran.iter().map(Run::told).collect();
        if let [debians, ours] = &ran[..] {
            row.push(format!("{:.2}", ours.took.as_secs_f64() / debians.took.as_secs_f64()));
        }
        println!("| {name} | {} |", row.join(" | "));
        let last = &ran[ran.len() - 1];
        let is_known = FAIL.iter().any(|(of, fails, _)| *of == debian && *fails == name);
        if last.outcome.succeeded() == is_known {
            let what = if is_known { "passes, although it is listed as one that fails" } else { "fails" };
            defects.push(format!("{debian} {name}: {what}: {:#?}", last.outcome));
        }
    }
    assert!(defects.is_empty(), "{}", defects.join("\n"));
}

/// The Debian of `build/soak`, under Debian's emulator and under the one under test; or once, without an emulator.
fn sandboxes(debian: &str) -> Vec<Sandbox> {
    let root = folder("BINFMT_TEST_SOAK_ROOT", "soak").join(debian);
    assert!(root.join(".rootfs").exists(), "there is no {}: run `make soak ARCH={debian}`", root.display());
    let binaries = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (_, qemu) = USERLANDS.iter().find(|(name, _)| *name == debian).expect("an architecture in Debian's words");
    if Arch::of_host().is_some_and(|host| host.qemu == *qemu) {
        return vec![Sandbox::native(&root, binaries)];
    }
    let emulators = emulators().expect("emulators of ours: run `make tuned`");
    let pair = emulators.iter().find(|pair| pair.arch.qemu == *qemu);
    let pair = pair.unwrap_or_else(|| panic!("no emulator of ours for {debian}: run `make tuned TARGETS={qemu}`"));
    [&pair.debians, &pair.tested].map(|emulator| Sandbox::new(pair.arch, &root, binaries, emulator)).into()
}

fn name_of(script: &str) -> &str {
    let name = script.rsplit('/').next().unwrap_or(script);
    name.strip_suffix(".sh").unwrap_or(name)
}

struct Run {
    outcome: Outcome,
    took: Duration,
}

impl Run {
    fn of(sandbox: &Sandbox, script: &str) -> Self {
        let began = Instant::now();
        let outcome = sandbox.run_within(LIMIT, &[&format!("/conformance/{script}")]);
        Self { outcome, took: began.elapsed() }
    }

    fn told(&self) -> String {
        let seconds = self.took.as_secs();
        match self.outcome.status {
            0 => format!("passes, {seconds} s"),
            124 => format!("does not end, {seconds} s"),
            status => format!("fails ({status}), {seconds} s"),
        }
    }
}

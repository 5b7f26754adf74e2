//! Emulators of a build of our own behave exactly as those of Debian's package.
//!
//! Under test are the emulators in `build/tuned`, or in the folder that `BINFMT_TEST_TUNED` names. They may be for another
//! machine, and then run under the emulator of it in `build/tuned`, as all programs of such a machine do.
//! `BINFMT_TEST_CONFORMANCE` (`arm,s390x`) narrows them. Each is held against its namesake in `build/emulators`: same exit
//! status, same stdout, same stderr, byte for byte, or it is a defect. The programs print nothing that differs between
//! two runs.
//!
//! - every emulator runs the probe of its row;
//! - where `build/rootfs` has a Debian of the architecture (`qemu/rootfs.sh`), the kernel starts that Debian's programs
//!   through it: those of `conformance/programs`, and those of `conformance/c`. The latter are compiled by that Debian's
//!   compiler under Debian's emulator, once for both; what compilers do under the one under test is `make.sh`'s;
//! - so it does those of `conformance/ours`, for what Debian's emulator does otherwise: there we say what is right;
//! - where `build/tcg-tests` has them (`qemu/tcg-tests.sh`), it runs QEMU's own tests of user emulation;
//! - under Linux 7.3's flag T, in a virtual machine, they do the same as without that flag.
//!
//! Expected is what Debian's emulator does, which has to end as it should, so that nothing passes by failing alike.
//!
//! With `BINFMT_TEST_TWICE=1`, a shell starts each program a second time, and that is looked at: then the blocks that
//! processes share are there already. `make checked` does so with emulators that compare each block that they find with what
//! they would have translated.
//!
//! The programs of `conformance/kernel` are held against the kernel itself: each says what Linux does, and ends with
//! status 0 if it was so. They run on this machine without an emulator, where that must hold, and under the one under
//! test. Debian's fails most of them (`docs/emulators.md`); with `BINFMT_TEST_DEBIANS=1` this tells where.
//!
//! Programs of others, such as compilers and databases, have to pass (`soak.rs`).
//!
//! Some programs run once more without any handler, started as BuildKit starts them (`buildkit.rs`).

mod buildkit;
#[path = "../harness/mod.rs"]
mod harness;
mod hostile;
mod ours;
mod sandbox;
mod soak;
mod tcg;
mod transparent;
mod userland;

use std::ffi::OsStr;
use std::fs;
use std::num::NonZero;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::probe;

use sandbox::Outcome;
use userland::in_userlands;

#[test]
fn probes_end_alike() {
    let Some(emulators) = emulators() else { return };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance-probes");
    fs::create_dir_all(&folder).expect("a folder for the probes");
    for pair in &emulators {
        let file = folder.join(pair.arch.qemu);
        fs::write(&file, probe::elf(pair.arch)).expect("a probe's file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("an executable probe");
    }
    let defects = each(&emulators, |pair| {
        for argv0 in [b"Q".as_slice(), b"/probe", b"\x01", b"\xf0\xff"] {
            pair.compare("probe", |emulator| {
                Outcome::of(
                    Command::new("timeout")
                        .arg("20")
                        .args(sandbox::runner(emulator).map(|(_, runner)| runner))
                        .arg(emulator)
                        .arg("-0")
                        .arg(OsStr::from_bytes(argv0))
                        .arg(folder.join(pair.arch.qemu)),
                )
            })?;
        }
        Ok(())
    });
    none(&defects);
}

#[test]
fn programs_in_c_do_the_same() {
    let sources = names("c", "c");
    in_userlands(&sources, |userland, program| {
        let binary = userland.compile(program)?;
        userland.compare(program, &[&binary])
    });
}

#[test]
fn programs_find_what_the_kernel_does() {
    let sources = names("kernel", "c");
    in_userlands(&sources, |userland, program| {
        let binary = userland.compile(program)?;
        if std::env::var_os("BINFMT_TEST_DEBIANS").is_some() {
            let debians = told(program, &userland.debians.run_in_own_root(&[&binary]));
            let debians = debians.err().unwrap_or_else(|| "as the kernel".into());
            eprintln!("Debian's, {} {program}: {debians}", userland.debian);
        }
        told(program, &userland.tested.run_in_own_root(&[&binary]))
            .map_err(|defect| format!("{} {defect}", userland.debian))
    });
}

/// What the programs say of the kernel is so.
#[test]
fn the_kernel_does_it() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance-natively");
    fs::create_dir_all(&folder).expect("a folder for binaries");
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    none(&each(&names("kernel", "c"), |program| {
        let (source, binary) = (sources.join(format!("{program}.c")), folder.join(program.replace('/', "-")));
        let compiled = Outcome::of(Command::new("cc").args(["-O2", "-w", "-pthread", "-o"]).args([&binary, &source]));
        if !compiled.succeeded() {
            return Err(format!("{program}: does not compile: {compiled:#?}"));
        }
        let namespaces = ["--user", "--map-root-user", "--mount", "--uts", "--pid", "--fork"];
        told(
            program,
            &Outcome::of(
                Command::new("unshare").args(namespaces).args(["--kill-child", "--mount-proc", "--"]).arg(&binary),
            ),
        )
    }));
}

/// Debian's have a second one for QEMU itself.
#[test]
fn a_guest_of_one_thread_is_a_process_of_one() {
    in_userlands(&["sh".to_owned()], |userland, shell| {
        let count = "set -- /proc/$$/task/*; echo $#";
        let counted = userland.tested.run(&[shell, "-c", count]);
        match counted.stdout.as_str() {
            "1\n" => Ok(()),
            _ => Err(format!("{}: {counted:#?}", userland.debian)),
        }
    });
}

#[test]
fn programs_of_debian_do_the_same() {
    let run =
        |userland: &userland::Userland, program: &str| userland.compare(program, &[&format!("/conformance/{program}")]);
    in_userlands(&debians_programs(), run);
}

#[test]
fn qemus_own_tests_do_the_same() {
    let Some(emulators) = emulators() else { return };
    let Some(tests) = tcg::tests(&emulators) else { return };
    none(&each(&tests, tcg::Test::compare));
}

/// A suite that finds nothing proves something only if it would.
#[test]
fn what_differs_is_told() {
    let outcome = |status, stdout: &str, stderr: &str| Outcome { status, stdout: stdout.into(), stderr: stderr.into() };
    let one = outcome(0, "a\nb\n", "");
    assert_eq!(one.difference(&one), None);
    for (other, told) in [
        (outcome(1, "a\nb\n", ""), "status"),
        (outcome(0, "a\nc\n", ""), "stdout, line 2"),
        (outcome(0, "a\nb\n\n", ""), "stdout, line 4"),
        (outcome(0, "a\nb", ""), "stdout, line 3"),
        (outcome(0, "a\nb\n", "x"), "stderr, line 1"),
    ] {
        let difference = one.difference(&other).expect("a difference");
        assert!(difference.contains(told), "{told}: {difference}");
    }
}

/// Whether a program found everything as it should be; what it did not find so.
fn told(program: &str, outcome: &Outcome) -> Result<(), String> {
    if outcome.succeeded() {
        return Ok(());
    }
    let broken: Vec<_> = outcome.stdout.lines().filter(|line| !line.ends_with(": yes")).collect();
    let Outcome { status, stderr, .. } = outcome;
    Err(format!("{program}: status {status}, {stderr:?}\n  {}", broken.join("\n  ")))
}

/// An emulator under test, and Debian's.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) arch: &'static Arch,
    debians: PathBuf,
    tested: PathBuf,
}

impl Pair {
    /// Does the same with both, at once.
    pub(crate) fn compare(&self, what: &str, run: impl Fn(&Path) -> Outcome + Sync) -> Result<(), String> {
        let (expected, found) = both(|| run(&self.debians), || run(&self.tested));
        match expected.difference(&found) {
            None => Ok(()),
            Some(difference) => Err(format!("{} {what}: {difference}", self.arch.qemu)),
        }
    }
}

/// The emulators under test. `None`, with the reason on stderr: there are none.
fn emulators() -> Option<Vec<Pair>> {
    let tested = folder("BINFMT_TEST_TUNED", "tuned");
    let debians = folder("BINFMT_TEST_EMULATORS", "emulators");
    if !tested.is_dir() {
        harness::turn::cannot_run(format!("there is no {}", tested.display()).as_str());
        return None;
    }
    let wanted = std::env::var("BINFMT_TEST_CONFORMANCE").unwrap_or_default();
    let wanted: Vec<_> = wanted.split(',').filter(|name| !name.is_empty()).collect();
    for name in &wanted {
        assert!(
            tested.join(format!("qemu-{name}")).exists(),
            "BINFMT_TEST_CONFORMANCE names {name}, and {} has none",
            tested.display()
        );
    }
    let rows = ARCHES.iter().filter(|arch| arch.interpreter == arch.qemu);
    let pairs: Vec<_> = rows
        .filter(|arch| wanted.is_empty() || wanted.contains(&arch.qemu))
        .map(|arch| (arch, arch.interpreter_name("")))
        .filter(|(_, name)| tested.join(name).exists())
        .map(|(arch, name)| Pair { arch, debians: debians.join(&name), tested: tested.join(&name) })
        .collect();
    assert!(!pairs.is_empty(), "{} has no emulator", tested.display());
    for pair in &pairs {
        assert!(pair.debians.exists(), "no {}: run `make emulators`", pair.debians.display());
    }
    Some(pairs)
}

/// Where something that is built lies: absolute, since the kernel is to open it from elsewhere.
pub(crate) fn folder(variable: &str, name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let built = || root.join("build").join(name);
    std::env::var_os(variable).map_or_else(built, |named| root.join(named))
}

/// The files of a folder of this one that have this extension, as `c/threads`, sorted; scripts keep their extension.
fn names(folder: &str, extension: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(folder);
    let files = fs::read_dir(path).expect("a folder of the tests");
    let files = files.map(|file| PathBuf::from(file.expect("a file").file_name()));
    let mut names: Vec<_> = files
        .filter(|file| file.extension() == Some(OsStr::new(extension)))
        .map(|file| if extension == "c" { file.with_extension("") } else { file })
        .map(|file| format!("{folder}/{}", file.display()))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no programs in {folder}");
    names
}

/// Those that are run by a Debian's own programs.
fn debians_programs() -> Vec<String> {
    let programs = ["sh", "pl", "py"].iter().flat_map(|extension| names("programs", extension));
    // it is part of another one
    programs.filter(|name| name != "programs/serve.pl").collect()
}

/// Two things at once: on a machine with two processors they take the time of one.
fn both<T: Send>(one: impl FnOnce() -> T + Send, other: impl FnOnce() -> T) -> (T, T) {
    thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        (one.join().expect("a run that does not panic"), other)
    })
}

/// Does all jobs, as many at once as there are processors, and gathers what failed.
fn each<T: Sync>(jobs: &[T], job: impl Fn(&T) -> Result<(), String> + Sync) -> Vec<String> {
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let queue = Mutex::new(jobs.iter());
    let defects = Mutex::new(Vec::new());
    let take = || queue.lock().expect("no panic while locked").next();
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(next) = take() {
                    if let Err(defect) = job(next) {
                        defects.lock().expect("no panic while locked").push(defect);
                    }
                }
            });
        }
    });
    defects.into_inner().expect("no panic while locked")
}

#[track_caller]
fn none(defects: &[String]) {
    assert!(defects.is_empty(), "{} defects:\n{}", defects.len(), defects.join("\n"));
}

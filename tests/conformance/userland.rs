//! A Debian of `build/rootfs`, in which programs are compiled and run under both emulators.

use std::fs;
use std::path::{Path, PathBuf};

use super::sandbox::Sandbox;
use super::{Pair, both, each, emulators, folder, harness, none};

/// The Debians that there are, by the names of the folders in `build/rootfs`, and whose emulator runs them.
pub(super) const USERLANDS: [(&str, &str); 9] = [
    ("amd64", "x86_64"),
    ("arm64", "aarch64"),
    ("armel", "arm"),
    ("armhf", "arm"),
    ("i386", "i386"),
    ("mips64el", "mips64el"),
    ("ppc64el", "ppc64le"),
    ("riscv64", "riscv64"),
    ("s390x", "s390x"),
];

/// The programs that do not end with status 0, and why.
pub(super) const ENDINGS: [(&str, i32); 2] = [
    ("c/death", 139), // by SIGSEGV, last of all
    ("c/self", 1),    // its argc
];

/// A Debian, under both emulators.
#[derive(Debug)]
pub(super) struct Userland {
    pub(super) debian: &'static str,
    /// What the binaries that are kept were compiled by: another Debian compiles them again.
    made: String,
    pub(super) root: PathBuf,
    pub(super) binaries: PathBuf,
    pub(super) pair: Pair,
    pub(super) debians: Sandbox,
    pub(super) tested: Sandbox,
}

impl Userland {
    /// That of `build/rootfs`. `None`, with the reason on stderr: there is none, or none can be used.
    pub(super) fn of(debian: &'static str, pair: &Pair) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            harness::turn::cannot_run("it needs root, for a userland's other users");
            return None;
        }
        let root = folder("BINFMT_TEST_ROOTFS", "rootfs").join(debian);
        if !root.join(".rootfs").exists() {
            let root = root.display();
            harness::turn::cannot_run(format!("there is no {root}; qemu/rootfs.sh {debian} {root} makes it").as_str());
            return None;
        }
        Some(Self::new(debian, &root, pair))
    }

    fn new(debian: &'static str, root: &Path, pair: &Pair) -> Self {
        let binaries = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance-binaries").join(debian);
        fs::create_dir_all(&binaries).expect("a folder for binaries");
        let sandbox = |emulator| Sandbox::new(pair.arch, root, &binaries, emulator);
        Self {
            debian,
            made: fs::read_to_string(root.join(".rootfs")).expect("what the userland is made of"),
            root: root.to_owned(),
            debians: sandbox(&pair.debians),
            tested: sandbox(&pair.tested),
            binaries,
            pair: pair.clone(),
        }
    }

    /// Compiles a program, such as `c/threads`, unless that has been done with the same compiler and sources. Returns its
    /// path in the userland.
    pub(super) fn compile(&self, program: &str) -> Result<String, String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
        let read = |file: &str| fs::read_to_string(folder.join(file)).expect("a source");
        let made = ["compile.sh", "c/check.h", "kernel/must.h", &format!("{program}.c")].map(read);
        let made = self.made.clone() + &made.concat();
        let name = program.rsplit('/').next().unwrap_or(program);
        let compiled = format!("/binaries/{name}");
        let (binary, record) = (self.binaries.join(name), self.binaries.join(format!("{name}.made")));
        if binary.exists() && fs::read_to_string(&record).is_ok_and(|text| text == made) {
            return Ok(compiled);
        }
        let _ = fs::remove_file(&record);
        let outcome = self.debians.run(&["/conformance/compile.sh", program, &compiled]);
        if !outcome.succeeded() {
            return Err(format!("{} {program}: does not compile: {outcome:#?}", self.debian));
        }
        fs::write(record, made).expect("a record of what was compiled");
        Ok(compiled)
    }

    /// Runs a command in both, and looks at what `program`'s end should be.
    pub(super) fn compare(&self, program: &str, command: &[&str]) -> Result<(), String> {
        let twice = ["sh", "-c", "\"$@\" >/dev/null 2>&1; exec \"$@\"", "sh"];
        let command =
            if std::env::var_os("BINFMT_TEST_TWICE").is_some() { &[&twice, command].concat() } else { command };
        let (expected, found) = both(|| self.debians.run(command), || self.tested.run(command));
        let ending = ENDINGS.iter().find(|(name, _)| *name == program);
        if expected.status != ending.map_or(0, |(_, status)| *status) {
            return Err(format!("{} {program}: not even with Debian's emulator: {expected:#?}", self.debian));
        }
        match expected.difference(&found) {
            None => Ok(()),
            Some(difference) => Err(format!("{} {program}: {difference}", self.debian)),
        }
    }
}

/// Does this with each program in every userland there is of the emulators under test.
pub(super) fn in_userlands(programs: &[String], run: impl Fn(&Userland, &str) -> Result<(), String> + Sync) {
    let Some(emulators) = emulators() else { return };
    let pair = |name| emulators.iter().find(|pair| pair.arch.qemu == name);
    let userlands = USERLANDS.iter().filter_map(|(debian, qemu)| Userland::of(debian, pair(*qemu)?));
    let userlands: Vec<_> = userlands.collect();
    let jobs: Vec<_> =
        programs.iter().flat_map(|program| userlands.iter().map(move |userland| (program, userland))).collect();
    none(&each(&jobs, |(program, userland)| run(userland, program)));
}

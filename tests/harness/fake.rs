//! Fake emulators (`fake.c`) and programs for them, by which most tests of the kernel tier run on a fresh clone: nothing is fetched.
//!
//! They are made once for a checkout, in Cargo's folder for the tests' files: two versions of each architecture's emulator, 60 MB.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use binfmt_magic::arch::ARCHES;
use binfmt_magic::probe;
use nix::fcntl::{Flock, FlockArg};

use super::arch;
use super::turn::{cannot_run, say_once};

const SOURCE: &str = include_str!("fake.c");
/// What the source has in place of an identity.
const PLACEHOLDER: &[u8] = b"qemu-IDENTITY";
/// Folders, and the versions of what is in them: as `make emulators test-material` brings them.
const VERSIONS: [(&str, &str); 2] = [
    ("emulators", "10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)"),
    ("emulators-7.2", "7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)"),
];
/// Debian's names of the programs, and what runs them. Besides, there is amd64's, as on the machine.
const PROGRAMS: [(&str, &str); 7] = [
    ("arm64", "aarch64"),
    ("armel", "arm"),
    ("armhf", "arm"),
    ("mips64el", "mips64el"),
    ("ppc64el", "ppc64le"),
    ("riscv64", "riscv64"),
    ("s390x", "s390x"),
];

/// Whether the tests have fake emulators: with `BINFMT_TEST_EMULATORS=fake`, and where no others have been fetched. Where `CI`
/// is set, others must be there.
pub(crate) fn is_used() -> bool {
    match std::env::var_os("BINFMT_TEST_EMULATORS") {
        Some(named) => named == "fake",
        None => std::env::var_os("CI").is_none() && !built("emulators").is_dir(),
    }
}

/// Ends a test that is about what QEMU does, or about programs that only QEMU runs, where the emulators are fake.
macro_rules! needs_emulators {
    () => {
        if !$crate::harness::fake::has_real_emulators() {
            return;
        }
    };
}
pub(crate) use needs_emulators;

/// Whether the emulators are QEMU's. Where they are not, says that the tests that need them do not run.
pub(crate) fn has_real_emulators() -> bool {
    if is_used() {
        if std::env::var_os("BINFMT_TEST_EMULATORS").is_some() {
            say_once("the tests that need QEMU's emulators are left to make test-kernel");
        } else {
            cannot_run("they need QEMU's emulators: make emulators test-material test-rootfs");
        }
    }
    !is_used()
}

/// A folder of `build/`.
pub(crate) fn built(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("build").join(name)
}

/// The folder that has `emulators`, `emulators-7.2` and `programs`.
pub(crate) fn folder() -> &'static Path {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fake");
        make(&folder);
        folder
    });
    &FOLDER
}

fn make(folder: &Path) {
    fs::create_dir_all(folder).expect("a folder");
    // several test programs may come here at once
    let lock = File::open(folder).expect("a folder");
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).expect("a lock");
    let stamp = folder.join("source");
    let inputs = format!("{SOURCE}{VERSIONS:?}{PROGRAMS:?}");
    if fs::read_to_string(&stamp).is_ok_and(|made| made == inputs) {
        return;
    }
    let template = folder.join("template");
    let template = compiled(&template, "");
    executable(&folder.join("programs/amd64/busybox"), &template);
    for (name, version) in VERSIONS {
        for arch in &ARCHES {
            let emulator = identified(&template, arch.qemu, version);
            executable(&folder.join(name).join(format!("qemu-{}", arch.qemu)), &emulator);
        }
    }
    for (debian, qemu) in PROGRAMS {
        executable(&folder.join("programs").join(debian).join("busybox"), &probe::elf(arch(qemu)));
    }
    fs::write(stamp, inputs).expect("a file");
}

/// The first emulator of our own that `make tuned` has built, or that is in the folder that `BINFMT_TEST_TUNED` names, of some
/// that this machine is no host of: by QEMU's and Debian's names of its architecture. `None`, with the reason: there is none.
pub(crate) fn ours() -> Option<(&'static str, &'static str, PathBuf)> {
    let named = std::env::var_os("BINFMT_TEST_TUNED");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(named.unwrap_or_else(|| "build/tuned".into()));
    let targets = [("s390x", "s390x"), ("arm", "armhf"), ("aarch64", "arm64")];
    let found = targets.map(|(qemu, debian)| (qemu, debian, folder.join(format!("qemu-{qemu}"))));
    let found = found.into_iter().find(|(.., file)| file.is_file());
    if found.is_none() {
        cannot_run("it needs an emulator of our own: make tuned TARGETS=s390x");
    }
    found
}

/// A fake emulator that honours flag T, of this version, at `path`.
pub(crate) fn transparent(path: &Path, qemu: &str, version: &str) {
    let template = compiled(&path.with_extension("template"), "-DTRANSPARENT");
    executable(path, &identified(&template, qemu, version));
}

/// The program without an identity. `path`: where it may be.
fn compiled(path: &Path, options: &str) -> Vec<u8> {
    compile(path, options, SOURCE);
    fs::read(path).expect("a program")
}

/// Makes a static program of this machine's from a C source.
pub(crate) fn compile(path: &Path, options: &str, source: &str) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    let compile = format!("cc -static -O1 -Wall -Wextra -Werror {options} -x c -o '{}' -", path.display());
    shell(&compile, source.as_bytes());
}

fn identified(template: &[u8], qemu: &str, version: &str) -> Vec<u8> {
    let place = template.windows(PLACEHOLDER.len()).position(|at| at == PLACEHOLDER).expect("the identity");
    let identity = format!(
        "qemu-{qemu} version {version}\nCopyright (c) 2003-2025 Fabrice Bellard and the QEMU Project developers"
    );
    let mut emulator = template.to_vec();
    emulator[place..][..identity.len()].copy_from_slice(identity.as_bytes());
    emulator
}

/// Not written by this process, as said in the harness: files that are executed. One of a run before may be in use.
fn executable(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    shell(&format!("cat >'{0}.new' && chmod 755 '{0}.new' && mv '{0}.new' '{0}'", path.display()), bytes);
}

fn shell(script: &str, input: &[u8]) {
    let mut shell = Command::new("sh");
    let mut shell = shell.args(["-c", script]).stdin(Stdio::piped()).spawn().expect("a shell");
    let mut stdin = shell.stdin.take().expect("a pipe");
    stdin.write_all(input).expect("a shell that reads");
    drop(stdin);
    assert!(shell.wait().expect("a shell").success(), "{script}");
}

//! A virtual machine that boots a Debian kernel with nothing but busybox, the tool, and emulators.
//!
//! It owns what such a machine is made of, and how a test runs commands in it: `init.sh` reads them from one serial line,
//! the kernel's log goes to the other. There is no disk and no network; the root directory is the initramfs. QEMU
//! interprets the processor (`-accel tcg`), so no machine is too small or too virtual itself.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::turn::cannot_run;
use crate::harness::{BINFMT, Output, emulators, fake, material, old_emulators, program, tally};

/// Seconds that a machine has, from boot to end.
const LIMIT: &str = "900";
/// After it, a request is sent once more: it, or its answer, may have been lost.
const PATIENCE: Duration = Duration::from_secs(20);

/// A kernel that `fetch.sh` has brought.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    /// The Debian release that it is of.
    pub(crate) debian: String,
    /// What `uname -r` says there.
    pub(crate) release: String,
    /// Its version's first two numbers.
    pub(crate) version: (u32, u32),
    folder: PathBuf,
}

impl Kernel {
    /// Those that are there, the oldest first, or of them the oldest and the newest. None, with the reason: the tier cannot run.
    pub(crate) fn chosen() -> Vec<Self> {
        if fake::is_used() || !fake::built("kernels").is_dir() {
            cannot_run("they need Linux kernels, and QEMU's emulators: make emulators test-material test-kernels");
            return Vec::new();
        }
        let folder = material("BINFMT_TEST_KERNELS", "kernels", "make test-kernels");
        let found = fs::read_dir(&folder).expect("a folder").flatten();
        let mut kernels: Vec<_> = found.filter_map(|entry| Self::at(entry.path())).collect();
        kernels.sort_by_key(|kernel| kernel.version);
        assert!(!kernels.is_empty(), "no kernel: run `make test-kernels`");
        let all = std::env::var_os("BINFMT_TEST_MACHINES").is_some_and(|which| which == "all");
        if !all && kernels.len() > 2 {
            kernels.drain(1..kernels.len() - 1);
        }
        kernels
    }

    fn at(folder: PathBuf) -> Option<Self> {
        let release = fs::read_to_string(folder.join("release")).ok()?.trim_end().to_owned();
        let mut numbers = release.split('.').map(str::parse);
        let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
            panic!("{}: {release:?} is no version", folder.display());
        };
        Some(Self { debian: folder.file_name()?.to_str()?.to_owned(), version: (major, minor), release, folder })
    }
}

/// A running machine. It ends with this value.
#[derive(Debug)]
pub(crate) struct Vm {
    qemu: Child,
    commands: ChildStdin,
    /// Lines of the machine, until its end.
    answers: Receiver<String>,
    /// How many requests there have been.
    requests: u32,
    folder: PathBuf,
}

impl Vm {
    /// Boots a kernel whose module for `binfmt_misc` can be loaded.
    pub(crate) fn boot(kernel: &Kernel, parameters: &str) -> Self {
        Self::with(&[&COMMON, &Self::module(kernel)], kernel, parameters)
    }

    /// Boots a kernel that has no `binfmt_misc`.
    pub(crate) fn without_module(kernel: &Kernel) -> Self {
        Self::with(&[&COMMON], kernel, "")
    }

    fn with(archives: &[&[u8]], kernel: &Kernel, parameters: &str) -> Self {
        let folder = scratch("vm");
        let initramfs = folder.join("initramfs");
        fs::write(&initramfs, archives.concat()).expect("an initramfs");
        let mut qemu = Command::new("timeout")
            .args([LIMIT, "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max"])
            .args(["-m", "768", "-display", "none", "-nodefaults", "-no-reboot"])
            .arg("-kernel")
            .arg(kernel.folder.join("vmlinuz"))
            .arg("-initrd")
            .arg(&initramfs)
            .arg("-append")
            .arg(format!("console=ttyS0 quiet panic=-1 {parameters}"))
            .arg("-serial")
            .arg(format!("file:{}", folder.join("log").display()))
            .args(["-serial", "stdio"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // says at its end by what signal
            .stderr(Stdio::null())
            .spawn()
            .expect("timeout");
        let lines = BufReader::new(qemu.stdout.take().expect("a pipe")).lines();
        let (answer, answers) = channel();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| answer.send(line)));
        let vm = Self { commands: qemu.stdin.take().expect("a pipe"), answers, requests: 0, qemu, folder };
        let first = vm.answers.recv();
        let first = first.unwrap_or_else(|_| vm.has_ended("booting"));
        assert_eq!(first, "ready");
        tally("virtual machines booted", 1);
        vm
    }

    fn module(kernel: &Kernel) -> Vec<u8> {
        let root = scratch("module");
        let modules = root.join("lib/modules").join(&kernel.release);
        fs::create_dir_all(&modules).expect("a folder");
        let file = kernel.folder.join("binfmt_misc.ko");
        fs::copy(file, modules.join("binfmt_misc.ko")).expect("a module");
        // as depmod(8) writes them
        fs::write(modules.join("modules.dep"), "binfmt_misc.ko:\n").expect("a file");
        fs::write(modules.join("modules.alias"), "alias fs-binfmt_misc binfmt_misc\n").expect("a file");
        let archive = archive(&root);
        fs::remove_dir_all(&root).expect("a folder");
        archive
    }

    /// Runs shell commands as root; they fail as soon as one fails.
    pub(crate) fn sh(&mut self, script: &str) -> Output {
        let mut digits = String::with_capacity(script.len() * 2);
        for byte in script.bytes() {
            let _ = write!(digits, "{byte:02x}");
        }
        self.requests += 1;
        let number = self.requests.to_string();
        // the second line break is for the first, should that be what is lost
        let line = format!("{number} {} {digits} {number}\n\n", digits.len());
        let answer = loop {
            self.commands.write_all(line.as_bytes()).expect("a machine that listens");
            if let Some(answer) = self.answer(&number, script) {
                break answer;
            }
        };
        let mut fields = answer.split(' ');
        let status = fields.next().and_then(|status| status.parse().ok());
        let mut text = || {
            let digits = fields.next().unwrap_or_default().as_bytes();
            let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
            let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
            let bytes = bytes.unwrap_or_else(|| panic!("{answer:?} to {script}"));
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let (stdout, stderr) = (text(), text());
        let status = status.unwrap_or_else(|| panic!("{answer:?} to {script}"));
        Output::new(script, status, stdout, stderr)
    }

    /// Runs the tool.
    pub(crate) fn binfmt(&mut self, options: &str) -> Output {
        self.sh(&format!("binfmt {options}"))
    }

    /// What follows the number in the answer to that request; `None` if it is to be sent again.
    fn answer(&self, number: &str, to: &str) -> Option<String> {
        loop {
            match self.answers.recv_timeout(PATIENCE) {
                Ok(line) if line.trim_end() == "again" => return None,
                Ok(line) => {
                    let answer = line.trim_end().strip_prefix(number);
                    let answer = answer.and_then(|rest| rest.strip_prefix(' '));
                    // another's: one that was sent again has been answered twice
                    let Some(answer) = answer else { continue };
                    // without its end, something is missing
                    let whole = answer.strip_suffix(number);
                    return whole.map(|answer| answer.trim_end().to_owned());
                }
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => self.has_ended(to),
            }
        }
    }

    fn has_ended(&self, on: &str) -> ! {
        let log = fs::read(self.folder.join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        panic!("the machine ended on: {on}\n{log}");
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // timeout(1) passes this on; it could not pass on a SIGKILL
        let timeout = Pid::from_raw(self.qemu.id().try_into().expect("a process id"));
        let _ = kill(timeout, Signal::SIGTERM);
        let _ = self.qemu.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// What every machine has: `/bin/busybox` and its names, `/bin/binfmt`, two QEMUs, and a program of arm64.
static COMMON: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let root = scratch("initramfs");
    let mut script = String::new();
    let mut put = |from: &Path, to: &str| {
        let _ = writeln!(script, "install -D '{}' '{to}'", from.display());
    };
    let init = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machines/init.sh");
    put(&init, "init");
    put(&program("amd64"), "bin/busybox");
    put(Path::new(BINFMT), "bin/binfmt");
    // with an emulator inside: Cargo's, for that of the image does not look for one
    let carrying = env!("CARGO_BIN_EXE_binfmt");
    let single = root.join("single");
    run("cp", &[carrying, "single"], &root);
    let carry = Path::new(env!("CARGO_MANIFEST_DIR")).join("qemu/carry.sh");
    let emulator = emulators().join("qemu-aarch64");
    run("sh", &["-euc", &format!("LEVEL=1 '{}' single '{}'", carry.display(), emulator.display())], &root);
    put(&single, "single-file/binfmt");
    put(&program("arm64"), "arm64/busybox");
    put(&emulators().join("qemu-aarch64"), "usr/bin/qemu-aarch64");
    put(&emulators().join("qemu-riscv64"), "usr/bin/qemu-riscv64");
    put(&old_emulators().join("qemu-aarch64"), "old/qemu-aarch64");
    let libraries: BTreeSet<PathBuf> = [BINFMT, carrying].into_iter().flat_map(libraries).collect();
    for library in libraries {
        put(&library, library.to_str().expect("a path that is text").trim_start_matches('/'));
    }
    run("sh", &["-euc", &script], &root);
    fs::remove_file(single).expect("a file");
    let archive = archive(&root);
    fs::remove_dir_all(&root).expect("a folder");
    archive
});

/// The libraries of a program and its loader; none where it is static.
fn libraries(program: &str) -> Vec<PathBuf> {
    let listed = Command::new("ldd").arg(program).output().expect("ldd");
    let listed = String::from_utf8(listed.stdout).expect("a list of files");
    listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

fn archive(root: &Path) -> Vec<u8> {
    let busybox = program("amd64");
    let script = format!("find . | '{}' cpio -o -H newc 2>/dev/null", busybox.display());
    run("sh", &["-euc", &script], root)
}

fn run(program: &str, args: &[&str], folder: &Path) -> Vec<u8> {
    let output = Command::new(program).args(args).current_dir(folder).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {said}");
    output.stdout
}

fn scratch(name: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}-{count}", std::process::id()));
    fs::create_dir_all(&path).expect("a scratch folder");
    path
}

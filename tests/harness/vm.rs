//! A virtual machine that boots a Debian kernel with nothing but busybox, the tool, and emulators.
//!
//! It owns what such a machine is made of, and how a test runs commands in it: `init.sh` reads them from one serial line,
//! the kernel's log goes to the other. There is no disk and no network; the root directory is the initramfs. QEMU
//! interprets the processor (`-accel tcg`), so no machine is too small or too virtual itself.

use std::collections::BTreeSet;
use std::ffi::OsStr;
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

use super::turn::cannot_run;
use super::{BINFMT, Output, emulators, fake, material, old_emulators, program, tally};

/// What a machine has, unless a test asks for more.
pub(crate) const USUAL: Size = Size { megabytes: 768, minutes: 30, minutes_of_script: 4 };
/// After it, a request is sent once more: it, or its answer, may have been lost. Then after twice that time, and so on.
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

    /// Those of [`Kernel::chosen`] that are of this version or later, of which there must be one.
    pub(crate) fn since(version: (u32, u32)) -> Vec<Self> {
        let chosen = Self::chosen();
        let (new, old): (Vec<Self>, Vec<Self>) = chosen.into_iter().partition(|kernel| kernel.version >= version);
        assert!(!new.is_empty() || old.is_empty(), "no kernel is new enough: run `make test-kernels`");
        new
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

/// How large a machine is, and how long things may take there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Its memory, in MiB. It holds the root directory too.
    pub(crate) megabytes: u32,
    /// From boot to end.
    pub(crate) minutes: u32,
    /// Of each script ([`Vm::sh`]).
    pub(crate) minutes_of_script: u32,
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
        Self::with(&[&COMMON, &Self::module(kernel)], kernel, parameters, USUAL)
    }

    /// The same, with more files and folders: where they are here, and there.
    pub(crate) fn boot_with(kernel: &Kernel, files: &[(PathBuf, String)], size: Size) -> Self {
        Self::with(&[&COMMON, &Self::module(kernel), &copies(files)], kernel, "", size)
    }

    /// The same with a folder besides, as it is, with its links and owners, and of its name; in a machine of this size.
    pub(crate) fn boot_with_tree(kernel: &Kernel, files: &[(PathBuf, String)], tree: &Path, size: Size) -> Self {
        let [parent, name] = [tree.parent().map(Path::as_os_str), tree.file_name()];
        let name = name.and_then(OsStr::to_str).expect("a folder whose name is text");
        let tree = archive(Path::new(parent.expect("a folder that is not the root")), name);
        Self::with(&[&COMMON, &Self::module(kernel), &copies(files), &tree], kernel, "", size)
    }

    /// Boots a kernel that has no `binfmt_misc`.
    pub(crate) fn without_module(kernel: &Kernel) -> Self {
        Self::with(&[&COMMON], kernel, "", USUAL)
    }

    fn with(archives: &[&[u8]], kernel: &Kernel, parameters: &str, size: Size) -> Self {
        let folder = scratch("vm");
        let initramfs = folder.join("initramfs");
        fs::write(&initramfs, archives.concat()).expect("an initramfs");
        let mut qemu = Command::new("timeout")
            .arg(format!("{}m", size.minutes))
            .args(["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max"])
            .args(["-display", "none", "-nodefaults", "-no-reboot", "-m", &size.megabytes.to_string()])
            .arg("-kernel")
            .arg(kernel.folder.join("vmlinuz"))
            .arg("-initrd")
            .arg(&initramfs)
            .arg("-append")
            // what the kernel does not know, the first process finds in its environment
            .arg(format!("console=ttyS0 quiet panic=-1 {parameters} minutes_of_script={}", size.minutes_of_script))
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
        let archive = archive(&root, ".");
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
        let mut patience = PATIENCE;
        let answer = loop {
            self.commands.write_all(line.as_bytes()).expect("a machine that listens");
            if let Some(answer) = self.answer(&number, script, patience) {
                break answer;
            }
            patience *= 2;
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
    fn answer(&self, number: &str, to: &str, patience: Duration) -> Option<String> {
        loop {
            match self.answers.recv_timeout(patience) {
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
    let init = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/harness/init.sh");
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
    // stand-ins that honour flag T, two versions of the same
    let made = scratch("stand-ins");
    for (folder, version) in [("transparent", "11.9.0"), ("later", "11.9.1")] {
        let stand_in = made.join(folder);
        fake::transparent(&stand_in, "aarch64", version);
        put(&stand_in, &format!("{folder}/qemu-aarch64"));
    }
    let libraries: BTreeSet<PathBuf> = [BINFMT, carrying].into_iter().flat_map(libraries).collect();
    for library in libraries {
        put(&library, library.to_str().expect("a path that is text").trim_start_matches('/'));
    }
    run("sh", &["-euc", &script], &root);
    fs::remove_file(single).expect("a file");
    fs::remove_dir_all(made).expect("a folder");
    let archive = archive(&root, ".");
    fs::remove_dir_all(&root).expect("a folder");
    archive
});

/// The libraries of a program and its loader; none where it is static.
fn libraries(program: &str) -> Vec<PathBuf> {
    let listed = Command::new("ldd").arg(program).output().expect("ldd");
    let listed = String::from_utf8(listed.stdout).expect("a list of files");
    listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

/// Copies of files and folders, links followed: where they are here, and there.
fn copies(files: &[(PathBuf, String)]) -> Vec<u8> {
    let root = scratch("files");
    for (from, to) in files {
        let from = from.to_str().expect("a path that is text");
        run("sh", &["-ec", "mkdir -p \"$(dirname \"$2\")\"; cp -rL \"$1\" \"$2\"", "sh", from, to], &root);
    }
    let archive = archive(&root, ".");
    fs::remove_dir_all(&root).expect("a folder");
    archive
}

/// What is below `name` in a folder, as the kernel unpacks it at its start.
fn archive(root: &Path, name: &str) -> Vec<u8> {
    let busybox = program("amd64");
    let script = format!("find '{name}' | '{}' cpio -o -H newc 2>/dev/null", busybox.display());
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

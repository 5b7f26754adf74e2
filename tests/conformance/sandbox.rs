//! A [`Sandbox`]: a Debian userland whose programs the kernel starts through one emulator, and what they answer.
//!
//! It is a set of namespaces with a table, a network, processes and identities of their own, `sandbox.sh` says how they
//! are made; changes to the userland go to memory. A process keeps them for as long as the value lives, and with it
//! everything in them ends. Which programs are run, and what to make of the answers, is the caller's business.

use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::rule::{Flags, Matcher, Rule};

/// After this time, a program has failed.
const LIMIT: Duration = Duration::from_secs(480);
/// All that the programs find in their environment.
const ENVIRONMENT: [(&str, &str); 4] =
    [("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("HOME", "/root"), ("LANG", "C.UTF-8"), ("TERM", "dumb")];
/// The one variable that is passed on: whether emulators share translated blocks (`docs/emulators.md`).
const CACHE: &str = "QEMU_TB_CACHE";
/// What an emulator adds to its line about a guest's signal.
const CORE_DUMPED: &str = " - core dumped";
/// A user namespace has no identities until somebody outside has said which, and only then can the rest be made.
const WAIT_FOR_IDENTITIES: &str = "echo unshared; read -r _
    exec unshare --mount --propagation private --pid --fork --net --ipc --uts -- sh \"$0\" \"$@\"";
/// Byte of an ELF file that names the system it is for, which neither Linux nor QEMU looks at.
const OS_ABI: usize = 7;

/// Where BuildKit has the emulator in the root directory of a build, if the kernel has no handler.
const OF_BUILDKIT: &str = "/dev/.buildkit_qemu_emulator";

/// Namespaces with a userland, and one handler or none.
#[derive(Debug)]
pub(crate) struct Sandbox {
    keeper: Child,
    pid: u32,
    place: PathBuf,
    /// What starts each command: nothing, if there is a handler.
    starter: &'static [&'static str],
}

impl Sandbox {
    /// The userland `root`, whose handler is `emulator`. The folder `binaries` is `/binaries` there.
    pub(crate) fn new(arch: &Arch, root: &Path, binaries: &Path, emulator: &Path) -> Self {
        let runner = runner(emulator);
        // The kernel opens one file for all interpreters of a program (flag O), `exec_binprm` of fs/exec.c: here, it is the
        // emulator, which cannot be told of its own program in this way.
        let flags = if runner.is_some() { "PF" } else { "POCF" };
        let (_copies, rules): (Vec<_>, Vec<_>) = runner
            .iter()
            .map(|(arch, emulator)| rule(arch, emulator, "POCF"))
            .chain([rule(arch, emulator, flags)])
            .unzip();
        Self::with(&rules, &[], root, binaries, emulator)
    }

    /// The same without any handler: `emulator` starts each command, as BuildKit's does.
    pub(crate) fn without_handler(root: &Path, binaries: &Path, emulator: &Path) -> Self {
        Self::with(&[], &[OF_BUILDKIT], root, binaries, emulator)
    }

    /// A userland of this machine, which needs no emulator.
    pub(crate) fn native(root: &Path, binaries: &Path) -> Self {
        Self::with(&[], &[], root, binaries, Path::new("/dev/null"))
    }

    fn with(rules: &[String], starter: &'static [&'static str], root: &Path, binaries: &Path, emulator: &Path) -> Self {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance");
        fs::create_dir_all(&place).expect("a folder to mount on");
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
        let mut keeper = Command::new("unshare")
            .args(["--user", "--", "sh", "-c", WAIT_FOR_IDENTITIES])
            .arg(sources.join("sandbox.sh"))
            .args([&place, root, &sources, binaries])
            .arg(emulator)
            .args(rules)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("util-linux's unshare");
        let mut said = BufReader::new(keeper.stdout.take().expect("a piped stdout")).lines();
        let mut next = || said.next().and_then(Result::ok).unwrap_or_default();
        assert_eq!(next(), "unshared", "no user namespace");
        // everybody that a Debian has, as themselves
        for map in ["gid_map", "uid_map"] {
            let file = format!("/proc/{}/{map}", keeper.id());
            fs::write(&file, "0 0 65536").unwrap_or_else(|error| panic!("{file}: {error}"));
        }
        keeper.stdin.as_mut().expect("a piped stdin").write_all(b"\n").expect("a process that waits");
        let ready = next();
        let pid = ready.strip_prefix("ready ").map(str::parse);
        let Some(Ok(pid)) = pid else {
            panic!("no sandbox for {}: it said {ready:?}", emulator.display());
        };
        let sandbox = Self { keeper, pid, place, starter };
        let up = sandbox.run(&["/bin/busybox", "ip", "link", "set", "lo", "up"]);
        assert!(up.succeeded(), "{}: no loopback: {up:?}", emulator.display());
        sandbox
    }

    /// Runs a program of the userland.
    pub(crate) fn run(&self, command: &[&str]) -> Outcome {
        self.run_within(LIMIT, command)
    }

    /// The same; after `limit` it has failed.
    pub(crate) fn run_within(&self, limit: Duration, command: &[&str]) -> Outcome {
        Outcome::of(&mut self.within_root(limit, &[], command))
    }

    fn within_root(&self, limit: Duration, options: &[&str], command: &[&str]) -> Command {
        let root = Path::new(&format!("/proc/{}/root", self.pid))
            .join(self.place.strip_prefix("/").expect("an absolute path"))
            .join("root");
        let mut call = self.enter(limit);
        call.arg(format!("--root={}", root.display())).arg(format!("--wd={}", root.display()));
        call.args(options).arg("--").args(self.starter).args(command);
        call
    }

    /// The same in a mount namespace whose root directory is the userland's: in any other (`chroot(2)`) the kernel lets nobody
    /// make a user namespace.
    pub(crate) fn run_in_own_root(&self, command: &[&str]) -> Outcome {
        let pivot = "cd \"$0\" && pivot_root . . && busybox umount -l . && exec \"$@\"";
        let mut call = self.enter(LIMIT);
        call.args(["--", "unshare", "--mount", "--propagation", "private"])
            .args(["--", "sh", "-c", pivot])
            .arg(self.place.join("root"))
            .args(command);
        Outcome::of(&mut call)
    }

    /// Where the translated blocks are that processes of the sandbox share, those of this user and group.
    pub(crate) fn shared_blocks(&self, ids: (u32, u32)) -> Option<PathBuf> {
        let namespace = |process: &Path| fs::read_link(process.join("ns/pid")).ok();
        let own = namespace(&Path::new("/proc").join(self.pid.to_string()))?;
        let processes = fs::read_dir("/proc").expect("a /proc").flatten();
        let here = processes.map(|process| process.path()).filter(|process| namespace(process).as_ref() == Some(&own));
        here.map(|process| process.join("fd/1024")).find(|descriptor| {
            fs::read_link(descriptor).is_ok_and(|file| file == Path::new("/memfd:tb-cache (deleted)"))
                && fs::metadata(descriptor).is_ok_and(|metadata| (metadata.uid(), metadata.gid()) == ids)
        })
    }

    /// Runs a program of the userland as this user and group, with these blocks as an emulator inherits them.
    pub(crate) fn run_with_blocks(&self, blocks: &Path, (uid, gid): (u32, u32), command: &[&str]) -> Outcome {
        let as_user = self.within_root(LIMIT, &[&format!("--setuid={uid}"), &format!("--setgid={gid}")], command);
        let mut call = Command::new("bash");
        call.args(["-c", "ulimit -n 2048; exec 1024<>\"$0\"; exec \"$@\""]).arg(blocks);
        call.arg(as_user.get_program()).args(as_user.get_args()).env_clear().envs(ENVIRONMENT).env(CACHE, "1");
        Outcome::of(&mut call)
    }

    fn enter(&self, limit: Duration) -> Command {
        let mut call = Command::new("timeout");
        call.arg("--kill-after=5")
            .args([&limit.as_secs().to_string(), "nsenter"])
            .arg(format!("--target={}", self.pid))
            .args(["--user", "--mount", "--pid", "--net", "--ipc", "--uts"])
            .env_clear()
            .envs(ENVIRONMENT)
            .envs(env::var(CACHE).map(|wanted| (CACHE, wanted)));
        call
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// What a program did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The exit status, or 128 and the number of the signal that ended it.
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// Runs a command to its end.
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.stdin(Stdio::null()).output();
        let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let by_signal = || 128 + output.status.signal().unwrap_or_default();
        Self {
            status: output.status.code().unwrap_or_else(by_signal),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    pub(crate) fn succeeded(&self) -> bool {
        self.status == 0
    }

    /// How `other` differs from this one: the first line that does, or the status.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        let line = |name: &str, one: &str, two: &str| {
            // Debian's says so whether or not there is a core, see `ours.rs`
            let (one, two) = (one.replace(CORE_DUMPED, ""), two.replace(CORE_DUMPED, ""));
            let (mut one, mut two) = (one.split('\n'), two.split('\n'));
            for number in 1.. {
                match (one.next(), two.next()) {
                    (None, None) => break,
                    (one, two) if one == two => {}
                    (one, two) => {
                        let end = "(no more)";
                        let (one, two) = (one.unwrap_or(end), two.unwrap_or(end));
                        return Some(format!("{name}, line {number}\n    Debian's: {one}\n    tested:   {two}"));
                    }
                }
            }
            None
        };
        let status = (self.status != other.status).then(|| {
            let (one, two) = (self.status, other.status);
            format!("status\n    Debian's: {one}\n    tested:   {two}")
        });
        let differences =
            [line("stdout", &self.stdout, &other.stdout), line("stderr", &self.stderr, &other.stderr), status];
        let told: Vec<_> = differences.into_iter().flatten().collect();
        (!told.is_empty()).then(|| told.join("\n  "))
    }
}

/// Lines of text that say every byte.
fn text(bytes: &[u8]) -> String {
    bytes.split(|byte| *byte == b'\n').map(|line| line.escape_ascii().to_string()).collect::<Vec<_>>().join("\n")
}

/// A folder with an emulator's file under its own name, gone when dropped: the kernel keeps the file that it opened.
#[derive(Debug)]
struct Copy(PathBuf);

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Which architecture an emulator's file is of, and the emulator that runs it, if it is for other machines than this one. Ours
/// is taken, `build/tuned`, since tests need what Debian's lacks.
///
/// # Panics
///
/// Where there is none of that architecture.
pub(crate) fn runner(emulator: &Path) -> Option<(&'static Arch, PathBuf)> {
    let mut head = [0; 64];
    let read = File::open(emulator).and_then(|mut file| file.read_exact(&mut head));
    read.unwrap_or_else(|error| panic!("{}: {error}", emulator.display()));
    let arch =
        ARCHES.iter().find(|arch| arch.matches(&head)).expect("an emulator is a program of a known architecture");
    if Arch::of_host().is_some_and(|host| host == arch) {
        return None;
    }
    let runner = Path::new(env!("CARGO_MANIFEST_DIR")).join("build/tuned").join(arch.interpreter_name(""));
    assert!(
        runner.exists(),
        "{} is a program of {}, and there is no {}",
        emulator.display(),
        arch.qemu,
        runner.display()
    );
    Some((arch, runner))
}

/// The line that registers the emulator.
///
/// For the machine's own architecture it takes care: the emulator is a program of that architecture too, and the kernel
/// would look for the emulator's emulator. So a copy says that it is for another system, and the rule wants programs
/// for the plain one, which those of a userland are.
fn rule(arch: &Arch, emulator: &Path, flags: &str) -> (Option<Copy>, String) {
    let mut rule = Rule::for_arch(arch, "", Path::new("/"), Flags::parse(flags).0);
    emulator.clone_into(&mut rule.interpreter);
    let mut copy = None;
    if Arch::of_host().is_some_and(|host| host == arch) {
        let Matcher::Magic { mask: Some(mask), .. } = &mut rule.matcher else {
            unreachable!("a row of the table has magic and mask");
        };
        mask[OS_ABI] = 0xff;
        let folder = for_another_system(emulator);
        rule.interpreter = folder.join(arch.interpreter_name(""));
        copy = Some(Copy(folder));
    }
    let line = rule.encode().expect("a rule that the kernel takes");
    let line = String::from_utf8(line).expect("a rule in plain text");
    (copy, line)
}

/// Copies an emulator into a folder of its own, by a process: one that is forked while the test itself writes a file
/// would make executing that file fail (`ETXTBSY`). The name stays, since programs see it in `/proc/self/comm`.
fn for_another_system(emulator: &Path) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("emulator-{}-{count}", std::process::id());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let script = format!(
        "mkdir \"$2\"; cp \"$1\" \"$2\"
         printf '\\003' | dd of=\"$2/$(basename \"$1\")\" bs=1 seek={OS_ABI} conv=notrunc status=none"
    );
    let copied = Command::new("sh").args(["-e", "-c", &script, "sh"]).args([emulator, &folder]).status();
    let copied = copied.is_ok_and(|status| status.success());
    assert!(copied, "no copy of {}", emulator.display());
    folder
}

//! What the tests of the tool share: a [`Host`] of their own, the binary in it, and real emulators and programs.
//!
//! A host is a user and a mount namespace with a `binfmt_misc` of its own (Linux 6.7), so every test meets the real
//! kernel and an empty table, in parallel with the others and without root. A process waits in it for as long as the
//! test runs; commands enter by way of util-linux's `nsenter`. What is tested is in the files next to this folder.
//!
//! Files that are executed are made by processes, never by the test itself: a process that is forked while one thread
//! writes a file would make executing that file fail (`ETXTBSY`).

#![allow(dead_code, unused_imports, unused_macros, reason = "each tier uses a part of it")]

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use binfmt_magic::arch::Arch;
use binfmt_magic::rule::{Flags, Matcher, Rule};
use serde_json::Value;

pub(crate) mod booted;
pub(crate) mod fake;
pub(crate) mod faults;
pub(crate) mod lock;
pub(crate) mod machine;
pub(crate) mod ordinary;
pub(crate) mod turn;
pub(crate) mod vm;

/// The binary under test: the one that `BINFMT_TEST_BINARY` names when the tests are compiled, or Cargo's.
pub(crate) const BINFMT: &str = match option_env!("BINFMT_TEST_BINARY") {
    Some(named) => named,
    None => env!("CARGO_BIN_EXE_binfmt"),
};
/// Where the kernel expects the table.
pub(crate) const MOUNT_POINT: &str = "/proc/sys/fs/binfmt_misc";
/// How many users a host of many has: enough for all of a Debian, and for the range of one more Debian's.
pub(crate) const USERS: u32 = 200_000;
/// Seconds after which a command of a test has failed.
const LIMIT: &str = "60";

/// The folder of the emulators that are installed by default: QEMU's, or [`fake`] ones.
pub(crate) fn emulators() -> PathBuf {
    if fake::is_used() {
        return fake::folder().join("emulators");
    }
    material("BINFMT_TEST_EMULATORS", "emulators", "make emulators")
}

/// The folder of an older QEMU's emulators, to upgrade from: aarch64, arm, riscv64, s390x.
pub(crate) fn old_emulators() -> PathBuf {
    if fake::is_used() {
        return fake::folder().join("emulators-7.2");
    }
    material("BINFMT_TEST_OLD_EMULATORS", "emulators-7.2", "make test-material")
}

/// The static busybox of a Debian architecture: arm64, armhf, riscv64, amd64, ….
pub(crate) fn program(debian: &str) -> PathBuf {
    let programs = if fake::is_used() {
        fake::folder().join("programs")
    } else {
        material("BINFMT_TEST_PROGRAMS", "programs", "make test-material")
    };
    let file = programs.join(debian).join("busybox");
    assert!(file.exists(), "no {}: run `make test-material`", file.display());
    file
}

/// The version that the emulators of a folder state: `10.0.13`.
pub(crate) fn version(folder: &Path) -> String {
    let said = Command::new(folder.join("qemu-aarch64")).arg("--version").output().expect("qemu-aarch64");
    let said = text(said.stdout);
    let version = said.split_whitespace().nth(2);
    version.expect("QEMU's version").to_owned()
}

pub(crate) fn material(variable: &str, folder: &str, remedy: &str) -> PathBuf {
    let path = std::env::var_os(variable);
    let path = path.map_or_else(|| fake::built(folder), PathBuf::from);
    assert!(path.is_dir(), "no {}: run `{remedy}`", path.display());
    path
}

/// Counts what was tried, for the table of `make torture`: it names the file in `BINFMT_TEST_TALLY`.
pub(crate) fn tally(what: &str, number: usize) {
    let Some(file) = std::env::var_os("BINFMT_TEST_TALLY") else { return };
    let file = fs::OpenOptions::new().create(true).append(true).open(file);
    let line = format!("{number}\t{what}\n");
    // one write each, since other tests append too
    file.and_then(|mut file| file.write_all(line.as_bytes())).expect("a file that BINFMT_TEST_TALLY names");
}

/// The row of the architecture that QEMU calls `qemu`.
pub(crate) fn arch(qemu: &str) -> &'static Arch {
    Arch::by_qemu(qemu).unwrap_or_else(|| panic!("no architecture {qemu}"))
}

/// Waits until a process that the tests have started runs this file. No other process is looked at: one of the machine's that
/// hangs while it is executed would hold up whoever asks.
#[track_caller]
pub(crate) fn wait_for(file: &Path) {
    fn runs(process: u32, file: &Path) -> bool {
        let threads = fs::read_dir(format!("/proc/{process}/task"));
        let threads = threads.into_iter().flatten().flatten();
        let children = threads.filter_map(|it| fs::read_to_string(it.path().join("children")).ok());
        children
            .flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .filter_map(|child| child.parse().ok())
            .any(|child: u32| {
                let exe = fs::read_link(format!("/proc/{child}/exe"));
                exe.is_ok_and(|exe| exe == file) || runs(child, file)
            })
    }
    let patience = Instant::now() + Duration::from_secs(30);
    while !runs(std::process::id(), file) {
        assert!(Instant::now() < patience, "{} is not started", file.display());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Namespaces with a `binfmt_misc` of their own, a process that keeps them, and a scratch folder.
#[derive(Debug)]
pub(crate) struct Host {
    keeper: Child,
    /// The process whose namespaces these are, as the machine numbers it.
    pid: u32,
    entering: Vec<&'static str>,
    scratch: Scratch,
}

impl Host {
    /// A host with an empty table at the default mount point.
    pub(crate) fn new() -> Self {
        let mount = format!("mount -t binfmt_misc binfmt_misc {MOUNT_POINT}");
        Self::with(&["--user", "--map-root-user", "--mount"], &mount)
    }

    /// A host in the namespaces that these options of `unshare` make, after the shell commands `setup` ran there.
    pub(crate) fn with(namespaces: &[&str], setup: &str) -> Self {
        Self::start(namespaces, setup, |_, _| ())
    }

    /// A host with an empty table, and the first [`USERS`] of the machine as themselves, after `setup`. Takes root.
    pub(crate) fn of_many_users(setup: &str) -> Self {
        let mount = format!("mount -t binfmt_misc binfmt_misc {MOUNT_POINT}");
        let setup = format!("echo unshared\nread -r go\n{mount}\n{setup}");
        Self::start(&["--user", "--mount"], &setup, |keeper, said| {
            let mut line = String::new();
            said.read_line(&mut line).expect("a line from it");
            assert_eq!(line, "unshared\n");
            for map in ["uid_map", "gid_map"] {
                let map = format!("/proc/{}/{map}", keeper.id());
                fs::write(map, format!("0 0 {USERS}")).expect("a map of ids");
            }
            keeper.stdin.as_mut().expect("a piped stdin").write_all(b"\n").expect("a shell that reads");
        })
    }

    fn start(
        namespaces: &[&str],
        setup: &str,
        meanwhile: impl FnOnce(&mut Child, &mut BufReader<ChildStdout>),
    ) -> Self {
        let script = format!("read -r pid rest </proc/self/stat\n{setup}\necho ready $pid\nexec cat");
        let mut keeper = Command::new("unshare")
            .args(namespaces)
            .args(["--", "sh", "-e", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("util-linux's unshare");
        let mut said = BufReader::new(keeper.stdout.take().expect("a piped stdout"));
        meanwhile(&mut keeper, &mut said);
        let mut line = String::new();
        said.read_line(&mut line).expect("a line from the namespaces");
        let pid = line.trim().strip_prefix("ready ").map(str::parse);
        let Some(Ok(pid)) = pid else {
            panic!("no namespaces for a test: unshare {namespaces:?} ends; needs Linux 6.7 and user namespaces");
        };
        let entering =
            [("--user", &["--user", "--preserve-credentials"][..]), ("--mount", &["--mount"]), ("--pid", &["--pid"])];
        let entering = entering
            .into_iter()
            .filter(|(namespace, _)| namespaces.contains(namespace))
            .flat_map(|(_, options)| options.iter().copied())
            .collect();
        Self { keeper, pid, entering, scratch: Scratch::new() }
    }

    /// Runs the tool with `args`, with the emulators of [`emulators`].
    pub(crate) fn binfmt(&self, args: &[&str]) -> Output {
        self.call(args).run()
    }

    /// A call of the tool that wants more than arguments.
    pub(crate) fn call(&self, args: &[&str]) -> Call<'_> {
        let call = self.program(BINFMT).args(args);
        call.env("QEMU_BINARY_PATH", emulators())
            .env_remove("QEMU_BINARY_PREFIX")
            .env_remove("QEMU_BINARY_REPLACE")
            .env_remove("QEMU_PRESERVE_ARGV0")
    }

    /// A call of some other program.
    pub(crate) fn program(&self, program: impl AsRef<OsStr>) -> Call<'_> {
        Call {
            host: self,
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            environment: Vec::new(),
            input: Vec::new(),
        }
    }

    /// Runs shell commands; they fail as soon as one fails.
    pub(crate) fn sh(&self, script: &str) -> Output {
        self.program("sh").args(["-e", "-c", script]).run()
    }

    /// `uname -m` of a real program of a Debian architecture: `Ok("aarch64")`, or why it does not run.
    pub(crate) fn runs(&self, debian: &str) -> Result<String, String> {
        let output = self.program(program(debian)).args(["uname", "-m"]).run();
        match output.status {
            0 => Ok(output.stdout.trim_end().to_owned()),
            status => Err(format!("status {status}: {}", output.stderr.trim_end())),
        }
    }

    /// The real program of a Debian architecture runs.
    #[track_caller]
    pub(crate) fn must_run(&self, debian: &str) {
        let ran = self.runs(debian);
        assert!(ran.is_ok(), "{debian} does not run: {ran:?}");
    }

    /// It does not run any more: the kernel takes a table down a moment after its last mount has gone.
    #[track_caller]
    pub(crate) fn stops_running(&self, debian: &str) {
        let patience = Instant::now() + Duration::from_secs(5);
        while self.runs(debian).is_ok() {
            assert!(Instant::now() < patience, "{debian} still runs");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// It runs again, or for the first time, after a moment.
    #[track_caller]
    pub(crate) fn comes_to_run(&self, debian: &str) {
        let patience = Instant::now() + Duration::from_secs(20);
        while let Err(why) = self.runs(debian) {
            assert!(Instant::now() < patience, "{debian} does not run: {why}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The real program of arm64 runs.
    #[track_caller]
    pub(crate) fn runs_arm64(&self) {
        assert_eq!(self.runs("arm64").as_deref(), Ok("aarch64"));
    }

    /// A prepared command in this host, for what [`Call`] cannot do. It becomes `program` itself, with the same PID,
    /// where the host has no PID namespace.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(self.enter()).arg("--").arg(program);
        command
    }

    fn enter(&self) -> Vec<String> {
        let mut options = vec![format!("--target={}", self.pid)];
        options.extend(self.entering.iter().map(ToString::to_string));
        options
    }

    /// A path of this host, as the test reaches it from outside.
    pub(crate) fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        let inside = inside.strip_prefix("/").unwrap_or(inside);
        Path::new(&format!("/proc/{}/root", self.pid)).join(inside)
    }

    /// The text of an entry as the kernel prints it.
    pub(crate) fn entry(&self, name: impl AsRef<OsStr>) -> Option<String> {
        let text = fs::read(self.path(MOUNT_POINT).join(name.as_ref())).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    /// The names of all entries, in the kernel's order: the newest first.
    pub(crate) fn entries(&self) -> Vec<String> {
        let listing = fs::read_dir(self.path(MOUNT_POINT)).expect("a table");
        listing
            .map(|item| item.expect("an entry").file_name())
            .map(|name| name.to_string_lossy().into_owned())
            .filter(|name| name != "register" && name != "status")
            .collect()
    }

    /// What is mounted there, as `proc(5)` has it.
    pub(crate) fn mountinfo(&self) -> String {
        fs::read_to_string(format!("/proc/{}/mountinfo", self.pid)).expect("proc")
    }

    /// The whole table, verbatim and in the kernel's order, to compare before and after.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        for name in self.entries() {
            let entry = self.entry(&name).unwrap_or_default();
            let _ = writeln!(text, "[{}]\n{entry}", name.escape_debug());
        }
        text
    }

    /// Registers by hand what an install of `qemu` would, but with this name, interpreter and flags.
    pub(crate) fn register(&self, name: &str, qemu: &str, interpreter: &Path, flags: &str) {
        let mut rule = Rule::for_arch(arch(qemu), "", Path::new("/"), Flags::parse(flags).0);
        rule.name = name.into();
        interpreter.clone_into(&mut rule.interpreter);
        self.register_rule(&rule);
    }

    /// Registers an entry that is nobody's platform: `magic` at the start, `/bin/true` as interpreter.
    pub(crate) fn register_other(&self, name: &str, magic: &[u8]) {
        self.register_rule(&Rule {
            name: name.into(),
            matcher: Matcher::Magic { offset: 0, magic: magic.to_vec(), mask: None },
            interpreter: "/bin/true".into(),
            flags: Flags::parse("").0,
        });
    }

    /// Registers a rule by hand.
    pub(crate) fn register_rule(&self, rule: &Rule) {
        self.register_line(&rule.encode().expect("a rule that the kernel takes"));
    }

    /// Writes a registration line.
    pub(crate) fn register_line(&self, line: &[u8]) {
        // cat's one write: a line is shorter than any buffer
        self.sh_with("cat >/proc/sys/fs/binfmt_misc/register", line).ok();
    }

    /// Runs shell commands with `input` on stdin.
    pub(crate) fn sh_with(&self, script: &str, input: &[u8]) -> Output {
        self.program("sh").args(["-e", "-c", script]).input(input).run()
    }

    /// This test's own folder, gone with the host. Inside and outside it has the same path.
    pub(crate) fn scratch(&self) -> &Path {
        &self.scratch.0
    }

    /// A new folder in [`Self::scratch`] with copies of some emulators: `("qemu-aarch64", emulators())`.
    pub(crate) fn folder(&self, name: &str, files: &[(&str, PathBuf)]) -> PathBuf {
        let folder = self.scratch().join(name);
        fs::create_dir_all(&folder).expect("a folder");
        for (file, from) in files {
            self.copy(&from.join(file), &folder.join(file));
        }
        folder
    }

    /// Copies a file that is to be executed.
    pub(crate) fn copy(&self, from: &Path, to: &Path) {
        self.program("cp").args(["--reflink=auto".as_ref(), from, to]).run().ok();
    }

    /// Makes a translator of arm64 programs that works and is not QEMU's: the emulator, without what shows that it is one.
    pub(crate) fn translator(&self, path: &Path) {
        let emulator = emulators().join("qemu-aarch64");
        let script = format!(
            "LC_ALL=C sed 's/Copyright (c) 2003-/Copyright (c) 1999-/' '{}' >'{path}' && chmod 755 '{path}'",
            emulator.display(),
            path = path.display()
        );
        self.sh(&script).ok();
    }

    /// Compiles a static program from the body of its `main(argc, argv)`.
    pub(crate) fn compile(&self, path: &Path, body: &str) {
        let source = format!(
            "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\n\
             int main(int argc, char **argv) {{ {body} }}\n"
        );
        self.compile_source(path, "-O1", &source);
    }

    /// Makes a static program of a C source. Each source is compiled once for a checkout and copied from then on, since a
    /// compiler takes longer than most tests.
    pub(crate) fn compile_source(&self, path: &Path, options: &str, source: &str) {
        let mut hasher = DefaultHasher::new();
        (options, source).hash(&mut hasher);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled");
        let program = folder.join(format!("{:016x}", hasher.finish()));
        if !program.exists() {
            // several tests may come here at once
            let script = format!(
                "mkdir -p '{0}'; new=$(mktemp -d '{0}/XXXXXX'); cc {options} -static -x c -o $new/program -
                 mv $new/program '{1}'; rmdir $new",
                folder.display(),
                program.display()
            );
            self.sh_with(&script, source.as_bytes()).ok();
        }
        self.copy(&program, path);
    }

    /// Compiles an emulator that states a version like QEMU's, and does something else when it is to emulate.
    pub(crate) fn compile_emulator(&self, path: &Path, body: &str) {
        let version = "puts(\"qemu-aarch64 version 10.9.8\") < 0";
        let states = format!("if (argc > 1 && !strcmp(argv[1], \"--version\")) return {version};");
        self.compile(path, &format!("{states} {body}"));
    }

    /// Makes an executable file of these bytes.
    pub(crate) fn executable(&self, path: &Path, bytes: &[u8]) {
        self.sh_with(&format!("cat >'{0}' && chmod 755 '{0}'", path.display()), bytes).ok();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // its end of stdin ends cat, and with the last process of the namespaces the kernel ends them
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// A folder below Cargo's for tests, removed when dropped.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("host-{}-{count}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("a scratch folder");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A program that is about to run in a [`Host`].
#[derive(Debug)]
#[must_use = "a call that is not run does nothing"]
pub(crate) struct Call<'a> {
    host: &'a Host,
    program: OsString,
    args: Vec<OsString>,
    environment: Vec<(OsString, Option<OsString>)>,
    input: Vec<u8>,
}

impl Call<'_> {
    /// More arguments.
    pub(crate) fn args<I: IntoIterator<Item: AsRef<OsStr>>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// An environment variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.into(), Some(value.as_ref().to_owned())));
        self
    }

    /// The folder of the emulators, in place of [`emulators`].
    pub(crate) fn emulators(self, folder: &Path) -> Self {
        self.env("QEMU_BINARY_PATH", folder)
    }

    /// Without an environment variable.
    pub(crate) fn env_remove(mut self, name: &str) -> Self {
        self.environment.push((name.into(), None));
        self
    }

    /// Bytes on stdin; by default none.
    pub(crate) fn input(mut self, bytes: &[u8]) -> Self {
        self.input = bytes.to_vec();
        self
    }

    /// Runs it, for a minute at most.
    pub(crate) fn run(self) -> Output {
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=5", LIMIT, "nsenter"])
            .args(self.host.enter())
            .arg("--")
            .arg(&self.program)
            .args(&self.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let mut child = command.spawn().expect("coreutils' timeout");
        // nobody needs to read it: a program may well ignore its stdin
        let _ = child.stdin.take().map(|mut stdin| stdin.write_all(&self.input));
        let output = child.wait_with_output().expect("the output of a command");
        let is_binfmt = self.program == BINFMT;
        let mut shown = vec![self.program];
        shown.extend(self.args);
        let output = Output {
            command: shown.join(OsStr::new(" ")),
            status: code(output.status),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        };
        if is_binfmt && output.stdout.starts_with(['{', '[']) {
            assert_documented(&output);
        }
        output
    }
}

/// Whatever the tool prints as JSON is as the schema says.
fn assert_documented(output: &Output) {
    static SCHEMA: LazyLock<(boon::Schemas, boon::SchemaIndex)> = LazyLock::new(|| {
        let schema = include_str!("../../src/output/json.schema.json");
        let schema = serde_json::from_str(schema).expect("a schema that is JSON");
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler.add_resource("report.schema.json", schema).expect("a schema that can be located");
        let index = compiler.compile("report.schema.json", &mut schemas);
        let index = index.expect("a schema that is valid");
        (schemas, index)
    });
    let (schemas, index) = &*SCHEMA;
    if let Err(error) = schemas.validate(&output.json(), *index) {
        panic!("not as documented: {error:#}\n{output}");
    }
}

fn code(status: ExitStatus) -> i32 {
    let by_signal = || 128 + status.signal().unwrap_or_default();
    status.code().unwrap_or_else(by_signal)
}

fn text(bytes: Vec<u8>) -> String {
    OsString::from_vec(bytes).to_string_lossy().into_owned()
}

/// What a program did. Its checks return it, so that they can be chained.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    command: OsString,
    /// The exit status; 128 and the number for a signal; 124 if it took longer than a minute.
    pub(crate) status: i32,
    /// What it wrote to stdout.
    pub(crate) stdout: String,
    /// What it wrote to stderr.
    pub(crate) stderr: String,
}

impl Output {
    /// What a command did elsewhere than in a [`Host`].
    pub(crate) fn new(command: &str, status: i32, stdout: String, stderr: String) -> Self {
        let command = command.into();
        Self { command, status, stdout, stderr }
    }

    /// It ended with this status.
    #[track_caller]
    pub(crate) fn ends(self, status: i32) -> Self {
        assert_eq!(self.status, status, "exit status of {self}");
        self
    }

    /// It ended well.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.ends(0)
    }

    /// It printed this, among other things, on stdout.
    #[track_caller]
    pub(crate) fn prints(self, words: &str) -> Self {
        assert!(self.stdout.contains(words), "no {words:?} in {self}");
        self
    }

    /// It did not print this on stdout.
    #[track_caller]
    pub(crate) fn prints_no(self, words: &str) -> Self {
        assert!(!self.stdout.contains(words), "{words:?} in {self}");
        self
    }

    /// It said this, among other things, on stderr.
    #[track_caller]
    pub(crate) fn says(self, words: &str) -> Self {
        assert!(self.stderr.contains(words), "no {words:?} in {self}");
        self
    }

    /// It did not say this on stderr.
    #[track_caller]
    pub(crate) fn never_says(self, words: &str) -> Self {
        assert!(!self.stderr.contains(words), "{words:?} in {self}");
        self
    }

    /// The line on stderr that begins so.
    #[track_caller]
    pub(crate) fn line(&self, start: &str) -> &str {
        let mut lines = self.stderr.lines();
        lines.find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no line {start:?} in {self}"))
    }

    /// The last line on stderr has all of these words.
    #[track_caller]
    pub(crate) fn ends_saying(self, words: &[&str]) -> Self {
        let last = self.stderr.lines().next_back().unwrap_or_default();
        for word in words {
            assert!(last.contains(word), "no {word:?} in the last line of {self}");
        }
        self
    }

    /// stdout as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self}"))
    }

    /// The strings of a list in the JSON on stdout; none for `null`.
    #[track_caller]
    pub(crate) fn list(&self, key: &str) -> Vec<String> {
        let json = self.json();
        let items = json[key].as_array().into_iter().flatten();
        items.map(|item| item.as_str().expect("a list of strings").to_owned()).collect()
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let command = String::from_utf8_lossy(self.command.as_bytes());
        write!(f, "{command}\nstatus {}\nstdout: {}\nstderr: {}", self.status, self.stdout, self.stderr)
    }
}

//! The machine and its Docker engine, for one test at a time: found with an empty table, left with one.
//!
//! What containers do to the table they do to the machine's, of which there is one. So these tests take turns, with
//! each other and with those of `tests/anchor.rs`, by a lock on a folder that every checkout sees.

#![allow(dead_code, reason = "each file of tests uses a part of it")]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use crate::harness::{Host, MOUNT_POINT, Output};

/// The image under test.
pub(crate) const IMAGE: &str = "binfmt";
/// The start of the names of everything that the tests make and remove again.
pub(crate) const OURS: &str = "binfmt-test-";

/// The machine, its own table and its engine.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) host: Host,
    _turn: Flock<File>,
}

impl Machine {
    /// Waits for its turn. `None`, with the reason on stderr: the tier cannot run here. Where `CI` is set that is a
    /// failure.
    pub(crate) fn take() -> Option<Self> {
        Self::take_unless(unfit)
    }

    /// The same, where nothing but the containers of the test keeps the table alive.
    pub(crate) fn take_unheld() -> Option<Self> {
        Self::take_unless(|| {
            let held = "some mount namespace, process or anchor holds the machine's table; end it";
            unfit().or_else(|| is_held().then(|| held.into()))
        })
    }

    fn take_unless(unfit: impl Fn() -> Option<String>) -> Option<Self> {
        let turn = File::open("/sys/kernel").expect("sysfs");
        let turn = Flock::lock(turn, FlockArg::LockExclusive).expect("a lock on /sys/kernel");
        let Some(reason) = unfit() else {
            image();
            return Some(Self {
                host: Host::with(&[], ""),
                _turn: turn,
            });
        };
        let test = thread::current();
        let test = test.name().unwrap_or_default();
        assert!(
            std::env::var_os("CI").is_none(),
            "{test} cannot run: {reason}"
        );
        // past the capture of a test's output, so that it is seen
        let _ = writeln!(std::io::stderr(), "{test} DID NOT RUN: {reason}");
        None
    }

    /// `docker` with these words.
    pub(crate) fn docker(&self, words: &str) -> Output {
        self.docker_with(words, &[])
    }

    /// `docker` with these words, and then these arguments as they are.
    pub(crate) fn docker_with(&self, words: &str, args: &[&str]) -> Output {
        let words: Vec<&str> = words.split_whitespace().collect();
        self.host.program("docker").args(words).args(args).run()
    }

    /// `docker run --rm` with these options, and the image with these arguments of the tool.
    pub(crate) fn binfmt(&self, options: &str, args: &str) -> Output {
        self.docker(&format!("run --rm {options} {IMAGE} {args}"))
    }

    /// `docker run --privileged --rm binfmt` with these arguments: the command that everybody knows.
    pub(crate) fn privileged(&self, args: &str) -> Output {
        self.binfmt("--privileged", args)
    }

    /// The files of an image, in a folder.
    pub(crate) fn files(&self, image: &str) -> PathBuf {
        let folder = self.host.scratch().join("files");
        self.docker(&format!("create --name {OURS}files {image}"))
            .ok();
        let unpacked = self.host.sh(&format!(
            "mkdir {0}; docker export {OURS}files | tar -x -C {0}",
            folder.display()
        ));
        unpacked.ok();
        folder
    }

    #[track_caller]
    pub(crate) fn runs(&self, debian: &str) {
        let ran = self.host.runs(debian);
        assert!(ran.is_ok(), "{debian} does not run: {ran:?}");
    }

    /// The kernel takes a table down a moment after its last mount has gone.
    #[track_caller]
    pub(crate) fn stops_running(&self, debian: &str) {
        let patience = Instant::now() + Duration::from_secs(5);
        while self.host.runs(debian).is_ok() {
            assert!(Instant::now() < patience, "{debian} still runs");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The names of the machine's entries, sorted.
    pub(crate) fn entries(&self) -> Vec<String> {
        let entries = self.in_private(&entries_script());
        entries.lines().map(str::to_owned).collect()
    }

    pub(crate) fn anchors(&self) -> usize {
        let uprobes = self.in_private("cat $uprobes");
        let ours = uprobes.lines().filter(|line| line.starts_with("p:binfmt/"));
        ours.count()
    }

    pub(crate) fn has_mount(&self) -> bool {
        let found = self.host.sh("grep -q ' - binfmt_misc ' /proc/1/mountinfo");
        found.status == 0
    }

    fn in_private(&self, script: &str) -> String {
        let call = self.host.program("unshare");
        call.args(in_private(script)).run().ok().stdout
    }

    /// No entry, no mount, no anchor.
    #[track_caller]
    pub(crate) fn is_clean(&self) {
        assert!(!self.has_mount(), "a mount is left");
        assert_eq!(self.anchors(), 0, "an anchor is left");
        assert_eq!(self.entries(), [""; 0], "entries are left");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // containers and images whose names say that they are the tests'; the layers stay cached
        self.host.sh(&format!(
            "docker ps --all --quiet --filter name={OURS} | xargs -r docker rm --force
             docker images --quiet '{OURS}*' | xargs -r docker rmi --force"
        ));
        // by hand: the tool is what may have failed
        let emptied = in_private(&format!(
            "grep -q '^p:binfmt/anchor ' $uprobes && echo '-:binfmt/anchor' >>$uprobes || :
             mountpoint -q {MOUNT_POINT} || mount -t binfmt_misc none {MOUNT_POINT}
             cd {MOUNT_POINT}; for entry in *; do
               case $entry in register | status) ;; *) echo -1 >\"$entry\" ;; esac
             done"
        ));
        let emptied = self.host.program("unshare").args(emptied).run();
        assert!(emptied.status == 0 || thread::panicking(), "{emptied}");
        self.host.sh(&format!(
            "while mountpoint -q {MOUNT_POINT}; do umount --lazy {MOUNT_POINT}; done"
        ));
    }
}

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder of what make leaves behind.
pub(crate) fn built(folder: &str) -> PathBuf {
    root().join("build").join(folder)
}

/// Builds the image from the sources as they are now; the engine caches what has not changed.
fn image() {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| run(Command::new("make").args(["image", "-C"]).arg(root())));
}

/// Builds an image of this name from a folder.
pub(crate) fn build(image: &str, options: &str, folder: &Path) {
    let mut command = Command::new("docker");
    command.args(["build", "--progress=plain", "--tag", image]);
    run(command.args(options.split_whitespace()).arg(folder));
}

/// A Debian userland of an architecture that can run here, as an image.
pub(crate) fn userland(debian: &str) -> String {
    let image = format!("{OURS}{debian}");
    let folder = built("userland");
    let archive = format!("{debian}.tar");
    let script = root().join("qemu/image/userland.sh");
    run(Command::new(script).arg(debian).arg(folder.join(&archive)));
    let file = root().join("tests/docker/userland.Dockerfile");
    let options = format!(
        "--platform linux/{debian} --build-arg ARCHIVE={archive} --file {}",
        file.display()
    );
    build(&image, &options, &folder);
    image
}

/// Runs a command of the tests' own, for as long as it takes.
#[track_caller]
pub(crate) fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

/// Why the tier cannot run on this machine.
fn unfit() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("it needs root".into());
    }
    let engine = Command::new("docker").args(["version"]).output();
    if !engine.is_ok_and(|output| output.status.success()) {
        return Some("it needs a Docker engine, and none answers".into());
    }
    let mounts = |process: &str| fs::read_to_string(format!("/proc/{process}/mountinfo")).ok();
    if mounts("self") != mounts("1") {
        return Some("it needs the machine itself, not a container".into());
    }
    if mounts("self").is_none_or(|mounts| mounts.contains(&format!(" {MOUNT_POINT} "))) {
        return Some(format!(
            "it needs a machine that mounts nothing at {MOUNT_POINT}"
        ));
    }
    let entries = printed(&entries_script());
    (!entries.is_empty()).then(|| {
        let entries: Vec<&str> = entries.lines().collect();
        let entries = entries.join(", ");
        format!("it needs an empty table, and this machine's has {entries}; uninstall them")
    })
}

/// Shell commands that print the names of the machine's entries.
fn entries_script() -> String {
    format!(
        "mountpoint -q {MOUNT_POINT} || mount -t binfmt_misc none {MOUNT_POINT}
         ls {MOUNT_POINT} | grep -vxE 'register|status' || :"
    )
}

/// Whether the superblock, once nobody looks, is kept by something: whether an entry outlives the mount it was made in.
fn is_held() -> bool {
    let mount = format!("mount -t binfmt_misc none {MOUNT_POINT}; cd {MOUNT_POINT}");
    let line = ":binfmt-test-held:E::binfmt-test-held::/bin/true:";
    printed(&format!("{mount}; echo '{line}' >register"));
    // the kernel takes a moment to take a table down
    thread::sleep(Duration::from_millis(500));
    let left = printed(&format!(
        "{mount}; ! test -e binfmt-test-held || {{ echo -1 >binfmt-test-held; echo held; }}"
    ));
    !left.is_empty()
}

/// What shell commands print in a mount namespace that ends with them.
fn printed(script: &str) -> String {
    let mut command = Command::new("unshare");
    command.args(in_private(script)).stdin(Stdio::null());
    let output = command.output().expect("unshare");
    assert!(output.status.success(), "{script}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Arguments of `unshare`: shell commands in a mount namespace that ends with them, with tracefs' list of uprobe
/// definitions as `$uprobes`.
fn in_private(script: &str) -> [String; 5] {
    let script = format!(
        "mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing
         uprobes=/sys/kernel/tracing/uprobe_events
         {script}"
    );
    ["--mount", "sh", "-e", "-c", &script].map(str::to_owned)
}

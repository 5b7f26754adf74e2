//! The machine itself and places on it, for tests that change its own table.

use std::fs;
use std::ops::Deref;
use std::path::Path;
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use crate::harness::turn::{self, Reason, Turn};
use crate::harness::{BINFMT, Host, MOUNT_POINT, Output, emulators};

/// Long enough for the kernel to take down a superblock whose last mount has gone.
pub(crate) const TEARDOWN: Duration = Duration::from_millis(250);

/// The machine's own table and tracefs, for one test at a time.
#[derive(Debug)]
pub(crate) struct Machine(Turn);

impl Deref for Machine {
    type Target = Turn;

    fn deref(&self) -> &Turn {
        &self.0
    }
}

impl Machine {
    /// Waits for its turn. `None`, with the reason on stderr: the tier cannot run here.
    pub(crate) fn take() -> Option<Self> {
        Turn::take(|| UNFIT.clone()).map(Self)
    }

    /// Runs shell commands in a mount namespace that ends with them. `$uprobes` is tracefs' list of definitions.
    pub(crate) fn sh(&self, script: &str) -> Output {
        let private = turn::private(script);
        self.host.program(private.get_program()).args(private.get_args()).run()
    }

    /// What a call leaves that is killed before it registers anything.
    pub(crate) fn has_an_anchor_of_an_empty_table(&self) {
        let event = format!("p:binfmt/anchor {MOUNT_POINT}/status:0x0");
        self.sh(&format!("mount -t binfmt_misc none {MOUNT_POINT}; echo '{event}' >>$uprobes")).ok();
    }

    /// No entry, no mount, no anchor, no file, and nothing that holds the superblock.
    #[track_caller]
    pub(crate) fn is_clean(&self) {
        self.0.is_clean();
        assert!(!turn::is_held(), "something holds the superblock");
        let scratch = fs::read_dir(self.host.scratch()).expect("a folder");
        assert_eq!(scratch.count(), 0, "a file is left");
    }
}

/// Why the tier cannot run on this machine, found out before the first test.
static UNFIT: LazyLock<Option<Reason>> = LazyLock::new(unfit);

fn unfit() -> Option<Reason> {
    let link = |name: &str| fs::read_link(format!("/proc/{name}")).unwrap_or_default();
    let initial =
        [link("self/ns/user") == Path::new("user:[4026531837]"), link("self/ns/pid") == Path::new("pid:[4026531836]")];
    if initial.contains(&false) {
        return Some("it needs the machine itself, not a container".into());
    }
    turn::unfit().or_else(turn::held).or_else(|| {
        let uprobes = turn::succeeds("test -e $uprobes");
        (!uprobes).then(|| "it needs tracefs with uprobe_events (CONFIG_UPROBE_EVENTS)".into())
    })
}

/// A place to call the tool from: a mount namespace of the machine, a container, or the machine itself.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) host: Host,
}

impl Namespace {
    /// `unshare --mount`
    pub(crate) fn new() -> Self {
        Self::with(&[], "")
    }

    /// A mount namespace that has the table mounted.
    pub(crate) fn mounted() -> Self {
        Self::with(&[], &format!("mount -t binfmt_misc none {MOUNT_POINT}"))
    }

    /// A mount namespace, and others, after these shell commands.
    pub(crate) fn with(others: &[&'static str], setup: &str) -> Self {
        let namespaces: Vec<&str> = ["--mount"].iter().chain(others).copied().collect();
        Self { host: Host::with(&namespaces, setup) }
    }

    /// Processes and a `/proc` of its own, as a container has them without `--pid=host`.
    pub(crate) fn container(setup: &str) -> Self {
        Self::with(&["--pid", "--fork"], &format!("mount -t proc proc /proc\n{setup}"))
    }

    /// The machine itself.
    pub(crate) fn host() -> Self {
        Self { host: Host::with(&[], "") }
    }

    pub(crate) fn binfmt(&self, args: &[&str]) -> Output {
        self.host.binfmt(args)
    }

    pub(crate) fn sh(&self, script: &str) -> Output {
        self.host.program("sh").args(["-e", "-c", script]).env("QEMU_BINARY_PATH", emulators()).run()
    }

    /// Ends it, and waits until what it alone held has gone.
    pub(crate) fn ends(self) {
        drop(self);
        thread::sleep(TEARDOWN);
    }
}

/// The user `nobody`, with a copy of the tool where such a user can get at it.
#[derive(Debug)]
pub(crate) struct Unprivileged {
    namespace: Namespace,
}

impl Unprivileged {
    pub(crate) fn new() -> Self {
        let setup = format!("mount -t tmpfs -o mode=755 none /mnt; cp {BINFMT} /mnt/binfmt");
        Self { namespace: Namespace::with(&[], &setup) }
    }

    pub(crate) fn binfmt(&self, options: &str) -> Output {
        let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups --";
        self.namespace.sh(&format!("{nobody} /mnt/binfmt {options}"))
    }
}

/// Somebody else's uprobe definition.
#[derive(Debug)]
pub(crate) struct OtherUprobe<'a> {
    machine: &'a Machine,
}

impl<'a> OtherUprobe<'a> {
    pub(crate) const EVENT: &'static str = "binfmt_test/other";

    pub(crate) fn define(machine: &'a Machine, file: &Path) -> Self {
        let line = format!("p:{} {}:0x1000", Self::EVENT, file.display());
        machine.sh(&format!("echo '{line}' >>$uprobes")).ok();
        Self { machine }
    }
}

impl Drop for OtherUprobe<'_> {
    fn drop(&mut self) {
        self.machine.sh(&format!("echo '-:{}' >>$uprobes || :", Self::EVENT));
    }
}

//! A test's turn at the machine's own table, of which there is one: found empty, left empty, however the test ends, also by
//! `SIGKILL`.
//!
//! Everything is done by hand and in mount namespaces that end with it: the tool is what may have failed, and a mount
//! that stayed would keep the table.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};
use std::{fmt, fs};

use super::{Host, MOUNT_POINT};

/// The right to change the machine's own table, and the machine to do it on.
#[derive(Debug)]
pub(crate) struct Turn {
    guard: Child,
    pub(crate) host: Host,
}

/// Why a test cannot run.
#[derive(Debug, Clone)]
pub(crate) enum Reason {
    /// Something keeps the machine's table while nobody has it mounted.
    Held,
    /// What the test needs and the machine does not have, in words.
    Needs(String),
}

impl From<&str> for Reason {
    fn from(words: &str) -> Self {
        Self::Needs(words.to_owned())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Held => "some mount namespace, process or anchor holds the machine's table; end it",
            Self::Needs(words) => words,
        })
    }
}

/// A process that has the turn and empties the table after it, also where the test has been killed, or interrupted at a
/// terminal. It is told `armed` when the table is the test's, and `done` at the end.
///
/// The lock is that of a folder that is there on every machine, so that the tests of several checkouts take turns, too. An entry
/// may go while it is looked at: only what is left counts.
const GUARD: &str = r#"
exec 9</sys/kernel
flock 9 || exit
echo turn
read -r armed || exit 0
# killed: what the test has started may be at work for another moment
read -r done || sleep 2
unshare --mount sh -c "$1" || status=1
while grep -q ' - binfmt_misc ' /proc/self/mountinfo; do umount --lazy "$2" || exit; done
exit ${status:-0}
"#;

impl Turn {
    /// Waits for it. `None`, when there is a reason not to: the tier cannot run here, see [`cannot_run`].
    pub(crate) fn take(unfit: impl FnOnce() -> Option<Reason>) -> Option<Self> {
        let empty = with_uprobes(&format!(
            "! grep -q '^p:binfmt/anchor ' $uprobes || echo '-:binfmt/anchor' >>$uprobes
             mountpoint -q {MOUNT_POINT} || mount -t binfmt_misc none {MOUNT_POINT}
             cd {MOUNT_POINT}
             entries() {{ ls | grep -vxE 'register|status'; }}
             entries | while read -r entry; do echo -1 >\"$entry\"; done
             ! entries"
        ));
        // in a session of its own, which an interrupt at the terminal does not reach
        let mut guard = Command::new("setsid")
            .args(["sh", "-c", GUARD, "guard", &empty, MOUNT_POINT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("util-linux's setsid");
        let mut said = [0; 5];
        guard.stdout.as_mut().expect("a pipe").read_exact(&mut said).expect("a turn");
        if let Some(reason) = unfit() {
            drop(guard.stdin.take());
            let _ = guard.wait();
            cannot_run(reason);
            return None;
        }
        guard.stdin.as_mut().expect("a pipe").write_all(b"armed\n").expect("a guard");
        Some(Self { guard, host: Host::with(&[], "") })
    }

    /// The real program of a Debian architecture runs.
    #[track_caller]
    pub(crate) fn runs(&self, debian: &str) {
        self.host.must_run(debian);
    }

    /// It does not run any more, or not after a moment.
    #[track_caller]
    pub(crate) fn stops_running(&self, debian: &str) {
        self.host.stops_running(debian);
    }
}

#[allow(clippy::unused_self, reason = "only who has the machine to itself can make sense of the answers")]
impl Turn {
    /// The names of the machine's entries, sorted.
    pub(crate) fn entries(&self) -> Vec<String> {
        entries()
    }

    pub(crate) fn anchors(&self) -> usize {
        anchors()
    }

    pub(crate) fn has_mount(&self) -> bool {
        is_mounted()
    }

    /// No entry, no mount, no anchor.
    #[track_caller]
    pub(crate) fn is_clean(&self) {
        assert!(!self.has_mount(), "a mount is left");
        assert_eq!(self.anchors(), 0, "an anchor is left");
        assert_eq!(self.entries(), [""; 0], "entries are left");
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let stdin = self.guard.stdin.take();
        let _ = stdin.map(|mut stdin| stdin.write_all(b"done\n"));
        let ended = self.guard.wait().expect("a child");
        assert!(ended.success() || thread::panicking(), "the machine's table is not emptied: {ended}");
    }
}

/// Says that the test did not run, past the capture of its output: once for each reason, or, where `tests/summary.sh` counts
/// them, for each test. Where `CI` is set, the test fails.
pub(crate) fn cannot_run(reason: impl Into<Reason>) {
    let reason = reason.into();
    let test = thread::current();
    let test = test.name().unwrap_or_default();
    let may_be = matches!(reason, Reason::Held) && is_held_for_good();
    assert!(may_be || std::env::var_os("CI").is_none(), "{test} cannot run: {reason}");
    if std::env::var_os("BINFMT_TEST_SUMMARY").is_some() {
        let _ = writeln!(std::io::stderr(), "{test} DID NOT RUN: {reason}");
    } else {
        say_once(&format!("tests DID NOT RUN: {reason}"));
    }
}

/// Says it the first time, past the capture of a test's output.
pub(crate) fn say_once(line: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if SAID.lock().expect("no panic").insert(line.to_owned()) {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// Why tests must leave the machine's table alone, as far as its mounts and entries tell.
pub(crate) fn unfit() -> Option<Reason> {
    if !nix::unistd::geteuid().is_root() {
        return Some("it needs root".into());
    }
    // the identities of mounts are the machine's; /proc/1/ns may be out of reach even for root
    let mounts = |process: &str| fs::read_to_string(format!("/proc/{process}/mountinfo")).ok();
    if mounts("self") != mounts("1") {
        return Some("it needs the machine itself, not a container".into());
    }
    if mounts("self").is_none_or(|mounts| mounts.contains(&format!(" {MOUNT_POINT} "))) {
        return Some(Reason::Needs(format!(
            "it needs a machine that mounts nothing at {MOUNT_POINT}; where systemd does: \
             systemctl stop proc-sys-fs-binfmt_misc.automount proc-sys-fs-binfmt_misc.mount; where \
             `make run` did: target/release/binfmt --uninstall all"
        )));
    }
    if !succeeds("mount -t binfmt_misc none /mnt") {
        return Some("it needs a kernel with binfmt_misc; modprobe binfmt_misc".into());
    }
    let entries = entries();
    (!entries.is_empty()).then(|| {
        let entries = entries.join(", ");
        Reason::Needs(format!("it needs an empty table, and this machine's has {entries}; uninstall them"))
    })
}

/// Why tests about what keeps the table cannot tell: something else does. Waits for other tests: a mount namespace that one of them
/// took while the table was mounted has a copy of that mount, and so keeps the table until that test ends.
pub(crate) fn held() -> Option<Reason> {
    let patience = Instant::now() + Duration::from_secs(300);
    while is_held() {
        if is_held_for_good() || Instant::now() > patience {
            return Some(Reason::Held);
        }
    }
    None
}

/// Whether tests/clear.sh has found that the kernel keeps the table although nothing is left to end but the machine.
fn is_held_for_good() -> bool {
    std::env::var_os("BINFMT_TEST_TABLE_HELD").is_some()
}

/// Whether the superblock, once nobody looks, is kept by something. An entry that is still there when it is mounted
/// again tells; no field of the file system does.
pub(crate) fn is_held() -> bool {
    let entry = format!("{MOUNT_POINT}/binfmt-test-held");
    let mount = format!("mount -t binfmt_misc none {MOUNT_POINT}");
    let line = ":binfmt-test-held:E::binfmt-test-held::/bin/true:";
    // the kernel takes a moment to take a table down
    let patience = Instant::now() + Duration::from_secs(3);
    loop {
        assert!(succeeds(&format!("{mount}; echo '{line}' >{MOUNT_POINT}/register")), "no entry to be made");
        thread::sleep(Duration::from_millis(20));
        let is_gone = succeeds(&format!("{mount}; ! test -e {entry}"));
        assert!(succeeds(&format!("{mount}; ! test -e {entry} || echo -1 >{entry}")), "no entry to be removed");
        if is_gone || Instant::now() > patience {
            return !is_gone;
        }
    }
}

/// Whether the machine itself has the table mounted.
pub(crate) fn is_mounted() -> bool {
    fs::read_to_string("/proc/1/mountinfo").expect("proc").contains(" - binfmt_misc ")
}

/// The names of the machine's entries, sorted.
pub(crate) fn entries() -> Vec<String> {
    let mut listed = private(&format!(
        "mountpoint -q {MOUNT_POINT} || mount -t binfmt_misc none {MOUNT_POINT}
         ls {MOUNT_POINT} | grep -vxE 'register|status' || :"
    ));
    let listed = listed.output().expect("unshare");
    assert!(listed.status.success(), "no table to look at: {listed:?}");
    String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect()
}

/// Tracefs' list of uprobe definitions.
pub(crate) fn uprobes() -> String {
    let listed = private("cat $uprobes").output().expect("unshare");
    assert!(listed.status.success(), "no uprobes: {listed:?}");
    String::from_utf8_lossy(&listed.stdout).into_owned()
}

/// How many anchors there are.
pub(crate) fn anchors() -> usize {
    uprobes().lines().filter(|line| line.starts_with("p:binfmt/")).count()
}

/// Whether these shell commands succeed, as [`private`] runs them.
pub(crate) fn succeeds(script: &str) -> bool {
    private(script).status().expect("unshare").success()
}

/// Shell commands in a mount namespace that ends with them, see [`with_uprobes`].
pub(crate) fn private(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-e", "-c", &with_uprobes(script)]);
    command.stdin(Stdio::null());
    command
}

/// Shell commands with tracefs' list of uprobe definitions as `$uprobes`, wherever the machine has it.
fn with_uprobes(script: &str) -> String {
    format!(
        "mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing
         uprobes=/sys/kernel/tracing/uprobe_events
         {script}"
    )
}

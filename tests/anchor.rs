//! Tier: host. The machine's own table: mounts on the host, in mount namespaces and in containers, and the anchor.
//!
//! Everywhere else in these tests a table is private, because there is one per user namespace. An anchor however can be
//! set in the initial user namespace only, and what is mounted on the host is everybody's. So these tests need root
//! and a machine whose own table is empty and held by nobody; they take turns, and leave the table as they found it.
//! Containers are stood in for by `unshare --mount --pid`; a real engine's are tested elsewhere.

mod harness;

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use harness::turn::{self, Turn, cannot_run, is_mounted};
use harness::{BINFMT, Host, MOUNT_POINT, Output, emulators, program};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Long enough for the kernel to take down a superblock whose last mount has gone.
const TEARDOWN: Duration = Duration::from_millis(250);

#[test]
fn handlers_outlive_the_namespace_that_mounted_them() {
    let Some(machine) = Machine::take() else {
        return;
    };
    let namespace = Namespace::new();
    namespace.binfmt(&["--install", "arm64"]).ok();
    namespace.ends();
    machine.runs("arm64");
    assert_eq!(turn::anchors(), 1);
    let elsewhere = Namespace::new().binfmt(&["--status"]).ok();
    assert!(elsewhere.stdout.contains("qemu-aarch64"), "{elsewhere}");
    assert!(!is_mounted(), "looking left a mount on the host");
}

#[test]
fn the_last_uninstall_leaves_no_trace() {
    let Some(machine) = Machine::take() else {
        return;
    };
    Namespace::new()
        .binfmt(&["--install", "arm64,riscv64"])
        .ok();
    Namespace::new().binfmt(&["--uninstall", "riscv64"]).ok();
    thread::sleep(TEARDOWN);
    machine.runs("arm64");
    assert_eq!(turn::anchors(), 1, "an entry is left, and so the anchor");
    Namespace::new()
        .binfmt(&["--uninstall", "arm64"])
        .ok()
        .says("uninstalling: aarch64 OK");
    machine.is_clean();
}

/// Whoever traces may empty the list of uprobes, and nothing tells of it. What holds has to look.
#[test]
fn held_handlers_have_an_anchor_again_and_outlive_their_holder() {
    let Some(machine) = Machine::take() else {
        return;
    };
    for interval in ["200ms", "1h"] {
        let namespace = Namespace::new();
        let options = ["--hold", "--interval", interval, "--install", "arm64"];
        let mut held = namespace.host.command(BINFMT);
        held.args(options).env("QEMU_BINARY_PATH", emulators());
        let held = held.stdout(Stdio::null()).stderr(Stdio::null());
        let mut held = held.spawn().unwrap();
        let until = |what: &dyn Fn() -> bool| {
            let patience = Instant::now() + Duration::from_secs(20);
            while !what() {
                assert!(Instant::now() < patience, "at {interval}");
                thread::sleep(Duration::from_millis(20));
            }
        };
        until(&|| turn::anchors() == 1 && machine.host.runs("arm64").is_ok());
        // it is at the end of its install, and asleep, once it tells that it holds
        thread::sleep(Duration::from_secs(1));
        machine.sh("echo '-:binfmt/anchor' >>$uprobes").ok();
        if interval != "1h" {
            until(&|| turn::anchors() == 1);
        }
        let pid = Pid::from_raw(held.id().try_into().unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        assert!(held.wait().unwrap().success(), "at {interval}");
        namespace.ends();
        assert_eq!(turn::anchors(), 1, "at {interval}");
        machine.runs("arm64");
        Namespace::new().binfmt(&["--uninstall", "all"]).ok();
    }
    machine.is_clean();
}

#[test]
fn other_uprobe_definitions_are_left_alone() {
    let Some(machine) = Machine::take() else {
        return;
    };
    let busybox = program("amd64");
    let _other = OtherUprobe::define(&machine, &busybox);
    Namespace::new().binfmt(&["--install", "arm64"]).ok();
    assert!(turn::uprobes().contains(OtherUprobe::EVENT));
    Namespace::new().binfmt(&["--uninstall", "arm64"]).ok();
    assert!(turn::uprobes().contains(OtherUprobe::EVENT));
    assert_eq!(turn::anchors(), 0);
}

#[test]
fn an_anchored_table_is_joined_not_anchored_again() {
    let Some(machine) = Machine::take() else {
        return;
    };
    Namespace::new().binfmt(&["--install", "arm64"]).ok();
    Namespace::new()
        .binfmt(&["--install", "arm64,riscv64"])
        .ok()
        .says("arm64 already installed")
        .says("riscv64 OK");
    Namespace::new()
        .binfmt(&["--install", "riscv64", "--anchor", "never"])
        .ok();
    assert_eq!(turn::anchors(), 1);
    thread::sleep(TEARDOWN);
    machine.runs("arm64");
    machine.runs("riscv64");
}

#[test]
fn an_anchor_that_a_killed_install_left_is_taken_over() {
    let Some(machine) = Machine::take() else {
        return;
    };
    let event = format!("p:binfmt/anchor {MOUNT_POINT}/status:0x0");
    let anchored = machine.sh(&format!(
        "mount -t binfmt_misc none {MOUNT_POINT}; echo '{event}' >>$uprobes"
    ));
    anchored.ok();
    Namespace::new().binfmt(&["--install", "arm64"]).ok();
    thread::sleep(TEARDOWN);
    machine.runs("arm64");
    Namespace::new().binfmt(&["--uninstall", "all"]).ok();
    machine.is_clean();
}

#[test]
fn an_uninstall_that_finds_nothing_still_clears_the_anchor_of_an_empty_table() {
    let Some(machine) = Machine::take() else {
        return;
    };
    let event = format!("p:binfmt/anchor {MOUNT_POINT}/status:0x0");
    let anchored = machine.sh(&format!(
        "mount -t binfmt_misc none {MOUNT_POINT}; echo '{event}' >>$uprobes"
    ));
    anchored.ok();
    Namespace::new().binfmt(&["--uninstall", "qemu-*"]).ok();
    machine.is_clean();
}

#[test]
fn without_an_anchor_an_install_says_that_the_handlers_will_end() {
    let Some(machine) = Machine::take() else {
        return;
    };
    let by_hand = format!("mount -t binfmt_misc none {MOUNT_POINT}");
    for (case, setup, around, options) in [
        ("declined", "", "", "--anchor never"),
        ("declined in vain", "", "", "--anchor=never --force"),
        ("nothing at /sys", "umount --lazy /sys", "", ""),
        ("a tmpfs at /sys", "mount -t tmpfs none /sys", "", ""),
        (
            "no privilege",
            &by_hand,
            "setpriv --bounding-set=-all --",
            "",
        ),
    ] {
        let namespace = Namespace::with(&[], setup);
        let install = namespace.sh(&format!("{around} {BINFMT} --install arm64 {options}"));
        let last = install.ends(1).says("installing: arm64 OK (qemu-aarch64");
        let named = last.clone().ends_saying(&[
            "end with this container",
            "--pid=host",
            "mount -t binfmt_misc",
            "-v /proc/sys/fs/binfmt_misc:/binfmt_misc and --mount /binfmt_misc",
        ]);
        assert!(!named.stderr.contains("panicked"), "{case}: {named}");
        machine.runs("arm64");
        assert_eq!(turn::anchors(), 0, "{case}");
        namespace.ends();
        machine.stops_running("arm64");
    }
}

#[test]
fn an_audit_that_sees_no_holder_names_the_install_that_sets_the_anchor() {
    let Some(machine) = Machine::take() else {
        return;
    };
    let namespace = Namespace::new();
    namespace
        .binfmt(&["--install", "arm64", "--anchor", "never"])
        .ends(1);
    namespace
        .binfmt(&["--verify"])
        .ends(1)
        .ends_saying(&["1 finding; mend: ", "binfmt --install arm64"]);
    namespace.binfmt(&["--verify", "--anchor", "never"]).ok();
    assert_eq!(turn::anchors(), 0, "an audit sets nothing");
    namespace.binfmt(&["--install", "arm64"]).ok();
    namespace.binfmt(&["--verify"]).ok();
    namespace.binfmt(&["--uninstall", "all"]).ok();
    namespace.ends();
    machine.is_clean();
}

#[test]
fn a_holder_that_is_not_the_host_does_not_count_as_a_keeper() {
    let Some(machine) = Machine::take() else {
        return;
    };
    let by_hand = format!("mount -t binfmt_misc none {MOUNT_POINT}");
    let other = Namespace::with(&[], &by_hand);
    thread::sleep(Duration::from_millis(1100));
    let namespace = Namespace::new();
    let install = namespace.binfmt(&["--install", "arm64"]);
    namespace.ends();
    other.ends();
    if install.status == 0 {
        machine.runs("arm64");
    } else {
        install.ends(1).ends_saying(&["end with this container"]);
    }
}

#[test]
fn a_failed_install_leaves_neither_mount_nor_anchor() {
    let Some(machine) = Machine::take() else {
        return;
    };
    let nowhere = Path::new("/nonexistent");
    for place in [Namespace::host(), Namespace::new()] {
        let failed = place.host.call(&["--install", "arm64"]).emulators(nowhere);
        failed.run().ends(1);
        assert!(!is_mounted(), "{place:?}");
        assert_eq!(turn::anchors(), 0, "{place:?}");
    }
    machine.is_clean();
}

#[test]
fn on_the_host_itself_the_mount_stays_until_the_last_uninstall() {
    let Some(machine) = Machine::take() else {
        return;
    };
    let host = Namespace::host();
    host.binfmt(&["--install", "arm64,riscv64"]).ok();
    assert!(is_mounted());
    assert_eq!(turn::anchors(), 0, "the host's mount is enough");
    machine.runs("arm64");
    let namespace = Namespace::new();
    namespace
        .binfmt(&["--install", "arm64,arm"])
        .ok()
        .says("arm64 already installed")
        .says("arm OK");
    assert_eq!(turn::anchors(), 0, "the host's mount is enough");
    namespace.ends();
    machine.runs("armhf");
    host.binfmt(&["--uninstall", "arm64"]).ok();
    assert!(is_mounted());
    host.binfmt(&["--uninstall", "all"]).ok();
    assert!(!is_mounted());
    machine.is_clean();
}

#[test]
fn a_host_that_comes_to_an_anchored_table_later_can_remove_it_all() {
    let Some(machine) = Machine::take() else {
        return;
    };
    Namespace::new().binfmt(&["--install", "arm64"]).ok();
    let host = Namespace::host();
    host.binfmt(&["--install", "riscv64"]).ok();
    assert_eq!(host.host.entries(), ["qemu-riscv64", "qemu-aarch64"]);
    host.binfmt(&["--uninstall", "all"]).ok();
    machine.is_clean();
}

#[test]
fn a_mount_that_somebody_else_made_on_the_host_stays() {
    let Some(machine) = Machine::take() else {
        return;
    };
    let host = Namespace::host();
    host.sh(&format!("mount -t binfmt_misc none {MOUNT_POINT}"))
        .ok();
    host.binfmt(&["--install", "arm64"]).ok();
    host.binfmt(&["--uninstall", "arm64"]).ok();
    assert!(is_mounted());
    machine.fails("arm64");
}

#[test]
fn a_container_without_the_hosts_processes_is_anchored_too() {
    let Some(machine) = Machine::take() else {
        return;
    };
    let container = Namespace::container("");
    container.binfmt(&["--install", "arm64"]).ok();
    container.ends();
    machine.runs("arm64");
    assert_eq!(turn::anchors(), 1);
    Namespace::container("")
        .binfmt(&["--uninstall", "arm64"])
        .ok();
    machine.is_clean();
}

/// An entrypoint that mounts before it calls the tool. How long after the container's start it does, and where in a
/// second that is, must not matter.
#[test]
fn a_table_that_the_container_itself_mounted_before_is_anchored() {
    let Some(machine) = Machine::take() else {
        return;
    };
    for tenths in 0..5 {
        let mount = format!("sleep 0.{tenths}; mount -t binfmt_misc none {MOUNT_POINT}");
        let container = Namespace::container(&mount);
        container.binfmt(&["--install", "arm64"]).ok();
        container.ends();
        let runs = machine.host.runs("arm64");
        assert_eq!(runs, Ok("aarch64".into()), "mounted {tenths}00 ms after");
        Namespace::container("")
            .binfmt(&["--uninstall", "arm64"])
            .ok();
        machine.is_clean();
    }
}

#[test]
fn a_table_mounted_by_hand_in_a_mount_namespace_is_anchored() {
    let Some(machine) = Machine::take() else {
        return;
    };
    let by_hand = format!("mount -t binfmt_misc none {MOUNT_POINT}");
    let namespace = Namespace::with(&[], &by_hand);
    namespace.binfmt(&["--install", "arm64"]).ok();
    namespace.ends();
    machine.runs("arm64");
}

/// `--pid=host`, another of the remedies that the last line names: a root directory of its own, the host's processes.
/// The host gets the mount, or, where PID 1 has privileges that this process has not and so is out of reach, an anchor.
#[test]
fn with_the_hosts_processes_handlers_outlive_the_container_by_a_mount_or_an_anchor() {
    let Some(machine) = Machine::take() else {
        return;
    };
    let scratch = machine.host.scratch().display().to_string();
    let root = format!(
        "mount -t tmpfs none {scratch}; cd {scratch}; mkdir upper work root
         mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work none root; cd root
         mount -t proc proc proc; mount --rbind /sys sys; mount --rbind /dev dev
         pivot_root . mnt; umount --lazy /mnt; cd /"
    );
    let container = Namespace::with(&[], &root);
    container.binfmt(&["--install", "arm64"]).ok();
    container.ends();
    machine.runs("arm64");
    assert_eq!(usize::from(is_mounted()) + turn::anchors(), 1);
    let container = Namespace::with(&[], &root);
    container.binfmt(&["--uninstall", "arm64"]).ok();
    container.ends();
    machine.is_clean();
}

/// A bind mount of the table that the host has, one of the remedies that the last line names.
#[test]
fn through_a_bind_mount_the_hosts_table_is_used() {
    let Some(machine) = Machine::take() else {
        return;
    };
    let host = Namespace::host();
    host.sh(&format!("mount -t binfmt_misc none {MOUNT_POINT}"))
        .ok();
    let beside = host.host.scratch().join("table");
    let bound = format!(
        "mkdir -p {0}; mount --bind {MOUNT_POINT} {0}; mount -t proc proc /proc; mount --bind {0} {MOUNT_POINT}",
        beside.display()
    );
    let container = Namespace::container(&bound);
    container
        .binfmt(&["--install", "arm64"])
        .ok()
        .says("arm64 OK");
    container.ends();
    machine.runs("arm64");
    assert_eq!(host.host.entries(), ["qemu-aarch64"]);
    let container = Namespace::container(&bound);
    container.binfmt(&["--uninstall", "all"]).ok();
    container.ends();
    assert!(is_mounted(), "the host's mount is the host's");
    assert_eq!(host.host.entries(), [""; 0]);
    assert_eq!(turn::anchors(), 0);
}

/// Both wait for the table's lock; whoever gets it first, what the install reports is so afterwards.
#[test]
fn an_uninstall_does_not_take_the_table_from_an_install_at_work() {
    let Some(machine) = Machine::take() else {
        return;
    };
    for round in 0..6 {
        let holder = Namespace::with(&[], &format!("mount -t binfmt_misc none {MOUNT_POINT}"));
        let register = holder.host.path(MOUNT_POINT).join("register");
        let lock = OpenOptions::new().write(true).open(register).unwrap();
        let lock = Flock::lock(lock, FlockArg::LockExclusive).unwrap();
        let (one, other) = (Namespace::new(), Namespace::new());
        let (install, uninstall) = thread::scope(|scope| {
            let uninstall = scope.spawn(|| other.binfmt(&["--uninstall", "all"]));
            let install = scope.spawn(|| one.binfmt(&["--install", "arm64"]));
            thread::sleep(Duration::from_millis(100));
            drop(lock);
            holder.ends();
            (install.join().unwrap(), uninstall.join().unwrap())
        });
        one.ends();
        other.ends();
        install.ok();
        let removed = uninstall.ok().stderr.contains("qemu-aarch64 OK");
        let runs = machine.host.runs("arm64").is_ok();
        assert_eq!(runs, !removed, "round {round}");
        Namespace::new().binfmt(&["--uninstall", "all"]).ok();
        machine.is_clean();
    }
}

#[test]
fn installs_at_once_on_the_host_all_work() {
    let Some(machine) = Machine::take() else {
        return;
    };
    let lists = ["arm64", "riscv64", "arm", "arm64,riscv64", "s390x", "arm64"];
    let (host, start) = (Namespace::host(), std::sync::Barrier::new(lists.len()));
    thread::scope(|scope| {
        for list in lists {
            let (host, start) = (&host, &start);
            scope.spawn(move || {
                start.wait();
                host.binfmt(&["--install", list]).ok();
            });
        }
    });
    for program in ["arm64", "riscv64", "armhf", "s390x"] {
        machine.runs(program);
    }
    host.binfmt(&["--uninstall", "all"]).ok();
    machine.is_clean();
}

#[test]
fn a_user_without_privilege_sees_what_runs() {
    let Some(machine) = Machine::take() else {
        return;
    };
    Namespace::new().binfmt(&["--install", "arm64"]).ok();
    let user = Unprivileged::new();
    let status = user.binfmt("").ok();
    let supported = status.list("supported");
    assert!(supported.contains(&"linux/arm64".to_owned()), "{status}");
    assert!(supported.contains(&"linux/amd64".to_owned()), "{status}");
    user.binfmt("--status arm64").ok();
    machine.runs("arm64");
    assert!(!is_mounted());
}

/// Only the host's root has another user to give a program to.
#[test]
fn what_credentials_amount_to_is_seen() {
    let Some(machine) = Machine::take() else {
        return;
    };
    let namespace = Namespace::new();
    namespace.binfmt(&["--install", "arm64"]).ok();
    namespace
        .binfmt(&["--install", "riscv64", "--credentials", "no"])
        .ok();
    let status = namespace.binfmt(&["--status", "--format", "json"]).ok();
    let json = status.json();
    let setuid = |platform: &str| {
        let platforms = json["platforms"].as_array().unwrap();
        let found = platforms.iter().find(|p| p["platform"] == platform);
        found.unwrap()["setuid"].as_bool()
    };
    assert_eq!(setuid("linux/arm64"), Some(true), "{status}");
    assert_eq!(setuid("linux/riscv64"), Some(false), "{status}");
    let held = namespace.sh(&format!(
        "setpriv --no-new-privs -- {BINFMT} --status arm64 --format json"
    ));
    assert!(
        held.ok().stdout.contains("\"setuid\": null"),
        "not to be seen"
    );
    namespace.binfmt(&["--uninstall", "all"]).ok();
    machine.is_clean();
}

#[test]
fn a_user_without_privilege_changes_nothing_and_is_told_so() {
    let Some(machine) = Machine::take() else {
        return;
    };
    let refused = Unprivileged::new().binfmt("--install arm64").ends(1);
    refused.ends_saying(&["permission denied", "run as root"]);
    machine.is_clean();

    let host = Namespace::host();
    host.binfmt(&["--install", "arm64"]).ok();
    let before = host.host.table();
    let user = Unprivileged::new();
    for options in ["--install riscv64", "--uninstall arm64", "--uninstall all"] {
        let refused = user.binfmt(options).ends(1);
        refused.ends_saying(&["permission denied", "run as root"]);
        assert_eq!(host.host.table(), before, "{options}");
    }
}

/// Asking for what is there already changes nothing, so it takes no privilege to be told so.
#[test]
fn what_is_in_place_is_in_place_for_a_user_without_privilege_too() {
    let Some(_machine) = Machine::take() else {
        return;
    };
    let host = Namespace::host();
    host.binfmt(&["--install", "arm64"]).ok();
    let user = Unprivileged::new();
    let install = user.binfmt("--install arm64").ok();
    install.says("already installed");
    user.binfmt("--uninstall riscv64").ok().says("not found");
}

/// Nothing is mounted where the user could see it, so there is no entry that could be opened and refused.
#[test]
fn an_uninstall_that_cannot_see_the_table_does_not_call_it_done() {
    let Some(machine) = Machine::take() else {
        return;
    };
    Namespace::new().binfmt(&["--install", "arm64"]).ok();
    let user = Unprivileged::new();
    let refused = user.binfmt("--uninstall arm64").ends(1);
    refused.ends_saying(&["permission denied", "run as root"]);
    machine.runs("arm64");
}

/// systemd's automount, when nobody answers for it: the other end of its pipe is closed.
#[test]
fn an_automount_that_does_not_come_up_is_named() {
    let Some(_machine) = Machine::take() else {
        return;
    };
    let _ = Command::new("modprobe")
        .args(["--quiet", "autofs4"])
        .status();
    let known = fs::read_to_string("/proc/filesystems").unwrap();
    if !known.contains("\tautofs\n") {
        return cannot_run("it needs a kernel with autofs");
    }
    let options = "fd=1,pgrp=$$,minproto=5,maxproto=5,direct";
    let setup = format!("mount -t autofs -o {options} none {MOUNT_POINT} | true");
    let namespace = Namespace::with(&[], &setup);
    for args in [["--install", "arm64"], ["--uninstall", "arm64"]] {
        let refused = namespace.binfmt(&args).ends(1);
        refused.ends_saying(&[
            "automount",
            "systemctl restart proc-sys-fs-binfmt_misc.automount",
        ]);
    }
    namespace.binfmt(&[]).ok();
}

/// The machine's own table and tracefs, for one test at a time.
#[derive(Debug)]
struct Machine {
    host: Host,
    _turn: Turn,
}

impl Machine {
    /// Waits for its turn. `None`, with the reason on stderr: the tier cannot run here.
    fn take() -> Option<Self> {
        let turn = Turn::take(|| UNFIT.clone())?;
        Some(Self {
            host: Host::with(&[], ""),
            _turn: turn,
        })
    }

    /// Runs shell commands in a mount namespace that ends with them. `$uprobes` is tracefs' list of definitions.
    fn sh(&self, script: &str) -> Output {
        let private = turn::private(script);
        let call = self.host.program(private.get_program());
        call.args(private.get_args()).run()
    }

    #[track_caller]
    fn runs(&self, debian: &str) {
        let ran = self.host.runs(debian);
        assert!(ran.is_ok(), "{debian} does not run: {ran:?}");
    }

    #[track_caller]
    fn fails(&self, debian: &str) {
        let ran = self.host.runs(debian);
        assert!(ran.is_err(), "{debian} runs");
    }

    /// The kernel takes a table down a moment after its last mount has gone.
    #[track_caller]
    fn stops_running(&self, debian: &str) {
        let patience = Instant::now() + Duration::from_secs(5);
        while self.host.runs(debian).is_ok() {
            assert!(Instant::now() < patience, "{debian} still runs");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// No entry, no mount, no anchor, no file, and nothing that holds the superblock.
    #[track_caller]
    fn is_clean(&self) {
        assert!(!is_mounted(), "a mount is left");
        assert_eq!(turn::anchors(), 0, "an anchor is left");
        assert_eq!(turn::entries(), [""; 0], "entries are left");
        assert!(!turn::is_held(), "something holds the superblock");
        let scratch = fs::read_dir(self.host.scratch()).expect("a folder");
        assert_eq!(scratch.count(), 0, "a file is left");
    }
}

/// Why the tier cannot run on this machine, found out before the first test.
static UNFIT: LazyLock<Option<String>> = LazyLock::new(unfit);

fn unfit() -> Option<String> {
    let link = |name: &str| fs::read_link(format!("/proc/{name}")).unwrap_or_default();
    let initial = [
        link("self/ns/user") == Path::new("user:[4026531837]"),
        link("self/ns/pid") == Path::new("pid:[4026531836]"),
    ];
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
struct Namespace {
    host: Host,
}

impl Namespace {
    /// `unshare --mount`
    fn new() -> Self {
        Self::with(&[], "")
    }

    /// A mount namespace, and others, after these shell commands.
    fn with(others: &[&'static str], setup: &str) -> Self {
        let namespaces: Vec<&str> = ["--mount"].iter().chain(others).copied().collect();
        Self {
            host: Host::with(&namespaces, setup),
        }
    }

    /// Processes and a `/proc` of its own, as a container has them without `--pid=host`.
    fn container(setup: &str) -> Self {
        let setup = format!("mount -t proc proc /proc\n{setup}");
        Self::with(&["--pid", "--fork"], &setup)
    }

    /// The machine itself.
    fn host() -> Self {
        Self {
            host: Host::with(&[], ""),
        }
    }

    fn binfmt(&self, args: &[&str]) -> Output {
        self.host.binfmt(args)
    }

    fn sh(&self, script: &str) -> Output {
        let call = self.host.program("sh").args(["-e", "-c", script]);
        call.env("QEMU_BINARY_PATH", emulators()).run()
    }

    /// Ends it, and waits until what it alone held has gone.
    fn ends(self) {
        drop(self);
        thread::sleep(TEARDOWN);
    }
}

/// The user `nobody`, with a copy of the tool where such a user can get at it.
#[derive(Debug)]
struct Unprivileged {
    namespace: Namespace,
}

impl Unprivileged {
    fn new() -> Self {
        let setup = format!("mount -t tmpfs -o mode=755 none /mnt; cp {BINFMT} /mnt/binfmt");
        Self {
            namespace: Namespace::with(&[], &setup),
        }
    }

    fn binfmt(&self, options: &str) -> Output {
        let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups --";
        self.namespace
            .sh(&format!("{nobody} /mnt/binfmt {options}"))
    }
}

/// Somebody else's uprobe definition.
#[derive(Debug)]
struct OtherUprobe<'a> {
    machine: &'a Machine,
}

impl<'a> OtherUprobe<'a> {
    const EVENT: &'static str = "binfmt_test/other";

    fn define(machine: &'a Machine, file: &Path) -> Self {
        let line = format!("p:{} {}:0x1000", Self::EVENT, file.display());
        machine.sh(&format!("echo '{line}' >>$uprobes")).ok();
        Self { machine }
    }
}

impl Drop for OtherUprobe<'_> {
    fn drop(&mut self) {
        self.machine
            .sh(&format!("echo '-:{}' >>$uprobes || :", Self::EVENT));
    }
}

//! The machine's own table, in mount namespaces and in containers, and the anchor that keeps it.
//!
//! Everywhere else in these tests a table is private, because there is one per user namespace. An anchor however can be
//! set in the initial user namespace only, and what is mounted on the host is everybody's. So these tests need root
//! and a machine whose own table is empty and held by nobody; they take turns, and leave the table as they found it.
//! Containers are stood in for by `unshare --mount --pid`; a real engine's are tested elsewhere.

mod faults;
mod host;
mod machine;

use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::turn::{self, is_mounted};
use crate::harness::{BINFMT, MOUNT_POINT, emulators, program};
use machine::{Machine, Namespace, OtherUprobe, TEARDOWN};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn handlers_outlive_the_namespace_that_mounted_them() {
    let Some(machine) = Machine::take() else { return };
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
    let Some(machine) = Machine::take() else { return };
    Namespace::new().binfmt(&["--install", "arm64,riscv64"]).ok();
    Namespace::new().binfmt(&["--uninstall", "riscv64"]).ok();
    thread::sleep(TEARDOWN);
    machine.runs("arm64");
    assert_eq!(turn::anchors(), 1, "an entry is left, and so the anchor");
    Namespace::new().binfmt(&["--uninstall", "arm64"]).ok().says("uninstalling: arm64 OK");
    machine.is_clean();
}

/// Whoever traces may empty the list of uprobes, and nothing tells of it. What holds has to look.
#[test]
fn held_handlers_have_an_anchor_again_and_outlive_their_holder() {
    let Some(machine) = Machine::take() else { return };
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
    let Some(machine) = Machine::take() else { return };
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
    let Some(machine) = Machine::take() else { return };
    Namespace::new().binfmt(&["--install", "arm64"]).ok();
    Namespace::new().binfmt(&["--install", "arm64,riscv64"]).ok().says("arm64 already installed").says("riscv64 OK");
    Namespace::new().binfmt(&["--install", "riscv64", "--anchor", "never"]).ok();
    assert_eq!(turn::anchors(), 1);
    thread::sleep(TEARDOWN);
    machine.runs("arm64");
    machine.runs("riscv64");
}

#[test]
fn an_anchor_that_a_killed_install_left_is_taken_over() {
    let Some(machine) = Machine::take() else { return };
    machine.has_an_anchor_of_an_empty_table();
    Namespace::new().binfmt(&["--install", "arm64"]).ok();
    thread::sleep(TEARDOWN);
    machine.runs("arm64");
    Namespace::new().binfmt(&["--uninstall", "all"]).ok();
    machine.is_clean();
}

/// A definition of the anchor's name that is on another file keeps nothing. The kernel holds several files by one event.
#[test]
fn what_only_has_the_anchors_name_is_no_anchor() {
    let Some(machine) = Machine::take() else { return };
    let other = format!("p:binfmt/anchor {}:0x1000", program("amd64").display());
    machine.sh(&format!("echo '{other}' >>$uprobes")).ok();
    let namespace = Namespace::new();
    namespace.binfmt(&["--install", "arm64", "--anchor", "never"]).ends(1).ends_saying(&["end with this container"]);
    namespace.binfmt(&["--verify"]).ends(1).says("--install arm64");
    namespace.binfmt(&["--install", "arm64"]).ok();
    namespace.binfmt(&["--verify"]).ok();
    namespace.ends();
    machine.runs("arm64");
    Namespace::new().binfmt(&["--install", "riscv64"]).ok();
    assert_eq!(turn::anchors(), 2, "{}", turn::uprobes());
    Namespace::new().binfmt(&["--uninstall", "all"]).ok();
    assert!(turn::uprobes().contains("/programs/"), "it is somebody else's");
    machine.sh("echo -:binfmt/anchor >>$uprobes").ok();
    machine.is_clean();
}

/// To an event of another kind the kernel adds nothing.
#[test]
fn an_event_that_cannot_be_an_anchor_is_named_and_left_alone() {
    let Some(machine) = Machine::take() else { return };
    let file = program("amd64").display().to_string();
    let (returns, reads) = ("r:binfmt/anchor", "p:binfmt/anchor");
    for event in [format!("{returns} {file}:0x1000"), format!("{reads} {file}:0x1000 %ax")] {
        machine.sh(&format!("echo '{event}' >>$uprobes")).ok();
        let namespace = Namespace::new();
        let install = namespace.binfmt(&["--install", "arm64"]).ends(1);
        install.ends_saying(&["end with this container", "echo -:binfmt/anchor >>"]);
        assert!(turn::uprobes().contains(&file), "{event}");
        machine.sh("echo -:binfmt/anchor >>$uprobes").ok();
        namespace.binfmt(&["--install", "arm64"]).ok();
        namespace.ends();
        machine.runs("arm64");
        Namespace::new().binfmt(&["--uninstall", "all"]).ok();
        machine.is_clean();
    }
}

#[test]
fn an_uninstall_that_finds_nothing_still_clears_the_anchor_of_an_empty_table() {
    let Some(machine) = Machine::take() else { return };
    machine.has_an_anchor_of_an_empty_table();
    Namespace::new().binfmt(&["--uninstall", "qemu-*"]).ok();
    machine.is_clean();
}

#[test]
fn without_an_anchor_an_install_says_that_the_handlers_will_end() {
    let Some(machine) = Machine::take() else { return };
    let by_hand = format!("mount -t binfmt_misc none {MOUNT_POINT}");
    for (case, setup, around, options) in [
        ("declined", "", "", "--anchor never"),
        ("declined in vain", "", "", "--anchor=never --force"),
        ("nothing at /sys", "umount --lazy /sys", "", ""),
        ("a tmpfs at /sys", "mount -t tmpfs none /sys", "", ""),
        ("no privilege", &by_hand, "setpriv --bounding-set=-all --", ""),
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
    let Some(machine) = Machine::take() else { return };
    let namespace = Namespace::new();
    namespace.binfmt(&["--install", "arm64", "--anchor", "never"]).ends(1);
    namespace.binfmt(&["--verify"]).ends(1).ends_saying(&["1 finding; repair: ", "binfmt --install arm64"]);
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
    let Some(machine) = Machine::take() else { return };
    let other = Namespace::mounted();
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
    let Some(machine) = Machine::take() else { return };
    let nowhere = Path::new("/nonexistent");
    for place in [Namespace::host(), Namespace::new()] {
        place.host.call(&["--install", "arm64"]).emulators(nowhere).run().ends(1);
        assert!(!is_mounted(), "{place:?}");
        assert_eq!(turn::anchors(), 0, "{place:?}");
    }
    machine.is_clean();
}

#[test]
fn a_container_without_the_hosts_processes_is_anchored_too() {
    let Some(machine) = Machine::take() else { return };
    let container = Namespace::container("");
    container.binfmt(&["--install", "arm64"]).ok();
    container.ends();
    machine.runs("arm64");
    assert_eq!(turn::anchors(), 1);
    Namespace::container("").binfmt(&["--uninstall", "arm64"]).ok();
    machine.is_clean();
}

/// An entrypoint that mounts before it calls the tool. How long after the container's start it does, and where in a
/// second that is, must not matter.
#[test]
fn a_table_that_the_container_itself_mounted_before_is_anchored() {
    let Some(machine) = Machine::take() else { return };
    for tenths in 0..5 {
        let mount = format!("sleep 0.{tenths}; mount -t binfmt_misc none {MOUNT_POINT}");
        let container = Namespace::container(&mount);
        container.binfmt(&["--install", "arm64"]).ok();
        container.ends();
        let runs = machine.host.runs("arm64");
        assert_eq!(runs, Ok("aarch64".into()), "mounted {tenths}00 ms after");
        Namespace::container("").binfmt(&["--uninstall", "arm64"]).ok();
        machine.is_clean();
    }
}

#[test]
fn a_table_mounted_by_hand_in_a_mount_namespace_is_anchored() {
    let Some(machine) = Machine::take() else { return };
    let namespace = Namespace::mounted();
    namespace.binfmt(&["--install", "arm64"]).ok();
    namespace.ends();
    machine.runs("arm64");
}

/// `--pid=host`, another of the remedies that the last line names: a root directory of its own, the host's processes.
/// The host gets the mount, or, where PID 1 has privileges that this process has not and so is out of reach, an anchor.
#[test]
fn with_the_hosts_processes_handlers_outlive_the_container_by_a_mount_or_an_anchor() {
    let Some(machine) = Machine::take() else { return };
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

/// Both wait for the table's lock; whoever gets it first, what the install reports is so afterwards.
#[test]
fn an_uninstall_does_not_take_the_table_from_an_install_at_work() {
    let Some(machine) = Machine::take() else { return };
    for round in 0..6 {
        let holder = Namespace::mounted();
        let register = holder.host.path(MOUNT_POINT).join("register");
        let lock = crate::harness::lock::of_call(&register);
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

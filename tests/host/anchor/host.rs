//! What is mounted on the machine itself, and what users without privilege see and may do there.

use std::fs;
use std::process::Command;
use std::thread;

use super::machine::{Machine, Namespace, Unprivileged};
use crate::harness::turn::{self, cannot_run, is_mounted};
use crate::harness::{BINFMT, MOUNT_POINT};

#[test]
fn on_the_host_itself_the_mount_stays_until_the_last_uninstall() {
    let Some(machine) = Machine::take() else { return };
    let host = Namespace::host();
    host.binfmt(&["--install", "arm64,riscv64"]).ok();
    assert!(is_mounted());
    assert_eq!(turn::anchors(), 0, "the host's mount is enough");
    machine.runs("arm64");
    let namespace = Namespace::new();
    namespace.binfmt(&["--install", "arm64,arm"]).ok().says("arm64 already installed").says("arm OK");
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
    let Some(machine) = Machine::take() else { return };
    Namespace::new().binfmt(&["--install", "arm64"]).ok();
    let host = Namespace::host();
    host.binfmt(&["--install", "riscv64"]).ok();
    assert_eq!(host.host.entries(), ["qemu-riscv64", "qemu-aarch64"]);
    host.binfmt(&["--uninstall", "all"]).ok();
    machine.is_clean();
}

#[test]
fn a_mount_that_somebody_else_made_on_the_host_stays() {
    let Some(machine) = Machine::take() else { return };
    let host = Namespace::host();
    host.sh(&format!("mount -t binfmt_misc none {MOUNT_POINT}")).ok();
    host.binfmt(&["--install", "arm64"]).ok();
    host.binfmt(&["--uninstall", "arm64"]).ok();
    assert!(is_mounted());
    assert!(machine.host.runs("arm64").is_err(), "arm64 runs");
}

/// A bind mount of the table that the host has, one of the remedies that the last line names.
#[test]
fn through_a_bind_mount_the_hosts_table_is_used() {
    let Some(machine) = Machine::take() else { return };
    let host = Namespace::host();
    host.sh(&format!("mount -t binfmt_misc none {MOUNT_POINT}")).ok();
    let beside = host.host.scratch().join("table");
    let bound = format!(
        "mkdir -p {0}; mount --bind {MOUNT_POINT} {0}; mount -t proc proc /proc; mount --bind {0} {MOUNT_POINT}",
        beside.display()
    );
    let container = Namespace::container(&bound);
    container.binfmt(&["--install", "arm64"]).ok().says("arm64 OK");
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

#[test]
fn installs_at_once_on_the_host_all_work() {
    let Some(machine) = Machine::take() else { return };
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
    let Some(machine) = Machine::take() else { return };
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
    let Some(machine) = Machine::take() else { return };
    let namespace = Namespace::new();
    namespace.binfmt(&["--install", "arm64"]).ok();
    namespace.binfmt(&["--install", "riscv64", "--credentials", "no"]).ok();
    let status = namespace.binfmt(&["--status", "--format", "json"]).ok();
    let json = status.json();
    let setuid = |platform: &str| {
        json["platforms"].as_array().unwrap().iter().find(|p| p["platform"] == platform).unwrap()["setuid"].as_bool()
    };
    assert_eq!(setuid("linux/arm64"), Some(true), "{status}");
    assert_eq!(setuid("linux/riscv64"), Some(false), "{status}");
    let held = namespace.sh(&format!("setpriv --no-new-privs -- {BINFMT} --status arm64 --format json"));
    assert!(held.ok().stdout.contains("\"setuid\": null"), "not to be seen");
    namespace.binfmt(&["--uninstall", "all"]).ok();
    machine.is_clean();
}

#[test]
fn a_user_without_privilege_changes_nothing_and_is_told_so() {
    let Some(machine) = Machine::take() else { return };
    let refused = Unprivileged::new().binfmt("--install arm64").ends(1);
    refused.ends_saying(&["permission denied", "run as root"]);
    machine.is_clean();

    let host = Namespace::host();
    host.binfmt(&["--install", "arm64"]).ok();
    let before = host.host.table();
    let user = Unprivileged::new();
    for options in ["--install riscv64", "--uninstall arm64", "--uninstall all"] {
        user.binfmt(options).ends(1).ends_saying(&["permission denied", "run as root"]);
        assert_eq!(host.host.table(), before, "{options}");
    }
}

/// Asking for what is there already changes nothing, so it takes no privilege to be told so.
#[test]
fn what_is_in_place_is_in_place_for_a_user_without_privilege_too() {
    let Some(_machine) = Machine::take() else { return };
    let host = Namespace::host();
    host.binfmt(&["--install", "arm64"]).ok();
    let user = Unprivileged::new();
    let install = user.binfmt("--install arm64").ok();
    install.says("already installed");
    let hold = user.binfmt("--hold --install arm64").ends(1);
    hold.never_says("holding: ").ends_saying(&["permission denied", "run as root"]);
    user.binfmt("--uninstall riscv64").ok().says("not found");
}

/// Nothing is mounted where the user could see it, so there is no entry that could be opened and refused.
#[test]
fn an_uninstall_that_cannot_see_the_table_does_not_call_it_done() {
    let Some(machine) = Machine::take() else { return };
    Namespace::new().binfmt(&["--install", "arm64"]).ok();
    let user = Unprivileged::new();
    user.binfmt("--uninstall arm64").ends(1).ends_saying(&["permission denied", "run as root"]);
    machine.runs("arm64");
}

/// systemd's automount, when nobody answers for it: the other end of its pipe is closed.
#[test]
fn an_automount_that_does_not_come_up_is_named() {
    let Some(_machine) = Machine::take() else { return };
    let _ = Command::new("modprobe").args(["--quiet", "autofs4"]).status();
    let known = fs::read_to_string("/proc/filesystems").unwrap();
    if !known.contains("\tautofs\n") {
        return cannot_run("it needs a kernel with autofs");
    }
    let options = "fd=1,pgrp=$$,minproto=5,maxproto=5,direct";
    let setup = format!("mount -t autofs -o {options} none {MOUNT_POINT} | true");
    let namespace = Namespace::with(&[], &setup);
    for args in [["--install", "arm64"], ["--uninstall", "arm64"]] {
        let refused = namespace.binfmt(&args).ends(1);
        refused.ends_saying(&["automount", "systemctl restart proc-sys-fs-binfmt_misc.automount"]);
    }
    namespace.binfmt(&[]).ok();
}

//! What the tool says, and what the kernel then does, on kernels from the oldest that Debian still serves
//! to the newest, each booted in a virtual machine ([`harness::vm`]).
//!
//! Where kernels differ, a test says from which version on, and what it rests on; the versions themselves are those that
//! `make test-kernels` has brought, or of them the oldest and the newest where `BINFMT_TEST_MACHINES` does not ask for
//! `all`. One kernel's failure names it.

#[path = "../harness/mod.rs"]
mod harness;
mod linux73;

use std::panic::{self, AssertUnwindSafe};

use harness::Output;
use harness::vm::{Kernel, Vm};

/// Since it, the kernel tells an interpreter that argv\[0\] is preserved (`AT_FLAGS_PRESERVE_ARGV0`).
const TELLS_ARGV0: (u32, u32) = (5, 12);
/// Since it, the handlers end with the last mount of their table. Debian's 6.1 has it from a stable release.
const ENDS_WITH_MOUNT: (u32, u32) = (6, 1);
/// Since it, a user namespace may have a table of its own.
const TABLE_FOR_NAMESPACE: (u32, u32) = (6, 7);

const PROGRAM: &str = "/arm64/busybox uname -m";
const TABLE: &str = "/proc/sys/fs/binfmt_misc";
/// The kernel takes down a namespace's mounts when it gets to it: soon.
const UNTIL_TEARDOWN: &str = "sleep 3";
/// Fails if the program still runs after 20 seconds.
const UNTIL_ENDED: &str =
    "for i in $(seq 40); do /arm64/busybox uname -m 2>/dev/null || exit 0; sleep 0.5; done; exit 1";

#[test]
fn a_host_goes_from_bare_to_installed_upgraded_and_bare_again() {
    on_each_kernel(|kernel| {
        let mut vm = Vm::boot(kernel, "");
        vm.sh("cat /proc/modules").ok().prints_no("binfmt_misc");
        vm.sh("QEMU_BINARY_PATH=/old binfmt --install arm64").ok().says("arm64 OK (qemu-aarch64 7.");
        vm.sh(PROGRAM).ok().prints("aarch64");

        vm.binfmt("--install arm64").ok().says("upgraded");
        vm.binfmt("--install arm64").ok().says("already installed");
        vm.sh(PROGRAM).ok().prints("aarch64");
        vm.sh(&format!("chroot /arm64 {}", "/busybox true")).ok();

        let status = vm.binfmt("--status --format json").ok();
        let argv0 = platform(&status, "linux/arm64")["argv0"].as_bool();
        assert_eq!(argv0, Some(kernel.version >= TELLS_ARGV0), "{status}");
        let called = vm.sh("sh -c 'exec -a uname /arm64/busybox -m'");
        assert_eq!(called.status == 0, argv0 == Some(true), "{called}");

        vm.binfmt("--uninstall all").ok();
        assert_ne!(vm.sh(PROGRAM).status, 0);
        assert!(is_bare(&mut vm), "the mount is left");

        vm.sh("rm /usr/bin/qemu-*").ok();
        let single = "/single-file/binfmt";
        vm.sh(&format!("{single} --install all")).ok().says("arm64 OK");
        vm.sh(PROGRAM).ok().prints("aarch64");
        vm.sh(&format!("{single} --install all")).ok().says("already installed");
        vm.sh(&format!("{single} --uninstall all")).ok();
        assert!(is_bare(&mut vm), "the mount is left");
    });
}

#[test]
fn what_is_said_of_the_time_after_is_what_comes() {
    let hidden = "umount -l /sys;";
    let covered = "mount -t tmpfs none /sys;";
    on_each_kernel(|kernel| {
        let mut vm = Vm::boot(kernel, "");
        for (setup, options, stays) in
            [("", "", true), ("", "--anchor never", false), (hidden, "", false), (covered, "", false)]
        {
            stays_as_said(&mut vm, kernel, (setup, options, stays));
        }
    });
}

/// Lockdown forbids tracefs, and with it the anchor, from its stricter mode on.
#[test]
fn lockdown_is_no_reason_to_promise_what_does_not_come() {
    on_each_kernel(|kernel| {
        let mut strict = Vm::boot(kernel, "lockdown=confidentiality");
        stays_as_said(&mut strict, kernel, ("", "", false));
        let mut lenient = Vm::boot(kernel, "lockdown=integrity");
        stays_as_said(&mut lenient, kernel, ("", "", true));
    });
}

/// An install in a mount namespace that ends with it. `stays`: there is nothing in the anchor's way.
fn stays_as_said(vm: &mut Vm, kernel: &Kernel, (setup, options, stays): (&str, &str, bool)) {
    let install = format!("unshare -m sh -ec '{setup} binfmt --install arm64 {options}'");
    let installed = vm.sh(&install).says("installing: arm64 OK");
    if stays {
        installed.clone().ok();
    } else {
        installed.clone().ends(1).says("these handlers may end with this container or mount namespace");
    }
    if stays || kernel.version < ENDS_WITH_MOUNT {
        vm.sh(UNTIL_TEARDOWN).ok();
        vm.sh(PROGRAM).ok().prints("aarch64");
    } else {
        vm.sh(UNTIL_ENDED).ok();
    }
    vm.binfmt("--uninstall all").ok();
    vm.sh(UNTIL_ENDED).ok();
    assert!(is_bare(vm), "{install}");
}

#[test]
fn a_kernel_without_binfmt_misc_is_named_with_its_remedy() {
    on_each_kernel(|kernel| {
        let mut vm = Vm::without_module(kernel);
        for options in ["--install arm64", "--uninstall all"] {
            vm.binfmt(options).ends(1).ends_saying(&["no binfmt_misc", "modprobe binfmt_misc"]);
        }
        vm.binfmt("--status arm64").ends(1).ends_saying(&["linux/arm64"]);
        vm.binfmt("").ok().prints("linux/amd64");
        assert!(is_bare(&mut vm));
    });
}

#[test]
fn a_table_that_cannot_be_written_or_is_off_is_named_and_left_alone() {
    on_each_kernel(|kernel| {
        let mut vm = Vm::boot(kernel, "");
        vm.sh(&format!("mount -t binfmt_misc none {TABLE}")).ok();
        vm.binfmt("--install arm64").ok();
        vm.sh(&format!("mount -o remount,ro {TABLE}")).ok();
        for options in ["--install riscv64", "--uninstall arm64"] {
            vm.binfmt(options).ends(1).ends_saying(&["read-only mount", "mount -o remount,rw"]);
        }
        vm.binfmt("--status arm64").ok();
        vm.sh(PROGRAM).ok().prints("aarch64");
        vm.sh(&format!("mount -o remount,rw {TABLE}; echo 0 >{TABLE}/status")).ok();
        for options in ["--install riscv64", "--status arm64"] {
            vm.binfmt(options).ends(1).says("switched off");
        }
        vm.sh(&format!("echo 1 >{TABLE}/status; {PROGRAM}")).ok();
    });
}

#[test]
fn a_user_namespace_gets_a_table_where_the_kernel_has_one_for_it() {
    on_each_kernel(|kernel| {
        let mut vm = Vm::boot(kernel, "");
        let install = format!("binfmt --install arm64 --mount {TABLE}");
        let inside = vm.sh(&format!("unshare -Urm sh -c '{install} && {PROGRAM}'"));
        if kernel.version >= TABLE_FOR_NAMESPACE {
            inside.prints("aarch64");
        } else {
            inside.ends(1).ends_saying(&["needs Linux 6.7", "run it on the host"]);
        }
        assert_ne!(vm.sh(PROGRAM).status, 0, "outside of it");
        assert!(is_bare(&mut vm));
    });
}

fn on_each_kernel(test: impl Fn(&Kernel)) {
    for kernel in Kernel::chosen() {
        let tested = panic::catch_unwind(AssertUnwindSafe(|| test(&kernel)));
        assert!(tested.is_ok(), "on Linux {} of {}; see above", kernel.release, kernel.debian);
    }
}

/// Whether nothing is mounted, nothing is anchored, and the kernel has had no reason to complain.
fn is_bare(vm: &mut Vm) -> bool {
    let mounts = vm.sh("cat /proc/mounts").ok().stdout;
    let definitions = "mkdir -p /tmp/trace; mount -t tracefs none /tmp/trace; \
        cat /tmp/trace/uprobe_events; umount /tmp/trace";
    // there are none under lockdown, and to look for them would crash the kernel
    let unless_locked = format!("grep -q confidentiality /proc/cmdline || {{ {definitions}; }}");
    let definitions = vm.sh(&unless_locked).ok().stdout;
    let log = vm.sh("dmesg").ok().prints("Linux version ").stdout;
    let complaint =
        log.lines().find(|line| ["BUG:", "Oops", "WARNING:", "cut here"].iter().any(|word| line.contains(word)));
    assert_eq!(complaint, None, "the kernel was harmed");
    !mounts.contains("binfmt_misc") && !definitions.contains("binfmt")
}

fn platform(status: &Output, platform: &str) -> serde_json::Value {
    let json = status.json();
    let platforms = json["platforms"].as_array().expect("platforms");
    let found = platforms.iter().find(|entry| entry["platform"] == platform);
    found.cloned().unwrap_or_else(|| panic!("no {platform} in {status}"))
}

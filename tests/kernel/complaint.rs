//! What real emulators complain of when the host keeps from them what they need: the limit is named, with
//! the command that lifts it. Limits that count for the whole machine (`vm.mmap_min_addr`, `vm.overcommit_memory`) are
//! not touched here; the unit tests of `src/emulator/complaint.rs` have their words.

use std::path::Path;

use crate::harness::fake::needs_emulators;
use crate::harness::{BINFMT, Host, Output, emulators, old_emulators};

/// Runs the tool with so many kilobytes of address space.
fn limited(host: &Host, kilobytes: u32, args: &str) -> Output {
    let script = format!("ulimit -v {kilobytes}; '{BINFMT}' {args}");
    host.program("sh").args(["-c", &script]).env("QEMU_BINARY_PATH", emulators()).run()
}

/// Too little for QEMU's buffer of translated code, which is 128 MiB.
const NO_CODE: u32 = 100_000;
/// Enough for that, and too little for the address space of a 32-bit program.
const NO_32_BIT: u32 = 1_000_000;

#[test]
fn a_limit_on_address_space_is_named() {
    needs_emulators!();
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    let output = limited(&host, NO_CODE, "--status arm64").ends(1);
    output.ends_saying(&[
        "the emulator said: qemu-aarch64: allocate",
        "limited to 100000 kB; lift the limit: ulimit -v unlimited",
    ]);
    limited(&host, NO_CODE, "--verify").ends(1).ends_saying(&["ulimit -v unlimited"]).never_says("--install");
    limited(&host, NO_CODE, "--install s390x").ends(1).ends_saying(&[
        "jit buffer",
        "ulimit -v unlimited",
        "not registered",
    ]);
    host.binfmt(&["--verify"]).ok();
}

/// With less, it does not even come to say so.
#[test]
fn a_limit_that_no_emulator_starts_under_is_named() {
    needs_emulators!();
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    for (limit, words) in [
        ("-v 20000", "limited to 20000 kB; lift the limit: ulimit -v unlimited"),
        ("-d 1000", "limited to 1000 kB; lift the limit: ulimit -d unlimited"),
    ] {
        for args in ["--status arm64", "--install s390x"] {
            let script = format!("ulimit {limit}; '{BINFMT}' {args}");
            let call = host.program("sh").args(["-c", &script]);
            call.env("QEMU_BINARY_PATH", emulators()).run().ends(1).ends_saying(&[words]).never_says("fetch it again");
        }
    }
}

/// Where the tool may have no mount namespace of its own, a probe has `/proc` in sight, and 32-bit emulators know at
/// once that there is no room.
#[test]
fn a_whole_address_space_that_cannot_be_reserved() {
    needs_emulators!();
    let host = Host::new();
    host.sh("echo 0 >/proc/sys/user/max_mnt_namespaces").ok();
    for (folder, words) in [(old_emulators(), "Unable to reserve 0x"), (emulators(), "Unable to find a guest_base")] {
        let call = |args: &[&str]| host.call(args).emulators(&folder).run();
        call(&["--install", "arm"]).ok();
        limited(&host, NO_32_BIT, "--status arm").ends(1).ends_saying(&[words, "ulimit -v unlimited"]);
    }
}

#[test]
fn a_newer_qemu_that_looks_for_a_place_until_its_time_is_up() {
    needs_emulators!();
    let host = Host::new();
    host.binfmt(&["--install", "arm,arm64"]).ok();
    limited(&host, NO_32_BIT, "--status arm64").ok();
    limited(&host, NO_32_BIT, "--status").ends(1).ends_saying(&["linux/arm does not run", "ulimit -v unlimited"]);
}

#[test]
fn the_emulator_of_another_architecture_is_to_be_installed_again() {
    needs_emulators!();
    let host = Host::new();
    host.register("qemu-aarch64", "aarch64", &emulators().join("qemu-s390x"), "POCF");
    host.binfmt(&["--status", "arm64"]).ends(1).ends_saying(&["Invalid ELF image", "binfmt --install arm64"]);
    host.binfmt(&["--install", "arm64"]).ok();
}

#[test]
fn a_complaint_counts_for_more_than_a_limit() {
    let host = Host::new();
    let folder = host.folder("crashing", &[]);
    let crashes = "fputs(\"qemu: uncaught target signal 11\\n\", stderr); abort();";
    host.compile(&folder.join("qemu-arm"), crashes);
    host.register("qemu-arm", "arm", &folder.join("qemu-arm"), "POCF");
    limited(&host, NO_32_BIT, "--status arm")
        .ends(1)
        .ends_saying(&["uncaught target signal 11", "newer QEMU"])
        .never_says("ulimit");
}

/// An install refuses to take what the kernel runs by itself, so no remedy may name one.
#[test]
fn what_spoils_a_native_platform_is_to_be_removed() {
    let host = Host::new();
    let list = host.binfmt(&["--list", "--format", "json"]).ok().json();
    let mut rows = list.as_array().expect("a list").iter();
    let runs_it = rows.any(|row| row["qemu"] == "i386" && row["state"] == "native");
    let fails = host.folder("fails", &[]).join("qemu-i386");
    host.compile(&fails, "return 7;");
    for (name, force) in [("qemu-i386", ""), ("mine", " --force")] {
        let path = if force.is_empty() { &fails } else { Path::new("/bin/false") };
        host.register(name, "i386", path, "F");
        let output = host.binfmt(&["--status", "386"]).ends(1);
        if !runs_it {
            output.ends_saying(&["binfmt --install 386"]);
            return;
        }
        let remedy = format!("--uninstall {name}{force}");
        output.ends_saying(&["native, but", &remedy]);
        host.sh(&format!("'{BINFMT}' {remedy}")).ok();
        host.binfmt(&["--status", "386"]).ok();
    }
}

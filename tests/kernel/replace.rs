//! `--install` and `--reset` where something was registered before: what is kept, what is replaced, and
//! that no program fails over it.
//!
//! Replacing by an emulator that is none is among the tests of `bad_input.rs`.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use crate::harness::fake::needs_emulators;
use crate::harness::{Host, arch, emulators, old_emulators, program, version, wait_for};
use binfmt_magic::rule::{Flags, Matcher, Rule};

/// What an install of arm64 alone makes of an empty table.
fn fresh() -> String {
    fresh_with(&[])
}

fn fresh_with(options: &[&str]) -> String {
    let host = Host::new();
    host.binfmt(&[&["--install", "arm64"], options].concat()).ok();
    host.table()
}

/// A host with an entry of this name for arm64.
fn with_entry(name: &str, folder: &Path, flags: &str) -> Host {
    let host = Host::new();
    host.register(name, "aarch64", &folder.join("qemu-aarch64"), flags);
    host
}

/// The entry in the way has no flag C, and runs a program where its libraries are: that says nothing of what QEMU's was given.
#[test]
fn another_tools_entry_in_the_way_takes_no_flag_of_qemus() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    host.sh(r"printf '%s' ':in-the-way:M:18:\xb7\x00::/bin/false:F' >/proc/sys/fs/binfmt_misc/register").ok();
    host.binfmt(&["--install", "arm64"]).ok().says("arm64 OK").never_says("flag C");
    host.sh("cat /proc/sys/fs/binfmt_misc/qemu-aarch64").ok().prints("flags: POCF");
}

#[test]
fn other_flags_are_replaced() {
    let fresh = fresh();
    for flags in ["", "P", "OC", "F", "PF", "OCF", "POF", "POC"] {
        let host = with_entry("qemu-aarch64", &emulators(), flags);
        host.binfmt(&["--install", "arm64", "--credentials", "yes"])
            .ok()
            .says("installing: arm64 OK (")
            .says("replaced qemu-aarch64)");
        assert_eq!(host.table(), fresh, "flags {flags:?}");
    }
}

/// Whoever registered a handler without flag C may have meant it: setuid programs are not given privilege unasked.
#[test]
fn a_handler_without_flag_c_stays_without_unless_told_otherwise() {
    let without = "; without flag C, as before: --credentials yes sets it)\n";
    for (flags, after) in [("", "PF"), ("P", "PF"), ("F", "PF"), ("PF", "PF"), ("POF", "POF")] {
        let host = with_entry("qemu-aarch64", &emulators(), flags);
        let before = host.table();
        let installed = host.binfmt(&["--install", "arm64"]).ok().says(without);
        let entry = host.entry("qemu-aarch64").unwrap();
        assert!(entry.contains(&format!("\nflags: {after}\n")), "{flags}: {entry}");
        if flags == after {
            installed.says("installing: arm64 already installed (qemu-aarch64; ");
            assert_eq!(host.table(), before);
        } else {
            installed.says("installing: arm64 OK (");
        }
        host.binfmt(&["--install", "arm64"]).ok().says("already installed");
        host.binfmt(&["--verify"]).ok().prints("kept: it is without flag C");
        host.binfmt(&["--verify", "--credentials", "yes"]).ends(1);
        host.runs_arm64();
    }
    // an upgrade is one all the same
    let host = with_entry("aarch64", &old_emulators(), "F");
    let output = host.binfmt(&["--install", "arm64"]).ok().says(without);
    assert!(output.line("installing: arm64 OK (upgraded ").contains("replaced aarch64"));
    assert_eq!(host.table(), fresh_with(&["--credentials", "no"]));
    // of one that runs nothing there is nothing to keep
    let host = with_entry("qemu-aarch64", Path::new("/nowhere"), "");
    host.sh("echo 0 >/proc/sys/fs/binfmt_misc/qemu-aarch64").ok();
    host.binfmt(&["--install", "arm64"]).ok().never_says("flag C");
    assert_eq!(host.table(), fresh());
}

/// What comes unasked is told.
#[test]
fn flag_c_does_not_come_silently() {
    let says = "; setuid programs get their owner's privilege from now on (flag C): --credentials no leaves it off)\n";
    let replaced = |args: &[&str], variable: &str| {
        let host = with_entry("qemu-aarch64", &emulators(), "F");
        let output = host.call(args).env("QEMU_BINARY_REPLACE", variable).run().ok();
        (output, host.table())
    };
    let one = ["--install", "arm64"];
    for (args, variable) in [
        (&["--reset", "-p", "yes", "--install", "arm64"][..], ""),
        (&["--install", "arm64", "--force"], "0"),
        (&one, "1"),
        (&one, "yes"),
    ] {
        let (output, table) = replaced(args, variable);
        output.says(says);
        assert_eq!(table, fresh(), "{args:?}");
    }
    for (args, variable) in [
        (&["--reset", "-p", "yes", "-c", "yes", "--install", "arm64"][..], ""),
        (&["--install", "arm64", "--credentials", "yes"], ""),
        (&["--install", "arm64", "--credentials", "yes"], "1"),
    ] {
        let (output, table) = replaced(args, variable);
        output.never_says("flag C");
        assert_eq!(table, fresh(), "{args:?}");
    }
    let (output, table) = replaced(&["--reset", "--credentials", "no", "--install", "arm64"], "1");
    output.never_says("flag C");
    assert_eq!(table, fresh_with(&["--credentials", "no"]));
}

/// An image with an old QEMU does not take a newer one from everybody else on the host.
#[test]
fn a_newer_emulator_stays_unless_told_otherwise() {
    let (old, new) = (version(&old_emulators()), version(&emulators()));
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    let before = host.table();
    let call = |args: &[&str], variable: &str| {
        host.call(args).emulators(&old_emulators()).env("QEMU_BINARY_REPLACE", variable).run()
    };
    let kept = format!("kept: its QEMU {new} is newer than {old}; --force replaces it");
    for list in ["arm64", "all"] {
        call(&["--install", list], "")
            .ok()
            .says(&format!("installing: arm64 already installed (qemu-aarch64, {kept})\n"));
    }
    host.binfmt(&["--uninstall", "all,-arm64"]).ok();
    assert_eq!(host.table(), before);
    // what an install leaves is in order, and nothing for an alarm
    call(&["--verify"], "").ok().prints(&kept);
    call(&["--status", "--format", "prometheus"], "")
        .ok()
        .prints("binfmt_emulator_stale{platform=\"linux/arm64\"} 0\n");
    let downgraded = format!("OK (downgraded qemu-aarch64 {new} → {old}, ");
    for (args, variable) in [
        (&["--install", "arm64", "--force"][..], ""),
        (&["--install", "arm64"], "1"),
        (&["--reset", "--install", "arm64"], ""),
        (&["--install", "arm64", "--credentials", "no"], ""),
    ] {
        host.binfmt(&["--install", "arm64", "--credentials", "yes"]).ok();
        call(args, variable).ok().says(&downgraded);
        host.runs_arm64();
    }
}

/// Nothing in the names of this one says so: the file that the kernel has pinned does.
#[test]
fn qemu_is_known_by_its_file() {
    let (old, new) = (version(&old_emulators()), version(&emulators()));
    let host = Host::new();
    let gone = host.scratch().join("gone");
    host.copy(&old_emulators().join("qemu-aarch64"), &gone);
    host.register("old-arm", "aarch64", &gone, "POCF");
    std::fs::remove_file(&gone).unwrap();
    let status = host.binfmt(&["--status", "--format", "json"]).ok().json();
    let platforms = status["platforms"].as_array().unwrap();
    let arm64 = platforms.iter().find(|one| one["entry"] == "old-arm").unwrap();
    assert_eq!(arm64["emulator"]["version"], old, "{arm64}");
    assert_eq!(arm64["emulator"]["mute"], serde_json::Value::Null);
    let verified = host.binfmt(&["--verify"]).ends(1);
    verified.prints(&format!("pinned: QEMU {old}; "));
    host.binfmt(&["--install", "arm64"]).ok().says(&format!("OK (upgraded qemu-aarch64 {old} → {new}, "));
    assert_eq!(host.table(), fresh());
}

/// What somebody else registers under the name of an entry, between the look at the table and its removal, stays.
#[test]
fn an_entry_that_was_replaced_meanwhile_stays() {
    let host = with_entry("old", &emulators(), "POCF");
    let folder = host.folder("slow", &[]);
    let slow = folder.join("qemu-aarch64");
    host.compile_emulator(&slow, "sleep(2); return argv[1][0];");
    let output = std::thread::scope(|scope| {
        let call = host.call(&["--install", "arm64"]).emulators(&folder);
        let installing = scope.spawn(|| call.run());
        wait_for(&slow);
        host.sh("cd /proc/sys/fs/binfmt_misc; echo -1 >old; echo :old:E::x::/bin/true: >register").ok();
        installing.join().unwrap()
    });
    output.ok().says("installing: arm64 OK (").never_says("replaced old");
    assert!(host.entry("old").unwrap().contains("extension .x"));
}

/// Each start of it sends the path of its program to a socket: nothing else leads out of the empty root directory.
const COUNTED: &str = r#"
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
static const volatile char version[] = "\0qemu-aarch64 version 10.9.8\nCopyright (c) 2003-2025 Fabrice Bellard";
static const volatile char name[] = "starts-of-0000000000";
int main(int argc, char **argv) {
    struct sockaddr_un address = {AF_UNIX};
    for (size_t at = 0; at < sizeof name; at++)
        address.sun_path[1 + at] = name[at];
    sendto(socket(AF_UNIX, SOCK_DGRAM, 0), argv[1], strlen(argv[1]), 0, (struct sockaddr *)&address,
        sizeof address.sun_family + sizeof name);
    return version[1] == 'q' ? argv[argc - 1][0] : 1;
}
"#;

#[test]
fn each_emulator_is_started_once() {
    let host = Host::new();
    let template = host.scratch().join("template");
    host.compile_source(&template, "-O1", COUNTED);
    let mut bytes = std::fs::read(&template).unwrap();
    let own = format!("starts-of-{:010}", std::process::id());
    let place = bytes.windows(own.len()).position(|window| window == b"starts-of-0000000000").unwrap();
    bytes[place..][..own.len()].copy_from_slice(own.as_bytes());
    let folder = host.folder("counted", &[]);
    for name in ["qemu-aarch64", "qemu-riscv64"] {
        host.executable(&folder.join(name), &bytes);
    }
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&own).unwrap()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let starts = || {
        let mut starts = Vec::new();
        let mut path = [0; 64];
        while let Ok(length) = socket.recv(&mut path) {
            starts.push(String::from_utf8_lossy(&path[..length]).into_owned());
        }
        starts.sort();
        starts
    };
    let install = |list| {
        host.call(&["--install", list]).emulators(&folder).run().ok();
        starts()
    };
    assert_eq!(install("arm64"), ["/aarch64"]);
    assert_eq!(install("arm64,riscv64"), ["/aarch64", "/riscv64"]);
    assert_eq!(install("arm64,riscv64"), ["/aarch64", "/riscv64"]);

    // a look afterwards starts one probe more, for what the kernel does with setuid programs
    host.call(&["--install", "arm64,riscv64", "--status"]).emulators(&folder).run().ok().prints("linux/riscv64");
    let started = starts();
    assert!(started.len() <= 3 && started.contains(&"/riscv64".to_owned()), "{started:?}");

    // a second attempt, for one that hangs, starts no other again
    host.compile_emulator(&folder.join("qemu-s390x"), "for (;;) pause();");
    host.call(&["--install", "all"]).emulators(&folder).run().ends(1).says("waiting for the emulators of s390x");
    assert_eq!(starts(), ["/aarch64", "/riscv64"]);
}

/// An emulator that ran at the beginning of the call says nothing about an entry that takes its programs since.
#[test]
fn what_takes_effect_during_the_call_is_what_is_told() {
    for (list, status) in [("riscv64", 0), ("arm64,riscv64", 1)] {
        let host = Host::new();
        let names = ["qemu-aarch64", "qemu-riscv64"];
        let folder = host.folder("slow", &names.map(|name| (name, emulators())));
        host.call(&["--install", "arm64,riscv64"]).emulators(&folder).run().ok();
        let slow = folder.join("qemu-riscv64");
        std::fs::remove_file(&slow).unwrap();
        host.compile_emulator(&slow, "sleep(1); return argv[argc - 1][0];");
        let output = std::thread::scope(|scope| {
            let call = host.call(&["--install", list]).emulators(&folder);
            let installing = scope.spawn(|| call.run());
            wait_for(&slow);
            host.register("newer", "aarch64", Path::new("/nowhere"), "");
            installing.join().unwrap()
        });
        let output = output.ends(status).says("installing: riscv64 OK (upgraded ");
        assert!(!output.list("supported").contains(&"linux/arm64".to_owned()), "{output}");
    }
}

#[test]
fn another_magic_is_replaced() {
    let fresh = fresh();
    let wanted = Rule::for_arch(arch("aarch64"), "", &emulators(), Flags::parse("POCF").0);
    let Matcher::Magic { magic, mask: Some(mask), .. } = wanted.matcher.clone() else {
        panic!("a magic with a mask");
    };
    let mut stricter = mask.clone();
    stricter[7] = 0xfc;
    for (what, length, mask) in
        [("stricter mask", magic.len(), stricter), ("linuxkit's 19 bytes", 19, mask[..19].to_vec())]
    {
        let host = Host::new();
        let magic = magic[..length].to_vec();
        host.register_rule(&Rule { matcher: Matcher::Magic { offset: 0, magic, mask: Some(mask) }, ..wanted.clone() });
        host.binfmt(&["--install", "arm64"]).ok().says("replaced qemu-aarch64)");
        assert_eq!(host.table(), fresh, "{what}");
    }
}

#[test]
fn another_path_is_replaced() {
    let host = Host::new();
    let folder = host.folder("elsewhere", &[("qemu-aarch64", emulators())]);
    host.call(&["--install", "arm64"]).emulators(&folder).run().ok();
    host.binfmt(&["--install", "arm64"]).ok().says("replaced qemu-aarch64)");
    assert_eq!(host.table(), fresh());
}

#[test]
fn an_old_emulator_gives_way_to_a_new_one() {
    let host = Host::new();
    let (old, new) = (version(&old_emulators()), version(&emulators()));
    assert_ne!(old, new, "two versions of QEMU are needed: run `make test-material`");
    host.call(&["--install", "arm64,arm,riscv64,s390x"])
        .emulators(&old_emulators())
        .run()
        .ok()
        .says(&format!("installing: arm64 OK (qemu-aarch64 {old}, "));
    host.binfmt(&["--install", "arm64,arm,riscv64,s390x"])
        .ok()
        .says(&format!("installing: arm64 OK (upgraded qemu-aarch64 {old} → {new}, "));
    let direct = Host::new();
    direct.binfmt(&["--install", "arm64,arm,riscv64,s390x"]).ok();
    let sorted = |host: &Host| {
        let mut names = host.entries();
        names.sort();
        names.iter().map(|name| host.entry(name)).collect::<Vec<_>>()
    };
    assert_eq!(sorted(&host), sorted(&direct));
    host.runs_arm64();
}

#[test]
fn the_same_magic_under_other_names_is_replaced() {
    let fresh = fresh();
    for names in [
        &["qemu-aarch64-static"][..],
        &["aarch64"],
        &["buildkit-qemu-aarch64"],
        &["aarch64", "qemu-aarch64-static", "qemu-aarch64"],
        &["qemu-aarch64", "qemu-aarch64-static", "arm64"],
    ] {
        let host = Host::new();
        for name in names {
            host.register(name, "aarch64", &old_emulators().join("qemu-aarch64"), "OCF");
        }
        let output = host.binfmt(&["--install", "arm64"]).ok();
        for name in names {
            assert!(output.line("installing: arm64").contains(name), "{output}");
        }
        assert_eq!(host.table(), fresh, "{names:?}");
        host.runs_arm64();
    }
}

#[test]
fn what_is_shadowed_or_broken_or_disabled_is_cleared_away() {
    let host = Host::new();
    host.register("qemu-aarch64-static", "aarch64", Path::new("/nowhere/qemu-aarch64-static"), "OC");
    host.register("qemu-aarch64", "aarch64", &old_emulators().join("qemu-aarch64"), "F");
    host.sh("echo 0 >/proc/sys/fs/binfmt_misc/qemu-aarch64").ok();
    host.binfmt(&["--install", "arm64"]).ok();
    assert_eq!(host.table(), fresh());
    host.runs_arm64();
}

#[test]
fn a_handler_for_something_else_that_holds_the_name_keeps_its_platform() {
    let host = Host::new();
    host.register("qemu-aarch64", "riscv64", &emulators().join("qemu-riscv64"), "POCF");
    assert_eq!(host.runs("riscv64").as_deref(), Ok("riscv64"));
    let output = host.binfmt(&["--install", "arm64"]);
    assert_eq!(host.runs("riscv64").as_deref(), Ok("riscv64"), "{output}");
    let arm64 = host.runs("arm64");
    assert_eq!(arm64.is_ok(), output.status == 0, "{arm64:?} and {output}");
}

#[test]
fn a_name_held_by_something_that_is_not_qemus_is_left_to_it() {
    let host = Host::new();
    host.register_line(b":qemu-aarch64:E::arm64::/bin/true:");
    let before = host.table();
    host.binfmt(&["--install", "arm64"]).ends(1).ends_saying(&["arm64", "qemu-aarch64", "--force"]);
    assert_eq!(host.table(), before);
    host.binfmt(&["--install", "arm64", "--force"]).ok();
    assert_eq!(host.table(), fresh());
}

#[test]
fn no_program_fails_while_its_handler_is_replaced() {
    let host = Host::new();
    host.call(&["--install", "arm64"]).emulators(&old_emulators()).run().ok();
    let folder = host.scratch().join("loop");
    std::fs::create_dir(&folder).unwrap();
    let loops = format!(
        "cd '{}'; touch go; for i in 1 2; do \
           (while [ -e go ]; do [ \"$('{}' echo runs 2>&1)\" = runs ] && echo >>ran.$i || echo >>failed; done) & \
         done; while [ ! -s ran.1 ] || [ ! -s ran.2 ]; do sleep 0.01; done; \
         for i in 1 2 3; do \
           for at in '{}' '{}'; do QEMU_BINARY_PATH=$at '{}' --install arm64 --force 2>>said >/dev/null || echo >>failed; done; \
         done; rm go; wait; cat ran.* | wc -l; [ ! -e failed ]",
        folder.display(),
        program("arm64").display(),
        emulators().display(),
        old_emulators().display(),
        crate::harness::BINFMT,
    );
    let output = host.sh(&loops).ok();
    let ran: u32 = output.stdout.trim().parse().unwrap();
    assert!(ran > 20, "only {ran} programs ran");
    let said = std::fs::read_to_string(folder.join("said")).unwrap();
    assert_eq!(said.matches("upgraded qemu-aarch64").count(), 3, "{said}");
    assert_eq!(said.matches("downgraded qemu-aarch64").count(), 3, "{said}");
}

/// A translator that works and is not QEMU.
fn with_rosetta() -> Host {
    let host = Host::new();
    let rosetta = host.scratch().join("rosetta");
    host.translator(&rosetta);
    host.register("rosetta", "aarch64", &rosetta, "POCF");
    host
}

#[test]
fn a_working_translator_that_is_not_qemu_is_left_alone() {
    let host = with_rosetta();
    let before = host.table();
    host.binfmt(&["--install", "arm64"])
        .ok()
        .says("installing: arm64 left to rosetta, which runs it; --force takes over\n");
    assert_eq!(host.table(), before);
    host.binfmt(&["--install", "all"]).ok().says("installing: arm64 left to rosetta");
    assert!(host.entry("qemu-aarch64").is_none());
    host.runs_arm64();
}

#[test]
fn force_takes_over_and_uninstalling_gives_back() {
    let host = with_rosetta();
    let before = host.table();
    host.binfmt(&["--install", "arm64", "--force"]).ok().says("installing: arm64 OK (");
    assert_eq!(host.entries(), ["qemu-aarch64", "rosetta"]);
    host.binfmt(&["--status", "arm64"]).ok();
    host.binfmt(&["--uninstall", "arm64"]).ok();
    assert_eq!(host.table(), before);
    host.runs_arm64();
}

#[test]
fn a_translator_that_does_not_work_is_overruled() {
    let host = Host::new();
    host.register("rosetta", "aarch64", Path::new("/nowhere/rosetta"), "OC");
    host.binfmt(&["--install", "arm64"]).ok().says("installing: arm64 OK (");
    assert_eq!(host.entries(), ["qemu-aarch64", "rosetta"]);
    host.runs_arm64();
}

#[test]
fn a_working_handler_is_kept_where_there_is_nothing_to_replace_it_with() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    let before = host.table();
    let nothing = host.folder("nothing", &[]);
    host.call(&["--install", "arm64"]).emulators(&nothing).run().ok().says("already installed (qemu-aarch64, kept: ");
    assert_eq!(host.table(), before);
}

#[test]
fn a_reset_installs_all_and_removes_what_else_is_qemus() {
    for args in [
        &["--reset"][..],
        &["--reset", "-p", "yes"],
        &["--reset", "--persistent", "yes"],
        &["--reset", "-p", "yes", "-c", "yes"],
        &["--reset", "--credential", "yes", "--persistent", "yes"],
        &["-reset"],
    ] {
        let host = Host::new();
        let folder = host.folder("two", &[("qemu-aarch64", emulators()), ("qemu-arm", emulators())]);
        host.call(&["--install", "s390x,arm"]).emulators(&old_emulators()).run().ok();
        host.register_other("jar", b"PK\x03\x04");
        host.call(args).emulators(&folder).run().ok().says("installing: arm64 OK (");
        let mut names = host.entries();
        names.sort();
        assert_eq!(names, ["jar", "qemu-aarch64", "qemu-arm"], "{args:?}");
        let arm = host.entry("qemu-arm").unwrap();
        assert!(arm.contains(folder.to_str().unwrap()), "{args:?}: {arm}");
    }
}

#[test]
fn a_reset_of_some_leaves_only_them() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64,riscv64,s390x"]).ok();
    host.binfmt(&["--reset", "--install", "arm64"])
        .ok()
        .says("installing: arm64 already installed (qemu-aarch64)")
        .says("uninstalling: qemu-riscv64 OK")
        .says("uninstalling: qemu-s390x OK");
    assert_eq!(host.entries(), ["qemu-aarch64"]);
}

#[test]
fn a_reset_leaves_one_entry_for_each_platform() {
    let host = Host::new();
    host.register("qemu-aarch64-static", "aarch64", &old_emulators().join("qemu-aarch64"), "F");
    host.register("qemu-aarch64", "aarch64", &emulators().join("qemu-aarch64"), "POCF");
    host.binfmt(&["--reset", "--install", "arm64"]).ok();
    assert_eq!(host.entries(), ["qemu-aarch64"]);
}

/// The others would be removed, and nothing would run instead.
#[test]
fn a_reset_that_installs_nothing_or_not_all_removes_nothing() {
    let host = Host::new();
    host.binfmt(&["--install", "riscv64,s390x"]).ok();
    let before = host.table();
    for list in ["amr46", "riscv64,amr46"] {
        for dry in [&["--dry-run"][..], &[]] {
            let output = host.binfmt(&[&["--reset", "--install", list], dry].concat()).ends(1);
            output.ends_saying(&["not reset, since amr46 is unknown"]);
            assert_eq!(host.table(), before, "{list} {dry:?}");
        }
    }
    let folder = host.folder("bad", &[]);
    host.compile_emulator(&folder.join("qemu-aarch64"), "return 99;");
    let output = host.call(&["--reset", "--install", "arm64"]).emulators(&folder).run().ends(1);
    output.says("arm64").ends_saying(&["not reset, since nothing was installed"]);
    assert_eq!(host.table(), before);
}

#[test]
fn a_reset_with_bad_emulators_keeps_what_works() {
    let host = Host::new();
    let folder = host.folder("bad", &[]);
    host.executable(&folder.join("qemu-aarch64"), b"");
    host.call(&["--install", "arm64"]).emulators(&old_emulators()).run().ok();
    host.call(&["--reset", "-p", "yes"]).emulators(&folder).run().ends(1).says("is empty");
    host.runs_arm64();
}

#[test]
fn an_emulator_that_changed_at_its_path_is_replaced() {
    let host = Host::new();
    let folder = host.folder("image", &[("qemu-aarch64", old_emulators())]);
    let install = || host.call(&["--install", "arm64"]).emulators(&folder).run().ok();
    install().says(&format!("OK (qemu-aarch64 {}", version(&old_emulators())));
    install().says("already installed");
    std::fs::remove_file(folder.join("qemu-aarch64")).unwrap();
    host.copy(&emulators().join("qemu-aarch64"), &folder.join("qemu-aarch64"));
    let (old, new) = (version(&old_emulators()), version(&emulators()));
    install().says(&format!("OK (upgraded qemu-aarch64 {old} → {new}, "));
    install().says("already installed");
    assert_eq!(host.entries(), ["qemu-aarch64"]);
    host.runs_arm64();
}

#[test]
fn another_file_of_the_same_bytes_is_the_same_emulator() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    let (emulator, copy) = (emulators().join("qemu-aarch64"), host.scratch().join("copy"));
    host.copy(&emulator, &copy);
    // another file at the path that is registered, as in another container from one image
    let install = format!(
        "mount --bind '{}' '{}'; QEMU_BINARY_PATH='{}' '{}' --install arm64",
        copy.display(),
        emulator.display(),
        emulators().display(),
        crate::harness::BINFMT,
    );
    let with_copy = || host.program("unshare").args(["--mount", "sh", "-ec", &install]).run();
    let table = host.table();
    with_copy().ok().says("arm64 already installed (qemu-aarch64)");
    assert_eq!(host.table(), table);

    let last = std::fs::metadata(&copy).unwrap().len() - 1;
    let file = std::fs::OpenOptions::new().write(true).open(&copy).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"!", last).unwrap();
    drop(file);
    with_copy().ok().says(", another build, ");
    with_copy().ok().says("arm64 already installed (qemu-aarch64)");
}

#[test]
fn what_is_to_be_kept_is_left_as_it_is() {
    let host = Host::new();
    host.call(&["--install", "arm64"]).emulators(&old_emulators()).run().ok();
    let table = host.table();
    host.binfmt(&["--install", "arm64,riscv64", "--keep"])
        .ok()
        .says("arm64 already installed (qemu-aarch64, kept: it has another emulator)")
        .says("riscv64 OK (qemu-riscv64");
    host.binfmt(&["--uninstall", "riscv64"]).ok();
    assert_eq!(host.table(), table);
    host.binfmt(&["--reset", "--keep"]).ends(2);
}

#[test]
fn a_program_runs_across_an_upgrade() {
    needs_emulators!();
    let host = Host::new();
    let install = host.call(&["--install", "arm64"]);
    install.emulators(&old_emulators()).run().ok();
    let (folder, busybox) = (host.folder("run", &[]), program("arm64"));
    let script = format!(
        "cd '{}'; mkfifo in out; '{}' sh -c 'echo before; read -r line; echo $line $(uname -m)' <in >out & \
         exec 3>in 4<out; read -r said <&4; echo $said; readlink /proc/$!/exe; '{}' --install arm64 2>&1 >/dev/null; \
         readlink /proc/$!/exe; echo after >&3; cat <&4; wait $!",
        folder.display(),
        busybox.display(),
        crate::harness::BINFMT,
    );
    let command = host.sh(&format!("export QEMU_BINARY_PATH='{}'; {script}", emulators().display()));
    let output = command.ok().stdout;
    let lines: Vec<&str> = output.lines().collect();
    let [before, ran, upgraded, runs, after] = lines[..] else {
        panic!("{output}");
    };
    assert_eq!((before, after), ("before", "after aarch64"), "{output}");
    assert!(upgraded.contains("upgraded qemu-aarch64"), "{output}");
    assert_eq!(ran, runs, "{output}");
}

#[test]
fn a_stand_in_that_a_killed_call_left_goes() {
    let host = Host::new();
    let emulator = emulators().join("qemu-aarch64");
    host.register("qemu-aarch64.next", "aarch64", &emulator, "POCF");
    host.register("qemu-aarch64", "aarch64", &emulator, "POCF");
    host.binfmt(&["--install", "arm64"]).ok().says("already installed (qemu-aarch64)");
    assert_eq!(host.entries(), ["qemu-aarch64"]);
    host.runs_arm64();
}

#[test]
fn a_reset_without_emulators_removes_nothing() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64,s390x"]).ok();
    let before = host.table();
    host.call(&["--reset"])
        .emulators(Path::new("/nonexistent"))
        .run()
        .ends(1)
        .ends_saying(&["/nonexistent", "QEMU_BINARY_PATH"]);
    assert_eq!(host.table(), before);
}

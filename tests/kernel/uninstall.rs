//! `--uninstall`: what goes, and what stays whatever the pattern.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;

use binfmt_magic::rule::{Flags, Matcher, Rule};

use crate::harness::{BINFMT, Host, MOUNT_POINT, Output, arch, emulators, wait_for};

/// Entries that people have and that are not QEMU's, with a magic of theirs.
const OTHERS: [(&str, &[u8]); 6] = [
    ("WSLInterop", b"MZ"),
    ("WSLInterop-late", b"MZ\x90"),
    ("python3.12", b"\xcb\x0d\x0d\x0a"),
    ("jar", b"PK\x03\x04"),
    ("rosetta", b"\xcf\xfa\xed\xfe"),
    ("llvm-16-runtime.binfmt", b"BC\xc0\xde"),
];

fn with_others() -> Host {
    let host = Host::new();
    for (name, magic) in OTHERS {
        host.register_other(name, magic);
    }
    host
}

fn with(list: &str) -> Host {
    let host = with_others();
    host.binfmt(&["--install", list]).ok();
    host
}

fn remaining(host: &Host) -> Vec<String> {
    let mut names = host.entries();
    names.retain(|name| OTHERS.iter().all(|(other, _)| other != name));
    names.sort();
    names
}

fn others_are_there(host: &Host) {
    for (name, _) in OTHERS {
        assert!(host.entry(name).is_some(), "{name} is gone");
    }
}

#[test]
fn architectures_names_and_patterns_remove_what_they_mean() {
    for (list, gone) in [
        ("arm64", &["qemu-aarch64"][..]),
        ("aarch64", &["qemu-aarch64"]),
        ("qemu-aarch64", &["qemu-aarch64"]),
        ("linux/arm64", &["qemu-aarch64"]),
        ("linux/arm64/v8", &["qemu-aarch64"]),
        ("arm", &["qemu-arm"]),
        ("arm/v7", &["qemu-arm"]),
        ("armhf,armel", &["qemu-arm"]),
        ("arm64,s390x", &["qemu-aarch64", "qemu-s390x"]),
        ("arm64, S390X ,", &["qemu-aarch64", "qemu-s390x"]),
        ("qemu-a*", &["qemu-aarch64", "qemu-arm"]),
        ("qemu-?390x", &["qemu-s390x"]),
        ("*-arm", &["qemu-arm"]),
        ("qemu-[as]*", &["qemu-aarch64", "qemu-arm", "qemu-s390x"]),
        ("qemu-*", &["qemu-aarch64", "qemu-arm", "qemu-s390x"]),
        ("*", &["qemu-aarch64", "qemu-arm", "qemu-s390x"]),
        ("all", &["qemu-aarch64", "qemu-arm", "qemu-s390x"]),
        ("All", &["qemu-aarch64", "qemu-arm", "qemu-s390x"]),
        ("riscv64", &[]),
        ("nosuchthing", &[]),
    ] {
        let host = with("arm64,arm,s390x");
        let output = host.binfmt(&["--uninstall", list]).ok();
        let mut expected = vec!["qemu-aarch64", "qemu-arm", "qemu-s390x"];
        expected.retain(|name| !gone.contains(name));
        assert_eq!(remaining(&host), expected, "{output}");
        others_are_there(&host);
    }
}

#[test]
fn what_was_done_is_said_in_the_incumbents_words() {
    let host = with("arm64,s390x,riscv64");
    let output = host.binfmt(&["--uninstall", "arm64,qemu-s390x,386,nosuchthing"]).ok();
    assert_eq!(
        output.stderr,
        "uninstalling: arm64 OK (qemu-aarch64)\n\
         uninstalling: qemu-s390x OK\n\
         uninstalling: 386 not found\n\
         uninstalling: nosuchthing not found\n"
    );
    let output = host.binfmt(&["--uninstall", "qemu-*"]).ok();
    assert_eq!(output.stderr, "uninstalling: qemu-riscv64 OK\n");
}

#[test]
fn nothing_to_remove_is_no_failure() {
    for list in ["qemu-*", "all", "arm64", "qemu-aarch64", "nosuchthing"] {
        let host = with_others();
        let output = host.binfmt(&["--uninstall", list]).ok();
        assert!(!output.stderr.contains(" OK"), "{output}");
        others_are_there(&host);
    }
    Host::new().binfmt(&["--uninstall", "qemu-*"]).ok();
}

#[test]
fn all_entries_of_an_architecture_go() {
    let host = with_others();
    for name in ["aarch64", "qemu-aarch64-static", "buildkit-qemu-aarch64", "qemu-aarch64"] {
        host.register(name, "aarch64", &emulators().join("qemu-aarch64"), "F");
    }
    host.register("qemu-broken", "aarch64", Path::new("/nowhere/qemu-aarch64"), "");
    host.sh("echo 0 >/proc/sys/fs/binfmt_misc/qemu-aarch64-static").ok();
    host.binfmt(&["--uninstall", "arm64"]).ok();
    assert_eq!(remaining(&host), [""; 0]);
    others_are_there(&host);
}

#[test]
fn what_is_not_qemus_stays_whatever_the_pattern() {
    let host = with("arm64");
    let before = host.table();
    for list in ["WSL*", "*Interop*", "python*,jar*", "?ar", "ros*", "llvm-*"] {
        let output = host.binfmt(&["--uninstall", list]).ok();
        assert_eq!(host.table(), before, "{output}");
    }
}

#[test]
fn what_is_not_qemus_is_named_when_it_was_named() {
    let host = with("arm64");
    let before = host.table();
    for (name, _) in OTHERS {
        host.binfmt(&["--uninstall", name]).ends(1).ends_saying(&[name, "kept: ", "--force"]);
        assert_eq!(host.table(), before);
    }
}

#[test]
fn one_that_stays_does_not_keep_the_others() {
    let host = with("arm64,s390x");
    host.binfmt(&["--uninstall", "jar,arm64,s390x"]).ends(1).ends_saying(&["jar", "--force"]);
    assert_eq!(remaining(&host), [""; 0]);
    others_are_there(&host);
}

#[test]
fn force_removes_what_was_named_and_nothing_more() {
    let host = with("arm64");
    host.binfmt(&["--uninstall", "jar", "--force"]).ok().says("uninstalling: jar OK");
    assert!(host.entry("jar").is_none());
    assert_eq!(host.entries().len(), OTHERS.len());
    host.binfmt(&["--uninstall", "WSL*", "--force"]).ok();
    assert!(host.entry("WSLInterop").is_none() && host.entry("WSLInterop-late").is_none());
    assert!(host.entry("python3.12").is_some());
    host.binfmt(&["--uninstall", "*", "--force"]).ok();
    assert_eq!(host.table(), "");
}

#[test]
fn a_foreign_translator_keeps_its_platform() {
    let host = Host::new();
    let rosetta = host.scratch().join("rosetta");
    host.translator(&rosetta);
    host.register("rosetta", "aarch64", &rosetta, "POCF");
    let before = host.table();
    for list in ["arm64", "all", "*", "qemu-*"] {
        host.binfmt(&["--uninstall", list]).ok();
        assert_eq!(host.table(), before, "{list}");
    }
    assert_eq!(host.runs("arm64").as_deref(), Ok("aarch64"));
    host.binfmt(&["--uninstall", "arm64", "--force"]).ok();
    assert_eq!(host.table(), "");
}

#[test]
fn an_architecture_is_not_another_one_whose_name_begins_or_ends_so() {
    let host = with("arm64,arm,mips64le,ppc64le,ppc64");
    host.binfmt(&["--install", "aarch64_be,mips,mipsn32"]).ok();
    for (list, gone) in
        [("arm", "qemu-arm"), ("aarch64", "qemu-aarch64"), ("mips", "qemu-mips"), ("ppc64", "qemu-ppc64")]
    {
        let mut expected = remaining(&host);
        expected.retain(|name| name != gone);
        host.binfmt(&["--uninstall", list]).ok();
        assert_eq!(remaining(&host), expected, "{list}");
    }
}

#[test]
fn a_removed_platform_no_longer_runs_and_is_no_longer_supported() {
    let host = with("arm64,s390x");
    let output = host.binfmt(&["--uninstall", "arm64"]).ok();
    assert!(host.runs("arm64").is_err());
    assert_eq!(host.runs("s390x").as_deref(), Ok("s390x"));
    let supported = output.list("supported");
    assert!(!supported.contains(&"linux/arm64".into()), "{output}");
    assert!(supported.contains(&"linux/s390x".into()), "{output}");
}

#[test]
fn several_lists_add_up() {
    let host = with("arm64,s390x,riscv64");
    host.binfmt(&["--uninstall", "arm64", "--uninstall", "s390x"]).ok();
    assert_eq!(remaining(&host), ["qemu-riscv64"]);
}

#[test]
fn names_that_are_odd_are_removed_all_the_same() {
    let host = with_others();
    for name in ["qemu-odd name", "qemu-\u{fc}", "qemu-\"quoted\"", "qemu-[x]", "qemu-a\tb"] {
        host.register(name, "aarch64", &emulators().join("qemu-aarch64"), "F");
    }
    let output = host.binfmt(&["--uninstall", "qemu-*"]).ok();
    assert_eq!(remaining(&host), [""; 0], "{output}");
    assert_eq!(output.stderr.lines().count(), 5, "{output}");
    others_are_there(&host);
}

#[test]
fn it_works_on_a_table_that_is_switched_off() {
    let host = with("arm64");
    host.sh("echo 0 >/proc/sys/fs/binfmt_misc/status").ok();
    host.binfmt(&["--uninstall", "arm64"]).ok();
    assert_eq!(remaining(&host), [""; 0]);
}

#[test]
fn what_a_list_excludes_stays() {
    for list in ["all,-arm64", "-arm64,all", "qemu-*,!aarch64", "all,-qemu-aarch64"] {
        let host = Host::new();
        host.binfmt(&["--install", "arm64,s390x"]).ok();
        host.binfmt(&["--uninstall", list]).ok();
        assert_eq!(host.entries(), ["qemu-aarch64"], "{list}");
    }
}

/// What somebody else's handler runs, runs on, and that is said.
#[test]
fn an_architecture_that_another_translator_runs_is_left_to_it() {
    let host = with_others();
    let translator = host.scratch().join("translator");
    host.translator(&translator);
    host.register("translator", "aarch64", &translator, "F");
    host.binfmt(&["--uninstall", "arm64"])
        .ok()
        .says("uninstalling: arm64 not found; translator, which is not QEMU's, runs it; --force");
    host.runs_arm64();
    // of a handler that is off nothing runs
    host.sh("echo 0 >/proc/sys/fs/binfmt_misc/translator").ok();
    host.binfmt(&["--uninstall", "arm64"]).ok().says("uninstalling: arm64 not found\n");
    host.binfmt(&["--uninstall", "arm64", "--force"]).ok();
    assert_eq!(remaining(&host), [""; 0]);
}

#[test]
fn what_is_not_found_is_said_with_what_may_have_been_meant() {
    let host = with("arm64");
    host.binfmt(&["--uninstall", "arm46,amr*,my-handler,arm/v99,ja*"])
        .ends(1)
        .ends_saying(&["arm/v99", "unsupported variant", "known are v5", "1 more, above"])
        .never_says("ja*")
        .says("uninstalling: arm46 not found; did you mean arm64, ")
        .says("uninstalling: amr* not found\n")
        .says("uninstalling: my-handler not found\n");
    assert_eq!(remaining(&host), ["qemu-aarch64"]);
    host.binfmt(&["--uninstall", "arm46"]).ends(1).ends_saying(&["cannot uninstall arm46", "did you mean arm64"]);
    // what may be the name of an entry that is gone already is no mistake
    host.binfmt(&["--uninstall", "amr*,my-handler,qemu-foo"]).ok();
    Host::with(&["--user", "--map-root-user", "--mount"], "")
        .binfmt(&["--uninstall", "arm46"])
        .ends(1)
        .ends_saying(&["cannot uninstall arm46", "did you mean arm64"]);
}

/// Letters in a path make nobody QEMU's.
#[test]
fn only_qemus_user_emulators_go() {
    for list in ["all", "*", "mytool,qcow2,vm"] {
        let host = Host::new();
        host.register_line(b":mytool:M::MYTL::/opt/vendor/xqemu-run:");
        host.register_line(br":qcow2:M::QFI\xfb::/usr/bin/qemu-img:");
        host.register("vm", "aarch64", Path::new("/usr/bin/qemu-system-aarch64"), "");
        let before = host.table();
        host.binfmt(&["--uninstall", list]);
        assert_eq!(host.table(), before, "{list}");
        host.binfmt(&["--reset", "--install", "riscv64"]).ok();
        assert_eq!(host.entries(), ["qemu-riscv64", "vm", "qcow2", "mytool"]);
    }
}

/// Nothing in the names of this one says so: the file that the kernel has pinned does.
#[test]
fn qemu_is_known_by_its_file() {
    for list in ["all", "*", "arm", "old-arm"] {
        let host = with_others();
        let gone = host.scratch().join("gone");
        host.copy(&emulators().join("qemu-arm"), &gone);
        host.register("old-arm", "arm", &gone, "PF");
        std::fs::remove_file(&gone).unwrap();
        host.binfmt(&["--uninstall", list]).ok().says("old-arm");
        assert_eq!(remaining(&host), [""; 0], "{list}");
        others_are_there(&host);
    }
}

/// What somebody else registers under the name of an entry, between the look at the table and its removal, stays.
#[test]
fn an_entry_that_was_replaced_meanwhile_stays() {
    let host = with("arm64,riscv64");
    let slow = host.scratch().join("slow");
    host.compile(&slow, "sleep(3); return 0;");
    host.register("slow", "s390x", &slow, "F");
    let output = std::thread::scope(|scope| {
        let uninstalling = scope.spawn(|| host.binfmt(&["--uninstall", "all"]));
        wait_for(&slow);
        host.sh("cd /proc/sys/fs/binfmt_misc; echo -1 >qemu-aarch64; echo :qemu-aarch64:E::x::/bin/true: >register")
            .ok();
        uninstalling.join().unwrap()
    });
    output.ends(1).says("uninstalling: qemu-riscv64 OK\n").ends_saying(&[
        "cannot uninstall qemu-aarch64",
        "an entry of this name was registered meanwhile, and is kept; uninstall again",
    ]);
    assert!(host.entry("qemu-aarch64").unwrap().contains("extension .x"));
}

/// A new entry is judged by its own text. If that does not tell, it is looked at, too.
#[test]
fn what_is_registered_during_the_look_is_not_judged_by_what_was_there() {
    let host = with("arm64,riscv64");
    let file = |name| host.scratch().join(name);
    let (slow, unnamed, translator) = (file("slow"), file("unnamed"), file("translator"));
    host.translator(&translator);
    host.compile(&slow, "sleep(3); return 0;");
    host.copy(&emulators().join("qemu-arm"), &unnamed);
    host.register("slow", "s390x", &slow, "F");
    let output = std::thread::scope(|scope| {
        let uninstalling = scope.spawn(|| host.binfmt(&["--uninstall", "all"]));
        wait_for(&slow);
        host.sh("echo -1 >/proc/sys/fs/binfmt_misc/qemu-aarch64").ok();
        host.register("qemu-aarch64", "aarch64", &emulators().join("qemu-aarch64"), "F");
        host.register("unnamed", "arm", &unnamed, "F");
        host.register("translator", "mips64", &translator, "F");
        host.register_other("unrelated", b"binfmt-test");
        uninstalling.join().unwrap()
    });
    let removed = |output: Output, name| output.says(&format!("uninstalling: {name} OK\n"));
    let output = ["qemu-aarch64", "qemu-riscv64", "unnamed"].into_iter().fold(output.ok(), removed);
    output.never_says("unrelated").never_says("translator");
    assert_eq!(host.entries()[..3], ["unrelated", "translator", "slow"]);
}

/// A platform that nobody asked for may hang.
#[test]
fn a_dry_run_starts_no_handler_that_is_not_asked_for() {
    let host = with("arm64");
    let slow = host.scratch().join("slow");
    host.compile(&slow, "sleep(30); return 0;");
    host.register("slow", "s390x", &slow, "F");
    let dry = host.binfmt(&["--uninstall", "arm64", "--dry-run"]).ok().never_says("waiting for");
    assert!(dry.stdout.contains("arm64"), "{dry}");
    host.binfmt(&["--uninstall", "arm64"]).ok();
}

/// Handlers whose owner is not clear are all started at once, and the table is not locked meanwhile.
#[test]
fn no_other_call_waits_for_handlers_that_hang() {
    let host = Host::new();
    let slow = host.scratch().join("translator");
    host.compile(&slow, "sleep(4); return 0;");
    for (name, qemu) in [("mine", "riscv64"), ("other", "s390x"), ("third", "mips64")] {
        host.register(name, qemu, &slow, "F");
    }
    let mut command = host.command(BINFMT);
    command.args(["--uninstall", "riscv64,s390x,mips64"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut uninstall = command.spawn().expect("util-linux's nsenter");
    let mut lines = BufReader::new(uninstall.stderr.take().expect("a pipe")).lines().map(|line| line.expect("a text"));
    let waiting = lines.next().expect("a line");
    assert!(waiting.starts_with("waiting for an emulator to end"), "{waiting}");
    host.binfmt(&["--install", "arm64"]).ok().never_says("to unlock");
    let rest: Vec<String> = lines.collect();
    uninstall.wait().expect("its end");
    // the list at the end starts them once more
    let mut before = rest.iter().take_while(|line| !line.starts_with("uninstalling: "));
    assert!(!before.any(|line| line.starts_with("waiting for an emulator")), "{rest:?}");
    assert_eq!(host.entries(), ["qemu-aarch64", "third", "other", "mine"]);
}

/// A trial's entry takes only programs with a mark. One that takes others is somebody's, whatever its name is.
#[test]
fn an_entry_that_only_has_the_name_of_a_trials_stays_and_is_shown() {
    let host = Host::new();
    host.register("binfmt-trial-zz", "s390x", &emulators().join("qemu-s390x"), "F");
    host.binfmt(&["--install", "riscv64"]).ok();
    host.binfmt(&["--status"]).ok().prints("binfmt-trial-zz");
    host.binfmt(&["--uninstall", "riscv64"]).ok();
    assert_eq!(host.entries(), ["binfmt-trial-zz"]);
    let prefixed = host.call(&["--install", "arm64"]).env("QEMU_BINARY_PREFIX", "binfmt-trial-").run();
    prefixed.ends(1).ends_saying(&["QEMU_BINARY_PREFIX must not begin with binfmt-trial-"]);
}

#[test]
fn what_was_removed_is_told_before_something_fails() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    // left by a killed call
    let interpreter = emulators().join("qemu-s390x");
    let mut left = Rule { interpreter, ..Rule::for_arch(arch("s390x"), "", &emulators(), Flags::parse("F").0) };
    left.name = "binfmt-trial-s390x".into();
    if let Matcher::Magic { magic, .. } = &mut left.matcher {
        magic[9..16].copy_from_slice(b"binfmt!");
    }
    host.register_rule(&left);
    let trial = format!("{MOUNT_POINT}/binfmt-trial-s390x");
    let strace = ["-f", "-qq", "-o", "/dev/null", "-e", "trace=write", "-e", "inject=write:error=EIO", "-P", &trial];
    let output = host.program("strace").args(strace).args([BINFMT, "--uninstall", "arm64"]).run().ends(1);
    output.says("uninstalling: arm64 OK (qemu-aarch64)\n").ends_saying(&["binfmt-trial-s390x", "EIO"]);
    assert_eq!(host.entries(), ["binfmt-trial-s390x"]);
}

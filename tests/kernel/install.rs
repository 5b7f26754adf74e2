//! `--install` on a host that has nothing yet: what reaches the table, that the programs run, and that
//! the call leaves nothing else behind.
//!
//! What was registered before is the subject of `replace.rs`, emulators that are none of `bad_input.rs`; mount points,
//! the anchor, calls at the same time and killed calls have files of their own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::harness::MOUNT_POINT;
use crate::harness::fake::needs_emulators;
use crate::harness::{BINFMT, Host, arch, emulators, program, version};
use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::probe;

/// Debian architectures with a real program, the name to install, and what `uname -m` says there.
const PROGRAMS: [(&str, &str, &str); 7] = [
    ("arm64", "arm64", "aarch64"),
    ("armhf", "arm/v7", "armv7l"),
    ("armel", "armel", "armv7l"),
    ("riscv64", "riscv64", "riscv64"),
    ("s390x", "s390x", "s390x"),
    ("ppc64el", "ppc64le", "ppc64le"),
    ("mips64el", "mips64le", "mips64"),
];

#[test]
fn real_programs_run_after_an_install() {
    let host = Host::new();
    for (debian, _, _) in PROGRAMS {
        assert!(host.runs(debian).is_err(), "{debian} before the install");
    }
    for (_, name, _) in PROGRAMS {
        host.binfmt(&["--install", name]).ok();
    }
    for (debian, _, machine) in PROGRAMS {
        assert_eq!(host.runs(debian).as_deref(), Ok(machine), "{debian}");
    }
}

#[test]
fn every_architecture_works_through_its_own_entry() {
    let host = Host::new();
    host.binfmt(&["--install", "all"]).ok();
    let status = host.binfmt(&["--status", "--format", "json"]).ok().json();
    let platforms = status["platforms"].as_array().unwrap();
    let mut through_entries = 0;
    for platform in platforms.iter().filter(|p| p["state"] != "native") {
        let row = arch(platform["qemu"].as_str().unwrap());
        let interpreter = emulators().join(row.interpreter_name(""));
        assert_eq!(platform["state"], "works", "{platform}");
        assert_eq!(platform["argv0"], true, "{platform}");
        assert_eq!(platform["entry"], row.entry_name(""), "{platform}");
        assert_eq!(platform["interpreter"], interpreter.to_str().unwrap(), "{platform}");
        through_entries += 1;
    }
    let shown = ARCHES.iter().filter(|arch| !arch.platforms().is_empty());
    assert_eq!(platforms.len(), shown.count(), "{status}");
    assert_eq!(through_entries, host.entries().len(), "{status}");
    assert_eq!(status["others"].as_array().unwrap().len(), 0, "{status}");
}

#[test]
fn the_kernel_hands_every_program_to_exactly_its_own_interpreter() {
    let host = Host::new();
    let folder = host.folder("interpreters", &[]);
    // a handler for the host's own programs would take the shell that the stand-ins are scripts for
    let foreign = |arch: &&Arch| Some(arch.qemu) != Arch::of_host().map(|host| host.qemu);
    for arch in ARCHES.iter().filter(foreign) {
        let stand_in = format!("#!/bin/sh\necho {}\n", arch.qemu);
        let interpreter = folder.join(arch.qemu);
        host.executable(&interpreter, stand_in.as_bytes());
        host.executable(&folder.join(format!("{}.probe", arch.qemu)), &probe::elf(arch));
        host.register(arch.qemu, arch.qemu, &interpreter, "");
    }
    for arch in ARCHES.iter().filter(foreign) {
        let output = host.program(folder.join(format!("{}.probe", arch.qemu))).run();
        assert_eq!(output.stdout.trim_end(), arch.qemu, "{output}");
    }
}

#[test]
fn each_platform_gets_a_line_in_the_incumbents_words() {
    let host = Host::new();
    let output = host.binfmt(&["--install", "riscv64,arm64"]).ok();
    let starts: Vec<&str> = output.stderr.lines().map(|line| line.split(',').next().unwrap()).collect();
    let version = version(&emulators());
    assert_eq!(
        starts,
        [
            format!("installing: riscv64 OK (qemu-riscv64 {version}"),
            format!("installing: arm64 OK (qemu-aarch64 {version}"),
        ],
        "{output}"
    );
    let line = output.line("installing: arm64");
    assert!(line.ends_with(" ms)"), "{line}");
}

/// What hangs is waited for when the others are done; a line says so. One of these hangs with programs, the other always.
#[test]
fn what_hangs_does_not_keep_the_others_waiting() {
    let host = Host::new();
    let folder = host.folder("emulators", &[("qemu-aarch64", emulators())]);
    host.compile_emulator(&folder.join("qemu-riscv64"), "pause();");
    host.compile(&folder.join("qemu-s390x"), "pause();");
    let began = Instant::now();
    let mut install = host.command(BINFMT);
    let install = install.args(["--install", "riscv64,s390x,arm64"]).env("QEMU_BINARY_PATH", &folder);
    let install = install.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut install = install.spawn().expect("util-linux's nsenter");
    let stderr = BufReader::new(install.stderr.take().expect("a pipe"));
    let mut lines = stderr.lines().map(|line| line.expect("a text"));
    let line = lines.next().expect("a line");
    assert!(line.starts_with("installing: arm64 OK ("), "{line}");
    assert!(began.elapsed() < Duration::from_secs(20));
    host.runs_arm64();
    let line = lines.next().expect("a line");
    assert_eq!(line, "waiting for the emulators of riscv64, s390x, for 20 s at most");
    let rest: Vec<String> = lines.collect();
    let lines = rest.iter().filter(|line| !line.starts_with("waiting for "));
    let lines: Vec<&String> = lines.collect();
    let [riscv64, s390x] = lines[..] else {
        panic!("{rest:#?}");
    };
    assert!(riscv64.starts_with("installing: riscv64 "), "{riscv64}");
    assert!(s390x.starts_with("binfmt: s390x is not installed: "), "{s390x}");
    assert!(s390x.ends_with(" (and 1 more, above)"), "{s390x}");
    assert_eq!(install.wait().expect("a child").code(), Some(1));
    assert_eq!(host.entries(), ["qemu-aarch64"]);
}

/// By its own line, or, the last one, by the line that says what to do.
#[test]
fn each_failure_is_told_once() {
    let host = Host::new();
    let folder = host.folder("emulators", &[("qemu-aarch64", emulators())]);
    let install = |list| host.call(&["--install", list]).emulators(&folder).run().ends(1).stderr;
    let why = |arch: &str| {
        let path = folder.join(format!("qemu-{arch}"));
        format!("{} does not exist; ", path.display())
    };
    let alone = install("riscv64");
    let last = format!("binfmt: riscv64 is not installed: {}", why("riscv64"));
    assert!(alone.starts_with(&last) && alone.lines().count() == 1, "{alone}");
    let said = install("riscv64,arm64,s390x,ppc64le");
    let lines: Vec<&str> = said.lines().collect();
    let [arm64, riscv64, s390x, ppc64le] = lines[..] else {
        panic!("{said}");
    };
    assert!(riscv64.starts_with(&format!("installing: riscv64 {}", why("riscv64"))));
    assert!(arm64.starts_with("installing: arm64 OK ("));
    assert!(s390x.starts_with(&format!("installing: s390x {}", why("s390x"))));
    assert!(ppc64le.starts_with(&format!("binfmt: ppc64le is not installed: {}", why("ppc64le"))));
    assert!(ppc64le.ends_with(" (and 2 more, above)"));
}

#[test]
fn a_second_install_changes_nothing() {
    let host = Host::new();
    host.binfmt(&["--install", "all"]).ok();
    let before = host.table();
    let output = host.binfmt(&["--install", "all"]).ok();
    assert_eq!(host.table(), before);
    for line in output.stderr.lines() {
        assert!(line.contains(" already installed ("), "{output}");
    }
    assert_eq!(output.stderr.lines().count(), host.entries().len());
    host.binfmt(&["--install", "arm64"]).ok().says("installing: arm64 already installed (qemu-aarch64)\n");
    assert_eq!(host.table(), before);
}

#[test]
fn a_second_install_leaves_even_the_entrys_file_alone() {
    let host = Host::new();
    let inode = "stat -c %i /proc/sys/fs/binfmt_misc/qemu-aarch64";
    host.binfmt(&["--install", "arm64"]).ok();
    let before = host.sh(inode).ok().stdout;
    host.binfmt(&["--install", "arm64"]).ok();
    assert_eq!(host.sh(inode).ok().stdout, before);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn what_the_kernel_runs_natively_is_never_registered() {
    let host = Host::new();
    assert!(emulators().join("qemu-x86_64").exists() && emulators().join("qemu-i386").exists());
    let output = host.binfmt(&["--install", "amd64,386,linux/amd64/v3,i686,x86_64"]).ok();
    assert_eq!(output.stderr, "installing: amd64 native\ninstalling: 386 native\n");
    assert_eq!(host.table(), "");
    host.binfmt(&["--install", "amd64,386", "--force"]).ok();
    assert_eq!(host.table(), "");
    host.binfmt(&["--install", "all"]).ok();
    assert!(host.entry("qemu-x86_64").is_none() && host.entry("qemu-i386").is_none());
    assert!(host.entry("qemu-i486").is_none(), "the kernel runs these too");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_handler_that_takes_native_programs_is_reported() {
    needs_emulators!();
    let host = Host::new();
    host.register("qemu-i386", "i386", &emulators().join("qemu-i386"), "POCF");
    let before = host.table();
    host.binfmt(&["--install", "386"])
        .ok()
        .says("installing: 386 native, but qemu-i386 takes its programs")
        .says("binfmt --uninstall qemu-i386");
    assert_eq!(host.table(), before);
    let status = host.binfmt(&["--status"]);
    assert!(status.stdout.contains("qemu-i386"), "{status}");
    host.binfmt(&["--uninstall", "qemu-i386"]).ok();
    assert_eq!(host.runs("i386").as_deref(), Ok("x86_64"));
}

/// The kernel runs them without it, so it is no handler of theirs.
#[test]
fn a_switched_off_entry_for_native_programs_is_not_told_to_run_them() {
    let host = Host::new();
    host.register("qemu-i386", "i386", &emulators().join("qemu-i386"), "POCF");
    host.sh(&format!("echo 0 >{MOUNT_POINT}/qemu-i386")).ok();
    host.binfmt(&["--status", "386"]).ok().prints("native").prints_no("qemu-i386");
    host.binfmt(&["--status", "386", "--format", "prometheus"]).ok().prints_no("qemu-i386");
    host.binfmt(&["--list"]).ok().prints_no("qemu-i386");
    host.binfmt(&["--install", "386"]).ok().says("installing: 386 native").never_says("takes its programs");
    let verified =
        host.binfmt(&["--verify"]).ends(1).prints("is switched off, and would take programs that run without it");
    verified.says("binfmt --uninstall qemu-i386");
    host.binfmt(&["--uninstall", "386"]).ok();
    assert_eq!(host.table(), "");
}

#[test]
fn options_and_environment_decide_the_flags() {
    for (args, variables, flags) in [
        (&[][..], &[][..], "POCF"),
        (&["--credentials", "yes"], &[], "POCF"),
        (&["--credentials", "no"], &[], "PF"),
        (&["--credential", "no"], &[], "PF"),
        (&["-c", "no"], &[], "PF"),
        (&[], &[("QEMU_PRESERVE_ARGV0", "1")], "POCF"),
        (&[], &[("QEMU_PRESERVE_ARGV0", "")], "POCF"),
        (&[], &[("QEMU_PRESERVE_ARGV0", "0")], "OCF"),
        (&[], &[("QEMU_PRESERVE_ARGV0", "False")], "OCF"),
        (&[], &[("QEMU_BINARY_PREFIX", "")], "POCF"),
        (&["--credentials", "no"], &[("QEMU_PRESERVE_ARGV0", "0")], "F"),
    ] {
        let host = Host::new();
        let mut call = host.call(&["--install", "arm64"]).args(args);
        for (name, value) in variables {
            call = call.env(name, value);
        }
        call.run().ok();
        let entry = host.entry("qemu-aarch64").unwrap();
        assert!(entry.contains(&format!("\nflags: {flags}\n")), "{args:?} {variables:?}: {entry}");
        host.runs_arm64();
    }
}

#[test]
fn argv0_survives_unless_it_was_declined() {
    needs_emulators!();
    let host = Host::new();
    let applet = format!("exec -a uname '{}' -m", program("arm64").display());
    for (value, machine) in [("1", Some("aarch64")), ("0", None)] {
        host.call(&["--install", "arm64"]).env("QEMU_PRESERVE_ARGV0", value).run().ok();
        let output = host.program("bash").args(["-c", &applet]).run();
        let said = (output.status == 0).then(|| output.stdout.trim_end());
        assert_eq!(said, machine, "{output}");
    }
}

#[test]
fn the_prefix_is_put_before_files_and_entries() {
    let host = Host::new();
    let folder = host.folder("prefixed", &[]);
    host.copy(&emulators().join("qemu-aarch64"), &folder.join("buildkit-qemu-aarch64"));
    host.call(&["--install", "arm64"])
        .emulators(&folder)
        .env("QEMU_BINARY_PREFIX", "buildkit-")
        .run()
        .ok()
        .says("installing: arm64 OK (");
    let entry = host.entry("buildkit-qemu-aarch64").unwrap();
    let interpreter = folder.join("buildkit-qemu-aarch64");
    assert!(entry.contains(interpreter.to_str().unwrap()), "{entry}");
    host.runs_arm64();
}

#[test]
fn emulators_given_by_a_relative_path_are_registered_by_their_absolute_one() {
    let host = Host::new();
    let parent = emulators();
    let script =
        format!("cd '{}'; QEMU_BINARY_PATH=./. '{}' --install arm64", parent.display(), crate::harness::BINFMT);
    host.sh(&script).ok();
    let entry = host.entry("qemu-aarch64").unwrap();
    assert!(entry.contains("\ninterpreter /"), "{entry}");
    host.runs_arm64();
}

#[test]
fn installed_handlers_work_where_their_emulator_is_not() {
    let host = Host::new();
    let folder = host.folder("soon gone", &[("qemu-aarch64", emulators())]);
    host.call(&["--install", "arm64"]).emulators(&folder).run().ok();
    std::fs::remove_dir_all(folder).unwrap();
    host.runs_arm64();
    host.binfmt(&["--status", "arm64"]).ok();
}

#[test]
fn uninstall_and_install_in_one_call_happen_in_that_order() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64,s390x"]).ok();
    let output = host.binfmt(&["--install", "arm64", "--uninstall", "qemu-*"]).ok();
    let words: Vec<&str> = output.stderr.lines().map(|line| line.split_once(':').unwrap().0).collect();
    assert_eq!(words, ["uninstalling", "uninstalling", "installing"], "{output}");
    assert_eq!(output.list("emulators"), ["qemu-aarch64"]);
}

#[test]
fn nothing_is_installed_into_a_table_that_is_switched_off() {
    let host = Host::new();
    host.sh("echo 0 >/proc/sys/fs/binfmt_misc/status").ok();
    host.binfmt(&["--install", "arm64"])
        .ends(1)
        .ends_saying(&["switched off", "echo 1 > /proc/sys/fs/binfmt_misc/status"]);
    assert_eq!(host.table(), "");
}

/// A host that sees the processes of its own PID namespace only; the first is the one that keeps it.
fn with_its_own_processes() -> Host {
    Host::with(
        &["--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child"],
        "mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc; mount -t proc proc /proc; \
         mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc",
    )
}

fn processes(host: &Host) -> usize {
    let numbers = host.sh("set -- /proc/[0-9]*; echo $#").ok().stdout;
    // the keeper and the shell that counts
    numbers.trim().parse::<usize>().expect("a number") - 2
}

#[test]
fn a_call_leaves_no_process_and_no_file() {
    let host = with_its_own_processes();
    let liar = host.folder("liar", &[]);
    host.compile_emulator(&liar.join("qemu-aarch64"), "return 3;");
    let tmp = host.folder("tmp", &[]);
    // of the file systems that the tool mounts: others' mounts propagate, and come and go
    let mounts = "grep -E ' (binfmt_misc|tracefs|tmpfs|proc) ' /proc/self/mounts";
    let before = host.sh(mounts).ok().stdout;
    for args in [&["--install", "all"][..], &["--status"], &["--list"], &[], &["--uninstall", "all"]] {
        host.call(args).env("TMPDIR", &tmp).run().ok();
        assert_eq!(processes(&host), 0, "{args:?}");
    }
    host.call(&["--install", "arm64"]).emulators(&liar).env("TMPDIR", &tmp).run().ends(1);
    assert_eq!(processes(&host), 0, "after a failure");
    assert_eq!(std::fs::read_dir(tmp).unwrap().count(), 0);
    assert_eq!(host.sh(mounts).ok().stdout, before);
}

#[test]
fn an_emulator_that_hangs_is_given_up_and_ended() {
    let host = with_its_own_processes();
    let folder = host.folder("hanging", &[]);
    host.compile_emulator(&folder.join("qemu-aarch64"), "for (;;) pause();");
    host.call(&["--install", "arm64"])
        .emulators(&folder)
        .run()
        .ends(1)
        .ends_saying(&["arm64 is not installed", "timed out"]);
    assert_eq!(host.table(), "");
    assert_eq!(processes(&host), 0);
}

#[test]
fn an_emulator_that_never_says_its_version_is_given_up_and_ended() {
    let host = with_its_own_processes();
    let folder = host.folder("hanging", &[("qemu-riscv64", emulators())]);
    host.compile(&folder.join("qemu-aarch64"), "for (;;) pause();");
    host.call(&["--install", "arm64,riscv64"])
        .emulators(&folder)
        .run()
        .ends(1)
        .says("installing: riscv64 OK (")
        .ends_saying(&["arm64 is not installed", "qemu-aarch64"]);
    assert_eq!(host.entries(), ["qemu-riscv64"]);
    assert_eq!(processes(&host), 0);
}

#[test]
fn native_programs_taken_by_a_dead_handler_are_not_in_place() {
    let host = Host::new();
    host.register("qemu-i386", "i386", Path::new("/nowhere/qemu-i386"), "C");
    host.binfmt(&["--install", "386"]).ends(1).ends_saying(&["386", "native", "--uninstall qemu-i386"]);
    host.binfmt(&["--uninstall", "qemu-i386"]).ok();
    host.binfmt(&["--install", "386"]).ok().says("installing: 386 native");
}

#[test]
fn native_is_told_without_user_namespaces_too() {
    let host = Host::new();
    host.register("qemu-i386", "i386", &emulators().join("qemu-i386"), "POCF");
    host.sh("echo 0 >/proc/sys/user/max_user_namespaces").ok();
    host.binfmt(&["--install", "386"]).ok().says("installing: 386 native, but qemu-i386 takes its programs");
}

#[test]
fn a_table_out_of_sight_hides_nothing_that_runs() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    let inside = |args: &str| {
        let emulators = emulators();
        let script =
            format!("QEMU_BINARY_PATH='{}' unshare --pid --fork --mount-proc '{BINFMT}' {args}", emulators.display());
        host.sh(&script)
    };
    let plain = inside("").ok();
    assert!(plain.list("supported").contains(&"linux/arm64".into()), "{plain}");
    inside("--status arm64").ok();
    inside("--status riscv64").ends(1);
    inside("--install arm64").ok().says("installing: arm64 already installed");
    inside("--install arm64,riscv64").ends(1).ends_saying(&["user namespace"]);
    inside("--uninstall arm64").ends(1).ends_saying(&["arm64", "host"]);
    host.runs_arm64();
}

#[test]
fn few_file_descriptors_are_an_error_and_no_reason_to_wait() {
    let host = Host::new();
    for limit in 4..12 {
        let script = format!("ulimit -n {limit}; timeout 20 '{BINFMT}' --install 386,arm64");
        let output = host.sh(&script).never_says("panicked");
        assert!(output.status <= 1 || output.status == 127, "{limit}: {output}");
        assert!(host.entry("qemu-i386").is_none(), "{limit}: {output}");
    }
}

#[test]
fn an_emulator_that_talks_a_lot_is_heard_to_the_end() {
    let host = Host::new();
    let folder = host.folder("chatty", &[]);
    host.compile_emulator(
        &folder.join("qemu-aarch64"),
        "for (int i = 0; i < 20000; i++) fprintf(stderr, \"warning number %d\\n\", i); return 3;",
    );
    host.call(&["--install", "arm64"])
        .emulators(&folder)
        .run()
        .ends(1)
        .ends_saying(&["wrong answer (exit status 3)", "warning number 19999"]);
}

#[test]
fn a_link_that_leads_nowhere_is_not_passed_over() {
    let host = Host::new();
    let folder = host.folder("emulators", &[("qemu-aarch64", emulators())]);
    host.sh(&format!("ln -s gone '{}/qemu-s390x'", folder.display())).ok();
    let call = host.call(&["--install", "all"]).emulators(&folder);
    call.run().ends(1).says("arm64 OK").says("qemu-s390x does not exist");
}

/// As of a variable of a pipeline that is empty. The incumbent shows what there is, and ends with 0.
#[test]
fn a_list_without_items_asks_for_nothing() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    let before = host.table();
    let status = host.binfmt(&[]).ok().stdout;
    for option in ["--install", "--uninstall"] {
        for list in ["", " ", ",", " ,\n"] {
            let output = host.binfmt(&[option, list]).ok();
            assert_eq!(output.stdout, status, "{output}");
            assert_eq!(output.stderr, format!("binfmt: the list of {option} is empty, so it does nothing\n"));
        }
    }
    assert_eq!(host.table(), before);
    host.binfmt(&["--uninstall", "arm64", "--install", ""]).ok().says("uninstalling: arm64 OK");
    // what would go on without it, or say that all is well, is a mistake
    for args in [
        &["--reset", "--install", ""][..],
        &["--hold", "--install", ""],
        &["--status", ""],
        &["--verify", ","],
        &["--install", "-arm64"],
    ] {
        host.binfmt(args).ends(2);
    }
}

/// A mount point that nothing is mounted at shows the table that is mounted elsewhere.
#[test]
fn what_runs_is_what_is_listed_whichever_mount_point_is_named() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    let folder = host.folder("unmounted", &[]);
    let mount = ["--mount", folder.to_str().unwrap()];
    let output = host.binfmt(&mount).ok();
    assert!(output.list("supported").contains(&"linux/arm64".into()), "{output}");
    assert_eq!(output.list("emulators"), ["qemu-aarch64"], "{output}");
    host.binfmt(&[&["--status", "arm64"], &mount[..]].concat()).ok().prints("qemu-aarch64");
}

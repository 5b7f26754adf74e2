//! `--dry-run`: what would be done, nothing of it done, and the exit status of a look.

use crate::harness::{BINFMT, Host, MOUNT_POINT, Output, emulators, old_emulators};

/// Runs it, and sees that nothing but the lines came of it.
#[track_caller]
fn dry_run(host: &Host, args: &[&str]) -> Output {
    let before = (host.table(), host.mountinfo());
    let output = host.binfmt(&[args, &["--dry-run"]].concat());
    assert_eq!((host.table(), host.mountinfo()), before, "{output}");
    for line in output.stdout.lines() {
        assert!(line.starts_with("would "), "{line:?} in {output}");
    }
    output
}

#[test]
fn an_install_is_told_and_not_done() {
    let host = Host::new();
    let version = crate::harness::version(&emulators());
    let output = dry_run(&host, &["--install", "arm64,s390x"]).ok();
    assert_eq!(
        output.stdout,
        format!("would install: arm64 (qemu-aarch64 {version})\nwould install: s390x (qemu-s390x {version})\n")
    );
    // on a machine that is slow, it says that it waits; and nothing else
    let waits = "waiting for an emulator to end, for 20 s at most";
    assert!(output.stderr.lines().all(|line| line == waits), "{output}");

    // what was told is what is done
    host.binfmt(&["--install", "arm64"]).ok();
    let output = dry_run(&host, &["--install", "arm64,arm"]).ok();
    output
        .prints("would not install: arm64 already installed (qemu-aarch64)\n")
        .prints("would install: arm (qemu-arm ");
}

#[test]
fn an_upgrade_and_a_repair_are_told() {
    let host = Host::new();
    let folder = host.folder("own", &[("qemu-aarch64", old_emulators())]);
    host.call(&["--install", "arm64"]).emulators(&folder).run().ok();
    let [old, new] = [old_emulators(), emulators()].map(|folder| crate::harness::version(&folder));
    dry_run(&host, &["--install", "arm64"])
        .ok()
        .prints(&format!("would install: arm64 (upgraded qemu-aarch64 {old} → {new})"));
    host.register("mine", "s390x", &emulators().join("qemu-s390x"), "");
    dry_run(&host, &["--install", "s390x"]).ok();

    // its own entry, which somebody has switched off
    host.binfmt(&["--install", "riscv64"]).ok();
    host.sh(&format!("echo 0 >{MOUNT_POINT}/qemu-riscv64")).ok();
    dry_run(&host, &["--install", "riscv64"]).ok().prints("would install: riscv64 (qemu-riscv64 ");
}

#[test]
fn what_would_fail_ends_with_1() {
    let host = Host::new();
    let folder = host.folder("some", &[("qemu-aarch64", emulators())]);
    host.compile_emulator(&folder.join("qemu-s390x"), "return 99;");
    let call = |list| host.call(&["--install", list, "--dry-run"]).emulators(&folder).run();
    call("arm64").ok();
    call("arm64,riscv64")
        .ends(1)
        .prints("would install: arm64 ")
        .prints("would not install: riscv64 ")
        .ends_saying(&["riscv64", "does not exist"]);
    call("arm64,ricsv64").ends(1).prints("would not install: ricsv64 ").ends_saying(&["did you mean riscv64?"]);
    // seen in a table that nobody else sees
    call("s390x").ends(1).prints("would not install: s390x wrong answer (exit status 99)");
    assert_eq!(host.table(), "");
}

#[test]
fn who_may_not_change_the_table_is_told() {
    let host = Host::new();
    let script = format!(
        "mount -o remount,bind,ro {MOUNT_POINT}; QEMU_BINARY_PATH='{}' '{}' --install arm64 --dry-run",
        emulators().display(),
        crate::harness::BINFMT
    );
    let output = host.sh(&script).ends(1);
    assert_eq!(output.stdout, "", "{output}");
    output.ends_saying(&["register is on a read-only mount"]);
}

#[test]
fn where_nothing_is_mounted_the_mount_is_told_and_not_made() {
    let unshared = ["--user", "--map-root-user", "--mount"];
    let host = Host::with(&unshared, "");
    let named = ["--mount", MOUNT_POINT];
    let output = dry_run(&host, &[&["--install", "arm64"], &named[..]].concat()).ok();
    let mount = format!("would mount: {MOUNT_POINT}\n");
    assert!(output.stdout.starts_with(&mount), "{output}");
    // in a user namespace nothing is mounted unasked
    dry_run(&host, &["--install", "arm64"]).ends(1).ends_saying(&["--mount"]);
}

#[test]
fn an_uninstall_is_told_and_not_done() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64,s390x"]).ok();
    host.register_other("mine", b"mine");
    let output = dry_run(&host, &["--uninstall", "arm64,riscv64"]);
    output.prints("would uninstall: ").prints("(qemu-aarch64)\n").prints("would not uninstall: riscv64 not found\n");
    dry_run(&host, &["--uninstall", "mine"]).ends(1).prints("would not uninstall: mine kept: not one of QEMU's");
    let output = dry_run(&host, &["--uninstall", "all,qemu-s390x"]).ok();
    output.prints("would uninstall: qemu-aarch64\n").prints("would uninstall: qemu-s390x\n");

    // first out, then in
    dry_run(&host, &["--uninstall", "arm64", "--install", "arm64"]).ok().prints("would install: arm64 (qemu-aarch64 ");
}

#[test]
fn a_reset_is_told_and_not_done() {
    let host = Host::new();
    host.register("qemu-old", "s390x", &emulators().join("qemu-s390x"), "F");
    let folder = host.folder("one", &[("qemu-aarch64", emulators())]);
    let before = host.table();
    let output = host.call(&["--reset", "--dry-run"]).emulators(&folder).run().ok();
    output.prints("would install: arm64 (qemu-aarch64 ").prints("would uninstall: qemu-old\n");
    assert_eq!(host.table(), before);
}

/// An entry that the install replaces is not one that the reset removes.
#[test]
fn a_reset_tells_of_each_entry_once() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    host.register("mine", "aarch64", &emulators().join("qemu-aarch64"), "POCF");
    let args = ["--reset", "--install", "arm64"];
    let planned = dry_run(&host, &args).ok();
    assert_eq!(planned.stdout.lines().count(), 1, "{planned}");
    planned.prints("would install: arm64 (qemu-aarch64 ").prints(", replaced mine, qemu-aarch64)");
    host.binfmt(&args).ok().says(", replaced mine, qemu-aarch64)").never_says("uninstalling");
}

#[test]
fn a_level_that_is_not_reached_is_told() {
    let host = Host::new();
    let supported = host.binfmt(&[]).ok().list("supported");
    for level in ["v2", "v4"] {
        let platform = format!("linux/amd64/{level}");
        dry_run(&host, &["--install", &platform]).ends(i32::from(!supported.contains(&platform)));
    }
}

#[test]
fn what_changes_nothing_has_no_dry_run() {
    let host = Host::new();
    for args in [
        &["--dry-run"][..],
        &["--dry-run", "--list"],
        &["--dry-run", "--status"],
        &["--dry-run", "--install", "arm64", "--hold"],
        &["--dry-run", "--install", "arm64", "--json"],
    ] {
        host.binfmt(args).ends(2);
    }
    assert_eq!(host.table(), "");
}

/// Somebody who waits is told for what.
#[test]
fn an_emulator_that_hangs_in_a_rehearsal_is_named() {
    let host = Host::new();
    let folder = host.folder("emulators", &[]);
    host.compile_emulator(&folder.join("qemu-aarch64"), "pause();");
    let call = host.program("timeout").args(["5", BINFMT, "--dry-run", "--install", "arm64"]).emulators(&folder);
    call.run().ends(124).says("waiting for an emulator to end, for 20 s at most");
}

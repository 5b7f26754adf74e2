//! Tier: kernel. `--verify --deep`: real programs of root file systems, and what a root file system has no programs for.
//!
//! The one made of a static busybox is always there. Debian's are those that the tier of the engine makes
//! (`qemu/image/userland.sh`), whose tests run before these.

mod harness;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use harness::{Host, Output, program};
use serde_json::Value;

/// A root file system with nothing but busybox.
fn busybox_root(host: &Host, debian: &str) -> PathBuf {
    let root = host.scratch().join(format!("root-{debian}"));
    let script = format!(
        "mkdir -p '{0}/bin' '{0}/dev' '{0}/proc' '{0}/tmp'; cp '{1}' '{0}/bin/busybox'
         for name in sh id cp chmod chown sort seq tail; do ln -s /bin/busybox \"{0}/bin/$name\"; done",
        root.display(),
        program(debian).display()
    );
    host.sh(&script).ok();
    root
}

/// What came of each check, by name.
fn checks(output: &Output) -> Vec<(String, String)> {
    let json = output.json();
    let checks = json["deep"][0]["checks"].as_array().expect("a list");
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let pair = |check: &Value| (text(&check["check"]), text(&check["state"]));
    checks.iter().map(pair).collect()
}

fn deep(host: &Host, root: &Path) -> Output {
    let root = root.to_str().expect("UTF-8");
    host.binfmt(&["--verify", "--format", "json", "--deep", root])
}

/// Processes that run a program of the root file system, or an emulator for one.
fn left(root: &Path) -> String {
    let root = root.display();
    let found = Command::new("sh")
        .args([
            "-c",
            &format!(
                "ls -l /proc/[0-9]*/root /proc/[0-9]*/exe 2>/dev/null | grep -F '{root}' || :"
            ),
        ])
        .output()
        .expect("sh");
    String::from_utf8_lossy(&found.stdout).into_owned()
}

#[test]
fn a_root_file_system_of_busybox_passes_what_it_has_programs_for() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64,arm"]).ok();
    for debian in ["arm64", "armhf"] {
        let root = busybox_root(&host, debian);
        let before = host
            .sh(&format!("cd '{}'; find . | sort", root.display()))
            .ok();
        let output = deep(&host, &root).ok();
        for (check, state) in checks(&output) {
            let expected = match check.as_str() {
                // its shell is static, its sort makes no threads, and there is nobody but root here
                "dynamic loading" | "threads" | "setuid" => "not_tried",
                _ => "passed",
            };
            assert_eq!(state, expected, "{check} in {output}");
        }
        let after = host
            .sh(&format!("cd '{}'; find . | sort", root.display()))
            .ok();
        assert_eq!(after.stdout, before.stdout);
        assert_eq!(left(&root), "");
    }
    let root = busybox_root(&host, "amd64");
    deep(&host, &root).ok();
    host.sh(&format!("cd '{}'; rmdir dev proc tmp", root.display()))
        .ok();
    let checks = checks(&deep(&host, &root).ok());
    let state = |name: &str| &checks.iter().find(|(check, _)| check == name).unwrap().1;
    assert_eq!(
        (state("pipes").as_str(), state("scripts").as_str()),
        ("passed", "not_tried")
    );
}

#[test]
fn what_does_not_start_is_not_tried_further() {
    let host = Host::new();
    let root = busybox_root(&host, "s390x");
    let output = deep(&host, &root).ends(1);
    let mut checks = checks(&output).into_iter();
    assert_eq!(
        checks.next(),
        Some(("start".into(), "failed".into())),
        "{output}"
    );
    assert!(checks.all(|(_, state)| state == "not_tried"), "{output}");
    output.ends_saying(&[
        "linux/s390x",
        "do not start",
        "binfmt --explain /bin/sh --root",
    ]);
}

#[test]
fn an_emulator_that_does_wrong_is_found() {
    let host = Host::new();
    let root = busybox_root(&host, "arm64");
    let folder = host.folder("wrong", &[]);
    host.compile(
        &folder.join("qemu-aarch64"),
        "puts(\"nonsense\"); return 0;",
    );
    host.register(
        "qemu-aarch64",
        "aarch64",
        &folder.join("qemu-aarch64"),
        "POCF",
    );
    let output = deep(&host, &root).ends(1);
    assert_eq!(checks(&output)[0].1, "failed", "{output}");
    assert!(output.stdout.contains("nonsense"), "{output}");
}

#[test]
fn what_prints_the_right_thing_must_also_end_well() {
    let host = Host::new();
    let root = busybox_root(&host, "amd64");
    host.sh(&format!("rm '{}/bin/sh'", root.display())).ok();
    for (end, words) in [("abort();", "ended with"), ("pause();", "did not end")] {
        let body = format!("puts(\"ok\"); fflush(stdout); {end}");
        host.compile(&root.join("bin/sh"), &body);
        let output = deep(&host, &root).ends(1);
        assert_eq!(output.json()["in_order"], false, "{output}");
        assert_eq!(checks(&output)[0].1, "failed", "{output}");
        assert!(output.stdout.contains(words), "{output}");
        output.ends_saying(&["do not start"]);
    }
}

#[test]
fn a_shell_that_the_kernel_refuses_has_failed() {
    let host = Host::new();
    let root = busybox_root(&host, "arm64");
    let looping = host.folder("looping", &[]).join("qemu-aarch64");
    host.copy(&program("arm64"), &looping);
    host.register("qemu-aarch64", "aarch64", &looping, "");
    host.sh(&format!("chmod -x '{}/bin/busybox'", root.display()))
        .ok();
    let failed = |words: &str| {
        let output = deep(&host, &root).ends(1);
        assert_eq!(checks(&output)[0].1, "failed", "{output}");
        assert!(output.stdout.contains(words), "{output}");
        output.never_says("run it as root");
    };
    failed("EACCES");
    host.sh(&format!("chmod +x '{}/bin/busybox'", root.display()))
        .ok();
    failed("ENOENT");
    host.binfmt(&["--uninstall", "arm64"]).ok();
    host.register("qemu-aarch64", "aarch64", &looping, "F");
    failed("ELOOP");
}

#[test]
fn programs_that_may_only_be_executed_are_there() {
    let host = Host::new();
    let root = busybox_root(&host, "amd64");
    let script = format!(
        "cd '{}/bin'; cp busybox copied; rm chmod; ln -s copied chmod; chmod 111 copied",
        root.display()
    );
    host.sh(&script).ok();
    let checks = checks(&deep(&host, &root).ok());
    assert!(
        checks.contains(&("scripts".into(), "passed".into())),
        "{checks:?}"
    );
}

/// The directory that is / there is no mount point, so nothing can be made private by that name.
#[test]
fn a_root_file_system_is_tried_from_within_a_chroot() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    let root = busybox_root(&host, "arm64");
    let jail = host.scratch().join("jail");
    let binary = Path::new(harness::BINFMT).parent().expect("a folder");
    let script = format!(
        "mkdir '{0}'; for dir in /usr /bin /lib /lib64 /proc /dev '{1}' '{2}'; do
           [ -d \"$dir\" ] || continue
           mkdir -p \"{0}$dir\"; mount --rbind \"$dir\" \"{0}$dir\"
         done
         chroot '{0}' '{3}' --verify arm64 --deep '{2}'",
        jail.display(),
        binary.display(),
        root.display(),
        harness::BINFMT
    );
    let call = host.program("sh").args(["-e", "-c", &script]);
    let output = call.env("QEMU_BINARY_PATH", "/nowhere").run();
    assert!(output.stdout.contains("passed"), "{output}");
    // the audit finds no emulators there
    output
        .ends(1)
        .says("qemu-aarch64")
        .never_says("cannot run the shell");
}

#[test]
fn what_is_no_root_file_system_is_told() {
    let host = Host::new();
    let pipe = host.scratch().join("pipe");
    host.sh(&format!(
        "mkdir -p '{0}/bin'; mkfifo '{0}/bin/sh'",
        pipe.display()
    ))
    .ok();
    let text = host.scratch().join("text");
    host.sh(&format!(
        "mkdir -p '{0}/bin'; echo '#!/bin/sh' >'{0}/bin/sh'",
        text.display()
    ))
    .ok();
    for (root, words) in [
        (Path::new("/nowhere"), "is no root file system to try"),
        (host.scratch(), "is no root file system to try"),
        (&text, "no program of an architecture"),
        (&pipe, "no regular file"),
    ] {
        let output = deep(&host, root).ends(1);
        let json = output.json();
        assert_eq!(json["in_order"], false, "{output}");
        let error = json["deep"][0]["error"].as_str();
        assert!(error.is_some_and(|error| error.contains(words)), "{output}");
        output.ends_saying(&[words, "--deep"]);
    }
    host.binfmt(&["--deep", "/"]).ends(2);
}

#[test]
fn a_root_file_system_of_what_is_not_to_be_verified_is_told() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64,s390x"]).ok();
    let root = busybox_root(&host, "arm64");
    let root = root.to_str().expect("UTF-8");
    host.binfmt(&["--verify", "arm64", "--deep", root]).ok();
    host.binfmt(&["--verify", "s390x", "--deep", root])
        .ends(1)
        .ends_saying(&[root, "linux/arm64", "does not name"]);
}

#[test]
fn a_call_that_is_killed_leaves_no_process() {
    let host = Host::new();
    let root = busybox_root(&host, "amd64");
    host.sh(&format!("rm '{}/bin/sh'", root.display())).ok();
    let hangs = "if (fork()) setsid(); for (;;) pause();";
    host.compile(&root.join("bin/sh"), hangs);
    let mut call = host.command(harness::BINFMT);
    call.args(["--verify", "--deep"]).arg(&root);
    let mut call = call.spawn().expect("nsenter");
    let patience = Instant::now() + Duration::from_secs(20);
    while left(&root).is_empty() {
        assert!(Instant::now() < patience, "nothing has been started");
        thread::sleep(Duration::from_millis(20));
    }
    call.kill().expect("a process that has not ended");
    call.wait().expect("a child");
    let patience = Instant::now() + Duration::from_secs(5);
    while !left(&root).is_empty() {
        assert!(Instant::now() < patience, "{}", left(&root));
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn debians_userlands_pass_threads_and_dynamic_loading() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64,s390x"]).ok();
    for debian in ["arm64", "s390x"] {
        let archive =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("build/userland/{debian}.tar"));
        if !archive.exists() {
            let reason = format!(
                "there is no {}; qemu/image/userland.sh makes it",
                archive.display()
            );
            assert!(
                std::env::var_os("CI").is_none(),
                "this test cannot run: {reason}"
            );
            let _ = writeln!(
                std::io::stderr(),
                "the test of Debian's userlands DID NOT RUN: {reason}"
            );
            return;
        }
        let root = host.scratch().join(debian);
        let unpack = format!(
            "mkdir '{0}'; tar xf '{1}' -C '{0}' --no-same-owner --wildcards --exclude './dev/*' ./bin './lib*' ./usr/bin ./usr/lib ./dev ./proc ./tmp",
            root.display(),
            archive.display()
        );
        host.sh(&unpack).ok();
        let output = deep(&host, &root).ok();
        for (check, state) in checks(&output) {
            let expected = if check == "setuid" {
                "not_tried"
            } else {
                "passed"
            };
            assert_eq!(state, expected, "{check} in {output}");
        }
    }
}

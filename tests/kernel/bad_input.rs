//! What is asked for wrongly, and what is found and nobody expects: each gets its own sentence and
//! remedy, and takes nothing else down with it.
//!
//! Mount points have a file of their own.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::harness::fake::needs_emulators;
use crate::harness::{BINFMT, Host, MOUNT_POINT, Output, emulators, old_emulators, program};
use serde_json::json;

fn install_from(host: &Host, folder: &Path) -> Output {
    host.call(&["--install", "arm64"]).emulators(folder).run()
}

/// One line for the platform, one at the end, both without Rust's way of putting errors.
fn is_readable(output: Output) {
    let output = output.never_says("os error").never_says("panic").never_says("Error");
    assert_eq!(output.stderr.lines().count(), 1, "{output}");
}

#[test]
fn an_unknown_architecture_is_named_with_the_closest_and_the_others_are_installed() {
    let host = Host::new();
    let output = host.binfmt(&["--install", "amr64,s390x,risc64"]).ends(1);
    assert_eq!(
        output.line("installing: amr64"),
        "installing: amr64 unsupported architecture: amr64, did you mean arm64, amd64?"
    );
    let output = output.says("installing: s390x OK (").ends_saying(&["risc64", "riscv64", "1 more"]);
    assert_eq!(output.list("emulators"), ["qemu-s390x"]);
    assert_eq!(host.runs("s390x").as_deref(), Ok("s390x"));
}

#[test]
fn an_architecture_that_resembles_none_is_told_where_to_look() {
    let output = Host::new().binfmt(&["--install", "zzz"]).ends(1);
    output.ends_saying(&["unsupported architecture: zzz", "--list"]);
}

#[test]
fn another_operating_system_or_variant_is_no_platform_of_ours() {
    for (item, words) in [("windows/amd64", "linux"), ("amd64/v9", "v4"), ("386/v2", "none")] {
        let output = Host::new().binfmt(&["--install", item]).ends(1);
        output.ends_saying(&[item, words]);
    }
}

#[test]
fn odd_items_are_shown_and_do_no_harm() {
    let host = Host::new();
    let long = "x".repeat(100_000);
    for item in ["\x1b[31mred", "..", "../../etc/passwd", "a:b", "\\x41", "%s%n", "é", &long] {
        let output = host.binfmt(&["--install", item]).ends(1);
        assert_eq!(output.stderr.lines().count(), 1, "{output}");
        assert!(!output.stderr.contains('\x1b'), "{output}");
        let output = host.binfmt(&["--uninstall", item]).ok();
        assert!(!output.stderr.contains('\x1b'), "{output}");
    }
}

#[test]
fn arguments_that_are_not_text_are_a_wrong_command_line() {
    for args in ["--install $(printf '\\377')", "--uninstall $(printf '\\377')", "$(printf -- '--\\377')"] {
        let output = Host::new().sh(&format!("'{BINFMT}' {args}"));
        output.ends(2).never_says("panic");
    }
}

#[test]
fn control_files_cannot_be_uninstalled() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    host.register_other("jar", b"PK\x03\x04");
    let before = host.table();
    for item in ["status", "register", "*t*s", "reg*", ".", "./status", "/status"] {
        host.binfmt(&["--uninstall", item, "--force"]);
        assert_eq!(host.table(), before, "{item}");
    }
}

#[test]
fn a_slash_in_the_prefix_is_refused_and_the_right_variable_named() {
    let host = Host::new();
    for args in [&["--install", "arm64"][..], &["--install", "all"]] {
        host.call(args).env("QEMU_BINARY_PREFIX", "/usr/bin/").run().ends(1).ends_saying(&[
            "QEMU_BINARY_PREFIX",
            "slash",
            "QEMU_BINARY_PATH",
        ]);
        assert_eq!(host.table(), "");
    }
}

#[test]
fn a_prefix_of_any_kind_makes_entries_that_are_known_again() {
    for prefix in ["my-", "my", "a:b ", "-", "qemu-", "\u{fc}"] {
        let host = Host::new();
        let folder = host.folder("prefixed", &[]);
        let file = format!("{prefix}qemu-aarch64");
        host.copy(&emulators().join("qemu-aarch64"), &folder.join(&file));
        let call = |args: &[&str]| host.call(args).emulators(&folder).env("QEMU_BINARY_PREFIX", prefix).run().ok();
        call(&["--install", "arm64"]).says("installing: arm64 OK (");
        assert_eq!(host.entries(), [file.as_str()], "{prefix:?}");
        call(&["--install", "arm64"]).says("installing: arm64 already installed (");
        call(&["--install", "arm64", "--credentials", "no"]).says("installing: arm64 OK (");
        assert_eq!(host.entries(), [file.as_str()], "{prefix:?}");
        call(&["--uninstall", "arm64"]).says("uninstalling: arm64 OK");
        assert_eq!(host.table(), "", "{prefix:?}");
    }
}

#[test]
fn paths_of_any_kind_are_registered_as_they_are() {
    for name in ["with space", "a:b", "back\\slash\\x41", "new\nline", "\u{fc}mlaut", "|;,\"'"] {
        let host = Host::new();
        let folder = host.folder(name, &[("qemu-aarch64", emulators())]);
        install_from(&host, &folder).ok().says("installing: arm64 OK (");
        assert_eq!(host.runs("arm64").as_deref(), Ok("aarch64"), "{name:?}");
        install_from(&host, &folder).ok().says("already installed");
    }
}

#[test]
fn a_folder_without_emulators_is_named() {
    let host = Host::new();
    let empty = host.folder("empty", &[]);
    let file = host.scratch().join("file");
    std::fs::write(&file, "").unwrap();
    for folder in [&empty, &file, Path::new("/nowhere")] {
        let path = folder.to_str().unwrap();
        for list in ["all", "arm64"] {
            let output = host.call(&["--install", list]).emulators(folder).run().ends(1);
            output.ends_saying(&[path, "QEMU_BINARY_PATH"]).never_says("os error");
        }
    }
    assert_eq!(host.table(), "");
}

/// Emulators that are none, in a folder each, and a word of what is to be said of them.
fn unfit(host: &Host) -> Vec<(PathBuf, &'static str)> {
    let real = emulators().join("qemu-aarch64");
    let folder = |name, words, make: &dyn Fn(&Path)| {
        let folder = host.folder(name, &[]);
        make(&folder.join("qemu-aarch64"));
        (folder, words)
    };
    let cut = |to: &Path, bytes: i32| {
        let (from, to) = (real.display(), to.display());
        host.sh(&format!("head -c {bytes} '{from}' >'{to}'; chmod 755 '{to}'")).ok();
    };
    vec![
        folder("missing", "does not exist", &|_| {}),
        folder("directory", "is not a file", &|to| {
            std::fs::create_dir(to).expect("a folder");
        }),
        folder("mode", "is not executable", &|to| {
            host.copy(&real, to);
            host.sh(&format!("chmod 644 '{}'", to.display())).ok();
        }),
        folder("empty", "is empty", &|to| host.executable(to, b"")),
        folder("text", "is not an ELF program", &|to| {
            host.executable(to, b"#!/bin/sh\necho qemu-aarch64 version 10.9.8\n");
        }),
        folder("half", "is truncated", &|to| cut(to, 1_000_000)),
        folder("header", "is truncated", &|to| cut(to, 80)),
        folder("nearly whole", "is truncated", &|to| cut(to, -1)),
        folder("dynamic", "is dynamically linked", &|to| {
            host.copy(Path::new("/bin/true"), to);
        }),
        folder("foreign", "is a program for arm64", &|to| {
            host.copy(&program("arm64"), to);
        }),
        folder("busybox", "is no working emulator", &|to| {
            host.copy(&program("amd64"), to);
        }),
        folder("liar", "wrong answer (exit status 3)", &|to| {
            host.compile_emulator(to, "return 3;");
        }),
        folder("crash", "killed by SIGABRT", &|to| {
            host.compile_emulator(to, "abort();");
        }),
    ]
}

#[test]
fn an_emulator_that_is_none_never_gets_into_the_table() {
    needs_emulators!();
    let host = Host::new();
    for (folder, words) in unfit(&host) {
        let output = host.call(&["--install", "arm64"]).emulators(&folder).run().ends(1);
        let path = folder.join("qemu-aarch64");
        let output = output.ends_saying(&["arm64 is not installed", path.to_str().unwrap(), words]);
        assert_eq!(output.list("emulators"), [""; 0], "{output}");
        assert_eq!(host.table(), "", "{output}");
    }
}

#[test]
fn an_emulator_that_is_none_never_replaces_a_handler() {
    needs_emulators!();
    let host = Host::new();
    host.register("aarch64", "aarch64", Path::new("/nowhere/aarch64"), "P");
    host.call(&["--install", "riscv64"]).emulators(&old_emulators()).run().ok();
    host.register("qemu-aarch64-static", "aarch64", &old_emulators().join("qemu-aarch64"), "OCF");
    let before = host.table();
    for (folder, words) in unfit(&host) {
        let output = host.call(&["--install", "arm64"]).emulators(&folder).run();
        assert_eq!(host.table(), before, "{words}: {output}");
        host.runs_arm64();
        if !folder.ends_with("missing") {
            output.ends(1).ends_saying(&["arm64 is not installed", words]);
        }
    }
}

#[test]
fn an_emulator_that_is_none_never_replaces_even_a_broken_handler() {
    needs_emulators!();
    let host = Host::new();
    host.register("qemu-aarch64", "aarch64", Path::new("/nowhere/qemu-aarch64"), "OC");
    host.register_other("jar", b"PK\x03\x04");
    let before = host.table();
    for (folder, words) in unfit(&host) {
        let output = host.call(&["--install", "arm64"]).emulators(&folder).run().ends(1);
        assert_eq!(host.table(), before, "{words}: {output}");
    }
}

#[test]
fn one_bad_emulator_does_not_keep_the_others_from_being_installed() {
    let host = Host::new();
    let folder = host.folder("mixed", &[("qemu-riscv64", emulators()), ("qemu-s390x", emulators())]);
    host.executable(&folder.join("qemu-aarch64"), b"");
    host.call(&["--install", "riscv64,arm64,s390x"])
        .emulators(&folder)
        .run()
        .ends(1)
        .says("installing: riscv64 OK (")
        .says("installing: s390x OK (")
        .ends_saying(&["arm64 is not installed", "is empty"]);
    assert_eq!(host.runs("s390x").as_deref(), Ok("s390x"));
}

#[test]
fn an_emulator_on_a_file_system_without_execution_is_told_so() {
    let host = Host::new();
    let folder = host.folder("noexec", &[]);
    let script = format!(
        "mount -t tmpfs -o noexec,mode=755 none '{0}'; cp '{1}' '{0}'",
        folder.display(),
        emulators().join("qemu-aarch64").display()
    );
    host.sh(&script).ok();
    let output = install_from(&host, &folder).ends(1);
    is_readable(output.ends_saying(&["qemu-aarch64", "noexec"]));
}

#[test]
fn an_emulator_that_is_being_written_is_told_so() {
    let host = Host::new();
    let folder = host.folder("busy", &[("qemu-aarch64", emulators())]);
    let script =
        format!("exec 9>>'{0}/qemu-aarch64'; QEMU_BINARY_PATH='{0}' '{BINFMT}' --install arm64", folder.display());
    let output = host.sh(&script).ends(1);
    is_readable(output.ends_saying(&["qemu-aarch64", "being written", "again"]));
}

#[test]
fn an_emulator_that_is_a_circle_of_links_is_told_so() {
    let host = Host::new();
    let folder = host.folder("circle", &[]);
    symlink("qemu-aarch64", folder.join("qemu-aarch64")).unwrap();
    let output = install_from(&host, &folder).ends(1);
    is_readable(output.ends_saying(&["qemu-aarch64", "circle of symbolic links"]));
}

#[test]
fn an_emulator_that_is_a_dangling_link_does_not_exist() {
    let host = Host::new();
    let folder = host.folder("dangling", &[]);
    symlink("elsewhere", folder.join("qemu-aarch64")).unwrap();
    let output = install_from(&host, &folder).ends(1);
    is_readable(output.ends_saying(&["qemu-aarch64 does not exist"]));
}

#[test]
fn names_and_paths_that_are_too_long_are_told_so() {
    let host = Host::new();
    let output = host.call(&["--install", "arm64"]).env("QEMU_BINARY_PREFIX", "p".repeat(250)).run().ends(1);
    is_readable(output.ends_saying(&["too long"]));
    let mut folder = host.scratch().to_owned();
    (0..8).for_each(|_| folder.push("d".repeat(240)));
    std::fs::create_dir_all(&folder).unwrap();
    host.copy(&emulators().join("qemu-aarch64"), &folder.join("qemu-aarch64"));
    let output = install_from(&host, &folder).ends(1);
    is_readable(output.ends_saying(&["1920", "QEMU_BINARY_PATH"]));
    assert_eq!(host.table(), "");
}

#[test]
fn an_entry_whose_text_nobody_expects_is_shown_as_unknown() {
    let texts: [&[u8]; 8] = [
        b"",
        b"\n",
        b"enabled",
        b"enabled\ninterpreter /bin/true\nflags: POCFTLZ\noffset 0\nmagic cafebabe\n",
        b"enabled\ninterpreter /bin/true\nflags: \ncolour blue\noffset 99999999999999999999\nmagic 7g\nmask ff\n",
        b"\xff\xfe\0\x01 binary \xe9",
        b"enabled\nbpf handler\nprogram 12\n",
        b"enabled\nbpf handler\nbpf-interpreter arm\nbpf-interpreter \xff /usr/bin/qemu-arm\nflags: \n",
    ];
    for (number, text) in texts.into_iter().enumerate() {
        let host = Host::new();
        host.binfmt(&["--install", "arm64"]).ok();
        host.register_line(b":future:E::future::/bin/true:");
        let file = host.scratch().join("text");
        std::fs::write(&file, text).unwrap();
        host.sh(&format!("mount --bind '{}' {MOUNT_POINT}/future", file.display())).ok();
        for args in [&[][..], &["--status"], &["--list"], &["--install", "arm64"], &["--uninstall", "s390x"]] {
            host.binfmt(args).ok();
        }
        let status = host.binfmt(&["--status", "--format", "json"]).ok().json();
        assert_eq!(status["others"][0]["entry"], "future", "text {number}: {status}");
        assert_eq!(host.runs("arm64").as_deref(), Ok("aarch64"), "text {number}");
    }
}

#[test]
fn lines_that_nobody_expects_are_quoted() {
    let host = Host::new();
    host.register_line(b":future:E::future::/bin/true:");
    let file = host.scratch().join("text");
    std::fs::write(&file, "enabled\nbpf handler\nprogram 12\n").unwrap();
    host.sh(&format!("mount --bind '{}' {MOUNT_POINT}/future", file.display())).ok();
    let status = host.binfmt(&["--status", "--format", "json"]).ok().json();
    assert_eq!(status["others"][0]["unknown"], json!(["program 12"]));
    let text = host.binfmt(&["--status"]).ok();
    assert!(text.stdout.contains("future  not understood"), "{text}");
}

/// To go on would do what was not to be done.
/// Without the refusal, a forgotten `--install` would look done.
#[test]
fn what_says_how_and_not_what_is_refused() {
    let host = Host::new();
    for args in [
        &["--keep"][..],
        &["--force"],
        &["--keep", "--uninstall", "arm64"],
        &["--force", "--status"],
        &["--force", "--unpersist", "/"],
    ] {
        host.binfmt(args).ends(2).says("to install");
    }
}

#[test]
fn an_exclusion_that_means_nothing_changes_nothing() {
    let host = Host::new();
    host.binfmt(&["--install", "all,-riscv46"]).ends(2).says("-riscv46").says("riscv64");
    assert_eq!(host.table(), "");
    host.binfmt(&["--install", "arm64,riscv64"]).ok();
    let table = host.table();
    host.binfmt(&["--uninstall", "all,-amr64"]).ends(1).ends_saying(&["amr64", "nothing was uninstalled"]);
    host.binfmt(&["--uninstall", "all,-all"]).ends(1).ends_saying(&["-all"]);
    host.binfmt(&["--install", "all,-all"]).ends(2);
    host.binfmt(&["--status", "all,-all"]).ends(2);
    assert_eq!(host.table(), table);
    host.binfmt(&["--uninstall", "all,-arm64"]).ok();
    assert_eq!(host.entries(), ["qemu-aarch64"]);
}

#[test]
fn a_fifo_in_place_of_an_emulator_keeps_nobody_waiting() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    let folder = host.folder("fifo", &[]);
    host.sh(&format!("mkfifo -m 755 '{}/qemu-aarch64'", folder.display())).ok();
    for args in [&["--install", "arm64"][..], &["--version"], &["--list"]] {
        let call = host.call(args).emulators(&folder).run();
        assert_ne!(call.status, 124, "{call}");
    }
}

//! Which emulator is it that really runs? Entries of any tool's making, whose files have been deleted,
//! replaced, left behind in another mount namespace, or hidden.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{BINFMT, Host, emulators, old_emulators, program, version};
use binfmt::readers::qemu_of;
use serde_json::{Value, json};

/// `linux/arm64` of `--status --format json`.
fn arm64(host: &Host) -> Value {
    host.binfmt(&["--status", "arm64", "--format", "json"]).json()["platforms"][0].clone()
}

/// Another tool's entry: another name, and an old emulator of its own.
fn with_another_tools_entry() -> (Host, PathBuf) {
    let host = Host::new();
    let folder = host.folder("other", &[("qemu-aarch64", old_emulators())]);
    let emulator = folder.join("qemu-aarch64");
    host.register("qemu-aarch64-static", "aarch64", &emulator, "OCF");
    (host, emulator)
}

/// What other programs say of the file.
fn facts(file: &Path) -> (String, String) {
    let say = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).arg(file).output();
        String::from_utf8(output.expect(program).stdout).expect("text")
    };
    let digest = say("sha256sum", &[]);
    let notes = say("readelf", &["--notes", "--wide"]);
    let id = notes.split("Build ID: ").nth(1).expect("a build id");
    let first = |text: &str| text.split_whitespace().next().expect("a word").to_owned();
    (first(&digest), first(id))
}

#[test]
fn a_deleted_emulator_of_another_tool_is_identified() {
    let (host, emulator) = with_another_tools_entry();
    let (sha256, build_id) = facts(&emulator);
    let size = fs::metadata(&emulator).unwrap().len();
    let found = |place: &str| {
        json!({
            "version": version(&old_emulators()),
            "mute": null,
            "build_id": build_id,
            "sha256": sha256,
            "size": size,
            "path": emulator,
            "place": place,
            "privilege": null,
        })
    };
    let seen = |place: &str| {
        let mut emulator = arm64(&host)["emulator"].take();
        // tests/kernel/defects.rs has those
        emulator.as_object_mut().unwrap().remove("defects").unwrap();
        let package = emulator.as_object_mut().unwrap().remove("package");
        let package = package.unwrap();
        assert!(package.as_str().unwrap().contains("Debian"), "{package}");
        assert_eq!(emulator, found(place));
    };
    seen("present");
    fs::remove_file(&emulator).unwrap();
    seen("deleted");
    host.copy(&emulators().join("qemu-aarch64"), &emulator);
    seen("replaced");
    let text = host.binfmt(&["--status", "arm64"]).ok().stdout;
    for word in [" qemu-aarch64-static ", &version(&old_emulators()), &build_id[..8], "another file is there now"] {
        assert!(text.contains(word), "{word} in {text}");
    }
}

/// A mount that its server has left hides the path from whoever asks what is there.
#[test]
fn a_file_system_that_does_not_answer_holds_nobody_up() {
    let (host, emulator) = with_another_tools_entry();
    for qemu in ["arm", "mips64", "ppc64le", "riscv64", "s390x"] {
        // not pinned; if its interpreter did not exist, that would be said
        host.register(qemu, qemu, &emulator, "");
    }
    let folder = emulator.parent().unwrap().display();
    let script = format!(
        "cd '{folder}/..'; mkdir from; bindfs -f --no-allow-other -o nonempty from '{folder}' & server=$!
         until mountpoint -q '{folder}'; do sleep 0.1; done
         kill -STOP $server
         status=0; timeout --kill-after=1 25 '{BINFMT}' --status --format json || status=$?
         kill -KILL $server; umount --lazy '{folder}'
         exit $status"
    );
    let output = host.sh(&script).ends(1).says("waiting for the file system of ");
    let seen = &output.json();
    let seen = seen["platforms"].as_array().unwrap().iter().find(|seen| seen["platform"] == "linux/arm64").unwrap();
    let seen = &seen["emulator"];
    assert_eq!((&seen["place"], &seen["path"]), (&json!("unknown"), &json!(emulator)), "{output}");
    assert_eq!(seen["version"], json!(version(&old_emulators())));
}

#[test]
fn what_was_renamed_away_is_where_it_is_now() {
    let (host, emulator) = with_another_tools_entry();
    let moved = emulator.with_file_name("moved");
    fs::rename(&emulator, &moved).unwrap();
    let arm64 = arm64(&host);
    assert_eq!(arm64["interpreter"], json!(emulator));
    assert_eq!((&arm64["emulator"]["path"], &arm64["emulator"]["place"]), (&json!(moved), &json!("moved")));
    // by its entry it is still one of QEMU's
    assert_eq!(arm64["emulator"]["version"], json!(version(&old_emulators())));
    assert_eq!(arm64["emulator"]["mute"], json!(null));
}

#[test]
fn an_emulator_in_a_mount_namespace_that_is_gone_is_identified() {
    let host = Host::new();
    let folder = host.folder("image", &[]);
    let inside = format!(
        "mount -t tmpfs -o mode=755 none '{0}'; cp '{1}/qemu-aarch64' '{0}'; QEMU_BINARY_PATH='{0}' '{BINFMT}' --install arm64",
        folder.display(),
        old_emulators().display(),
    );
    host.program("unshare").args(["--mount", "sh", "-ec", &inside]).run().ok().says("arm64 OK");
    let arm64 = arm64(&host);
    let emulator = &arm64["emulator"];
    assert_eq!(emulator["place"], json!("elsewhere"), "{arm64}");
    assert_eq!(emulator["version"], json!(version(&old_emulators())));
    assert_eq!(emulator["sha256"], json!(facts(&old_emulators().join("qemu-aarch64")).0));
}

#[test]
fn a_shadowed_entry_is_named_and_the_one_in_effect_identified() {
    let (host, _) = with_another_tools_entry();
    host.register("qemu-aarch64", "aarch64", &emulators().join("qemu-aarch64"), "POCF");
    let arm64 = arm64(&host);
    assert_eq!(arm64["entry"], json!("qemu-aarch64"));
    assert_eq!(arm64["shadowed"], json!(["qemu-aarch64-static"]));
    assert_eq!(arm64["emulator"]["version"], json!(version(&emulators())));
    let text = host.binfmt(&["--status", "arm64"]).ok().stdout;
    assert!(text.contains("(shadows qemu-aarch64-static)"), "{text}");
}

#[test]
fn a_translator_that_is_not_qemus_is_not_started_for_a_question() {
    let host = Host::new();
    let (rosetta, asked) = (host.scratch().join("rosetta"), host.scratch().join("asked"));
    // answers as a probe does, and tells on whoever asks for its version
    let body =
        format!("if (argc > 1 && argv[1][0] == '-') return !fopen(\"{}\", \"w\"); return argv[2][0];", asked.display());
    host.compile(&rosetta, &body);
    host.register("rosetta", "aarch64", &rosetta, "POCF");
    let arm64 = arm64(&host);
    assert_eq!(arm64["state"], json!("works"), "{arm64}");
    assert_eq!(arm64["emulator"]["version"], json!(null));
    assert_eq!(arm64["emulator"]["path"], json!(rosetta));
    assert_eq!(arm64["emulator"]["mute"], json!("it is not QEMU's"));
    assert!(!asked.exists(), "it was started with --version");
}

#[test]
fn an_emulator_that_says_no_version_is_identified_otherwise() {
    let host = Host::new();
    let emulator = host.scratch().join("qemu-aarch64");
    host.compile(
        &emulator,
        "if (argc > 1 && argv[1][0] == '-') { fprintf(stderr, \"no\\n\"); return 3; } return argv[2][0];",
    );
    host.register("qemu-aarch64", "aarch64", &emulator, "POCF");
    let arm64 = arm64(&host);
    assert_eq!(arm64["state"], json!("works"), "{arm64}");
    let mute = arm64["emulator"]["mute"].as_str().unwrap();
    assert!(mute.contains("exit status: 3, saying: no"), "{mute}");
    assert_eq!(arm64["emulator"]["sha256"], json!(facts(&emulator).0));
}

/// Where nothing may be traced nothing is held, and so nothing seen; the rest goes on as ever.
#[test]
fn without_ptrace_it_says_so_and_the_rest_works() {
    let (host, _) = with_another_tools_entry();
    let without_ptrace = host.scratch().join("without-ptrace");
    host.compile(
        &without_ptrace,
        r#"
        #include <errno.h>
        #include <stddef.h>
        #include <linux/filter.h>
        #include <linux/seccomp.h>
        #include <sys/prctl.h>
        #include <sys/syscall.h>
        struct sock_filter filter[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ptrace, 0, 1),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog program = { 4, filter };
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) { perror("seccomp"); return 99; }
        execv(argv[1], argv + 1);
        return 98;
        "#,
    );
    let call = |args: &[&str]| {
        host.program(&without_ptrace).args([BINFMT]).args(args).env("QEMU_BINARY_PATH", emulators()).run()
    };
    let status = call(&["--status", "arm64", "--format", "json"]).ok();
    let arm64 = &status.json()["platforms"][0];
    assert_eq!(arm64["state"], json!("works"), "{arm64}");
    assert_eq!(arm64["emulator"], json!(null));
    assert!(arm64["unseen"].as_str().unwrap().contains("ptrace"), "{arm64}");
    call(&["--install", "arm64", "--keep"]).ok().says("which emulator it has cannot be seen: ptrace(2) is refused");
    let text = call(&["--status", "arm64"]).ok().stdout;
    assert!(text.contains("cannot be seen: ptrace(2) is refused"), "{text}");
    let verify = call(&["--verify", "arm64", "--keep"]).ends(1);
    assert!(verify.stdout.contains("cannot be seen"), "{verify}");
    verify.ends_saying(&["ptrace"]);
    call(&["--install", "riscv64"]).ok().says("riscv64 OK (qemu-riscv64");
}

/// What an emulator starts ends with the call that started it, and what it closes keeps nobody busy.
#[test]
fn an_emulator_that_leaves_a_process_behind_and_closes_its_stderr_leaves_nothing() {
    let host = Host::new();
    let emulator = host.scratch().join("qemu-aarch64");
    host.compile(
        &emulator,
        "if (argc > 1 && argv[1][0] == '-') return 1;
         if (!fork()) { setsid(); if (!fork()) { close(2); for (;;) pause(); } _exit(0); }
         close(2); usleep(200000); return argv[2][0];",
    );
    host.register("qemu-aarch64", "aarch64", &emulator, "POCF");
    let arm64 = arm64(&host);
    assert_eq!(arm64["state"], json!("works"), "{arm64}");
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let programs = processes.filter_map(|p| fs::read_link(p.path().join("exe")).ok());
    assert_eq!(programs.filter(|program| *program == emulator).count(), 0);
}

/// As some supervisors leave it to what they start.
#[test]
fn a_caller_that_ignores_its_children_makes_no_difference() {
    let (host, _) = with_another_tools_entry();
    for args in [&["--status", "arm64"][..], &["--install", "arm64"], &["--list"]] {
        let call = host.program("env").args(["--ignore-signal=CHLD", BINFMT]).args(args);
        call.env("QEMU_BINARY_PATH", emulators()).run().ok();
    }
}

#[test]
fn each_emulator_is_known_by_its_bytes_and_nothing_else_is_one() {
    for folder in [emulators(), old_emulators()] {
        let files = fs::read_dir(&folder).expect("a folder").map(|file| file.unwrap().path());
        let files = files.filter(|file| file.to_string_lossy().contains("/qemu-"));
        let version = version(&folder);
        assert_ne!(
            0,
            files.fold(0, |count, path| {
                let qemu = qemu_of(&File::open(&path).unwrap()).unwrap().expect("QEMU");
                let name = format!("qemu-{}", qemu.target);
                assert_eq!(path.file_name().unwrap(), &*name);
                assert_eq!(qemu.version.number, version);
                assert!(qemu.version.package.unwrap().starts_with("Debian 1:"));
                count + 1
            })
        );
    }
    for other in [Path::new(BINFMT), &std::env::current_exe().unwrap(), &program("arm64"), Path::new("/bin/sh")] {
        assert_eq!(qemu_of(&File::open(other).unwrap()).unwrap(), None, "{}", other.display());
    }
}

/// Not one after the other.
#[test]
fn emulators_that_hang_when_they_are_asked_hang_at_the_same_time() {
    let host = Host::new();
    let folder = host.folder("hanging", &[]);
    for name in ["qemu-aarch64", "qemu-arm", "qemu-riscv64"] {
        host.compile(&folder.join(name), "pause();");
    }
    let asked = host.program("timeout").args(["39", BINFMT, "--version"]).emulators(&folder).run().ok();
    for name in ["qemu-aarch64", "qemu-arm", "qemu-riscv64"] {
        assert!(asked.stderr.contains(&format!("{name} ")), "{asked}");
    }
    asked.ends_saying(&["qemu/none"]);
}

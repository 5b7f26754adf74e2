//! `--status` and `--list`, as text and as JSON: each says what is true of every platform and entry,
//! and names what does not run and why.

use std::path::Path;

use crate::harness::{Host, MOUNT_POINT, Output, emulators};
use binfmt_magic::arch::{ARCHES, Arch};
use serde_json::{Value, json};

fn status(host: &Host, list: &[&str]) -> Output {
    host.binfmt(&[&["--status"], list, &["--format", "json"]].concat())
}

/// What `--status` or `--list` says of a platform.
#[track_caller]
fn platform<'a>(platforms: &'a Value, name: &str) -> &'a Value {
    let mut platforms = platforms.as_array().into_iter().flatten();
    platforms.find(|platform| platform["platform"] == name).unwrap_or_else(|| panic!("no {name}"))
}

fn names(list: &Value, key: &str) -> Vec<String> {
    list.as_array().into_iter().flatten().map(|item| item[key].as_str().expect("a string").to_owned()).collect()
}

fn host_platform() -> &'static str {
    Arch::of_host().expect("a host that QEMU knows").platforms()[0]
}

#[test]
fn a_healthy_host_ends_with_0() {
    let host = Host::new();
    host.binfmt(&["--status"]).ok();
    host.binfmt(&["--install", "arm64,arm"]).ok();
    for args in [
        &["--status"][..],
        &["--status", "--format", "json"],
        &["--status", "--format", "text"],
        &["--status", "arm64"],
        &["--status", "arm64,arm/v7"],
        &["--status=arm64,-riscv64"],
        &["--status", host_platform()],
    ] {
        let output = host.binfmt(args).ok();
        assert_eq!(output.stderr, "", "{output}");
    }
}

#[test]
fn all_means_each_that_there_is_an_emulator_for() {
    let host = Host::new();
    let folder = host.folder("two", &[("qemu-aarch64", emulators()), ("qemu-arm", emulators())]);
    let call = |args: &[&str]| host.call(args).emulators(&folder).run();
    call(&["--install", "arm64"]).ok();
    call(&["--status", "all"]).ends(1).ends_saying(&["linux/arm does not run", "--install arm"]);
    call(&["--install", "all"]).ok();
    call(&["--status", "all"]).ok();
}

#[test]
fn its_json_begins_with_the_incumbents_keys_and_says_how_each_platform_runs() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    let output = status(&host, &[]).ok();
    let plain = host.binfmt(&[]).ok().stdout;
    let shared = plain.trim_end().trim_end_matches('}').trim_end();
    assert!(output.stdout.starts_with(&format!("{shared},\n  \"platforms\": [\n")), "{output}");
    let json = output.json();
    let arm64 = platform(&json["platforms"], "linux/arm64");
    assert!(arm64["start_us"].as_u64().unwrap() > 0, "{arm64}");
    let mut arm64 = arm64.clone();
    arm64["start_us"] = json!(1);
    let emulator = arm64["emulator"].take();
    assert_eq!(emulator["version"], json!(crate::harness::version(&emulators())));
    assert_eq!(
        arm64,
        json!({
            "platform": "linux/arm64",
            "qemu": "aarch64",
            "state": "works",
            "reason": null,
            "remedy": null,
            "entry": "qemu-aarch64",
            "flags": "POCF",
            "interpreter": emulators().join("qemu-aarch64"),
            "argv0": true,
            "setuid": null,
            "ps_shows": "emulator",
            "start_us": 1,
            "emulator": null,
            "unseen": null,
            "shadowed": [],
        })
    );
    let own = platform(&json["platforms"], host_platform());
    assert_eq!((&own["state"], &own["entry"]), (&json!("native"), &json!(null)));
    assert_eq!(json["others"], json!([]));
}

#[test]
fn its_text_is_aligned() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64,mips64le"]).ok();
    let output = host.binfmt(&["--status"]).ok();
    let mut lines = output.stdout.lines();
    let header = lines.next().unwrap();
    let columns = ["PLATFORM", "STATE", "ENTRY", "FLAGS", "ARGV0", "SETUID", "START", "QEMU", "BUILD", "INTERPRETER"];
    let starts = columns.map(|column| header.find(column).unwrap_or_else(|| panic!("{column} in {output}")));
    // known defects are below it
    for line in lines.take_while(|line| !line.is_empty()) {
        assert_eq!(line.trim_end(), line, "{output}");
        for start in &starts[1..] {
            assert_eq!(&line[start - 2..*start], "  ", "{output}");
            assert_ne!(&line[*start..=*start], " ", "{output}");
        }
    }
    let arm64 = output.stdout.lines().find(|line| line.starts_with("linux/arm64 ")).unwrap();
    let words: Vec<&str> = arm64.split_whitespace().collect();
    let interpreter = emulators().join("qemu-aarch64");
    assert_eq!(words[1..5], ["works", "qemu-aarch64", "POCF", "kept"], "{arm64}");
    let version = crate::harness::version(&emulators());
    assert_eq!(words[7..9], ["ms", &version], "{arm64}");
    assert_eq!(words[10..], [interpreter.to_str().unwrap()], "{arm64}");
}

#[test]
fn a_replaced_argv0_is_told() {
    let host = Host::new();
    host.register("qemu-aarch64", "aarch64", &emulators().join("qemu-aarch64"), "OCF");
    let json = status(&host, &["arm64"]).ok().json();
    assert_eq!(platform(&json["platforms"], "linux/arm64")["argv0"], json!(false));
    let text = host.binfmt(&["--status", "arm64"]).ok();
    assert!(text.stdout.contains(" replaced "), "{text}");
}

#[test]
fn only_the_platforms_that_were_asked_for_are_shown_and_judged() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64,s390x"]).ok();
    host.register("qemu-arm", "arm", Path::new("/nowhere/qemu-arm"), "OC");
    let json = status(&host, &["s390x,arm64"]).ok().json();
    let shown = names(&json["platforms"], "platform");
    assert_eq!(shown, ["linux/arm64", "linux/s390x"]);
    status(&host, &[]).ends(1);
}

#[test]
fn what_is_not_installed_is_missing_when_it_was_asked_for() {
    let host = Host::new();
    let output = status(&host, &["arm64"]).ends(1);
    let json = output.json();
    let arm64 = platform(&json["platforms"], "linux/arm64");
    assert_eq!((&arm64["state"], &arm64["entry"]), (&json!("missing"), &json!(null)));
    output.ends_saying(&["linux/arm64", "binfmt --install arm64"]);
    host.binfmt(&["--status", "arm64,s390x,riscv64"]).ends(1).ends_saying(&["2 more"]);
}

#[test]
fn an_entry_that_is_not_pinned_is_broken_and_named() {
    let host = Host::new();
    host.register("qemu-aarch64", "aarch64", &emulators().join("qemu-aarch64"), "POC");
    let output = status(&host, &[]).ends(1);
    let json = output.json();
    let arm64 = platform(&json["platforms"], "linux/arm64");
    assert_eq!((&arm64["state"], &arm64["flags"]), (&json!("broken"), &json!("POC")));
    assert!(arm64["reason"].as_str().unwrap().contains("flag F"), "{arm64}");
    assert!(!output.list("supported").contains(&"linux/arm64".into()), "{output}");
    // they run here
    host.runs_arm64();
    output.ends_saying(&["linux/arm64 does not run in containers: ", "flag F", "binfmt --install arm64"]);
    host.binfmt(&["--install", "arm64"]).ok();
    host.binfmt(&["--status"]).ok();
}

#[test]
fn an_interpreter_that_runs_nothing_is_broken_and_named() {
    let host = Host::new();
    let folder = host.folder("broken", &[]);
    let (fails, crashes) = (folder.join("fails"), folder.join("crashes"));
    host.compile(&fails, "fputs(\"one\\ncannot map 0x10000\\n\", stderr); return 7;");
    host.compile(&crashes, "abort();");
    host.register("qemu-aarch64", "aarch64", &fails, "F");
    host.register("qemu-s390x", "s390x", &crashes, "F");
    host.register("qemu-riscv64", "riscv64", Path::new("/nowhere/qemu-riscv64"), "");
    let output = status(&host, &[]).ends(1);
    let json = output.json();
    for (name, entry, words) in [
        ("linux/arm64", "qemu-aarch64", "exit status 7"),
        ("linux/arm64", "qemu-aarch64", "cannot map 0x10000"),
        ("linux/s390x", "qemu-s390x", "SIGABRT"),
        ("linux/riscv64", "qemu-riscv64", "/nowhere/qemu-riscv64 does not exist"),
    ] {
        let platform = platform(&json["platforms"], name);
        assert_eq!((&platform["state"], &platform["entry"]), (&json!("broken"), &json!(entry)));
        assert!(platform["reason"].as_str().unwrap().contains(words), "{platform}");
    }
    let text = host.binfmt(&["--status"]).ends(1);
    for words in ["exit status 7", "SIGABRT", "does not exist"] {
        assert!(text.stdout.contains(words), "{text}");
    }
}

#[test]
fn an_entry_that_shadows_a_working_one_is_the_one_that_counts() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    host.register("mine", "aarch64", Path::new("/bin/false"), "F");
    let json = status(&host, &[]).ends(1).json();
    assert_eq!(platform(&json["platforms"], "linux/arm64")["entry"], "mine");
    assert_eq!(names(&json["others"], "entry"), ["qemu-aarch64"]);
}

#[test]
fn an_entry_that_is_switched_off_is_named_and_counts_as_broken() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64,s390x"]).ok();
    host.sh(&format!("echo 0 >{MOUNT_POINT}/qemu-s390x")).ok();
    let output = status(&host, &["s390x"]).ends(1);
    let json = output.json();
    let s390x = platform(&json["platforms"], "linux/s390x");
    assert_eq!(s390x["state"], "broken", "{output}");
    assert_eq!(s390x["entry"], "qemu-s390x", "{output}");
    assert_eq!(output.list("emulators"), ["qemu-aarch64"]);
    output.ends_saying(&["linux/s390x", "switched off", "binfmt --install s390x"]);
    host.binfmt(&["--status"]).ends(1).ends_saying(&["linux/s390x", "switched off"]);
    host.binfmt(&["--install", "s390x"]).ok();
    host.binfmt(&["--status"]).ok();
}

#[test]
fn a_table_that_is_switched_off_is_the_reason() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    host.sh(&format!("echo 0 >{MOUNT_POINT}/status")).ok();
    let plain = host.binfmt(&[]).ok();
    assert_eq!(plain.list("emulators"), ["qemu-aarch64"], "as the incumbent has it");
    assert!(!plain.list("supported").contains(&"linux/arm64".into()), "{plain}");
    for list in [&[][..], &["arm64"]] {
        let args = [&["--status"], list].concat();
        host.binfmt(&args).ends(1).ends_saying(&["switched off", "echo 1"]).never_says("--install");
    }
    // what has no handler takes more
    host.binfmt(&["--status", "s390x"]).ends(1).ends_saying(&["echo 1", "then install it: ", "--install s390x"]);
    host.sh(&format!("echo 1 >{MOUNT_POINT}/status")).ok();
    host.binfmt(&["--status"]).ok();
}

#[test]
fn entries_of_every_kind_are_shown() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    let long = [&b":long:M:56:"[..], "\\xab".repeat(200).as_bytes(), b"::/bin/true:"].concat();
    for line in [
        &b":extension:E::jar::/usr/bin/jarwrapper:"[..],
        &long,
        b":odd \n\t\"name\x1b[31m:E::odd::/bin/true:",
        b"|path|E||path||/nowhere/a b\nflags: XYZ\ndisabled|P",
        b":\xff\xfe:E::bytes::/\xff:",
        b"|na:me|E||colon||/bin/true|",
    ] {
        host.register_line(line);
    }
    let output = status(&host, &[]).ok();
    let json = output.json();
    let mut entries = names(&json["others"], "entry");
    entries.sort();
    assert_eq!(entries, ["extension", "long", "na:me", "odd \n\t\"name\u{1b}[31m", "path", "\u{fffd}\u{fffd}"]);
    for other in json["others"].as_array().unwrap() {
        assert_eq!(other["enabled"], true, "{other}");
        assert_eq!(other["unknown"], json!([]), "{other}");
    }
    let text = host.binfmt(&["--status"]).ok();
    assert!(!text.stdout.contains('\x1b'), "{text}");
    assert!(text.stdout.contains("odd \\n\\t\"name\\u{1b}[31m"), "{text}");
    let plain = host.binfmt(&[]).ok();
    assert_eq!(plain.list("emulators").len(), 7, "{plain}");
}

#[test]
fn what_was_asked_for_and_is_unknown_is_told() {
    let host = Host::new();
    host.binfmt(&["--status", "amr64"]).ends(1).ends_saying(&["amr64", "arm64"]);
}

#[test]
fn looking_changes_nothing() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64,s390x"]).ok();
    host.register("qemu-arm", "arm", Path::new("/nowhere/qemu-arm"), "OC");
    let look = format!("cd {MOUNT_POINT}; stat -c '%n %i %Y %Z' . *");
    let before = (host.table(), host.sh(&look).ok().stdout);
    for args in [&[][..], &["--status"], &["--status", "arm64"], &["--list"], &["--version"]] {
        host.binfmt(args);
        assert_eq!((host.table(), host.sh(&look).ok().stdout), before, "{args:?}");
    }
}

#[test]
fn the_list_has_every_architecture_and_its_state() {
    let host = Host::new();
    let folder = host.folder("some", &[("qemu-aarch64", emulators()), ("qemu-s390x", emulators())]);
    host.executable(&folder.join("qemu-riscv64"), b"");
    host.call(&["--install", "arm64"]).emulators(&folder).run().ok();
    host.register("qemu-arm", "arm", Path::new("/nowhere/qemu-arm"), "OC");
    let list = host.call(&["--list", "--format", "json"]).emulators(&folder).run().ok().json();
    let qemu = names(&list, "qemu");
    assert_eq!(qemu, ARCHES.iter().map(|arch| arch.qemu).collect::<Vec<_>>());
    for (name, state, entry, reason) in [
        (host_platform(), "native", None, None),
        ("linux/arm64", "registered", Some("qemu-aarch64"), None),
        ("linux/arm", "registered", Some("qemu-arm"), Some("/nowhere/qemu-arm does not exist")),
        ("linux/s390x", "available", None, None),
        ("linux/riscv64", "unavailable", None, Some("is empty")),
        ("linux/ppc64le", "unavailable", None, Some("does not exist")),
    ] {
        let row = platform(&list, name);
        assert_eq!((&row["state"], &row["entry"]), (&json!(state), &json!(entry)), "{row}");
        let said = row["reason"].as_str();
        assert_eq!(said.is_some(), reason.is_some(), "{row}");
        assert!(said.unwrap_or_default().contains(reason.unwrap_or_default()), "{row}");
    }
}

#[test]
fn the_list_is_aligned_text_by_default() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    let output = host.binfmt(&["--list"]).ok();
    assert_eq!(output.stdout.lines().count(), ARCHES.len() + 1, "{output}");
    let header = output.stdout.lines().next().unwrap();
    let state = header.find("STATE").unwrap();
    for line in output.stdout.lines() {
        assert_eq!(line.trim_end(), line, "{output}");
        assert_eq!(&line[state - 2..state], "  ", "{output}");
        assert_ne!(&line[state..=state], " ", "{output}");
    }
    assert!(output.stdout.contains("\nlinux/arm64 "), "{output}");
    assert_eq!(host.binfmt(&["--list", "--format", "text"]).ok().stdout, output.stdout);
    assert_eq!(output.stderr, "");
}

//! `--verify`: every kind of drift, made for real, is found under its name; then the very command that
//! the last line names is run, and nothing is left to be found. It changes nothing itself.

use std::path::Path;

use crate::harness::{BINFMT, Host, MOUNT_POINT, Output, arch, emulators, old_emulators, version};
use binfmt_magic::arch::Arch;
use binfmt_magic::rule::{Flags, Matcher, Rule};
use serde_json::Value;

/// `--verify` with these arguments, as JSON.
fn verify(host: &Host, args: &[&str]) -> Output {
    host.binfmt(&[&["--verify"], args, &["--format", "json"]].concat())
}

/// The kinds of what was found for this entry (`-`: none), sorted.
fn kinds(output: &Output, entry: &str) -> Vec<String> {
    let json = output.json();
    let findings = json["findings"].as_array().expect("a list");
    let of_entry = |f: &&Value| f["entry"].as_str().unwrap_or("-") == entry;
    let kinds = findings.iter().filter(of_entry).map(|f| f["kind"].as_str());
    let mut kinds: Vec<String> = kinds.map(|kind| kind.expect("a kind").to_owned()).collect();
    kinds.sort();
    kinds
}

/// Finds this, of this entry, and nothing else; then what is said to repair it does.
#[track_caller]
fn finds(host: &Host, entry: &str, expected: &[&str]) -> Output {
    let output = found(host, entry, expected);
    repair(host, &output);
    output
}

#[track_caller]
fn found(host: &Host, entry: &str, expected: &[&str]) -> Output {
    let before = host.table();
    let output = verify(host, &[]).ends(1);
    assert_eq!(host.table(), before, "looking changes nothing");
    assert_eq!(kinds(&output, entry), expected, "{output}");
    output
}

/// Runs the command that the last line names, and nothing is left to be found.
#[track_caller]
fn repair(host: &Host, output: &Output) {
    assert_eq!(output.json()["repair"], command(output), "{output}");
    run_mend(host, output);
    let after = verify(host, &[]).ok();
    let is_empty = after.stderr.starts_with("no QEMU handler is registered");
    assert!(after.stderr.is_empty() || is_empty, "{after}");
}

#[track_caller]
fn run_mend(host: &Host, output: &Output) {
    let folder = Path::new(BINFMT).parent().expect("a folder").display();
    host.sh(&format!("PATH={folder}:$PATH; {}", command(output))).ok();
}

/// The command that the last line on stderr names.
#[track_caller]
fn command(output: &Output) -> &str {
    let last = output.stderr.lines().next_back().unwrap_or_default();
    let command = last.split_once("repair: ").map(|(_, command)| command);
    command.unwrap_or_else(|| panic!("no command in {output}"))
}

/// The rule that an install makes for `qemu`.
fn rule(qemu: &str) -> Rule {
    Rule::for_arch(arch(qemu), "", &emulators(), Flags::parse("POCF").0)
}

fn with_matcher(qemu: &str, change: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>)) -> Rule {
    let mut rule = rule(qemu);
    if let Matcher::Magic { magic, mask: Some(mask), .. } = &mut rule.matcher {
        change(magic, mask);
    }
    rule
}

#[test]
fn what_an_install_has_made_is_in_order() {
    let host = Host::new();
    let output = verify(&host, &[]).ok();
    assert_eq!(output.json()["checked"], serde_json::json!([]), "{output}");
    host.binfmt(&["--install", "arm64,s390x,mips64"]).ok();
    let output = verify(&host, &[]).ok();
    let json = output.json();
    assert_eq!(json["in_order"], true, "{output}");
    assert_eq!(json["checked"].as_array().unwrap().len(), 3, "{output}");
    let text = host.binfmt(&["--verify"]).ok();
    assert_eq!(text.stderr, "");
    let arm64 = text.stdout.lines().nth(1).unwrap();
    let words: Vec<&str> = arm64.split_whitespace().collect();
    assert_eq!(words, ["linux/arm64", "in", "order", "qemu-aarch64", "-"], "{text}");
    let own = Arch::of_host().unwrap().oci;
    verify(&host, &[&format!("arm64,{own}")]).ok();
}

#[test]
fn flags_that_are_missing_or_too_many() {
    let host = Host::new();
    let path = |qemu: &str| emulators().join(format!("qemu-{qemu}"));
    host.register("qemu-aarch64", "aarch64", &path("aarch64"), "POC");
    host.register("qemu-s390x", "s390x", &path("s390x"), "PF");
    host.register("qemu-riscv64", "riscv64", &path("riscv64"), "OCF");
    let output = verify(&host, &["--credentials", "yes"]).ends(1);
    assert_eq!(kinds(&output, "qemu-aarch64"), ["flags"], "{output}");
    let json = output.json();
    for (entry, words) in [
        ("qemu-aarch64", "without flag F; containers do not find its interpreter"),
        ("qemu-s390x", "without flag OC; setuid"),
        ("qemu-riscv64", "without flag P; programs do not see their own argv[0]"),
    ] {
        let mut findings = json["findings"].as_array().unwrap().iter();
        let finding = findings.find(|f| f["entry"] == entry).unwrap();
        assert!(finding["text"].as_str().unwrap().starts_with(words), "{output}");
    }
    run_mend(&host, &output.ends_saying(&["--credentials yes"]));
    verify(&host, &["--credentials", "yes"]).ok();
    let output = verify(&host, &["--credentials", "no"]).ends(1);
    assert_eq!(kinds(&output, "qemu-s390x"), ["flags"], "{output}");
    assert!(output.stdout.contains("with flag OC, which an install leaves out"), "{output}");
    run_mend(&host, &output.ends_saying(&["--credentials no"]));
    verify(&host, &["--credentials", "no"]).ok();
}

/// It would set flag C, which nobody has asked for.
#[test]
fn a_repair_uses_force_only_where_a_name_is_taken() {
    let host = Host::new();
    host.register("qemu-aarch64", "aarch64", &emulators().join("qemu-aarch64"), "F");
    host.register_line(b":qemu-riscv64:E::riscv64::/bin/true:");
    host.register("mine", "riscv64", &emulators().join("qemu-riscv64"), "F");
    host.register_line(b":qemu-s390x:E::s390x::/bin/true:");
    let output = verify(&host, &["arm64,riscv64,s390x"]).ends(1);
    let command = command(&output);
    let steps = ["--install riscv64 --force --credentials no", "--install s390x --force &&", "--install arm64"];
    assert!(steps.iter().all(|step| command.contains(step)) && !command.contains("arm64 --force"), "{output}");
    run_mend(&host, &output);
    verify(&host, &["arm64,riscv64,s390x"]).ok();
    for (entry, honours) in [("qemu-aarch64", false), ("qemu-riscv64", false), ("qemu-s390x", true)] {
        let text = host.entry(entry).unwrap();
        let flags = text.lines().find(|line| line.starts_with("flags:")).unwrap();
        assert_eq!(flags.contains('C'), honours, "{text}");
    }
}

#[test]
fn flag_p_is_judged_by_what_a_program_sees() {
    let host = Host::new();
    let folder = host.folder("deaf", &[]);
    // it takes its first argument for the program, and so answers with the beginning of that path, flag P or not
    host.compile_emulator(&folder.join("qemu-aarch64"), "return argv[1][0];");
    let call = |args: &[&str]| host.call(args).emulators(&folder).run();
    call(&["--install", "arm64"]).ok();
    assert!(host.entry("qemu-aarch64").unwrap().contains("\nflags: OCF\n"));
    call(&["--verify"]).ok();
    call(&["--uninstall", "arm64"]).ok();
    host.register("qemu-aarch64", "aarch64", &folder.join("qemu-aarch64"), "POCF");
    let output = call(&["--verify"]).ends(1);
    assert!(output.stdout.contains("with flag P, which"), "{output}");
    run_mend(&host, &output);
    call(&["--verify"]).ok();
}

#[test]
fn where_nothing_can_be_rehearsed_the_version_tells() {
    let host = Host::new();
    host.register("qemu-aarch64", "aarch64", &emulators().join("qemu-aarch64"), "OCF");
    host.sh("echo 0 >/proc/sys/user/max_user_namespaces").ok();
    let output = finds(&host, "qemu-aarch64", &["flags"]);
    output.says("flag P is judged by QEMU's version, since nothing can be rehearsed: ");
}

#[test]
fn magic_and_mask() {
    let host = Host::new();
    host.register_rule(&with_matcher("aarch64", |_, mask| mask[7] = 0xff));
    host.register_rule(&with_matcher("s390x", |magic, _| magic[7] = 3));
    // static programs of GNU's C library have another byte there
    let output = found(&host, "qemu-aarch64", &["broken", "mask"]);
    assert_eq!(kinds(&output, "qemu-s390x"), ["magic"], "{output}");
    repair(&host, &output);
    // QEMU's own script has the big-endian number in a little-endian header, which no program has
    host.register_rule(&with_matcher("microblaze", |magic, _| magic[5] ^= 3));
    let output = found(&host, "qemu-microblaze", &["idle"]);
    output.clone().ends_saying(&["--install microblaze"]);
    repair(&host, &output);
}

#[test]
fn names() {
    let host = Host::new();
    for (name, qemu) in [("qemu-arm", "aarch64"), ("qemu-s390x-static", "s390x")] {
        host.register_rule(&Rule { name: name.into(), ..rule(qemu) });
    }
    let output = found(&host, "qemu-arm", &["name"]);
    assert!(output.stdout.contains("has the name of arm; an install names it qemu-aarch64"), "{output}");
    repair(&host, &output);
    assert_eq!(host.entries(), ["qemu-s390x", "qemu-aarch64"]);
}

#[test]
fn a_name_that_is_needed_twice() {
    let host = Host::new();
    host.register_rule(&Rule { name: "qemu-arm".into(), ..rule("aarch64") });
    host.register_rule(&Rule { name: "mine-qemu-arm".into(), ..rule("arm") });
    let output = found(&host, "mine-qemu-arm", &["name_taken"]);
    assert_eq!(kinds(&output, "qemu-arm"), ["name"], "{output}");
    repair(&host, &output);
}

#[test]
fn the_path_and_the_emulator() {
    let host = Host::new();
    host.register("qemu-aarch64", "aarch64", &old_emulators().join("qemu-aarch64"), "POCF");
    let output = found(&host, "qemu-aarch64", &["emulator", "path"]);
    let text =
        format!("pinned: QEMU {}; an install would pin QEMU {}", version(&old_emulators()), version(&emulators()));
    assert!(output.stdout.contains(&text), "{output}");
    repair(&host, &output);
}

#[test]
fn an_emulator_that_was_deleted_or_replaced_or_is_unfit() {
    let host = Host::new();
    let folder = host.folder("path", &[("qemu-aarch64", old_emulators())]);
    let path = folder.join("qemu-aarch64");
    let call = |args: &[&str]| host.call(args).emulators(&folder).run();
    let find = |words: &str| call(&["--verify"]).ends(1).ends_saying(&[words]);
    let repair = |output: &Output| {
        run_mend(&host, output);
        call(&["--verify"]).ok();
    };
    call(&["--install", "arm64"]).ok();
    host.sh(&format!("chmod -x '{}'", path.display())).ok();
    repair(&find("chmod +x"));

    host.sh(&format!("rm '{}'", path.display())).ok();
    find("does not exist; set QEMU_BINARY_PATH");
    host.runs_arm64();

    host.sh(&format!("cp /bin/sh '{}'", path.display())).ok();
    find("dynamically linked").ends_saying(&["use a static build"]);
    host.sh(&format!("rm '{}'", path.display())).ok();
    host.copy(&emulators().join("qemu-aarch64"), &path);
    let output = find("repair: ");
    let pinned = format!("pinned: QEMU {}", version(&old_emulators()));
    assert!(output.stdout.contains(&pinned), "{output}");
    repair(&output);

    host.sh(&format!("rm '{}'", path.display())).ok();
    host.compile_emulator(&path, "return 7;");
    let output = find("does not run programs: wrong answer (exit status 7)");
    assert!(output.stdout.contains("drift"), "{output}");
    host.runs_arm64();
}

#[test]
fn a_broken_interpreter() {
    let host = Host::new();
    let folder = host.folder("broken", &[]);
    let fails = folder.join("qemu-aarch64");
    host.compile(&fails, "fputs(\"no memory\\n\", stderr); return 7;");
    host.register("qemu-aarch64", "aarch64", &fails, "POCF");
    let output = finds(&host, "qemu-aarch64", &["broken", "emulator", "path"]);
    assert!(output.stdout.contains("exit status 7"), "{output}");
}

#[test]
fn entries_without_effect() {
    let host = Host::new();
    host.register_rule(&Rule { name: "old".into(), ..rule("aarch64") });
    host.register_rule(&Rule { name: "qemu-old".into(), ..rule("aarch64") });
    host.binfmt(&["--install", "s390x"]).ok();
    host.register_rule(&rule("aarch64"));
    // of these three for one architecture the newest is in order
    let output = found(&host, "old", &["shadowed"]);
    assert_eq!(kinds(&output, "qemu-old"), ["shadowed"], "{output}");
    repair(&host, &output);
    assert_eq!(host.entries(), ["qemu-aarch64", "qemu-s390x"]);

    host.register_rule(&Rule { name: "newer".into(), ..rule("aarch64") });
    let output = found(&host, "qemu-aarch64", &["shadowed"]);
    assert_eq!(kinds(&output, "newer"), ["name"], "{output}");
    repair(&host, &output);
}

#[test]
fn an_older_entry_is_removed_and_not_its_namesakes() {
    let host = Host::new();
    host.register_rule(&Rule { name: "qemu-arm".into(), ..rule("aarch64") });
    host.binfmt(&["--install", "aarch64"]).ok();
    host.register_rule(&Rule { name: "qemu-arm.x".into(), ..rule("arm") });
    // left over on purpose: it has the name of arm, and arm's programs run through another
    host.register_rule(&Rule { name: "qemu-arm".into(), ..rule("aarch64") });
    host.sh(&format!("echo -1 >{MOUNT_POINT}/qemu-aarch64")).ok();
    host.register_rule(&rule("aarch64"));
    let output = found(&host, "qemu-arm", &["shadowed"]);
    repair(&host, &output);
}

#[test]
fn one_entry_for_several_architectures() {
    for (name, broad) in [("qemu-any", true), ("qemu-aarch64", false)] {
        let host = Host::new();
        // the bits in which the two numbers of e_machine differ
        let mut both = with_matcher("aarch64", |_, mask| mask[18] &= !(0xb7 ^ 0xf3));
        both.name = name.into();
        host.register_rule(&both);
        let output = verify(&host, &[]).ends(1);
        let kinds = kinds(&output, name);
        assert!(kinds.contains(&"magic".to_owned()), "{output}");
        assert_eq!(kinds.contains(&"broad".to_owned()), broad, "{output}");
        repair(&host, &output);
        assert_eq!(host.entries().len(), 2, "{name}");
    }
}

/// One of its architectures has a newer handler already, so once the other one has, it is in nobody's use.
#[test]
fn one_entry_for_several_architectures_goes_with_the_last_that_uses_it() {
    let host = Host::new();
    let mut both = with_matcher("aarch64", |_, mask| mask[18] &= !(0xb7 ^ 0xf3));
    both.name = "qemu-any".into();
    host.register_rule(&both);
    host.binfmt(&["--install", "riscv64"]).ok();
    let output = verify(&host, &[]).ends(1);
    assert!(kinds(&output, "qemu-any").contains(&"broad".to_owned()), "{output}");
    repair(&host, &output);
    assert_eq!(host.entries(), ["qemu-aarch64", "qemu-riscv64"]);
}

#[test]
fn one_entry_for_several_architectures_goes_last() {
    let host = Host::new();
    let mut both = with_matcher("aarch64", |_, mask| mask[18] &= !(0xb7 ^ 0xf3));
    both.name = "qemu-any".into();
    host.register_rule(&both);
    let files = [("qemu-aarch64", emulators()), ("qemu-riscv64", emulators())];
    let folder = host.folder("vanishing", &files);
    let output = host.call(&["--verify"]).emulators(&folder).run().ends(1);
    assert!(command(&output).ends_with(" binfmt --uninstall qemu-any"), "{output}");
    host.copy(Path::new("/bin/sh"), &folder.join("qemu-aarch64"));
    let path = Path::new(BINFMT).parent().expect("a folder").display();
    host.sh(&format!("PATH={path}:$PATH; {}", command(&output))).ends(1).says("dynamically linked");
    // what was there still does its work
    host.runs_arm64();
}

#[test]
fn entries_that_are_switched_off() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64,s390x"]).ok();
    host.sh(&format!("echo 0 >{MOUNT_POINT}/qemu-s390x")).ok();
    finds(&host, "qemu-s390x", &["switched_off"]);
    host.sh(&format!("echo 0 >{MOUNT_POINT}/status")).ok();
    let output = finds(&host, "-", &["table_off"]);
    assert!(output.stderr.contains(&format!("echo 1 > {MOUNT_POINT}/status")), "{output}");
}

#[test]
fn what_the_kernel_runs_by_itself_is_not_taken() {
    let host = Host::new();
    let list = host.binfmt(&["--list", "--format", "json"]).ok().json();
    let mut rows = list.as_array().expect("a list").iter();
    let runs_it = rows.any(|row| row["qemu"] == "i386" && row["state"] == "native");
    host.register_rule(&rule("i386"));
    if !runs_it {
        let output = verify(&host, &[]);
        assert_eq!(kinds(&output, "qemu-i386"), [""; 0], "{output}");
        return;
    }
    let output = verify(&host, &[]).ends(1);
    assert_eq!(kinds(&output, "qemu-i386"), ["takes_native"], "{output}");
    repair(&host, &output);
    assert_eq!(host.entries(), [""; 0]);
}

#[test]
fn another_tools_entry_counts_where_it_gets_in_the_way() {
    let host = Host::new();
    host.register_other("jar", b"PK");
    host.binfmt(&["--install", "arm64"]).ok();
    verify(&host, &[]).ok();
    let folder = host.folder("other", &[]);
    host.translator(&folder.join("translate"));
    host.register("rosetta", "aarch64", &folder.join("translate"), "POCF");
    let output = found(&host, "qemu-aarch64", &["preceded"]);
    assert!(output.stdout.contains("rosetta"), "{output}");
    repair(&host, &output);
    let output = verify(&host, &["arm64"]).ok();
    assert_eq!(output.json()["checked"][0]["left_to_other"], true, "{output}");

    host.binfmt(&["--install", "arm64", "--force"]).ok();
    verify(&host, &[]).ok();
    host.register("broken", "aarch64", Path::new("/bin/false"), "F");
    finds(&host, "broken", &["broken"]);
}

#[test]
fn what_killed_calls_leave() {
    let host = Host::new();
    host.register_rule(&Rule { name: "qemu-aarch64.next".into(), ..rule("aarch64") });
    host.register_rule(&rule("aarch64"));
    finds(&host, "qemu-aarch64.next", &["leftover"]);
    let mut trial = with_matcher("s390x", |magic, _| magic[9..16].copy_from_slice(b"binfmt!"));
    trial.name = "binfmt-trial-s390x".into();
    host.register_rule(&trial);
    finds(&host, "binfmt-trial-s390x", &["leftover"]);
}

#[test]
fn what_was_asked_for_and_is_not_there() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    let output = verify(&host, &["arm64,s390x"]).ends(1);
    assert_eq!(kinds(&output, "-"), ["missing"], "{output}");
    repair(&host, &output);
    verify(&host, &["arm64,s390x"]).ok();
    verify(&host, &["s930x"]).ends(1).ends_saying(&["s930x", "s390x"]);
    host.call(&["--verify", "ppc64le"])
        .emulators(host.scratch())
        .run()
        .ends(1)
        .ends_saying(&["qemu-ppc64le does not exist", "QEMU_BINARY_PATH"]);
}

#[test]
fn only_what_was_asked_for_is_judged() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64,s390x"]).ok();
    host.sh(&format!("echo 0 >{MOUNT_POINT}/qemu-s390x")).ok();
    verify(&host, &["arm64"]).ok();
    verify(&host, &["s390x"]).ends(1);
}

#[test]
fn the_command_repeats_what_the_answer_depends_on() {
    let host = Host::new();
    let folder = host.folder("some emulators", &[("qemu-aarch64", emulators())]);
    host.sh(&format!("cd '{}'; mv qemu-aarch64 my-qemu-aarch64", folder.display())).ok();
    let call = || {
        let args = ["--verify", "arm64", "--credentials=no", "--mount"];
        let call = host.call(&args).args([MOUNT_POINT]).emulators(&folder);
        call.env("QEMU_BINARY_PREFIX", "my-").env("QEMU_PRESERVE_ARGV0", "0").run()
    };
    run_mend(&host, &call().ends(1));
    call().ok();
    let entry = host.entry("my-qemu-aarch64").expect("an entry");
    assert!(entry.contains("\nflags: F\n"), "{entry}");

    let host = Host::new();
    let unanchored = verify(&host, &["arm64", "--anchor", "never"]).ends(1);
    assert_eq!(command(&unanchored).split_once("binfmt ").unwrap().1, "--install arm64 --anchor never");

    // a removal alone takes no word about installs
    host.register_rule(&Rule { name: "qemu-older".into(), ..rule("s390x") });
    host.register_rule(&rule("s390x"));
    let shadowed = host.binfmt(&["--verify", "s390x", "--keep", "--mount", MOUNT_POINT]).ends(1);
    assert_eq!(command(&shadowed), format!("binfmt --uninstall qemu-older --mount {MOUNT_POINT}"));
}

#[test]
fn all_drifts_at_once_take_one_command() {
    let host = Host::new();
    let old = |qemu: &str| old_emulators().join(format!("qemu-{qemu}"));
    host.register("qemu-aarch64", "aarch64", &old("aarch64"), "OC");
    host.register("qemu-arm", "arm", &old("arm"), "POCF");
    host.register_rule(&rule("s390x"));
    host.register_rule(&Rule { name: "it's odd,[x] qemu-".into(), ..rule("s390x") });
    host.register_rule(&Rule { name: "qemu-s390x.b".into(), ..rule("s390x") });
    host.sh(&format!("echo 0 >{MOUNT_POINT}/qemu-s390x")).ok();
    let output = verify(&host, &[]).ends(1);
    repair(&host, &output);
}

/// A table that was emptied must not pass for one in which all is well.
#[test]
fn a_list_that_means_nothing_here_is_a_failure() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    let empty = host.folder("empty", &[]);
    let call = |args: &[&str]| host.call(args).emulators(&empty).run();
    call(&["--status", "all"]).ok();
    host.binfmt(&["--uninstall", "all"]).ok();
    call(&["--status", "all"]).ends(1).ends_saying(&["nothing says what all is", "QEMU_BINARY_PATH"]);
    let output = call(&["--verify", "all"]).ends(1).ends_saying(&["1 finding", "QEMU_BINARY_PATH"]);
    output.prints("nothing says what all is");
    let output = call(&["--verify", "all", "--format", "json"]).ends(1);
    assert_eq!(output.json()["in_order"], false, "{output}");
}

/// On a machine of each kind, all modes say the same of a level.
#[test]
fn a_level_that_is_not_reached_is_a_failure_of_every_mode() {
    let host = Host::new();
    let supported = host.binfmt(&[]).ok().list("supported");
    for level in ["v2", "v3", "v4"] {
        let platform = format!("linux/amd64/{level}");
        let status = i32::from(!supported.contains(&platform));
        for mode in ["--status", "--install", "--verify"] {
            host.binfmt(&[mode, &platform]).ends(status);
        }
        let output = host.binfmt(&["--verify", &platform, "--format", "json"]);
        assert_eq!(output.json()["in_order"], status == 0, "{output}");
    }
}

/// A table that others have emptied is not all in order, nor known not to be: that is said, in every form.
#[test]
fn an_empty_table_is_told() {
    let host = Host::new();
    host.register_other("jar", b"PK");
    let said = "no QEMU handler is registered, so no emulator was checked";
    for look in ["--verify", "--status"] {
        let words = &format!("{said}; list the platforms to check: binfmt {look} LIST");
        for format in ["json", "text"] {
            host.binfmt(&[look, "--format", format]).ok().ends_saying(&[words]);
        }
        host.binfmt(&[look, "arm64"]).ends(1).never_says(words);
    }
    host.binfmt(&["--status", "--format", "prometheus"]).ok().says(said);
    host.binfmt(&["--install", "arm64"]).ok();
    for look in ["--verify", "--status"] {
        let output = host.binfmt(&[look]).ok();
        assert_eq!(output.stderr, "", "{output}");
    }
}

/// Nobody's entry that takes a platform's programs and does not run them is passed over by one and told by another.
#[test]
fn all_say_the_same_of_one_entry() {
    let host = Host::new();
    let emulator = host.scratch().join("P");
    host.copy(&emulators().join("qemu-aarch64"), &emulator);
    // as NixOS has it, whose programs run here and in no container; and one that runs none
    for (path, flags) in [(&emulator, ""), (&emulator.with_file_name("none"), ""), (&"/bin/false".into(), "F")] {
        host.register("aarch64-linux", "aarch64", path, flags);
        for look in ["--status", "--verify"] {
            for list in [&[][..], &["arm64"]] {
                let output = host.binfmt(&[&[look], list].concat()).ends(1);
                assert!(output.stdout.contains("aarch64-linux"), "{output}");
                output.ends_saying(&["--install arm64"]);
            }
        }
        let list = host.binfmt(&["--list", "--format", "json"]).ok().json();
        let mut rows = list.as_array().unwrap().iter();
        let row = rows.find(|row| row["qemu"] == "aarch64").unwrap();
        assert!(row["reason"].is_string(), "{row}");
        finds(&host, "aarch64-linux", &["broken"]);
        host.runs_arm64();
        host.binfmt(&["--uninstall", "all"]).ok();
        host.binfmt(&["--uninstall", "aarch64-linux", "--force"]).ok();
    }
}

/// The mount point is not to blame.
#[test]
fn without_descriptors_for_the_table_the_limit_is_named() {
    let host = Host::new();
    let open = format!("{MOUNT_POINT}/.");
    let refused = ["-f", "-qq", "-o", "/dev/null", "-P", &open, "-e", "inject=openat:error=EMFILE"];
    let verified = host.program("strace").args(&refused).args([BINFMT, "--verify"]).run();
    verified.ends(1).ends_saying(&["(EMFILE); raise the limit of open files"]);
}

/// Where nothing is mounted, the mount point that was named is repeated with the command that mounts it there.
#[test]
fn a_mount_point_without_a_table_is_named() {
    // hides the machine's own table
    let host = Host::with(&["--user", "--map-root-user", "--mount"], "mount -t tmpfs none /proc/sys/fs/binfmt_misc");
    let dir = host.folder("empty", &[]);
    let dir = dir.to_str().unwrap();
    let mount = format!("mount -t binfmt_misc binfmt_misc {dir}");
    host.binfmt(&["--verify", "--mount", dir]).ends(1).ends_saying(&["no binfmt_misc is mounted at", &mount]);
    host.sh(&mount).ok();
    host.binfmt(&["--verify", "--mount", dir]).ok();
}

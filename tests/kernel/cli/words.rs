//! Words that are not ours: those of other tools that have one meaning are understood, and of a mistake the command that was
//! meant is said.

use crate::harness::{BINFMT, Host, emulators};

#[test]
fn json_is_a_form_of_output() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    for args in [&["--status"][..], &["--list"], &["--verify"], &[]] {
        let short = host.binfmt(&[args, &["--json"]].concat()).ok();
        let long = host.binfmt(&[args, &["--format", "json"]].concat()).ok();
        // times differ
        assert_eq!(
            short.json().as_object().map(serde_json::Map::len),
            long.json().as_object().map(serde_json::Map::len)
        );
    }
    host.binfmt(&["--status", "--json", "--format", "text"]).ends(2);
}

#[test]
fn the_words_of_qus_and_multiarch_are_understood() {
    let host = Host::new();
    let folder = host.folder("two", &[("qemu-aarch64", emulators()), ("qemu-s390x", emulators())]);
    for (line, entries) in [
        ("-s -- -p aarch64", &["qemu-aarch64"][..]),
        ("-s -- -p aarch64 s390x", &["qemu-aarch64", "qemu-s390x"]),
        ("-- -r aarch64", &["qemu-s390x"]),
        ("-- -r ALL NONE", &[]),
        ("--static -- --persistent aarch64", &["qemu-aarch64"]),
        ("-s -- -r", &[]),
        ("-s -- -c -p aarch64", &["qemu-aarch64"]),
        ("-s -- -p", &["qemu-aarch64", "qemu-s390x"]),
        ("-- -r", &[]),
        ("-s -t s390x -- -p yes", &["qemu-s390x"]),
        ("-s -- -r", &[]),
        ("--reset -p yes", &["qemu-aarch64", "qemu-s390x"]),
        ("--reset --qemu-suffix -static --persistent yes --credential yes -g yes", &["qemu-aarch64", "qemu-s390x"]),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let output = host.call(&words).emulators(&folder).run().ok();
        let mut left = host.entries();
        left.sort();
        assert_eq!(left, entries, "{output}");
    }
    let flags = |words: &[&str]| {
        host.call(words).emulators(&folder).run().ok();
        let entry = host.entry("qemu-aarch64").expect("an entry");
        let flags = entry.lines().find_map(|line| line.strip_prefix("flags: "));
        flags.expect("flags").to_owned()
    };
    assert_eq!(flags(&["--reset", "-p", "yes", "-c", "no", "-g", "no"]), "F");
    assert_eq!(flags(&["--reset", "-p", "yes", "-c", "yes", "-g", "yes"]), "POCF");

    host.binfmt(&["--reset", "-Q", &folder.display().to_string(), "-F", "-static"]).ok();
    host.binfmt(&["--reset", "--qemu-suffix", "-other"]).ends(2);
}

/// It would be left out without a word.
#[test]
fn what_shows_something_has_nothing_else_beside_it() {
    let host = Host::new();
    let looks: [&[&str]; 4] = [&["--status"], &["--list"], &["--verify"], &["--explain", "/bin/sh"]];
    let install = ["--install", "arm64"];
    let others = [[&["--hold"], &install[..]].concat(), [&["--dry-run"], &install[..]].concat()];
    for (at, look) in looks.iter().enumerate() {
        let beside = looks[..at].iter().map(|other| other.to_vec()).chain(others.clone());
        for other in beside {
            for args in [[*look, &other].concat(), [&other, *look].concat()] {
                let output = host.binfmt(&args).ends(2);
                output.ends_saying(&[look[0], other[0], " cannot be used with "]);
            }
        }
        host.binfmt(&[*look, &["--run", "arm64", "--", "true"]].concat()).ends(125).says(" cannot be used with ");
    }
    assert_eq!(host.table(), "");
}

#[test]
fn what_was_meant_is_said_in_one_line() {
    let host = Host::new();
    for (line, meant) in [
        ("status", "--status"),
        ("status --json", "--status --json"),
        ("status arm64", "--status arm64"),
        ("list", "--list"),
        ("ls", "--list"),
        ("version", "--version"),
        ("-v", "--version"),
        ("install arm64", "--install arm64"),
        ("install all", "--install all"),
        ("install arm64 riscv64", "--install arm64,riscv64"),
        ("install arm64, riscv64", "--install arm64,riscv64"),
        ("--install arm64 riscv64", "--install arm64,riscv64"),
        ("--install=arm64 riscv64 s390x", "--install arm64,riscv64,s390x"),
        ("--install arm64 riscv64 --keep", "--install arm64,riscv64 --keep"),
        ("--status arm64 arm", "--status arm64,arm"),
        ("arm64", "--install arm64"),
        ("linux/arm64 linux/arm/v7", "--install linux/arm64,linux/arm/v7"),
        ("--hold arm64", "--hold --install arm64"),
        ("--dry-run arm64", "--dry-run --install arm64"),
        ("-i arm64", "--install arm64"),
        ("--platform linux/arm64", "--install linux/arm64"),
        ("uninstall qemu-* arm64", "--uninstall 'qemu-*,arm64'"),
        ("--uninstall qemu-arm qemu-i386", "--uninstall qemu-arm,qemu-i386"),
        ("remove arm64", "--uninstall arm64"),
        ("--remove=arm64", "--uninstall=arm64"),
        ("--instal arm64", "--install arm64"),
        ("--instal=arm64 riscv64", "--install arm64,riscv64"),
        ("--status --format jsn", "--status --format json"),
        ("--status --text", "--status --format=text"),
        ("--run arm64 ls -l", "--run arm64 -- ls -l"),
        ("run arm64 ls", "--run arm64 -- ls"),
        ("explain ./x", "--explain ./x"),
        ("--explain ./x --verbos", "--explain ./x --verbose"),
        ("--list arm64", "--status arm64"),
        ("list arm64", "--status arm64"),
        ("reset", "--reset"),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let runs = words.contains(&"--run");
        let output = host.binfmt(&words).ends(if runs { 125 } else { 2 });
        assert_eq!(output.stderr.lines().count(), 1, "{output}");
        assert!(output.stderr.ends_with(&format!("; did you mean: binfmt {meant}\n")), "{output}");
        output.never_says("tip:").never_says("--help");
    }
    for line in ["--bogus", "foo", "--install", "--list --status", "--hold", "foo arm64 --list --status"] {
        let words: Vec<&str> = line.split(' ').collect();
        host.binfmt(&words).ends(2).ends_saying(&["try binfmt --help"]).never_says("tip:").never_says("did you mean");
    }
    host.binfmt(&["--run", "arm64"]).ends(125).never_says("did you mean");
    for options in [&["--status"][..], &["--list"], &["--verify"], &["--install", "arm64"]] {
        let output = host.binfmt(&[options, &["--", "nonsense"]].concat()).ends(2);
        output.ends_saying(&["nonsense follows --", "--run"]);
    }
    assert_eq!(host.table(), "");
}

#[test]
fn bash_completes_options_values_and_each_platform_of_a_list() {
    let host = Host::new();
    let complete = |words: &str| {
        let script = format!(
            "eval \"$('{BINFMT}' --completions bash)\"
            COMP_WORDS=(binfmt {words}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
            _binfmt
            printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let output = host.program("bash").args(["-euc", &script]).run().ok();
        output.stdout.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete("--stat"), ["--status"]);
    assert_eq!(complete("--format prom"), ["prometheus"]);
    assert_eq!(complete("--format = js"), ["json"]);
    assert_eq!(complete("--install riscv6"), ["riscv64"]);
    assert_eq!(complete("--install arm64,s390"), ["arm64,s390x"]);
    assert_eq!(complete("--status --verb"), ["--verbose"]);
    assert_eq!(complete("--mount /pro"), ["/proc"]);
    assert!(complete("--run ''").contains(&"arm64".to_owned()));
    for shell in ["zsh", "fish"] {
        host.binfmt(&["--completions", shell]).ok().prints("install").prints("arm64");
    }
    host.binfmt(&["--completions", "tcsh"]).ends(2);
}

//! The command line as its users see it: what is on stdout to the byte, lists, Go's spelling of flags,
//! exit statuses, and a reader who has gone away.
//!
//! What each command does to the table is in the files of their names.

mod dry_run;
mod words;

use std::fs;
use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use crate::harness::fake::needs_emulators;
use crate::harness::{BINFMT, Host, emulators, program};
use nix::fcntl::{FcntlArg, fcntl};

/// What the smallest pipe holds.
const PAGE: usize = 4096;

/// The platforms of this host without any handler, as the incumbent orders them: the host's own, with its levels,
/// then what else its kernel runs.
fn native() -> Vec<String> {
    let host = binfmt_magic::arch::Arch::of_host().expect("a host that QEMU knows");
    let mut platforms: Vec<String> = host.platforms().iter().map(ToString::to_string).collect();
    platforms.extend(levels());
    if cfg!(target_arch = "x86_64") && Host::new().runs("i386").is_ok() {
        platforms.push("linux/386".to_owned());
    }
    platforms
}

/// The levels by the standard library's reading of the processor.
#[cfg(target_arch = "x86_64")]
fn levels() -> Vec<String> {
    macro_rules! all {
        ($($feature:tt)*) => { [$(is_x86_feature_detected!($feature)),*].iter().all(|has| *has) };
    }
    let levels = [
        (2, all!("sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "cmpxchg16b")),
        (3, all!("avx" "avx2" "bmi1" "bmi2" "f16c" "fma" "lzcnt" "movbe")),
        (4, all!("avx512f" "avx512bw" "avx512cd" "avx512dq" "avx512vl")),
    ];
    levels.into_iter().take_while(|(_, has)| *has).map(|(level, _)| format!("linux/amd64/v{level}")).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn levels() -> Vec<String> {
    Vec::new()
}

/// The JSON of the incumbent, byte for byte, with `foreign` among the native platforms where its order has them.
fn expected(supported: &[String], emulators: &[&str]) -> String {
    let lines = |items: &[&str]| {
        let quoted: Vec<String> = items.iter().map(|item| format!("    \"{item}\"")).collect();
        format!("[\n{}\n  ]", quoted.join(",\n"))
    };
    let supported: Vec<&str> = supported.iter().map(String::as_str).collect();
    let emulators = if emulators.is_empty() { "null".to_owned() } else { lines(emulators) };
    format!("{{\n  \"supported\": {},\n  \"emulators\": {emulators}\n}}\n", lines(&supported))
}

#[test]
fn without_arguments_and_handlers_it_prints_the_incumbents_json() {
    needs_emulators!();
    let output = Host::new().binfmt(&[]).ok();
    assert_eq!(output.stdout, expected(&native(), &[]));
    assert_eq!(output.stderr, "");
}

#[test]
fn supported_is_in_the_incumbents_order_and_emulators_are_sorted() {
    needs_emulators!();
    let host = Host::new();
    host.binfmt(&["--install", "arm,s390x,loong64,ppc64,riscv64,mips64,arm64,ppc64le,mips64le"]).ok();
    host.register_other("python3.12", b"\xa7\x0d\x0d\x0a");
    host.register_other("WSLInterop", b"MZ");
    host.register_other("zzz", b"zzz!");
    host.sh("echo 0 >/proc/sys/fs/binfmt_misc/zzz").ok();
    let native = native();
    let is_386 = |platform: &&String| *platform == "linux/386";
    let mut supported: Vec<String> = native.iter().filter(|p| !is_386(p)).cloned().collect();
    supported.extend(["linux/arm64", "linux/riscv64", "linux/ppc64", "linux/ppc64le", "linux/s390x"].map(String::from));
    supported.extend(native.iter().filter(is_386).cloned());
    supported
        .extend(["linux/mips64le", "linux/mips64", "linux/loong64", "linux/arm/v7", "linux/arm/v6"].map(String::from));
    let entries = [
        "WSLInterop",
        "python3.12",
        "qemu-aarch64",
        "qemu-arm",
        "qemu-loongarch64",
        "qemu-mips64",
        "qemu-mips64el",
        "qemu-ppc64",
        "qemu-ppc64le",
        "qemu-riscv64",
        "qemu-s390x",
    ];
    let output = host.binfmt(&[]).ok();
    assert_eq!(output.stdout, expected(&supported, &entries));
    assert_eq!(output.stderr, "");
}

#[test]
fn supported_is_what_runs_and_not_what_is_registered() {
    needs_emulators!();
    let host = Host::new();
    host.register("qemu-aarch64", "aarch64", std::path::Path::new("/nowhere"), "OC");
    let output = host.binfmt(&[]).ok();
    assert_eq!(output.stdout, expected(&native(), &["qemu-aarch64"]));
}

#[test]
fn installs_and_uninstalls_print_the_same_json_and_nothing_else() {
    needs_emulators!();
    let host = Host::new();
    let installed = host.binfmt(&["--install", "arm64,foo,386"]).ends(1);
    assert_eq!(installed.stdout, host.binfmt(&[]).ok().stdout);
    assert_eq!(installed.list("emulators"), ["qemu-aarch64"]);
    let uninstalled = host.binfmt(&["--uninstall", "arm64"]).ok();
    assert_eq!(uninstalled.stdout, expected(&native(), &[]));
}

#[test]
fn json_is_no_terminals_business() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    for args in ["", "--status", "--list"] {
        let on_a_terminal = format!("TERM=xterm script -qec \"'{BINFMT}' {args} --format json\" /dev/null");
        let plain =
            host.binfmt(&[args, "--format", "json"].iter().filter(|a| !a.is_empty()).copied().collect::<Vec<_>>());
        let output = host.sh(&on_a_terminal).ok();
        assert!(!output.stdout.contains('\x1b'), "{output}");
        assert_eq!(output.stdout.lines().count(), plain.stdout.lines().count(), "{output}");
    }
}

#[test]
fn text_is_coloured_on_a_terminal_only() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    for args in ["--status", "--list"] {
        let plain = host.binfmt(&[args]).ok();
        assert!(!plain.stdout.contains('\x1b'), "{plain}");
        for (variable, coloured) in [("TERM=xterm", true), ("NO_COLOR=1", false), ("NO_COLOR=", true)] {
            let output = host.sh(&format!("{variable} script -qec \"'{BINFMT}' {args}\" /dev/null")).ok();
            assert_eq!(output.stdout.contains('\x1b'), coloured, "{variable}: {output}");
        }
    }
}

#[test]
fn lists_are_forgiving() {
    let all = ["qemu-aarch64", "qemu-riscv64", "qemu-s390x"];
    let install = |list| {
        let host = Host::new();
        let folder = host.folder("three", &all.map(|file| (file, emulators())));
        host.call(&["--install", list]).emulators(&folder).run().ok()
    };
    for list in ["all", "ALL", "all,arm64", " all ,", "all,riscv64,all"] {
        assert_eq!(install(list).list("emulators"), all, "{list:?}");
    }
    for list in ["all,-riscv64", "all, -riscv64", "-RISCV64,all", "all,!riscv64"] {
        let expected = ["qemu-aarch64", "qemu-s390x"];
        assert_eq!(install(list).list("emulators"), expected, "{list:?}");
    }
    for (list, installed) in [
        ("arm64", &["qemu-aarch64"][..]),
        ("ARM64", &["qemu-aarch64"]),
        ("aarch64", &["qemu-aarch64"]),
        ("qemu-aarch64", &["qemu-aarch64"]),
        ("linux/arm64/v8,arm64,aarch64", &["qemu-aarch64"]),
        ("arm/v7", &["qemu-arm"]),
        ("linux/arm/v7,arm/v6,armhf,armel", &["qemu-arm"]),
        ("arm64,arm64 , arm64,", &["qemu-aarch64"]),
        ("riscv64, ppc64le", &["qemu-ppc64le", "qemu-riscv64"]),
        ("riscv64 ppc64el\ns390x\t", &["qemu-ppc64le", "qemu-riscv64", "qemu-s390x"]),
        ("mips64el,loongarch64", &["qemu-loongarch64", "qemu-mips64el"]),
    ] {
        let output = Host::new().binfmt(&["--install", list]).ok();
        assert_eq!(output.list("emulators"), installed, "{list:?}");
        let lines = output.stderr.matches("installing: ").count();
        assert_eq!(lines, installed.len(), "{list:?}: {output}");
    }
}

#[test]
fn several_lists_add_up() {
    let output = Host::new().binfmt(&["--install", "arm64", "--install", "s390x,riscv64"]).ok();
    assert_eq!(output.list("emulators"), ["qemu-aarch64", "qemu-riscv64", "qemu-s390x"]);
}

#[test]
fn go_programs_flags_are_understood() {
    let host = Host::new();
    host.binfmt(&["-install", "arm64"]).ok().says("installing: arm64 OK");
    host.binfmt(&["-install=s390x"]).ok().says("installing: s390x OK");
    host.binfmt(&["-uninstall", "arm64"]).ok().says("uninstalling: arm64 OK");
    host.binfmt(&["-uninstall=s390x"]).ok().says("uninstalling: s390x OK");
    host.binfmt(&["-mount", crate::harness::MOUNT_POINT]).ok();
    host.binfmt(&["-mount=/proc/sys/fs/binfmt_misc", "--install=arm64"]).ok().says("installing: arm64 OK");
    host.binfmt(&["-version"]).ok().says("binfmt/");
    host.binfmt(&["-status", "-format=json"]).ok();
    host.binfmt(&["-list"]).ok();
}

#[test]
fn the_version_is_one_line_on_stderr_and_nothing_else_is_done() {
    let host = Host::new();
    let output = host.binfmt(&["--version", "--install", "arm64"]).ok();
    assert_eq!(host.binfmt(&["-V"]).ok().stderr, output.stderr);
    let qemu = host.program(emulators().join("qemu-aarch64")).args(["--version"]).run().ok();
    let qemu = qemu.stdout.split_whitespace().nth(2).unwrap().to_owned();
    let expected = format!("binfmt/{} qemu/v{qemu}", env!("CARGO_PKG_VERSION"));
    assert!(output.stderr.starts_with(&expected), "{output}");
    assert_eq!(output.stderr.lines().count(), 1, "{output}");
    assert_eq!(output.stdout, "");
    assert_eq!(host.table(), "");
}

#[test]
fn help_is_on_stdout() {
    for args in ["--help", "-h", "-help"] {
        let output = Host::new().binfmt(&[args]).ok();
        assert_eq!(output.stderr, "", "{output}");
        for word in ["--install", "--uninstall", "--status", "QEMU_BINARY_PATH", "Exit status"] {
            assert!(output.stdout.contains(word), "{word} in {output}");
        }
        for line in output.stdout.lines() {
            assert!(line.chars().count() <= 80, "{line:?} in {output}");
            assert_eq!(line, line.trim_end(), "{line:?}");
        }
        let headings: Vec<&str> = output.stdout.lines().filter(|l| l.ends_with(':') && !l.starts_with(' ')).collect();
        let once: std::collections::HashSet<_> = headings.iter().collect();
        assert!(headings.len() > 5 && headings.len() == once.len(), "{headings:?}");
    }
}

/// They are shown to be copied, so each of them works.
#[test]
fn the_examples_of_the_help_do_what_they_say() {
    let host = Host::new();
    let folder = host.scratch().to_owned();
    let foreign = format!("#!{} sh\n", program("arm64").display());
    host.executable(&folder.join("program"), foreign.as_bytes());
    let help = host.binfmt(&["--help"]).ok().stdout;
    let examples = help.split("\nExamples:\n").nth(1).expect("examples");
    let examples: Vec<&str> = examples.lines().take_while(|line| !line.is_empty()).collect();
    assert!(examples.len() >= 5, "{examples:?}");
    for example in examples {
        let (command, _) = example.trim().split_once("  ").expect("what it does");
        let arguments = command.strip_prefix("binfmt ").expect("a call");
        let script =
            format!("cd '{}'; QEMU_BINARY_PATH='{}' '{BINFMT}' {arguments}", folder.display(), emulators().display());
        host.sh(&script).ok();
    }
    assert_eq!(host.entries(), ["qemu-riscv64"]);
}

/// The columns of what `script` shows on a terminal.
fn widths(shown: &str) -> Vec<usize> {
    shown.lines().map(|line| line.trim_end_matches('\r')).map(|line| line.chars().count()).collect()
}

#[test]
fn tables_fit_the_terminal() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64,mips64p32le,ppc64le"]).ok();
    host.register("qemu-sparc64", "sparc64", std::path::Path::new("/nowhere/of/a/rather/long/name/qemu"), "");
    for args in ["--status", "--list", "--verify"] {
        let on = |setting: &str, args: &str| {
            let command =
                format!("{setting}; NO_COLOR=1 QEMU_BINARY_PATH={} {BINFMT} {args} 2>/dev/null", emulators().display());
            let script = format!("script -qc '{command}' /dev/null; true");
            host.sh(&script).ok().stdout
        };
        let plain = host.binfmt(&[args]).stdout;
        for (setting, width) in [
            ("stty cols 80", 80),
            ("stty cols 40", 40),
            ("stty cols 0", 80),
            ("export COLUMNS=60; stty cols 200", 60),
            ("export COLUMNS=0; stty cols 50", 50),
            ("export COLUMNS=wide; stty cols 50", 50),
        ] {
            let shown = on(setting, args);
            let widest = widths(&shown).into_iter().max();
            assert!(widest <= Some(width), "{args} on {setting}: {shown}");
            // every platform keeps its line
            for line in plain.lines().filter(|line| line.starts_with("linux/")) {
                let platform = line.split("  ").next().expect("a platform");
                assert!(shown.contains(&format!("\n{platform} ")), "{platform} in {shown}");
            }
        }
        // no width is too small
        assert!(on("stty cols 1", args).lines().count() >= plain.lines().count(), "{args}");
        for all in [on("stty cols 400", args), on("stty cols 40", &format!("{args} --verbose"))] {
            // in columns that are as wide as what they have to show
            let words = |table: &str| -> Vec<String> {
                table.lines().next().expect("a header").split_whitespace().map(str::to_owned).collect()
            };
            assert_eq!(words(&all), words(&plain), "{args}");
            assert_eq!(all.lines().count(), plain.lines().count(), "{args}: {all}");
            assert!(!all.contains('…'), "{args}: {all}");
        }
    }
    // why it does not run is not cut off
    let shown = host.sh(&format!("script -qc 'stty cols 40; {BINFMT} --status 2>/dev/null' /dev/null; true"));
    let words = shown.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("its interpreter"), "{words}");
}

/// Packages of static emulators name them so.
#[test]
fn emulators_may_be_called_static() {
    let host = Host::new();
    let folder = host.folder("static", &[]);
    for qemu in ["aarch64", "s390x"] {
        let to = folder.join(format!("qemu-{qemu}-static"));
        host.copy(&emulators().join(format!("qemu-{qemu}")), &to);
    }
    let call = |args: &[&str]| host.call(args).emulators(&folder).run();
    call(&["--version"]).ok().never_says("none");
    call(&["--list"]).ok().prints("linux/arm64         available");
    call(&["--install", "arm64"]).ok().says("installing: arm64 OK (qemu-aarch64 ");
    assert_eq!(host.runs("arm64").as_deref(), Ok("aarch64"));
    let entry = host.entry("qemu-aarch64").expect("an entry");
    assert!(entry.contains("qemu-aarch64-static"), "{entry}");
    call(&["--install", "arm64"]).ok().says("already installed (qemu-aarch64)");
    call(&["--verify"]).ok();
    call(&["--status", "all"]).ends(1).ends_saying(&["linux/s390x"]);
    call(&["--install", "all"]).ok();
    call(&["--status", "all"]).ok();

    // beside a file of the plain name that is no emulator for a container, it is still the one
    let dynamic = "cc -x c -o '{}' - <<<'int main(void) { return 0; }'";
    let dynamic = dynamic.replace("{}", &folder.join("qemu-aarch64").display().to_string());
    host.program("bash").args(["-c", &dynamic]).run().ok();
    call(&["--install", "arm64"]).ok().says("already installed (qemu-aarch64)");
    // a good one has the better name
    host.copy(&emulators().join("qemu-aarch64"), &folder.join("qemu-aarch64.new"));
    host.sh(&format!("cd '{}'; mv qemu-aarch64.new qemu-aarch64", folder.display())).ok();
    call(&["--install", "arm64"]).ok().says("installing: arm64 OK (");
    let entry = host.entry("qemu-aarch64").expect("an entry");
    assert!(!entry.contains("-static"), "{entry}");
}

#[test]
fn wrong_command_lines_end_with_2_and_change_nothing() {
    let host = Host::new();
    host.binfmt(&["--install", "s390x"]).ok();
    let before = host.table();
    for args in [
        &["--bogus"][..],
        &["-bogus"],
        &["--install"],
        &["--install", "-arm64"],
        &["--uninstall"],
        &["--status", ""],
        &["--install", "arm64", "--bogus"],
        &["--install", "arm64", "--credentials", "maybe"],
        &["--install", "arm64", "--anchor", "maybe"],
        &["--reset", "-p", "no"],
        &["--format", "xml"],
        &["--list", "--status"],
        &["arm64"],
        &["--uninstall", "qemu-*", "arm64"],
        &["--credentials", "maybe"],
        &["--hold"],
        &["--interval", "5s", "--install", "arm64"],
        &["--on-exit", "keep", "--install", "arm64"],
        &["--hold", "--install", "arm64", "--status"],
        &["--interval", "5s", "--list"],
        &["--on-exit", "keep", "--verify"],
        &["--verbose"],
        &["--verbose", "--install", "arm64"],
        &["--dry-run"],
        &["--dry-run", "--install", "arm64", "--hold"],
        &["--dry-run", "--status"],
        &["--json", "--format", "text"],
        &["--completions", "bash", "--list"],
        &["--run", "arm64"],
        &["--run", "arm64", "--"],
        &["--run", "arm64", "--hold", "--", "ls"],
        &["--run", "arm64", "ls"],
        &["--run", "--", "ls"],
        &["--run", "arm64", "--install", "arm64", "--", "ls"],
        &["--run", "arm64", "--explain", "ls", "--", "ls"],
        &["--root", "/", "--", "ls"],
        &["--", "ls"],
    ] {
        let runs = args.iter().take_while(|arg| **arg != "--").any(|arg| *arg == "--run");
        let output = host.binfmt(args).ends(if runs { 125 } else { 2 });
        assert_eq!(output.stderr.lines().count(), 1, "{output}");
        let output = output.ends_saying(&["binfmt: "]);
        assert_eq!(output.stdout, "", "{output}");
        assert_eq!(host.table(), before, "{output}");
    }
}

#[test]
fn an_interval_has_a_unit_and_bounds() {
    let host = Host::new();
    for interval in
        ["", "s", "30", "99ms", "0s", "25h", "1.5s", "-1s", "1 s", "99999999999999999999s", "9999999999999999h", "1d"]
    {
        host.binfmt(&["--hold", "--install", "arm64", "--interval", interval]).ends(2);
    }
}

/// The parser of the command line repeats an argument in its tips.
#[test]
fn an_argument_of_several_lines_is_named_once() {
    let host = Host::new();
    let output = host.binfmt(&["--a\nb", "--status"]).ends(2).never_says("as a value");
    assert_eq!(output.stderr.matches("--a b").count(), 1, "{output}");
}

#[test]
fn a_version_that_cannot_be_read_for_want_of_descriptors_is_a_failure() {
    let host = Host::new();
    // make has a descriptor there
    let limited = "exec 3>&-; ulimit -n 4";
    let script = format!("{limited}; QEMU_BINARY_PATH='{}' exec '{BINFMT}' --version", emulators().display());
    let version = host.sh(&script).ends(1);
    version.ends_saying(&["cannot read the version of", "(EMFILE); raise the limit of open files"]);
}

#[test]
fn a_closed_stdout_is_no_reason_to_panic() {
    for args in [
        "",
        "--install arm64",
        "--status",
        "--list",
        "--status --format json",
        "--help",
        "--version",
        "--completions bash",
        "--install arm64 --dry-run",
    ] {
        let host = Host::new();
        for closed in [">&-", ">&- 2>&-", "| true", "<&-"] {
            let script = format!("set +e; '{BINFMT}' {args} {closed}");
            let output = host.sh(&format!("export QEMU_BINARY_PATH='{}'; {script}", emulators().display()));
            output.ok().never_says("panic");
        }
        if args == "--install arm64" {
            assert_eq!(host.runs("arm64").as_deref(), Ok("aarch64"));
        }
    }
}

#[test]
fn a_reader_who_has_gone_is_no_failure() {
    let host = Host::new();
    host.binfmt(&["--install", "all"]).ok();
    for args in ["", "--status", "--list"] {
        // the reader is gone for certain before the tool starts
        let script = format!("{{ sleep 0.2; '{BINFMT}' {args}; echo $? >&2; }} | :");
        let output = host.sh(&script).ok();
        assert_eq!(output.stderr, "0\n", "{args}");
    }
}

/// The pipe is full before the tool starts, and holds a page.
#[test]
fn a_reader_who_is_slow_gets_everything() {
    let host = Host::new();
    host.binfmt(&["--install", "all"]).ok();
    for args in [&["--list", "--format", "json"][..], &["--verify"]] {
        let expected = host.binfmt(args).ok().stdout;
        let (reader, writer) = nix::unistd::pipe().expect("a pipe");
        let (mut reader, mut writer) = (fs::File::from(reader), fs::File::from(writer));
        let size = i32::try_from(PAGE).expect("a small number");
        fcntl(&writer, FcntlArg::F_SETPIPE_SZ(size)).expect("a smaller pipe");
        writer.write_all(&[b'.'; PAGE]).expect("room in the pipe");
        let mut child = host.command(BINFMT);
        child.args(args).env("QEMU_BINARY_PATH", emulators()).stdout(writer);
        let mut running = child.spawn().expect("nsenter");
        drop(child);
        // each page that is read lets it write one
        let mut text = Vec::new();
        let mut page = [0; PAGE];
        loop {
            thread::sleep(Duration::from_millis(100));
            let length = reader.read(&mut page).expect("a pipe");
            if length == 0 {
                break;
            }
            text.extend(&page[..length]);
        }
        assert!(running.wait().expect("a child").success(), "{args:?}");
        let text = String::from_utf8(text).expect("text");
        assert_eq!(text[PAGE..], expected, "{args:?}");
    }
}

#[test]
fn a_full_disk_is_a_failure() {
    let host = Host::new();
    for args in
        ["", "--status", "--list", "--list --format json", "--help", "--completions zsh", "--uninstall arm64 --dry-run"]
    {
        let output = host.sh(&format!("'{BINFMT}' {args} >/dev/full"));
        output.ends(1).never_says("panic").ends_saying(&["cannot write the output", "No space left"]);
    }
    // what was to be shown there does not stand above
    for args in ["--status arm64,sh4", "--install sh4 --dry-run"] {
        let output = host.sh(&format!("QEMU_BINARY_PATH=/nowhere '{BINFMT}' {args} >/dev/full"));
        output.ends(1).never_says("above").ends_saying(&["cannot write the output", "No space left"]);
    }
}

/// It is on stderr, as the incumbent's is, and there it is what was asked for.
#[test]
fn a_version_that_is_lost_is_a_failure() {
    let host = Host::new();
    for option in ["--version", "-V"] {
        host.sh(&format!("'{BINFMT}' {option} 2>/dev/full")).ends(1);
    }
}

#[test]
fn nobody_listening_on_stderr_is_no_failure() {
    let host = Host::new();
    let script = format!("QEMU_BINARY_PATH='{}' '{BINFMT}' --install arm64 2>/dev/full", emulators().display());
    host.sh(&script).ok();
    assert_eq!(host.runs("arm64").as_deref(), Ok("aarch64"));
}

#[test]
fn it_works_from_a_folder_that_is_gone_and_without_an_environment() {
    let host = Host::new();
    let folder = host.folder("gone", &[]);
    let script = format!(
        "cd '{0}'; rmdir '{0}'; exec env -i QEMU_BINARY_PATH='{1}' '{BINFMT}' --install arm64",
        folder.display(),
        emulators().display()
    );
    host.sh(&script).ok().says("installing: arm64 OK");
    let echo = host.program(program("arm64")).args(["echo", "hello"]).run().ok();
    assert_eq!(echo.stdout, "hello\n");
}

#[test]
fn where_to_get_emulators_is_what_helps_there() {
    let host = Host::new();
    let release = fs::read_to_string("/etc/os-release").expect("a distribution");
    let is_debian = release.lines().any(|line| line == "ID=debian");
    let package = if is_debian { "apt install qemu-user" } else { "install" };
    let call = |args: &[&str]| host.call(args).env_remove("QEMU_BINARY_PATH");
    for args in [&["--install", "all"][..], &["--reset"]] {
        let output = call(args).run().ends(1);
        output.ends_saying(&["no emulators in /usr/bin", package, "make image", "QEMU_BINARY_PATH"]);
    }
    call(&["--install", "sparc64"]).run().ends(1).ends_saying(&["/usr/bin/qemu-sparc64 does not exist", package]);
    let release = host.scratch().join("os-release");
    fs::write(&release, "").unwrap();
    host.sh(&format!("mount --bind '{}' /etc/os-release", release.display())).ok();
    for (os_release, package) in [
        ("ID=debian\nVERSION_ID=\"12\"\n", "install them: apt install qemu-user-static, "),
        ("VERSION_ID=\"13\"\nID=debian\n", "install them: apt install qemu-user, "),
        ("ID=debian\n", "install them: apt install qemu-user, "),
        ("ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"24.04\"\n", "install them: apt install qemu-user-static, "),
        ("ID=ubuntu\nVERSION_ID=\"25.04\"\n", "install them: apt install qemu-user, "),
        ("ID=fedora\nVERSION_ID=42\n", "install them: dnf install qemu-user-static, "),
        ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", "install them: apt install qemu-user-static, "),
        ("ID=arch\n", "install them: pacman -S qemu-user-static, "),
        ("", "install your distribution's static QEMU user emulators, "),
        ("ID=alpine\n", "install your distribution's"),
        ("ID=x\nID_LIKE=\"y debianish\"\n", "install your distribution's"),
    ] {
        fs::write(&release, os_release).unwrap();
        call(&["--install", "sparc64"]).run().ends(1).ends_saying(&[package]);
    }

    // the image has no packages, and says that it is one
    assert!(include_str!("../../Dockerfile").contains("\nENV BINFMT_IMAGE=1\n"));
    let image = |args| call(args).env("BINFMT_IMAGE", "1").run().ends(1);
    for args in [&["--install", "sparc64"][..], &["--install", "sparc64", "--dry-run"]] {
        image(args).ends_saying(&["make image TARGETS=sparc64"]).never_says("QEMU_BINARY_PATH").never_says("apt ");
    }

    // of a folder that was named, another folder
    let folder = host.folder("one", &[("qemu-aarch64", emulators())]);
    let named = |folder: &std::path::Path| call(&["--install", "sparc64"]).emulators(folder).run().ends(1);
    named(&folder).ends_saying(&["set QEMU_BINARY_PATH to the directory that has it"]).never_says("apt ");
    let empty = host.folder("empty", &[]);
    named(&empty).ends_saying(&["set QEMU_BINARY_PATH", "make emulators"]);
}

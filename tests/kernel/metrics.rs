//! `--status --format prometheus`, the file that `node_exporter` reads, and the rules for alerts: against Prometheus'
//! own tool, and against what `--status`, `--verify` and the file system say.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::fake::{self, needs_emulators};
use crate::harness::{BINFMT, Host, Output, emulators, material, old_emulators, version};

const ALERTS: &str = include_str!("../../deploy/prometheus/alerts.yml");
const PAGE: &str = include_str!("../../docs/metrics.md");
const UNIT: &str = include_str!("../../deploy/systemd/binfmt-metrics.service.in");

fn promtool() -> PathBuf {
    material("BINFMT_TEST_PROMTOOL", "promtool", "make test-material").join("promtool")
}

/// What a call says, once Prometheus' tool has nothing to say about it, where it has been fetched.
#[track_caller]
fn metrics_of(host: &Host, output: Output) -> Output {
    if fake::is_used() {
        return output;
    }
    let checked = host.program(promtool()).args(["check", "metrics"]).input(output.stdout.as_bytes()).run().ok();
    let said = (checked.stdout.as_str(), checked.stderr.as_str());
    assert_eq!(said, ("", ""), "{output}");
    assert!(output.stdout.ends_with("\n# EOF\n"), "{output}");
    output
}

#[track_caller]
fn metrics(host: &Host, args: &[&str]) -> Output {
    metrics_of(host, host.binfmt(&[args, &["--format", "prometheus"]].concat()))
}

/// The number of a platform's sample, if there is one.
#[track_caller]
fn number<'a>(output: &'a Output, metric: &str, platform: &str) -> Option<&'a str> {
    let start = format!("binfmt_{metric}{{platform=\"{platform}\"");
    let mut lines = output.stdout.lines().filter(|line| line.starts_with(&start));
    let number = lines.next().and_then(|line| Some(line.rsplit_once(' ')?.1));
    assert_eq!(lines.next(), None, "{output}");
    number
}

/// When a file was last changed, as another program reads it.
fn stat(host: &Host, file: &Path) -> String {
    host.program("stat").args(["-c", "%Y"]).args([file]).run().ok().stdout.trim().to_owned()
}

/// Whether `--verify` finds another emulator than the one to be installed.
fn verify_finds_another(host: &Host, folder: &Path) -> bool {
    let verify = host.call(&["--verify", "arm64", "--format", "json"]);
    let found = verify.emulators(folder).run().json();
    let mut findings = found["findings"].as_array().into_iter().flatten();
    findings.any(|finding| finding["kind"] == "emulator")
}

#[test]
fn a_healthy_host_is_all_there() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64,s390x"]).ok();
    let output = metrics(&host, &["--status"]).ok();
    assert_eq!(output.stderr, "");
    let build = format!("binfmt_build_info{{version=\"{}\"}} 1\n", env!("CARGO_PKG_VERSION"));
    let output = output.prints(&build);
    let health = host.binfmt(&["--status", "--format", "json"]).ok().json();
    let platforms = health["platforms"].as_array().unwrap();
    assert!(platforms.len() > 2, "{health}");
    for platform in platforms {
        let name = platform["platform"].as_str().unwrap();
        assert_eq!(number(&output, "platform_up", name), Some("1"), "{output}");
        let start = number(&output, "platform_start_cpu_seconds", name);
        let start: f64 = start.expect("a time").parse().unwrap();
        assert!((0.0..10.0).contains(&start), "{output}");
    }

    let file = emulators().join("qemu-aarch64");
    let changed = stat(&host, Path::new("/proc/sys/fs/binfmt_misc/qemu-aarch64"));
    for (metric, expected) in [
        ("emulator_info", "1"),
        ("emulator_stale", "0"),
        ("emulator_modified_timestamp_seconds", &stat(&host, &file)),
        ("handler_changed_timestamp_seconds", &changed),
    ] {
        assert_eq!(number(&output, metric, "linux/arm64"), Some(expected), "{metric}: {output}");
        assert_eq!(number(&output, metric, "linux/amd64"), None, "{metric}: {output}");
    }
    let arm64 = platforms.iter().find(|p| p["platform"] == "linux/arm64").unwrap();
    let of_file = |key: &str| arm64["emulator"][key].as_str().unwrap().to_owned();
    output.prints(&format!(
        "binfmt_emulator_info{{platform=\"linux/arm64\",entry=\"qemu-aarch64\",flags=\"POCF\",interpreter=\"{}\",\
         version=\"{}\",package=\"{}\",build_id=\"{}\"}} 1\n",
        file.display(),
        version(&emulators()),
        of_file("package"),
        of_file("build_id"),
    ));
}

#[test]
fn what_does_not_run_is_told_beside_all_else() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    host.register("qemu-riscv64", "riscv64", Path::new("/nowhere"), "OC");
    let list = ["--status", "arm64,riscv64,s390x,nonsense"];
    let output = metrics(&host, &list).ends(1);
    let output = output
        .says("linux/riscv64 does not run: its interpreter /nowhere does not exist")
        .says("linux/s390x does not run: ")
        .says("nonsense");
    for (platform, up, times) in [("arm64", "1", 1), ("riscv64", "0", 1), ("s390x", "0", 0)] {
        let platform = format!("linux/{platform}");
        assert_eq!(number(&output, "platform_up", &platform), Some(up), "{output}");
        let changed = number(&output, "handler_changed_timestamp_seconds", &platform);
        assert_eq!(changed.iter().count(), times, "{output}");
    }
    for metric in ["platform_start_cpu_seconds", "emulator_stale"] {
        assert_eq!(number(&output, metric, "linux/riscv64"), None, "{output}");
    }
    // nothing is known of its file
    output.prints(
        "binfmt_emulator_info{platform=\"linux/riscv64\",entry=\"qemu-riscv64\",flags=\"OC\",interpreter=\"/nowhere\",\
         version=\"\",package=\"\",build_id=\"\"} 1\n",
    );
    host.sh("echo 0 >/proc/sys/fs/binfmt_misc/status").ok();
    let output = metrics(&host, &["--status", "arm64"]).ends(1);
    assert_eq!(number(&output, "platform_up", "linux/arm64"), Some("0"), "{output}");
}

#[test]
fn stale_is_what_verify_calls_another_emulator() {
    let host = Host::new();
    let folder = host.folder("mine", &[("qemu-aarch64", old_emulators())]);
    let same = host.folder("same", &[("qemu-aarch64", old_emulators())]);
    let file = folder.join("qemu-aarch64");
    let stale = |folder: &Path| {
        let call = host.call(&["--status", "arm64", "--format", "prometheus"]);
        let output = metrics_of(&host, call.emulators(folder).run().ok());
        number(&output, "emulator_stale", "linux/arm64").map(str::to_owned)
    };
    host.call(&["--install", "arm64"]).emulators(&folder).run().ok();
    for (folder, expected) in [(&folder, "0"), (&same, "0"), (&emulators(), "1")] {
        assert_eq!(stale(folder).as_deref(), Some(expected), "{}", folder.display());
        assert_eq!(verify_finds_another(&host, folder), expected == "1", "{}", folder.display());
    }
    // an upgrade in place, as packages do it
    host.copy(&emulators().join("qemu-aarch64"), &folder.join("new"));
    fs::rename(folder.join("new"), &file).unwrap();
    assert_eq!(stale(&folder).as_deref(), Some("1"));
    assert!(verify_finds_another(&host, &folder));
    // nothing to compare with
    fs::remove_file(&file).unwrap();
    assert_eq!(stale(&folder), None);
    assert!(!verify_finds_another(&host, &folder));
}

#[test]
fn another_tools_translator_has_nothing_to_be_compared_with() {
    let host = Host::new();
    let other = host.folder("other", &[]).join("translator");
    host.translator(&other);
    host.register("rosetta", "aarch64", &other, "F");
    let output = metrics(&host, &["--status", "arm64"]).ok();
    assert_eq!(number(&output, "emulator_stale", "linux/arm64"), None, "{output}");
    assert_eq!(number(&output, "emulator_info", "linux/arm64"), Some("1"), "{output}");
}

#[test]
fn a_handler_is_as_old_as_its_registration() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    let changed = || {
        let output = metrics(&host, &["--status", "arm64"]);
        let time = number(&output, "handler_changed_timestamp_seconds", "linux/arm64");
        time.expect("a time").parse::<u64>().unwrap()
    };
    let first = changed();
    // until a later time is to be told from it
    host.sh(&format!("until [ $(date +%s) -gt {} ]; do sleep .1; done", first + 1)).ok();
    host.binfmt(&["--install", "arm64"]).ok();
    assert_eq!(changed(), first);
    host.call(&["--install", "arm64"]).emulators(&old_emulators()).env("QEMU_BINARY_REPLACE", "1").run().ok();
    assert!(changed() > first);
}

#[test]
fn two_calls_say_the_same_in_the_same_order() {
    let host = Host::new();
    host.binfmt(&["--install", "s390x,arm64,riscv64"]).ok();
    let lines = |args: &[&str]| -> Vec<String> {
        let output = metrics(&host, args).ok();
        let lines = output.stdout.lines();
        lines.filter(|line| !line.starts_with("binfmt_platform_start_cpu_seconds")).map(str::to_owned).collect()
    };
    assert_eq!(lines(&["--status"]), lines(&["--status"]));
    let order = ["--status", "s390x,arm64"];
    assert_eq!(lines(&order), lines(&["--status", "arm64,s390x"]));
}

#[test]
fn names_that_the_format_gives_a_meaning_are_escaped() {
    let host = Host::new();
    let folder = host.folder("a \"b\" c\\d", &[("qemu-aarch64", emulators())]);
    let file = folder.join("qemu-aarch64");
    host.register("qemu-\"x\"\ny} 1\u{1b}", "aarch64", &file, "F");
    let output = metrics(&host, &["--status", "arm64"]).ok();
    assert_eq!(number(&output, "emulator_info", "linux/arm64"), Some("1"), "{output}");
    let path = file.to_str().unwrap().replace('\\', r"\\").replace('"', "\\\"");
    output.prints(r#"entry="qemu-\"x\"\ny} 1\\u{1b}","#).prints(&format!("interpreter=\"{path}\","));
}

#[test]
fn metrics_are_a_form_of_the_status_alone() {
    let host = Host::new();
    for args in [
        &[][..],
        &["--list"],
        &["--verify"],
        &["--explain", "/bin/sh"],
        &["--install", "arm64"],
        &["--uninstall", "all"],
        &["--status", "--list"],
    ] {
        let args = [args, &["--format", "prometheus"]].concat();
        let output = host.binfmt(&args).ends(2);
        assert_eq!(output.stdout, "", "{output}");
        assert_eq!(output.stderr.lines().count(), 1, "{output}");
    }
    assert_eq!(host.entries(), [""; 0]);
    let output = metrics(&host, &["--install", "arm64", "--status"]).ok();
    assert_eq!(number(&output, "platform_up", "linux/arm64"), Some("1"), "{output}");
}

/// What the unit runs, with its output below a folder of the test's.
fn unit(host: &Host, folder: &Path, binfmt: &str) -> Output {
    let joined = UNIT.replace("\\\n", "");
    let command = joined.lines().find_map(|line| line.strip_prefix("ExecStart=/bin/sh -c '"));
    let command = command.and_then(|rest| rest.strip_suffix('\'')).expect("a shell command");
    let command = command.replace("@BIN@/binfmt", binfmt);
    host.program("sh").args(["-c", &command]).env("QEMU_BINARY_PATH", emulators()).env("TEXTFILES", folder).run()
}

#[test]
fn the_file_is_replaced_by_a_whole_one_or_not_at_all() {
    let host = Host::new();
    let folder = host.folder("textfiles", &[]);
    let file = folder.join("binfmt.prom");
    let names = || -> Vec<String> {
        let listing = fs::read_dir(&folder).unwrap();
        let names = listing.map(|item| item.unwrap().file_name().into_string().unwrap());
        names.filter(|name| Path::new(name).extension().is_some_and(|e| e == "prom")).collect()
    };
    host.binfmt(&["--install", "all"]).ok();
    unit(&host, &folder, BINFMT).ok();
    let healthy = fs::read_to_string(&file).unwrap();
    assert!(healthy.contains("binfmt_platform_up{platform=\"linux/arm64\"} 1\n"), "{healthy}");
    // one that does not run is in the file, and no failure of writing it
    host.binfmt(&["--uninstall", "arm64"]).ok();
    unit(&host, &folder, BINFMT).ok();
    let down = fs::read_to_string(&file).unwrap();
    assert!(down.contains("binfmt_platform_up{platform=\"linux/arm64\"} 0\n"), "{down}");

    let cut = host.scratch().join("cut");
    let body = format!("#!/bin/sh\n{BINFMT} \"$@\" | head -c 200\n");
    host.executable(&cut, body.as_bytes());
    for broken in ["/bin/false", "/nowhere/binfmt", cut.to_str().unwrap()] {
        assert_ne!(unit(&host, &folder, broken).status, 0, "{broken}");
        assert_eq!(fs::read_to_string(&file).unwrap(), down, "{broken}");
        assert_eq!(names(), ["binfmt.prom"]);
    }
}

#[test]
fn the_rules_are_valid_and_each_has_a_case() {
    needs_emulators!();
    let host = Host::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus");
    let call =
        |verb: &str, file: &str| host.program(promtool()).args([verb, "rules"]).args([folder.join(file)]).run().ok();
    let alerts = ALERTS.matches("- alert: ").count();
    call("check", "alerts.yml").prints(&format!("SUCCESS: {alerts} rules found"));
    call("test", "alerts.test.yml").prints("SUCCESS");
    let cases = fs::read_to_string(folder.join("alerts.test.yml")).unwrap();
    for alert in ALERTS.split("- alert: ").skip(1) {
        let name = alert.lines().next().unwrap();
        let mut cases = cases.split("- alertname: ").skip(1);
        let speaks = |case: &str| case.starts_with(name) && !case.contains("exp_alerts: []");
        assert!(cases.any(speaks), "no case in which {name} speaks");
    }
}

#[test]
fn the_rules_and_the_page_name_metrics_that_there_are() {
    let named = |text: &str| -> BTreeSet<String> {
        let words = text.split(|c: char| c != '_' && !c.is_ascii_alphanumeric());
        words.filter(|word| word.starts_with("binfmt_")).map(str::to_owned).collect()
    };
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    let there = named(&metrics(&host, &["--status"]).ok().stdout);
    let unknown: Vec<_> = named(ALERTS).difference(&there).cloned().collect();
    assert_eq!(unknown, [""; 0]);
    let rows = PAGE.lines().filter(|line| line.starts_with("| `binfmt_"));
    let documented: Vec<&str> = rows.filter_map(|row| row.split('`').nth(1)).collect();
    assert_eq!(documented.len(), there.len());
    assert!(documented.iter().all(|name| there.contains(*name)), "{documented:?}");
}

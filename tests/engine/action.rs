//! The repository as a GitHub action: the steps of `action.yml`, run as a runner runs them, and what they put out.
//!
//! With the image it is the machine's own table; with the single file, a table of the test's own. What the installs themselves
//! do is tested elsewhere; here it is what a workflow sees.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::machine::{IMAGE, Machine, root, run};
use crate::harness::{BINFMT, Host, Output, emulators, old_emulators};
use crate::kubernetes::chart::objects;

/// The name of the runner, which begins as the names of all that the tests make.
const RUNNER: &str = "binfmt-test-runner";

/// `action.yml`.
fn action() -> Value {
    let text = fs::read_to_string(root().join("action.yml")).expect("action.yml");
    objects(&text).pop().expect("a document")
}

/// What a step has written to the file of its outputs, by GitHub's rules: `NAME=VALUE`, or `NAME<<END`, lines, and `END`.
fn written(text: &str) -> BTreeMap<String, String> {
    let mut outputs = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some((name, value)) = line.split_once('=') {
            outputs.insert(name.to_owned(), value.to_owned());
        } else {
            let (name, end) = line.split_once("<<").expect("an output");
            let value: Vec<&str> = lines.by_ref().take_while(|line| line != &end).collect();
            outputs.insert(name.to_owned(), value.join("\n"));
        }
    }
    outputs
}

/// The text with each `${{ … }}` as `value` has it.
fn evaluated(text: &str, value: impl Fn(&str) -> String) -> String {
    let mut parts = text.split("${{");
    let mut done = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (expression, rest) = part.split_once("}}").expect("the end of an expression");
        let _ = write!(done, "{}{rest}", value(expression.trim()));
    }
    done
}

/// The action's outputs, by name, and what its steps have said.
#[derive(Debug)]
struct Done {
    said: Output,
    outputs: BTreeMap<String, String>,
}

impl Done {
    #[track_caller]
    fn ok(self) -> Self {
        Self { said: self.said.ok(), outputs: self.outputs }
    }

    /// It fails, and the job's page says why.
    #[track_caller]
    fn fails_with(self, words: &str) {
        let said = self.said.ends(1);
        let error = said.stdout.lines().find_map(|line| line.strip_prefix("::error title=binfmt::"));
        assert!(error.is_some_and(|error| error.contains(words)), "no error {words:?} in {said}");
    }

    fn platforms(&self) -> Vec<&str> {
        self.outputs["platforms"].split(',').collect()
    }

    /// The platforms of the JSON, by name.
    fn status(&self) -> BTreeMap<String, Value> {
        let status: Value = serde_json::from_str(&self.outputs["status"]).expect("JSON");
        let platforms = status["platforms"].as_array().expect("platforms").clone();
        platforms.into_iter().map(|one| (one["platform"].as_str().expect("a name").to_owned(), one)).collect()
    }
}

/// Runs the action with these inputs on a runner, which is this host.
fn uses(host: &Host, inputs: &[(&str, &str)]) -> Done {
    let action = action();
    let input = |expression: &str| -> String {
        let name = expression.strip_prefix("inputs.").expect("an input");
        let default = action["inputs"][name]["default"].as_str();
        let given = inputs.iter().find(|(given, _)| *given == name).map(|(_, value)| *value);
        given.or(default).unwrap_or_else(|| panic!("no input {name}")).to_owned()
    };
    assert!(inputs.iter().all(|(name, _)| action["inputs"][name].is_object()), "{inputs:?}");
    assert_eq!(action["runs"]["using"], "composite");
    let steps = action["runs"]["steps"].as_array().expect("steps");
    let [step] = &steps[..] else { panic!("steps: {steps:?}") };
    assert_eq!(step["shell"], "bash");
    let folder = host.scratch().join("runner");
    fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("output");
    fs::write(&file, "").expect("a file");
    // as the runner's documentation has `shell: bash`
    let script = step["run"].as_str().expect("a script");
    let mut call = host.program("bash").args(["--noprofile", "--norc", "-eo", "pipefail", "-c", script]);
    for (name, value) in step["env"].as_object().expect("an environment") {
        call = call.env(name, evaluated(value.as_str().expect("a string"), input));
    }
    let runner: [(&str, &Path); 4] = [
        ("GITHUB_ACTION_PATH", root()),
        ("GITHUB_OUTPUT", &file),
        ("RUNNER_TEMP", &folder),
        ("RUNNER_NAME", Path::new(RUNNER)),
    ];
    for (name, value) in runner {
        call = call.env(name, value);
    }
    let said = call.run();
    let written = written(&fs::read_to_string(&file).expect("outputs"));
    let of_step = format!("steps.{}.outputs.", step["id"].as_str().expect("an id"));
    let of_steps = |expression: &str| {
        let name = expression.strip_prefix(&of_step).expect("an output of the step");
        written.get(name).cloned().unwrap_or_default()
    };
    let outputs = action["outputs"].as_object().expect("outputs").iter();
    let value = |output: &Value| evaluated(output["value"].as_str().expect("a value"), of_steps);
    let outputs = outputs.map(|(name, output)| (name.clone(), value(output))).collect();
    Done { said, outputs }
}

#[test]
fn a_workflow_of_setup_qemu_action_changes_one_line() {
    let Some(machine) = Machine::take() else { return };
    // a handler of before, which `reset` removes
    machine.host.sh("mount -t binfmt_misc none /proc/sys/fs/binfmt_misc").ok();
    machine.host.register("qemu-arm-old", "arm", &old_emulators().join("qemu-arm"), "F");
    let inputs = [("image", IMAGE), ("platforms", "arm64, linux/s390x\n"), ("reset", "true"), ("cache-image", "true")];
    let done = uses(&machine.host, &inputs).ok();
    assert_eq!(machine.entries(), ["qemu-aarch64", "qemu-s390x"]);
    machine.runs("arm64");
    machine.runs("s390x");
    assert_eq!(done.platforms(), machine.privileged("").ok().list("supported"));
    let status = done.status();
    for platform in ["linux/arm64", "linux/s390x"] {
        assert_eq!(status[platform]["state"], "works", "{status:?}");
        assert_eq!(status[platform]["flags"], "POCF", "{status:?}");
    }
    // nobody has published it under that name, so the engine's own is used, and that is told
    done.said.prints("::warning title=binfmt::cannot pull binfmt;").prints("::group::Installing arm64,linux/s390x");
}

#[test]
fn the_job_fails_with_the_reason() {
    let Some(machine) = Machine::take() else { return };
    let fails = |inputs: &[(&str, &str)], words: &str| uses(&machine.host, inputs).fails_with(words);
    fails(&[("image", IMAGE), ("platforms", "arm64,arm46")], "arm46");
    machine.runs("arm64");
    fails(&[("image", IMAGE), ("cache-image", "false")], "cannot pull binfmt;");
    fails(&[("image", IMAGE), ("cache-image", "yes")], "cache_image is true or false, not 'yes'");
    fails(&[("image", IMAGE), ("hold", "true"), ("platforms", "arm46")], "arm46");
    // the publisher's image, of the action's own version
    fails(&[], &format!("cannot pull registry.example/binfmt:{};", env!("CARGO_PKG_VERSION")));
    fails(&[("version", "9.8.7")], "cannot pull registry.example/binfmt:9.8.7;");
}

#[test]
fn a_hold_lasts_until_the_runner_ends_it() {
    let Some(machine) = Machine::take() else { return };
    let inputs = [("image", IMAGE), ("platforms", "arm64"), ("hold", "true")];
    // a runner that is kept has the former job's
    for _ in 0..2 {
        let done = uses(&machine.host, &inputs).ok();
        assert_eq!(done.status()["linux/arm64"]["state"], "works");
        done.said.prints("holding: arm64");
    }
    let wipe = "mount -t binfmt_misc none /proc/sys/fs/binfmt_misc; echo -1 >/proc/sys/fs/binfmt_misc/qemu-aarch64";
    machine.host.sh(wipe).ok();
    machine.host.comes_to_run("arm64");
    machine.docker(&format!("rm --force {RUNNER}-binfmt-hold")).ok();
    machine.privileged("--uninstall all").ok();
}

/// The single file, with two emulators inside, as it would be published: in a folder with its sum.
fn published(host: &Host) -> PathBuf {
    let folder = host.scratch().join("published");
    fs::create_dir(&folder).expect("a folder");
    let file = folder.join("binfmt");
    host.copy(Path::new(BINFMT), &file);
    let mut carry = Command::new(root().join("qemu/carry.sh"));
    carry.arg(&file).args(["qemu-aarch64", "qemu-arm"].map(|name| emulators().join(name)));
    run(carry.env("LEVEL", "1"));
    run(Command::new("sh").current_dir(&folder).args(["-c", "sha256sum binfmt >SHA256SUMS"]));
    file
}

#[test]
fn the_single_file_needs_no_docker() {
    let host = Host::new();
    let file = published(&host);
    let file = file.to_str().expect("UTF-8");
    let address = format!("file://{file}");
    for (source, hold) in [(file, "false"), (&address, "false"), (file, "true")] {
        let done = uses(&host, &[("single-file", source), ("platforms", "arm64"), ("reset", "true"), ("hold", hold)]);
        let done = done.ok();
        host.runs_arm64();
        assert_eq!(host.entries(), ["qemu-aarch64"], "{source}");
        assert!(done.platforms().contains(&"linux/arm64"), "{done:?}");
        assert_eq!(done.status()["linux/arm64"]["entry"], "qemu-aarch64");
    }
    host.sh("echo -1 >/proc/sys/fs/binfmt_misc/qemu-aarch64").ok();
    host.comes_to_run("arm64");
    host.sh(&format!("kill \"$(cat '{}')\"", host.scratch().join("runner/binfmt-hold.pid").display())).ok();
}

#[test]
fn a_single_file_is_what_was_published() {
    let host = Host::new();
    let file = published(&host);
    let address = format!("file://{}", file.display());
    let fails = |source: &str, words: &str| uses(&host, &[("single-file", source)]).fails_with(words);
    fails("nowhere/binfmt", "there is no file nowhere/binfmt");
    fails(&format!("{address}-of-another-name"), "binfmt-of-another-name");
    run(Command::new("sh").args(["-c", &format!("echo >>'{}'", file.display())]));
    fails(&address, "is damaged");
    let sums = file.with_file_name("SHA256SUMS");
    fs::write(sums, "").expect("a file");
    fails(&address, "has no sum of binfmt");
    assert_eq!(host.entries(), [""; 0]);
}

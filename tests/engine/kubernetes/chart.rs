//! The chart, rendered by Helm; and what Kubernetes' own schemas, and the chart's, say about objects and values.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde::Deserialize as _;
use serde_json::Value;

use crate::harness::machine::root;
use crate::harness::{material, turn::cannot_run};

/// The oldest of Kubernetes' versions that has all fields, and the newest that there are schemas of.
const VERSIONS: [&str; 2] = ["1.30", "1.37"];

fn tools() -> PathBuf {
    material("BINFMT_TEST_KUBERNETES", "kubernetes", "make test-material")
}

/// The chart's folder.
pub(crate) fn folder() -> PathBuf {
    root().join("deploy/kubernetes/chart")
}

/// A file of the chart.
pub(crate) fn file(name: &str) -> String {
    let path = folder().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Helm, of which there is a program for amd64 only.
pub(crate) struct Helm(PathBuf);

impl Helm {
    /// `None`, with the reason on stderr: it cannot run here.
    pub(crate) fn take() -> Option<Self> {
        let program = tools().join("helm");
        if !program.exists() {
            cannot_run("there is no Helm for this machine's architecture");
            return None;
        }
        Some(Self(program))
    }

    /// `helm` with these arguments, and whatever comes of it.
    pub(crate) fn call(&self, args: &[&str]) -> Output {
        let mut helm = Command::new(&self.0);
        helm.args(args).output().expect("helm")
    }

    /// The chart with these values, as text, without Helm's own comment on it.
    #[track_caller]
    pub(crate) fn render(&self, values: &[&str]) -> String {
        let rendered = self.try_to_render(values);
        let said = String::from_utf8_lossy(&rendered.stderr);
        assert!(rendered.status.success(), "{values:?}: {said}");
        let text = String::from_utf8(rendered.stdout).expect("UTF-8");
        let comment = "---\n# Source: binfmt/templates/daemonset.yaml\n";
        let object = text.strip_prefix(comment);
        object.expect("one object, with Helm's comment").to_owned()
    }

    /// The same, where it may be refused.
    pub(crate) fn try_to_render(&self, values: &[&str]) -> Output {
        let folder = folder();
        let folder = folder.to_str().expect("a path in UTF-8");
        let mut args = vec!["template", "binfmt", folder, "--namespace", "binfmt"];
        args.extend(values.iter().flat_map(|value| ["--set-json", value]));
        self.call(&args)
    }

    /// The chart's one object with these values.
    #[track_caller]
    pub(crate) fn daemonset(&self, values: &[&str]) -> Value {
        let mut objects = objects(&self.render(values));
        let object = objects.pop().expect("an object");
        assert_eq!(objects, [Value::Null; 0]);
        object
    }
}

/// The documents of a YAML file.
#[track_caller]
pub(crate) fn objects(yaml: &str) -> Vec<Value> {
    serde_yaml_ng::Deserializer::from_str(yaml).map(Value::deserialize).collect::<Result<_, _>>().expect("YAML")
}

/// What is wrong with the objects of a YAML text, as Kubernetes' schemas have it; `Ok` where nothing is.
pub(crate) fn judge(name: &str, yaml: &str) -> Result<(), String> {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.yaml"));
    fs::write(&path, yaml).expect("a file");
    for version in VERSIONS {
        let mut validate = Command::new(tools().join("bin/kubernetes-validate"));
        validate.args(["--strict", "--quiet", "-k", version]);
        let judged = validate.arg(&path).output().expect("kubernetes-validate");
        if !judged.status.success() {
            let said = [judged.stdout, judged.stderr].concat();
            let said = String::from_utf8_lossy(&said).into_owned();
            return Err(format!("{version}: {said}"));
        }
    }
    fs::remove_file(&path).expect("a file that goes");
    Ok(())
}

/// Whether values are as the chart's schema says, and if not, why.
pub(crate) fn fits(values: &Value) -> Result<(), String> {
    let schema = serde_json::from_str(&file("values.schema.json")).expect("a schema that is JSON");
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    compiler.add_resource("values.schema.json", schema).expect("a schema that can be located");
    let index = compiler.compile("values.schema.json", &mut schemas);
    let index = index.expect("a schema that is valid");
    schemas.validate(values, index).map_err(|error| format!("{error:#}"))
}

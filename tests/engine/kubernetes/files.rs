//! The files of `deploy/kubernetes` and the page about them: whether they agree with each other, with Helm, and with the
//! schemas of Kubernetes and of the chart.

use serde_json::{Value, json};

use super::MANIFEST;
use super::chart::{self, Helm, fits, judge, objects};

const PAGE: &str = include_str!("../../../docs/kubernetes.md");
/// Values that are all not the default.
const OTHER_VALUES: [&str; 11] = [
    r#"image={"repository":"registry.example:5000/tools/binfmt","tag":"1.2.3"}"#,
    r#"imagePullSecrets=[{"name":"pull"}]"#,
    r#"platforms=["all","-riscv64"]"#,
    "credentials=false",
    r#"onExit="uninstall""#,
    r#"interval="5m""#,
    r#"access="bind""#,
    r#"seLinuxOptions={"type":"spc_t"}"#,
    r#"resources={"limits":{"memory":"64Mi"},"requests":null}"#,
    r#"tolerations=[{"key":"builds","operator":"Exists","effect":"NoSchedule"}]"#,
    r#"priorityClassName="system-node-critical""#,
];

#[test]
fn the_manifest_is_what_the_chart_makes_of_its_defaults() {
    let Some(helm) = Helm::take() else { return };
    let rendered = helm.render(&[]);
    let is_at_the_end = MANIFEST.ends_with(&format!("\n---\n{rendered}"));
    assert!(is_at_the_end, "deploy/kubernetes/daemonset.yaml is to end with:\n{rendered}");
    let [namespace, daemonset] = &objects(MANIFEST)[..] else {
        panic!("two objects in {MANIFEST}");
    };
    assert_eq!(namespace["kind"], "Namespace");
    assert_eq!(daemonset["metadata"]["namespace"], namespace["metadata"]["name"]);
}

#[test]
fn kubernetes_schemas_agree_with_the_manifest_and_all_that_the_chart_makes() {
    let Some(helm) = Helm::take() else { return };
    let made = ["own", "bind", "host"].map(|access| helm.render(&[&format!("access={access:?}")]));
    let other = helm.render(&OTHER_VALUES);
    let all = [&[MANIFEST.to_owned()], &made[..], &[other]].concat();
    judge("made", &all.join("---\n")).unwrap();

    // a judge who can say no
    let unknown = MANIFEST.replace("readOnlyRootFilesystem", "readOnlyRootFileSystem");
    let refused = judge("unknown", &unknown).unwrap_err();
    assert!(refused.contains("readOnlyRootFileSystem"), "{refused}");
    let boolean = MANIFEST.replace("\"yes\"", "yes");
    let refused = judge("boolean", &boolean).unwrap_err();
    assert!(refused.contains("'string'"), "{refused}");
}

#[test]
fn each_value_is_heeded() {
    let Some(helm) = Helm::take() else { return };
    let daemonset = helm.daemonset(&OTHER_VALUES);
    let spec = &daemonset["spec"]["template"]["spec"];
    let container = &spec["containers"][0];
    let args = "--hold --install all,-riscv64 --credentials no --interval 5m --on-exit uninstall --mount /binfmt_misc";
    let args: Vec<&str> = args.split(' ').collect();
    assert_eq!(container["args"], json!(args));
    let probe = "/usr/bin/binfmt --status all,-riscv64 --mount /binfmt_misc";
    let probe: Vec<&str> = probe.split(' ').collect();
    assert_eq!(container["readinessProbe"]["exec"]["command"], json!(probe));
    assert_eq!(container["image"], "registry.example:5000/tools/binfmt:1.2.3");
    assert_eq!(spec["imagePullSecrets"], json!([{"name": "pull"}]));
    assert_eq!(spec["priorityClassName"], "system-node-critical");
    assert_eq!(spec["tolerations"][0]["key"], "builds");
    let resources = json!({"limits": {"memory": "64Mi"}});
    assert_eq!(container["resources"], resources);
    let context = &container["securityContext"];
    assert_eq!(context["seLinuxOptions"], json!({"type": "spc_t"}));
    assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));

    let digest = format!("sha256:{}", "0f".repeat(32));
    let pinned = helm.daemonset(&[&format!("image.digest={digest:?}"), r#"nodeSelector={"pool":"builders"}"#]);
    let spec = &pinned["spec"]["template"]["spec"];
    let image = format!("registry.example/binfmt@{digest}");
    assert_eq!(spec["containers"][0]["image"], image);
    let nodes = json!({"kubernetes.io/os": "linux", "pool": "builders"});
    assert_eq!(spec["nodeSelector"], nodes);
}

#[test]
fn values_that_make_no_sense_are_refused() {
    let defaults: Value = objects(&chart::file("values.yaml")).remove(0);
    fits(&defaults).unwrap();
    let refused = [
        ("unknown", "1"),
        ("platforms", r#""arm64""#),
        ("platforms", "[]"),
        ("platforms", r#"["arm64,arm"]"#),
        ("platforms", r#"["--force"]"#),
        ("credentials", r#""yes""#),
        ("onExit", r#""stop""#),
        ("interval", "30"),
        ("interval", r#""30""#),
        ("interval", r#""50ms""#),
        ("access", r#""privileged""#),
        ("image", r#"{"repository":"Registry.example/binfmt"}"#),
        ("image", r#"{"repository":"registry.example/binfmt:latest"}"#),
        ("image", r#"{"repository":"registry.example/binfmt","digest":"latest"}"#),
        ("imagePullSecrets", r#"["pull"]"#),
        ("seLinuxOptions", r#"{"kind":"spc_t"}"#),
        ("resources", r#"{"memory":"128Mi"}"#),
        ("resources", r#"{"limits":{"memory":"much"}}"#),
        ("nodeSelector", r#"{"builds":true}"#),
        ("tolerations", r#"[{"operator":"exists"}]"#),
    ];
    for (name, value) in refused {
        let mut values = defaults.clone();
        values[name] = serde_json::from_str(value).expect("JSON");
        fits(&values).expect_err(&format!("{name}: {value}"));
    }

    // and it is Helm that asks the schema
    let Some(helm) = Helm::take() else { return };
    for (name, value) in [refused[0], refused[10]] {
        let rendered = helm.try_to_render(&[&format!("{name}={value}")]);
        assert!(!rendered.status.success(), "{name}: {value}");
        let said = String::from_utf8_lossy(&rendered.stderr).into_owned();
        assert!(said.contains("schema") && said.contains(name), "{said}");
    }
}

#[test]
fn helm_has_nothing_to_say_about_the_chart_and_it_is_of_this_version() {
    let Some(helm) = Helm::take() else { return };
    let folder = chart::folder();
    let lint = helm.call(&["lint", "--strict", folder.to_str().expect("UTF-8")]);
    assert!(lint.status.success(), "{lint:?}");
    let about = objects(&chart::file("Chart.yaml")).remove(0);
    for key in ["version", "appVersion"] {
        assert_eq!(about[key], env!("CARGO_PKG_VERSION"), "{key}");
    }
}

#[test]
fn the_page_has_each_value_with_its_default() {
    let values = objects(&chart::file("values.yaml")).remove(0);
    let mut known = Vec::new();
    for (name, value) in values.as_object().expect("values") {
        match value.as_object().filter(|_| name == "image") {
            Some(parts) => known.extend(parts.iter().map(|(part, value)| (format!("{name}.{part}"), value))),
            None => known.push((name.clone(), value)),
        }
    }
    let mut rows: Vec<(String, Value)> = Vec::new();
    let table = PAGE.split_once("| value | default |").expect("a table of values").1;
    for row in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        rows.push((cells[1].to_owned(), objects(cells[2]).pop().unwrap_or_default()));
    }
    known.sort_by(|a, b| a.0.cmp(&b.0));
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    let rows: Vec<_> = rows.iter().map(|(name, value)| (name.clone(), value)).collect();
    assert_eq!(rows, known);
}

//! A pod's spec, done by an engine without a cluster: the container that it asks for, its probe, its end.
//!
//! Each field is either an option of `docker run` here, or stands in the list of those that take a cluster. One that is
//! neither fails the test, so that nothing goes untried because nobody thought of it.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::harness::Output;
use crate::harness::machine::{IMAGE, Machine, OURS};

/// What the files call the image, up to its tag.
const PUSHED: &str = "registry.example/binfmt:";

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Spec {
    containers: [Container; 1],
    #[serde(default, rename = "hostPID")]
    host_pid: bool,
    #[serde(default)]
    volumes: Vec<Volume>,
    termination_grace_period_seconds: u32,
    // what only a cluster can do, or refuse to
    #[serde(rename = "automountServiceAccountToken")]
    _token: IgnoredAny,
    #[serde(rename = "enableServiceLinks")]
    _links: IgnoredAny,
    #[serde(rename = "nodeSelector")]
    _nodes: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Container {
    #[serde(rename = "name")]
    _name: IgnoredAny,
    image: String,
    args: Vec<String>,
    readiness_probe: Probe,
    #[serde(rename = "terminationMessagePolicy")]
    _message: IgnoredAny,
    security_context: SecurityContext,
    resources: Resources,
    #[serde(default)]
    volume_mounts: Vec<VolumeMount>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Probe {
    exec: Exec,
    timeout_seconds: u64,
    #[serde(rename = "periodSeconds")]
    _period: IgnoredAny,
    #[serde(rename = "failureThreshold")]
    _threshold: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exec {
    command: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SecurityContext {
    run_as_user: u32,
    read_only_root_filesystem: bool,
    #[serde(default)]
    privileged: bool,
    allow_privilege_escalation: Option<bool>,
    seccomp_profile: Option<Profile>,
    app_armor_profile: Option<Profile>,
    #[serde(default)]
    capabilities: Capabilities,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    r#type: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Capabilities {
    drop: Vec<String>,
    add: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resources {
    limits: BTreeMap<String, String>,
    #[serde(rename = "requests")]
    _requests: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct VolumeMount {
    name: String,
    mount_path: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Volume {
    name: String,
    host_path: HostPath,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HostPath {
    path: String,
    #[serde(rename = "type")]
    _type: IgnoredAny,
}

impl Container {
    /// Options of `docker run`.
    fn options(&self, volumes: &[Volume]) -> Vec<String> {
        let context = &self.security_context;
        let mut options = vec![format!("--user={}", context.run_as_user)];
        let mut set = |option: &str, is_set: bool| {
            if is_set {
                options.push(option.to_owned());
            }
        };
        set("--read-only", context.read_only_root_filesystem);
        set("--privileged", context.privileged);
        let may_gain = context.allow_privilege_escalation.unwrap_or(true);
        set("--security-opt=no-new-privileges", !may_gain);
        // without a word about it, a cluster filters no system calls, and confines as the runtime does
        match &context.seccomp_profile {
            None => set("--security-opt=seccomp=unconfined", true),
            Some(profile) => assert_eq!(profile.r#type, "RuntimeDefault"),
        }
        if let Some(profile) = &context.app_armor_profile {
            assert_eq!(profile.r#type, "Unconfined");
            set("--security-opt=apparmor=unconfined", true);
        }
        let capabilities = &context.capabilities;
        let dropped = capabilities.drop.iter().map(|one| ("--cap-drop", one));
        let added = capabilities.add.iter().map(|one| ("--cap-add", one));
        options.extend(dropped.chain(added).map(|(way, one)| format!("{way}={one}")));
        for (resource, limit) in &self.resources.limits {
            assert_eq!(resource, "memory");
            let megabytes = limit.strip_suffix("Mi").expect("a limit in Mi");
            options.push(format!("--memory={megabytes}m"));
        }
        for mount in &self.volume_mounts {
            let mut volumes = volumes.iter();
            let volume = volumes.find(|volume| volume.name == mount.name);
            let HostPath { path, .. } = &volume.expect("the volume of a mount").host_path;
            options.push(format!("--volume={path}:{}", mount.mount_path));
        }
        options
    }
}

/// A pod on the machine.
pub(crate) struct Pod<'a> {
    machine: &'a Machine,
    name: String,
    spec: Spec,
}

impl<'a> Pod<'a> {
    /// That of a `DaemonSet`, not started yet.
    #[track_caller]
    pub(crate) fn of(machine: &'a Machine, name: &str, daemonset: &Value) -> Self {
        let spec = &daemonset["spec"]["template"]["spec"];
        let spec = Spec::deserialize(spec).unwrap_or_else(|error| panic!("{error} in {spec:#}"));
        let name = format!("{OURS}{name}");
        Self { machine, name, spec }
    }

    /// Starts its container, of the image under test. What another one left of it is the engine's to remove.
    #[track_caller]
    pub(crate) fn start(&self) {
        let [container] = &self.spec.containers;
        let version = container.image.strip_prefix(PUSHED);
        assert_eq!(version, Some(env!("CARGO_PKG_VERSION")));
        let mut args = container.options(&self.spec.volumes);
        if self.spec.host_pid {
            args.push("--pid=host".into());
        }
        args.push(IMAGE.into());
        args.extend(container.args.iter().cloned());
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.machine.docker_with(&format!("run --detach --name {}", self.name), &args).ok();
    }

    /// Its probe, as long as that may take.
    pub(crate) fn probe(&self) -> Output {
        let [container] = &self.spec.containers;
        let Probe { exec, timeout_seconds, .. } = &container.readiness_probe;
        let begin = Instant::now();
        let words = format!("exec {}", self.name);
        let command: Vec<&str> = exec.command.iter().map(String::as_str).collect();
        let output = self.machine.docker_with(&words, &command);
        assert!(begin.elapsed() < Duration::from_secs(*timeout_seconds));
        output
    }

    /// Waits until its probe says so, which a cluster does more patiently.
    #[track_caller]
    pub(crate) fn gets_ready(&self) {
        let patience = Instant::now() + Duration::from_secs(20);
        loop {
            let probe = self.probe();
            if probe.status == 0 {
                return;
            }
            let said = self.says();
            assert!(Instant::now() < patience, "not ready: {probe}\n{said}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// What its container has said on stderr.
    pub(crate) fn says(&self) -> String {
        self.machine.docker(&format!("logs {}", self.name)).ok().stderr
    }

    /// The container dies, and another one takes its place.
    #[track_caller]
    pub(crate) fn is_restarted(&self, meanwhile: impl FnOnce()) {
        self.machine.docker(&format!("kill --signal KILL {}", self.name)).ok();
        assert_eq!(self.ends(), 137);
        self.remove();
        meanwhile();
        self.start();
    }

    /// It is deleted: SIGTERM, and SIGKILL once its time is over. What it ended with, and what it said.
    #[track_caller]
    pub(crate) fn is_deleted(&self) -> (i32, String) {
        let grace = self.spec.termination_grace_period_seconds;
        self.machine.docker(&format!("stop --time {grace} {}", self.name)).ok();
        let end = (self.ends(), self.says());
        self.remove();
        end
    }

    /// The exit status of its container, once that has ended.
    #[track_caller]
    pub(crate) fn ends(&self) -> i32 {
        self.machine.docker(&format!("wait {}", self.name)).ok().stdout.trim().parse().expect("an exit status")
    }

    fn remove(&self) {
        self.machine.docker(&format!("rm {}", self.name)).ok();
    }
}

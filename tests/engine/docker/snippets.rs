//! What the files of `deploy/` tell a CI service, Compose or Kubernetes to do, done with the words of those files.
//!
//! Their `docker` lines are run as they stand, in a folder with a Dockerfile whose build runs a foreign program; what
//! they say in another form (a privileged step, an init container, a probe) becomes the `docker` call that the service
//! makes of it. They name the image as somebody would have pushed it, so here it gets that name.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::{Command, action, supports_all};
use crate::harness::machine::{IMAGE, Machine, OURS, build, built, debian, root, run};
use crate::harness::{Output, program};

const GITHUB: &str = include_str!("../../../deploy/ci/github-actions.yaml");
const GITLAB: &str = include_str!("../../../deploy/ci/gitlab-ci.yml");
const DRONE: &str = include_str!("../../../deploy/ci/drone.yml");
const KUBERNETES: &str = include_str!("../../../deploy/health/kubernetes.yaml");
const HEALTH: &str = include_str!("../../../deploy/health/Dockerfile");
/// What the files call the image.
const PUSHED: &str = "registry.example/binfmt";

/// The machine, with the image under the name that the files have for it.
struct Site {
    machine: Machine,
    /// A folder to build in.
    folder: PathBuf,
}

impl Site {
    fn take() -> Option<Self> {
        let machine = Machine::take()?;
        machine.docker(&format!("tag {IMAGE} {PUSHED}")).ok();
        let folder = machine.host.scratch().join("folder");
        fs::create_dir(&folder).expect("a folder");
        fs::copy(program("arm64"), folder.join("busybox")).expect("a program");
        let dockerfile = "FROM scratch\nCOPY busybox /\nRUN [\"/busybox\", \"uname\", \"-m\"]\n";
        fs::write(folder.join("Dockerfile"), dockerfile).expect("a file");
        Some(Self { machine, folder })
    }

    /// Runs a line of a file in the folder to build in.
    #[track_caller]
    fn line(&self, line: &str) -> Output {
        let folder = self.folder.display();
        // nothing of an earlier build: the foreign program is to run now
        let line = line.replace("docker build ", "docker build --no-cache ");
        self.machine.host.sh(&format!("cd {folder}; {line}")).ok()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.machine.host.sh(&format!("docker rmi --no-prune {PUSHED}"));
    }
}

/// The lines of a file that call docker, as they stand.
fn docker_lines(file: &str) -> Vec<&str> {
    let lines = file.lines().map(str::trim_start);
    let lines = lines.map(|line| line.trim_start_matches("- ").trim_start_matches("run: "));
    let lines: Vec<&str> = lines.filter(|line| line.starts_with("docker ")).collect();
    assert!(!lines.is_empty(), "no docker lines in {file}");
    lines
}

/// What the first line that starts with this key says.
#[track_caller]
fn value<'a>(file: &'a str, key: &str) -> &'a str {
    let lines = file.lines().map(str::trim_start);
    let mut values = lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
    values.next().unwrap_or_else(|| panic!("no {key} in {file}"))
}

/// The words of a list in brackets.
#[track_caller]
fn words(file: &str, key: &str) -> String {
    value(file, key).replace(['[', ']', ','], " ").replace('"', "")
}

#[test]
fn github_actions_do_as_their_file_says() {
    let Some(site) = Site::take() else { return };
    assert_eq!(value(GITHUB, "image"), PUSHED);
    action(&site.machine, PUSHED, value(GITHUB, "platforms")).ok();
    site.machine.runs("arm64");
    site.machine.privileged("--uninstall all").ok();
    for line in docker_lines(GITHUB).iter().skip(1) {
        site.line(line);
    }
}

#[test]
fn a_privileged_step_of_drone_does_as_its_file_says() {
    let Some(site) = Site::take() else { return };
    assert_eq!(value(DRONE, "privileged"), "true");
    assert_eq!(value(DRONE, "image"), PUSHED);
    let step = words(DRONE, "command");
    site.line(&format!("docker run --privileged --rm {PUSHED} {step}"));
    for line in docker_lines(DRONE) {
        site.line(line);
    }
}

/// The engine that is a service of the job ends with the job, and the handlers stay.
#[test]
fn docker_in_docker_of_gitlab_does_as_its_file_says() {
    let Some(site) = Site::take() else { return };
    let (image, engine) = (format!("{OURS}engine"), format!("{OURS}engine-of-a-job"));
    let file = root().join("tests/engine/docker/engine.Dockerfile");
    build(&image, &format!("--file {}", file.display()), &root().join("tests/engine/docker"));
    let folder = site.folder.display();
    let start =
        format!("run --detach --rm --privileged --name {engine} -v /var/lib/docker -v {folder}:/job -w /job {image}");
    site.machine.docker(&start).ok();
    let ready = format!("until docker exec {engine} docker version >/dev/null 2>&1; do sleep 0.2; done");
    site.line(&ready);
    site.line(&format!("docker save {PUSHED}:latest | docker exec -i {engine} docker load"));
    for line in docker_lines(GITLAB) {
        site.line(&format!("docker exec {engine} {line}"));
    }
    site.line(&format!("docker rm --force --volumes {engine}"));
    site.machine.runs("arm64");
}

#[test]
fn kubernetes_gets_its_handlers_before_the_builder_and_probes_them() {
    let Some(site) = Site::take() else { return };
    assert_eq!(value(KUBERNETES, "privileged"), "true");
    assert_eq!(value(KUBERNETES, "image"), PUSHED);
    let init = format!("docker run --privileged --rm {PUSHED} {}", words(KUBERNETES, "args"));
    let builder = format!("{OURS}builder");
    build(&builder, "", &root().join("deploy/health"));
    let probe = format!("run --rm {builder} {}", words(KUBERNETES, "command"));

    site.machine.docker(&probe).ends(1);
    supports_all(&site.line(&init));
    site.machine.docker(&probe).ok();
    // the pod may be started again
    site.line(&init);
}

#[test]
fn a_container_is_as_healthy_as_its_handlers() {
    let Some(site) = Site::take() else { return };
    let name = format!("{OURS}healthy");
    build(&name, "", &root().join("deploy/health"));
    assert!(HEALTH.contains("HEALTHCHECK"));
    let start = format!("run --detach --init --name {name} --health-interval 0.3s --health-retries 1 {name} sleep 600");
    site.machine.docker(&start).ok();
    let comes_to_be = |health: &str| {
        let format = ["{{.State.Health.Status}}", &name];
        let patience = Instant::now() + Duration::from_secs(20);
        while site.machine.docker_with("inspect --format", &format).ok().stdout.trim() != health {
            assert!(Instant::now() < patience, "not {health}");
            thread::sleep(Duration::from_millis(100));
        }
    };
    comes_to_be("unhealthy");
    site.machine.privileged("--install arm64").ok();
    comes_to_be("healthy");
    site.machine.privileged("--uninstall arm64").ok();
    comes_to_be("unhealthy");
}

#[test]
fn compose_installs_and_ends() {
    let Some(site) = Site::take() else { return };
    let file = root().join("deploy/compose.yaml");
    let compose = Compose::of(&site.machine, &file);
    let up = compose.run("up --exit-code-from binfmt").ok();
    site.machine.runs("arm64");
    assert!(up.stdout.contains("\"supported\""), "{up}");
    compose.run("up --exit-code-from binfmt").ok();
    compose.run("down").ok();
}

#[test]
fn compose_waits_for_the_handlers() {
    let Some(site) = Site::take() else { return };
    let file = root().join("deploy/health/compose.yaml");
    let compose = Compose::of(&site.machine, &file);
    compose.run("up --detach --wait").ok();
    site.machine.runs("arm64");
    let listed = compose.run("ps work").ok();
    assert!(listed.stdout.contains("(healthy)"), "{listed}");
    compose.run("down --rmi local --timeout 1").ok();
}

/// Docker's Compose and one of our files, as a project that goes when the test does.
struct Compose<'a> {
    machine: &'a Machine,
    program: PathBuf,
    file: &'a Path,
}

impl<'a> Compose<'a> {
    fn of(machine: &'a Machine, file: &'a Path) -> Self {
        let plugin = built("docker-compose");
        run(Command::new(root().join("qemu/fetch.sh"))
            .args(["--package", "docker-compose", "--keep"])
            .arg("usr/libexec/docker/cli-plugins/docker-compose")
            .arg(&plugin));
        let program = plugin.join("docker-compose");
        Self { machine, program, file }
    }

    fn run(&self, words: &str) -> Output {
        let call = self.machine.host.program(&self.program).args(["--project-name", "binfmt-test-compose", "--file"]);
        call.args([self.file]).args(words.split(' ')).env("BASE", debian()).run()
    }
}

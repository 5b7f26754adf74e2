//! The machine and its Docker engine, for one test at a time: found with an empty table, left with one.
//!
//! What containers do to the table they do to the machine's, of which there is one. So these tests take turns.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::Output;
use super::turn::{self, Reason, Turn};

/// The image under test, while a test has its turn: the name by which pages and files of `deploy/` call it.
pub(crate) const IMAGE: &str = "binfmt";
/// The name that the image under test is built as, and keeps.
const BUILT: &str = "binfmt-under-test";
/// The name of the image that was called [`IMAGE`] before this turn, until the end of the turn.
const KEPT: &str = "binfmt-kept";
/// The start of the names of everything that the tests make and remove again.
pub(crate) const OURS: &str = "binfmt-test-";

/// The machine, its own table and its engine.
#[derive(Debug)]
pub(crate) struct Machine(Turn);

impl Deref for Machine {
    type Target = Turn;

    fn deref(&self) -> &Turn {
        &self.0
    }
}

impl Machine {
    /// Waits for its turn. `None`, with the reason on stderr: the tier cannot run here.
    pub(crate) fn take() -> Option<Self> {
        Self::take_unless(unfit)
    }

    /// The same, where nothing but the containers of the test keeps the table alive.
    pub(crate) fn take_unheld() -> Option<Self> {
        Self::take_unless(|| unfit().or_else(turn::held))
    }

    fn take_unless(unfit: impl Fn() -> Option<Reason>) -> Option<Self> {
        let turn = Turn::take(|| {
            clear();
            unfit()
        })?;
        image();
        run(Command::new("sh").args(["-e", "-c", &format!(
            "! docker image inspect {IMAGE} >/dev/null 2>&1 || docker tag {IMAGE} {KEPT}; docker tag {BUILT} {IMAGE}"
        )]));
        Some(Self(turn))
    }

    /// `docker` with these words.
    pub(crate) fn docker(&self, words: &str) -> Output {
        self.docker_with(words, &[])
    }

    /// `docker` with these words, and then these arguments as they are.
    pub(crate) fn docker_with(&self, words: &str, args: &[&str]) -> Output {
        let words: Vec<&str> = words.split_whitespace().collect();
        self.host.program("docker").args(words).args(args).run()
    }

    /// `docker run --rm` with these options, and the image with these arguments of the tool.
    pub(crate) fn binfmt(&self, options: &str, args: &str) -> Output {
        self.docker(&format!("run --rm {options} {IMAGE} {args}"))
    }

    /// `docker run --privileged --rm binfmt` with these arguments: the command that everybody knows.
    pub(crate) fn privileged(&self, args: &str) -> Output {
        self.binfmt("--privileged", args)
    }

    /// The files of an image, in a folder.
    pub(crate) fn files(&self, image: &str) -> PathBuf {
        let folder = self.host.scratch().join("files");
        // a variant of the image names no program to run, and a container needs the name of one
        self.docker(&format!("create --name {OURS}files {image} none")).ok();
        let unpacked = self.host.sh(&format!("mkdir {0}; docker export {OURS}files | tar -x -C {0}", folder.display()));
        unpacked.ok();
        folder
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rmi", "--no-prune", IMAGE]).output();
        clear();
    }
}

/// Removes the containers and images whose names say that they are the tests', and gives the user's image its name back: also
/// after a run that was killed. The layers stay cached.
fn clear() {
    let script = format!(
        "docker ps --all --quiet --filter name={OURS} | xargs -r docker rm --force --volumes
         docker images --quiet '{OURS}*' | xargs -r docker rmi --force
         docker image inspect {KEPT} && docker tag {KEPT} {IMAGE} && docker rmi {KEPT}"
    );
    // where no engine answers, there is nothing to remove
    let _ = Command::new("sh").args(["-c", &script]).output();
}

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder of what make leaves behind.
pub(crate) fn built(folder: &str) -> PathBuf {
    root().join("build").join(folder)
}

/// Builds the image from the sources as they are now; the engine caches what has not changed.
fn image() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| make_image(&[&format!("IMAGE={BUILT}")]));
}

/// `make image` with these settings, the name among them. The emulators are Debian's, unless a setting or the environment says otherwise: most
/// tests are of the tool, and ten emulators of our own take a quarter of an hour.
pub(crate) fn make_image(settings: &[&str]) {
    let from = std::env::var_os("QEMU_FROM").unwrap_or_else(|| "package".into());
    let mut make = Command::new("make");
    make.arg("-C").arg(root()).arg("image").args(settings);
    run(make.env("QEMU_FROM", from));
}

/// The image of Debian that others are built from, as the engine has it.
pub(crate) fn debian() -> String {
    run(Command::new(root().join("qemu/image/base.sh")).arg("trixie")).trim().to_owned()
}

/// Builds an image of this name from a folder, on Debian if it asks for a `BASE`.
pub(crate) fn build(image: &str, options: &str, folder: &Path) {
    let mut command = Command::new("docker");
    command.args(["build", "--progress=plain", "--tag", image]);
    command.args(["--build-arg", &format!("BASE={}", debian())]);
    run(command.args(options.split_whitespace()).arg(folder));
}

/// An archive of a Debian userland of an architecture that can run here: its folder, and its name.
pub(crate) fn archive(debian: &str) -> (PathBuf, String) {
    let folder = built("userland");
    let archive = format!("{debian}.tar");
    run(Command::new(root().join("qemu/image/userland.sh")).arg(debian).arg(folder.join(&archive)));
    (folder, archive)
}

/// The same as an image.
pub(crate) fn userland(debian: &str) -> String {
    let image = format!("{OURS}{debian}");
    let (folder, archive) = archive(debian);
    let file = root().join("tests/engine/docker/userland.Dockerfile");
    let options = format!("--platform linux/{debian} --build-arg ARCHIVE={archive} --file {}", file.display());
    build(&image, &options, &folder);
    image
}

/// Runs a command of the tests' own, for as long as it takes. What it says on stdout.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Why the tier cannot run on this machine.
fn unfit() -> Option<Reason> {
    let engine = Command::new("docker").args(["version"]).output();
    if !engine.is_ok_and(|output| output.status.success()) {
        return Some("it needs a Docker engine, and none answers".into());
    }
    turn::unfit()
}

//! A host that was booted: a container whose first process is a real systemd, with what `make install` installs, or what a
//! test puts there.
//!
//! Its table is the machine's, there being one per user namespace. So what it registers shows on the machine, and a
//! test has the machine to itself. Its automount of `binfmt_misc` and its mounts are its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::machine::{IMAGE, Machine, build, root, run};
use super::{MOUNT_POINT, Output};

/// What is installed: two that every machine on which these tests run can make use of, and one that only machines
/// without 32-bit x86 programs of their own have a use for.
const TARGETS: &str = "TARGETS=aarch64,s390x,i386";
/// How long to wait for what systemd does on its own account.
const PATIENCE: Duration = Duration::from_secs(20);
/// A file of binfmt.d that is nobody's platform, by which systemd-binfmt has something to do.
const OTHER: &str = "/etc/binfmt.d/other.conf";
/// The files of the image, where the host has them.
const FILES: &str = "/image";

/// The folder below which `make install` puts everything.
#[derive(Debug)]
pub(crate) struct Stage(PathBuf);

impl Stage {
    pub(crate) fn new(machine: &Machine) -> Self {
        let stage = Self(machine.host.scratch().join("stage"));
        let binary = machine.files(IMAGE).join("usr/bin/binfmt");
        let binary = format!("BINFMT={}", binary.display());
        stage.make(&["--old-file=build", "--old-file=emulators", &binary, "install"]);
        stage
    }

    pub(crate) fn uninstall(&self) {
        self.make(&["uninstall"]);
    }

    /// The paths of all files, sorted.
    pub(crate) fn files(&self, machine: &Machine) -> Vec<String> {
        let listed = machine.host.program("find").args([&self.0]).args(["-not", "-type", "d", "-printf", "/%P\n"]);
        let mut files: Vec<String> = listed.run().ok().stdout.lines().map(str::to_owned).collect();
        files.sort();
        files
    }

    fn make(&self, args: &[&str]) {
        let mut make = Command::new("make");
        make.arg("-C").arg(root()).args(args).arg(TARGETS);
        run(make.arg(format!("DESTDIR={}", self.0.display())));
    }
}

/// A host that was booted.
#[derive(Debug)]
pub(crate) struct Booted<'a> {
    machine: &'a Machine,
}

impl<'a> Booted<'a> {
    const NAME: &'static str = "binfmt-test-systemd";

    /// Boots one with what is installed, and nothing enabled.
    pub(crate) fn new(machine: &'a Machine) -> Self {
        let installed = Stage::new(machine).0.join("usr/local");
        // made by Stage
        let files = machine.host.scratch().join("files");
        let options = format!(
            "--tmpfs /var/lib/containers --volume {}:/usr/local --volume {}:{FILES}:ro",
            installed.display(),
            files.display(),
        );
        Self::with(machine, &options)
    }

    /// Boots one with these options of `docker run`, and nothing installed.
    pub(crate) fn with(machine: &'a Machine, options: &str) -> Self {
        build(Self::NAME, "", &root().join("tests/engine/systemd"));
        machine
            .docker(&format!(
                "run --detach --name {name} --privileged --cgroupns private --tmpfs /run --tmpfs /tmp {options} {name}",
                name = Self::NAME,
            ))
            .ok();
        let booted = Self { machine };
        booted.is_up();
        booted
    }

    /// Runs shell commands; they fail as soon as one fails.
    pub(crate) fn sh(&self, script: &str) -> Output {
        self.machine.docker_with(&format!("exec {} sh -e -c", Self::NAME), &[script])
    }

    pub(crate) fn systemctl(&self, words: &str) -> Output {
        self.sh(&format!("systemctl --no-pager {words}"))
    }

    /// The tool, as a user of this host calls it.
    pub(crate) fn binfmt(&self, args: &str) -> Output {
        self.sh(&format!("QEMU_BINARY_PATH=/usr/local/lib/binfmt binfmt {args}"))
    }

    /// The image in a container of this host's own engine.
    pub(crate) fn container(&self, options: &str, args: &str) -> Output {
        let run = "podman --log-level=error run --rm --network none";
        self.sh(&format!("{run} {options} --rootfs {FILES}:O /usr/bin/binfmt {args}"))
    }

    /// `active`, `inactive`, `failed`, ….
    pub(crate) fn state(&self, unit: &str) -> String {
        self.systemctl(&format!("show --property ActiveState --value {unit}")).ok().stdout.trim().to_owned()
    }

    /// Waits until it is in this state.
    #[track_caller]
    pub(crate) fn comes_to_be(&self, unit: &str, state: &str) {
        wait_until(&format!("{unit} is not {state}"), || self.state(unit) == state);
    }

    /// Waits until the programs run.
    #[track_caller]
    pub(crate) fn comes_to_run(&self, debian: &str) {
        self.machine.host.comes_to_run(debian);
    }

    /// An entry is removed behind everybody's back.
    pub(crate) fn loses(&self, entry: &str) {
        self.sh(&format!("echo -1 >{MOUNT_POINT}/{entry}")).ok();
    }

    /// The sources of what is mounted where the kernel expects the table: `systemd-1` is the automount, waiting.
    pub(crate) fn mounts(&self) -> Vec<String> {
        let mounts = self.sh(&format!("findmnt --noheadings --output SOURCE {MOUNT_POINT} || :"));
        mounts.ok().stdout.lines().map(|line| line.trim().to_owned()).collect()
    }

    /// Gives systemd-binfmt something to do whenever it starts, and with it the table to empty.
    pub(crate) fn configure_other(&self) {
        let line = ":other:E::binfmt-test-other::/bin/true:";
        let folder = Path::new(OTHER).parent().expect("a folder").display();
        self.sh(&format!("mkdir -p {folder}; echo '{line}' >{OTHER}")).ok();
    }

    /// Undoes that; the automount waits again.
    pub(crate) fn unconfigure_other(&self) {
        self.sh(&format!("rm {OTHER}")).ok();
        let units = "systemd-binfmt.service proc-sys-fs-binfmt_misc.mount";
        self.systemctl(&format!("stop {units}")).ok();
    }

    /// Nothing mounts the table here, from the next boot on.
    pub(crate) fn without_automount(&self) {
        let units = "proc-sys-fs-binfmt_misc.automount proc-sys-fs-binfmt_misc.mount";
        self.systemctl(&format!("mask {units}")).ok();
        self.reboot(|| {});
        assert_eq!(self.mounts(), [""; 0]);
    }

    /// `systemctl reboot`, and `meanwhile` while it is down.
    pub(crate) fn reboot(&self, meanwhile: impl FnOnce()) {
        // the engine may lose the connection before the command has ended
        self.systemctl("reboot");
        self.machine.docker(&format!("wait {}", Self::NAME)).ok();
        meanwhile();
        self.machine.docker(&format!("start {}", Self::NAME)).ok();
        self.is_up();
    }

    #[track_caller]
    fn is_up(&self) {
        let is_up = || self.systemctl("is-system-running --wait").status == 0;
        wait_until("systemd has not come up", is_up);
    }
}

#[track_caller]
fn wait_until(otherwise: &str, condition: impl Fn() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < patience, "{otherwise}");
        thread::sleep(Duration::from_millis(50));
    }
}

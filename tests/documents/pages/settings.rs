//! Where the commands of pages are run: a machine as the page's reader has it, with the shell that is used there.
//!
//! The scripts that readers do not see find what the tests have in `$EMULATORS`, `$OLD_EMULATORS` (QEMU 7.2), `$PROGRAMS` (an
//! `ARCH/busybox` each), `$ROOTFS` (root file systems) and `$REPOSITORY`.

use std::path::Path;
use std::process::Command;

use super::shell::Shell;
use crate::harness::booted::Booted;
use crate::harness::fake::needs_emulators;
use crate::harness::machine::{Machine, OURS, root};
use crate::harness::ordinary::Ordinary;
use crate::harness::turn::cannot_run;
use crate::harness::{BINFMT, Host, emulators, material, old_emulators, program};

/// A setting, by its name in pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setting {
    /// `namespace`: a host with an empty table of its own. The tool and Debian's emulators are in `/usr/bin`, `/opt` and `/srv`
    /// are empty, and the current directory is `/srv`.
    Namespace,
    /// `engine`: the machine, its Docker engine, and the image `binfmt`. The current directory is empty.
    Engine,
    /// `systemd`: a host that was booted, with what `make install` puts there, and nothing enabled.
    Systemd,
    /// `user`: as `namespace`, with a user without privilege, in a home directory.
    User,
}

impl Setting {
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "namespace" => Self::Namespace,
            "engine" => Self::Engine,
            "systemd" => Self::Systemd,
            "user" => Self::User,
            _ => return None,
        })
    }

    /// Has it, for as long as `act` takes, which is given what starts shells in it; or says why it cannot be had here.
    pub(crate) fn with(self, act: impl FnOnce(&dyn Fn() -> Shell)) {
        if !cfg!(target_arch = "x86_64") {
            return cannot_run("the pages show a machine with amd64");
        }
        if !nix::unistd::geteuid().is_root() {
            return cannot_run("it needs root, as many of the pages do");
        }
        needs_emulators!();
        match self {
            Self::Namespace => namespace(act),
            Self::Engine => engine(act),
            Self::Systemd => systemd(act),
            Self::User => user(act),
        }
    }
}

/// Puts the tool and the emulators into `/usr/bin`, over what the machine has there; what is written there is the host's own.
fn equip(folder: &str) -> String {
    format!(
        "mkdir -p {folder}; mount -t tmpfs -o mode=755 none {folder}
         mkdir {folder}/tool {folder}/upper {folder}/work; cp '{BINFMT}' {folder}/tool/binfmt
         mount -t overlay -o 'lowerdir={folder}/tool:{}:/usr/bin,upperdir={folder}/upper,workdir={folder}/work' none /usr/bin
         for place in /opt /srv; do mount -t tmpfs -o mode=755 none $place; done\n",
        emulators().display()
    )
}

fn namespace(act: impl FnOnce(&dyn Fn() -> Shell)) {
    let host = Host::of_many_users(&equip("/mnt"));
    act(&|| start(host.command("bash"), "cd /srv"));
}

fn engine(act: impl FnOnce(&dyn Fn() -> Shell)) {
    let Some(machine) = Machine::take() else { return };
    let here = machine.host.scratch().join("here");
    let first = format!("mkdir -p '{0}'; cd '{0}'", here.display());
    act(&|| start(machine.host.command("bash"), &first));
}

fn systemd(act: impl FnOnce(&dyn Fn() -> Shell)) {
    let Some(machine) = Machine::take_unheld() else { return };
    let _booted = Booted::new(&machine);
    act(&|| {
        let mut docker = Command::new("docker");
        docker.args(["exec", "--interactive", &format!("{OURS}systemd"), "bash"]);
        Shell::start(docker)
    });
}

fn user(act: impl FnOnce(&dyn Fn() -> Shell)) {
    let Some(user) = Ordinary::with_ids() else { return };
    let Some(_) = user.debian("arm64") else { return };
    user.host.sh(&equip("/mnt/usr")).ok();
    act(&|| start(user.shell(), "export HOME=/mnt/home; cd"));
}

/// Starts a shell on this machine, with these commands first.
fn start(mut bash: Command, first: &str) -> Shell {
    let programs = program("arm64");
    let programs = programs.ancestors().nth(2);
    let rootfs = material("BINFMT_TEST_ROOTFS", "rootfs", "make test-rootfs");
    bash.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    // signs beyond ASCII as they are
    bash.env("LC_ALL", "C.UTF-8");
    for name in ["QEMU_BINARY_PATH", "QEMU_BINARY_PREFIX", "QEMU_PRESERVE_ARGV0", "QEMU_TRANSPARENT"] {
        bash.env_remove(name);
    }
    let folders: [(&str, &Path); 5] = [
        ("EMULATORS", &emulators()),
        ("OLD_EMULATORS", &old_emulators()),
        ("PROGRAMS", programs.expect("a folder of programs")),
        ("ROOTFS", &rootfs),
        ("REPOSITORY", root()),
    ];
    bash.envs(folders);
    let mut shell = Shell::start(bash);
    shell.prepare(first);
    shell
}

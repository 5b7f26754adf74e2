//! An [`Ordinary`] user on a host whose table is empty, and what such a user can get at: the tool, emulators, programs.
//!
//! As root, the host has several users, and one of them is taken. Otherwise it is the user who runs the tests, who is
//! alone there.

use std::path::Path;
use std::process::Command;

use super::turn::cannot_run;
use super::{BINFMT, Call, Host, MOUNT_POINT, Output, emulators, fake, material, program};

/// The platform of most tests, as it is asked for.
pub(crate) const ARM64: &str = "--run linux/arm64";

/// A user without privilege, to whom nobody has given further ids.
#[derive(Debug)]
pub(crate) struct Ordinary {
    pub(crate) host: Host,
    become_user: Vec<String>,
}

impl Ordinary {
    /// User and group. Debian's `daemon`, and so in every `/etc/passwd`, which `newuidmap` looks into.
    pub(crate) const ID: u32 = 1;

    /// The user, with `/mnt/home`, and what is to be run in other folders of `/mnt`; an empty `/mnt/subid` in place of `/etc/subuid` and `/etc/subgid`.
    pub(crate) fn new() -> Self {
        let programs = program("arm64");
        let programs = programs.ancestors().nth(2).expect("a folder of programs");
        // a fake emulator runs no Debian
        let rootfs =
            if fake::is_used() { emulators() } else { material("BINFMT_TEST_ROOTFS", "rootfs", "make test-rootfs") };
        let bind = |from: &Path, to: &str| format!("mount --bind '{}' /mnt/{to}\n", from.display());
        let mut setup = format!(
            "mount -t tmpfs -o mode=755 none /mnt
             mkdir /mnt/home /mnt/emulators /mnt/programs /mnt/rootfs; : >/mnt/binfmt; : >/mnt/subid
             for file in /etc/subuid /etc/subgid; do
               [ ! -e $file ] || mount --bind /mnt/subid $file
             done
             {}{}{}{}",
            bind(Path::new(BINFMT), "binfmt"),
            bind(&emulators(), "emulators"),
            bind(programs, "programs"),
            bind(&rootfs, "rootfs"),
        );
        let id = Self::ID;
        if !nix::unistd::geteuid().is_root() {
            let mount = format!("mount -t binfmt_misc binfmt_misc {MOUNT_POINT}\n");
            let user = ["unshare".to_owned(), format!("--map-user={id}"), format!("--map-group={id}"), "--".to_owned()];
            return Self {
                host: Host::with(&["--user", "--map-root-user", "--mount"], &(mount + &setup)),
                become_user: user.into(),
            };
        }
        setup = format!("{setup}chown {id}:{id} /mnt/home\n");
        let user = [
            "setpriv".to_owned(),
            format!("--reuid={id}"),
            format!("--regid={id}"),
            "--clear-groups".to_owned(),
            "--".to_owned(),
        ];
        Self { host: Host::of_many_users(&setup), become_user: user.into() }
    }

    /// The same, with a range of ids. `None`, with the reason: there is nobody who maps them.
    pub(crate) fn with_ids() -> Option<Self> {
        let user = Self::new();
        if !nix::unistd::geteuid().is_root() {
            cannot_run("it needs root, for a user who may have other ids than those of this one");
            return None;
        }
        if user.host.sh("command -v newuidmap newgidmap").status != 0 {
            cannot_run("it needs newuidmap, of Debian's package uidmap");
            return None;
        }
        let range = "getent passwd 1 | sed 's/:.*/:100000:65536/' >/mnt/subid; mountpoint -q /etc/subuid";
        user.host.sh(range).ok();
        Some(user)
    }

    /// A root file system of a static busybox, which belongs to the user: nothing but `/bin` and an empty `/etc`.
    pub(crate) fn root(&self, name: &str, debian: &str) -> String {
        let root = format!("/mnt/home/{name}");
        self.sh(&format!(
            "mkdir -p {root}/bin {root}/etc; cd {root}/bin; cp /mnt/programs/{debian}/busybox .
             for name in sh id cat ls pwd uname head wc tty chown; do ln -s busybox $name; done"
        ))
        .ok();
        root
    }

    /// A Debian of `make test-rootfs`, a copy that belongs to the user. `None`, with the reason: there can be none.
    pub(crate) fn debian(&self, debian: &str) -> Option<String> {
        if !nix::unistd::geteuid().is_root() {
            cannot_run("it needs root, who gives a root file system to another user");
            return None;
        }
        let script = format!(
            "mkdir '{0}/root' /mnt/debian; cp -a /mnt/rootfs/{debian}/. '{0}/root'
             chown -Rh {1}:{1} '{0}/root'; mount --bind '{0}/root' /mnt/debian",
            self.host.scratch().display(),
            Self::ID
        );
        self.host.sh(&script).ok();
        Some("/mnt/debian".to_owned())
    }

    /// The tool with these words of a shell, and the command after them.
    pub(crate) fn run(&self, options: &str, command: &str) -> Output {
        self.sh(&format!("exec /mnt/binfmt {options} -- {command}"))
    }

    /// The tool with other words than those of a command.
    pub(crate) fn binfmt(&self, words: &str) -> Output {
        self.sh(&format!("exec /mnt/binfmt {words}"))
    }

    /// Shell commands of the user.
    pub(crate) fn sh(&self, script: &str) -> Output {
        self.call(&["sh", "-e", "-c", script]).run()
    }

    /// A prepared shell of the user, with the environment of the test.
    pub(crate) fn shell(&self) -> Command {
        let mut command = self.host.command(&self.become_user[0]);
        command.args(&self.become_user[1..]).arg("bash");
        command
    }

    fn call(&self, words: &[&str]) -> Call<'_> {
        let call = self.host.program(&self.become_user[0]).args(&self.become_user[1..]).args(words);
        call.env("QEMU_BINARY_PATH", "/mnt/emulators")
    }

    /// A prepared call of the tool, which becomes it with the same PID.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = self.host.command(&self.become_user[0]);
        command.args(&self.become_user[1..]).arg("/mnt/binfmt");
        command.args(words);
        command.env("QEMU_BINARY_PATH", "/mnt/emulators");
        command
    }
}

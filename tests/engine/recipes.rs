//! What docs/recipes.md says of Podman, Buildah and Skopeo, in a Debian that has them: as root, and as a user without privilege.
//!
//! That Debian is a privileged container, so its kernel's table is the machine's. Its user has a table of its own in the second
//! test, and the machine's stays empty there.

mod packages;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::harness::machine::{IMAGE, Machine, OURS, build, root, run};
use crate::harness::{BINFMT, Output, emulators, program};

/// The image's name where it has been pulled.
const PUBLISHED: &str = "registry.example/binfmt:latest";
/// Two steps of a build, of which the second is a foreign program.
const DOCKERFILE: &str = "FROM scratch\nCOPY busybox /bin/\nRUN [\"/bin/busybox\", \"uname\", \"-m\"]\n\
    CMD [\"/bin/busybox\", \"uname\", \"-m\"]\n";

/// A Debian with the tools, for as long as the value lives.
struct Debian<'a> {
    machine: &'a Machine,
    name: String,
    /// What it has in `/in`.
    folder: PathBuf,
}

impl<'a> Debian<'a> {
    fn start(machine: &'a Machine) -> Self {
        let name = format!("{OURS}recipes");
        build(&name, "", &root().join("tests/engine/recipes"));
        let folder = machine.host.scratch().join("in");
        fs::create_dir(&folder).expect("a folder");
        machine.host.copy(&program("arm64"), &folder.join("busybox"));
        fs::write(folder.join("Dockerfile"), DOCKERFILE).expect("a file");
        let volumes = format!("--volume {}:/in --volume /var/lib/containers --volume /home", folder.display());
        let start =
            format!("run --detach --rm --init --privileged --name {name} {volumes} --workdir /in {name} sleep 900");
        machine.docker(&start).ok();
        Self { machine, name, folder }
    }

    /// Runs commands as root.
    fn root(&self, script: &str) -> Output {
        self.machine.docker_with(&format!("exec {} sh -ec", self.name), &[script])
    }

    /// Runs commands as the user.
    fn user(&self, script: &str) -> Output {
        self.machine.docker_with(&format!("exec {} su user -c", self.name), &[&format!("set -e; {script}")])
    }
}

impl Drop for Debian<'_> {
    fn drop(&mut self) {
        self.machine.docker(&format!("rm --force --volumes {}", self.name));
    }
}

#[test]
fn podman_and_buildah_use_the_handlers_that_roots_podman_has_installed() {
    let Some(machine) = Machine::take() else { return };
    let debian = Debian::start(&machine);
    machine.docker(&format!("save --output {}/image.tar {IMAGE}:latest", debian.folder.display())).ok();
    let load = format!("skopeo copy --quiet docker-archive:image.tar containers-storage:{PUBLISHED}");
    debian.root(&format!("chmod 644 image.tar; {load}")).ok();
    debian.root("podman run --privileged --rm registry.example/binfmt --install arm64").ok().says("arm64 OK");
    machine.runs("arm64");

    let foreign = "podman build --quiet --platform linux/arm64 --tag hello .
        podman run --rm --platform linux/arm64 hello";
    debian.root(foreign).ok().prints("aarch64");
    debian.user(foreign).ok().prints("aarch64");
    let both =
        "buildah build --quiet --platform linux/arm64,linux/amd64 --manifest both .; buildah manifest inspect both";
    debian.root(both).ok().prints("\"arm64\"").prints("\"amd64\"");
    let copied =
        "skopeo copy --quiet containers-storage:localhost/hello:latest dir:/tmp/hello; skopeo inspect dir:/tmp/hello";
    debian.root(copied).ok().prints("\"Architecture\": \"arm64\"");

    // the user's Podman cannot install for the machine, and says what can
    debian.user(&load).ok();
    let refused = debian.user("podman run --privileged --rm registry.example/binfmt --install s390x");
    refused.ends(1).says("run it on the host (rootful)");
    // with a table of its own, a container hides the host's from all of the user's
    let hides = "podman run --privileged --rm registry.example/binfmt --mount /proc/sys/fs/binfmt_misc --install s390x";
    debian.user(hides).ends(1).says("these handlers may end with this container");
    let hello = "podman run --rm --platform linux/arm64 hello";
    debian.user(hello).ends(1);
    debian.user("podman system migrate").ok();
    debian.user(hello).ok().prints("aarch64");
    debian.root("podman run --privileged --rm registry.example/binfmt --uninstall all").ok();
    machine.is_clean();
}

#[test]
fn a_user_has_handlers_for_podman_without_root() {
    let Some(machine) = Machine::take() else { return };
    let debian = Debian::start(&machine);
    let file = debian.folder.join("binfmt");
    machine.host.copy(BINFMT.as_ref(), &file);
    run(Command::new(root().join("qemu/carry.sh")).env("LEVEL", "1").arg(&file).arg(emulators().join("qemu-aarch64")));
    let install = "podman unshare ./binfmt --mount /proc/sys/fs/binfmt_misc --install arm64";
    debian.user(install).ok().says("arm64 OK");
    let build = "podman build --quiet --platform linux/arm64 --tag hello .";
    debian.user(build).ok();
    let foreign = "podman run --rm --platform linux/arm64 hello";
    debian.user(foreign).ok().prints("aarch64");
    machine.stops_running("arm64");
    assert_eq!(machine.entries(), [""; 0]);
    // with the user's namespace, the handlers end
    debian.user("podman system migrate").ok();
    debian.user(foreign).ends(1);
}

//! The image against a real Docker engine: what users of the incumbent's image do, end to end.
//!
//! Everything here happens to the machine's own table, and each test leaves it empty. That something works is shown by
//! a foreign program on the machine or a foreign container, after the container that installed it is gone. What the
//! engine's containers are is tested here; the rules about mounts and anchors that they meet are `tests/host/anchor.rs`'s.

mod snippets;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::harness::machine::{IMAGE, Machine, OURS, build, make_image, root, run, userland};
use crate::harness::{MOUNT_POINT, Output, arch, old_emulators};
use goblin::elf::Elf;

/// The options by which a container gets at the table that the host has mounted.
const BOUND: &str = "-v /proc/sys/fs/binfmt_misc:/binfmt_misc";
/// A machine that mounts nothing, and no privilege but what it takes there.
const LEAST: &str = "--cap-drop ALL --cap-add SYS_ADMIN --security-opt apparmor=unconfined";
/// Debian's names of architectures that no machine on which these tests run has itself.
const PROGRAMS: [&str; 7] = ["arm64", "armhf", "armel", "riscv64", "s390x", "ppc64el", "mips64el"];

#[test]
fn version_is_one_line_that_the_labels_agree_with() {
    let Some(machine) = Machine::take() else { return };
    let label = |name: &str| {
        let format = format!("{{{{index .Config.Labels \"{name}\"}}}}");
        machine.docker_with("image inspect --format", &[&format, IMAGE]).ok().stdout.trim().to_owned()
    };
    let version = label("org.opencontainers.image.version");
    let qemu = label("org.qemu.version");
    let said = machine.binfmt("", "--version").ok();
    assert_eq!(said.stdout, "");
    assert_eq!(said.stderr, format!("binfmt/{version} qemu/v{qemu}\n"));
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    assert_ne!(label("org.opencontainers.image.revision"), "");
}

#[test]
fn every_program_of_the_image_is_static_and_comes_with_its_licence() {
    let Some(machine) = Machine::take() else { return };
    let files = machine.files(IMAGE);
    for program in fs::read_dir(files.join("usr/bin")).unwrap() {
        let path = program.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let elf = Elf::parse(&bytes).unwrap();
        assert_eq!(elf.interpreter, None, "{}", path.display());
        assert_eq!(elf.libraries, [""; 0], "{}", path.display());
    }
    let doc = |name: &str| fs::read_to_string(files.join("usr/share/doc").join(name)).unwrap();
    assert!(doc("qemu-user/copyright").contains("GNU General Public License"));
    assert!(doc("binfmt/LICENSE").contains("MIT License"));
    assert!(!files.join("tmp").exists());

    // what is linked in: each library with its licence and its exact source, each crate of the lock file's that counts
    let source = doc("qemu-user/SOURCE");
    for library in ["qemu", "glibc", "glib2.0", "zlib"] {
        let offered = format!("apt-get source {library}=");
        assert!(source.contains(&offered), "{source}");
    }
    assert!(doc("qemu-user/linked/glibc").contains("Lesser"));
    let crates = doc("binfmt/linked/crates");
    for name in ["clap", "fast-glob", "nix", "serde_json", "hashbrown"] {
        let text = format!("\n==== {name}-");
        let shared = format!(" {name}-");
        assert!(crates.contains(&format!("\n{name}-")), "{name} is missing");
        assert!(crates.contains(&text) || crates.contains(&shared), "{name} has no text");
    }
    for library in ["rust", "musl", "gcc"] {
        let text = doc(&format!("binfmt/linked/{library}"));
        assert!(text.contains("Copyright"), "{library}");
    }
    for text in ["GPL-2", "LGPL-2.1"] {
        let common = files.join("usr/share/common-licenses").join(text);
        assert!(common.exists(), "{text}");
    }
}

#[test]
fn all_is_installed_and_stays_and_goes() {
    let Some(machine) = Machine::take() else { return };
    let install = machine.privileged("--install all").ok();
    supports_all(&install);
    for program in PROGRAMS {
        machine.runs(program);
    }
    let again = machine.privileged("--install all").ok();
    assert_eq!(again.stdout, install.stdout);
    assert!(!again.stderr.contains("OK"), "{again}");

    machine.privileged("--status").ok();
    supports_all(&machine.privileged("").ok());
    supports_all(&machine.binfmt("", "").ok());

    machine.privileged("--uninstall qemu-*").ok();
    machine.is_clean();
    machine.privileged("--uninstall qemu-*").ok();
    machine.is_clean();
}

#[test]
fn a_list_is_installed_natives_and_all() {
    let Some(machine) = Machine::take() else { return };
    let install = machine.privileged("--install arm64,arm").ok();
    install.says("installing: arm64 OK").says("installing: arm OK");
    machine.runs("arm64");
    machine.runs("armhf");
    let natives = machine.privileged("--install linux/amd64,linux/arm64,386,amd64/v2");
    natives.ok().says("installing: amd64 native").says("installing: arm64 already installed");
    assert_eq!(machine.entries(), ["qemu-aarch64", "qemu-arm"]);
    machine.privileged("--uninstall arm64").ok();
    assert_eq!(machine.entries(), ["qemu-arm"]);
}

#[test]
fn an_unknown_architecture_fails_with_a_last_line_that_says_so() {
    let Some(machine) = Machine::take() else { return };
    machine.privileged("--install arm64,arm46").ends(1).ends_saying(&["arm46", "arm64"]);
    machine.runs("arm64");
}

#[test]
fn an_image_with_emulators_of_our_own_does_the_same_and_is_small() {
    let Some(machine) = Machine::take() else { return };
    let image = format!("{OURS}tuned");
    make_image(&["QEMU_FROM=source", "TARGETS=arm,s390x", &format!("IMAGE={image}")]);
    let call = |args: &str| machine.docker(&format!("run --rm --privileged {image} {args}"));
    call("--install arm,s390x").ok().says("installing: arm OK");
    for debian in ["armhf", "armel", "s390x"] {
        machine.runs(debian);
    }
    call("--status arm,s390x").ok();
    let status = call("--status --format json").ok();
    assert!(status.stdout.contains("tuned"), "{status}");
    assert!(!writes_for_its_user(&machine, "s390x"));
    call("--uninstall all").ok();
    machine.is_clean();

    let files = machine.files(&image);
    for name in ["qemu-arm", "qemu-s390x"] {
        let size = |path: &Path| fs::metadata(path).unwrap().len();
        let ours = size(&files.join("usr/bin").join(name));
        let debians = size(&root().join("build/emulators").join(name));
        assert!(ours * 100 < debians * 48, "{name}: {ours} of {debians} bytes");
    }
    let doc = files.join("usr/share/doc");
    assert!(doc.join("qemu-user/tuned/patches").is_dir());
    lists_all_that_is_linked_in(&doc);
}

#[test]
fn foreign_containers_run() {
    let Some(machine) = Machine::take() else { return };
    machine.privileged("--install arm64,s390x").ok();
    for (debian, uname) in [("arm64", "aarch64"), ("s390x", "s390x")] {
        let image = userland(debian);
        let ran = machine.docker(&format!("run --rm --platform linux/{debian} {image} uname -m"));
        assert_eq!(ran.ok().stdout.trim(), uname);
    }
}

#[test]
fn a_foreign_image_is_built() {
    let Some(machine) = Machine::take() else { return };
    machine.privileged("--install arm64").ok();
    let userland = userland("arm64");
    let options = format!("--platform linux/arm64 --no-cache --build-arg USERLAND={userland}");
    build(&format!("{OURS}built"), &options, &root().join("tests/engine/docker"));
}

/// With the file's credentials, the emulator has them too, and it does what its user's environment says.
#[test]
fn credentials_are_the_users_choice() {
    let Some(machine) = Machine::take() else { return };
    machine.privileged("--install arm64").ok();
    let image = userland("arm64");
    let user = format!("run --rm --platform linux/arm64 --user 65534 {image}");
    let sudo = format!("{user} sudo -n true");
    let written = format!("{user} env {WRITES} sudo -n true");
    let asks = machine.docker(&sudo);
    assert!(asks.stderr.contains("password is required"), "{asks}");
    let setuid = || machine.privileged("--status arm64 --format json").ok().json()["platforms"][0]["setuid"].as_bool();
    assert_eq!(setuid(), Some(true), "as it is seen");
    assert!(writes_for_its_user(&machine, "arm64"));

    machine.privileged("--install arm64 --credentials no").ok().says("installing: arm64 OK");
    let unprivileged = machine.docker(&sudo);
    assert!(unprivileged.stderr.contains("effective uid is not 0"), "{unprivileged}");
    assert_eq!(setuid(), Some(false), "as it is seen");
    let refused = machine.docker(&written);
    let log = "Error opening logfile /etc/of-root: Permission denied";
    assert!(refused.stderr.contains(log), "{refused}");
}

/// The setting by which a user has an emulator write a file that only root may.
const WRITES: &str = "QEMU_LOG=page QEMU_LOG_FILENAME=/etc/of-root";

/// Whether the emulator of a setuid program does as its user's environment says, with the program's privilege.
fn writes_for_its_user(machine: &Machine, debian: &str) -> bool {
    let image = userland(debian);
    let words = format!("run --rm --platform linux/{debian} --user 65534 {image} sh -c");
    let script = format!("env {WRITES} sudo -n true; test -e /etc/of-root");
    let ran = machine.docker_with(&words, &[&script]);
    assert!(ran.stderr.contains("password is required"), "{ran}");
    // a link to it that passes for an option, started by its name alone
    let script = "cd /tmp; ln -s /usr/bin/sudo ./-strace; PATH=: -strace /usr/bin/sudo -n true";
    let traced = machine.docker_with(&words, &[script]);
    assert!(!traced.stderr.is_empty(), "{traced}");
    let is_traced = traced.stderr.contains("brk(");
    assert_eq!(is_traced, ran.status == 0, "one as the other: {traced}");
    is_traced
}

/// The image that was built here for another machine, by its own tool under emulation.
#[test]
fn the_image_for_arm64_runs() {
    let Some(machine) = Machine::take() else { return };
    runs_on(&machine, "arm64");
}

/// The one host whose tool has glibc linked in: the library's licence and source are in the image, and name what is linked.
#[test]
fn the_image_for_s390x_runs_and_says_which_glibc_it_has() {
    let Some(machine) = Machine::take() else { return };
    let doc = machine.files(&runs_on(&machine, "s390x")).join("usr/share/doc");
    let said = fs::read_to_string(doc.join("binfmt/linked/glibc")).expect("the licence of glibc");
    let source = said.lines().find_map(|line| line.trim().strip_prefix("apt-get source glibc=")).expect("its source");
    assert!(said.contains("GNU LESSER GENERAL PUBLIC LICENSE"), "its text");
    lists_all_that_is_linked_in(&doc);
    let bill = fs::read_to_string(doc.join("binfmt/sbom.spdx.json")).expect("the bill");
    assert!(bill.contains(&format!("\"versionInfo\": \"{source}\"")), "{source} in {bill}");
    assert!(!bill.contains("/musl@"), "{bill}");
}

/// Builds the image for another machine, and has its tool say what it supports. Returns the image.
fn runs_on(machine: &Machine, arch: &str) -> String {
    let image = format!("{OURS}on-{arch}");
    make_image(&[&format!("PLATFORM=linux/{arch}"), &format!("IMAGE={image}")]);
    machine.privileged(&format!("--install {arch}")).ok();
    let run = |args: &str| machine.docker(&format!("run --rm --platform linux/{arch} {image} {args}"));
    run("--version").ok().says("binfmt/");
    assert_eq!(run("").ok().list("supported")[0], format!("linux/{arch}"));
    run("--list").ok();
    image
}

#[test]
fn handlers_outlive_the_container_until_another_one_uninstalls_them() {
    let Some(machine) = Machine::take_unheld() else { return };
    machine.privileged("--install all").ok();
    assert_eq!(machine.anchors(), 1);
    assert!(!machine.has_mount());
    machine.runs("arm64");
    machine.privileged("--uninstall arm64").ok();
    machine.runs("s390x");
    assert_eq!(machine.anchors(), 1);
    machine.privileged("--uninstall all").ok();
    machine.is_clean();
}

#[test]
fn the_least_privilege_is_enough() {
    let Some(machine) = Machine::take_unheld() else { return };
    let frugal = format!("{LEAST} --read-only --network none");
    for options in [LEAST, &frugal] {
        machine.binfmt(options, "--install arm64").ok();
        assert_eq!(machine.anchors(), 1, "{options}");
        machine.runs("arm64");
        machine.binfmt(options, "--status arm64").ok();
        machine.binfmt(options, "--uninstall all").ok();
        machine.is_clean();
    }
}

#[test]
fn without_the_privilege_to_mount_the_last_line_says_so() {
    let Some(machine) = Machine::take() else { return };
    for options in ["", "--cap-drop ALL", "--privileged --user 1000", "--pid=host", "--env RUST_BACKTRACE=1"] {
        machine.binfmt(options, "--install arm64").ends(1).ends_saying(&["permission denied", "--privileged"]);
        machine.is_clean();
        // what runs can be found out all the same
        let status = machine.binfmt(options, "").ok();
        assert_eq!(status.list("emulators"), [""; 0], "{options}");
    }
}

#[test]
fn without_an_anchor_the_last_line_says_what_is_lost() {
    let Some(machine) = Machine::take_unheld() else { return };
    for (options, args) in [("--privileged", "--anchor never"), ("--privileged --tmpfs /sys/kernel", "")] {
        let install = machine.binfmt(options, &format!("--install arm64 {args}"));
        install.ends(1).says("installing: arm64 OK").ends_saying(&["end with this container", "--pid=host"]);
        machine.stops_running("arm64");
        machine.is_clean();
    }
}

/// On the host, by a mount there. Where PID 1 is out of root's reach, as in some sandboxes, by the anchor: so this does
/// not prove the mount, see `docs/container.md`.
#[test]
fn with_the_hosts_processes_handlers_outlive_the_container_by_a_mount_or_an_anchor() {
    let Some(machine) = Machine::take() else { return };
    let options = "--privileged --pid=host";
    machine.binfmt(options, "--install arm64").ok();
    machine.runs("arm64");
    let mounts = usize::from(machine.has_mount());
    assert_eq!(mounts + machine.anchors(), 1, "one of them, not both");
    machine.binfmt(options, "--uninstall all").ok();
    machine.is_clean();
}

/// The kernel asks for no privilege beyond writing to the file `register`, which root owns.
#[test]
fn where_the_host_has_it_mounted_a_bind_mount_is_enough() {
    let Some(machine) = Machine::take() else { return };
    let mount = format!("mount -t binfmt_misc binfmt_misc {MOUNT_POINT}");
    machine.host.sh(&mount).ok();
    // a mount that was there long before the container is the host's
    thread::sleep(Duration::from_secs(4));
    for privilege in ["", "--privileged", "--cap-drop ALL --read-only"] {
        let options = format!("{BOUND} {privilege}");
        machine.binfmt(&options, "--mount /binfmt_misc --install arm64").ok().says("installing: arm64 OK");
        machine.runs("arm64");
        let status = machine.binfmt(&options, "--mount /binfmt_misc --status arm64");
        assert!(status.ok().stdout.contains("qemu-aarch64"));
        machine.binfmt(&options, "--mount /binfmt_misc --uninstall all").ok();
        assert_eq!(machine.entries(), [""; 0], "{options}");
        assert_eq!(machine.anchors(), 0, "{options}");
        assert!(machine.has_mount(), "the host's mount is the host's");
    }
}

#[test]
fn setup_qemu_action_gets_what_it_expects() {
    let Some(machine) = Machine::take() else { return };
    supports_all(&action(&machine, IMAGE, "all").ok());
    machine.privileged("--install arm64,linux/nonsense").ends(1).ends_saying(&["nonsense"]);
}

/// docker/setup-qemu-action, with `reset` and `cache-image`: its calls in their order, and the last one's output, which
/// it reads. Its rule for errors: a status other than 0 fails the workflow if there is anything on stderr, with the last
/// line of that.
fn action(machine: &Machine, image: &str, platforms: &str) -> Output {
    let archive = machine.host.scratch().join("image.tar");
    let archive = archive.display();
    for words in [
        "version",
        "info",
        &format!("save -o {archive} {image}"),
        &format!("load -i {archive}"),
        &format!("image inspect {image}"),
        &format!("run --rm --privileged {image} --version"),
        &format!("run --rm --privileged {image} --uninstall qemu-*"),
        &format!("run --rm --privileged {image} --install {platforms}"),
    ] {
        machine.docker(words).ok();
    }
    machine.docker(&format!("run --rm --privileged {image}"))
}

/// The init container of buildx's kubernetes driver: `--install all`, privileged; it must end with 0 every time the pod
/// is started.
#[test]
fn an_init_container_may_run_again() {
    let Some(machine) = Machine::take() else { return };
    for _ in 0..2 {
        machine.privileged("--install all").ok();
        machine.runs("arm64");
    }
}

/// multiarch/qemu-user-static's one command. What was there of QEMU's goes, what is not QEMU's stays.
#[test]
fn reset_in_multiarchs_words_starts_over() {
    let Some(machine) = Machine::take() else { return };
    machine.host.sh(&format!("mount -t binfmt_misc binfmt_misc {MOUNT_POINT}")).ok();
    machine.host.register("qemu-aarch64-static", "aarch64", &old_emulators().join("qemu-aarch64"), "F");
    machine.host.register_other("other", b"#!other");
    machine.privileged("--reset -p yes").ok();
    let entries = machine.entries();
    assert!(entries.contains(&"other".to_owned()), "{entries:?}");
    assert!(entries.contains(&"qemu-s390x".to_owned()), "{entries:?}");
    assert!(!entries.contains(&"qemu-aarch64-static".to_owned()));
    machine.runs("arm64");
    machine.runs("s390x");
}

#[test]
fn a_read_only_container_does_it_all() {
    let Some(machine) = Machine::take() else { return };
    let options = "--privileged --read-only --network none";
    let install = machine.binfmt(options, "--install all").ok();
    supports_all(&install);
    machine.runs("arm64");
    machine.binfmt(options, "--status").ok();
    machine.binfmt(options, "--uninstall all").ok();
    machine.is_clean();
}

/// The bill of materials is valid, and names each source that the image offers for its emulators, with its version.
#[track_caller]
pub(crate) fn lists_all_that_is_linked_in(doc: &Path) {
    let bill = doc.join("binfmt/sbom.spdx.json");
    run(Command::new(root().join("qemu/image/check-sbom.sh")).arg(&bill));
    let text = fs::read(bill).expect("the bill");
    let bill: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let packages = bill["packages"].as_array().expect("packages");
    let sums = fs::read_to_string(doc.join("qemu-user/SHA256SUMS")).expect("the sums");
    let sources = sums.lines().filter_map(|line| line.strip_prefix("# source: "));
    let sources: Vec<_> = sources.filter_map(|source| source.split_once('=')).collect();
    for name in ["qemu", "glibc", "glib2.0"] {
        assert!(sources.iter().any(|(source, _)| *source == name), "{sums}");
    }
    for (name, version) in sources {
        let named = |package: &serde_json::Value| package["name"] == name && package["versionInfo"] == version;
        assert!(packages.iter().any(named), "no {name} {version} in {bill}");
    }
}

/// What every call's JSON says when all that the image has emulators for is installed.
#[track_caller]
fn supports_all(output: &Output) {
    let dockerfile = include_str!("../../Dockerfile");
    let mut lines = dockerfile.lines();
    let targets = lines.find_map(|line| line.strip_prefix("ARG TARGETS="));
    let supported = output.list("supported");
    for target in targets.expect("TARGETS in the Dockerfile").split(',') {
        let platform = Path::new("linux").join(arch(target).oci);
        let variants = supported.iter().map(Path::new);
        let found = variants.into_iter().any(|one| one.starts_with(&platform));
        assert!(found, "no {} in {output}", platform.display());
    }
}

//! The Debian package, from its installation to its purge, in a clean Debian and on a host with a real systemd; its man
//! page and completions, in the shells that they are for; and the release archives.
//!
//! What the units do is `tests/engine/systemd.rs`'s; here it is what a package does to them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::harness::booted::Booted;
use crate::harness::machine::{Machine, OURS, build, built, debian, root, run};
use crate::harness::{Output, emulators, program};

/// This machine, in Docker's words.
const ARCH: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// Two versions of the package, and the archives, each made twice.
struct Made {
    folder: PathBuf,
    archives: [PathBuf; 2],
}

impl Made {
    const FIRST: &str = "first.deb";
    const SECOND: &str = "second.deb";
    const SECOND_AGAIN: &str = "again.deb";

    fn get() -> &'static Self {
        static MADE: OnceLock<Made> = OnceLock::new();
        MADE.get_or_init(Self::make)
    }

    fn make() -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a file that was made");
        let make = |words: &[&str]| {
            let mut make = Command::new("make");
            run(make.arg("-C").arg(root()).args(words))
        };
        let second = format!("{}+more", env!("CARGO_PKG_VERSION"));
        for (name, version) in
            [(Self::FIRST, env!("CARGO_PKG_VERSION")), (Self::SECOND, &second), (Self::SECOND_AGAIN, &second)]
        {
            let said = make(&["deb", &format!("DEB_VERSION={version}")]);
            let file = said.lines().find(|line| line.starts_with("build/package/binfmt_"));
            let file = root().join(file.expect("the path of a package"));
            fs::copy(file, folder.join(name)).expect("a file that was made");
        }
        let archives = ["one", "two"].map(|name| {
            make(&["dist"]);
            let copy = folder.join(name);
            run(Command::new("cp").arg("-r").args([&built("dist"), &copy]));
            copy
        });
        Self { folder, archives }
    }

    /// Where a container has them.
    fn volume(&self) -> String {
        format!("--volume {}:/packages:ro", self.folder.display())
    }
}

/// A host that was booted, with two emulators where Debian's package has them.
fn booted<'a>(machine: &'a Machine, made: &Made) -> Booted<'a> {
    let emulator = |qemu: &str| {
        let file = emulators().join(qemu).canonicalize().expect("a file that was made");
        format!("--volume {}:/usr/bin/{qemu}:ro", file.display())
    };
    let foreign = program("arm64").canonicalize().expect("a file that was made");
    let options = [
        made.volume(),
        emulator("qemu-aarch64"),
        emulator("qemu-s390x"),
        format!("--volume {}:/busybox:ro", foreign.display()),
    ];
    Booted::with(machine, &options.join(" "))
}

/// All that is not a folder, apart from what the package manager and systemd note down for themselves.
const FILES: &str = "find / -xdev \\( -path /run -o -path /tmp -o -path /packages -o -path /var/log -o -path /var/cache \
    -o -path '/var/lib/dpkg' -o -path '/var/lib/apt' -o -path /var/lib/systemd \\) -prune -o -not -type d -print | sort";

/// When each handler was registered.
const AGES: &str = "stat -c '%n %y' /proc/sys/fs/binfmt_misc/qemu-*";

#[test]
fn on_a_host_with_systemd_nothing_starts_unasked_and_nothing_is_lost() {
    let Some(machine) = Machine::take_unheld() else { return };
    let host = booted(&machine, Made::get());
    let files = host.sh(FILES).ok().stdout;

    // it takes nothing upon itself
    host.sh("dpkg --install /packages/first.deb").ok();
    assert_eq!(machine.entries(), [""; 0]);
    for unit in ["binfmt.service", "binfmt-health.timer", "binfmt-metrics.timer"] {
        host.systemctl(&format!("is-enabled {unit}")).ends(1);
        assert_eq!(host.state(unit), "inactive", "{unit}");
    }
    host.systemctl("enable --now binfmt.service binfmt-health.timer").ok();
    host.sh("mkdir -p /etc/systemd/system/binfmt.service.d; printf '[Service]\\nNice=1\\n' >/etc/systemd/system/binfmt.service.d/mine.conf")
        .ok();
    host.systemctl("daemon-reload").ok();
    machine.runs("arm64");
    let ages = host.sh(AGES).ok().stdout;

    // an upgrade, while programs run all the time
    let under_load = "touch /tmp/upgrading
        (while [ -e /tmp/upgrading ]; do /busybox echo ran || echo lost; done >/tmp/runs 2>&1) &
        until [ -s /tmp/runs ]; do sleep .01; done
        dpkg --install /packages/second.deb
        rm /tmp/upgrading; wait
        sort /tmp/runs | uniq";
    let upgrade = host.sh(under_load).ok();
    assert!(upgrade.stdout.ends_with("\nran\n"), "{upgrade}");
    assert!(!upgrade.stdout.contains("lost"), "{upgrade}");
    assert_eq!(host.sh(AGES).ok().stdout, ages);
    let show = |property: &str| {
        host.systemctl(&format!("show --property {property} --value binfmt.service")).ok().stdout.trim().to_owned()
    };
    let after = ["ActiveState", "UnitFileState", "Nice", "NeedDaemonReload"].map(show);
    assert_eq!(after, ["active", "enabled", "1", "no"]);
    assert_eq!(host.state("binfmt-health.timer"), "active");
    host.sh("dpkg --verify binfmt").ok().prints_no("usr/bin");

    // removed, the service ends as it does when it is stopped; come back, it is as enabled as it was
    host.sh("dpkg --remove binfmt").ok();
    assert_eq!(machine.entries(), [""; 0]);
    machine.stops_running("arm64");
    host.sh("dpkg --install /packages/second.deb").ok();
    assert_eq!(machine.entries(), [""; 0]);
    host.systemctl("start binfmt.service").ok();
    machine.runs("arm64");
    let after = ["ActiveState", "UnitFileState", "Nice"].map(show);
    assert_eq!(after, ["active", "enabled", "1"]);

    host.sh("dpkg --purge binfmt; rm -r /etc/systemd/system/binfmt.service.d").ok();
    assert_eq!(host.sh(FILES).ok().stdout, files);
}

#[test]
fn handlers_that_no_service_has_installed_outlive_the_package() {
    let Some(machine) = Machine::take_unheld() else { return };
    let host = booted(&machine, Made::get());
    host.sh("dpkg --install /packages/first.deb").ok();
    host.sh("binfmt --install arm64").ok();
    let ages = host.sh(AGES).ok().stdout;
    host.sh("dpkg --install /packages/second.deb").ok();
    host.sh("dpkg --purge binfmt").ok();
    assert_eq!(host.sh(AGES).ok().stdout, ages);
    machine.runs("arm64");
    host.loses("qemu-aarch64");
}

/// Runs a script in a container that ends with it.
fn in_container(machine: &Machine, image: &str, script: &str) -> Output {
    let run = format!("run --rm {} --network none {image} sh -e -c", Made::get().volume());
    machine.docker_with(&run, &[script])
}

#[test]
fn in_a_clean_debian_it_comes_and_goes_without_a_trace() {
    let Some(machine) = Machine::take() else { return };
    let script = format!(
        "{FILES} >/tmp/before
         apt-get -qq install --no-install-recommends /packages/first.deb
         binfmt >/dev/null; binfmt --version
         apt-get -qq install --no-install-recommends /packages/second.deb
         dpkg --verify binfmt; dpkg-query --show binfmt
         apt-get -qq purge binfmt </dev/null
         {FILES} | diff /tmp/before -"
    );
    let output = in_container(&machine, &debian(), &script).ok();
    let version = env!("CARGO_PKG_VERSION");
    output.says(&format!("binfmt/{version} ")).prints(&format!("binfmt\t{version}+more\n"));
}

/// An image with lintian, man and the shells.
fn with_tools() -> String {
    let image = format!("{OURS}package");
    build(&image, "", &root().join("tests/engine/package"));
    image
}

#[test]
fn lintian_has_nothing_to_say() {
    let Some(machine) = Machine::take() else { return };
    let lintian = "lintian --allow-root --display-info --fail-on error,warning,info /packages/second.deb";
    let output = in_container(&machine, &with_tools(), lintian).ok();
    assert_eq!(output.stdout, "", "{output}");
}

#[test]
fn the_shells_complete_and_man_shows() {
    let Some(machine) = Machine::take() else { return };
    // images leave documentation out
    let installed = |script: &str| {
        let script = format!("rm -f /etc/dpkg/dpkg.cfg.d/*; dpkg --install /packages/second.deb >/dev/null\n{script}");
        in_container(&machine, &with_tools(), &script).ok()
    };
    let page = installed("LC_ALL=C.UTF-8 man --warnings --pager=cat binfmt");
    assert_eq!(page.stderr, "");
    for words in ["SYNOPSIS", "--format", "QEMU_BINARY_PATH", "EXIT STATUS"] {
        assert!(page.stdout.contains(words), "no {words:?} in {page}");
    }
    let bash = r#"bash -c '. /usr/share/bash-completion/completions/binfmt
        complete -p binfmt
        for words in "--stat" "--format prom"; do
          COMP_WORDS=(binfmt $words) COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
          _binfmt binfmt "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
          echo "${COMPREPLY[@]}"
        done'"#;
    let bash = installed(bash).stdout;
    assert!(bash.ends_with("\n--status\nprometheus\n"), "{bash}");
    let fish = installed(
        r#"fish -c 'complete -C "binfmt --stat"; complete -C "binfmt --format prom"; complete -C "binfmt --install arm64,s390"'"#,
    );
    fish.prints("--status\t").prints("prometheus\t").prints("arm64,s390x\t");
    let zsh = "zsh -fc 'autoload -Uz compinit; compinit -u; print $_comps[binfmt]; autoload +X _binfmt; print ok'";
    assert_eq!(installed(zsh).stdout, "_binfmt\nok\n");
}

#[test]
fn two_builds_are_the_same_and_the_sums_are_right() {
    let Some(machine) = Machine::take() else { return };
    let made = Made::get();
    let read = |name: &str| fs::read(made.folder.join(name)).unwrap();
    assert!(read(Made::SECOND) == read(Made::SECOND_AGAIN));
    assert!(read(Made::FIRST) != read(Made::SECOND));
    let version = env!("CARGO_PKG_VERSION");
    let program = format!("binfmt-{version}-linux-{ARCH}");
    let sources = format!("binfmt-{version}");
    let [one, two] = &made.archives;
    for name in ["SHA256SUMS".to_owned(), format!("{program}.tar.gz"), format!("{sources}.tar.gz")] {
        assert!(fs::read(one.join(&name)).unwrap() == fs::read(two.join(&name)).unwrap(), "{name}");
    }
    let folder = one.display();
    let checked = machine.host.sh(&format!("cd {folder}; sha256sum --check --strict SHA256SUMS"));
    assert_eq!(checked.ok().stdout.matches(": OK\n").count(), 2);

    let unpack = format!("cd {folder}; for file in *.tar.gz; do tar -xf $file; done; {program}/binfmt --version");
    machine.host.sh(&unpack).ok().says(&format!("binfmt/{version} "));
    for file in
        ["LICENSE", "binfmt.1", "completions/_binfmt", "systemd/binfmt.service", "licences/crates", "docs/boot.md"]
    {
        assert!(one.join(&program).join(file).exists(), "{file}");
    }
    for file in ["Cargo.lock", "src/main.rs", "deploy/package/build.sh"] {
        assert!(one.join(&sources).join(file).exists(), "{file}");
    }
}

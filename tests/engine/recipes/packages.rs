//! Packages of other distributions, made by their own tools as far as Debian has these: the files of `deploy/`, of the sources as
//! they are now, compiled by a Rust as old as Cargo.toml permits, without a network.
//!
//! The compiler optimizes nothing here: what is tested is that it compiles, and which files there are. The table is not needed, so
//! these tests take no turn at the machine; their image has no name, by which another test's turn would remove it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::Host;
use crate::harness::machine::{debian, root, run};
use crate::harness::turn::cannot_run;

/// Crates come from a folder; what is compiled of them is shared by the packages. The user's comes first: root may write to it.
const CARGO: &str = "export CARGO_HOME=/in/cargo CARGO_NET_OFFLINE=true CARGO_TARGET_DIR=/in/target \
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16\n";
/// Macros that Fedora has, and Debian's rpm does not.
const MACROS: &str = "--define '_topdir /tmp/rpm' --define '_unitdir /usr/lib/systemd/system' \
    --define 'systemd_post() %{nil}' --define 'systemd_preun() %{nil}' --define 'systemd_postun() %{nil}'";

/// A folder with the sources as a release has them, the crates, and the files that make packages.
fn prepare(folder: &Path) {
    fs::create_dir_all(folder.join("cargo")).expect("a folder");
    let sources = format!("binfmt-{0}.tar.gz --transform 's|^|binfmt-{0}/|'", env!("CARGO_PKG_VERSION"));
    let script = format!(
        "git ls-files -z --cached --others --exclude-standard |
           tar --null --files-from - --create --gzip --file '{0}'/{sources}
         cp deploy/arch/PKGBUILD deploy/alpine/* deploy/fedora/* '{0}'
         cargo vendor --locked --quiet '{0}/vendor'
         printf '[source.crates-io]\\nreplace-with = \"here\"\\n[source.here]\\ndirectory = \"/in/vendor\"\\n' >'{0}/cargo/config.toml'
         chmod -R a+rwX '{0}'",
        folder.display()
    );
    run(Command::new("sh").current_dir(root()).args(["-e", "-c", &script]));
}

/// Makes packages in a Debian, and prints the list of each one's files.
struct Maker {
    image: String,
    host: Host,
}

impl Maker {
    /// `None`, with the reason on stderr: there is no engine.
    fn take() -> Option<Self> {
        if !Command::new("docker").arg("version").output().is_ok_and(|output| output.status.success()) {
            cannot_run("it needs a Docker engine, and none answers");
            return None;
        }
        let folder = root().join("tests/engine/recipes");
        let mut build = Command::new("docker");
        build.args(["build", "--quiet", "--build-arg", &format!("BASE={}", debian()), "--file"]);
        let image = run(build.arg(folder.join("packages.Dockerfile")).arg(&folder)).trim().to_owned();
        let host = Host::with(&[], "");
        prepare(&host.scratch().join("in"));
        Some(Self { image, host })
    }

    /// Runs a script as the user whom its tool asks for.
    fn make(&self, user: &str, script: &str) -> String {
        let mut docker = Command::new("docker");
        docker.args(["run", "--rm", "--network", "none", "--user", user, "--env", "HOME=/tmp"]);
        docker.args(["--volume", &format!("{}/in:/in", self.host.scratch().display()), &self.image]);
        // stdout is the list alone
        run(docker.args(["bash", "-ec", &format!("{CARGO}exec 3>&1 >&2\n{script}")]))
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        // the last of the tests can; the layers stay cached
        let _ = Command::new("docker").args(["rmi", "--no-prune", &self.image]).output();
    }
}

/// The package has the program, its page, what completes it, and these.
#[track_caller]
fn has(list: &str, further: &[&str]) {
    let usual = [
        "usr/bin/binfmt",
        "usr/share/man/man1/binfmt.1",
        "usr/share/bash-completion/completions/binfmt",
        "usr/share/zsh/site-functions/_binfmt",
        "usr/share/fish/vendor_completions.d/binfmt.fish",
    ];
    for file in usual.iter().chain(further) {
        assert!(list.lines().any(|line| line.trim_start_matches(['.', '/']).starts_with(file)), "no {file} in {list}");
    }
}

#[test]
fn other_distributions_tools_make_packages() {
    let Some(maker) = Maker::take() else { return };
    let version = env!("CARGO_PKG_VERSION");
    let units = ["usr/lib/systemd/system/binfmt.service", "usr/lib/systemd/system/binfmt-health.timer"];

    // it fetches from the release's page, where nothing is yet
    let arch = "mkdir /tmp/arch; cd /tmp/arch; cp /in/PKGBUILD /in/*.tar.gz .
         sed -i 's|^source=.*|source=(binfmt-$pkgver.tar.gz)|' PKGBUILD
         makepkg --nodeps --nocolor; bsdtar -tf *.pkg.tar* >&3";
    has(&maker.make("user", arch), &units);

    let fedora = format!(
        "mkdir -p /tmp/rpm/SOURCES; cp /in/*.tar.gz /tmp/rpm/SOURCES
         rpmbuild --quiet --nodeps {MACROS} -bb /in/binfmt.spec
         rpm -qlp /tmp/rpm/RPMS/*/*.rpm >&3; rpm -qp --recommends /tmp/rpm/RPMS/*/*.rpm >&3
         rpm2cpio /tmp/rpm/RPMS/*/*.rpm | bsdtar -xf - -C /tmp; /tmp/usr/bin/binfmt --version 2>&3"
    );
    let made = maker.make("0", &fedora);
    has(&made, &units);
    has(&made, &["qemu-user-static", &format!("binfmt/{version}")]);

    // no abuild: its steps, by the shell that abuild runs them with
    let alpine = "mkdir /tmp/alpine; cd /tmp/alpine; tar -xzf /in/*.tar.gz; cp /in/binfmt.initd .
         busybox ash -ec '. /in/APKBUILD; srcdir=/tmp/alpine pkgdir=/tmp/alpine/pkg; default_prepare() { :; }
           cd binfmt-$pkgver; prepare; build; package'
         (cd pkg; find . -type f) >&3; pkg/usr/bin/binfmt --version 2>&3; busybox ash -n pkg/etc/init.d/binfmt-install";
    let made = maker.make("0", alpine);
    has(&made, &["etc/init.d/binfmt-install", &format!("binfmt/{version}")]);
    assert!(!made.contains("systemd"), "{made}");
}

#[test]
fn the_flake_says_what_the_module_starts() {
    let Some(maker) = Maker::take() else { return };
    let evaluate = format!(
        "mkdir /tmp/nix; tar -xzf /in/*.tar.gz -C /tmp/nix
         nix-instantiate --eval --strict --json /tmp/nix/binfmt-{}/tests/engine/recipes/flake.nix >&3",
        env!("CARGO_PKG_VERSION")
    );
    let said: serde_json::Value = serde_json::from_str(&maker.make("0", &evaluate)).expect("JSON");
    assert_eq!(said["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(said["install"], "/store/binfmt/bin/binfmt --install arm64,s390x");
    assert_eq!(said["emulators"], "/store/qemu-user/bin");
}

//! What keeps a host from registering at boot what `--persist` wrote, each with the command that helps.

use std::fs;
use std::path::Path;

use super::{persist, root, shown};
use crate::harness::{Host, emulators};

/// As a shell in the root directory makes it; what is said; and what helps.
const OBSTACLES: [(&str, &[&str], &str); 13] = [
    (
        "ln -s /dev/null etc/systemd/system/systemd-binfmt.service",
        &["is masked by", "etc/systemd/system/systemd-binfmt.service", "systemctl unmask systemd-binfmt.service"],
        "systemctl --root=. unmask systemd-binfmt.service",
    ),
    (
        ": >usr/local/lib/systemd/system/systemd-binfmt.service",
        &["is masked by", "usr/local/lib/systemd/system/systemd-binfmt.service", "remove that file"],
        "rm usr/local/lib/systemd/system/systemd-binfmt.service",
    ),
    (
        "mv usr/lib/systemd/system/systemd-binfmt.service kept",
        &["there is no systemd-binfmt.service"],
        "mv kept usr/lib/systemd/system/systemd-binfmt.service",
    ),
    (
        "cd usr/lib/systemd/system; mv systemd-binfmt.service kept; mkfifo systemd-binfmt.service",
        &["there is no systemd-binfmt.service"],
        "cd usr/lib/systemd/system; rm systemd-binfmt.service; mv kept systemd-binfmt.service",
    ),
    (
        "cd usr/lib/systemd; mv systemd-binfmt kept; mkdir systemd-binfmt",
        &["reads /etc/binfmt.d at boot, neither systemd-binfmt nor OpenRC's binfmt"],
        "cd usr/lib/systemd; rmdir systemd-binfmt; mv kept systemd-binfmt",
    ),
    (
        "cd usr/lib/systemd/system/sysinit.target.wants; mv systemd-binfmt.service kept; mkfifo systemd-binfmt.service",
        &["no target wants systemd-binfmt.service"],
        "cd usr/lib/systemd/system/sysinit.target.wants; mv kept systemd-binfmt.service",
    ),
    (
        "rm usr/lib/systemd/system/sysinit.target.wants/systemd-binfmt.service",
        &["no target wants systemd-binfmt.service", "systemctl add-wants sysinit.target systemd-binfmt.service"],
        "systemctl --root=. add-wants sysinit.target systemd-binfmt.service",
    ),
    (
        "mkdir etc/systemd/system/sysinit.target.wants; ln -s /dev/null etc/systemd/system/sysinit.target.wants/systemd-binfmt.service",
        &["no target wants systemd-binfmt.service"],
        "rm -r etc/systemd/system/sysinit.target.wants",
    ),
    (
        "d=usr/lib/systemd/system/systemd-binfmt.service.d; mkdir $d; printf '[Unit]\\nConditionVirtualization=!wsl\\n' >$d/wsl.conf",
        &["ConditionVirtualization=!wsl", "systemd-binfmt.service.d/wsl.conf", "may not hold there", "ln -s /dev/null"],
        "d=etc/systemd/system/systemd-binfmt.service.d; mkdir $d; ln -s /dev/null $d/wsl.conf",
    ),
    (
        "d=etc/systemd/system/service.d; mkdir $d; printf '[Unit]\\nConditionPathExists = /nowhere\\n' >$d/all.conf",
        &["ConditionPathExists=/nowhere", "service.d/all.conf", "does not hold there", "remove that file"],
        "rm etc/systemd/system/service.d/all.conf",
    ),
    (
        "d=etc/systemd/system/systemd-binfmt.service.d; mkdir $d; printf '[Service]\\nExecStart=\\nExecStart=/bin/true\\n' >$d/exec.conf",
        &["does not read the rules", "systemd-binfmt.service.d/exec.conf starts something else", "remove that file"],
        "rm -r etc/systemd/system/systemd-binfmt.service.d",
    ),
    (
        "mkdir -p usr/lib/binfmt.d; sed 's/^:[^:]*/:other/; s|/var/lib/binfmt|/usr/bin|' etc/binfmt.d/qemu-aarch64.conf >usr/lib/binfmt.d/z.conf",
        &["usr/lib/binfmt.d/z.conf is read later", "linux/arm64", "ln -s /dev/null"],
        "ln -s /dev/null etc/binfmt.d/z.conf",
    ),
    (
        "printf ':qemu-aarch64:M::none::/bin/true:\\n' >etc/binfmt.d/z.conf",
        &["etc/binfmt.d/z.conf is read later, and replaces the entry qemu-aarch64", "remove it"],
        "rm etc/binfmt.d/z.conf",
    ),
];

#[test]
fn what_keeps_the_next_boot_from_registering_is_named_and_helped() {
    let host = Host::new();
    let root = root(&host);
    let inside = |script: &str| host.sh(&format!("cd '{}'; {script}", root.display())).ok();
    inside("mkdir -p usr/local/lib/systemd/system");
    persist(&host, &root, "arm64").ok();
    let save = host.scratch().join("save");
    host.sh(&format!("cp -a '{}' '{}'", root.display(), save.display())).ok();
    for (obstacle, said, remedy) in OBSTACLES {
        inside(obstacle);
        persist(&host, &root, "arm64").ends(1).ends_saying(&[said, &["binfmt: "]].concat());
        inside(remedy);
        let helped = persist(&host, &root, "arm64");
        assert_eq!(helped.status, 0, "{obstacle}: {helped}");
        host.sh(&format!("rm -r '{0}'; cp -a '{1}' '{0}'", root.display(), save.display())).ok();
    }
}

/// Whose first process is systemd tells which conditions hold; what only may overrule does not.
#[test]
fn what_does_not_keep_the_next_boot_from_registering_is_not_told() {
    let host = Host::new();
    let root = root(&host);
    let inside = |script: &str| host.sh(&format!("cd '{}'; {script}", root.display())).ok();
    inside(
        "mkdir -p run/systemd/system usr/lib/systemd/system/systemd-binfmt.service.d usr/lib/binfmt.d
         mkfifo etc/systemd/system/systemd-binfmt.service
         cd usr/lib/systemd/system/systemd-binfmt.service.d
         printf '[Unit]\\nConditionVirtualization=!wsl\\nConditionPathExists=!/nowhere\\nConditionPathExists=|/nowhere\\n' >fine.conf
         : >../../../binfmt.d/qemu-aarch64.conf
         printf '# comment\\n:early:M::\\\\x7fELF::/bin/true:\\n' >../../../binfmt.d/a.conf
         printf ':later:M::#!later::/bin/true:\\n' >../../../binfmt.d/z.conf",
    );
    host.binfmt(&["--dry-run", "--install", "arm64", "--persist", shown(&root)]).ok();
    persist(&host, &root, "arm64").ok();
}

#[test]
fn a_service_of_openrc_has_to_be_in_a_runlevel() {
    let host = Host::new();
    let root = root(&host);
    fs::remove_dir_all(root.join("usr")).unwrap();
    host.sh(&format!("cd '{}'; mkdir -p etc/init.d etc/runlevels/boot; : >etc/init.d/binfmt", shown(&root))).ok();
    persist(&host, &root, "arm64").ends_saying(&["no runlevel", "rc-update add binfmt boot"]);
    host.sh(&format!("ln -s /etc/init.d/binfmt '{}'", root.join(Path::new("etc/runlevels/boot/binfmt")).display()))
        .ok();
    persist(&host, &root, "arm64").ok();
}

/// Even where `/proc` is mounted there: a link of it leads to whatever this process has open, or has as root directory.
#[test]
fn links_of_proc_lead_nowhere() {
    let host = Host::new();
    let root = root(&host);
    let outside = host.folder("outside", &[]);
    fs::create_dir(root.join("proc")).unwrap();
    host.sh(&format!("mount --rbind /proc '{}/proc'", shown(&root))).ok();
    for link in ["etc/binfmt.d", "var"] {
        for to in [format!("/proc/self/root{}", outside.display()), format!("/proc/self/cwd{}", outside.display())] {
            host.sh(&format!("cd '{}'; rm -rf {link}; ln -s {to} {link}", shown(&root))).ok();
            persist(&host, &root, "arm64").ends(1).says("is not persisted");
            assert!(fs::read_dir(&outside).unwrap().next().is_none(), "{link} {to}");
            host.sh(&format!("rm '{}/{link}'", shown(&root))).ok();
        }
    }
    host.sh(&format!("umount -l '{}/proc'", shown(&root))).ok();
}

/// `systemd-binfmt` reads no file whose name begins with a dot.
#[test]
fn a_prefix_that_makes_rules_hidden_files_is_refused() {
    let host = Host::new();
    let root = root(&host);
    let folder = host.folder("hidden", &[]);
    host.sh(&format!("cp '{}' '{}/.qemu-aarch64'", emulators().join("qemu-aarch64").display(), folder.display())).ok();
    let install = ["--install", "arm64", "--persist", shown(&root)];
    for args in [&[&["--dry-run"], &install[..]].concat()[..], &install] {
        let output = host.call(args).emulators(&folder).env("QEMU_BINARY_PREFIX", ".").run().ends(1);
        output.ends_saying(&["QEMU_BINARY_PREFIX begins with a dot", "set another"]);
    }
    assert!(!root.join("var").exists());
}

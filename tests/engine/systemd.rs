//! What is at work at boot, under a real systemd: the units of `make install`, the files of `--export`
//! and the automount of `binfmt_misc`, and what becomes of handlers that a container of such a host installed.
//!
//! The table of `docs/boot.md` about what is left is shown here, and the tests are named beside it. The host is a container
//! ([`booted`]); that a reboot of a machine empties the table, which is in the kernel's memory, it cannot show.

use crate::harness::booted::{Booted, Stage};
use crate::harness::machine::Machine;

const UNITS: &str = "binfmt.service binfmt-hold.service binfmt-health.service binfmt-health.timer binfmt-repair.service \
    binfmt-metrics.service binfmt-metrics.timer";
const BOTH: [&str; 2] = ["qemu-aarch64", "qemu-s390x"];

#[test]
fn uninstalling_leaves_no_file_of_what_was_installed() {
    let Some(machine) = Machine::take() else { return };
    let stage = Stage::new(&machine);
    let units = UNITS.split(' ').map(|unit| format!("lib/systemd/system/{unit}"));
    let emulators = ["qemu-aarch64", "qemu-i386", "qemu-s390x", "copyright"];
    let emulators = emulators.map(|file| format!("lib/binfmt/{file}"));
    let others = [
        "bin/binfmt",
        "share/bash-completion/completions/binfmt",
        "share/fish/vendor_completions.d/binfmt.fish",
        "share/man/man1/binfmt.1",
        "share/zsh/site-functions/_binfmt",
    ];
    let files = units.chain(emulators).chain(others.map(str::to_owned));
    let mut files: Vec<String> = files.map(|file| format!("/usr/local/{file}")).collect();
    files.sort();
    assert_eq!(stage.files(&machine), files);
    stage.uninstall();
    assert_eq!(stage.files(&machine), [""; 0]);
    stage.uninstall();
}

#[test]
fn the_units_are_valid_and_confined() {
    let Some(machine) = Machine::take_unheld() else { return };
    let host = Booted::new(&machine);
    let verified = host.sh(&format!("systemd-analyze verify {UNITS}")).ok();
    assert_eq!((verified.stdout, verified.stderr), (String::new(), String::new()));
    // in tenths, as systemd-analyze has it: 96 without any setting
    for (service, exposure) in
        [("binfmt", 42), ("binfmt-hold", 42), ("binfmt-health", 16), ("binfmt-repair", 11), ("binfmt-metrics", 20)]
    {
        let options = format!("--no-pager --threshold={exposure}");
        host.sh(&format!("systemd-analyze security {options} {service}.service")).ok();
    }
}

#[test]
fn the_service_installs_at_boot_and_uninstalls_when_stopped() {
    let Some(machine) = Machine::take_unheld() else { return };
    let host = Booted::new(&machine);
    host.systemctl("enable --now binfmt.service").ok();
    machine.runs("arm64");
    // what runs natively does so for the confined service too
    assert_eq!(machine.entries(), BOTH);
    host.reboot(|| machine.is_clean());
    machine.runs("arm64");
    machine.runs("s390x");
    assert_eq!(host.state("binfmt.service"), "active");

    host.systemctl("stop binfmt.service").ok();
    machine.stops_running("arm64");
    assert_eq!(machine.entries(), [""; 0]);
    host.systemctl("disable binfmt.service").ok();
    host.reboot(|| machine.is_clean());
    assert_eq!(machine.entries(), [""; 0]);
}

/// Debian's systemd package restarts it whenever some package brings files for it.
#[test]
fn when_systemd_binfmt_is_restarted_the_service_fills_the_table_again() {
    let Some(machine) = Machine::take_unheld() else { return };
    let host = Booted::new(&machine);
    host.systemctl("enable --now binfmt.service binfmt-health.timer").ok();
    // first with nothing to do for it, then started for the first time, then running already
    host.systemctl("restart systemd-binfmt").ok();
    host.comes_to_run("arm64");
    host.configure_other();
    for _ in 0..2 {
        host.systemctl("restart systemd-binfmt").ok();
        host.comes_to_run("arm64");
        host.comes_to_be("binfmt.service", "active");
        host.comes_to_be("binfmt-health.timer", "active");
        assert_eq!(machine.entries(), ["other", BOTH[0], BOTH[1]]);
    }
    host.systemctl("stop binfmt.service").ok();
    assert_eq!(machine.entries(), ["other"]);
}

/// The other service, which takes the first one's place.
#[test]
fn the_holding_service_fills_the_table_whenever_something_empties_it() {
    let Some(machine) = Machine::take_unheld() else { return };
    let host = Booted::new(&machine);
    host.systemctl("enable --now binfmt.service").ok();
    host.systemctl("disable binfmt.service").ok();
    host.systemctl("enable --now binfmt-hold.service").ok();
    machine.runs("arm64");
    assert_eq!(host.state("binfmt.service"), "inactive");
    host.configure_other();
    for _ in 0..3 {
        host.systemctl("restart systemd-binfmt").ok();
        host.comes_to_run("arm64");
        host.comes_to_run("s390x");
    }
    host.reboot(|| machine.is_clean());
    machine.runs("arm64");
    host.systemctl("stop binfmt-hold.service").ok();
    assert_eq!(host.state("binfmt-hold.service"), "inactive");
    assert_eq!(machine.entries(), ["other"]);
}

#[test]
fn what_the_health_check_finds_broken_is_repaired() {
    let Some(machine) = Machine::take_unheld() else { return };
    let host = Booted::new(&machine);
    host.systemctl("enable --now binfmt.service").ok();
    host.systemctl("start binfmt-health.service").ok();
    host.loses("qemu-aarch64");
    host.systemctl("start binfmt-health.service").ends(1);
    host.comes_to_run("arm64");
    let status = host.systemctl("status binfmt-health.service").ends(3);
    assert!(status.stdout.contains("Active: failed"), "{status}");
    assert!(status.stdout.contains("linux/arm64 does not run: no handler"), "{status}");
    assert_eq!(host.state("binfmt-repair.service"), "inactive");
    host.systemctl("start binfmt-health.service").ok();

    // what cannot be repaired is still seen to be broken
    host.sh("ln -sf /bin/false /usr/local/lib/binfmt/qemu-aarch64").ok();
    host.loses("qemu-aarch64");
    host.systemctl("start binfmt-health.service").ends(1);
    host.comes_to_be("binfmt-repair.service", "failed");
    machine.runs("s390x");
}

/// An emulator that does not work fails the health check. The others are installed, refilled and uninstalled as ever.
#[test]
fn an_emulator_that_is_broken_from_the_start_leaves_the_others_their_service() {
    let Some(machine) = Machine::take_unheld() else { return };
    let host = Booted::new(&machine);
    host.sh("ln -sf /bin/false /usr/local/lib/binfmt/qemu-aarch64").ok();
    host.systemctl("enable --now binfmt.service binfmt-health.timer").ok();
    let status = host.systemctl("status binfmt.service").ok();
    assert!(status.stdout.contains("status=1/FAILURE"), "{status}");
    host.systemctl("start binfmt-health.service").ends(1);
    host.comes_to_be("binfmt-repair.service", "failed");
    assert_eq!(host.state("binfmt-health.timer"), "active");
    machine.runs("s390x");

    host.configure_other();
    host.systemctl("restart systemd-binfmt").ok();
    host.comes_to_run("s390x");
    assert_eq!(host.state("binfmt-health.timer"), "active");
    host.systemctl("stop binfmt.service").ok();
    assert_eq!(machine.entries(), ["other"]);
}

#[test]
fn the_timer_checks_for_as_long_as_the_service_is_there() {
    let Some(machine) = Machine::take_unheld() else { return };
    let host = Booted::new(&machine);
    let often = "[Timer]\nOnActiveSec=\nOnActiveSec=1s\nOnUnitActiveSec=1s\nAccuracySec=1ms\n";
    let folder = "/run/systemd/system/binfmt-health.timer.d";
    host.sh(&format!("mkdir -p {folder}; printf '{often}' >{folder}/often.conf")).ok();
    host.systemctl("daemon-reload").ok();
    host.systemctl("enable --now binfmt.service binfmt-health.timer").ok();
    for _ in 0..2 {
        host.loses("qemu-aarch64");
        host.comes_to_run("arm64");
    }
    host.systemctl("stop binfmt.service").ok();
    assert_eq!(host.state("binfmt-health.timer"), "inactive");
    assert_eq!(machine.entries(), [""; 0]);
}

#[test]
fn the_metrics_are_written_whether_platforms_run_or_not() {
    let Some(machine) = Machine::take_unheld() else { return };
    let host = Booted::new(&machine);
    let file = "/var/lib/prometheus/node-exporter/binfmt.prom";
    // nowhere to write to
    host.systemctl("start binfmt-metrics.service").ends(1);
    host.sh(&format!("mkdir -p $(dirname {file})")).ok();
    host.systemctl("enable --now binfmt.service binfmt-metrics.timer").ok();
    for up in [1, 0] {
        host.systemctl("start binfmt-metrics.service").ok();
        let sample = format!("binfmt_platform_up{{platform=\"linux/arm64\"}} {up}");
        // as the exporter's own user
        host.sh(&format!("setpriv --reuid 65534 grep -Fx '{sample}' {file}")).ok();
        host.sh(&format!("grep '^binfmt_emulator_stale.* 0$' {file}")).ok();
        if up == 1 {
            host.loses("qemu-aarch64");
        }
    }
    host.systemctl("stop binfmt.service").ok();
}

#[test]
fn where_nothing_mounts_the_table_the_service_does() {
    let Some(machine) = Machine::take_unheld() else { return };
    let host = Booted::new(&machine);
    host.without_automount();
    host.systemctl("start binfmt.service").ok();
    assert_eq!(host.mounts(), ["by-binfmt"]);
    machine.runs("arm64");
    host.systemctl("start binfmt-health.service").ok();
    host.systemctl("stop binfmt.service").ok();
    assert_eq!(host.mounts(), [""; 0]);
    machine.is_clean();
}

#[test]
fn exported_files_are_registered_by_systemd_binfmt_at_every_boot() {
    let Some(machine) = Machine::take_unheld() else { return };
    let host = Booted::new(&machine);
    host.binfmt("--install arm64,s390x").ok();
    let installed = host.sh("cat /proc/sys/fs/binfmt_misc/qemu-*").ok();
    host.sh("mkdir -p /etc/binfmt.d").ok();
    host.binfmt("--export /etc/binfmt.d").ok();
    host.binfmt("--uninstall all").ok();
    machine.stops_running("arm64");

    host.sh("/usr/lib/systemd/systemd-binfmt").ok();
    let registered = host.sh("cat /proc/sys/fs/binfmt_misc/qemu-*").ok();
    assert_eq!(registered.stdout, installed.stdout);
    host.systemctl("restart systemd-binfmt").ok();
    machine.runs("arm64");
    host.reboot(|| machine.stops_running("arm64"));
    machine.runs("arm64");
    machine.runs("s390x");
    host.binfmt("--status").ok();
}

#[test]
fn a_container_that_persists_is_needed_once() {
    let Some(machine) = Machine::take_unheld() else { return };
    let host = Booted::new(&machine);
    let files = "find /etc/binfmt.d /var/lib/binfmt 2>/dev/null || :";
    let before = host.sh(files).ok().stdout;
    let with_host = "--privileged -v /:/host";
    host.container(with_host, "--install arm64,s390x --persist /host")
        .ok()
        .says("persisting: /host/etc/binfmt.d/qemu-aarch64.conf OK");
    machine.runs("arm64");
    host.reboot(|| {
        // the anchor is in the machine's kernel, which a reboot of such a host leaves running
        machine.privileged("--uninstall all").ok();
        machine.stops_running("arm64");
    });
    machine.runs("arm64");
    machine.runs("s390x");
    let status = host.sh("/usr/local/bin/binfmt --status arm64").ok();
    let path = "/var/lib/binfmt/qemu-aarch64\n";
    assert!(status.stdout.contains(path), "{status}");

    host.container(with_host, "--uninstall all --unpersist /host").ok();
    assert_eq!(host.sh(files).ok().stdout, before);
    machine.stops_running("arm64");
}

#[test]
fn an_install_lets_the_automount_happen_and_joins_it() {
    let Some(machine) = Machine::take_unheld() else { return };
    let host = Booted::new(&machine);
    assert_eq!(host.mounts(), ["systemd-1"]);
    host.binfmt("--install arm64").ok();
    assert_eq!(host.mounts(), ["systemd-1", "binfmt_misc"]);
    machine.runs("arm64");
    host.binfmt("--uninstall all").ok();
    assert_eq!(host.mounts(), ["systemd-1", "binfmt_misc"]);
    assert_eq!(machine.anchors(), 0);
}

/// The documented bind mount, whose source the engine looks up, makes the automount happen. Without it the container
/// mounts the table for itself, and it is still the one that systemd's automount has.
#[test]
fn where_the_host_mounts_the_table_a_containers_handlers_stay_until_systemd_empties_it() {
    let Some(machine) = Machine::take_unheld() else { return };
    let host = Booted::new(&machine);
    let bind = "--volume /proc/sys/fs/binfmt_misc:/binfmt_misc";
    let both = ["systemd-1", "binfmt_misc"].as_slice();
    // without the privilege the table is as young, but nobody inside can have mounted it
    let bound = (bind, "--mount /binfmt_misc", both);
    let privileged = format!("--privileged {bind}");
    let privileged = (privileged.as_str(), "--mount /binfmt_misc", both);
    let plain = ("--privileged", "", ["systemd-1"].as_slice());
    for (options, args, mounts) in [bound, privileged, plain] {
        assert_eq!(host.mounts(), ["systemd-1"]);
        host.container(options, &format!("{args} --install arm64")).ok();
        assert_eq!(host.mounts(), mounts, "{options}");
        machine.runs("arm64");
        // with nothing to do it does nothing
        host.systemctl("restart systemd-binfmt").ok();
        machine.runs("arm64");
        host.configure_other();
        host.systemctl("restart systemd-binfmt").ok();
        assert_eq!(machine.entries(), ["other"], "{options}");
        host.unconfigure_other();
    }
}

#[test]
fn where_nothing_mounts_the_table_a_containers_handlers_stay_until_the_reboot() {
    let Some(machine) = Machine::take_unheld() else { return };
    let host = Booted::new(&machine);
    host.without_automount();
    host.container("--privileged", "--install arm64").ok();
    assert_eq!(host.mounts(), [""; 0]);
    assert_eq!(machine.anchors(), 1);
    machine.runs("arm64");
    // it finds no table that it could empty
    host.configure_other();
    host.systemctl("restart systemd-binfmt").ok();
    machine.runs("arm64");
    host.container("--privileged", "--uninstall all").ok();
    machine.is_clean();
}

//! The pod of `deploy/kubernetes` against a real Docker engine: its privileges, mounts, probe, restarts and
//! end, out of the manifest and of what Helm makes of the chart. The files themselves are judged in `kubernetes/files.rs`,
//! and given to Podman in `kubernetes/podman.rs`.
//!
//! No cluster is among it. What a container may do to the table is `tests/engine/docker.rs`'s; how it is held, `tests/kernel/hold.rs`'s.

pub(crate) mod chart;
mod files;
mod pod;
mod podman;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::machine::Machine;
use crate::harness::{MOUNT_POINT, turn};
use chart::{Helm, objects};
use pod::Pod;
use serde_json::json;

const MANIFEST: &str = include_str!("../../deploy/kubernetes/daemonset.yaml");
/// One platform, where one is enough.
const ARM64: &str = r#"platforms=["arm64"]"#;
/// How long a test that has failed elsewhere goes on at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node that mounts nothing, and the manifest as it is.
#[test]
fn the_manifests_pod_holds_through_deaths_and_wipes_and_leaves_what_works() {
    let Some(machine) = Machine::take_unheld() else { return };
    let pod = Pod::of(&machine, "pod", &objects(MANIFEST)[1]);
    pod.start();
    pod.gets_ready();
    pod.probe().ok().prints("qemu-aarch64");
    for debian in ["arm64", "s390x"] {
        machine.runs(debian);
    }
    // a builder beside it, without privilege, sees the same
    machine.binfmt("--cap-drop ALL", "--status arm64,s390x").ok();

    pod.is_restarted(|| machine.runs("arm64"));
    pod.gets_ready();
    pod.is_restarted(wipe);
    pod.gets_ready();
    machine.runs("arm64");

    wipe();
    runs_again(&machine);
    pod.gets_ready();
    let (status, said) = pod.is_deleted();
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("repairing: "), "{said}");
    machine.runs("arm64");
    assert!(!machine.has_mount());
    assert_eq!(machine.anchors(), 1);
    machine.privileged("--uninstall all").ok();
    machine.is_clean();
}

/// Whichever way the pod gets at the table, and where the machine has it mounted or not.
#[test]
fn with_uninstall_nothing_is_left_of_a_pod() {
    let Some(machine) = Machine::take_unheld() else { return };
    let Some(helm) = Helm::take() else { return };
    for (access, mounted) in [("own", false), ("own", true), ("bind", true), ("host", false)] {
        if mounted {
            mount(&machine);
        }
        let values = [r#"onExit="uninstall""#, r#"platforms=["arm64","s390x"]"#, &format!("access={access:?}")];
        let pod = Pod::of(&machine, &format!("pod-{access}"), &helm.daemonset(&values));
        pod.start();
        pod.gets_ready();
        machine.runs("arm64");
        wipe();
        runs_again(&machine);
        let (status, said) = pod.is_deleted();
        assert_eq!(status, 0, "{access}: {said}");
        assert_eq!(machine.has_mount(), mounted, "{access}");
        if mounted {
            machine.host.sh(&format!("umount {MOUNT_POINT}")).ok();
        }
        machine.is_clean();
    }
}

#[test]
fn where_the_node_has_it_mounted_a_pod_without_a_capability_leaves_what_works() {
    let Some(machine) = Machine::take_unheld() else { return };
    let Some(helm) = Helm::take() else { return };
    mount(&machine);
    let daemonset = helm.daemonset(&[r#"access="bind""#, ARM64]);
    let pod = Pod::of(&machine, "pod", &daemonset);
    pod.start();
    pod.gets_ready();
    pod.probe().ok().prints("qemu-aarch64");
    pod.is_restarted(wipe);
    pod.gets_ready();
    let (status, said) = pod.is_deleted();
    assert_eq!(status, 0, "{said}");
    machine.runs("arm64");
    assert_eq!(machine.anchors(), 0);
    assert_eq!(machine.entries(), ["qemu-aarch64"]);
}

/// Without a capability, there is nothing else that a pod can do.
#[test]
fn where_the_node_has_nothing_mounted_such_a_pod_ends_and_says_why() {
    let Some(machine) = Machine::take_unheld() else { return };
    let Some(helm) = Helm::take() else { return };
    for (value, status, reason) in [(r#"access="bind""#, 1, "/binfmt_misc"), (r#"platforms=["arm46"]"#, 2, "arm46")] {
        let pod = Pod::of(&machine, "pod", &helm.daemonset(&[value]));
        pod.start();
        assert_eq!(pod.ends(), status);
        let said = pod.says();
        let last = said.lines().next_back().unwrap_or_default();
        assert!(last.contains(reason), "{said}");
        pod.is_deleted();
        machine.is_clean();
    }
}

/// With other settings, as the next release might have them: the old pod neither fights the new one nor undoes its work,
/// and the new one, told to, takes away what the old one has left.
#[test]
fn a_new_pod_takes_over_before_the_old_one_goes_and_no_start_fails() {
    let Some(machine) = Machine::take_unheld() else { return };
    let Some(helm) = Helm::take() else { return };
    let strategy = &objects(MANIFEST)[1]["spec"]["updateStrategy"]["rollingUpdate"];
    assert_eq!(*strategy, json!({"maxSurge": "10%", "maxUnavailable": 0}));
    let old = Pod::of(&machine, "pod-old", &helm.daemonset(&[ARM64]));
    let values = [ARM64, "credentials=false", r#"onExit="uninstall""#];
    let new = Pod::of(&machine, "pod-new", &helm.daemonset(&values));
    old.start();
    old.gets_ready();
    old.probe().ok().prints(" POCF ");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let starts = scope.spawn(|| {
            let begin = Instant::now();
            while !over.load(Ordering::Relaxed) && begin.elapsed() < PATIENCE {
                machine.runs("arm64");
            }
        });
        new.start();
        new.gets_ready();
        // time for the old one to do what it should not
        thread::sleep(Duration::from_secs(1));
        let (status, said) = old.is_deleted();
        assert_eq!(status, 0, "{said}");
        assert!(!said.contains("repairing: arm64 OK"), "{said}");
        new.probe().ok().prints(" PF ");
        over.store(true, Ordering::Relaxed);
        starts.join().expect("starts that all went well");
    });
    let (status, said) = new.is_deleted();
    assert_eq!(status, 0, "{said}");
    assert!(!said.contains("repairing: arm64 OK"), "{said}");
    machine.is_clean();
}

/// An administrator's decision, and so it is not ready, and not restarted either.
#[test]
fn with_the_table_switched_off_the_pod_waits_and_is_not_ready() {
    let Some(machine) = Machine::take() else { return };
    let Some(helm) = Helm::take() else { return };
    let pod = Pod::of(&machine, "pod", &helm.daemonset(&[ARM64]));
    pod.start();
    pod.gets_ready();
    assert!(turn::succeeds(&on_the_table("echo 0 >status")));
    pod.probe().ends(1);
    assert!(turn::succeeds(&on_the_table("echo 1 >status")));
    pod.gets_ready();
    assert!(!pod.says().contains("repairing: arm64"), "{}", pod.says());
}

/// The machine has it mounted.
fn mount(machine: &Machine) {
    machine.host.sh(&format!("mount -t binfmt_misc binfmt_misc {MOUNT_POINT}")).ok();
}

/// Shell commands in the table's folder, for [`turn::succeeds`].
fn on_the_table(script: &str) -> String {
    format!(
        "mountpoint -q {MOUNT_POINT} || mount -t binfmt_misc none {MOUNT_POINT}
         cd {MOUNT_POINT}; {script}"
    )
}

fn wipe() {
    assert!(turn::succeeds(&on_the_table("echo -1 >status")));
}

/// A foreign program, a moment after a wipe.
#[track_caller]
fn runs_again(machine: &Machine) {
    for _ in 0..100 {
        if machine.host.runs("arm64").is_ok() {
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
    machine.runs("arm64");
}

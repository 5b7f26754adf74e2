//! Podman, which reads files for Kubernetes without a cluster, on a host that was booted: with systemd's automount of the
//! table, and its service that empties the table.

use std::fs;

use super::chart::Helm;
use super::{ARM64, MANIFEST};
use crate::harness::booted::Booted;
use crate::harness::machine::{IMAGE, Machine};

#[test]
fn podman_does_as_the_files_say_on_a_host_that_was_booted() {
    let Some(machine) = Machine::take_unheld() else { return };
    let Some(helm) = Helm::take() else { return };
    let folder = machine.host.scratch().join("files");
    fs::create_dir(&folder).expect("a folder");
    let bind = helm.render(&[r#"access="bind""#, r#"onExit="uninstall""#, ARM64]);
    for (name, text) in [("own", MANIFEST), ("bind", &bind)] {
        fs::write(folder.join(name), text).expect("a file");
    }
    let folder = folder.display();
    machine.docker(&format!("save --output {folder}/image {IMAGE}")).ok();
    let options = format!("--tmpfs /var/lib/containers --volume {folder}:/files:ro");
    let host = Booted::with(&machine, &options);
    let image = format!("registry.example/binfmt:{}", env!("CARGO_PKG_VERSION"));
    let load = format!("podman load --quiet --input /files/image; podman tag {IMAGE} {image}");
    host.sh(&load).ok();
    for (access, probe) in [("own", ""), ("bind", "--mount /binfmt_misc")] {
        assert_eq!(host.mounts(), ["systemd-1"]);
        host.sh(&format!("podman kube play --network none /files/{access}")).ok();
        host.comes_to_run("arm64");
        let is_bound = access == "bind";
        assert_eq!(host.mounts().len(), 1 + usize::from(is_bound), "{access}");
        host.configure_other();
        host.systemctl("restart systemd-binfmt").ok();
        host.comes_to_run("arm64");
        let probe = format!("/usr/bin/binfmt --status arm64 {probe}");
        host.sh(&format!("podman exec binfmt-pod-binfmt {probe}")).ok().prints("qemu-aarch64");

        host.sh(&format!("podman kube down /files/{access}")).ok();
        if is_bound {
            assert_eq!(machine.entries(), ["other"]);
        } else {
            machine.runs("arm64");
            machine.privileged("--uninstall all").ok();
        }
        host.unconfigure_other();
    }
}

//! File servers that do not answer: what is on them, and what calls do that meet them.

use serde_json::json;

use crate::harness::{BINFMT, Host, Output, emulators};

/// Runs a script on a host where arm64's emulator is pinned from a file server, `place`, that has stopped since, and riscv64's from
/// elsewhere. `before` runs before it stops.
fn with_a_dead_server(host: &Host, before: &str, script: &str) -> Output {
    let (scratch, emulators) = (host.scratch().display(), emulators());
    let emulators = emulators.display();
    host.sh(&format!(
        "cd '{scratch}'; mkdir place
         bindfs -f --no-allow-other '{emulators}' place & server=$!
         until mountpoint -q place; do sleep 0.1; done
         QEMU_BINARY_PATH=$PWD/place '{BINFMT}' --install arm64 >/dev/null
         QEMU_BINARY_PATH='{emulators}' '{BINFMT}' --install riscv64 >/dev/null
         {before}
         kill -STOP $server
         status=0; ( {script} ) || status=$?
         kill -KILL $server; umount --lazy place
         exit $status"
    ))
}

#[test]
fn a_pinned_file_that_does_not_open_hides_no_other_handler() {
    let host = Host::new();
    let call = format!("timeout --kill-after=1 40 '{BINFMT}' --status --format json");
    let output = with_a_dead_server(&host, "", &call);
    let output = output.ends(1).says("waiting for an emulator");
    let seen = &output.json()["platforms"];
    let of = |platform| seen.as_array().unwrap().iter().find(|seen| seen["platform"] == platform).unwrap();
    assert_eq!(of("linux/riscv64")["state"], json!("works"), "{output}");
    let stuck = of("linux/arm64");
    assert_eq!(stuck["state"], json!("broken"), "{output}");
    assert!(stuck["reason"].as_str().unwrap().contains("file system, which does not answer"), "{output}");
}

/// Nothing of the former handler has to open for that.
#[test]
fn a_handler_whose_pinned_file_does_not_open_is_replaced() {
    let host = Host::new();
    let emulators = emulators();
    let call = format!("QEMU_BINARY_PATH='{}' timeout --kill-after=1 60 '{BINFMT}' --install arm64", emulators.display());
    with_a_dead_server(&host, "", &call).ok();
    host.binfmt(&["--status", "arm64"]).ok();
}

//! File servers that do not answer: what is on them, and what calls do that meet them.

use serde_json::json;

use crate::harness::{BINFMT, Host, Output, emulators};

/// Runs a script on a host where a file server, `place`, has the emulators, and has stopped; `before` runs before it stops.
fn with_a_dead_server(host: &Host, before: &str, script: &str) -> Output {
    let (scratch, emulators) = (host.scratch().display(), emulators());
    let emulators = emulators.display();
    host.sh(&format!(
        "cd '{scratch}'; mkdir place
         bindfs -f --no-allow-other '{emulators}' place & server=$!
         until mountpoint -q place; do sleep 0.1; done
         {before}
         kill -STOP $server
         status=0; ( {script} ) || status=$?
         kill -KILL $server; umount --lazy place
         exit $status"
    ))
}

/// Pins the emulator of arm64 from the server, and that of riscv64 from elsewhere.
fn installs() -> String {
    let call = format!("'{BINFMT}' --install");
    let emulators = emulators();
    format!(
        "QEMU_BINARY_PATH=$PWD/place {call} arm64 >/dev/null
         QEMU_BINARY_PATH='{}' {call} riscv64 >/dev/null",
        emulators.display()
    )
}

#[test]
fn a_pinned_file_that_does_not_open_hides_no_other_handler() {
    let host = Host::new();
    let call = format!("timeout --kill-after=1 40 '{BINFMT}' --status --format json");
    let output = with_a_dead_server(&host, &installs(), &call);
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
    let call =
        format!("QEMU_BINARY_PATH='{}' timeout --kill-after=1 60 '{BINFMT}' --install arm64", emulators.display());
    with_a_dead_server(&host, &installs(), &call).ok();
    host.binfmt(&["--status", "arm64"]).ok();
}

/// The kernel closes the pinned file of an entry that goes, and asks the server about that.
#[test]
fn a_handler_is_uninstalled_whose_pinned_file_does_not_close() {
    let host = Host::new();
    // nobody has closed the file yet: the server's library would tell the kernel that it need not be asked about that
    let register = "printf ':dead:M::dead-server::%s:F' $PWD/place/qemu-aarch64 >/proc/sys/fs/binfmt_misc/register";
    let call = format!("timeout --kill-after=1 20 '{BINFMT}' --uninstall dead --force");
    with_a_dead_server(&host, register, &call).ok().says("a process waits until it does");
    assert!(!host.entries().contains(&"dead".to_owned()));
}

/// A call that needs a file of that server ends, and holds no lock any longer.
#[test]
fn emulators_that_do_not_open_end_a_call_with_their_path() {
    let host = Host::new();
    let calls = ["--version", "--list", "--status all", "--install arm64 --dry-run", "--install arm64", "--export out"];
    let calls = calls.map(|call| {
        format!(
            "( status=0; timeout --kill-after=1 40 '{BINFMT}' {call} 2>&1 || status=$?; echo \"{call}: $status\" ) &"
        )
    });
    let script = format!("export QEMU_BINARY_PATH=$PWD/place; {} wait", calls.join("\n"));
    let output = with_a_dead_server(&host, "", &script).ok();
    let ends = |call: &str| output.stdout.lines().any(|line| line == format!("{call}: 1"));
    for call in ["--version", "--list", "--status all", "--install arm64 --dry-run", "--install arm64"] {
        assert!(ends(call), "{call}: {output}");
    }
    let said = |words| output.stdout.matches(words).count();
    assert_eq!(said("waiting for the file system of "), 5, "{output}");
    assert_eq!(said("does not answer; see whether its file server runs"), 5, "{output}");
}

#[test]
fn what_is_asked_about_does_not_open() {
    let host = Host::new();
    let calls = format!(
        "status=0; timeout --kill-after=1 40 '{BINFMT}' --explain place/qemu-aarch64 || status=$?; echo $status
         status=0; timeout --kill-after=1 40 '{BINFMT}' --run --root place arm64 -- /bin/true || status=$?; echo $status
         status=0; timeout --kill-after=1 40 '{BINFMT}' --install arm64 --persist place || status=$?; echo $status"
    );
    let output = with_a_dead_server(&host, "", &calls).ok();
    assert_eq!(output.stdout, "1\n125\n1\n", "{output}");
}

/// It goes on when the server is there again.
#[test]
fn a_call_that_holds_waits_for_its_file_server() {
    let host = Host::new();
    let (scratch, emulators) = (host.scratch().display(), emulators());
    let held = host.sh(&format!(
        "cd '{scratch}'; mkdir place
         bindfs -f --no-allow-other '{}' place & server=$!
         until mountpoint -q place; do sleep 0.1; done
         kill -STOP $server
         QEMU_BINARY_PATH=$PWD/place '{BINFMT}' --hold --install arm64 2>said & call=$!
         sleep 12; kill -CONT $server
         until grep 'arm64 OK' said; do kill -0 $call; sleep 0.1; done
         kill -TERM $call; wait $call; kill $server",
        emulators.display()
    ));
    held.ok();
}

/// The server takes the request to read, and does not answer: then not even SIGKILL ends the process.
#[test]
fn a_read_that_is_never_answered_leaves_no_lock() {
    let host = Host::new();
    let (scratch, emulators) = (host.scratch(), emulators());
    host.compile_source(&scratch.join("server"), "-O1", include_str!("file_server/server.c"));
    let script = format!(
        "cd '{}'; mkdir place; ./server '{emulators}' place $PWD/stalls & server=$!
         until mountpoint -q place; do sleep 0.1; done
         echo 15 >stalls
         QEMU_BINARY_PATH=$PWD/place '{BINFMT}' --install arm64 2>said &
         until grep -q 'does not answer' said; do sleep 0.1; done
         status=0; QEMU_BINARY_PATH='{emulators}' timeout --kill-after=1 30 '{BINFMT}' --install arm64 || status=$?
         kill -KILL $server; cat said; exit $status",
        scratch.display(),
        emulators = emulators.display(),
    );
    host.sh(&script).ok().prints("waiting for the file system of ").says("installing: arm64 OK");
}

#[test]
fn a_mount_point_that_does_not_open_is_named() {
    let host = Host::new();
    let call = format!("timeout --kill-after=1 30 '{BINFMT}' --status arm64 --mount place");
    with_a_dead_server(&host, "", &call).ends(1).ends_saying(&["the file system of ", "place does not answer"]);
}

//! Mount points: which are used, which are refused and how, and where nothing is ever mounted.
//!
//! What happens on the machine itself and in containers, the anchor above all, is in `tests/host/anchor.rs`.

use std::fs;

use crate::harness::{BINFMT, Host, MOUNT_POINT, Output, emulators, program};

/// A user namespace without a table of its own.
const NAMESPACES: [&str; 3] = ["--user", "--map-root-user", "--mount"];
/// Takes every privilege from a command.
const UNPRIVILEGED: &str = "setpriv --bounding-set=-all --inh-caps=-all --";

#[test]
fn a_mount_point_that_is_none_is_refused_with_its_own_sentence() {
    let host = Host::new();
    let prepared = format!(
        "cd {}; touch file; mkdir full; touch full/file; ln -s circle circle; ln -s nowhere dangling
         mkdir tmpfs; mount -t tmpfs none tmpfs; touch tmpfs/file",
        host.scratch().display()
    );
    host.sh(&prepared).ok();
    let before = mounts(&host);
    for (name, words) in [
        ("file", ["is not a directory", "name one"]),
        ("missing", ["does not exist", "create it"]),
        ("full", ["something else than binfmt_misc", "name the mount point"]),
        ("tmpfs", ["something else than binfmt_misc", "name the mount point"]),
        ("full/file", ["is not a directory", "name one"]),
        ("dangling", ["does not exist", "create it"]),
        ("circle", ["circle of symbolic links", "name"]),
        ("/proc", ["something else than binfmt_misc", "name the mount point"]),
        ("/dev/null", ["is not a directory", "name one"]),
    ] {
        let dir = host.scratch().join(name);
        let dir = dir.to_str().unwrap();
        for args in [&["--install", "arm64"][..], &["--uninstall", "arm64"], &["--status"], &[]] {
            let output = host.binfmt(&[&["--mount", dir], args].concat());
            let output = output.ends(1).ends_saying(&[&words[..], &[dir]].concat());
            assert_eq!(output.stderr.lines().count(), 1, "{output}");
            assert_eq!(output.stdout, "", "{output}");
        }
    }
    assert_eq!(mounts(&host), before);
    assert_eq!(host.table(), "");
}

#[test]
fn a_mount_point_that_cannot_be_listed_ends_a_call() {
    let host = Host::new();
    let dir = host.scratch().join("unlisted");
    fs::create_dir(&dir).unwrap();
    let dir = dir.to_str().unwrap();
    let strace =
        ["-f", "-qq", "-o", "/dev/null", "-e", "trace=/^getdents", "-e", "inject=/^getdents:error=EIO", "-P", dir];
    let output = host.program("strace").args(strace).args([BINFMT, "--mount", dir, "--install", "arm64"]).run();
    output.ends(1).ends_saying(&["cannot use mount point", dir, "EIO"]);
}

#[test]
fn a_read_only_table_can_be_looked_at_and_says_how_to_make_it_writable() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    host.sh(&format!("mount -o remount,bind,ro {MOUNT_POINT}")).ok();
    let before = host.table();
    for args in [["--install", "riscv64"], ["--uninstall", "arm64"]] {
        host.binfmt(&args).ends(1).ends_saying(&["read-only", "mount -o remount,", MOUNT_POINT]);
        assert_eq!(host.table(), before, "{args:?}");
    }
    host.binfmt(&["--status", "arm64"]).ok();
}

/// Asking for what is there already changes nothing, so nothing needs to be writable.
#[test]
fn what_is_in_place_is_in_place_in_a_read_only_table_too() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    host.sh(&format!("mount -o remount,bind,ro {MOUNT_POINT}")).ok();
    host.binfmt(&["--install", "arm64"]).ok().says("already installed");
    host.binfmt(&["--uninstall", "riscv64"]).ok().says("not found");
}

/// What the last line says to do must be right.
#[test]
fn the_remedy_for_a_read_only_table_works() {
    let host = Host::new();
    host.sh(&format!("mount -o remount,bind,ro {MOUNT_POINT}")).ok();
    let refused = host.binfmt(&["--install", "arm64"]).ends(1);
    let last = refused.stderr.lines().next_back().unwrap();
    let remedy = last.split("read-write: ").last().unwrap();
    host.sh(remedy).ok();
    host.binfmt(&["--install", "arm64"]).ok();
}

#[test]
fn a_kernel_without_binfmt_misc_is_named() {
    let host = Host::with(&NAMESPACES, "mount -t tmpfs none /proc/sys/fs");
    host.binfmt(&["--install", "arm64"]).ends(1).ends_saying(&["modprobe binfmt_misc", "CONFIG_BINFMT_MISC"]);
    let status = host.binfmt(&[]).ok();
    assert!(status.list("supported").iter().any(|p| p == "linux/amd64"), "{status}");
}

#[test]
fn without_proc_the_reason_is_named() {
    let host = Host::with(&NAMESPACES, "mount -t tmpfs none /proc");
    for args in [&[][..], &["--install", "arm64"]] {
        host.binfmt(args).ends(1).ends_saying(&["/proc"]);
    }
    host.binfmt(&["--verify"]).ends(1).ends_saying(&["/proc is not mounted; mount it: mount -t proc proc /proc"]);
}

/// Nothing says what runs then, and what was removed is removed.
#[test]
fn without_proc_a_removal_is_done_and_only_what_runs_is_not_shown() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    let dir = host.scratch().join("table");
    fs::create_dir(&dir).unwrap();
    host.sh(&format!("mount --bind {MOUNT_POINT} {}; mount -t tmpfs none /proc", dir.display())).ok();
    let at_dir = |args: &[&str]| host.binfmt(&[&["--mount", dir.to_str().unwrap()], args].concat());
    at_dir(&[]).ends(1).ends_saying(&["/proc"]);
    let output = at_dir(&["--uninstall", "arm64"]).ok();
    output.says("uninstalling: arm64 OK").ends_saying(&["what runs here now cannot be shown", "/proc"]).prints_no("{");
    assert!(!dir.join("qemu-aarch64").exists());
}

#[test]
fn what_is_mounted_at_a_named_place_goes_with_the_last_entry() {
    for name in ["table", "with space", "new\nline", "back\\slash"] {
        let host = Host::with(&NAMESPACES, "");
        let dir = host.scratch().join(name);
        fs::create_dir(&dir).unwrap();
        let at_dir = |args: &[&str]| {
            let dir = dir.to_str().unwrap();
            from_shell(&host, &[&["--mount", dir], args].concat())
        };
        let before = mounts(&host);
        at_dir(&["--install", "arm64,riscv64"]).ok();
        assert_eq!(host.runs("arm64"), Ok("aarch64".into()), "{name:?}");
        at_dir(&["--status", "arm64"]).ok();
        at_dir(&["--uninstall", "arm64"]).ok();
        assert_ne!(mounts(&host), before, "{name:?}: an entry is left");
        assert!(host.runs("riscv64").is_ok(), "{name:?}");
        at_dir(&["--uninstall", "riscv64"]).ok();
        assert_eq!(mounts(&host), before, "{name:?}");
    }
}

/// However the mount point is written, it is the same place.
#[test]
fn a_mount_point_may_be_written_in_many_ways() {
    for written in ["table", "./table/", "table/../table", "link", "link/"] {
        let host = Host::with(&NAMESPACES, "");
        let setup = format!("cd {}; mkdir table; ln -s table link", host.scratch().display());
        host.sh(&setup).ok();
        let before = mounts(&host);
        let call = |args: &str| {
            let script = format!("cd {}; {BINFMT} --mount {written} {args}", host.scratch().display());
            host.program("sh").args(["-c", &script]).env("QEMU_BINARY_PATH", emulators()).run()
        };
        call("--install arm64").ok();
        call("--install arm64").ok().says("already installed");
        assert!(host.runs("arm64").is_ok(), "{written}");
        call("--uninstall all").ok();
        assert_eq!(mounts(&host), before, "{written}");
    }
}

#[test]
fn a_mount_that_somebody_else_made_stays_after_the_last_entry() {
    let host = Host::new();
    let before = mounts(&host);
    host.binfmt(&["--install", "arm64"]).ok();
    host.binfmt(&["--uninstall", "arm64"]).ok();
    assert_eq!(mounts(&host), before);
}

#[test]
fn a_mount_in_use_does_not_keep_the_last_entry_from_going() {
    let host = Host::with(&NAMESPACES, "");
    let dir = host.scratch().join("table");
    fs::create_dir(&dir).unwrap();
    let dir = dir.to_str().unwrap();
    let before = mounts(&host);
    from_shell(&host, &["--mount", dir, "--install", "arm64"]).ok();
    let within = format!("cd {dir}; {BINFMT} --mount {dir} --uninstall all");
    host.sh(&within).ok();
    assert!(host.runs("arm64").is_err());
    assert_eq!(mounts(&host), before);
}

#[test]
fn a_user_namespace_keeps_seeing_the_handlers_outside_whatever_is_looked_at() {
    let outside = outside();
    let looked = within(
        &outside,
        "$binfmt >/dev/null; $binfmt --status >/dev/null; $binfmt --list >/dev/null
         $binfmt --uninstall riscv64 >/dev/null || :; $binfmt --uninstall 'qemu-*' >/dev/null
         $binfmt --install riscv64 >/dev/null && exit 77
         ! grep binfmt_misc /proc/self/mounts; $arm64 uname -m",
    );
    assert_eq!(looked.ok().stdout, "aarch64\n");
    assert_eq!(outside.entries(), ["qemu-aarch64"]);
}

/// Probing takes no mount: what runs inside is found out by running it.
#[test]
fn a_user_namespace_is_told_what_runs_through_the_handlers_outside() {
    let outside = outside();
    let status = within(&outside, "$binfmt").ok();
    let supported = status.list("supported");
    assert!(supported.contains(&"linux/arm64".to_owned()), "{status}");
    assert!(!supported.contains(&"linux/riscv64".to_owned()), "{status}");
    let status = within(&outside, "$binfmt --status arm64").ok();
    assert!(status.stdout.contains("linux/arm64"), "{status}");
    within(&outside, "$binfmt --status riscv64").ends(1);
}

#[test]
fn an_install_in_a_user_namespace_is_refused_with_a_remedy_that_works() {
    let outside = outside();
    let refused = within(&outside, "$binfmt --install riscv64").ends(1);
    let refused = refused.ends_saying(&["user namespace", "run it on the host", "--mount"]);
    let last = refused.stderr.lines().next_back().unwrap();
    let remedy = &last[last.rfind("--mount").unwrap()..];
    let script = format!(
        "$binfmt --install riscv64 {remedy} >/dev/null; $riscv64 uname -m
         $binfmt --install riscv64 {remedy} >/dev/null
         $arm64 uname -m 2>&1 && exit 77; $binfmt --uninstall all {remedy} >/dev/null
         ! grep binfmt_misc /proc/self/mounts"
    );
    let installed = within(&outside, &script).ok();
    assert!(installed.stdout.starts_with("riscv64\n"), "{installed}");
    assert_eq!(outside.entries(), ["qemu-aarch64"]);
    assert_eq!(outside.runs("arm64"), Ok("aarch64".into()));
}

/// It is one sequence, whose steps are done or only told.
#[test]
fn where_no_table_is_in_reach_a_dry_run_and_a_call_end_alike() {
    let outside = outside();
    let refused = "without a binfmt_misc of its own";
    let bad = "/none/etc";
    let level = outside.binfmt(&[]).ok().list("supported").contains(&"linux/amd64/v4".to_owned());
    for (args, status, line, last) in [
        ("--install arm64,amd64", 0, "arm64 already installed (on the host)", ""),
        ("--install amd64,bogus", 1, "amd64 native", "unsupported architecture: bogus"),
        ("--install linux/amd64/v4", i32::from(!level), "amd64 native", ""),
        ("--install riscv64", 1, "", refused),
        // what only a table can do is not passed over
        ("--reset --install amd64", 1, "", refused),
        ("--credentials no --install arm64", 1, "", refused),
        ("--credentials no --install amd64", 0, "amd64 native", ""),
        ("--uninstall arm64", 1, "arm64 not found", "arm64 runs through a handler of the host, or"),
        ("--uninstall all", 1, "all not found", "arm64 runs through a handler of the host, or"),
        ("--uninstall riscv64", 0, "riscv64 not found", ""),
        (&format!("--install arm64 --persist {bad}"), 1, "", bad),
    ] {
        let dry = within(&outside, &format!("$binfmt --dry-run {args}")).ends(status);
        dry.prints(line).ends_saying(&[last]);
        within(&outside, &format!("$binfmt {args}")).ends(status).says(line).ends_saying(&[last]);
    }
    let (root, make) =
        (outside.scratch().join("root"), "mkdir -p etc usr/lib/systemd; : >usr/lib/systemd/systemd-binfmt");
    outside.sh(&format!("mkdir '{0}'; cd '{0}'; {make}", root.display())).ok();
    for dry in ["", "--dry-run"] {
        let persist = format!("$binfmt {dry} --install arm64 --persist '{}'", root.display());
        within(&outside, &persist).ends(1).ends_saying(&[refused]);
    }
    assert_eq!(outside.entries(), ["qemu-aarch64"]);
}

/// `--install` alone would be refused there, so `--status` does not name it.
#[test]
fn a_user_namespace_is_told_how_to_install_there() {
    let outside = outside();
    let status = within(&outside, "$binfmt --status riscv64").ends(1);
    let status = status.ends_saying(&["install it on the host: ", "or here, which hides the host's handlers"]);
    let last = status.stderr.lines().next_back().unwrap();
    let (_, remedy) = last.rsplit_once("user namespace: ").unwrap();
    let line = remedy.replace("binfmt --", "$binfmt --");
    within(&outside, &format!("{line} >/dev/null; $riscv64 uname -m")).ok();
    // where not even that is possible, it is not named
    let unprivileged = format!("exec {UNPRIVILEGED} $binfmt --status riscv64");
    within(&outside, &unprivileged).ends(1).ends_saying(&["install it on the host: "]).never_says("or here");
}

/// What is mounted already is used, in a user namespace too.
#[test]
fn a_user_namespace_uses_the_table_that_it_finds_mounted() {
    let outside = outside();
    let call = outside.program("unshare").args(NAMESPACES).env("QEMU_BINARY_PATH", emulators());
    call.args([BINFMT, "--install", "riscv64"]).run().ok();
    assert_eq!(outside.runs("riscv64"), Ok("riscv64".into()));
}

#[test]
fn without_the_privilege_to_mount_that_is_said() {
    let host = Host::with(&NAMESPACES, "");
    let dir = host.scratch().join("table");
    fs::create_dir(&dir).unwrap();
    let before = mounts(&host);
    let refused = unprivileged(&host, &format!("--install arm64 --mount {}", dir.display()));
    refused.ends(1).ends_saying(&["permission denied mounting", "on the host"]);
    let dry = unprivileged(&host, &format!("--dry-run --install arm64 --mount {}", dir.display()));
    dry.ends(1).ends_saying(&["permission denied mounting", "on the host"]).prints_no("would install");
    let status = unprivileged(&host, &format!("--status arm64 --mount {}", dir.display()));
    status.ends(1).ends_saying(&["permission denied mounting", "on the host", "then install it: "]);
    assert_eq!(mounts(&host), before);
}

#[test]
fn without_any_privilege_and_namespace_a_look_works_and_leaves_nothing() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    // a limit of this namespace alone
    host.sh("echo 0 >/proc/sys/user/max_user_namespaces").ok();
    let status = unprivileged(&host, "").ok();
    let supported = status.list("supported");
    assert!(supported.contains(&"linux/arm64".to_owned()), "{status}");
    unprivileged(&host, "--status arm64").ok();
    unprivileged(&host, "--list").ok();
    assert_eq!(fs::read_dir(host.scratch()).unwrap().count(), 0);
}

#[test]
fn no_writable_place_is_needed() {
    let host = Host::new();
    host.sh("echo 0 >/proc/sys/user/max_user_namespaces
         for dir in /tmp /run /var/tmp /dev/shm; do
           mount --rbind $dir $dir; mount -o remount,bind,ro $dir
         done; mount -o remount,bind,ro /")
        .ok();
    unprivileged(&host, "--install arm64").ok();
    unprivileged(&host, "--status arm64").ok();
}

/// A host whose table has a handler for arm64, for user namespaces to be made in that do not see the mount.
fn outside() -> Host {
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    host
}

/// Runs shell commands in a user namespace made in `outside`, to which its handlers apply and where nothing is mounted.
/// `$binfmt` is the tool, `$arm64` and `$riscv64` are programs.
fn within(outside: &Host, script: &str) -> Output {
    let inner = NAMESPACES.join(" ");
    let unseen = format!("umount {MOUNT_POINT}; exec unshare {inner} sh -e -c \"$1\"");
    let call = outside.program("unshare");
    call.args(["--mount", "sh", "-e", "-c", &unseen, "sh", script])
        .env("binfmt", BINFMT)
        .env("arm64", program("arm64"))
        .env("riscv64", program("riscv64"))
        .env("QEMU_BINARY_PATH", emulators())
        .run()
}

/// Calls the tool from a shell in the host: a mount made there is seen to outlive the call.
fn from_shell(host: &Host, args: &[&str]) -> Output {
    let call = host.program("sh");
    let call = call.args(["-c", "\"$@\"; exit $?", "sh", BINFMT]);
    call.args(args).env("QEMU_BINARY_PATH", emulators()).run()
}

fn unprivileged(host: &Host, options: &str) -> Output {
    let script = format!("{UNPRIVILEGED} {BINFMT} {options}");
    let call = host.program("sh").args(["-e", "-c", &script]).env("QEMU_BINARY_PATH", emulators());
    call.env("TMPDIR", host.scratch()).run()
}

fn mounts(host: &Host) -> String {
    let mounts = "grep ' binfmt_misc ' /proc/self/mounts || :";
    host.sh(mounts).ok().stdout
}

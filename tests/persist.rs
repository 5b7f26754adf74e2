//! Tier: command line. What `--persist` writes into a host's root directory, and `--unpersist` takes back.
//!
//! That a host registers it at its boot is shown in `tests/systemd.rs`; here hosts are folders with what makes them look
//! like one.

mod harness;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread;

use harness::{Host, Output, emulators, old_emulators};

const EMULATOR: &str = "var/lib/binfmt/qemu-aarch64";
const RULES: &str = "etc/binfmt.d/qemu-aarch64.conf";
const RECORD: &str = "var/lib/binfmt/persisted";

/// A root directory with systemd's program.
fn root(host: &Host) -> PathBuf {
    let root = host.scratch().join("root");
    fs::create_dir_all(root.join("usr/lib/systemd")).expect("a folder");
    fs::write(root.join("usr/lib/systemd/systemd-binfmt"), "").expect("a file");
    fs::create_dir(root.join("etc")).expect("a folder");
    root
}

fn persist(host: &Host, root: &Path, list: &str) -> Output {
    host.binfmt(&["--install", list, "--persist", shown(root)])
}

fn unpersist(host: &Host, root: &Path) -> Output {
    host.binfmt(&["--unpersist", shown(root)])
}

fn shown(root: &Path) -> &str {
    root.to_str().expect("a path that is text")
}

/// Every file and directory below, with what is in it.
fn contents(host: &Host, root: &Path) -> String {
    let root = root.display();
    host.sh(&format!(
        "cd {root}; find . | sort; find . -type f | sort | xargs sha256sum"
    ))
    .ok()
    .stdout
}

#[test]
fn what_was_written_is_taken_back_to_the_last_directory() {
    let host = Host::new();
    let root = root(&host);
    let before = contents(&host, &root);
    let first = persist(&host, &root, "arm64,riscv64").ok();
    first.clone().says("installing: arm64 OK");
    let shown = root.join(RULES);
    first.says(&format!("persisting: {} OK", shown.display()));
    host.runs_arm64();
    let entry = host.entry("qemu-aarch64").unwrap();
    assert!(
        entry.contains("interpreter /var/lib/binfmt/qemu-aarch64\n"),
        "{entry}"
    );

    // what a boot would register is what there is
    let table = host.table();
    let rules = fs::read(root.join(RULES)).unwrap();
    let line = rules.split(|byte| *byte == b'\n').nth(1).unwrap();
    host.sh("echo -1 >/proc/sys/fs/binfmt_misc/qemu-aarch64")
        .ok();
    let chroot = format!(
        "mount --rbind /proc {0}/proc; chroot {0} /busybox sh -c 'cat >/proc/sys/fs/binfmt_misc/register'",
        root.display()
    );
    fs::create_dir(root.join("proc")).unwrap();
    host.copy(&harness::program("amd64"), &root.join("busybox"));
    host.sh_with(&chroot.replace("cat", "/busybox cat"), line)
        .ok();
    assert_eq!(host.entry("qemu-aarch64"), Some(entry), "{table}");
    host.runs_arm64();
    host.sh(&format!("umount -l {}/proc", root.display())).ok();
    fs::remove_dir(root.join("proc")).unwrap();
    fs::remove_file(root.join("busybox")).unwrap();

    // the record is one that sha256sum(1) understands
    host.sh(&format!(
        "cd {0}; sed 's|  /|  |' {RECORD} | sha256sum --check --strict --quiet",
        root.display()
    ))
    .ok();

    let after = contents(&host, &root);
    let again = persist(&host, &root, "arm64,riscv64").ok();
    again.says("already installed").says("already there");
    assert_eq!(contents(&host, &root), after);

    unpersist(&host, &root)
        .ok()
        .says(&format!("unpersisting: {} OK", shown.display()));
    assert_eq!(contents(&host, &root), before);
    // what runs now is another matter
    host.runs_arm64();
    unpersist(&host, &root).ok().says("nothing found");
}

#[test]
fn newer_emulators_take_the_place_of_older_ones_and_go_all_the_same() {
    let host = Host::new();
    let root = root(&host);
    let before = contents(&host, &root);
    host.call(&["--install", "arm64", "--persist", shown(&root)])
        .emulators(&old_emulators())
        .run()
        .ok();
    persist(&host, &root, "arm64")
        .ok()
        .says("upgraded qemu-aarch64 7.");
    let mode = fs::metadata(root.join(EMULATOR))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o755);
    unpersist(&host, &root).ok();
    assert_eq!(contents(&host, &root), before);
}

#[test]
fn what_others_have_written_or_changed_is_theirs() {
    let host = Host::new();
    let root = root(&host);
    fs::create_dir(root.join("etc/binfmt.d")).unwrap();
    fs::write(root.join(RULES), "# the administrator's\n").unwrap();
    let before = fs::read(root.join(RULES)).unwrap();
    persist(&host, &root, "arm64").ends_saying(&["it is there, and not of --persist", "--force"]);
    assert_eq!(fs::read(root.join(RULES)).unwrap(), before);
    unpersist(&host, &root).ok();
    assert_eq!(fs::read(root.join(RULES)).unwrap(), before);
    assert!(!root.join("var").exists());

    host.binfmt(&["--force", "--install", "arm64", "--persist", shown(&root)])
        .ok();
    fs::write(root.join(RULES), "# changed since\n").unwrap();
    unpersist(&host, &root).ends_saying(&["was changed since", "remove it by hand"]);
    assert!(root.join(RULES).exists());
    assert!(!root.join(EMULATOR).exists());
}

#[test]
fn only_a_host_that_reads_rules_at_boot_gets_some() {
    let host = Host::new();
    let empty = host.folder("empty", &[]);
    persist(&host, &empty, "arm64").ends_saying(&["nothing in ", "reads /etc/binfmt.d at boot"]);
    persist(&host, Path::new("/nowhere"), "arm64")
        .ends_saying(&["/nowhere cannot be entered", "docker run -v /:/nowhere"]);
    assert_eq!(host.entries(), [""; 0]);
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
    for words in [
        &["--persist", "/"][..],
        &["--persist", "/", "--hold", "--install", "arm64"],
        &["--persist", "/", "--unpersist", "/", "--install", "arm64"],
    ] {
        host.binfmt(words).ends(2);
    }
}

#[test]
fn an_emulator_that_does_not_work_leaves_nothing() {
    let host = Host::new();
    let root = root(&host);
    let before = contents(&host, &root);
    let folder = host.folder("folder", &[("qemu-arm", emulators())]);
    // it says its version, and runs nothing
    host.compile_emulator(&folder.join("qemu-aarch64"), "return 3;");
    host.call(&["--install", "arm64", "--persist", shown(&root)])
        .emulators(&folder)
        .run()
        .ends(1);
    assert_eq!(contents(&host, &root), before);

    // the other one does
    host.call(&["--install", "all", "--persist", shown(&root)])
        .emulators(&folder)
        .run()
        .ends(1);
    assert_eq!(host.entries(), ["qemu-arm"]);
    assert!(root.join("etc/binfmt.d/qemu-arm.conf").exists());
    assert!(!root.join(EMULATOR).exists() && !root.join(RULES).exists());
}

#[test]
fn a_full_disk_is_told_and_what_is_there_works() {
    let host = Host::new();
    let root = root(&host);
    // inside and outside it has the same path, and the same files only inside
    host.sh(&format!(
        "mkdir {0}/var; mount -t tmpfs -o size=20m none {0}/var",
        root.display()
    ))
    .ok();
    persist(&host, &root, "arm64,arm")
        .ends(1)
        .says("arm64 OK")
        .says("No space left on device");
    host.runs_arm64();
    let inside = host.path(&root);
    assert!(inside.join("etc/binfmt.d/qemu-aarch64.conf").exists());
    assert!(!inside.join("etc/binfmt.d/qemu-arm.conf").exists());
    assert!(!inside.join("var/lib/binfmt/qemu-arm").exists());
    assert!(!inside.join("var/lib/binfmt/qemu-arm.new").exists());
}

#[test]
fn the_hosts_links_lead_to_where_they_do_on_the_host() {
    let host = Host::new();
    let root = root(&host);
    fs::create_dir_all(root.join("data/var")).unwrap();
    symlink("/data/var", root.join("var")).unwrap();
    persist(&host, &root, "arm64").ok();
    assert!(root.join("data/var/lib/binfmt/qemu-aarch64").is_file());
    assert!(!Path::new("/data").exists());
    unpersist(&host, &root).ok();
    assert!(!root.join("data/var/lib").exists());
}

#[test]
fn a_record_that_is_none_is_not_acted_upon() {
    let host = Host::new();
    let root = root(&host);
    persist(&host, &root, "arm64").ok();
    fs::write(root.join(RECORD), "rubbish\n").unwrap();
    unpersist(&host, &root).ends_saying(&["persisted is not as binfmt wrote it"]);
    assert!(root.join(EMULATOR).exists());
}

/// A folder with an emulator of arm64 that says its version, and runs nothing.
fn broken(host: &Host) -> PathBuf {
    let folder = host.folder("broken", &[]);
    host.compile_emulator(&folder.join("qemu-aarch64"), "return 3;");
    folder
}

#[test]
fn a_failed_upgrade_leaves_what_the_next_boot_needs() {
    let host = Host::new();
    let root = root(&host);
    persist(&host, &root, "arm64").ok();
    let before = contents(&host, &root);
    for options in [&[][..], &["--keep"]] {
        let call = ["--install", "arm64", "--persist", shown(&root)];
        host.call(&[options, &call].concat())
            .emulators(&broken(&host))
            .run()
            .ends(1);
        assert_eq!(contents(&host, &root), before, "{options:?}");
    }
    host.runs_arm64();
}

#[test]
fn what_is_kept_is_not_persisted_and_named() {
    let host = Host::new();
    let root = root(&host);
    let before = contents(&host, &root);
    host.binfmt(&["--install", "arm64"]).ok();
    host.binfmt(&["--keep", "--install", "arm64", "--persist", shown(&root)])
        .ends_saying(&["arm64 is not persisted", "is kept"]);
    assert_eq!(contents(&host, &root), before);
}

#[test]
fn a_reset_that_cannot_copy_takes_nothing_away() {
    let host = Host::new();
    let root = root(&host);
    host.binfmt(&["--install", "arm64,arm"]).ok();
    let table = host.table();
    fs::write(root.join("var"), "in the way").unwrap();
    host.binfmt(&["--reset", "--install", "arm64", "--persist", shown(&root)])
        .ends_saying(&["not reset", "Not a directory"]);
    assert_eq!(host.table(), table);
}

/// Killed at each call by which it makes, writes or renames something there.
#[test]
fn killed_anywhere_it_leaves_nothing_that_is_not_taken_back() {
    let host = Host::new();
    let root = root(&host);
    let before = contents(&host, &root);
    let mut kills = 0;
    for call in ["mkdir", "rename", "link", "unlink", "fchmod", "fsync"] {
        for nth in 1.. {
            let inject = format!("inject=/^{call}:signal=KILL:when={nth}");
            let killed = host
                .program("strace")
                .args(["-f", "-qq", "-o", "/dev/null"])
                .args([
                    "-e",
                    &format!("trace=/^{call}"),
                    "-e",
                    &inject,
                    harness::BINFMT,
                ])
                .args(["--install", "arm64", "--persist", shown(&root)])
                .env("QEMU_BINARY_PATH", emulators())
                .run();
            unpersist(&host, &root).ok();
            // a directory that was just made may be empty, and not yet in the record
            host.sh(&format!(
                "cd {}; rmdir var/lib/binfmt var/lib var 2>/dev/null || :",
                root.display()
            ))
            .ok();
            assert_eq!(contents(&host, &root), before, "{call} {nth}");
            if killed.status == 0 {
                break;
            }
            kills += 1;
        }
    }
    assert!(kills >= 12, "only {kills} kills");
}

#[test]
fn calls_at_once_wait_for_each_other() {
    let host = Host::new();
    let root = root(&host);
    let before = contents(&host, &root);
    thread::scope(|scope| {
        for list in ["arm64", "arm", "riscv64", "arm64,arm"] {
            scope.spawn(|| persist(&host, &root, list).ok());
        }
    });
    for name in ["qemu-aarch64", "qemu-arm", "qemu-riscv64"] {
        assert!(
            root.join(format!("etc/binfmt.d/{name}.conf")).exists(),
            "{name}"
        );
    }
    thread::scope(|scope| {
        scope.spawn(|| persist(&host, &root, "arm64"));
        scope.spawn(|| unpersist(&host, &root));
    });
    unpersist(&host, &root).ok();
    assert_eq!(contents(&host, &root), before);
}

#[test]
fn whoever_calls_it_only_root_writes_there() {
    let host = Host::new();
    let root = root(&host);
    for (umask, all) in [("0", 0o777), ("077", 0o700)] {
        host.sh(&format!(
            "umask {umask}; QEMU_BINARY_PATH='{}' '{}' --install arm64 --persist '{}'",
            emulators().display(),
            harness::BINFMT,
            root.display()
        ))
        .ok();
        for dir in ["etc/binfmt.d", "var/lib/binfmt"] {
            let mode = fs::metadata(root.join(dir)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o755, "{dir} with {all:o}");
        }
        unpersist(&host, &root).ok();
    }
}

#[test]
fn what_is_no_file_is_not_waited_for_nor_replaced() {
    let host = Host::new();
    let root = root(&host);
    fs::create_dir_all(root.join("etc/binfmt.d")).unwrap();
    // as systemd has files masked
    symlink("/dev/null", root.join(RULES)).unwrap();
    persist(&host, &root, "arm64").ends_saying(&["it is there, and not of --persist"]);
    assert_eq!(
        fs::read_link(root.join(RULES)).unwrap(),
        Path::new("/dev/null")
    );
    assert!(!root.join("var").exists());

    fs::create_dir_all(root.join("var/lib/binfmt")).unwrap();
    host.sh(&format!("mkfifo {}", root.join(RECORD).display()))
        .ok();
    persist(&host, &root, "arm64").ends(1).says("persisted");
    unpersist(&host, &root).ends(1).says("persisted");
}

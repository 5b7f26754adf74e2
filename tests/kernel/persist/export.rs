//! What `--export` writes into a directory, and `--unpersist` takes back.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::harness::{BINFMT, Host, MOUNT_POINT, Output, emulators};

/// A booted host: it has processes of its own, of which the first has the same root directory, and has what systemd leaves.
fn booted() -> Host {
    let setup = format!(
        "mount -t proc proc /proc; mount -t binfmt_misc binfmt_misc {MOUNT_POINT}
         mount -t tmpfs none /run; mkdir -p /run/systemd/system"
    );
    let namespaces = ["--user", "--map-root-user", "--mount", "--pid", "--fork"];
    let host = Host::with(&namespaces, &setup);
    host.binfmt(&["--install", "arm64"]).ok();
    host
}

fn export(host: &Host, dir: &Path, options: &[&str]) -> Output {
    let dir = dir.to_str().expect("a path that is text");
    host.binfmt(&[options, &["--export", dir]].concat())
}

fn take_back(host: &Host, dir: &Path) -> Output {
    host.binfmt(&["--unpersist", dir.to_str().expect("a path that is text")])
}

fn folder(host: &Host) -> (PathBuf, PathBuf) {
    let dir = host.folder("rules", &[]);
    let file = dir.join("qemu-aarch64.conf");
    (dir, file)
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).expect("a folder").next().is_none()
}

#[test]
fn what_was_exported_is_replaced_by_the_next_call_and_taken_back() {
    let host = booted();
    let (dir, file) = folder(&host);
    let ok = format!("exporting: {} OK", file.display());
    export(&host, &dir, &["--dry-run"]).ok().prints(&format!("would export: {}\n", file.display()));
    assert!(is_empty(&dir));
    export(&host, &dir, &[]).ok().says(&ok);
    export(&host, &dir, &[]).ok().says("already there");
    host.binfmt(&["--uninstall", "all"]).ok();
    host.sh(&format!("sed 1d '{}' >/proc/sys/fs/binfmt_misc/register", file.display())).ok();
    host.runs_arm64();
    host.binfmt(&["--credentials", "no", "--install", "arm64"]).ok();
    let first = fs::read(&file).unwrap();
    export(&host, &dir, &[]).ok().says(&ok);
    assert_ne!(fs::read(&file).unwrap(), first);

    fs::write(dir.join("other.conf"), "# somebody else's\n").unwrap();
    take_back(&host, &dir).ok().says(&format!("unpersisting: {} OK", file.display()));
    assert!(dir.join("other.conf").exists());
    fs::remove_file(dir.join("other.conf")).unwrap();
    assert!(is_empty(&dir));
    take_back(&host, &dir).ok().says("nothing found");
}

/// The host registers as root whatever is there at its boot.
#[test]
fn a_folder_or_file_that_others_can_change_is_refused() {
    let host = booted();
    let (dir, file) = folder(&host);
    for (place, mode, remedy) in
        [(&dir, "777", "chmod go-w"), (&dir, "1777", "chmod go-w"), (&file, "666", "chmod go-w")]
    {
        host.sh(&format!("chmod {mode} '{}'", place.display())).ok();
        for options in [&["--dry-run"][..], &[]] {
            export(&host, &dir, options).ends(1).ends_saying(&["can be replaced by any user", remedy]);
        }
        host.sh(&format!("{remedy},-t '{}'", place.display())).ok();
        export(&host, &dir, &[]).ok();
    }
}

#[test]
fn what_others_have_in_the_place_of_an_exported_file_is_theirs() {
    let host = booted();
    let (dir, file) = folder(&host);
    let victim = host.scratch().join("victim");
    for put in ["echo '# the administrator' >", "ln -s /dev/null", "ln -s victim", "mkfifo", "mkdir"] {
        host.sh(&format!(
            "cd '{}'; rm -rf qemu-aarch64.conf ../victim; : >../victim; {put} qemu-aarch64.conf",
            dir.display()
        ))
        .ok();
        let before = fs::symlink_metadata(&file).unwrap();
        let refused = export(&host, &dir, &[]).ends(1);
        let kind = if before.is_dir() { "directory" } else { "not written by --export" };
        refused.ends_saying(&[file.to_str().unwrap(), kind, "remove it"]);
        let after = fs::symlink_metadata(&file).unwrap();
        assert_eq!(
            (before.modified().unwrap(), before.file_type()),
            (after.modified().unwrap(), after.file_type()),
            "{put}"
        );
        assert_eq!(fs::read(&victim).unwrap(), b"", "{put}");
        take_back(&host, &dir).ok();
        assert!(fs::symlink_metadata(&file).is_ok(), "{put}");
        if !before.is_dir() {
            export(&host, &dir, &["--force"]).ok();
            assert!(fs::symlink_metadata(&file).unwrap().is_file(), "{put}");
            assert_eq!(fs::read(&victim).unwrap(), b"", "{put}");
        }
    }
    // what was ours, until somebody changed it
    fs::remove_dir(&file).unwrap();
    export(&host, &dir, &[]).ok();
    host.sh(&format!("echo '# more' >>'{}'", file.display())).ok();
    export(&host, &dir, &[]).ends_saying(&["not written by --export"]);
    take_back(&host, &dir).ends_saying(&["was changed since", "remove it by hand"]);
    assert!(file.exists());
}

/// Beside the file there is one of a fixed name no more, and what was there is neither followed nor waited for.
#[test]
fn what_lies_beside_an_exported_file_is_not_touched() {
    let host = booted();
    for put in ["ln -s ../victim", "mkfifo", "mkdir"] {
        let (dir, file) = folder(&host);
        let victim = host.scratch().join("victim");
        host.sh(&format!(
            "cd '{0}'; rm -rf {0}/*; : >../victim; {put} qemu-aarch64.conf.new; {put} .qemu-aarch64.conf.binfmt-new",
            dir.display()
        ))
        .ok();
        for (umask, again) in [("0", ""), ("077", "--credentials no --install arm64")] {
            host.sh(&format!(
                "umask {umask}; QEMU_BINARY_PATH='{}' '{BINFMT}' {again} --export '{}'",
                emulators().display(),
                dir.display()
            ))
            .ok();
            assert!(fs::symlink_metadata(&file).unwrap().is_file());
            let mode = fs::metadata(&file).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o644, "{umask}");
            fs::remove_file(&file).unwrap();
        }
        assert_eq!(fs::read(&victim).unwrap(), b"", "{put}");
        host.sh(&format!("cd '{}'; rm -rf .q* *", dir.display())).ok();
    }
}

#[test]
fn a_mask_or_another_file_of_the_host_that_undoes_an_export_is_named() {
    let host = booted();
    let root = super::root(&host);
    let dir = root.join("usr/lib/binfmt.d");
    fs::create_dir_all(&dir).unwrap();
    export(&host, &dir, &[]).ok();
    symlink("/dev/null", root.join("etc/systemd/system/systemd-binfmt.service")).unwrap();
    export(&host, &dir, &[]).ends_saying(&["is masked by", "systemctl unmask"]);
    fs::remove_file(root.join("etc/systemd/system/systemd-binfmt.service")).unwrap();
    let masked = root.join("etc/binfmt.d/qemu-aarch64.conf");
    fs::create_dir(root.join("etc/binfmt.d")).unwrap();
    symlink("/dev/null", &masked).unwrap();
    export(&host, &dir, &[]).ends_saying(&[&format!("{} is read in place of", masked.display())]);
    fs::remove_file(masked).unwrap();
    export(&host, &dir, &[]).ok();
}

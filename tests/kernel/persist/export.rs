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
fn a_dry_run_says_that_nothing_can_be_written_or_removed_there() {
    let host = booted();
    let (dir, _) = folder(&host);
    let mount = |option: &str| {
        host.sh(&format!("mount --bind {0} {0}; mount -o remount,bind,{option} {0}", dir.display())).ok()
    };
    mount("ro");
    export(&host, &dir, &["--dry-run"]).ends(1).prints("would not export").ends_saying(&["EROFS"]);
    mount("rw");
    export(&host, &dir, &[]).ok();
    mount("ro");
    let dry = host.binfmt(&["--dry-run", "--unpersist", dir.to_str().unwrap()]);
    dry.ends(1).prints("would not unpersist").ends_saying(&["EROFS"]);
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

#[test]
fn a_dry_run_exports_what_it_would_install() {
    let host = booted();
    host.binfmt(&["--uninstall", "all"]).ok();
    let (dir, file) = folder(&host);
    let line = file.display();
    export(&host, &dir, &["--dry-run", "--install", "arm64"]).ok().prints(&format!("would export: {line}\n"));
    assert!(is_empty(&dir));
    export(&host, &dir, &["--install", "arm64"]).ok().says(&format!("exporting: {line} OK"));
    // and nothing that it would have removed before
    fs::remove_file(&file).unwrap();
    export(&host, &dir, &["--dry-run", "--uninstall", "arm64"]).ok().prints_no("export");
    export(&host, &dir, &["--uninstall", "arm64"]).ok().never_says("export");
}

/// The host registers as root whatever is there at its boot.
#[test]
fn a_folder_or_file_that_others_can_change_is_refused() {
    let host = booted();
    let (dir, file) = folder(&host);
    for (place, mode, remedy) in
        [(&dir, "777", "chmod go-w"), (&dir, "1777", "only root may write to"), (&file, "666", "chmod go-w")]
    {
        host.sh(&format!("chmod {mode} '{}'", place.display())).ok();
        for options in [&["--dry-run"][..], &[]] {
            export(&host, &dir, options).ends(1).ends_saying(&["can be replaced by any user", remedy]);
        }
        host.sh(&format!("chmod go-w,-t '{}'", place.display())).ok();
        export(&host, &dir, &[]).ok();
    }
}

/// Nor does one that users share, such as `/tmp`, lose its mode.
#[test]
fn a_folder_that_users_share_is_refused_as_it_is() {
    let host = booted();
    let shared = host.folder("shared", &[]);
    host.sh(&format!("chmod 1777 '{}'", shared.display())).ok();
    let words = ["can be replaced by any user", "name a folder that only root may write to"];
    export(&host, &shared, &[]).ends(1).ends_saying(&words).never_says("chmod");
    host.sh(&format!("mkdir -m 755 '{}/own'", shared.display())).ok();
    export(&host, &shared.join("own"), &[]).ok();
}

/// A link of another user leads to wherever that user wants.
#[test]
fn a_folder_by_way_of_a_link_that_others_can_change_is_refused() {
    let host = booted();
    let (dir, _) = folder(&host);
    let open = host.folder("open", &[]);
    let link = open.join("link");
    host.sh(&format!("chmod 777 '{}'; ln -s '{}' '{}'", open.display(), dir.display(), link.display())).ok();
    for options in [&["--dry-run"][..], &[]] {
        export(&host, &link, options).ends(1).ends_saying(&["can be replaced by any user", "chmod go-w"]);
    }
    take_back(&host, &link).ends(1).ends_saying(&["can be replaced by any user", "chmod go-w"]);
    assert!(is_empty(&dir));
    host.sh(&format!("chmod 755 '{}'", open.display())).ok();
    export(&host, &link, &[]).ok();
    assert!(!is_empty(&dir));
    take_back(&host, &link).ok();
    assert!(is_empty(&dir));
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

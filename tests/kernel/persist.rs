//! What `--persist` writes into a host's root directory, and `--unpersist` takes back.
//!
//! That a host registers it at its boot is shown in `tests/engine/systemd.rs`; here hosts are folders with what makes them look
//! like one.

mod boot;
mod export;
mod owners;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::harness::fake::needs_emulators;
use crate::harness::{BINFMT, Host, Output, emulators, old_emulators, program};

const EMULATOR: &str = "var/lib/binfmt/qemu-aarch64";
const RULES: &str = "etc/binfmt.d/qemu-aarch64.conf";
const RECORD: &str = "var/lib/binfmt/persisted";
const LOCK: &str = "etc/.binfmt-persist.lock";
/// The emulator until it has passed its trial, and as a call names it, which has its directory open.
const NEW: &str = ".qemu-aarch64.binfmt-new";
/// By which something there is made, written or renamed.
const CALLS: [&str; 6] = ["mkdir", "rename", "link", "unlink", "fchmod", "fsync"];

/// A root directory with systemd's program, and the unit that starts it at boot.
fn root(host: &Host) -> PathBuf {
    let root = host.scratch().join("root");
    let make = "mkdir -p etc/systemd/system usr/lib/systemd/system/sysinit.target.wants; cd usr/lib/systemd
        echo program >systemd-binfmt; echo '[Unit]' | tee system/systemd-binfmt.service >system/sysinit.target
        ln -s ../systemd-binfmt.service system/sysinit.target.wants/systemd-binfmt.service";
    host.sh(&format!("mkdir '{0}'; cd '{0}'; {make}", root.display())).ok();
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

fn persist_old(host: &Host, root: &Path) -> Output {
    host.call(&["--install", "arm64", "--persist", shown(root)]).emulators(&old_emulators()).run()
}

/// The same call as [`persist`] with arm64, where system calls that begin with `call` go wrong, as `strace(1)` writes it; or
/// only those on `paths`. It counts them anew in each thread. What they were is in the log.
fn persist_with(host: &Host, root: &Path, call: &str, how: &str, paths: &[&str]) -> Output {
    let trace = format!("trace=/^{call}");
    let inject = format!("inject=/^{call}:{how}");
    let paths = paths.iter().flat_map(|path| ["-P", path]);
    host.program("strace")
        .args(["-f", "-qq", "-o", shown(&log(host))])
        .args(["-e", &trace, "-e", &inject])
        .args(paths)
        .args([crate::harness::BINFMT, "--install", "arm64"])
        .args(["--persist", shown(root)])
        .env("QEMU_BINARY_PATH", emulators())
        .run()
}

fn log(host: &Host) -> PathBuf {
    host.scratch().join("log")
}

/// What an upgrade begins with: an older emulator that was persisted; what it has left if it was killed before the new
/// one was in its place; and if it was killed just after that. As copies of the root directory.
fn to_upgrade(host: &Host, root: &Path) -> [PathBuf; 3] {
    let states = ["settled", "staged", "unsettled"].map(|name| host.scratch().join(name));
    let save = |state: &Path| host.sh(&format!("cp -a {} {}", root.display(), state.display()));
    persist_old(host, root).ok();
    save(&states[0]).ok();
    persist_with(host, root, "rename", "signal=KILL", &[NEW]).ends(137);
    assert!(root.join(EMULATOR).with_file_name(NEW).exists());
    save(&states[1]).ok();
    // the thread that renames it then renames the record
    persist_with(host, root, "rename", "signal=KILL:when=2", &[]).ends(137);
    assert!(!root.join(EMULATOR).with_file_name(NEW).exists());
    save(&states[2]).ok();
    states
}

/// As [`to_upgrade`] saved it, with an empty table.
fn restore(host: &Host, state: &Path, root: &Path) {
    let (state, root) = (state.display(), root.display());
    let empty = "echo -1 >/proc/sys/fs/binfmt_misc/status";
    host.sh(&format!("rm -r {root}; cp -a {state} {root}; {empty}")).ok();
}

/// The next call repairs what another one left, and what it wrote is taken back.
fn is_mended(host: &Host, root: &Path, before: &str, what: &str) {
    let persisted = persist(host, root, "arm64");
    assert_eq!(persisted.status, 0, "{what}: {persisted}");
    let new = emulators().join("qemu-aarch64");
    let (there, new) = (root.join(EMULATOR), new.display());
    host.sh(&format!("cmp {} {new}", there.display())).ok();
    host.sh(&format!(
        "cd {0}; sed 's|  /|  |' {RECORD} | sha256sum --check --strict --quiet; ! find . -name '.*' ! -name . | grep .",
        root.display()
    ))
    .ok();
    host.runs_arm64();
    unpersist(host, root).ok();
    assert_eq!(contents(host, root), before, "{what}");
}

/// Every file and directory below, with what is in it.
fn contents(host: &Host, root: &Path) -> String {
    let root = root.display();
    host.sh(&format!("cd {root}; find . | sort; find . -type f | sort | xargs sha256sum")).ok().stdout
}

#[test]
fn what_was_written_is_taken_back_to_the_last_directory() {
    needs_emulators!();
    let host = Host::new();
    let root = root(&host);
    let before = contents(&host, &root);
    let first = persist(&host, &root, "arm64,riscv64").ok();
    first.clone().says("installing: arm64 OK");
    let shown = root.join(RULES);
    first.says(&format!("persisting: {} OK", shown.display()));
    host.runs_arm64();
    let entry = host.entry("qemu-aarch64").unwrap();
    assert!(entry.contains("interpreter /var/lib/binfmt/qemu-aarch64\n"), "{entry}");

    // what a boot would register is what there is
    let table = host.table();
    let rules = fs::read(root.join(RULES)).unwrap();
    let line = rules.split(|byte| *byte == b'\n').nth(1).unwrap();
    host.sh("echo -1 >/proc/sys/fs/binfmt_misc/qemu-aarch64").ok();
    let chroot = format!(
        "mount --rbind /proc {0}/proc; chroot {0} /busybox sh -c 'cat >/proc/sys/fs/binfmt_misc/register'",
        root.display()
    );
    fs::create_dir(root.join("proc")).unwrap();
    host.copy(&crate::harness::program("amd64"), &root.join("busybox"));
    host.sh_with(&chroot.replace("cat", "/busybox cat"), line).ok();
    assert_eq!(host.entry("qemu-aarch64"), Some(entry), "{table}");
    host.runs_arm64();
    host.sh(&format!("umount -l {}/proc", root.display())).ok();
    fs::remove_dir(root.join("proc")).unwrap();
    fs::remove_file(root.join("busybox")).unwrap();

    // the record is one that sha256sum(1) understands
    host.sh(&format!("cd {0}; sed 's|  /|  |' {RECORD} | sha256sum --check --strict --quiet", root.display())).ok();

    let after = contents(&host, &root);
    persist(&host, &root, "arm64,riscv64").ok().says("already installed").says("already there");
    assert_eq!(contents(&host, &root), after);

    unpersist(&host, &root).ok().says(&format!("unpersisting: {} OK", shown.display()));
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
    persist_old(&host, &root).ok();
    persist(&host, &root, "arm64").ok().says("upgraded qemu-aarch64 7.");
    let mode = fs::metadata(root.join(EMULATOR)).unwrap().permissions().mode();
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
    persist(&host, &root, "arm64").ends_saying(&["it exists and was not written by --persist", "--force"]);
    assert_eq!(fs::read(root.join(RULES)).unwrap(), before);
    unpersist(&host, &root).ok();
    assert_eq!(fs::read(root.join(RULES)).unwrap(), before);
    assert!(!root.join("var").exists());

    host.binfmt(&["--force", "--install", "arm64", "--persist", shown(&root)]).ok();
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

/// The word of multiarch's option, and the directory of this one.
#[test]
fn options_that_are_called_almost_the_same_are_told_apart() {
    let host = Host::new();
    for (words, said) in [
        (&["--install", "arm64", "--persist", "yes"][..], "--persistent yes"),
        (&["--install", "arm64", "--persistent", "/host"], "did you mean --persist /host?"),
        (&["--install", "arm64", "-p", "no"], "yes is the only value"),
    ] {
        host.binfmt(words).ends(2).ends_saying(&[said]);
        assert_eq!(host.entries(), [""; 0]);
    }
    host.binfmt(&["--install", "arm64", "--persistent", "yes"]).ok();
}

/// Not even a lock; and what is told is what then happens.
#[test]
fn a_dry_run_tells_what_would_be_written_and_writes_nothing() {
    let host = Host::new();
    let root = root(&host);
    let before = contents(&host, &root);
    let dry = |words: &[&str]| {
        let table = host.table();
        let before = contents(&host, &root);
        let output = host.binfmt(&[&["--dry-run"], words].concat());
        assert_eq!(contents(&host, &root), before, "{words:?}");
        assert_eq!(host.table(), table, "{words:?}");
        output
    };
    let install = ["--install", "arm64", "--persist", shown(&root)];
    let files = [EMULATOR, RULES].map(|file| root.join(file));
    let files = files.each_ref().map(|file| shown(file));
    let planned = dry(&install).ok();
    for file in files {
        planned.clone().prints(&format!("would persist: {file}\n"));
    }
    let folder = host.folder("static", &[]);
    host.copy(&emulators().join("qemu-aarch64"), &folder.join("qemu-aarch64-static"));
    let called_static = host.call(&[&["--dry-run"], &install[..]].concat()).emulators(&folder).run().ok();
    called_static.prints(&format!("would persist: {}\n", files[0]));
    persist(&host, &root, "arm64").ok();
    let planned = dry(&install).ok();
    for file in files {
        planned.clone().prints(&format!("would not persist: {file} already there"));
    }
    let planned = dry(&["--unpersist", shown(&root)]).ok();
    for file in files {
        planned.clone().prints(&format!("would unpersist: {file}\n"));
    }
    fs::write(root.join(RULES), "# somebody else's\n").unwrap();
    dry(&install).ends(1).prints("not written by --persist");
    dry(&["--unpersist", shown(&root)]).ends_saying(&["was changed since"]);
    unpersist(&host, &root).ends(1);
    fs::remove_file(root.join(RULES)).unwrap();
    fs::remove_dir(root.join("etc/binfmt.d")).unwrap();
    assert_eq!(contents(&host, &root), before);
    symlink("/dev/null", root.join("etc/systemd/system/systemd-binfmt.service")).unwrap();
    dry(&install).ends_saying(&["is masked by"]);
}

#[test]
fn what_was_taken_back_is_told_before_something_fails() {
    let host = Host::new();
    let root = root(&host);
    persist(&host, &root, "arm64").ok();
    // the directory is only listed for what --export may have written there
    let strace = ["-f", "-qq", "-o", "/dev/null", "-e", "trace=/^getdents", "-e", "inject=/^getdents:error=EIO", "-P"];
    let unpersist = [shown(&root), BINFMT, "--unpersist", shown(&root)];
    let output = host.program("strace").args(strace).args(unpersist).run().ends(1);
    output.says("qemu-aarch64 OK\n").says("qemu-aarch64.conf OK\n").ends_saying(&["EIO"]);
    assert!(!root.join(EMULATOR).exists());
}

/// An older copy that only the host has is tried with the others.
#[test]
fn a_dry_run_tries_emulators_beside_those_that_only_the_host_has() {
    let host = Host::new();
    let root = root(&host);
    persist(&host, &root, "s390x").ok();
    host.binfmt(&["--uninstall", "all"]).ok();
    let folder = host.folder("others", &[("qemu-aarch64", emulators())]);
    host.compile_emulator(&folder.join("qemu-riscv64"), "return 77;");
    let install = ["--dry-run", "--install", "all", "--persist", shown(&root)];
    let dry = || host.call(&install).emulators(&folder).run();
    dry().ends(1).prints("would install: s390x").ends_saying(&["riscv64", "exit status 77"]);
    host.compile_emulator(&root.join("var/lib/binfmt/qemu-s390x"), "return 78;");
    dry().ends(1).prints("would not install: s390x wrong answer (exit status 78)").prints("would install: arm64");
}

/// The emulators on the host are other files than those that the handlers have.
#[test]
fn a_dry_run_tells_what_becomes_of_handlers_from_elsewhere() {
    let host = Host::new();
    let root = root(&host);
    host.binfmt(&["--install", "arm64"]).ok();
    let install = ["--install", "arm64,s390x", "--persist", shown(&root)];
    let replaced = ", replaced qemu-aarch64)";
    let planned = host.binfmt(&[&["--dry-run"], &install[..]].concat()).ok().prints(replaced);
    host.binfmt(&install).ok().says(replaced);
    let persisted = |output: &str, word: &str| {
        let lines = output.lines().filter_map(|line| line.strip_prefix(word));
        lines.map(|line| line.trim_end_matches(" OK").to_owned()).collect::<Vec<_>>()
    };
    let again = host.binfmt(&[&["--dry-run"], &install[..]].concat()).ok();
    again.prints("would not install: arm64 already installed (qemu-aarch64)");
    let told = persisted(&planned.stdout, "would persist: ");
    assert_eq!(told.len(), 4, "{planned}");
    assert!(told.iter().all(|file| Path::new(file).exists()), "{planned}");

    // one that is left to another translator gets no rule, and so no copy
    let other = host.scratch().join("translator");
    host.binfmt(&["--uninstall", "all", "--unpersist", shown(&root)]).ok();
    host.translator(&other);
    host.register("rosetta", "aarch64", &other, "F");
    let install = ["--install", "arm64", "--persist", shown(&root)];
    let planned = host.binfmt(&[&["--dry-run"], &install[..]].concat()).ends(1);
    planned.prints("taken back").prints("would not persist: arm64 it is left to rosetta");
    host.binfmt(&install).ends(1).says("taken back").ends_saying(&["it is left to rosetta"]);
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
        .ends(1)
        .never_says("qemu-aarch64 OK")
        .says("does not run programs");
    assert_eq!(contents(&host, &root), before);

    // the other one does
    host.call(&["--install", "all", "--persist", shown(&root)]).emulators(&folder).run().ends(1);
    assert_eq!(host.entries(), ["qemu-arm"]);
    assert!(root.join("etc/binfmt.d/qemu-arm.conf").exists());
    assert!(!root.join(EMULATOR).exists() && !root.join(RULES).exists());
}

#[test]
fn a_full_disk_is_told_and_what_is_there_works() {
    needs_emulators!();
    let host = Host::new();
    let root = root(&host);
    // inside and outside it has the same path, and the same files only inside
    host.sh(&format!("mkdir {0}/var; mount -t tmpfs -o size=20m,mode=755 none {0}/var", root.display())).ok();
    persist(&host, &root, "arm64,arm")
        .ends(1)
        .says("arm64 OK")
        .says("No space left on device")
        .says("installing: arm not tried, since it is not persisted");
    host.runs_arm64();
    let inside = host.path(&root);
    assert!(inside.join("etc/binfmt.d/qemu-aarch64.conf").exists());
    assert!(!inside.join("etc/binfmt.d/qemu-arm.conf").exists());
    assert!(!inside.join("var/lib/binfmt/qemu-arm").exists());
    assert!(!inside.join("var/lib/binfmt/.qemu-arm.binfmt-new").exists());
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
    for text in [
        "rubbish\n",
        "aa  /etc/hostname\n",
        "aa  /etc/binfmt.d/../hostname\n",
        "aa  /etc/binfmt.d/..\n",
        "# made /srv\n",
        "# made \n",
    ] {
        fs::write(root.join(RECORD), text).unwrap();
        unpersist(&host, &root).ends_saying(&["persisted is not as binfmt wrote it"]);
    }
    assert!(root.join(EMULATOR).exists());
}

/// With the script that `OpenRC`'s service `binfmt` runs at boot, by Debian's shell and by the one of hosts that have `OpenRC`.
#[test]
fn openrc_registers_what_was_written() {
    needs_emulators!();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("build/openrc/binfmt.sh");
    assert!(script.exists(), "make test-material");
    for shell in ["sh".to_owned(), format!("'{}' ash", program("amd64").display())] {
        let host = Host::new();
        let root = root(&host);
        persist(&host, &root, "arm64,s390x").ok();
        host.binfmt(&["--uninstall", "all"]).ok();
        let boot = format!(
            "mount -t tmpfs none /var/lib; mkdir /var/lib/binfmt; mount --bind '{0}/var/lib/binfmt' /var/lib/binfmt
             {shell} '{1}' '{0}'/etc/binfmt.d/*.conf",
            root.display(),
            script.display()
        );
        host.sh(&boot).ok();
        let mut entries = host.entries();
        entries.sort();
        assert_eq!(entries, ["qemu-aarch64", "qemu-s390x"], "{shell}");
        host.binfmt(&["--status", "arm64,s390x"]).ok();
        host.runs_arm64();
    }
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
        host.call(&[options, &call].concat()).emulators(&broken(&host)).run().ends(1);
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
        .says("qemu-aarch64 taken back")
        .ends_saying(&["arm64 is not persisted", "is kept"]);
    assert_eq!(contents(&host, &root), before);
}

/// An install finds nothing to do, and the next boot could do nothing.
#[test]
fn what_works_here_and_not_from_its_new_place_is_not_persisted() {
    let host = Host::new();
    let root = root(&host);
    persist(&host, &root, "arm64").ok();
    let install = ["--install", "arm64", "--persist", shown(&root)];
    let var = root.join("var/lib/binfmt");
    host.sh(&format!("chmod o+w {}", var.display())).ok();
    host.binfmt(&install).ends(1).ends_saying(&["can be replaced by any user"]);
    host.sh(&format!("chmod o-w {0}; mount -t tmpfs -o noexec,mode=755 none {0}", var.display())).ok();
    host.binfmt(&install).ends(1).says("EACCES");
    assert!(!host.path(&var).join("qemu-aarch64").exists());
    host.runs_arm64();
    let dry = [&["--dry-run"], &install[..]].concat();
    host.binfmt(&dry)
        .ends(1)
        .prints("would not persist: arm64")
        .ends_saying(&["mounted noexec", "remount it with exec"]);
    host.sh(&format!("umount {}", var.display())).ok();
    host.binfmt(&dry).ok();
}

/// It would give its owner's rights to the programs of whoever starts them.
#[test]
fn a_copy_that_has_become_setuid_is_replaced() {
    let host = Host::new();
    let root = root(&host);
    persist(&host, &root, "arm64").ok();
    let copy = root.join(EMULATOR);
    host.sh(&format!("chmod u+s '{}'", copy.display())).ok();
    persist(&host, &root, "arm64").ok().never_says("qemu-aarch64 already there");
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o7777, 0o755);
    host.runs_arm64();
}

#[test]
fn a_dry_run_says_that_nothing_can_be_written_there() {
    let host = Host::new();
    let root = root(&host);
    let read_only =
        |dir: &Path| host.sh(&format!("mount --bind {0} {0}; mount -o remount,bind,ro {0}", dir.display())).ok();
    let install = ["--install", "arm64", "--persist", shown(&root)];
    let dry = [&["--dry-run"], &install[..]].concat();
    fs::create_dir(root.join("var")).unwrap();
    for dir in [root.join("var"), root.clone()] {
        read_only(&dir);
        for call in [&install[..], &dry] {
            host.binfmt(call).ends(1).ends_saying(&["EROFS"]);
        }
    }
}

/// Whose record is gone: what it wrote is still the same, byte for byte.
#[test]
fn what_is_there_already_is_taken_back_too() {
    let host = Host::new();
    let root = root(&host);
    persist(&host, &root, "arm64").ok();
    for lost in [RECORD, EMULATOR] {
        fs::remove_file(root.join(lost)).unwrap();
        if lost == EMULATOR {
            fs::remove_file(root.join(RECORD)).unwrap();
        }
        persist(&host, &root, "arm64").ok();
    }
    unpersist(&host, &root).ok();
    assert!(!root.join(EMULATOR).exists() && !root.join(RULES).exists());
    // which directories it made, only the record told
    assert!(!contents(&host, &root).contains("qemu"));
}

/// What cannot be replaced at all is no matter of force, and what is no file is not waited for.
#[test]
fn what_is_in_the_way_is_named() {
    let host = Host::new();
    let root = root(&host);
    fs::create_dir_all(root.join(EMULATOR)).unwrap();
    for force in [&[][..], &["--force"]] {
        let call = ["--install", "arm64", "--persist", shown(&root)];
        host.binfmt(&[&call, force].concat()).ends_saying(&["there is a directory of that name; remove it"]);
    }
    host.sh(&format!("mkfifo '{}'", root.join(LOCK).display())).ok();
    persist(&host, &root, "arm64").ends_saying(&[LOCK, "cannot be locked, since it is not a file; remove it"]);
}

/// As the incumbent left many hosts: with a handler for what the kernel runs by itself.
#[test]
fn what_needs_no_handler_is_not_persisted() {
    let host = Host::new();
    let root = root(&host);
    let folder = host.folder("folder", &[("qemu-aarch64", emulators())]);
    let old = folder.join("qemu-i386");
    host.copy(&emulators().join("qemu-i386"), &old);
    host.register("qemu-i386", "i386", &old, "POCF");
    host.call(&["--install", "all", "--persist", shown(&root)]).emulators(&folder).run().ok();
    assert!(root.join(EMULATOR).exists());
    assert!(!root.join("var/lib/binfmt/qemu-i386").exists());
}

#[test]
fn a_reset_that_cannot_copy_takes_nothing_away() {
    let host = Host::new();
    let root = root(&host);
    host.binfmt(&["--install", "arm64,arm"]).ok();
    let table = host.table();
    fs::write(root.join("var"), "in the way").unwrap();
    host.binfmt(&["--reset", "--install", "arm64", "--persist", shown(&root)])
        .ends_saying(&["not reset", "Not a directory (ENOTDIR): /var of that host; put a directory in its place"]);
    assert_eq!(host.table(), table);
}

#[test]
fn a_record_that_is_no_text_is_told_with_what_to_do() {
    let host = Host::new();
    let root = root(&host);
    persist(&host, &root, "arm64").ok();
    fs::write(root.join(RECORD), b"\xff").unwrap();
    for output in [persist(&host, &root, "riscv64"), unpersist(&host, &root)] {
        output.ends(1).ends_saying(&["persisted is not as binfmt wrote it: it is no text", "remove it, and the files"]);
    }
    fs::remove_file(root.join(RECORD)).unwrap();
    persist(&host, &root, "riscv64").ok();
}

/// Killed at each call by which it makes, writes or renames something there: in the thread that makes most of them, and where the
/// file of rules is written.
#[test]
fn killed_anywhere_it_leaves_nothing_that_is_not_taken_back() {
    let host = Host::new();
    let root = root(&host);
    let before = contents(&host, &root);
    let rules = ["etc/binfmt.d", RULES, "etc/binfmt.d/.qemu-aarch64.conf.binfmt-new"];
    // as the call names them in a directory that is open, and as its open files are called out here
    let names = |path: &str| path.rsplit('/').next().map(str::to_owned);
    let rules = rules.map(|path| [names(path).unwrap(), shown(&root.join(path)).to_owned()]);
    let rules: Vec<&str> = rules.as_flattened().iter().map(String::as_str).collect();
    for (paths, least) in [(&[][..], 12), (&rules, 4)] {
        let mut kills = 0;
        for call in CALLS {
            for nth in 1.. {
                let how = format!("signal=KILL:when={nth}");
                let killed = persist_with(&host, &root, call, &how, paths);
                unpersist(&host, &root).ok();
                // a directory that was just made may be empty, and not yet in the record
                host.sh(&format!(
                    "cd {}; rmdir var/lib/binfmt var/lib var etc/binfmt.d 2>/dev/null || :",
                    root.display()
                ))
                .ok();
                assert_eq!(contents(&host, &root), before, "{call} {nth} {paths:?}");
                if killed.status == 0 {
                    break;
                }
                kills += 1;
            }
        }
        assert!(kills >= least, "only {kills} kills at {paths:?}");
    }
}

#[test]
fn an_upgrade_killed_anywhere_is_repaired_by_the_next_call() {
    let host = Host::new();
    let root = root(&host);
    let before = contents(&host, &root);
    let mut kills = 0;
    for state in to_upgrade(&host, &root) {
        // of the others there are none, or none that matters
        for call in ["rename", "link", "unlink", "fsync"] {
            for nth in 1.. {
                restore(&host, &state, &root);
                let how = format!("signal=KILL:when={nth}");
                let killed = persist_with(&host, &root, call, &how, &[]);
                assert!(root.join(EMULATOR).exists() && root.join(RULES).exists());
                if killed.status == 0 {
                    break;
                }
                is_mended(&host, &root, &before, &format!("{call} {nth}, {}", state.display()));
                kills += 1;
            }
        }
    }
    assert!(kills >= 12, "only {kills} kills");
}

/// An emulator that no trial has seen is never left where the next boot takes it from, nor one that the record does not know.
#[test]
fn an_upgrade_that_does_not_reach_the_disk_leaves_the_former() {
    let host = Host::new();
    let root = root(&host);
    let before = contents(&host, &root);
    let emulator = root.join(EMULATOR);
    let old = fs::read(old_emulators().join("qemu-aarch64")).unwrap();
    let mut failures = Vec::new();
    let states = to_upgrade(&host, &root);
    for (state, is_tried) in states.iter().zip([false, false, true]) {
        for nth in 1.. {
            restore(&host, state, &root);
            let how = format!("error=EIO:when={nth}");
            let failed = persist_with(&host, &root, "fsync", &how, &[]);
            if failed.status == 0 {
                break;
            }
            let what = format!("fsync {nth}, {}: {failed}", state.display());
            let is_old = fs::read(&emulator).unwrap() == old;
            assert!(is_old || is_tried, "{what}");
            host.sh(&format!("cd {}; grep $(sha256sum <{EMULATOR} | cut -c-64) {RECORD}", root.display())).ok();
            is_mended(&host, &root, &before, &what);
            failed.says("EIO");
            failures.push((is_tried, nth));
        }
    }
    let expected = [(false, 1), (false, 2), (false, 3), (false, 1), (false, 2), (false, 3), (true, 1), (true, 2)];
    assert_eq!(failures, expected);
    restore(&host, &states[0], &root);
    persist_with(&host, &root, "rename", "error=EIO", &[NEW]).ends(1).says("EIO");
    assert!(fs::read(&emulator).unwrap() == old);
}

#[test]
fn what_does_not_reach_the_disk_leaves_nothing() {
    let host = Host::new();
    let root = root(&host);
    let before = contents(&host, &root);
    for nth in 1..=3 {
        persist_with(&host, &root, "fsync", &format!("error=EIO:when={nth}"), &[]).ends(1);
        assert_eq!(contents(&host, &root), before, "fsync {nth}");
    }
    persist_with(&host, &root, "rename", "error=EIO", &[NEW]).ends(1);
    assert_eq!(contents(&host, &root), before, "rename");
    let dir = root.join("etc/binfmt.d");
    let rules = dir.join(".qemu-aarch64.conf.binfmt-new");
    for path in [&dir, &rules] {
        let failed = persist_with(&host, &root, "fsync", "error=EIO", &[shown(path)]);
        failed.ends_saying(&["arm64 is not persisted", "EIO"]);
        assert_eq!(contents(&host, &root), before, "fsync of {}", path.display());
    }
}

#[test]
fn a_file_system_that_does_not_sync_directories_will_do() {
    let host = Host::new();
    let root = root(&host);
    let dirs = ["var/lib/binfmt", "etc/binfmt.d"].map(|dir| root.join(dir));
    let dirs = dirs.each_ref().map(|dir| shown(dir));
    persist_with(&host, &root, "fsync", "error=EINVAL", &dirs).ok();
    let refused = fs::read_to_string(log(&host)).unwrap();
    assert!(refused.matches("(INJECTED)").count() >= 4, "{refused}");
}

#[test]
fn a_copy_that_failed_leaves_the_handler_that_works() {
    let host = Host::new();
    let root = root(&host);
    let folder = host.folder("two", &[("qemu-aarch64", emulators())]);
    host.copy(&emulators().join("qemu-arm"), &folder.join("qemu-arm"));
    persist_old(&host, &root).ok();
    host.call(&["--install", "arm64"]).emulators(&folder).run().ok();
    let newer = host.entry("qemu-aarch64").unwrap();
    fs::create_dir(root.join("var/lib/binfmt/.qemu-aarch64.binfmt-new")).unwrap();
    for list in ["all", "arm64,arm"] {
        host.call(&["--install", list, "--persist", shown(&root)])
            .emulators(&folder)
            .run()
            .ends_saying(&["arm64 is not persisted", "File exists"]);
        assert_eq!(host.entry("qemu-aarch64").as_ref(), Some(&newer), "{list}");
        assert!(host.entry("qemu-arm").is_some(), "{list}");
    }
}

#[test]
fn nobody_but_root_can_keep_a_call_waiting() {
    let host = Host::new();
    let root = root(&host);
    let before = contents(&host, &root);
    // each of these is there for everybody to open
    host.sh(&format!(
        "exec 7<{0} 8<{0}/etc 9<{0}/usr/lib/systemd/systemd-binfmt; flock 7; flock 8; flock 9
         QEMU_BINARY_PATH='{1}' '{2}' --install arm64 --persist {0} 7<&- 8<&- 9<&-",
        root.display(),
        emulators().display(),
        crate::harness::BINFMT
    ))
    .ok();
    persist_with(&host, &root, "unlink", "signal=KILL", &[]).ends(137);
    let lock = fs::metadata(root.join(LOCK)).unwrap();
    assert_eq!(lock.permissions().mode() & 0o777, 0o600);
    // as the root of a container can that is given the host's files read-only
    let lock = crate::harness::lock::of_reader(&root.join(LOCK));
    persist(&host, &root, "arm64").ok().says("going on without the lock on ");
    drop(lock);
    unpersist(&host, &root).ok();
    assert_eq!(contents(&host, &root), before);
}

/// A call that waits for a file that is then removed, as each call does at its end, waits for the next one too.
#[test]
fn a_lock_on_a_file_that_is_gone_is_none() {
    let host = Host::new();
    let root = root(&host);
    let path = root.join(LOCK);
    let first = crate::harness::lock::of_call(&path);
    thread::scope(|scope| {
        let call = scope.spawn(|| persist(&host, &root, "arm64").ok());
        let waits = || {
            let script = "grep -lx binfmt /proc/[0-9]*/comm | sed 's/comm$/fd/' | xargs -r ls -l";
            host.sh(script).stdout.contains(path.to_str().unwrap())
        };
        while !waits() {
            thread::sleep(Duration::from_millis(20));
        }
        fs::remove_file(&path).unwrap();
        let second = crate::harness::lock::of_call(&path);
        drop(first);
        thread::sleep(Duration::from_millis(1500));
        assert!(!root.join(RECORD).exists());
        fs::remove_file(&path).unwrap();
        drop(second);
        let waited = format!("waiting for another call, which cannot be seen from here, to unlock {}", path.display());
        call.join().unwrap().says(&waited);
    });
    assert!(!root.join(LOCK).exists());
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
        assert!(root.join(format!("etc/binfmt.d/{name}.conf")).exists(), "{name}");
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
            crate::harness::BINFMT,
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
    persist(&host, &root, "arm64").ends_saying(&["it exists and was not written by --persist"]);
    assert_eq!(fs::read_link(root.join(RULES)).unwrap(), Path::new("/dev/null"));
    assert!(!root.join("var").exists());

    fs::create_dir_all(root.join("var/lib/binfmt")).unwrap();
    host.sh(&format!("mkfifo {}", root.join(RECORD).display())).ok();
    let record = root.join(RECORD);
    let said = format!("{} is not a file, so nothing says what --persist wrote; remove it", record.display());
    persist(&host, &root, "arm64").ends(1).ends_saying(&[&said]);
    unpersist(&host, &root).ends(1).ends_saying(&[&said]);
    fs::remove_file(record).unwrap();

    // larger than anything of ours
    fs::remove_file(root.join(RULES)).unwrap();
    fs::File::create(root.join(RULES)).unwrap().set_len(20 << 30).unwrap();
    persist(&host, &root, "arm64").ends_saying(&["it exists and was not written by --persist", "--force"]);
    host.binfmt(&["--force", "--install", "arm64", "--persist", shown(&root)]).ok();
}

/// A dry run knows as well.
#[test]
fn something_else_in_the_place_of_the_lock_is_named() {
    let host = Host::new();
    let root = root(&host);
    let dir = shown(&root);
    let install = ["--install", "arm64", "--persist", dir];
    for make in ["mkfifo", "mkdir", "ln -s /nowhere"] {
        host.sh(&format!("{make} '{dir}/{LOCK}'")).ok();
        let dry = [&["--dry-run"], &install[..]].concat();
        for args in [&dry[..], &install, &["--dry-run", "--unpersist", dir], &["--unpersist", dir]] {
            host.binfmt(args).ends(1).ends_saying(&[LOCK, "not a file", "remove it"]);
        }
        host.sh(&format!("rm -rf '{dir}/{LOCK}'")).ok();
    }
    assert!(!root.join("var").exists());
}

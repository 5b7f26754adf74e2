//! Who may decide what is below the root directory of `--persist` and `--unpersist`: root alone.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::{EMULATOR, RECORD, RULES, contents, persist, root, shown, unpersist};
use crate::harness::{Host, Output};

/// It is refused, for what `who` may do at `place`; and nothing has changed.
#[track_caller]
fn is_refused(output: Output, who: &str, place: &Path) -> String {
    let output = output.ends(1).ends_saying(&["can be replaced by", who, shown(place)]);
    let last = output.stderr.lines().next_back().unwrap_or_default();
    last.rsplit("; ").next().unwrap_or_default().to_owned()
}

/// Neither a dry run nor a call does anything, and the remedy that both name helps.
#[test]
fn what_another_user_can_change_is_refused() {
    let host = Host::of_many_users("");
    let root = root(&host);
    persist(&host, &root, "arm64").ok();
    let before = contents(&host, &root);
    for (place, change, who) in [
        (".", "chown 2000", "user 2000, the owner of"),
        ("var", "chown 2000", "user 2000, the owner of"),
        ("var/lib", "chown 2000", "user 2000, the owner of"),
        ("var/lib/binfmt", "chown 2000", "user 2000, the owner of"),
        ("etc", "chown 2000", "user 2000, the owner of"),
        ("etc/binfmt.d", "chown 2000", "user 2000, the owner of"),
        (RECORD, "chown 2000", "user 2000, the owner of"),
        (EMULATOR, "chown 2000", "user 2000, the owner of"),
        (RULES, "chown 2000", "user 2000, the owner of"),
        ("var/lib/binfmt", "chmod 777", "any user"),
        ("etc/binfmt.d", "chmod 1777", "any user"),
        ("etc/binfmt.d", "chmod 775", "group 0"),
        (RULES, "chmod 666", "any user"),
    ] {
        let path = root.join(place);
        // as it was named
        let path = if place == "." { root.clone() } else { path };
        host.sh(&format!("{change} '{}'", path.display())).ok();
        let table = host.table();
        let dir = shown(&root);
        let install = ["--install", "arm64", "--persist", dir];
        let dry_install = [&["--dry-run"], &install[..]].concat();
        let mut remedy = String::new();
        for args in [&dry_install[..], &["--dry-run", "--unpersist", dir], &install, &["--unpersist", dir]] {
            remedy = is_refused(host.binfmt(args), who, &path);
            assert_eq!(contents(&host, &root), before, "{place}: {args:?}");
            assert_eq!(host.table(), table, "{place}: {args:?}");
        }
        host.sh(&remedy).ok();
        host.binfmt(&["--dry-run", "--unpersist", dir]).ok();
    }
    persist(&host, &root, "arm64").ok();
    unpersist(&host, &root).ok();
    assert!(!root.join("var").exists());
}

/// Somebody else's file of rules counts for nothing, even with the right bytes: they can be others at the boot.
/// What the tool knows of users and namespaces does not come from there, nor does it wait for a FIFO there.
#[test]
fn a_proc_of_the_owners_own_decides_nothing() {
    let host = Host::of_many_users("");
    let root = root(&host);
    persist(&host, &root, "arm64").ok();
    let theirs = "mkdir -p proc/self/ns proc/sys/kernel; ln -s 'user:[1]' proc/self/ns/user; : >proc/self/uid_map
        echo 2000 >proc/sys/kernel/overflowuid; chown -Rh 2000 .";
    host.sh(&format!("cd '{}'; {theirs}", root.display())).ok();
    let before = contents(&host, &root);
    let calls = [&["--install", "arm64", "--persist", shown(&root)][..], &["--unpersist", shown(&root)]];
    for args in calls {
        is_refused(host.binfmt(args), "user 2000, the owner of", &root);
    }
    let fifo = "rm proc/sys/kernel/overflowuid; mkfifo proc/sys/kernel/overflowuid";
    host.sh(&format!("cd '{}'; {fifo}", root.display())).ok();
    for args in calls {
        is_refused(host.binfmt(args), "user 2000, the owner of", &root);
    }
    host.sh(&format!(
        "cd '{}'; rm proc/sys/kernel/overflowuid; echo 2000 >proc/sys/kernel/overflowuid",
        root.display()
    ))
    .ok();
    assert_eq!(contents(&host, &root), before);
}

#[test]
fn a_file_of_rules_of_another_user_is_not_adopted() {
    let host = Host::of_many_users("");
    let root = root(&host);
    persist(&host, &root, "arm64").ok();
    host.sh(&format!("cd '{}'; rm -r var; chown 2000 {RULES}", root.display())).ok();
    host.binfmt(&["--uninstall", "all"]).ok();
    is_refused(persist(&host, &root, "arm64"), "user 2000, the owner of", &root.join(RULES));
    assert!(!root.join("var").exists());
    assert_eq!(host.table(), "");
    // where rules are exported to, it is the same
    let dir = root.join("etc/binfmt.d");
    host.sh(&format!("cd '{}'; chown 0 {RULES}; chown 2000 etc/binfmt.d", root.display())).ok();
    is_refused(host.binfmt(&["--unpersist", shown(&dir)]), "user 2000, the owner of", &dir);
}

/// The owner of `var/lib` puts a link in the place of a folder, over and over.
#[test]
fn an_owner_who_swaps_folders_has_nothing_removed_elsewhere() {
    let host = Host::of_many_users("");
    let root = root(&host);
    let swap = host.scratch().join("swap");
    let exchange = "\n#include <sys/syscall.h>\nfor (;;) syscall(SYS_renameat2, -100, argv[1], -100, argv[2], 2);";
    host.compile(&swap, exchange);
    let user = "setpriv --reuid=2000 --regid=2000 --clear-groups";
    let script = format!(
        "cd '{0}'; mkdir -p usr/bin var/lib; echo bytes >usr/bin/qemu-aarch64; chown 2000 var/lib
        {user} mkdir var/lib/binfmt; {user} ln -s ../../usr/bin var/lib/other
        (cd usr/bin; sha256sum qemu-aarch64 | sed 's|  |  /var/lib/binfmt/|') >record
        {user} '{1}' var/lib/binfmt var/lib/other & swapping=$!
        for round in $(seq 100); do
            for dir in binfmt other; do [ -L var/lib/$dir ] || cp record var/lib/$dir/persisted || true; done
            rm -f usr/bin/persisted
            '{2}' --unpersist '{0}' || true
            [ -e usr/bin/qemu-aarch64 ] || break
        done
        kill $swapping",
        root.display(),
        swap.display(),
        crate::harness::BINFMT
    );
    host.sh(&script).ok();
    assert_eq!(fs::read_to_string(root.join("usr/bin/qemu-aarch64")).unwrap(), "bytes\n");
}

/// No directory can be made in the place of such a link, which a dry run knows as well.
#[test]
fn a_link_that_leads_nowhere_is_named() {
    let host = Host::new();
    let root = root(&host);
    let link = root.join("etc/binfmt.d");
    symlink("/nowhere", &link).unwrap();
    let install = ["--install", "arm64", "--persist", shown(&root)];
    for args in [&[&["--dry-run"], &install[..]].concat()[..], &install] {
        let output = host.binfmt(args).ends(1);
        output.ends_saying(&[&format!("{} is a symbolic link to what does not exist", shown(&link))]);
    }
    assert!(!root.join("var").exists());
    fs::remove_file(&link).unwrap();
    host.binfmt(&install).ok();
}

/// A rule that cannot be written is not in the record.
#[test]
fn a_rule_that_was_not_written_leaves_no_record() {
    let host = Host::new();
    let root = root(&host);
    let rules = root.join("etc/binfmt.d");
    host.sh(&format!("mkdir '{0}'; mount -t tmpfs -o ro,mode=755 none '{0}'", rules.display())).ok();
    persist(&host, &root, "arm64").ends(1).ends_saying(&["Read-only file system"]);
    assert!(!host.path(root.join(RECORD)).exists());
}

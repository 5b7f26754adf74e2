//! Entries that only a newer kernel than that of the tests may have: types and flags of Linux 7.3, and flags of no kernel yet.
//!
//! The text of each is mounted over an entry's file. What the kernel itself does with such entries is a matter of `tests/machines`.

use binfmt_magic::arch::Arch;
use serde_json::json;

use crate::harness::{Host, MOUNT_POINT, arch, emulators};

#[test]
fn entries_of_a_newer_kernel_are_explained_and_left_alone() {
    let host = Host::new();
    host.binfmt(&["--install", "riscv64"]).ok();
    // by the machine alone, so that a dynamic program matches as well
    let magic = |arch: &Arch| format!("offset 18\nmagic {:02x}{:02x}", arch.header()[18], arch.header()[19]);
    let path = emulators().join("qemu-aarch64");
    let path = path.display();
    let own = Arch::of_host().expect("a row for this host");
    #[rustfmt::skip]
    let entries = [
        ("chooser", format!("enabled\nbpf my_handler\nbpf-interpreter arm {path}\nflags: \n"),
            format!("the BPF handler my_handler decides: arm {path}"), "the BPF handler my_handler decides what it does"),
        ("qemu-ld", format!("enabled\ninterpreter {path}\nflags: L\n{}\n", magic(own)),
            format!("{path} (replaces the loader of native programs)"), "it replaces the loader of native programs (flag L)"),
        ("qemu-new", format!("enabled\ninterpreter {path}\nflags: FZ\n{}\n", magic(arch("s390x"))),
            String::new(), "it has flags that no install sets: Z"),
    ];
    for (name, text, ..) in &entries {
        host.register_line(format!(":{name}:E::{name}::/bin/true:").as_bytes());
        let file = host.scratch().join(name);
        std::fs::write(&file, text).unwrap();
        host.sh(&format!("mount --bind '{}' {MOUNT_POINT}/{name}", file.display())).ok();
    }
    let status = host.binfmt(&["--status", "--verbose"]);
    for (name, _, what, _) in entries.iter().take(2) {
        let line = status.stdout.lines().find(|line| line.starts_with(name)).expect(name);
        assert!(line.ends_with(what), "{line}");
    }
    let json = host.binfmt(&["--status", "--format", "json"]).json();
    let others = json["others"].as_array().expect("entries");
    let chooser = others.iter().find(|other| other["entry"] == "chooser").expect("the chooser");
    assert_eq!((&chooser["bpf"], &chooser["unknown"]), (&json!("my_handler"), &json!([])));
    assert_eq!(chooser["bound"], json!([format!("arm {path}")]));
    let native = json["platforms"].as_array().expect("platforms").iter().find(|row| row["qemu"] == own.qemu);
    let native = native.expect("this host");
    assert_eq!(native["state"], "native");

    host.binfmt(&["--uninstall", "all"]).ok().never_says("chooser").never_says("qemu-ld").never_says("qemu-new");
    for (name, _, _, why) in &entries {
        host.binfmt(&["--uninstall", name]).ends(1).ends_saying(&["kept: ", why, "--force removes it"]);
        host.binfmt(&["--dry-run", "--force", "--uninstall", name]).ok().prints(&format!("would uninstall: {name}"));
    }
    host.binfmt(&["--install", "riscv64"]).ok();
    host.binfmt(&["--verify", "riscv64"]).ok();
    host.binfmt(&["--dry-run", "--reset"]).prints_no("chooser").prints_no("qemu-ld").prints_no("qemu-new");
    for (name, text, ..) in &entries {
        assert_eq!(host.sh(&format!("cat {MOUNT_POINT}/{name}")).ok().stdout, *text);
    }
    let explained = host.binfmt(&["--explain", "/bin/true"]).ok();
    assert!(explained.stdout.contains("because of the entry qemu-ld (flag L)"), "{explained}");
}

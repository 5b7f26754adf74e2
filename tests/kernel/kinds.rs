//! Entries that take some programs of a platform, and leave others to another entry.

use std::path::{Path, PathBuf};

use crate::harness::fake::needs_emulators;
use crate::harness::{Host, MOUNT_POINT, arch, emulators, program};
use binfmt_magic::arch::Kind;
use binfmt_magic::probe;

/// The bytes of a header from `EI_OSABI` on that an entry looks at.
const PIE: &str = r"\x03";
const STATIC: &str = r"\x02";

/// Registers an entry for arm64's programs of this `e_type`. With `osabi`, only for those that have this `EI_OSABI`.
fn register(host: &Host, name: &str, e_type: &str, osabi: Option<&str>, interpreter: &Path) {
    let zeros = r"\x00\x00\x00\x00\x00\x00\x00\x00";
    let magic = format!(r"\x7fELF\x02\x01\x01{}{zeros}{e_type}\x00\xb7\x00", osabi.unwrap_or(r"\x00"));
    let looked_at = if osabi.is_some() { r"\xff" } else { r"\x00" };
    let mask = format!(r"\xff\xff\xff\xff\xff\xff\xff{looked_at}{zeros}\xff\xff\xff\xff");
    host.register_line(format!(":{name}:M::{magic}:{mask}:{}:F", interpreter.display()).as_bytes());
}

/// busybox of arm64 with the header of another kind of program, which its emulator does not mind.
fn busybox(host: &Host, name: &str, offset: usize, byte: u8) -> PathBuf {
    // it goes by its name
    let path = host.folder(name, &[]).join("busybox");
    let (from, byte) = (program("arm64"), format!(r"\{byte:03o}"));
    let change = format!("printf '{byte}' | dd of='{0}' bs=1 seek={offset} conv=notrunc 2>/dev/null", path.display());
    host.sh(&format!("cp '{}' '{}'; {change}", from.display(), path.display())).ok();
    path
}

#[test]
fn an_entry_that_takes_one_kind_of_programs_and_does_not_run_them_is_seen_and_outdone() {
    needs_emulators!();
    let host = Host::new();
    let wrong = emulators().join("qemu-riscv64");
    let gnu = busybox(&host, "gnu", 7, 3);
    for (name, e_type, osabi, kind) in [
        ("pie", PIE, None, "position-independent ones (ET_DYN)"),
        ("gnu", STATIC, Some(r"\x03"), "the mark of GNU (EI_OSABI 3)"),
    ] {
        host.binfmt(&["--install", "arm64"]).ok();
        register(&host, name, e_type, osabi, &wrong);
        host.binfmt(&["--status", "arm64"]).ends(1).says(kind).says(&format!("{name} takes"));
        host.binfmt(&["--verify"]).ends(1).prints(&format!("{name} takes")).says("--install arm64");
        assert!(!host.binfmt(&[]).list("supported").contains(&"linux/arm64".to_owned()));
        if name == "gnu" {
            assert_ne!(host.program(&gnu).args(["true"]).run().status, 0);
        }
        host.binfmt(&["--dry-run", "--install", "arm64"]).ok().prints("would install: arm64");
        host.binfmt(&["--install", "arm64"]).ok().says("arm64 OK");
        assert_eq!(host.program(&gnu).args(["true"]).run().status, 0);
        host.binfmt(&["--status", "arm64"]).ok();
        host.binfmt(&["--force", "--uninstall", &format!("{name},arm64")]).ok();
        assert_eq!(host.table(), "");
    }
}

#[test]
fn a_program_is_explained_by_the_entry_that_takes_it() {
    needs_emulators!();
    let host = Host::new();
    let (gnu, plain) = (busybox(&host, "gnu", 7, 3), busybox(&host, "plain", 7, 0));
    let explain = |file: &Path| host.binfmt(&["--explain", file.to_str().unwrap()]);
    host.binfmt(&["--install", "arm64"]).ok();
    register(&host, "other", STATIC, Some(r"\x03"), &emulators().join("qemu-riscv64"));
    explain(&gnu).ends(1).prints("other").ends_saying(&["do not run here"]);
    explain(&plain).ok();
    assert_eq!(host.program(&plain).args(["true"]).run().status, 0);
    host.sh(&format!("echo -1 >{MOUNT_POINT}/other")).ok();
    register(&host, "other", STATIC, Some(r"\x03"), &emulators().join("qemu-aarch64"));
    // the defects of the plain ones' emulator are not laid to another
    explain(&gnu).ok().prints("other").prints_no("known defect");
    explain(&plain).ok().prints("known defect");
    assert_eq!(host.program(&gnu).args(["true"]).run().status, 0);
}

/// The older entry runs what the newer one leaves to it, so removing it would be wrong.
#[test]
fn what_a_narrower_entry_leaves_to_an_older_one_is_not_told_to_be_without_effect() {
    let host = Host::new();
    let empty = host.folder("empty", &[]);
    host.binfmt(&["--install", "arm64"]).ok();
    let nothing = host.scratch().join("nothing");
    host.compile(&nothing, "return 7;");
    register(&host, "zz", STATIC, Some(r"\x00"), &nothing);
    let verified = host.call(&["--verify", "arm64"]).emulators(&empty).run().ends(1);
    let verified = verified.prints("zz is newer and takes a part of its programs");
    let verified = verified.says("remove zz, and verify again: binfmt --force --uninstall zz");
    verified.prints_no("has no effect").prints_no("--uninstall '[q]emu-aarch64'");
    host.binfmt(&["--force", "--uninstall", "zz"]).ok();
    host.runs_arm64();
    host.binfmt(&["--verify"]).ok();
}

/// It looks at nothing but the type and the machine, or at everything.
#[test]
fn an_entry_for_one_kind_alone_is_seen_replaced_and_removed() {
    needs_emulators!();
    let host = Host::new();
    let (pie, emulator) = (host.scratch().join("pie"), emulators().join("qemu-aarch64"));
    let mut probe = probe::elf(arch("aarch64"));
    Kind::Pie.apply(&mut probe, arch("aarch64"));
    host.executable(&pie, &probe);
    let by_type = format!(r":qemu-aarch64:M:16:\x03\x00\xb7\x00::{}:F", emulator.display());
    let makes: [&dyn Fn(); 2] = [&|| register(&host, "qemu-aarch64", PIE, Some(r"\x00"), &emulator), &|| {
        host.register_line(by_type.as_bytes());
    }];
    for make in makes {
        make();
        // the first byte of its path
        assert_eq!(host.program(&pie).run().status, i32::from(b'/'));
        let words = "only position-independent ones (ET_DYN) run: its handler takes no others";
        host.binfmt(&["--status"]).ends(1).prints("qemu-aarch64").says(words).says("--install arm64");
        host.binfmt(&["--list"]).ok().prints(words);
        assert!(!host.binfmt(&[]).list("supported").contains(&"linux/arm64".to_owned()));
        host.binfmt(&["--verify"])
            .ends(1)
            .prints(words)
            .prints("the magic is not this architecture's")
            .prints_no("idle");
        let explain = |file: &Path| host.binfmt(&["--explain", file.to_str().unwrap()]);
        explain(&pie).ok().prints("qemu-aarch64").prints("which works");
        explain(&program("arm64"))
            .ends(1)
            .ends_saying(&["its handler qemu-aarch64 does not take it", "--install arm64"]);
        host.binfmt(&["--uninstall", "arm64"]).ok().says("uninstalling: arm64 OK (qemu-aarch64)");
        assert_eq!(host.table(), "");

        make();
        // it was without flag C
        host.binfmt(&["--install", "arm64"]).ok().says("arm64 OK").says("without flag C, as before");
        assert_eq!(host.entries(), ["qemu-aarch64"]);
        host.runs_arm64();
        host.binfmt(&["--uninstall", "all"]).ok();
    }
}

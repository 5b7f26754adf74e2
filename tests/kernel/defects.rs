//! Known defects of QEMU by its version: `--status`, `--verify` and `--explain` name those of the emulator that is really
//! pinned, and each still ends with 0. What the table says of the emulators that these tests have is true of them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::fake::needs_emulators;
use crate::harness::{Host, Output, emulators, old_emulators, program};
use nix::errno::Errno;
use serde_json::Value;

/// What the versions of Debian 13 and 12 have, for arm64.
const OF_10_0_13: [&str; 1] = ["namespaces"];
const OF_7_2_22: [&str; 5] = ["namespaces", "read-only-bss", "pauth", "openat2", "go-1.23.0"];

// linux/sched.h, and the guest's signal(7)
const CLONE_NEWUSER: u64 = 0x1000_0000;
const CLONE_PIDFD: u64 = 0x1000;
const SIGCHLD: u64 = 17;

/// The names in a list of defects.
fn names(defects: &Value) -> Vec<&str> {
    let defects = defects.as_array().expect("a list");
    defects.iter().map(|defect| defect["name"].as_str().expect("a name")).collect()
}

/// `linux/arm64`'s emulator in `--status --format json`.
#[track_caller]
fn pinned(host: &Host) -> Value {
    host.binfmt(&["--status", "arm64", "--format", "json"]).ok().json()["platforms"][0]["emulator"].take()
}

/// The lines below the table.
fn section(output: &Output) -> Vec<&str> {
    output.stdout.split_once("\n\nknown defects:\n").map(|(_, below)| below.lines().collect()).unwrap_or_default()
}

fn explain(host: &Host, file: &Path) -> Output {
    host.call(&["--explain"]).args([file]).args(["--format", "json"]).run().ok()
}

/// A folder with arm64's emulator, which states this in place of its version and its package: `9.2.2 (v9.2.2)`.
fn stating(host: &Host, version: &str) -> PathBuf {
    let mut emulator = fs::read(emulators().join("qemu-aarch64")).expect("an emulator");
    let start = b"qemu-aarch64 version ";
    let found = emulator.windows(start.len()).position(|at| at == start).expect("its version");
    let literal = &mut emulator[found..];
    let length = literal.iter().position(|byte| *byte == 0).expect("its end");
    let line_end = literal.iter().position(|byte| *byte == b'\n').expect("a line");
    let mut stated = [start, version.as_bytes(), &literal[line_end..length]].concat();
    stated.resize(length, 0);
    literal[..length].copy_from_slice(&stated);
    let folder = host.scratch().join("stating");
    fs::create_dir_all(&folder).expect("a folder");
    host.executable(&folder.join("qemu-aarch64"), &emulator);
    folder
}

/// Its only handler is of an emulator that states this.
fn with_version(version: &str) -> Host {
    let host = Host::new();
    let folder = stating(&host, version);
    host.call(&["--install", "arm64"]).emulators(&folder).run().ok();
    host
}

#[test]
fn status_names_those_of_the_emulator_that_is_pinned() {
    let host = Host::new();
    // by another path than the one that is asked for by default
    host.call(&["--install", "arm64,riscv64"]).emulators(&old_emulators()).run().ok();
    host.binfmt(&["--install", "s390x,arm"]).ok();
    let json = host.binfmt(&["--status", "--format", "json"]).ok().json();
    let of = |platform: &str| {
        let platforms = json["platforms"].as_array().expect("platforms");
        let found = platforms.iter().find(|it| it["platform"] == platform).expect("a platform");
        names(&found["emulator"]["defects"])
    };
    assert_eq!(of("linux/arm64"), OF_7_2_22);
    assert_eq!(of("linux/riscv64"), ["namespaces", "read-only-bss", "openat2", "go-1.23.0"], "pauth is arm64's");
    assert_eq!(of("linux/s390x"), OF_10_0_13);
    assert_eq!(of("linux/arm"), ["namespaces", "readdir"], "32 bits");
    let text = host.binfmt(&["--status"]).ok();
    let lines = section(&text);
    for (start, end) in [
        ("QEMU 7.2.22, arm64, riscv64: tar of Ubuntu 26.04 and others cannot", "; fixed in QEMU 9.2"),
        ("QEMU 7.2.22, arm64: programs of Debian 13", "; fixed in QEMU 10.0"),
        ("QEMU 10.0.13, s390x, arm: bwrap", "; fixed only in binfmt's own build of QEMU"),
        ("QEMU 10.0.13, arm: cargo", "; fixed only in binfmt's own build of QEMU"),
    ] {
        let line = lines.iter().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start} in {text}"));
        assert!(line.ends_with(end), "{text}");
    }
    assert_eq!(lines.len(), 7, "a line for each version and defect: {text}");
    assert_eq!(text.stderr, "", "they are no failure: {text}");
}

#[test]
fn verify_names_them_and_finds_nothing() {
    let host = Host::new();
    host.call(&["--install", "arm64"]).emulators(&old_emulators()).run().ok();
    let verify = |args: &[&str]| host.call(&[&["--verify"], args].concat()).emulators(&old_emulators()).run();
    let json = verify(&["--format", "json"]).ok().json();
    assert_eq!((&json["in_order"], &json["findings"]), (&Value::from(true), &Value::from([0; 0].as_slice())));
    assert_eq!(names(&json["defects"]), OF_7_2_22);
    for defect in json["defects"].as_array().unwrap() {
        assert_eq!((&defect["platform"], &defect["version"]), (&"linux/arm64".into(), &"7.2.22".into()));
    }
    let text = verify(&[]).ok();
    assert_eq!(section(&text).len(), OF_7_2_22.len(), "{text}");
    // what an install would pin is something else
    let drift = host.binfmt(&["--verify", "--format", "json"]).ends(1).json();
    assert_eq!(names(&drift["defects"]), OF_7_2_22);
    host.binfmt(&["--install", "arm64"]).ok();
    assert_eq!(names(&host.binfmt(&["--verify", "--format", "json"]).ok().json()["defects"]), OF_10_0_13);
}

#[test]
fn explain_names_them_where_the_program_runs_through_that_emulator() {
    let host = Host::new();
    host.call(&["--install", "arm64"]).emulators(&old_emulators()).run().ok();
    let script = host.scratch().join("script");
    host.executable(&script, format!("#!{} sh\n", program("arm64").display()).as_bytes());
    for file in [&program("arm64"), &script] {
        let output = explain(&host, file);
        let json = output.json();
        assert_eq!(json["runs"], true, "{output}");
        let notes = json["notes"].as_array().unwrap();
        let of_defects = notes.iter().filter(|note| note.as_str().unwrap().contains("a known defect: "));
        assert_eq!(of_defects.count(), OF_7_2_22.len(), "{output}");
        let runs = "linux/arm64 runs through QEMU 7.2.22, which has a known defect: tar of Ubuntu 26.04";
        assert!(notes.iter().any(|note| note.as_str().unwrap().starts_with(runs)), "{output}");
    }
    let native = explain(&host, Path::new("/bin/sh"));
    assert_eq!(native.json()["notes"], Value::from([0; 0].as_slice()), "{native}");
}

#[test]
fn builders_are_told_apart() {
    let emulator = pinned(&with_version("9.2.2 (v9.2.2)"));
    assert_eq!((&emulator["version"], &emulator["package"]), (&"9.2.2".into(), &"v9.2.2".into()));
    let defects = &emulator["defects"];
    assert_eq!(names(defects), ["namespaces", "read-only-bss", "openat2-flags", "fork-lock", "pauth"]);
    assert_eq!((&defects[2]["fixed_in"], &defects[0]["fixed_in"]), (&"10.0.8".into(), &Value::Null));
    let debians = pinned(&with_version("9.2.2 (Debian 1:9.2.2+ds-1)"));
    assert!(!names(&debians["defects"]).contains(&"openat2-flags"), "{debians}");
    // and ours, which has patches
    let host = with_version("10.0.13 (Debian 1:10.0.13+ds-0+deb13u1, tuned)");
    assert_eq!(names(&pinned(&host)["defects"]), [""; 0]);
    for args in ["--status", "--verify"] {
        host.binfmt(&[args]).prints_no("known defects");
    }
    assert_eq!(explain(&host, &program("arm64")).json()["notes"], Value::from([0; 0].as_slice()));
}

#[test]
fn nothing_is_said_of_an_unknown_version() {
    let host = Host::new();
    let translator = host.scratch().join("translator");
    host.translator(&translator);
    host.register("translator", "aarch64", &translator, "POCF");
    let emulator = pinned(&host);
    assert_eq!((&emulator["version"], names(&emulator["defects"]).len()), (&Value::Null, 0), "{emulator}");
    for args in ["--status", "--verify"] {
        host.binfmt(&[args]).ok().prints_no("known defects");
    }
    assert_eq!(explain(&host, &program("arm64")).json()["notes"], Value::from([0; 0].as_slice()));
}

/// Code of arm64 that makes one system call, with the stack as its third argument, and ends with its errno, or with 0.
fn calling(number: u64, flags: u64) -> Vec<u8> {
    #[rustfmt::skip]
    const CODE: [u32; 8] = [
        0x1000_0109, // adr x9, what follows the code
        0xa940_2120, // ldp x0, x8, [x9]
        0x9100_03e2, // mov x2, sp
        0xd400_0001, // svc #0
        0xf100_001f, // cmp x0, #0
        0xda80_a7e0, // csneg x0, xzr, x0, ge
        0xd280_0bc8, // mov x8, #94   exit_group
        0xd400_0001, // svc #0
    ];
    let code = CODE.into_iter().flat_map(u32::to_le_bytes);
    code.chain([flags, number].into_iter().flat_map(u64::to_le_bytes)).collect()
}

/// An ELF file of arm64 with this code, and so many zeroed bytes behind it, in one segment that is not writable.
fn elf(code: &[u8], zeroed: u64) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const START: usize = 64 + 56;
    let mut file = crate::harness::arch("aarch64").header();
    file.resize(START, 0);
    let size = (START + code.len()) as u64;
    file[24..32].copy_from_slice(&(BASE + START as u64).to_le_bytes());
    file[32..40].copy_from_slice(&64_u64.to_le_bytes());
    file[54..58].copy_from_slice(&[56, 0, 1, 0]);
    // PT_LOAD, to be read and executed
    file[64..72].copy_from_slice(&[1, 0, 0, 0, 5, 0, 0, 0]);
    for (at, value) in [0, BASE, BASE, size, size + zeroed, 0x1_0000].into_iter().enumerate() {
        file[72 + 8 * at..][..8].copy_from_slice(&value.to_le_bytes());
    }
    file.extend(code);
    file
}

#[test]
fn what_is_said_of_these_emulators_is_true_of_them() {
    needs_emulators!();
    let host = Host::new();
    let call = |number: u64, flags: u64| elf(&calling(number, flags), 0);
    // how it ends under an emulator that has the defect: with an errno, or by SIGSEGV
    let rows: [(&str, Vec<u8>, i32); 4] = [
        ("namespaces", call(220, CLONE_NEWUSER | SIGCHLD), Errno::EINVAL as i32),
        ("go-1.23.0", call(220, CLONE_PIDFD | SIGCHLD), Errno::EINVAL as i32),
        ("openat2", call(437, 0), Errno::ENOSYS as i32),
        ("read-only-bss", elf(&calling(94, 0), 64), 128 + 11),
    ];
    for (name, bytes, end) in rows {
        let file = host.scratch().join(name);
        host.executable(&file, &bytes);
        for (folder, defects) in [(old_emulators(), &OF_7_2_22[..]), (emulators(), &OF_10_0_13)] {
            let output = host.program(folder.join("qemu-aarch64")).args([&file]).run();
            assert_eq!(output.status == end, defects.contains(&name), "{name}: {output}");
        }
    }
}

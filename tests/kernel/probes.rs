//! Every probe of the table under the real emulator of its row, started directly, without the kernel.
//!
//! What the kernel does with a probe is tested elsewhere; here a wrong instruction, header or flag shows. The
//! emulators are those of the folder `build/emulators`, or of the one that `BINFMT_TEST_EMULATORS` names.

use crate::harness::fake::needs_emulators;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::thread;

use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::probe::{self, ARGV0, Reading};

/// Every probe as an executable file. Written before the first process is started: one that is forked while a file is
/// open for writing makes its execution fail (`ETXTBSY`).
static PROBES: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("probes");
    fs::create_dir_all(&folder).expect("a folder for the probes");
    for arch in &ARCHES {
        let file = folder.join(arch.qemu);
        fs::write(&file, probe::elf(arch)).expect("a probe's file");
        // QEMU, as the kernel, refuses what is not executable
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("an executable probe");
    }
    folder
});

#[test]
fn every_probe_exits_with_the_first_byte_of_its_name() {
    needs_emulators!();
    for_every_arch(|arch| {
        for argv0 in [b"Q".as_slice(), b"/probe", b"a longer name", b"\x01", b"\xf0\xff"] {
            let status = emulate(arch, &[], argv0);
            let above = status - i32::from(argv0[0]);
            let name = argv0.escape_ascii();
            assert!((0..i32::from(arch.levels)).contains(&above), "{}: exit status {status} for {name}", arch.qemu);
        }
    });
}

#[test]
fn every_probe_reads_as_kept_or_replaced() {
    needs_emulators!();
    for_every_arch(|arch| {
        let kept = probe::read(arch, emulate(arch, &[], &[ARGV0]));
        assert!(matches!(kept, Reading::Kept { .. }), "{}: {kept:?}", arch.qemu);
        let replaced = probe::read(arch, emulate(arch, &[], b"/probe"));
        assert!(matches!(replaced, Reading::Replaced { .. }), "{}: {replaced:?}", arch.qemu);
    });
}

#[test]
fn the_amd64_probe_tells_the_levels_apart() {
    needs_emulators!();
    let amd64 = Arch::by_qemu("x86_64").unwrap();
    for (cpu, level) in [
        ("qemu64", 1),
        ("core2duo", 1),
        ("Nehalem", 2),
        ("SandyBridge", 2),
        ("Haswell", 3),
        // all but one feature, from each register that a level is read from
        ("Haswell,-popcnt", 1),
        ("Haswell,-lahf-lm", 1),
        ("Haswell,-movbe", 2),
        ("Haswell,-abm", 2),
        ("Haswell,-bmi2", 2),
        ("Haswell,-xsave", 2),
    ] {
        let reading = probe::read(amd64, emulate(amd64, &["-cpu", cpu], &[ARGV0]));
        assert_eq!(reading, Reading::Kept { level }, "{cpu}");
    }
}

#[test]
fn the_hosts_own_probe_runs_without_an_emulator() {
    let host = Arch::of_host().expect("a host that QEMU knows");
    let probe = PROBES.join(host.qemu);
    let status = Command::new(&probe).arg0(OsStr::from_bytes(&[ARGV0])).status();
    let status = status.unwrap_or_else(|error| panic!("{}: {error}", probe.display()));
    let reading = probe::read(host, status.code().unwrap_or(-1));
    assert_eq!(reading, Reading::Kept { level: host_level() });
}

/// The level by the standard library's reading of the processor, for the probe to agree with.
#[cfg(target_arch = "x86_64")]
fn host_level() -> u8 {
    macro_rules! all {
        ($($feature:tt)*) => { [$(is_x86_feature_detected!($feature)),*].iter().all(|has| *has) };
    }
    // LAHF-SAHF has no name in the standard library; no processor has the rest of a level without it
    let levels = [
        all!("sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "cmpxchg16b"),
        all!("avx" "avx2" "bmi1" "bmi2" "f16c" "fma" "lzcnt" "movbe"),
        all!("avx512f" "avx512bw" "avx512cd" "avx512dq" "avx512vl"),
    ];
    1 + levels.iter().map(|has| u8::from(*has)).take_while(|has| *has == 1).sum::<u8>()
}

#[cfg(not(target_arch = "x86_64"))]
fn host_level() -> u8 {
    1
}

/// Runs `check` for all rows at once; each that fails is named.
fn for_every_arch(check: impl Fn(&Arch) + Sync) {
    let _written_before_any_thread_runs = &*PROBES;
    thread::scope(|scope| {
        let running: Vec<_> = ARCHES.iter().map(|arch| (arch, scope.spawn(|| check(arch)))).collect();
        let failed: Vec<_> =
            running.into_iter().filter_map(|(arch, thread)| thread.join().is_err().then_some(arch.qemu)).collect();
        assert!(failed.is_empty(), "failed: {failed:?}");
    });
}

/// Exit status of this row's probe under its emulator; 124 if it took too long.
fn emulate(arch: &Arch, options: &[&str], argv0: &[u8]) -> i32 {
    let emulator = emulators().join(arch.interpreter_name(""));
    assert!(emulator.exists(), "no {}: run `make emulators`", emulator.display());
    let output = Command::new("timeout")
        .arg("20")
        .arg(&emulator)
        .args(options)
        .arg("-0")
        .arg(OsStr::from_bytes(argv0))
        .arg(PROBES.join(arch.qemu))
        .output()
        .expect("coreutils' timeout");
    let Some(status) = output.status.code() else {
        let said = String::from_utf8_lossy(&output.stderr);
        panic!("{}: {}: {said}", arch.qemu, output.status);
    };
    status
}

fn emulators() -> PathBuf {
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("build/emulators");
    std::env::var_os("BINFMT_TEST_EMULATORS").map_or_else(built, PathBuf::from)
}

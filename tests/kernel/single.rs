//! One file with the emulators inside, on hosts that have nothing else of them.
//!
//! What an embedded emulator is compared and registered by is the same as for any other, so that is not tried again here.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::fake::needs_emulators;
use crate::harness::{BINFMT, Call, Host, Output, emulators, old_emulators, program};
use goblin::elf::Elf;

/// The file, with two of Debian's emulators.
fn single() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| made("single", &emulators()))
}

/// Makes it with the script that builds the releases'.
fn made(name: &str, emulators: &Path) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("binfmt");
    let copied = Command::new("cp").arg(BINFMT).arg(&file).status();
    assert!(copied.is_ok_and(|status| status.success()));
    let packed = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("qemu/carry.sh"))
        // a second for both
        .env("LEVEL", "1")
        .arg(&file)
        .args(["qemu-aarch64", "qemu-arm"].map(|name| emulators.join(name)))
        .status();
    assert!(packed.is_ok_and(|status| status.success()));
    file
}

/// A call of the file with nothing set.
fn call<'a>(host: &'a Host, file: &Path, args: &[&str]) -> Call<'a> {
    host.program(file).args(args)
}

fn run(host: &Host, args: &[&str]) -> Output {
    call(host, single(), args).run()
}

/// Directories, files and mounts that a call could leave behind.
fn traces(host: &Host) -> String {
    let traces = host.sh("ls -A / /run /tmp /usr/bin /var/lib | grep -v '^scratch'; cat /proc/self/mountinfo");
    traces.ok().stdout
}

#[test]
fn it_installs_what_it_carries_and_writes_nothing() {
    needs_emulators!();
    let host = Host::new();
    let before = traces(&host);
    run(&host, &["--install", "all"]).ok().says("arm64 OK (qemu-aarch64 10.").says("arm OK (qemu-arm 10.");
    assert_eq!(host.entries(), ["qemu-arm", "qemu-aarch64"]);
    assert!(host.entry("qemu-arm").unwrap().contains("interpreter /usr/bin/qemu-arm\n"));
    host.runs_arm64();
    assert_eq!(traces(&host), before);

    // nothing to do a second time, nor to find fault with
    let table = host.table();
    run(&host, &["--install", "all"]).ok().says("arm64 already installed");
    assert_eq!(host.table(), table);
    run(&host, &["--verify"]).ok().prints("in order");
    let status = run(&host, &["--status", "arm64", "--format", "json"]).ok().json();
    assert_eq!(status["platforms"][0]["emulator"]["place"], "elsewhere");

    run(&host, &["--uninstall", "all"]).ok();
    assert_eq!(host.entries(), [""; 0]);
    assert_eq!(traces(&host), before);
}

/// The emulators are neither that file's nor any other's: it may go.
#[test]
fn the_file_itself_may_go() {
    needs_emulators!();
    let host = Host::new();
    let copy = host.scratch().join("binfmt");
    host.copy(single(), &copy);
    call(&host, &copy, &["--install", "arm64"]).run().ok();
    fs::remove_file(&copy).unwrap();
    host.runs_arm64();
    host.binfmt(&["--status", "arm64"]).ok().prints("works");
}

#[test]
fn a_later_file_brings_its_emulators() {
    needs_emulators!();
    let host = Host::new();
    let old = made("single-of-old", &old_emulators());
    call(&host, &old, &["--install", "arm64"]).run().ok().says("arm64 OK (qemu-aarch64 7.");
    run(&host, &["--verify"]).ends(1).prints("pinned: QEMU 7.");
    run(&host, &["--install", "arm64"]).ok().says("upgraded qemu-aarch64 7.");
    host.runs_arm64();
}

/// No network, no place to write to, and nothing there may be executed but the file.
#[test]
fn a_bare_read_only_host_is_enough() {
    needs_emulators!();
    let host = Host::new();
    let root = host.scratch().join("root");
    let arm64 = program("arm64");
    host.sh(&format!(
        "mkdir {0}; mount -t tmpfs none {0}; mkdir {0}/proc {0}/dev {0}/files
         cp {1} {2} {0}/
         ldd {1} | grep -o '/[^ ]*' | xargs cp --parents -t {0}
         mount --rbind /proc {0}/proc
         mount --rbind /dev {0}/dev
         mount -t tmpfs -o noexec none {0}/files
         mount -o remount,bind,ro {0}",
        root.display(),
        single().display(),
        arm64.display(),
    ))
    .ok();
    let inside = |line: &str| host.sh(&format!("unshare --net chroot {} {line}", root.display()));
    inside("/binfmt --install arm64").ok().says("arm64 OK");
    inside("/busybox uname -m").ok().prints("aarch64");
    host.runs_arm64();
}

#[test]
fn what_is_not_embedded_is_named() {
    needs_emulators!();
    let host = Host::new();
    run(&host, &["--install", "riscv64"]).ends_saying(&[
        "/usr/bin/qemu-riscv64 is not embedded in this binfmt",
        "make single TARGETS=riscv64,",
        "QEMU_BINARY_PATH",
    ]);
    let list = run(&host, &["--list", "--format", "json"]).ok().json();
    let state = |qemu: &str| {
        let rows = list.as_array().unwrap();
        let row = rows.iter().find(|row| row["qemu"] == qemu).unwrap();
        row["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(state("aarch64"), "available");
    assert_eq!(state("riscv64"), "unavailable");
}

#[test]
fn a_directory_that_is_named_goes_before_what_it_carries() {
    needs_emulators!();
    let host = Host::new();
    call(&host, single(), &["--install", "arm64,riscv64"])
        .emulators(&old_emulators())
        .run()
        .ok()
        .says("arm64 OK (qemu-aarch64 7.")
        .says("riscv64 OK");
}

#[test]
fn a_prefix_is_that_of_paths_and_entries() {
    needs_emulators!();
    let host = Host::new();
    call(&host, single(), &["--install", "arm64"]).env("QEMU_BINARY_PREFIX", "our-").run().ok();
    call(&host, single(), &["--verify"]).env("QEMU_BINARY_PREFIX", "our-").run().ok();
    let entry = host.entry("our-qemu-aarch64").expect("an entry");
    assert!(entry.contains("interpreter /usr/bin/our-qemu-aarch64\n"), "{entry}");
}

#[test]
fn a_file_that_is_damaged_says_so_and_registers_nothing() {
    needs_emulators!();
    let host = Host::new();
    let file = made("single-damaged", &emulators());
    let bytes = fs::read(&file).unwrap();
    let elf = Elf::parse(&bytes).unwrap();
    let is_arm = |name: Option<&str>| name == Some("qemu-arm.zst");
    let mut sections = elf.section_headers.iter();
    let arm = sections.find(|section| is_arm(elf.shdr_strtab.get_at(section.sh_name)));
    let arm = arm.expect("a section");
    let program = OpenOptions::new().write(true).open(&file).unwrap();
    let middle = arm.sh_offset + arm.sh_size / 2;
    let there = bytes[usize::try_from(middle).unwrap()];
    program.write_all_at(&[!there], middle).unwrap();
    drop(program);

    call(&host, &file, &["--install", "arm,arm64"])
        .run()
        .ends(1)
        .says("arm64 OK")
        .says("this program is damaged, fetch it again");
    assert_eq!(host.entries(), ["qemu-aarch64"]);
}

/// A download that broke off: it starts, and lacks what its end says about the rest.
#[test]
fn a_file_that_is_cut_off_says_so_and_does_nothing() {
    needs_emulators!();
    let host = Host::new();
    let file = made("single-cut-off", &emulators());
    let size = fs::metadata(&file).unwrap().len();
    for kept in [size - 1, size / 4 * 3] {
        host.sh(&format!("truncate --size={kept} '{}'", file.display())).ok();
        for args in [&["--install", "arm64"][..], &["--status"], &["--version"]] {
            call(&host, &file, args).run().ends(1).ends_saying(&["this program is damaged, fetch it again"]);
        }
    }
    assert_eq!(host.entries(), [""; 0]);
}

#[test]
fn held_it_repairs_without_a_file() {
    needs_emulators!();
    let host = Host::new();
    let mut held = host.command(single());
    let mut held = held
        .args(["--hold", "--interval", "1s", "--install", "arm64"])
        .env_remove("QEMU_BINARY_PATH")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let patience = Instant::now() + Duration::from_secs(30);
    for wiped in [false, true] {
        if wiped {
            host.sh("echo -1 >/proc/sys/fs/binfmt_misc/status").ok();
        }
        while host.runs("arm64").is_err() {
            assert!(Instant::now() < patience, "arm64 does not run");
            thread::sleep(Duration::from_millis(50));
        }
    }
    held.kill().unwrap();
    held.wait().unwrap();
}

/// `--run` takes no privilege, so nothing of a mount that its user could not make.
#[test]
fn a_command_is_run_through_what_it_carries() {
    needs_emulators!();
    let busybox = program("arm64");
    let run = |args: &[&str]| {
        let mut binfmt = Command::new(single());
        binfmt.env_remove("QEMU_BINARY_PATH").args(args).output().unwrap()
    };
    let ran = run(&["--run", "linux/arm64", "--", busybox.to_str().unwrap(), "uname", "-m"]);
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "aarch64\n", "{ran:?}");
    let version = run(&["--version"]);
    let version = String::from_utf8_lossy(&version.stderr).into_owned();
    assert!(version.contains(" qemu/v10."), "{version}");
}

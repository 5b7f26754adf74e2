//! Programs that a transparent entry of Linux 7.3 starts (flag T, `docs/linux-7.3.md`), in a virtual machine with that kernel.
//!
//! Under test is one of the emulators that have been built ([`fake::ours`]). The machine has no userland but busybox, and the C
//! library for what is compiled.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::vm::{Kernel, Size, USUAL, Vm};
use crate::harness::{Output, arch, fake};
use crate::userland::{ENDINGS, Userland};
use crate::{Pair, debians_programs, folder, names};

/// Of all programs those that say something about what flag T changes, and take a second or two each. With
/// `BINFMT_TEST_MACHINES=all`, all run.
const SHORT: [&str; 6] = ["c/auxv", "c/descriptors", "c/segv", "c/self", "c/spawn", "kernel/exe"];
/// The kernel names a program that is started by a link or by a descriptor. Without flag T, it is the emulator that the kernel
/// starts, and the names come from that.
const NAMED_OTHERWISE: (&str, &str) = ("c/self", "/proc/self/comm ");

/// For all programs: each takes a minute or ten where QEMU interprets the emulator too.
const LARGE: Size = Size { megabytes: 4096, minutes: 180, minutes_of_script: 40 };

#[test]
fn programs_do_the_same_under_flag_t() {
    let Some(userland) = userland() else { return };
    let pair = &userland.pair;
    let qemu = pair.arch.qemu;
    let all = env::var_os("BINFMT_TEST_MACHINES").is_some_and(|which| which == "all");
    let mut programs = SHORT.map(str::to_owned).to_vec();
    if all {
        programs = ["c", "kernel"].iter().flat_map(|folder| names(folder, "c")).collect();
    }
    let binaries = programs.iter().map(|program| userland.compile(program)).collect::<Result<Vec<_>, _>>();
    let binaries = binaries.unwrap_or_else(|defect| panic!("{defect}"));
    let title = userland.compile("ours/title").unwrap_or_else(|defect| panic!("{defect}"));
    let mut files = library(&userland);
    files.extend([
        (userland.binaries.clone(), "binaries".to_owned()),
        (pair.tested.clone(), format!("ours/qemu-{qemu}")),
        (native_title(), "native/title".to_owned()),
    ]);
    for kernel in Kernel::since((7, 3)) {
        let mut vm = Vm::boot_with(&kernel, &files, if all { LARGE } else { USUAL });
        vm.sh(SETUP).ok();
        install(&mut vm, pair, "auto");
        for (around, length) in [("", "short"), ("", "long"), ("unshare -Ur", "long")] {
            titles(&mut vm, around, length, &title);
        }
        let transparently: Vec<_> = binaries.iter().map(|binary| run(&mut vm, binary)).collect();
        install(&mut vm, pair, "never");
        for (program, (binary, found)) in programs.iter().zip(binaries.iter().zip(transparently)) {
            let expected = run(&mut vm, binary);
            let ending = ENDINGS.iter().find(|(name, _)| name == program);
            assert_eq!(expected.status, ending.map_or(0, |(_, status)| *status), "not even without flag T: {expected}");
            assert_eq!(compared(program, &found), compared(program, &expected), "{program}");
        }
    }
}

/// What a Debian has, its shell, compiler, interpreters, package manager and setuid programs.
#[test]
#[ignore = "takes more than an hour: docs/linux-7.3.md has the command"]
fn debians_programs_do_the_same_under_flag_t() {
    let Some(userland) = userland() else { return };
    let pair = &userland.pair;
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let root = format!("/{}", userland.debian);
    let files = [
        (own, format!("{}/conformance", userland.debian)),
        (pair.tested.clone(), format!("ours/qemu-{}", pair.arch.qemu)),
    ];
    for kernel in Kernel::since((7, 3)) {
        let mut vm = Vm::boot_with_tree(&kernel, &files, &userland.root, LARGE);
        vm.sh(&format!("{SETUP}; for at in proc dev tmp; do mount --rbind /$at {root}/$at; done")).ok();
        let mut differences = Vec::new();
        for program in debians_programs() {
            let [expected, found] = ["never", "auto"].map(|transparent| {
                install(&mut vm, pair, transparent);
                vm.sh(&format!("{ENVIRONMENT} chroot {root} /conformance/{program}"))
            });
            assert_eq!(expected.status, 0, "not even without flag T: {expected}");
            let is_same = compared(&program, &found) == compared(&program, &expected);
            // so that whoever waits sees how far it is
            println!("{program}: {}", if is_same { "the same" } else { "another result" });
            if !is_same {
                differences.push(format!("{program}: {expected}\n{found}"));
            }
        }
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }
}

/// One that there is an emulator of our own for.
fn userland() -> Option<Userland> {
    let (qemu, debian, tested) = fake::ours()?;
    let debians = folder("BINFMT_TEST_EMULATORS", "emulators").join(format!("qemu-{qemu}"));
    Userland::of(debian, &Pair { arch: arch(qemu), debians, tested })
}

/// Installs the emulator under test, with flag T (`auto`) or without it (`never`).
#[track_caller]
fn install(vm: &mut Vm, pair: &Pair, transparent: &str) {
    let platform = pair.arch.platform();
    vm.sh(&format!("QEMU_BINARY_PATH=/ours binfmt --install {platform} --transparent {transparent}")).ok();
    let flags = if transparent == "auto" { "flags: OCFT\n" } else { "flags: POCF\n" };
    vm.sh(&format!("cat /proc/sys/fs/binfmt_misc/qemu-{}", pair.arch.qemu)).ok().prints(flags);
}

/// As in the userlands of the other tests, as far as programs look at it.
const SETUP: &str = "ln -s /proc/self/fd /dev/fd; mkdir -p /dev/shm /dev/pts /etc /root; mount -t tmpfs none /dev/shm; \
    mount -t devpts none /dev/pts; hostname conformance; echo conformance >/etc/hostname";

const ENVIRONMENT: &str = "env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb";

fn run(vm: &mut Vm, binary: &str) -> Output {
    vm.sh(&format!("cd /tmp; {ENVIRONMENT} timeout 1200 {binary}"))
}

fn compared(program: &str, ran: &Output) -> (i32, String, String) {
    let (one, otherwise) = NAMED_OTHERWISE;
    let lines = ran.stdout.lines().filter(|line| program != one || !line.starts_with(otherwise));
    (ran.status, lines.collect::<Vec<_>>().join("\n"), ran.stderr.clone())
}

/// What others see of a program that changes its title and its name is what they see of a native one.
fn titles(vm: &mut Vm, around: &str, length: &str, title: &str) {
    let [native, emulated] = ["/native/title", title].map(|program| {
        let start = format!("env -i ROOM=for-a-long-title {around} sh -c 'exec -a title {program} {length} one two'");
        let until = "until grep -q prctl /tmp/said; do sleep 0.2; done";
        let look = "tr '\\0' . </proc/$!/cmdline; cat /proc/$!/comm; kill $!";
        vm.sh(&format!(": >/tmp/said; {start} >/tmp/said & {until}; {look}")).ok().stdout
    });
    let is_titled = if length == "long" { native.contains("tt, and more") } else { native.starts_with("title..") };
    assert!(is_titled && native.ends_with("of its own\n"), "{native}");
    assert_eq!(emulated, native, "{length} {around}");
}

/// The C library of the userland and its loader, where programs look for them, and the names of its users and hosts.
fn library(userland: &Userland) -> Vec<(PathBuf, String)> {
    let root = &userland.root;
    let found =
        |folder: PathBuf| fs::read_dir(folder).expect("a folder of the userland").flatten().map(|file| file.path());
    let name = |path: &PathBuf| path.file_name().expect("a name").to_string_lossy().into_owned();
    let triplet = found(root.join("usr/lib")).find(|path| path.join("libc.so.6").exists()).expect("a C library");
    let mut files = Vec::new();
    for library in ["libc.so.6", "libm.so.6", "libgcc_s.so.1"] {
        files.push((triplet.join(library), format!("lib/{}/{library}", name(&triplet))));
    }
    let loaders = found(root.join("usr/lib")).filter(|path| name(path).starts_with("ld"));
    files.extend(loaders.map(|loader| (loader.clone(), format!("lib/{}", name(&loader)))));
    files.extend(
        ["passwd", "group", "hosts", "nsswitch.conf"].map(|file| (root.join("etc").join(file), format!("etc/{file}"))),
    );
    files
}

fn native_title() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("transparent");
    let file = folder.join("title");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/ours/title.c");
    fake::compile(&file, "", &format!("#include \"{source}\"\n"));
    file
}

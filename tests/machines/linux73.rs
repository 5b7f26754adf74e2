//! What Linux 7.3 adds to `binfmt_misc`: flags, a limit, and what the tool makes of them.

use std::path::Path;

use serde_json::json;

use crate::harness::turn::cannot_run;
use crate::harness::vm::{Kernel, USUAL, Vm};
use crate::harness::{Output, arch, fake, program};
use crate::{PROGRAM, TABLE, platform};

/// Since it, there are type B, the flags T, L and D, `user.max_binfmt_misc_interpreters`, and `unlink(2)` of an entry.
const SINCE: (u32, u32) = (7, 3);
const LIMIT: &str = "/proc/sys/user/max_binfmt_misc_interpreters";

fn on_new_kernels(test: impl Fn(&mut Vm)) {
    for kernel in Kernel::since(SINCE) {
        test(&mut Vm::boot(&kernel, ""));
    }
}

/// The first part of a registration line: programs of this machine, static or dynamic.
fn line(name: &str, machine: &str, rest: &str) -> String {
    let mask = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff";
    let magic = format!(r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x{machine}\x00");
    format!("echo ':{name}:M::{magic}:{mask}:{rest}' >{TABLE}/register")
}

#[test]
fn an_entry_that_replaces_loaders_is_explained_and_left_alone() {
    on_new_kernels(|vm| {
        vm.binfmt("--install arm64").ok();
        vm.sh(&line("native", "3e", "/lib64/ld-linux-x86-64.so.2:FL")).ok();
        vm.binfmt("--status").ok().prints("/lib64/ld-linux-x86-64.so.2 (replaces the loader of native programs)");
        vm.binfmt("--explain /single-file/binfmt").ok().prints("because of the entry native (flag L)");
        vm.binfmt("--verify").ok();
        vm.binfmt("--install arm64").ok().says("already installed");

        vm.sh(&line("foreign", "b7", "/usr/bin/qemu-riscv64:FL")).ok();
        assert_ne!(vm.sh(PROGRAM).status, 0, "the kernel asks an older entry");
        vm.binfmt("--status arm64").ends(1).prints("only replaces the loader of native programs (flag L)");
        vm.binfmt("--explain /arm64/busybox").ends(1).prints("(flag L)").prints("--install arm64");
        vm.binfmt("--uninstall foreign").ends(1).says("kept: it replaces the loader of native programs (flag L)");
        vm.binfmt("--install arm64").ok();
        vm.sh(PROGRAM).ok().prints("aarch64");

        vm.binfmt("--uninstall all").ok();
        vm.sh(&format!("ls {TABLE}")).ok().prints("foreign").prints("native").prints_no("qemu-aarch64");
        vm.binfmt("--force --uninstall foreign,native").ok();
    });
}

/// A program that goes on until it is killed: what `ps` shows of it, its file, and its arguments.
const SEEN: &str = "/arm64/busybox pause & sleep 1; ps -o pid,comm,args | grep \"^ *$! \"; readlink /proc/$!/exe; \
    tr '\\0' ' ' </proc/$!/cmdline; kill $!";

#[test]
fn an_emulator_that_honours_flag_t_is_hidden_and_yet_seen() {
    on_new_kernels(|vm| {
        let flags = format!("grep flags {TABLE}/qemu-aarch64");
        let arm64 = |status: &Output| platform(status, "linux/arm64");
        vm.sh("QEMU_BINARY_PATH=/transparent binfmt --install arm64").ok().says("arm64 OK (qemu-aarch64 11.9.0");
        vm.sh(&flags).ok().prints("flags: OCFT\n");
        let seen =
            vm.sh(SEEN).ok().prints(" busybox          /arm64/busybox pause\n/arm64/busybox\n/arm64/busybox pause ");
        seen.prints_no("qemu");
        let hidden = arm64(&vm.binfmt("--status --format json").ok());
        assert_eq!((&hidden["ps_shows"], &hidden["argv0"]), (&json!("program"), &json!(true)), "{hidden}");
        assert_eq!((&hidden["setuid"], &hidden["flags"]), (&json!(true), &json!("OCFT")), "{hidden}");
        let emulator = &hidden["emulator"];
        assert_eq!((&emulator["path"], &emulator["place"]), (&json!("/transparent/qemu-aarch64"), &json!("present")));
        vm.binfmt("--status").ok().prints("/transparent/qemu-aarch64 (ps shows the program)");
        // without the privilege to follow map_files: by the path
        vm.sh("mkdir -p /etc; echo nobody:x:65534:65534::/:/bin/sh >/etc/passwd").ok();
        let unprivileged =
            ["unshare -Ur sh -c", "su nobody -c"].map(|who| format!("{who} 'binfmt --status arm64 --format json'"));
        for call in &unprivileged {
            let seen = arm64(&vm.sh(call).ok());
            assert_eq!(
                (&seen["emulator"]["version"], &seen["ps_shows"]),
                (&json!("11.9.0"), &json!("program")),
                "{seen}"
            );
        }

        vm.sh("QEMU_BINARY_PATH=/transparent binfmt --install arm64").ok().says("already installed");
        vm.sh("QEMU_BINARY_PATH=/transparent binfmt --verify").ok();
        vm.sh("QEMU_BINARY_PATH=/transparent binfmt --install arm64 --keep").ok().says("(qemu-aarch64)");
        vm.sh("QEMU_BINARY_PATH=/later binfmt --install arm64").ok().says("upgraded qemu-aarch64 11.9.0 → 11.9.1");
        vm.sh("cp -r /later /copy; rm /later/qemu-aarch64").ok();
        let gone = arm64(&vm.binfmt("--status --format json").ok());
        assert_eq!((&gone["emulator"]["version"], &gone["emulator"]["place"]), (&json!("11.9.1"), &json!("deleted")));
        for call in &unprivileged {
            let unseen = arm64(&vm.sh(call).ok());
            assert_eq!((&unseen["emulator"], &unseen["ps_shows"]), (&json!(null), &json!("program")), "{unseen}");
            let why = unseen["unseen"].as_str().unwrap_or_default();
            assert!(why.contains("only root on the host sees it (flag T)") && why.contains("EPERM"), "{why}");
        }
        // another file at the path is not taken for it
        vm.sh("cp /copy/qemu-aarch64 /later/").ok();
        vm.sh("QEMU_BINARY_PATH=/later binfmt --verify").ok();
        let verify = "QEMU_BINARY_PATH=/later binfmt --verify arm64";
        vm.sh(&format!("su nobody -c '{verify}'"))
            .ends(1)
            .prints("which emulator is pinned cannot be seen: only root on");

        // an older kernel would refuse a rule with flag T
        vm.sh("mkdir -p /etc/binfmt.d; binfmt --export /etc/binfmt.d || true; cat /etc/binfmt.d/*")
            .ok()
            .prints(":POCF\n");

        vm.sh("QEMU_BINARY_PATH=/later binfmt --install arm64 --transparent never").ok().says("arm64 OK");
        vm.sh(&flags).ok().prints("flags: POCF\n");
        let shown = vm.sh(SEEN).ok();
        shown.prints("/later/qemu-aarch64");
        assert_eq!(arm64(&vm.binfmt("--status --format json").ok())["ps_shows"], "emulator");
        vm.sh("QEMU_BINARY_PATH=/later QEMU_TRANSPARENT=0 binfmt --verify").ok();
        vm.sh("QEMU_BINARY_PATH=/later binfmt --install arm64 --keep").ok().says("already installed (qemu-aarch64)");
        let verified = vm.sh("QEMU_BINARY_PATH=/later binfmt --verify").ends(1);
        verified
            .prints("without flag T; with flag P, which an install leaves out; ps shows the emulator instead of the program")
            .says("repair: QEMU_BINARY_PATH");

        // entries can be unlinked as well
        let until = |line: &str| format!("for i in $(seq 120); do grep '{line}' /tmp/held && break; sleep 0.5; done");
        let hold =
            format!("QEMU_BINARY_PATH=/later binfmt --install arm64 --hold 2>/tmp/held & {}", until("holding: arm64"));
        let gone = format!("rm {TABLE}/qemu-aarch64; {}", until("repairing: arm64 OK (no handler was in effect)"));
        vm.sh(&format!("{hold}; {gone}; {flags}; kill %1; wait"))
            .ok()
            .prints("repairing: arm64 OK")
            .prints("flags: OCFT\n");
        vm.binfmt("--uninstall all").ok();
    });
}

/// Tools that look at a program (`look.sh`), from outside and inside of a container, show what they show of a native one.
#[test]
fn a_program_looks_native_with_an_emulator_of_ours() {
    let Some((qemu, debian, emulator)) = fake::ours() else { return };
    let tools = fake::built("machine-tools");
    if !tools.join("packages").exists() {
        return cannot_run("it needs ps, top, pgrep and gdb: make test-kernels");
    }
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machines");
    let by_descriptor = Path::new(env!("CARGO_TARGET_TMPDIR")).join("machines/by-descriptor");
    fake::compile(&by_descriptor, "", include_str!("by-descriptor.c"));
    let files = [
        (emulator, format!("ours/qemu-{qemu}")),
        (program(debian), "ours/busybox".to_owned()),
        (program("amd64"), "mine/busybox".to_owned()),
        (sources.join("look.sh"), "bin/look".to_owned()),
        (by_descriptor, "bin/by-descriptor".to_owned()),
        (tools, "tools".to_owned()),
    ];
    for kernel in Kernel::since(SINCE) {
        let mut vm = Vm::boot_with(&kernel, &files, USUAL);
        let name = arch(qemu).platform();
        let install = format!("QEMU_BINARY_PATH=/ours binfmt --install {name}");
        vm.sh(&install).ok();
        vm.sh(&format!("cat {TABLE}/qemu-{qemu}")).ok().prints("flags: OCFT\n");
        assert_eq!(platform(&vm.binfmt("--status --format json").ok(), &name)["ps_shows"], "program");

        // a machine that is busy takes its time to start a program
        let start = |folder: &str| {
            let started = format!("[ \"$(readlink /proc/$!/exe)\" = {folder}/busybox ]");
            format!("cd {folder}; ./busybox sleep 100 & until {started}; do sleep 1; done; sleep 1; look $!")
        };
        let native = vm.sh(&format!("{}; kill $!", start("/mine"))).ok();
        let native = native.prints("gdb: exe = '/mine/busybox'\n").prints("pgrep: by its arguments\n");
        let native = native.stdout.replace("/mine", "/ours");
        assert_eq!(vm.sh(&format!("{}; kill $!", start("/ours"))).ok().stdout, native);
        let inside = format!("mount -t proc proc /proc; {}; touch /tmp/seen; wait", start("/ours"));
        let other = "pid=$(ps -o pid,args | awk '$2 == \"./busybox\" { print $1 }')";
        let outside = format!("until [ -e /tmp/seen ]; do sleep 1; done; {other}; look $pid; kill $pid");
        let both = vm.sh(&format!("unshare -m -p -f sh -ec '{inside}' & {outside}; wait")).ok();
        assert_eq!(both.stdout, native.repeat(2));

        // what it finds of itself, by all that it is started by
        vm.sh("/ours/busybox readlink /proc/self/exe").ok().prints("/ours/busybox\n");
        let script = "#!/ours/busybox sh\necho $0 $1\ntr '\\0' ' ' </proc/$$/cmdline\nreadlink /proc/$$/exe\n";
        let written = format!("cat >/tmp/started <<'end'\n{script}end\nchmod 755 /tmp/started");
        let said = "/tmp/started one\n/ours/busybox sh /tmp/started one /ours/busybox\n";
        vm.sh(&format!("{written}; /tmp/started one")).ok().prints(said);
        // arguments that look like options of an emulator are the program's
        vm.sh("/ours/busybox echo -version; exec -a echo /ours/busybox -h").ok().prints("-version\n-h\n");

        // by a descriptor that closes: a program; a script as little as one of this machine's
        let started = "by-descriptor /ours/busybox busybox";
        vm.sh(&format!("{started} readlink /proc/self/exe; {started} echo -h")).ok().prints("/ours/busybox\n-h\n");
        let refused = "execveat: No such file or directory";
        vm.sh("by-descriptor /tmp/started started one").ends(127).says(refused);
        vm.sh("sed -i 1s,/ours,/mine, /tmp/started; by-descriptor /tmp/started started one").ends(127).says(refused);
        vm.sh(&format!("{install} --transparent never")).ok();
        vm.sh(&format!("{started} true")).ends(127).says(refused);
        vm.binfmt("--uninstall all").ok();
    }
}

#[test]
fn an_emulator_that_does_not_honour_flag_t_is_installed_without_it() {
    on_new_kernels(|vm| {
        let flags = format!("grep flags {TABLE}/qemu-aarch64");
        vm.binfmt("--install arm64 --dry-run").ok().prints("would install: arm64 (qemu-aarch64 10.");
        vm.binfmt("--install arm64").ok().says("arm64 OK");
        vm.sh(&flags).ok().prints("flags: POCF\n");
        vm.binfmt("--install arm64").ok().says("already installed (qemu-aarch64)");
        vm.binfmt("--install arm64 --dry-run").ok().prints("already installed");
        vm.binfmt("--verify").ok();
        vm.binfmt("--uninstall all").ok();

        // somebody's line; the emulator would take an argument for the program's name
        vm.sh(&format!("mount -t binfmt_misc none {TABLE}")).ok();
        vm.sh(&line("qemu-aarch64", "b7", "/usr/bin/qemu-aarch64:FCT")).ok();
        assert_ne!(vm.sh("sh -c 'exec -a uname /arm64/busybox -m'").status, 0);
        vm.binfmt("--status arm64").ends(1).prints("broken").prints("OCFT");
        vm.binfmt("--install arm64").ok().says("arm64 OK");
        vm.sh(&flags).ok().prints("flags: POCF\n");
        vm.sh(PROGRAM).ok().prints("aarch64");

        // not where it could not be told later which emulator it is
        let inside =
            "QEMU_BINARY_PATH=/transparent binfmt --install arm64 --mount /tmp/table; cat /tmp/table/qemu-aarch64";
        vm.sh(&format!("mkdir -p /tmp/table; unshare -Urm sh -c '{inside}'")).ok().prints("flags: POCF\n");
    });
}

#[test]
fn the_limit_of_open_interpreters_is_named_with_its_remedy() {
    on_new_kernels(|vm| {
        vm.sh(&format!("echo 1 >{LIMIT}")).ok();
        vm.binfmt("--install arm64").ok();
        let refused = vm.binfmt("--install riscv64").ends(1).says("for 1 entries at the most (ENOSPC)");
        vm.sh(&format!("echo 101 >{LIMIT}")).ok();
        refused.ends_saying(&["sysctl -w user.max_binfmt_misc_interpreters=101"]);
        vm.binfmt("--install riscv64").ok();

        // one of a user namespace, and then that of the host
        let install = "binfmt --install arm64 --mount /tmp/table";
        let inside = |limit: &str| format!("mkdir -p /tmp/table; unshare -Urm sh -c '{limit} {install}'");
        vm.sh(&inside(&format!("echo 0 >{LIMIT};"))).ends(1).ends_saying(&[
            "0 is the limit in this user",
            "=100;",
            "on the host",
        ]);
        vm.sh(&inside(&format!("echo 100 >{LIMIT};"))).says("arm64 OK");
        vm.sh(&format!("echo 2 >{LIMIT}")).ok();
        vm.sh(&inside("")).ends(1).ends_saying(&["raise user.max_binfmt_misc_interpreters on the host"]);
        vm.sh(&format!("echo 102 >{LIMIT}")).ok();
        vm.sh(&inside("")).says("arm64 OK");

        let status = vm.binfmt("--status --format json").ok();
        assert_eq!(platform(&status, "linux/riscv64")["state"], "works");
    });
}

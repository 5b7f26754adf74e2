//! A remedy is given where it helps: each is carried out here, and the file then runs; or it says what else is in the way.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use binfmt_magic::arch::{Arch, Class};
use binfmt_magic::probe;
use binfmt_magic::rule::{Flags, Matcher, Rule};
use nix::errno::Errno;

use super::elf::Program;
use super::{Ends, Fails, Lab, Runs, foreign, native, unpack_userland};
use crate::harness::fake::needs_emulators;
use crate::harness::{BINFMT, MOUNT_POINT, Output, arch, emulators, program};

/// The command that follows `words` in the remedy, up to what follows the command.
#[track_caller]
fn command(output: &Output, words: &str) -> String {
    let json = output.json();
    let remedy = json["remedy"].as_str().unwrap_or_default();
    let (_, command) = remedy.split_once(words).unwrap_or_else(|| panic!("no {words:?} in {output}"));
    let end = command.find("; ").unwrap_or(command.len());
    command[..end].replace("binfmt --", &format!("{BINFMT} --"))
}

impl Lab {
    fn json(&self, path: &Path, options: &[&str]) -> Output {
        self.explain(path, &[&["--format", "json"], options].concat())
    }
}

/// It was not the user who named it.
#[test]
fn an_interpreter_that_is_no_file_is_to_be_replaced() {
    let lab = Lab::new();
    let pipe = lab.path("pipe");
    lab.host.sh(&format!("mkfifo -m 755 '{}'", pipe.display())).ok();
    let script = lab.make("script", format!("#!{}\n", pipe.display()).as_bytes());
    let output = lab.explain(&script, &[]).ends(1);
    output.ends_saying(&["is a named pipe", "name a program in the first line of", script.to_str().unwrap()]);
}

/// As in AppImageKit#965: handlers do not take what has the mark of an `AppImage`.
#[test]
fn an_appimage_is_told_by_its_mark_and_runs_without() {
    let lab = Lab::new();
    let mut bytes = Program::new(foreign()).bytes();
    bytes[8..11].copy_from_slice(b"AI\x02");
    let path = lab.make("an app", &bytes);
    let output = lab.ends("no handler", &path, Fails(Errno::ENOEXEC));
    output.clone().ends_saying(&["bytes 8 to 10", "41 49 02", "AppImage", "after that", "--install"]);
    lab.host.sh(&command(&output, "run it: ")).ok();
    lab.host.sh(&command(&output, "install it: ")).ok();
    lab.ends("the copy", &lab.path("an app.plain"), Runs);
    let output = lab.ends("the app itself", &path, Fails(Errno::ENOEXEC));
    output.ends_saying(&["does not take it", "AppImage", ".plain"]).never_says("--install");
    // a handler out of sight would not take it either
    lab.host.sh(&format!("mount -t tmpfs none {MOUNT_POINT}")).ok();
    lab.explain(&path, &[]).ends(1).ends_saying(&["AppImage", ".plain"]);
}

/// A handler of another tool that is too strict: an install's own would take the file.
#[test]
fn a_handler_that_is_too_strict_is_replaced() {
    let lab = Lab::new();
    let flags = Flags::parse("F").0;
    let mut strict = Rule::for_arch(foreign(), "", &emulators(), flags);
    let mut magic = Program::new(foreign()).bytes()[..20].to_vec();
    magic[7] = 3;
    strict.matcher = Matcher::Magic { offset: 0, magic, mask: None };
    lab.host.register_rule(&strict);
    let path = lab.make("program", &Program::new(foreign()).bytes());
    let output = lab.ends("too strict", &path, Fails(Errno::ENOEXEC));
    lab.host.sh(&command(&output, "install it again: ")).ok();
    lab.ends("installed", &path, Runs);
}

/// It works, but does not take each program. An install changes that once it has an emulator.
#[test]
fn a_handler_that_works_is_replaced_only_if_there_is_an_emulator() {
    let lab = Lab::new();
    let mut strict = Rule::for_arch(foreign(), "", &emulators(), Flags::parse("F").0);
    strict.matcher = Matcher::Magic { offset: 0, magic: Program::new(foreign()).bytes()[..20].to_vec(), mask: None };
    lab.host.register_rule(&strict);
    let mut gnu = Program::new(foreign()).bytes();
    gnu[7] = 3;
    let path = lab.make("program", &gnu);
    let empty = lab.host.folder("empty", &[]);
    let output = lab.host.call(&["--explain"]).args([&path]).emulators(&empty).run().ends(1);
    output.ends_saying(&["does not exist", "then install it again: "]).never_says("no install changes that");
    let output = lab.ends("too strict", &path, Fails(Errno::ENOEXEC));
    lab.host.sh(&command(&output, "install it again: ")).ok();
    lab.ends("installed", &path, Runs);
}

/// As in llamafile#513.
#[test]
fn an_actually_portable_executable_is_no_windows_program() {
    let lab = Lab::new();
    for start in ["MZqFpD", "jartsr"] {
        let path = lab.make("TABLE of a FILE", format!("{start}='\n'; echo hi\n").as_bytes());
        let output = lab.ends(start, &path, Fails(Errno::ENOEXEC));
        output.clone().ends_saying(&["Actually Portable Executable"]).never_says("Windows");
        assert_eq!(lab.host.sh(&command(&output, "by a shell: ")).ok().stdout, "hi\n");
        let good = lab.make("ape", &Program::new(native()).bytes());
        let register = command(&output, "for good: ");
        lab.host.sh(&register.replace("/usr/bin/ape", good.to_str().unwrap())).ok();
        lab.ends("by its loader", &path, Runs);
    }
}

/// As in buildah#3827.
#[test]
fn a_pinned_interpreter_that_is_dynamic_is_told() {
    needs_emulators!();
    let lab = Lab::new();
    let wrapper = lab.path("wrapper");
    let source = format!(
        "#include <unistd.h>\nint main(int c, char **v) {{ return execv(\"{}/qemu-aarch64\", v); }}",
        emulators().display()
    );
    lab.host.sh_with(&format!("cc -x c -o '{}' -", wrapper.display()), source.as_bytes()).ok();
    lab.host.register("mine", "aarch64", &wrapper, "F");
    let path = program("arm64");
    // its loader may lead to anybody's files, so it is not started here
    let explained = lab.explain(&path, &[]).ends(1).prints("containers do not find its loader");
    explained.ends_saying(&["was not tried: its pinned interpreter is dynamically linked"]);
    lab.host.runs_arm64();
    lab.host.binfmt(&["--status", "arm64"]).ends(1).ends_saying(&["dynamically linked", "loader"]);
    let root = lab.path("root");
    unpack_userland(&lab.host, &root);
    let below = ["--root", root.to_str().unwrap()];
    let output = lab.json(Path::new("/bin/sh"), &below).ends(1);
    output.clone().ends_saying(&["its handler mine starts", "whose loader", "does not exist", "ENOENT"]);
    let run = format!("chroot '{}' /bin/sh -c 'exit 47'", root.display());
    assert_eq!(lab.host.sh(&run).status, 127);
    lab.host.sh(&command(&output, "again: ")).ok();
    assert_eq!(lab.host.sh(&run).status, 47);
    lab.explain(Path::new("/bin/sh"), &below).ok();
}

#[test]
fn a_handler_that_is_not_pinned_is_tried() {
    needs_emulators!();
    let lab = Lab::new();
    let interpreter = lab.path("interpreter");
    lab.host.compile(&interpreter, "return 1;");
    lab.host.register("mine", "aarch64", &interpreter, "");
    let path = program("arm64");
    lab.explain(&path, &[]).ends(1).ends_saying(&["linux/arm64", "wrong answer"]);
    // the shape of NixOS's: in another root directory the interpreter is not there
    lab.host.sh(&format!("echo -1 >{MOUNT_POINT}/mine")).ok();
    lab.host.register("aarch64-linux", "aarch64", Path::new("/run/x"), "P");
    let root = lab.path("root");
    unpack_userland(&lab.host, &root);
    let below = ["--root", root.to_str().unwrap()];
    let output = lab.json(Path::new("/bin/sh"), &below).ends(1);
    output.clone().ends_saying(&["/run/x", "does not exist"]).never_says("echo -1");
    // one that is there, and nobody starts what somebody else's root directory has
    fs::create_dir(root.join("run")).unwrap();
    lab.host.copy(&emulators().join("qemu-aarch64"), &root.join("run/x"));
    lab.explain(Path::new("/bin/sh"), &below).ends(1).ends_saying(&["not known", "was not tried"]);
    lab.host.sh(&command(&output, "again: ")).ok();
    lab.explain(Path::new("/bin/sh"), &below).ok();
}

/// As in runner-images#8397.
#[test]
#[cfg(target_arch = "x86_64")]
fn a_program_of_another_class_than_its_machines_is_told() {
    let lab = Lab::new();
    let of_class = |qemu: &str| {
        let mut row: Arch = arch(qemu).clone();
        row.class = Class::Elf32;
        probe::elf(&row)
    };
    let path = lab.make("x32", &of_class("x86_64"));
    // where the kernel runs x32 programs, this one of amd64's instructions ends all the same
    let config = lab.host.sh("zcat /proc/config.gz").stdout;
    assert!(!config.contains("CONFIG_X86_X32_ABI=y"), "this test knows no such kernel");
    let output = lab.ends("x32", &path, Fails(Errno::ENOEXEC));
    output.ends_saying(&["x32", "CONFIG_X86_X32_ABI"]).never_says("program headers");
    let path = lab.make("ilp32", &of_class("aarch64"));
    lab.ends("ILP32", &path, Fails(Errno::ENOEXEC)).ends_saying(&["ILP32"]).never_says("--install");
}

#[test]
fn what_else_is_in_the_way_is_told() {
    let lab = Lab::new();
    let remedy = |name: &str, bytes: &[u8], mode: u32| {
        let path = lab.make(name, bytes);
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        lab.json(&path, &[]).ends(1).json()["remedy"].as_str().unwrap().to_owned()
    };
    let foreign = Program::new(foreign());
    let install = format!("--install {}", super::foreign().oci);
    let asking = foreign.clone().loader(b"/lib/ld-nowhere.so\0", |_| ()).bytes();
    #[rustfmt::skip]
    let rows: [(&str, &[u8], u32, &[&str]); 6] = [
        ("no x, no handler", &foreign.bytes(), 0o644, &["chmod +x", "after that, it is a program", &install]),
        ("no x, no program", b"\x1f\x8b\x08\0", 0o644, &["chmod +x", "gzip", "gunzip"]),
        ("no handler, no loader", &asking, 0o755, &[&install, "after that, its loader /lib/ld-nowhere.so does not exist"]),
        ("no interpreter either", b"#!/nowhere/sh\r\n", 0o755, &["sed -i", "after that, its interpreter /nowhere/sh does not exist"]),
        ("a mark, and no interpreter", b"\xef\xbb\xbf#!/nowhere/sh\n", 0o755, &["sed -i", "/nowhere/sh"]),
        ("no #!, no x", b"echo hi\n", 0o644, &["chmod +x", "1i #!/bin/sh"]),
    ];
    for (name, bytes, mode, words) in rows {
        let remedy = remedy(name, bytes, mode);
        let mut rest = &remedy[..];
        for word in words {
            let (_, after) = rest.split_once(word).unwrap_or_else(|| panic!("{name}: no {word} in {remedy}"));
            rest = after;
        }
    }
    let output = lab.explain(&lab.path("no x, no handler"), &[]).ends(1);
    output.prints("a program for linux/").prints("runs: no\n  because   it is not executable");
    assert!(!remedy("nothing else", &Program::new(native()).bytes(), 0o644).contains("after"));
}

#[test]
fn commands_repeat_what_the_call_had() {
    let lab = Lab::new();
    let path = program("arm64");
    let elsewhere = lab.path("else where");
    fs::create_dir(&elsewhere).unwrap();
    let at = elsewhere.to_str().unwrap();
    lab.host.sh(&format!("mount --bind {MOUNT_POINT} '{at}'")).ok();
    let options = ["--status", "arm64", "--mount", at, "--format", "json"];
    let status = lab.host.binfmt(&options).ends(1);
    let words = format!("binfmt --install arm64 --mount '{at}'");
    status.ends_saying(&["install it: QEMU_BINARY_PATH=", &words]);
    let status = lab.host.call(&["--status", "arm64"]).emulators(&elsewhere);
    status.run().ends(1).ends_saying(&["else where/qemu-aarch64 does not exist", "then install it"]);
    let output = lab.json(&path, &["--mount", at, "--credentials", "no"]).ends(1);
    output.clone().ends_saying(&["QEMU_BINARY_PATH=", "--credentials no", &format!("--mount '{at}'")]);
    lab.host.sh(&command(&output, "install it: ")).ok();
    lab.explain(&path, &[]).ok().prints("(PF, ");
    // where there is no emulator, an install would be of no use
    lab.host.sh(&format!("echo -1 >{MOUNT_POINT}/qemu-aarch64")).ok();
    let call = lab.host.call(&["--explain"]).args([&path]).emulators(&elsewhere);
    call.run().ends(1).ends_saying(&["else where/qemu-aarch64 does not exist", "then install it"]);
    // nor in a table that is off
    lab.host.sh(&format!("echo 0 >{MOUNT_POINT}/status")).ok();
    let output = lab.json(&path, &[]).ends(1);
    lab.host.sh(&command(&output, "switch it on: ")).ok();
    lab.host.sh(&command(&output, "then install it: ")).ok();
    lab.explain(&path, &[]).ok();
    lab.host.sh(&format!("echo 0 >{MOUNT_POINT}/status")).ok();
    let output = lab.json(&path, &[]).ends(1);
    output.clone().ends_saying(&["switch it on"]).never_says("install it");
    lab.host.sh(&command(&output, "switch it on: ")).ok();
    lab.explain(&path, &[]).ok();
}

/// An emulator that an install would refuse, because it runs no program, is the obstacle to name.
#[test]
fn an_emulator_that_runs_nothing_is_to_be_replaced_before_the_install() {
    let lab = Lab::new();
    let path = lab.make("program", &Program::new(foreign()).bytes());
    let name = format!("qemu-{}", foreign().qemu);
    let folder = lab.host.folder("wrong", &[]);
    lab.host.compile_emulator(&folder.join(&name), "return 3;");
    let words = ["does not run programs: wrong answer (exit status 3)", "put another build there; then install it: "];
    let oci = foreign().oci;
    let call = |args: &[&str]| lab.host.call(args).emulators(&folder).run();
    call(&["--status", oci]).ends(1).ends_saying(&words);
    let output = call(&["--explain", path.to_str().unwrap(), "--format", "json"]).ends(1).ends_saying(&words);
    call(&["--install", oci]).ends(1).ends_saying(&["wrong answer (exit status 3)", "put another build there"]);
    assert_eq!(lab.host.table(), "");
    lab.host.copy(&emulators().join(&name), &folder.join(&name));
    lab.host.sh(&command(&output, "install it: ")).ok();
    lab.ends("installed", &path, Runs);
}

/// What a terminal must not see is named by its numbers, so that the command means the same folder.
#[test]
fn a_command_with_an_odd_path_means_that_path() {
    let lab = Lab::new();
    let folder = lab.path("x").with_file_name(OsStr::from_bytes(b"p\nq \x1b[31m\xff'"));
    fs::create_dir(&folder).unwrap();
    lab.host.copy(&emulators().join("qemu-aarch64"), &lab.path("qemu-aarch64"));
    fs::rename(lab.path("qemu-aarch64"), folder.join("qemu-aarch64")).unwrap();
    let status = lab.host.call(&["--status", "arm64", "--format", "json"]).emulators(&folder).run().ends(1);
    let json = status.json();
    let remedy = json["platforms"][0]["remedy"].as_str().unwrap();
    let line = remedy.strip_prefix("install it: ").unwrap().replace("binfmt --", &format!("{BINFMT} --"));
    lab.host.program("bash").args(["-c", &line]).run().ok();
    lab.host.binfmt(&["--status", "arm64"]).ok();
}

#[test]
fn names_are_looked_up_as_a_shell_does() {
    needs_emulators!();
    let lab = Lab::new();
    let good = lab.make("some-program", &Program::new(native()).bytes());
    let folder = good.parent().unwrap();
    let call = |name: &str| {
        lab.host.call(&["--explain", name]).env("PATH", format!("/nowhere:{}:/usr/bin:/bin", folder.display())).run()
    };
    call("some-program").ok().prints(&format!("was found in PATH: {}", good.display()));
    call("some-other-program").ends(1).ends_saying(&["does not exist"]);
    let root = lab.path("root");
    unpack_userland(&lab.host, &root);
    let below = ["--root", root.to_str().unwrap()];
    lab.host.binfmt(&["--install", "arm64"]).ok();
    lab.explain(Path::new("dash"), &below).ok().prints("was found in PATH: /usr/bin/dash");
    // what was meant is told
    let output = lab.json(&root.join("usr/bin/dash"), &below).ends(1);
    output.clone().ends_saying(&["below", "binfmt --explain /usr/bin/dash --root"]);
    lab.host.sh(&command(&output, "called there: ")).ok();
    lab.explain(&good, &below).ends(1).ends_saying(&["below", "of this host: binfmt --explain"]);
    // and nothing leads out
    let output = lab.explain(Path::new("/../../nowhere/x"), &below).ends(1);
    output.ends_saying(&[&format!("namei -l {}/nowhere/x", root.display())]);
    // namei would follow this link to the host's own file
    lab.host.sh(&format!("ln -s /etc/passwd '{}/link'", root.display())).ok();
    lab.explain(Path::new("/link"), &below).ends(1).ends_saying(&[&format!("ls -l {}/link", root.display())]);
}

#[test]
fn setuid_bits_are_told_with_what_they_come_to() {
    let lab = Lab::new();
    let path = lab.path("program");
    lab.host.copy(&program("arm64"), &path);
    let says = |path: &Path, mode: u32, words: &str| {
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        let output = lab.explain(path, &[]).ok();
        match words {
            "" => output.prints_no("setuid"),
            words => output.prints(words),
        }
    };
    lab.host.binfmt(&["--install", "arm64"]).ok();
    says(&path, 0o755, "");
    says(&path, 0o4755, "it is setuid (owner root), and its handler honours that (flag C)");
    says(&path, 0o2755, "it is setgid (group 0), and its handler honours");
    lab.host.binfmt(&["--install", "arm64", "--credentials", "no"]).ok();
    says(&path, 0o6755, "setuid and setgid (owner root, group 0), and its handler ignores that");
    let own = lab.make("own", &Program::new(native()).bytes());
    says(&own, 0o4755, "setuid (owner root), and the kernel honours that");
    let command = ["--no-new-privs", BINFMT, "--explain"];
    let confined = lab.host.program("setpriv").args(command).args([&own]).run().ok();
    confined.prints("setuid (owner root), and the kernel ignores that: no_new_privs is set");
    let script = lab.make("script", b"#!/bin/sh\n");
    says(&script, 0o4755, "the kernel ignores that of scripts");
    let nosuid = lab.path("nosuid");
    fs::create_dir(&nosuid).unwrap();
    let mount = format!("mount -t tmpfs -o nosuid none '{0}' && cp -p '{1}' '{0}'", nosuid.display(), own.display());
    lab.host.sh(&mount).ok();
    lab.explain(&nosuid.join("own"), &[]).ok().prints("mounted nosuid");
}

/// What is written to a file says why.
#[test]
fn reasons_are_told_on_stdout_too() {
    needs_emulators!();
    let lab = Lab::new();
    let path = lab.make("file", &Program::new(foreign()).loader(b"/nowhere/ld\0", |_| ()).bytes());
    let output = lab.explain(&path, &[]).ends(1);
    output.clone().prints("\n  because   it is a program for").prints("\n  remedy    install it: ");
    let last = output.stderr.lines().next_back().unwrap();
    let reason = output.stdout.lines().find_map(|line| line.strip_prefix("  because   "));
    assert!(last.contains(reason.unwrap()), "{output}");
    lab.host.binfmt(&["--install", foreign().oci]).ok();
    lab.ends("installed", &path, Ends);
    // a path that a command does not need is not told twice
    let empty = lab.make("empty", b"");
    let output = lab.explain(&empty, &[]).ends(1);
    let last = output.stderr.lines().next_back().unwrap();
    assert_eq!(last.matches("empty").count(), 2, "its name, and what it is: {output}");
}

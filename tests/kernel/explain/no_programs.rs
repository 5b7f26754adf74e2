//! What stands where a program, its interpreter or its loader should be, and is none: pipes, directories, texts, and files that the
//! kernel makes up.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::elf::Program;
use super::{Ends, Fails, Lab, Runs, foreign, native};
use crate::harness::fake::needs_emulators;

/// The emulator opens it, and that takes until something writes to it.
#[test]
fn a_loader_that_is_a_pipe_keeps_its_emulator_waiting() {
    needs_emulators!();
    let lab = Lab::new();
    lab.host.binfmt(&["--install", foreign().oci]).ok();
    let pipe = lab.path("ld-linux-x.so.1");
    mkfifo(&pipe, Mode::from_bits_truncate(0o755)).unwrap();
    let asks = [pipe.to_str().unwrap().as_bytes(), b"\0"].concat();
    let path = lab.make("asks", &Program::new(foreign()).loader(&asks, |_| ()).bytes());
    let output = lab.explain(&path, &[]).ends(1).prints("runs: no").prints_no("not here");
    let words = ["is a named pipe", "starts, and waits", &format!("put the loader in its place: {}", pipe.display())];
    output.ends_saying(&words).never_says("name a file");
    let waits = format!("timeout 0.5 '{}'", path.display());
    assert_eq!(lab.host.sh(&waits).status, 124);
}

/// The kernel does not wait, and `chmod` on such a file would make it no loader.
#[test]
fn what_is_no_loader_is_not_to_be_made_executable() {
    let lab = Lab::new();
    let text = lab.path("text");
    fs::write(&text, "no loader\n".repeat(10)).unwrap();
    let pipe = lab.path("pipe");
    mkfifo(&pipe, Mode::from_bits_truncate(0o755)).unwrap();
    for (loader, words) in [
        (&*text, &["mode has no x, and it is not a loader, but text", "build it statically"][..]),
        (&*pipe, &["is a named pipe"]),
        (Path::new("/tmp"), &["is a directory", "build it statically"]),
        (Path::new("/proc/version"), &["that the kernel makes up (procfs)", "build it statically"]),
    ] {
        let asks = [loader.to_str().unwrap().as_bytes(), b"\0"].concat();
        let path = lab.make("asks", &Program::new(native()).loader(&asks, |_| ()).bytes());
        let output = lab.ends(&loader.to_string_lossy(), &path, Fails(Errno::EACCES));
        output.ends_saying(words).never_says("chmod").never_says("name a file").prints_no("\"loader_found\": null");
    }
}

#[test]
fn what_is_left_to_do_after_a_loaders_mode_is_told() {
    let lab = Lab::new();
    // the level is the only other thing that is wrong
    let loader = lab.make("ld", &Program::position_independent(native()).bytes());
    lab.host.sh(&format!("chmod 644 '{}'", loader.display())).ok();
    let asks = [loader.to_str().unwrap().as_bytes(), b"\0"].concat();
    let good = lab.make("good", &Program::new(native()).loader(&asks, |_| ()).bytes());
    let flawed = Program::new(native()).loader(&asks, |_| ()).with(|p| p.segments[1].in_file = 1 << 20).bytes();
    let flawed = lab.make("flawed", &flawed);
    let chmod = format!("chmod +x {}", loader.display());
    lab.ends("good", &good, Fails(Errno::EACCES)).ends_saying(&[&chmod]).never_says("after that");
    lab.ends("flawed", &flawed, Fails(Errno::EACCES)).ends_saying(&[&chmod, "after that, it "]);
    lab.host.sh(&chmod).ok();
    lab.ends("good", &good, Runs);
    lab.ends("flawed", &flawed, Ends);
}

/// A read of `/proc/kmsg` takes the messages out of it, so nothing there is read; and no command would make it a program.
#[test]
fn files_that_the_kernel_makes_up_are_not_read() {
    let lab = Lab::new();
    for (path, file_system) in
        [("/proc/kmsg", "procfs"), ("/proc/self/mem", "procfs"), ("/sys/kernel/profiling", "sysfs")]
    {
        let output = lab.ends(path, Path::new(path), Fails(Errno::EACCES));
        let words = format!("is a file that the kernel makes up ({file_system})");
        output.ends_saying(&[&words, "name a program"]).never_says("chmod").never_says("sed").never_says("sh /");
        let script = lab.make("script", format!("#!{path}\n").as_bytes());
        let output = lab.ends(path, &script, Fails(Errno::EACCES));
        output.ends_saying(&[&words, "name a program in the first line of", "/script"]).never_says("chmod");
        let folder = lab.host.folder("emulators", &[]);
        symlink(path, folder.join("qemu-aarch64")).unwrap();
        for mode in ["--verify", "--status", "--install"] {
            let output = lab.host.call(&[mode, "arm64"]).emulators(&folder).run().ends(1);
            output.says(&format!("/qemu-aarch64 {words}, not an emulator")).never_says("chmod");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}

/// Neither is replaced: that would take a directory, or a device, from those who use it.
#[test]
fn an_interpreter_that_is_a_directory_or_a_device_stays_where_it_is() {
    let lab = Lab::new();
    for (path, kind) in [("/tmp", "a directory"), ("/dev/null", "a device")] {
        let script = lab.make("script", format!("#!{path}\n").as_bytes());
        let output = lab.ends(path, &script, Fails(Errno::EACCES));
        output.ends_saying(&[kind, "name a program in the first line of", "/script"]).never_says("in its place");
        lab.host.register_line(format!(":odd:M::odd::{path}:").as_bytes());
        let odd = lab.make("odd", b"odd one");
        let output = lab.ends(path, &odd, Fails(Errno::EACCES));
        output.ends_saying(&[kind, "remove the entry: echo -1 >"]).never_says("in its place");
        lab.host.sh("echo -1 >/proc/sys/fs/binfmt_misc/odd").ok();
    }
}

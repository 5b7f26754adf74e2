//! What `--explain` says of a file, against what the kernel does with it: every file of these tables is
//! explained, and then executed by a program that calls `execve(2)` and nothing else. Both must come to the same end, and
//! name the same error.

mod elf;
mod no_programs;
mod remedies;

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::harness::fake::needs_emulators;
use crate::harness::{BINFMT, Host, MOUNT_POINT, Output, arch, emulators, program};
use binfmt_magic::arch::Arch;
use elf::{ET_CORE, ET_REL, Program, RWX};
use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;

/// How starting a file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It runs.
    Runs,
    /// `execve(2)` fails.
    Fails(Errno),
    /// It is started, and ends at once.
    Ends,
}
use Fate::{Ends, Fails, Runs};

/// A host, and the program in it that calls `execve(2)`.
struct Lab {
    host: Host,
    exec: PathBuf,
}

impl Lab {
    fn new() -> Self {
        let host = Host::new();
        let exec = host.scratch().join("exec");
        host.compile(&exec, "execv(argv[1], argv + 1); perror(\"execv\"); return 1;");
        Self { host, exec }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.host.scratch().join(name)
    }

    fn make(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        self.host.executable(&path, bytes);
        path
    }

    /// Explained and executed, it ends so.
    #[track_caller]
    fn ends(&self, row: &str, path: &Path, expected: Fate) -> Output {
        let output = self.explain(path, &["--format", "json"]);
        assert_eq!(explained(&output), expected, "{row}: {output}");
        assert_eq!(output.status, i32::from(expected != Runs), "{row}: {output}");
        assert_eq!(output.stderr.lines().count(), usize::from(expected != Runs), "{row}: {output}");
        assert_eq!(self.execute(path), expected, "{row}: {output}");
        output.never_says("os error").never_says("panic")
    }

    fn explain(&self, path: &Path, options: &[&str]) -> Output {
        self.host.call(&["--explain"]).args([path]).args(options).run()
    }

    fn execute(&self, path: &Path) -> Fate {
        let output = self.host.program(&self.exec).args([path]).run();
        if let Some(text) = output.stderr.strip_prefix("execv: ") {
            return Fails(errno(text.trim_end()));
        }
        // the first byte of argv[0], and on amd64 the level above it
        if (47..51).contains(&output.status) { Runs } else { Ends }
    }

    #[track_caller]
    fn all_end(&self, rows: &[(&str, Vec<u8>, Fate)]) {
        for (at, (row, bytes, expected)) in rows.iter().enumerate() {
            let path = self.make(&format!("file{at}"), bytes);
            self.ends(row, &path, *expected);
        }
    }
}

/// The errno that the C library words so.
fn errno(text: &str) -> Errno {
    let words = |errno: i32| io::Error::from_raw_os_error(errno).to_string();
    let found = (1..134).find(|errno| words(*errno).starts_with(&format!("{text} (")));
    Errno::from_raw(found.unwrap_or_else(|| panic!("no errno for {text:?}")))
}

fn explained(output: &Output) -> Fate {
    let json = output.json();
    match (json["runs"].as_bool(), json["errno"].as_str()) {
        (Some(true), None) => Runs,
        (Some(false), None) => Ends,
        (Some(false), Some(name)) => {
            let found = (1..134).map(Errno::from_raw).find(|errno| format!("{errno:?}") == name);
            Fails(found.expect("an errno"))
        }
        _ => panic!("{output}"),
    }
}

fn native() -> &'static Arch {
    let host = Arch::of_host().expect("a host that QEMU knows");
    assert_eq!(host.header()[4..6], [2, 1], "the files of these tests are 64-bit and little-endian");
    host
}

/// Another architecture of that kind.
fn foreign() -> &'static Arch {
    arch(if native().qemu == "aarch64" { "riscv64" } else { "aarch64" })
}

#[test]
fn native_programs_end_as_explained() {
    let lab = Lab::new();
    let good = || Program::new(native());
    let bytes = |change: fn(&mut Program)| good().with(change).bytes();
    let load = |change: fn(&mut elf::Segment)| good().load(change).bytes();
    let byte = |at: usize, value| {
        let mut bytes = good().bytes();
        bytes[at] = value;
        bytes
    };
    let independent = || Program::position_independent(native());
    #[rustfmt::skip]
    let rows = [
        ("a program", good().bytes(), Runs),
        ("a position-independent program", independent().bytes(), Runs),
        ("a wrong byte order", byte(5, 2), Runs),
        ("another ABI", byte(7, 97), Runs),
        ("another version", byte(6, 9), Runs),
        ("an object file", bytes(|p| p.kind = ET_REL), Fails(Errno::ENOEXEC)),
        ("a core dump", bytes(|p| p.kind = ET_CORE), Fails(Errno::ENOEXEC)),
        ("no type", bytes(|p| p.kind = 0), Fails(Errno::ENOEXEC)),
        ("a machine of nobody's", bytes(|p| p.machine = 0xfefe), Fails(Errno::ENOEXEC)),
        ("headers of a wrong size", bytes(|p| p.header_size = 55), Fails(Errno::ENOEXEC)),
        ("no headers", bytes(|p| p.count = Some(0)), Fails(Errno::ENOEXEC)),
        ("headers far beyond", bytes(|p| p.headers = 1 << 40), Fails(Errno::ENOEXEC)),
        ("headers at minus 64", bytes(|p| p.headers = u64::MAX - 63), Fails(Errno::ENOEXEC)),
        ("65535 headers", bytes(|p| p.count = Some(0xffff)), Fails(Errno::ENOEXEC)),
        ("64 KiB of headers", good().padded(1169).load(|s| (s.in_file, s.in_memory) = (0x1_1000, 0x1_1000)).bytes(), Runs),
        ("more than 64 KiB of headers", good().padded(1170).bytes(), Fails(Errno::ENOEXEC)),
        ("nothing to load", bytes(|p| p.segments[0].kind = 0), Ends),
        ("a library without entry", independent().with(|p| p.entry = Some(0)).bytes(), Ends),
        ("off its page", load(|s| s.offset = 1), Ends),
        ("more in the file than in memory", load(|s| s.in_memory = 0x500), Ends),
        ("beyond the end of the file", load(|s| s.offset = 0x10_0000), Ends),
        ("at minus one page", load(|s| s.offset = u64::MAX - 0xfff), Ends),
    ];
    lab.all_end(&rows);
}

#[test]
fn loaders_are_looked_at_as_the_kernel_does() {
    let lab = Lab::new();
    let asking = |path: &[u8]| Program::new(native()).loader(path, |_| ());
    let loader = |name: &str, bytes: &[u8]| {
        let path = lab.make(name, bytes).into_os_string().into_encoded_bytes();
        asking(&[&path[..], b"\0"].concat()).bytes()
    };
    let segment = |path: &[u8], change: fn(&mut elf::Segment)| Program::new(native()).loader(path, change).bytes();
    let good = Program::position_independent(native());
    let plain = lab.make("plain", &good.bytes());
    fs::set_permissions(&plain, PermissionsExt::from_mode(0o644)).unwrap();
    let plain = format!("{}\0", plain.display());
    let long = [&b"/"[..], &[b'a'; 5000], b"\0"].concat();
    let long = Program::new(native()).loader(b"/", |s| s.in_file = 5002).bytes().into_iter().chain(long).collect();
    #[rustfmt::skip]
    let rows = [
        ("a loader", loader("loader", &good.bytes()), Runs),
        ("a loader that asks for one itself, by a lie", loader("nested", &good.clone().loader(b"/ld", |_| ()).bytes()), Runs),
        ("a missing one", asking(b"/nowhere/ld.so\0").bytes(), Fails(Errno::ENOENT)),
        ("a path without end", asking(b"/bin/true").bytes(), Fails(Errno::ENOEXEC)),
        ("a path of one byte", asking(b"\0").bytes(), Fails(Errno::ENOEXEC)),
        ("an empty path", asking(b"\0\0").bytes(), Fails(Errno::EACCES)),
        ("a path too long", long, Fails(Errno::ENOEXEC)),
        ("a path beyond the file", segment(b"/a\0", |s| s.offset = 0x10_0000), Fails(Errno::EIO)),
        ("a path at minus sixteen", segment(b"/a\0", |s| s.offset = u64::MAX - 15), Fails(Errno::EINVAL)),
        ("a directory", asking(b"/tmp\0").bytes(), Fails(Errno::EACCES)),
        ("not executable", asking(plain.as_bytes()).bytes(), Fails(Errno::EACCES)),
        ("empty", loader("empty", b""), Fails(Errno::EIO)),
        ("a short script", loader("script", b"#!/bin/sh\n"), Fails(Errno::EIO)),
        ("no ELF file", loader("text", &[b'a'; 200]), Fails(Errno::ELIBBAD)),
        ("of another architecture", loader("foreign", &Program::new(foreign()).bytes()), Fails(Errno::ELIBBAD)),
        ("with bad headers", loader("bad", &good.clone().with(|p| p.header_size = 1).bytes()), Fails(Errno::ELIBBAD)),
        ("an object file", loader("object", &good.clone().with(|p| p.kind = ET_REL).bytes()), Ends),
        ("nothing to load", loader("nothing", &good.clone().with(|p| p.segments[0].kind = 0).bytes()), Ends),
    ];
    lab.all_end(&rows);
    let missing = lab.explain(&lab.path("file2"), &[]);
    missing.ends(1).ends_saying(&["its loader /nowhere/ld.so", "no such file or directory"]);
}

/// A program whose file is to have so many bytes, and has fewer.
fn larger_by(bytes: u64) -> Program {
    Program::new(native()).load(|s| (s.in_file, s.in_memory) = (bytes, bytes))
}

#[test]
fn truncated_programs_are_told_from_whole_ones() {
    let lab = Lab::new();
    let whole = Program::new(native()).bytes();
    let loader = Program::position_independent(native()).bytes();
    let loader = lab.make("loader", &loader[..0x200]);
    for length in [1, 3, 4, 20, 51, 63, 64, 100] {
        let path = lab.make(&format!("cut{length}"), &whole[..length]);
        let output = lab.ends(&length.to_string(), &path, Fails(Errno::ENOEXEC));
        if length >= 4 {
            output.ends_saying(&["truncated"]);
        }
    }
    // what is missing of the last page reads as zeros
    let path = lab.make("cut", &whole[..0x200]);
    let output = lab.ends("cut within a page", &path, Runs);
    assert!(output.stdout.contains("the last 3584 bytes"), "{output}");
    let asking = Program::new(native()).loader(format!("{}\0", loader.display()).as_bytes(), |_| ());
    let path = lab.make("asking", &asking.bytes());
    let output = lab.ends("its loader cut within a page", &path, Runs);
    assert!(output.stdout.contains("the last 3584 bytes"), "{output}");
    let entry = Some(0x40_0000 + 0x1_0000);
    let path = lab.make("pages", &larger_by(0x2_0000).with(|p| p.entry = entry).bytes());
    lab.ends("cut by a whole page", &path, Ends).ends_saying(&["truncated: 4096 of 131072 bytes are there"]);
    // zeros of its memory begin in a page that is missing, and the kernel writes them
    let padded = Program::new(native()).load(|s| (s.in_file, s.in_memory, s.flags) = (0x1_0800, 0x2_0000, RWX));
    let path = lab.make("padded", &padded.bytes());
    lab.ends("cut before its zeros", &path, Ends).ends_saying(&["truncated: 4096 of 67584 bytes are there"]);
    // it never touches what is missing
    let path = lab.make("untouched", &larger_by(0x1_0000).bytes());
    let output = lab.explain(&path, &["--format", "json"]).ends(1);
    assert_eq!(output.json()["runs"], Value::Null, "{output}");
    output.ends_saying(&["whether", "is not known", "truncated: 4096 of 65536 bytes are there", "once it touches"]);
    assert_eq!(lab.execute(&path), Runs);
}

#[test]
fn scripts_end_as_explained() {
    let lab = Lab::new();
    let good = lab.make("good", &Program::new(native()).bytes());
    let good = good.display();
    let pad = |length: usize| "/".repeat(length - format!("{good}").len());
    #[rustfmt::skip]
    let rows = [
        ("a script", format!("#!{good}\n"), Runs),
        ("without newline", format!("#!{good}"), Runs),
        ("blanks", format!("#! \t{good} \t a b \t\n"), Runs),
        ("254 bytes of name", format!("#!{}{good}\n", pad(253)), Runs),
        ("255 bytes of name", format!("#!{}{good}\n", pad(254)), Fails(Errno::ENOEXEC)),
        ("a long argument", format!("#!{good} {}\n", "a".repeat(500)), Runs),
        ("a NUL", format!("#!{good}\0x\n"), Runs),
        ("carriage returns", format!("#!{good}\r\necho\r\n"), Fails(Errno::ENOENT)),
        ("no interpreter", "#!\n".to_owned(), Fails(Errno::ENOEXEC)),
        ("blanks alone", "#! \t \n".to_owned(), Fails(Errno::ENOEXEC)),
        ("#! alone", "#!".to_owned(), Fails(Errno::EACCES)),
        ("#! and blanks alone", "#!  ".to_owned(), Fails(Errno::EACCES)),
        ("a missing interpreter", "#!/nowhere/sh\n".to_owned(), Fails(Errno::ENOENT)),
        ("a directory", "#!/tmp\n".to_owned(), Fails(Errno::EACCES)),
        ("itself", format!("#!{}\n", lab.path("file14").display()), Fails(Errno::ELOOP)),
        ("env and a carriage return", "#!/usr/bin/env sh\r\n".to_owned(), Ends),
    ];
    let rows = rows.map(|(row, text, fate)| (row, text.into_bytes(), fate));
    lab.all_end(&rows);
    for (file, interpreter, argument) in [
        ("file0", format!("{good}"), None),
        ("file2", format!("{good}"), Some("a b".to_owned())),
        ("file5", format!("{good}"), Some("a".repeat(255 - format!("#!{good} ").len()))),
        ("file6", format!("{good}"), None),
        ("file7", format!("{good}\r"), None),
    ] {
        let json = lab.explain(&lab.path(file), &["--format", "json"]).json();
        let step = &json["steps"][0];
        assert_eq!(step["interpreter"].as_str(), Some(&*interpreter), "{file}");
        assert_eq!(step["argument"].as_str(), argument.as_deref(), "{file}");
    }
    let output = lab.explain(&lab.path("file4"), &[]).ends(1);
    output.ends_saying(&["too long", "shorter path", "#!/usr/bin/env"]).never_says("sed");
    let mut last = lab.path("good");
    for (depth, expected) in [(1, Runs), (2, Runs), (3, Runs), (4, Runs), (5, Runs), (6, Fails(Errno::ELOOP))] {
        let line = format!("#!{}\n", last.display());
        last = lab.make(&format!("script{depth}"), line.as_bytes());
        lab.ends(&format!("a chain of {depth}"), &last, expected);
    }
}

#[test]
fn a_script_that_names_itself_is_told_to_name_a_program() {
    let lab = Lab::new();
    let script = lab.path("itself");
    let line = format!("#!{}\n", script.display());
    lab.make("itself", line.as_bytes());
    lab.ends("a circle", &script, Fails(Errno::ELOOP)).ends_saying(&["name a program that is not a script"]);
}

/// The kernel counts the interpreter of a handler too.
#[test]
fn a_chain_of_scripts_to_a_foreign_program_is_one_shorter() {
    needs_emulators!();
    let lab = Lab::new();
    let foreign = foreign();
    lab.host.binfmt(&["--install", foreign.oci]).ok();
    let program = lab.make("program", &Program::new(foreign).bytes());
    let mut last = program.clone();
    for depth in 1..=4 {
        let line = format!("#!{}\n", last.display());
        last = lab.make(&format!("script{depth}"), line.as_bytes());
        lab.ends(&format!("a chain of {depth}"), &last, Runs);
    }
    let line = format!("#!{}\n", last.display());
    let fifth = lab.make("script5", line.as_bytes());
    let output = lab.ends("a chain of 5", &fifth, Fails(Errno::ELOOP));
    let remedy = format!("name {} itself in the first line of {}", program.display(), fifth.display());
    output.ends_saying(&["one interpreter too many", foreign.qemu, &remedy]);
}

#[test]
fn notes_tell_what_the_kernel_does_not_mind() {
    let lab = Lab::new();
    for (text, words) in [
        ("#!/usr/bin/env sh -e\n", &["env -S"][..]),
        ("#!/bin/sh -e\r\n", &["carriage return"]),
        ("#!bin/sh\n", &["current directory"]),
    ] {
        let path = lab.make("script", text.as_bytes());
        let output = lab.explain(&path, &[]);
        let note = output.stdout.lines().find(|line| line.starts_with("  note"));
        for word in words {
            assert!(note.is_some_and(|note| note.contains(word)), "{text}: {output}");
        }
    }
    let path = lab.make("script", b"#!/usr/bin/env -S sh -e\n");
    let output = lab.explain(&path, &[]).ok();
    assert!(!output.stdout.contains("note"), "{output}");
}

#[test]
fn what_is_no_program_is_named() {
    let lab = Lab::new();
    let windows = |machine: &[u8]| [&b"MZ"[..], &[0; 58], &[64, 0, 0, 0], b"PE\0\0", machine].concat();
    #[rustfmt::skip]
    let rows: [(&[u8], &[&str]); 26] = [
        (b"\xff\xfe#\0!\0", &["UTF-16"]),
        (&windows(b"\x64\xaa"), &["for arm64"]),
        (&windows(b"\x64\x86"), &["Windows or DOS"]),
        (&windows(b"")[..60], &["Windows or DOS"]),
        (b"\xca\xfe\xba\xbe", &["does not know"]),
        (b"!<arch>\ndebian-binary   ", &["Debian package"]),
        (b"\n <!DOCTYPE html>\n", &["HTML"]),
        (b"<HTML><head>", &["HTML"]),
        ("echo \u{e4}\u{f6}".as_bytes().strip_suffix(b"\xb6").unwrap(), &["without a #!"]),
        (b"\x7fEL", &["does not know"]),
        (b"", &["empty", "again"]),
        (&[0; 300], &["zeros", "again"]),
        (b"echo hi\n", &["without a #! line", "sh "]),
        (b"\xef\xbb\xbf#!/bin/sh\n", &["byte order mark", "sed -i"]),
        (b"\n\n#!/bin/sh\n", &["very beginning", "perl"]),
        (b"MZ\x90\0", &["Windows", "wine"]),
        (b"\xcf\xfa\xed\xfe\x07\0\0\x01", &["macOS", "Linux"]),
        (b"\xca\xfe\xba\xbe\0\0\0\x02", &["several architectures"]),
        (b"\xca\xfe\xba\xbe\0\0\0\x41", &["Java class"]),
        (b"\0asm\x01\0\0\0", &["WebAssembly"]),
        (b"PK\x03\x04", &["JAR", "java -jar"]),
        (b"\x1f\x8b\x08\0", &["gzip", "tar -xzf"]),
        (b"!<arch>\nx.o/", &["ar)", "link"]),
        (b"version https://git-lfs.github.com/spec/v1\n", &["Git LFS", "git lfs pull"]),
        (b"<!DOCTYPE html>\n<html>", &["HTML", "again"]),
        (b"\x01\x02\x03\x04", &["does not know"]),
    ];
    for (bytes, words) in rows {
        let path = lab.make("file", bytes);
        lab.ends(words[0], &path, Fails(Errno::ENOEXEC)).ends_saying(words);
    }
}

/// What the remedies do makes the files run.
#[test]
fn remedies_are_commands_that_help() {
    let lab = Lab::new();
    let good = lab.make("good", &Program::new(native()).bytes());
    let good = good.display();
    for text in [format!("#!{good}\r\n"), format!("\u{feff}#!{good}\n"), format!("\n \n #!{good}\n"), "#!\n".to_owned()]
    {
        let path = lab.make("a file", text.as_bytes());
        let json = lab.explain(&path, &["--format", "json"]).ends(1).json();
        let remedy = json["remedy"].as_str().unwrap();
        let (_, command) = remedy.split_once(": ").unwrap();
        lab.host.sh(command).ok();
        lab.explain(&path, &[]).ok();
    }
    let path = lab.make("plain", &Program::new(native()).bytes());
    fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    let json = lab.explain(&path, &["--format", "json"]).ends(1).json();
    lab.host.sh(json["remedy"].as_str().unwrap()).ok();
    lab.ends("chmod", &path, Runs);
}

/// However the file is called.
#[test]
fn remedies_are_commands_for_oddly_named_files_too() {
    let lab = Lab::new();
    let names: [&[u8]; 5] = [b"-dash", b"odd\n\x1b[31mname\\", b"it's", "\u{9b}31m".as_bytes(), b"latin \xe9'"];
    let good = lab.make("good", &Program::new(native()).bytes());
    for name in names.map(OsStr::from_bytes) {
        let path = lab.host.scratch().join(name);
        fs::copy(&good, &path).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        let explain = r#"cd "$0" && "$1" --explain="$2" --format json"#;
        let call = lab.host.program("sh").args(["-c", explain]);
        let call = call.args([lab.host.scratch().as_os_str(), BINFMT.as_ref(), name]);
        let json = call.run().ends(1).json();
        let remedy = format!(r#"cd "$0" && {}"#, json["remedy"].as_str().unwrap());
        assert!(!remedy.contains(char::is_control), "{remedy:?}");
        lab.host.program("bash").args(["-c", &remedy]).args([lab.host.scratch()]).run().ok();
        lab.ends("chmod", &path, Runs);
    }
}

/// A call that blocks is ended by the harness, with a status of its own.
#[test]
fn what_is_no_file_is_refused_at_once() {
    let lab = Lab::new();
    let path = |name: &str| lab.path(name);
    mkfifo(&path("pipe"), Mode::from_bits_truncate(0o755)).unwrap();
    let _socket = UnixListener::bind(path("socket")).unwrap();
    fs::set_permissions(path("socket"), PermissionsExt::from_mode(0o755)).unwrap();
    symlink("/nowhere/at/all", path("dangling")).unwrap();
    symlink(path("circle"), path("circle")).unwrap();
    let good = lab.make("good", &Program::new(native()).bytes());
    symlink(&good, path("link")).unwrap();
    let plain = lab.make("plain", &Program::new(native()).bytes());
    fs::set_permissions(plain, PermissionsExt::from_mode(0o644)).unwrap();
    #[rustfmt::skip]
    let rows = [
        ("link", Runs, ""),
        ("pipe", Fails(Errno::EACCES), "pipe"),
        ("socket", Fails(Errno::EACCES), "socket"),
        ("dangling", Fails(Errno::ENOENT), "/nowhere/at/all"),
        ("circle", Fails(Errno::ELOOP), "circle"),
        ("plain", Fails(Errno::EACCES), "chmod +x"),
        ("missing", Fails(Errno::ENOENT), "does not exist"),
        ("good/below", Fails(Errno::ENOTDIR), "not a directory"),
        ("good/", Fails(Errno::ENOTDIR), "not a directory"),
        (".", Fails(Errno::EACCES), "directory"),
    ];
    for (name, expected, words) in rows {
        lab.ends(name, &path(name), expected).ends_saying(&[words]);
    }
    let device = Path::new("/dev/null");
    lab.ends("a device", device, Fails(Errno::EACCES)).ends_saying(&["device"]);
    let long = "a".repeat(300);
    lab.ends("a long name", &path(&long), Fails(Errno::ENAMETOOLONG));
}

#[test]
fn a_file_being_written_is_told_with_its_writer() {
    let lab = Lab::new();
    let path = lab.make("busy", &Program::new(native()).bytes());
    let mut writer = lab.host.command("sh");
    let writer =
        writer.args(["-c", "exec 3>>\"$0\"; echo; exec cat"]).arg(&path).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut writer = writer.spawn().unwrap();
    let mut ready = String::new();
    let stdout = writer.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut ready).unwrap();
    let output = lab.ends("open for writing", &path, Fails(Errno::ETXTBSY));
    output.ends_saying(&["open for writing, by process", "(cat)"]);
    // root without its privileges may not look into the processes of one that has them
    let output = lab.host.program("setpriv").args(["--bounding-set=-all", BINFMT, "--explain"]).args([&path]).run();
    if tells_without_executing(&lab) {
        output.ends(1).ends_saying(&["may not look into", "ETXTBSY"]);
    }
    drop(writer.stdin.take());
    writer.wait().unwrap();
    lab.ends("closed", &path, Runs);
}

/// Whether the kernel has `AT_EXECVE_CHECK`: Linux 6.14 and newer.
fn tells_without_executing(lab: &Lab) -> bool {
    let release = lab.host.sh("uname -r").ok().stdout;
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(14))
}

#[test]
fn permission_is_the_kernels_to_give() {
    let lab = Lab::new();
    let path = lab.make("program", &Program::new(native()).bytes());
    // root without its privileges, and the owner of the file
    let powerless = |program: &str, args: &[&str]| {
        lab.host.program("setpriv").args(["--bounding-set=-all", program]).args(args).args([&path]).run()
    };
    let exec = lab.exec.to_str().unwrap();
    for (mode, words, errno) in [
        (0o066, "may not be executed by this user (EACCES", Some("Permission denied")),
        (0o611, "may not be executed by this user (EACCES", Some("Permission denied")),
        (0o100, "runs is not known: it cannot be read by this user", None),
    ] {
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let words = if mode & 0o111 == 0 { "its mode has no x" } else { words };
        powerless(BINFMT, &["--explain"]).ends(1).ends_saying(&[words]);
        let output = powerless(exec, &[]);
        assert_eq!(output.stderr.strip_prefix("execv: ").map(str::trim_end), errno, "{mode:o}");
    }
}

/// In a user namespace without a table of its own the host's handlers are at work, and not to be seen.
#[test]
fn a_handler_out_of_sight_is_told() {
    let lab = Lab::new();
    let path = program("arm64");
    lab.host.binfmt(&["--install", "arm64"]).ok();
    lab.host.sh(&format!("mount -t tmpfs none {MOUNT_POINT}")).ok();
    let output = lab.explain(&path, &[]).ok();
    assert!(output.stdout.contains("out of sight"), "{output}");
}

#[test]
fn a_noexec_mount_is_told() {
    let lab = Lab::new();
    let dir = lab.path("noexec");
    fs::create_dir(&dir).unwrap();
    lab.host.sh(&format!("mount -t tmpfs -o noexec,size=1m none '{}'", dir.display())).ok();
    lab.host.sh(&format!("cp /bin/true '{0}/true'; chmod 755 '{0}/true'", dir.display())).ok();
    lab.ends("noexec", &dir.join("true"), Fails(Errno::EACCES)).ends_saying(&["noexec", "remount,exec"]);
}

#[test]
fn huge_and_oddly_named_files_cost_no_more() {
    let lab = Lab::new();
    let sparse = lab.path("sparse");
    lab.host.sh(&format!("truncate -s 4G '{0}'; chmod 755 '{0}'", sparse.display())).ok();
    lab.ends("sparse", &sparse, Fails(Errno::ENOEXEC)).ends_saying(&["zeros"]);
    let program = lab.make("huge", &Program::new(native()).bytes());
    lab.host.sh(&format!("truncate -s 4G '{}'", program.display())).ok();
    lab.ends("a huge program", &program, Runs);
    let odd = lab.path("odd\n\x1b[31mname");
    fs::copy(lab.path("sparse").parent().unwrap().join("exec"), &odd).unwrap();
    fs::set_permissions(&odd, PermissionsExt::from_mode(0o644)).unwrap();
    let output = lab.explain(&odd, &[]).ends(1);
    assert!(!output.stderr.contains('\x1b') && !output.stdout.contains('\x1b'), "{output}");
    assert_eq!(output.stderr.lines().count(), 1, "{output}");
}

#[test]
fn a_file_that_changes_meanwhile_is_explained_all_the_same() {
    let lab = Lab::new();
    let path = lab.make("changing", &Program::new(native()).bytes());
    let script = format!(
        "for i in $(seq 300); do truncate -s $((i % 5 * 40)) '{0}'; done & \
         for i in $(seq 20); do '{BINFMT}' --explain '{0}' >/dev/null || test $? = 1; done; wait",
        path.display()
    );
    lab.host.sh(&script).ok().never_says("panic");
}

#[test]
fn foreign_programs_end_as_explained() {
    needs_emulators!();
    let lab = Lab::new();
    let foreign = foreign();
    let good = || Program::new(foreign);
    let path = lab.make("program", &good().bytes());
    let output = lab.ends("no handler", &path, Fails(Errno::ENOEXEC));
    output.ends_saying(&["no handler", &format!("binfmt --install {}", foreign.oci)]);
    lab.host.binfmt(&["--install", foreign.oci]).ok();
    let asking = |path: &[u8]| good().loader(path, |_| ());
    let loader = |name: &str, bytes: &[u8]| {
        let path = lab.make(name, bytes).into_os_string().into_encoded_bytes();
        asking(&[&path[..], b"\0"].concat()).bytes()
    };
    let independent = Program::position_independent(foreign);
    let ident = |at: usize, value| {
        let mut bytes = good().bytes();
        bytes[at] = value;
        bytes
    };
    #[rustfmt::skip]
    let rows = [
        ("a program", good().bytes(), Runs),
        ("a position-independent one", independent.bytes(), Runs),
        ("another ABI", ident(7, 97), Runs),
        ("padding that is not zero", ident(9, 1), Fails(Errno::ENOEXEC)),
        ("another class", ident(4, 1), Fails(Errno::ENOEXEC)),
        ("an object file", good().with(|p| p.kind = ET_REL).bytes(), Fails(Errno::ENOEXEC)),
        ("a loader", loader("loader", &independent.bytes()), Runs),
        ("a loader that asks for one itself, by a lie", loader("nested", &independent.clone().loader(b"/ld", |_| ()).bytes()), Runs),
        ("a missing loader", asking(b"/nowhere/ld.so\0").bytes(), Ends),
        ("a loader of this host", loader("native", &Program::position_independent(native()).bytes()), Ends),
        ("a loader that is a directory", asking(b"/tmp\0").bytes(), Ends),
        ("an empty loader", loader("empty", b""), Ends),
        ("a path without end", asking(b"/bin/true").bytes(), Ends),
        ("headers of a wrong size", good().with(|p| p.header_size = 55).bytes(), Ends),
        ("headers beyond the end", good().with(|p| p.headers = 1 << 40).bytes(), Ends),
        ("nothing to load", good().with(|p| p.segments[0].kind = 0).bytes(), Ends),
        ("off its page", good().load(|s| s.offset = 1).bytes(), Ends),
        ("cut within a page", good().bytes()[..0x200].to_vec(), Runs),
        ("beyond the end", good().load(|s| s.offset = 0x10_0000).bytes(), Ends),
        ("cut in its header", good().bytes()[..40].to_vec(), Ends),
    ];
    lab.all_end(&rows);
    let plain = lab.make("plain-loader", &independent.bytes());
    fs::set_permissions(&plain, PermissionsExt::from_mode(0o644)).unwrap();
    let bytes = asking(format!("{}\0", plain.display()).as_bytes()).bytes();
    let path = lab.make("asking", &bytes);
    lab.ends("an emulator reads its loader, and executes it not", &path, Runs);
}

#[test]
fn handlers_of_every_kind_are_told() {
    let lab = Lab::new();
    let (host, exec) = (&lab.host, lab.path("exec"));
    let good = lab.make("good", &Program::new(native()).bytes());
    host.register_line(format!(":first:E::xyz::{}:", good.display()).as_bytes());
    let path = lab.make("file.xyz", b"anything");
    let json = lab.ends("an extension", &path, Runs).json();
    assert_eq!(json["steps"][0]["handler"]["entry"], "first", "{json}");
    assert_eq!(json["steps"][0]["handler"]["extension"], "xyz", "{json}");
    assert_eq!(json["steps"][1]["because"], "handler", "{json}");
    host.register_line(format!(":second:M::any::{}:P", good.display()).as_bytes());
    let json = lab.ends("the newer one", &path, Runs).json();
    assert_eq!(json["steps"][0]["handler"]["entry"], "second", "{json}");
    assert_eq!(json["steps"][0]["shadowed"][0]["entry"], "first", "{json}");
    host.sh(&format!("echo 0 >{MOUNT_POINT}/second")).ok();
    let json = lab.ends("the other one", &path, Runs).json();
    assert_eq!(json["steps"][0]["disabled"][0]["entry"], "second", "{json}");
    host.sh(&format!("echo 0 >{MOUNT_POINT}/first")).ok();
    let output = lab.ends("both off", &path, Fails(Errno::ENOEXEC));
    output.ends_saying(&["switched off", "echo 1"]);
    host.sh(&format!("for e in first second; do echo 1 >{MOUNT_POINT}/$e; done; echo 0 >{MOUNT_POINT}/status")).ok();
    let output = lab.ends("the table off", &path, Fails(Errno::ENOEXEC));
    output.ends_saying(&["echo 1", "status"]);
    let elsewhere = lab.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let at = elsewhere.to_str().unwrap();
    host.sh(&format!("mount --bind {MOUNT_POINT} '{at}'")).ok();
    lab.explain(&path, &["--mount", at]).ends(1).ends_saying(&[&format!("echo 1 > {at}/status")]);
    host.sh(&format!("echo 1 >{MOUNT_POINT}/status")).ok();
    let long =
        [&b":long:M:56:"[..], "\\xab".repeat(200).as_bytes(), format!("::{}:", good.display()).as_bytes()].concat();
    host.register_line(&long);
    let path = lab.make("far", &[[b'.'; 56].as_slice(), &[0xab; 200]].concat());
    lab.ends("a huge magic at an offset", &path, Runs);
    host.register_line(b":nowhere:M::odd::/nowhere/at/all:");
    let path = lab.make("odd", b"odd one");
    lab.ends("a handler without interpreter", &path, Fails(Errno::ENOENT)).ends_saying(&["nowhere", "echo -1"]);
    lab.explain(&path, &["--mount", at]).ends(1).ends_saying(&[&format!("echo -1 > {at}/nowhere")]);
    host.register_line(format!(":pinned:M::pin::{}:F", exec.display()).as_bytes());
    fs::remove_file(&exec).unwrap();
    let path = lab.make("pinned", b"pin this");
    lab.explain(&path, &[]).ok();
    let script = lab.make("script.xyz", b"#!/nowhere/sh\n");
    lab.explain(&script, &[]).ok();
}

#[test]
fn a_handler_that_does_not_work_is_the_reason() {
    let lab = Lab::new();
    let path = program("arm64");
    let broken = lab.path("broken");
    lab.host.compile_emulator(&broken, "return 3;");
    lab.host.register("mine", "aarch64", &broken, "F");
    let output = lab.explain(&path, &[]).ends(1);
    output.ends_saying(&["linux/arm64", "wrong answer", "binfmt --install arm64"]);
    lab.host.sh(&format!("echo 0 >{MOUNT_POINT}/mine")).ok();
    lab.explain(&path, &[]).ends(1).ends_saying(&["switched off"]);
    lab.host.sh(&format!("echo -1 >{MOUNT_POINT}/mine")).ok();
    lab.host.register("mine", "aarch64", &emulators().join("qemu-aarch64"), "");
    let output = lab.explain(&path, &[]).ok();
    assert!(output.stdout.contains("is not pinned"), "{output}");
    lab.host.runs_arm64();
}

/// The line of an entry that takes 64-bit programs of one segment, of any machine, with zeros from `EI_OSABI` on: all probes. The
/// binary under test may itself be of type `ET_EXEC`, and must start: it has more segments.
fn taking_one_segment(name: &str, interpreter: &Path) -> Vec<u8> {
    let mut mask = [0; 58];
    mask[..18].fill(0xff);
    mask[56..].fill(0xff);
    let mut magic = [0; 58];
    magic[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    magic[16] = 2;
    magic[56] = 1;
    let escaped = |bytes: [u8; 58]| bytes.map(|byte| format!("\\x{byte:02x}")).concat();
    format!(":{name}:M::{}:{}:{}:F", escaped(magic), escaped(mask), interpreter.display()).into_bytes()
}

/// It takes this host's own probes, too; the emulator of another entry is a program that it does not match, and runs natively.
#[test]
fn an_entry_that_takes_the_probes_hides_nothing_from_the_rest() {
    let lab = Lab::new();
    lab.host.binfmt(&["--install", foreign().oci]).ok();
    let mut gnu = Program::new(foreign()).bytes();
    gnu[7] = 3;
    let path = lab.make("gnu", &gnu);
    lab.host.register_line(&taking_one_segment("other", Path::new("/bin/false")));
    lab.ends("not taken by it", &path, Runs);
    let mut own = Program::new(native()).bytes();
    own[7] = 3;
    lab.ends("native, and not taken by it", &lab.make("own", &own), Runs);
    let taken = lab.make("taken", &Program::new(native()).bytes());
    lab.ends("native, and taken by it", &taken, Ends).ends_saying(&["other", "--uninstall"]);
}

#[test]
fn bytes_are_compared_on_demand() {
    let lab = Lab::new();
    let mut bytes = Program::new(arch("s390x")).bytes();
    bytes[..20].copy_from_slice(arch("s390x").magic().as_slice());
    bytes[9] = 7;
    let path = lab.make("file", &bytes);
    lab.host.binfmt(&["--install", "s390x"]).ok();
    let output = lab.explain(&path, &["--verbose"]).ends(1);
    let lines: Vec<&str> = output.stdout.lines().map(str::trim).collect();
    assert!(lines.contains(&"9     07    ff    00     differs"), "{output}");
    assert!(lines.contains(&"7     00    00    00     any"), "{output}");
    output.ends_saying(&["linux/s390x", "qemu-s390x", "byte 9 of its header is 07, not 00"]);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_level_that_is_needed_and_not_there_is_told() {
    let lab = Lab::new();
    let supported = lab.host.binfmt(&[]).ok().list("supported");
    for level in 2..=4 {
        let bits = 1 << (level - 1);
        let fixed = lab.make("fixed", &Program::new(native()).needs(bits).bytes());
        let dynamic = lab.path("dynamic");
        let compile = format!("cc -Wl,-z,x86-64-v{level} -x c -o '{}' -", dynamic.display());
        lab.host.sh_with(&compile, b"int main(void) { return 47; }").ok();
        let is_there = supported.contains(&format!("linux/amd64/v{level}"));
        // glibc's loader refuses what it finds stated there; nobody else looks at it
        lab.ends("dynamic", &dynamic, if is_there { Runs } else { Ends });
        let output = lab.ends("static", &fixed, Runs);
        assert_eq!(output.stdout.contains("needs level"), !is_there, "{output}");
    }
}

/// What a crashing container has: the `/bin/sh` of its image, whose links and loader are its own.
#[test]
fn the_shell_of_an_unpacked_image_is_explained() {
    needs_emulators!();
    let lab = Lab::new();
    let root = lab.path("root");
    unpack_userland(&lab.host, &root);
    let below = |options: &[&str]| {
        let root = ["--root", root.to_str().unwrap()];
        lab.explain(Path::new("/bin/sh"), &[&root[..], options].concat())
    };
    below(&[]).ends(1).ends_saying(&["exec format error", "binfmt --install arm64"]);
    lab.host.binfmt(&["--install", "arm64"]).ok();
    let json = below(&["--format", "json"]).ok().json();
    let found = json["steps"][0]["loader_found"].as_str().unwrap();
    assert!(found.starts_with(root.to_str().unwrap()), "{json}");
    let run = format!("chroot '{}' /bin/sh -c 'exit 47'", root.display());
    assert_eq!(lab.host.sh(&run).status, 47);
    let outside = root.join("usr/bin/dash");
    let output = lab.ends("outside its root", &outside, Ends);
    output.ends_saying(&["/lib/ld-linux-aarch64.so.1", "--root", "libc6:arm64"]);
    lab.host.executable(&root.join("start"), b"#!/bin/sh\nexit 47\n");
    let start = ["--root", root.to_str().unwrap()];
    lab.explain(Path::new("/start"), &start).ok();
    lab.explain(Path::new("start"), &start).ok();
    // commands that are to help name files of that root, not those of the same path here
    let script = root.join("usr/bin/crlf");
    lab.host.executable(&script, b"#!/bin/sh\r\n");
    let output = lab.explain(Path::new("/bin/crlf"), &start).ends(1);
    output.ends_saying(&[&format!("sed -i 's/\\r$//' {}", script.display())]);
    fs::set_permissions(&script, PermissionsExt::from_mode(0o644)).unwrap();
    lab.explain(Path::new("/bin/crlf"), &start).ends(1).ends_saying(&[&format!("chmod +x {}", script.display())]);
    fs::remove_file(root.join("usr/lib/ld-linux-aarch64.so.1")).unwrap();
    below(&[]).ends(1).ends_saying(&["ld-linux-aarch64.so.1", "does not exist"]);
}

/// Debian's dash and C library for arm64, with the links of a real one; `/bin/sh` leads there by absolute ones.
fn unpack_userland(host: &Host, root: &Path) {
    let from = program("arm64");
    let from = from.ancestors().nth(2).map(|programs| programs.join("arm64-dynamic"));
    let from = from.expect("a folder of folders");
    assert!(from.is_dir(), "no {}: run `make test-material`", from.display());
    let script = format!(
        "mkdir -p '{0}/usr/bin' '{0}/usr/lib/aarch64-linux-gnu'; cd '{0}'; ln -s usr/lib lib; ln -s /usr/bin bin; \
         cp '{1}/dash' usr/bin/; ln -s /usr/bin/dash usr/bin/sh; cp '{1}-libc/'*.so.* usr/lib/aarch64-linux-gnu/; \
         ln -s aarch64-linux-gnu/ld-linux-aarch64.so.1 usr/lib/",
        root.display(),
        from.display()
    );
    host.sh(&script).ok();
}

#[test]
fn wrong_calls_are_told() {
    let lab = Lab::new();
    for args in [&["--root", "/"][..], &["--verbose"], &["--explain"], &["--explain", "/bin/sh", "--status"]] {
        lab.host.binfmt(args).ends(2);
    }
    let output = lab.host.binfmt(&["--explain", "/bin/sh", "--root", "/nowhere"]);
    output.ends(1).ends_saying(&["root directory /nowhere", "--root"]);
}

/// As before Linux 5.6, and below a container's filter of system calls that is older than that.
#[test]
fn a_root_directory_without_openat2_is_refused_as_such() {
    let lab = Lab::new();
    let without = lab.path("without");
    // openat2 has this number on every architecture but Alpha
    lab.host.compile(
        &without,
        "struct { unsigned short code; unsigned char yes, no; unsigned number; } filter[] = { \
           {0x20, 0, 0, 0}, {0x15, 0, 1, 437}, {6, 0, 0, 0x50000 + 38}, {6, 0, 0, 0x7fff0000} }; \
         struct { unsigned short length; void *filter; } program = { 4, filter }; \
         int prctl(int, ...); \
         if (prctl(38, 1, 0, 0, 0) || prctl(22, 2, &program)) return 3; \
         execv(argv[1], argv + 1); return 4;",
    );
    let call = lab.host.program(&without).args([BINFMT, "--explain", "/bin/sh", "--root", "/"]);
    call.run().ends(1).ends_saying(&["root directory /", "openat2", "ENOSYS", "5.6", "chroot"]).never_says("/bin/sh");
    lab.explain(Path::new("/bin/sh"), &["--root", "/"]).ok();
}

/// A program that leases the file of its first argument, creates that of the second, and gives the lease up the seconds of the third
/// after somebody else opens the file.
fn lease_holder(lab: &Lab) -> PathBuf {
    let holder = lab.path("holder");
    lab.host.compile_source(
        &holder,
        "",
        "#define _GNU_SOURCE
         #include <fcntl.h>
         #include <signal.h>
         #include <stdlib.h>
         #include <unistd.h>
         int main(int argc, char **argv) {
             sigset_t broken; int sig, fd = open(argv[1], O_RDONLY);
             sigemptyset(&broken); sigaddset(&broken, SIGIO); sigprocmask(SIG_BLOCK, &broken, NULL);
             if (fcntl(fd, F_SETLEASE, F_WRLCK)) return 1;
             creat(argv[2], 0644);
             sigwait(&broken, &sig); sleep(atoi(argv[3]));
             return fcntl(fd, F_SETLEASE, F_UNLCK);
         }",
    );
    holder
}

/// `execve(2)` waits until the lease is broken, and so does the answer.
#[test]
fn a_file_that_somebody_leases_is_waited_for() {
    let lab = Lab::new();
    let file = lab.path("leased");
    lab.host.copy(&program("amd64"), &file);
    let (holder, ready) = (lease_holder(&lab), lab.path("ready"));
    let explained = lab.host.sh(&format!(
        "'{holder}' '{file}' '{ready}' 3 & until [ -e '{ready}' ]; do sleep 0.1; done; '{BINFMT}' --explain '{file}'; wait $!",
        holder = holder.display(),
        file = file.display(),
        ready = ready.display()
    ));
    explained.ok().says("waiting for another process's lease on ").prints("runs: yes");
}

/// Whoever owns a chain of scripts can hold a lease on each.
#[test]
fn leases_are_waited_for_as_long_as_one_may_stand() {
    let lab = Lab::new();
    let holder = lease_holder(&lab);
    let mut interpreter = "/bin/sh".to_owned();
    let scripts = ["third", "second", "first"].map(|name| {
        let script = lab.make(name, format!("#!{interpreter}\n").as_bytes());
        interpreter = script.display().to_string();
        script
    });
    let lease = scripts.map(|file| {
        let file = file.display();
        format!("'{}' '{file}' '{file}.ready' 600 >/dev/null 2>&1 & holders=\"$holders $!\"; until [ -e '{file}.ready' ]; do sleep 0.1; done", holder.display())
    });
    // one takes 45 s
    let limit = "timeout --kill-after=1 70";
    let script =
        format!("status=0; {limit} '{BINFMT}' --explain '{interpreter}' || status=$?; kill $holders; exit $status");
    lab.host.sh(&format!("{}\n{script}", lease.join("\n"))).ends(1);
}

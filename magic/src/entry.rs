//! An entry: what the kernel prints for one registered handler, and what follows from it.
//!
//! Owns reading that text, of this kernel, of older and of future ones: nothing in it is an error, and what nobody
//! expected is kept as such. Opening the file and the order of entries, newest first, are the tool's business.
//!
//! Source: `entry_status` (what is printed) in Linux's `fs/binfmt_misc.c`, and, for type `B` and flag `L`,
//! `Documentation/admin-guide/binfmt-misc.rst` of Linux 7.3.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::arch::{ARCHES, Arch};
use crate::rule::{Flags, Matcher, Rule};

mod draft;

use draft::Draft;

/// A registered handler.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Name of its file.
    pub name: OsString,
    /// Which registration made it: the number of its file's inode, which is another for each (`bm_get_inode`). 0 where that
    /// is not known.
    pub registration: u64,
    /// Whether the kernel considers it at all.
    pub enabled: bool,
    /// The program it starts.
    pub interpreter: Option<PathBuf>,
    /// The flags that this crate knows.
    pub flags: Flags,
    /// Letters among the flags that it does not know.
    pub unknown_flags: String,
    /// Which files it takes, if the text says so in a way that a registration line could.
    pub matcher: Option<Matcher>,
    /// Of type `B`: the name of the BPF handler, a program that decides which files the entry takes, and what runs them.
    pub bpf: Option<String>,
    /// The interpreters that such an entry keeps open for its program: each a name, a blank, and a path.
    pub bound: Vec<String>,
    /// Lines that nobody expected.
    pub unknown: Vec<String>,
}

impl Entry {
    /// Reads the text of the entry `name`.
    #[must_use]
    pub fn parse(name: &OsStr, text: &[u8]) -> Self {
        let mut entry = Self { name: name.to_owned(), ..Self::default() };
        let mut draft = Draft::default();
        let mut rest = text;
        while !rest.is_empty() {
            let is_path = entry.interpreter.is_none() && rest.starts_with(INTERPRETER);
            let end = if is_path { end_of_path(rest) } else { end_of_line(rest) };
            let is_first = rest.len() == text.len();
            entry.read(&rest[..end], is_first, &mut draft);
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        entry.matcher = draft.matcher();
        if entry.matcher.is_none() {
            entry.unknown.append(&mut draft.lines);
        }
        entry
    }

    fn read(&mut self, line: &[u8], is_first: bool, draft: &mut Draft) {
        let value = |key: &[u8]| line.strip_prefix(key);
        if is_first && matches!(line, b"enabled" | b"disabled") {
            self.enabled = line == b"enabled";
        } else if let (Some(path), None) = (value(INTERPRETER), &self.interpreter) {
            self.interpreter = Some(OsString::from_vec(path.to_vec()).into());
        } else if let Some(letters) = value(b"flags:") {
            (self.flags, self.unknown_flags) = Flags::parse(String::from_utf8_lossy(letters).trim());
        } else if let (Some(handler), None) = (value(b"bpf "), &self.bpf) {
            self.bpf = Some(String::from_utf8_lossy(handler).into_owned());
        } else if let Some(bound) = value(b"bpf-interpreter ") {
            self.bound.push(String::from_utf8_lossy(bound).into_owned());
        } else if !draft.read(line) {
            self.unknown.push(String::from_utf8_lossy(line).into_owned());
        }
    }

    /// Whether it replaces the loader of native programs (flag `L`), and runs none itself: programs of this host's own kind that
    /// match it run natively, and the kernel refuses all others (ENOEXEC).
    #[must_use]
    pub fn is_loader(&self) -> bool {
        self.unknown_flags.contains('L')
    }

    /// Whether this crate can register such an entry. Another program has registered one of type `B`, or with a flag that this
    /// crate does not know, and for another purpose.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.bpf.is_none() && self.unknown_flags.is_empty()
    }

    /// The entry that registering `rule` makes.
    #[must_use]
    pub fn made_by(rule: &Rule) -> Self {
        let Rule { name, matcher, interpreter, flags } = rule.clone();
        let (interpreter, matcher, flags) = (Some(interpreter), Some(matcher), flags.as_kept());
        Self { name, enabled: true, interpreter, flags, matcher, ..Self::default() }
    }

    /// Whether it reads the same, whichever registration made the two.
    #[must_use]
    pub fn reads_like(&self, other: &Self) -> bool {
        let other = Self { registration: self.registration, ..other.clone() };
        *self == other
    }

    /// Whether it is on and would take a file that begins with `head`, if no newer entry does.
    #[must_use]
    pub fn takes(&self, head: &[u8], file_name: &OsStr) -> bool {
        let matches = |matcher: &Matcher| matcher.matches(head, file_name);
        self.enabled && self.matcher.as_ref().is_some_and(matches)
    }

    /// The rule that makes this entry again, enabled and without what [`unknown`](Self::unknown) lines say.
    ///
    /// `None` if a registration line cannot express it: no interpreter, no matcher, flags of another kernel.
    #[must_use]
    pub fn to_rule(&self) -> Option<Rule> {
        let interpreter = self.interpreter.clone().filter(|_| self.unknown_flags.is_empty())?;
        let matcher = self.matcher.clone()?;
        Some(Rule { name: self.name.clone(), matcher, interpreter, flags: self.flags })
    }

    /// Whether registering `rule` makes this very handler, whatever the names of the two.
    #[must_use]
    pub fn is_made_by(&self, rule: &Rule) -> bool {
        let wanted = Rule { name: self.name.clone(), flags: rule.flags.as_kept(), ..rule.clone() };
        self.to_rule() == Some(wanted)
    }

    /// Whether its interpreter has the name of one of QEMU's user emulators (`qemu-aarch64`, `qemu-arm-static`, after a prefix
    /// too: `buildkit-qemu-arm`), and it takes ELF programs by their magic. Whoever registered it says so that this is QEMU, be
    /// it a wrapper or a packed build.
    #[must_use]
    pub fn starts_qemu(&self) -> bool {
        let path = self.interpreter.as_deref();
        let file = path.and_then(|path| path.file_name()).unwrap_or_default();
        let folder = path.and_then(|path| path.parent()?.file_name());
        let is_qemu =
            target_of(file).is_some() || folder == Some(OsStr::new("qemu-binfmt")) && target_of_debian(file).is_some();
        is_qemu && self.is_for_programs()
    }

    /// Whether its text says that it is one of QEMU's user emulators, whoever registered it: it [starts](Self::starts_qemu) one,
    /// or it has itself the name of a target whose programs it takes. Such a name proves nothing if the interpreter's file can
    /// be seen.
    #[must_use]
    pub fn is_qemu(&self) -> bool {
        let is_named_after = |arch: &Arch| target_of(&self.name) == Some(arch.qemu);
        let is_named = || ARCHES.iter().any(|arch| is_named_after(arch) && self.matches_some_of(arch));
        self.starts_qemu() || self.is_for_programs() && is_named()
    }

    /// Whether it is [plain](Self::is_plain), and takes ELF programs, or those of an architecture, by their magic.
    fn is_for_programs(&self) -> bool {
        let Some(Matcher::Magic { magic, .. }) = self.matcher.as_ref().filter(|_| self.is_plain()) else {
            return false;
        };
        magic.starts_with(b"\x7fELF") || ARCHES.iter().any(|arch| self.matches_some_of(arch))
    }

    /// Whether it would take programs of `arch`, were it on and no newer entry there.
    #[must_use]
    pub fn matches(&self, arch: &Arch) -> bool {
        let matcher = self.matcher.as_ref();
        matcher.is_some_and(|matcher| matcher.matches(&arch.header(), OsStr::new(arch.qemu)))
    }

    /// The same of programs of any [`Kind`](crate::arch::Kind), or of none.
    #[must_use]
    pub fn matches_some_of(&self, arch: &Arch) -> bool {
        self.matcher.as_ref().is_some_and(|matcher| matcher.matches_some_of(arch))
    }
}

const INTERPRETER: &[u8] = b"interpreter ";

fn end_of_line(text: &[u8]) -> usize {
    text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len())
}

/// The kernel prints a path as it is, newlines and all; the line that every kernel prints after it is the only bound.
fn end_of_path(text: &[u8]) -> usize {
    const NEXT: &[u8] = b"\nflags:";
    text.windows(NEXT.len()).rposition(|window| window == NEXT).unwrap_or_else(|| end_of_line(text))
}

/// QEMU's target in the name of an emulator, or of its entry. Any prefix may stand before it: that is what `QEMU_BINARY_PREFIX` is
/// for. Behind it stands what packages put there.
fn target_of(name: &OsStr) -> Option<&'static str> {
    let (_, name) = name.to_str()?.rsplit_once("qemu-")?;
    let mut suffixes = ["-static", "-binfmt", "-binfmt-P"].iter();
    let plain = suffixes.find_map(|suffix| name.strip_suffix(suffix));
    target(plain.unwrap_or(name))
}

/// The same of a name in Debian's folder `qemu-binfmt`: `aarch64-binfmt-P`.
fn target_of_debian(name: &OsStr) -> Option<&'static str> {
    target(name.to_str()?.strip_suffix("-binfmt-P")?)
}

fn target(name: &str) -> Option<&'static str> {
    /// Of older QEMUs.
    const RETIRED: [&str; 6] = ["cris", "nios2", "or32", "ppc64abi32", "tilegx", "unicore32"];
    let known = ARCHES.iter().flat_map(|arch| [arch.qemu, arch.interpreter]);
    known.chain(RETIRED).find(|known| *known == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &[u8]) -> Entry {
        Entry::parse(OsStr::new("qemu-aarch64"), text)
    }

    /// Printed by Linux 6.18 for an entry of the incumbent.
    const ARM64: &[u8] = b"enabled\ninterpreter /usr/bin/qemu-aarch64\nflags: POCF\noffset 0\n\
        magic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n";

    #[test]
    fn what_reads_the_same_need_not_be_the_same() {
        let first = entry(ARM64);
        let again = Entry { registration: 7, ..first.clone() };
        assert!(first.reads_like(&again) && first != again);
        let off = Entry { enabled: false, ..again };
        assert!(!first.reads_like(&off));
    }

    #[test]
    fn a_qemu_entry_is_its_row() {
        let (arm64, entry) = (Arch::by_qemu("aarch64").unwrap(), entry(ARM64));
        let flags = Flags::parse("CFP").0;
        let rule = Rule::for_arch(arm64, "", "/usr/bin".as_ref(), flags);
        assert_eq!(entry.to_rule().as_ref(), Some(&rule));
        assert_eq!((entry.unknown_flags.as_str(), &entry.unknown[..]), ("", &[][..]));
        assert!(entry.is_made_by(&rule) && entry.is_qemu());
        assert!(entry.is_made_by(&Rule { name: "another".into(), ..rule.clone() }));
        let wanted = Flags { open_binary: false, ..flags };
        assert!(entry.is_made_by(&Rule { flags: wanted, ..rule.clone() }), "C brings O");
        assert!(!entry.is_made_by(&Rule { flags: Flags::default(), ..rule.clone() }));
        assert!(!entry.is_made_by(&Rule { interpreter: "/opt/qemu-aarch64".into(), ..rule }));
    }

    #[test]
    fn only_an_enabled_entry_takes_files() {
        let header = Arch::by_qemu("aarch64").unwrap().header();
        let riscv = Arch::by_qemu("riscv64").unwrap().header();
        let disabled = [b"disabled", &ARM64[b"enabled".len()..]].concat();
        for (row, text, head, expected) in [
            ("enabled", ARM64, &header, true),
            ("disabled", &disabled, &header, false),
            ("another architecture", ARM64, &riscv, false),
            ("empty text", b"", &header, false),
        ] {
            assert_eq!(entry(text).takes(head, OsStr::new("a")), expected, "{row}");
        }
    }

    #[test]
    fn every_kernels_text_is_read() {
        let magic = Some(Matcher::Magic { offset: 0, magic: b"ab".to_vec(), mask: None });
        let jar = Some(Matcher::Extension("jar".into()));
        #[rustfmt::skip]
        let rows = [
            (&b"enabled\ninterpreter /a b\nflags: \noffset 0\nmagic 6162\n"[..], "/a b", "", &magic, ""),
            (b"enabled\ninterpreter /a\nflags:\noffset 0\nmagic 6162", "/a", "", &magic, ""),
            (b"enabled\ninterpreter /a\nflags: OC\nextension .jar\n", "/a", "OC", &jar, ""),
            (b"enabled\ninterpreter /a\n\nflags: O\noffset 0\nmagic 6162\n", "/a\n", "O", &magic, ""),
            (b"enabled\ninterpreter /a\nflags: P\nflags: F\nextension .jar\n", "/a\nflags: P", "F", &jar, ""),
            (b"enabled\nflags: PTD\noffset 0\nmagic 6162\nbfp x\n", "", "POT D", &magic, "bfp x"),
            // Linux 7.3: transparent, and made switched off; a program of BPF that chooses the interpreter
            (b"enabled\ninterpreter /a\nflags: OCFT\noffset 0\nmagic 6162\n", "/a", "OCFT", &magic, ""),
            (b"disabled\ninterpreter /a\nflags: PFD\nextension .jar\n", "/a", "PF D", &jar, ""),
            (b"enabled\ninterpreter /lib/ld.so\nflags: FL\noffset 0\nmagic 6162\n", "/lib/ld.so", "F L", &magic, ""),
            (b"enabled\nbpf chooser\nbpf-interpreter arm /usr/bin/qemu-arm\nflags: \n", "", "", &None, ""),
            (b"enabled\nbpf chooser\nbpf chooser\nbpf-program 7\nflags: \n", "", "", &None, "bpf chooser|bpf-program 7"),
            (b"half\ninterpreter /a\nenabled\n", "/a", "", &None, "half|enabled"),
            (b"enabled\ninterpreter /a\nflags: F\noffset 0\nmagic 616", "/a", "F", &None, "offset 0|magic 616"),
            (b"enabled\noffset 0\nmagic 6162\nmask ff\n", "", "", &None, "offset 0|magic 6162|mask ff"),
            (b"enabled\nmagic 6162\n", "", "", &None, "magic 6162"),
            (b"enabled\noffset 255\nmagic 6162\n", "", "", &None, "offset 255|magic 6162"),
            (b"enabled\noffset 0\nmagic 6162\nmagic 6162\n", "", "", &None, "offset 0|magic 6162|magic 6162"),
            (b"enabled\nextension jar\n", "", "", &None, "extension jar"),
            (b"enabled\nextension .jar\noffset 0\n", "", "", &None, "extension .jar|offset 0"),
            (b"\n\xff\n", "", "", &None, "|\u{fffd}"),
            (b"", "", "", &None, ""),
        ];
        for (text, interpreter, flags, matcher, unknown) in rows {
            let (entry, row) = (entry(text), text.escape_ascii());
            let path = entry.interpreter.unwrap_or_default();
            assert_eq!(path.as_os_str(), interpreter, "{row}");
            let letters = format!("{} {}", entry.flags, entry.unknown_flags);
            assert_eq!(letters.trim(), flags, "{row}");
            assert_eq!(&entry.matcher, matcher, "{row}");
            assert_eq!(entry.unknown.join("|"), unknown, "{row}");
        }
    }

    #[test]
    fn what_a_line_cannot_say_is_no_rule() {
        for (from, to, expected, row) in [
            ("POCF", "OCFT", true, "flag T"),
            ("POCF", "POCFX", false, "a flag of another kernel"),
            ("POCF", "FL", false, "a loader"),
            ("interpreter", "bpf", false, "no interpreter"),
            ("mask ff", "mask zz", false, "a mask that is none"),
            ("offset", "more\noffset", true, "a line more"),
        ] {
            let text = String::from_utf8_lossy(ARM64).replace(from, to);
            assert_eq!(entry(text.as_bytes()).to_rule().is_some(), expected, "{row}");
        }
    }

    #[test]
    fn qemu_is_told_from_everything_else() {
        let magic = "flags: F\noffset 0\nmagic 7f454c46";
        #[rustfmt::skip]
        let rows = [
            ("qemu-aarch64", "/usr/bin/qemu-aarch64", magic, true),
            ("buildkit-qemu-aarch64", "/usr/bin/x", magic, true),
            ("buildkit-qemu-aarch64", "/usr/bin/buildkit-qemu-aarch64", magic, true),
            ("aarch64", "/usr/bin/qemu-aarch64-static", magic, true),
            ("x", "/opt/my-qemu-arm", magic, true),
            ("x", "/usr/libexec/qemu-binfmt/aarch64-binfmt-P", magic, true),
            ("qemu-arm", "/bin/true", magic, true),
            ("qemu-arm", "/bin/true", "flags: F\noffset 0\nmagic 6e6f", false),
            ("qemu-jar", "/usr/bin/qemu-jar", "flags: \nextension .jar", false),
            ("qemu-x", "/usr/bin/qemu-x", "flags: \n", false),
            ("myqemu-arm", "/usr/bin/x", magic, true),
            ("myqemu-x", "/usr/bin/x", magic, false),
            ("qemu-arm", "/bin/true", "flags: F\noffset 0\nmagic 7f454c460201010000000000000000000200b700", false),
            ("arm", "/usr/bin/qemu-arm-binfmt", magic, true),
            ("nios2", "/usr/bin/qemu-nios2-static", magic, true),
            ("qemu-arm", "/usr/bin/qemu-arm", "flags: OFT\noffset 0\nmagic 7f454c46", true),
            ("qemu-arm", "/usr/bin/qemu-arm", "flags: FL\noffset 0\nmagic 7f454c46", false),
            ("qemu-arm", "/usr/bin/qemu-arm", "flags: FZ\noffset 0\nmagic 7f454c46", false),
            ("mytool", "/opt/vendor/xqemu-run", "flags: \noffset 0\nmagic 4d59544c", false),
            ("mytool", "/opt/vendor/xqemu-run", magic, false),
            ("qcow2", "/usr/bin/qemu-img", "flags: \noffset 0\nmagic 514649fb", false),
            ("vm", "/usr/bin/qemu-system-arm", magic, false),
            ("flat", "/usr/bin/qemu-arm", "flags: \noffset 0\nmagic 62464c54", false),
            ("x", "/usr/libexec/qemu-binfmt/wine", magic, false),
            ("x", "/opt/qemu-binfmt/bin/wine", magic, false),
            ("x", "/opt/qemu-7/bin/run", magic, false),
            ("WSLInterop-late", "/init", magic, false),
            ("python3.12", "/usr/bin/python3.12", magic, false),
            ("jar", "/usr/bin/jexec", "flags: \nextension .jar", false),
            ("rosetta", "/mnt/lima-rosetta/rosetta", magic, false),
            ("FEX-x86_64", "/usr/bin/FEXInterpreter", magic, false),
            ("box64", "/usr/local/bin/box64", magic, false),
            ("llvm-16-runtime.binfmt", "/usr/bin/lli-16", magic, false),
            ("wine", "/usr/bin/wine", magic, false),
        ];
        for (name, interpreter, rest, expected) in rows {
            let text = format!("enabled\ninterpreter {interpreter}\n{rest}\n");
            let entry = Entry::parse(OsStr::new(name), text.as_bytes());
            assert_eq!(entry.is_qemu(), expected, "{name} {interpreter}");
            // these are QEMU's by the entry's name alone
            let starts = expected && !["/bin/true", "/usr/bin/x"].contains(&interpreter);
            assert_eq!(entry.starts_qemu(), starts, "{name} {interpreter}");
        }
    }
}

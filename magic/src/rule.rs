//! A rule: what a registration line says, and which files it then takes.
//!
//! Owns flags, matcher and the kernel's limits on them: no line that [`Rule::encode`] makes is `EINVAL` to the
//! kernel, and [`Rule::decode`] takes every line that the kernel takes. The line's syntax is in `rule/line.rs`.
//! Whether the name is in use or the interpreter is there only the running kernel knows; that is the tool's business.
//!
//! Source: `create_entry` and `search_binfmt_handler` in Linux's `fs/binfmt_misc.c`, tried on 6.18 and 7.3. Before 5.1 the
//! kernel looked at 128 bytes of a file instead of 256; every row of the table fits in either.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::iter::repeat;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::arch::{Arch, Kind};

mod error;
mod field;
mod line;

pub use error::RuleError;

/// How much of a file's beginning the kernel looks at (`BINPRM_BUF_SIZE`).
const WINDOW: usize = 256;
/// How long a line may be (`count < 11` and `MAX_REGISTER_LENGTH`).
const LENGTH: RangeInclusive<usize> = 11..=1920;

/// What the kernel does besides starting the interpreter.
#[expect(clippy::struct_excessive_bools, reason = "five letters, each there or not")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    /// `P`: the interpreter gets the program's own `argv[0]` as well.
    pub preserve_argv0: bool,
    /// `O`: the interpreter gets the program as an open file, so that unreadable programs run too.
    pub open_binary: bool,
    /// `C`: the program's setuid and setgid bits count. Brings `O` with it.
    pub credentials: bool,
    /// `F`: the interpreter is opened when registered, and found from every root directory and namespace.
    pub fix_binary: bool,
    /// `T`, since Linux 7.3: the interpreter stays invisible. The program keeps its argument vector, and `/proc/PID/exe` is its
    /// file. The interpreter gets the program as an open file alone, so `T` brings `O` with it. The kernel refuses it with `P`.
    pub transparent: bool,
}

impl Flags {
    /// Reads letters in any order, with the flags as the kernel keeps them. The second value: letters that are none.
    #[must_use]
    pub fn parse(letters: &str) -> (Self, String) {
        let mut flags = Self::default();
        let mut unknown = String::new();
        for letter in letters.chars() {
            match letter {
                'P' => flags.preserve_argv0 = true,
                'O' => flags.open_binary = true,
                'C' => flags.credentials = true,
                'F' => flags.fix_binary = true,
                'T' => flags.transparent = true,
                other => unknown.push(other),
            }
        }
        (flags.as_kept(), unknown)
    }

    /// The flags that the kernel prints after these were registered: with `C` and `T` comes `O`.
    #[must_use]
    pub const fn as_kept(mut self) -> Self {
        self.open_binary |= self.credentials || self.transparent;
        self
    }

    /// The same with `T`, which leaves nothing for `P` to do.
    #[must_use]
    pub const fn with_transparency(self) -> Self {
        Self { transparent: true, preserve_argv0: false, ..self }
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = [
            (self.preserve_argv0, 'P'),
            (self.open_binary, 'O'),
            (self.credentials, 'C'),
            (self.fix_binary, 'F'),
            (self.transparent, 'T'),
        ];
        let set: String = letters.iter().filter(|(set, _)| *set).map(|(_, letter)| letter).collect();
        f.pad(&set)
    }
}

/// Which files a rule takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Matcher {
    /// Type `M`: files with these bytes at this place.
    Magic {
        /// Where the magic begins in the file.
        offset: usize,
        /// The bytes themselves.
        magic: Vec<u8>,
        /// Which bits of them count, as many bytes as the magic; all of them if there is no mask.
        mask: Option<Vec<u8>>,
    },
    /// Type `E`: files whose name ends in a dot and this.
    Extension(OsString),
}

impl Matcher {
    /// Whether the kernel's search would stop here for a file that begins with `head`.
    ///
    /// The kernel reads 256 bytes; those that the file does not have are zero to it, and so is what `head` lacks.
    #[must_use]
    pub fn matches(&self, head: &[u8], file_name: &OsStr) -> bool {
        match self {
            Self::Magic { offset, magic, mask } => {
                let head = head.iter().take(WINDOW).chain(repeat(&0)).skip(*offset);
                let mask = mask.iter().flatten().chain(repeat(&0xff));
                head.zip(magic).zip(mask).all(|((byte, magic), mask)| (byte ^ magic) & mask == 0)
            }
            Self::Extension(wanted) => {
                let mut parts = file_name.as_bytes().rsplitn(2, |byte| *byte == b'.');
                parts.next() == Some(wanted.as_bytes()) && parts.next().is_some()
            }
        }
    }

    /// Whether it takes programs of `arch` of any [`Kind`], or those of none.
    #[must_use]
    pub fn matches_some_of(&self, arch: &Arch) -> bool {
        let mut headers = [arch.header()].into_iter().chain(Kind::ALL.map(|kind| kind.header(arch)));
        headers.any(|head| self.matches(&head, OsStr::new(arch.qemu)))
    }

    /// Whether the kernel could hold this.
    pub(crate) fn check(&self) -> Result<(), RuleError> {
        match self {
            Self::Magic { magic, .. } if magic.is_empty() => Err(RuleError::Magic),
            Self::Magic { magic, mask: Some(mask), .. } if mask.len() != magic.len() => {
                Err(RuleError::MaskLength { magic: magic.len(), mask: mask.len() })
            }
            Self::Magic { offset, magic, .. } if offset.saturating_add(magic.len()) > WINDOW => {
                Err(RuleError::Window { offset: *offset, magic: magic.len() })
            }
            Self::Extension(text) if !is_plain(text) || text.as_bytes().contains(&b'/') => {
                Err(RuleError::Extension(text.clone()))
            }
            _ => Ok(()),
        }
    }
}

/// One handler, as it is handed to the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Name of the entry that will appear beside `register`.
    pub name: OsString,
    /// Which files it takes.
    pub matcher: Matcher,
    /// The program that is started for them.
    pub interpreter: PathBuf,
    /// What else the kernel does.
    pub flags: Flags,
}

impl Rule {
    /// The rule that runs `arch`'s programs through its emulator in `dir`, `prefix` before both names.
    #[must_use]
    pub fn for_arch(arch: &Arch, prefix: &str, dir: &Path, flags: Flags) -> Self {
        Self {
            name: arch.entry_name(prefix).into(),
            matcher: Matcher::Magic {
                offset: 0,
                magic: arch.magic().as_slice().to_vec(),
                mask: Some(arch.mask().as_slice().to_vec()),
            },
            interpreter: dir.join(arch.interpreter_name(prefix)),
            flags,
        }
    }

    /// Whether the kernel could hold this.
    fn check(&self) -> Result<(), RuleError> {
        let name = self.name.as_bytes();
        let taken = [&b"."[..], b"..", b"register", b"status"].contains(&name);
        if taken || !is_plain(&self.name) || name.contains(&b'/') || name.len() > 255 {
            return Err(RuleError::Name(self.name.clone()));
        }
        if !is_plain(self.interpreter.as_os_str()) {
            return Err(RuleError::Interpreter(self.interpreter.clone().into()));
        }
        if self.flags.transparent && self.flags.preserve_argv0 {
            return Err(RuleError::Opposed);
        }
        self.matcher.check()
    }
}

/// Neither empty nor cut short by a NUL.
fn is_plain(text: &OsStr) -> bool {
    !text.is_empty() && !text.as_bytes().contains(&0)
}

/// The byte that two hexadecimal digits stand for.
pub(crate) fn hex_byte(high: u8, low: u8) -> Option<u8> {
    let digit = |digit| char::from(digit).to_digit(16);
    u8::try_from((digit(high)? << 4) | digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn magic(offset: usize, magic: &[u8], mask: Option<&[u8]>) -> Matcher {
        let mask = mask.map(<[u8]>::to_vec);
        Matcher::Magic { offset, magic: magic.to_vec(), mask }
    }

    #[test]
    fn flags_are_read_in_any_order_and_printed_in_the_kernels() {
        for (letters, printed, unknown) in [
            ("", "", ""),
            ("F", "F", ""),
            ("CF", "OCF", ""),
            ("FCOP", "POCF", ""),
            ("PP", "P", ""),
            ("OPFTLD", "POFT", "LD"),
            ("TF", "OFT", ""),
            ("p F", "F", "p "),
        ] {
            let (flags, rest) = Flags::parse(letters);
            assert_eq!((flags.to_string().as_str(), rest.as_str()), (printed, unknown), "{letters}");
        }
        let alone = Flags { credentials: true, ..Flags::default() };
        assert_eq!(alone.to_string(), "C");
        assert_eq!(alone.as_kept().to_string(), "OC");
    }

    #[test]
    fn matching_is_the_kernels() {
        let masked = magic(2, b"\xaa\x01", Some(b"\xf0\xfe"));
        let zeros = magic(254, b"\0\0", None);
        let extension = Matcher::Extension("jar".into());
        #[rustfmt::skip]
        let rows = [
            ("exact", &magic(0, b"MZ", None), &b"MZ\x90"[..], "a", true),
            ("one byte differs", &magic(0, b"MZ", None), b"MY", "a", false),
            ("short file", &magic(0, b"MZ", None), b"M", "a", false),
            ("masked bits differ", &masked, b"..\xa5\x00", "a", true),
            ("other bits differ", &masked, b"..\xba\x00", "a", false),
            ("padding is zero", &zeros, b"", "a", true),
            ("last byte of the window", &zeros, &[&[b'.'; 255][..], b"\x01"].concat(), "a", false),
            ("beyond the window", &zeros, &[&[0; 256][..], b"\x01"].concat(), "a", true),
            ("extension", &extension, b"", "a.jar", true),
            ("last extension", &extension, b"", "a.jar.zip", false),
            ("only extension", &extension, b"", ".jar", true),
            ("no dot", &extension, b"", "jar", false),
            ("case", &extension, b"", "a.JAR", false),
            ("extension with a dot", &Matcher::Extension("b.jar".into()), b"", "a.b.jar", false),
        ];
        for (row, matcher, head, file, expected) in rows {
            assert_eq!(matcher.matches(head, OsStr::new(file)), expected, "{row}");
        }
    }

    #[test]
    fn what_the_kernel_cannot_hold_is_named() {
        #[rustfmt::skip]
        let rows = [
            (magic(0, b"", None), "the magic is empty"),
            (magic(0, b"ab", Some(b"a")), "a mask of 1 bytes for a magic of 2"),
            (magic(0, b"ab", Some(b"")), "a mask of 0 bytes for a magic of 2"),
            (magic(255, b"ab", None), "a magic of 2 bytes at offset 255: the kernel reads 256"),
            (Matcher::Extension("".into()), "extension \"\": empty, or with a slash or a NUL"),
            (Matcher::Extension("a/b".into()), "extension \"a/b\": empty, or with a slash or a NUL"),
        ];
        for (matcher, expected) in rows {
            let error = matcher.check().unwrap_err();
            assert_eq!(error.to_string(), expected, "{matcher:?}");
        }
        assert_eq!(magic(254, b"ab", None).check(), Ok(()));
        assert!(magic(usize::MAX, b"ab", None).check().is_err());
    }

    #[test]
    fn a_rule_for_an_architecture_is_its_row() {
        let arch = Arch::by_qemu("i486").unwrap();
        let rule = Rule::for_arch(arch, "my-", Path::new("/usr/bin"), Flags::default());
        assert_eq!(rule.name, "my-qemu-i486");
        assert_eq!(rule.interpreter, Path::new("/usr/bin/my-qemu-i386"));
        assert!(rule.matcher.matches(&arch.header(), OsStr::new("a")));
    }
}

//! What a file is that is no ELF file and no script, by its first bytes; and what to do with such a file. Pure.
//!
//! One table: a format is one row.

use std::str::from_utf8;

/// A kind of file that the kernel has no loader for.
#[derive(Debug, PartialEq, Eq)]
pub struct Format {
    /// What it is: completes "it is …".
    pub name: &'static str,
    /// What to do with it; `FILE` stands for its path, `TABLE` for that of `binfmt_misc`.
    pub remedy: &'static str,
    /// Which files these are; of the rows that match, the first counts.
    is: Sign,
}

/// What a format is known by.
#[derive(Debug, PartialEq, Eq)]
enum Sign {
    /// Bytes at the start of the file.
    Start(&'static [u8]),
    /// Bytes at the start, and a big-endian number after them that is within these bounds: Java's classes and
    /// Apple's files for several architectures have the same first bytes.
    Number(&'static [u8], u32, u32),
    /// A Windows program for this machine: `IMAGE_FILE_HEADER.Machine` (Microsoft's "PE Format"), behind the offset at
    /// 0x3c.
    Pe(u16),
    /// Text at the start, after white space, in capitals or not.
    Text(&'static str),
    /// No bytes.
    Empty,
    /// Nothing but zeros, as far as one sees.
    Zeros,
    /// Text in UTF-8 that has a `#!` somewhat later.
    LateShebang,
    /// Text in UTF-8.
    AnyText,
    /// Everything.
    Anything,
}

pub(super) const FETCH_AGAIN: &str = "fetch or build it again";
const FOR_LINUX: &str = "build it for Linux";
/// Its loader and the two magics are those of <https://github.com/jart/cosmopolitan>, `ape/apeinstall.sh`.
const APE: &str = "an Actually Portable Executable (APE): shells run it, the kernel does not";
const BY_SHELL: &str = "run it by a shell: sh FILE; or, once its loader is /usr/bin/ape, for good: \
    echo ':APE:M::MZqFpD::/usr/bin/ape:' > TABLE/register";
const BY_SHELL_JART: &str = "run it by a shell: sh FILE; or, once its loader is /usr/bin/ape, for good: \
    echo ':APE-jart:M::jartsr::/usr/bin/ape:' > TABLE/register";
const FROM_UTF_16: &str = "convert it: iconv -f UTF-16 -t UTF-8 FILE >FILE.utf8 && cat FILE.utf8 >FILE";

#[rustfmt::skip]
const FORMATS: &[Format] = &[
    row(Sign::Empty, "an empty file", FETCH_AGAIN),
    row(Sign::Zeros, "a file of zeros, as after a failed download or a crash", FETCH_AGAIN),
    row(Sign::Start(b"\xef\xbb\xbf#!"), "a script with a UTF-8 byte order mark before its #!", r"remove the mark: sed -i '1s/^\xEF\xBB\xBF//' FILE"),
    row(Sign::Start(b"\xff\xfe"), "text in UTF-16", FROM_UTF_16),
    row(Sign::Start(b"\xfe\xff"), "text in UTF-16", FROM_UTF_16),
    row(Sign::Start(b"MZqFpD='"), APE, BY_SHELL),
    row(Sign::Start(b"jartsr='"), APE, BY_SHELL_JART),
    row(Sign::Pe(0xaa64), "a Windows program for arm64", "build it for Linux, or run it with Wine on an arm64 machine"),
    row(Sign::Start(b"MZ"), "a Windows or DOS program", "build it for Linux, or run it with Wine: wine FILE"),
    row(Sign::Start(b"\xfe\xed\xfa\xce"), "a macOS program (Mach-O, 32-bit)", FOR_LINUX),
    row(Sign::Start(b"\xce\xfa\xed\xfe"), "a macOS program (Mach-O, 32-bit)", FOR_LINUX),
    row(Sign::Start(b"\xfe\xed\xfa\xcf"), "a macOS program (Mach-O, 64-bit)", FOR_LINUX),
    row(Sign::Start(b"\xcf\xfa\xed\xfe"), "a macOS program (Mach-O, 64-bit)", FOR_LINUX),
    row(Sign::Number(b"\xca\xfe\xba\xbe", 0, 44), "a macOS program for several architectures (fat Mach-O)", FOR_LINUX),
    row(Sign::Number(b"\xca\xfe\xba\xbe", 45, u32::MAX), "a Java class", "run it with Java: java, and the class's name"),
    row(Sign::Start(b"\0asm"), "a WebAssembly module", "run it with a WebAssembly runtime: wasmtime FILE"),
    row(Sign::Start(b"PK\x03\x04"), "a ZIP or JAR archive", "run it with Java: java -jar FILE; or unpack it: unzip FILE"),
    row(Sign::Start(b"\x1f\x8b"), "compressed (gzip)", "unpack it: tar -xzf FILE, or gunzip <FILE >NEW"),
    row(Sign::Start(b"\xfd7zXZ\0"), "compressed (xz)", "unpack it: tar -xJf FILE, or unxz <FILE >NEW"),
    row(Sign::Start(b"\x28\xb5\x2f\xfd"), "compressed (zstd)", "unpack it: tar --zstd -xf FILE, or unzstd <FILE >NEW"),
    row(Sign::Start(b"BZh"), "compressed (bzip2)", "unpack it: tar -xjf FILE, or bunzip2 <FILE >NEW"),
    row(Sign::Start(b"!<arch>\ndebian-binary"), "a Debian package", "install it: dpkg -i FILE"),
    row(Sign::Start(b"!<arch>\n"), "a library of object files (ar)", "link it into a program"),
    row(Sign::Start(b"\xed\xab\xee\xdb"), "an RPM package", "install it: rpm -i FILE"),
    row(Sign::Start(b"BC\xc0\xde"), "LLVM bitcode", "compile it: clang -x ir FILE"),
    row(Sign::Start(b"version https://git-lfs"), "a Git LFS pointer, not the file that it stands for", "fetch the file itself: git lfs pull"),
    row(Sign::Text("<!doctype html"), "an HTML page, perhaps the error page of a download", FETCH_AGAIN),
    row(Sign::Text("<html"), "an HTML page, perhaps the error page of a download", FETCH_AGAIN),
    row(Sign::Text("<?xml"), "an XML document, perhaps the error page of a download", FETCH_AGAIN),
    row(Sign::LateShebang, "a script whose #! is not at its very beginning", r"remove what stands before it: perl -0777 -pi -e 's/^\s+//' FILE"),
    row(Sign::AnyText, "text without a #! line, which shells run and the kernel does not", "name its interpreter in a first line: sed -i '1i #!/bin/sh' FILE; or run it by that: sh FILE"),
    row(Sign::Anything, "a file of a format that the kernel does not know", "see what it is: file FILE"),
];

const fn row(is: Sign, name: &'static str, remedy: &'static str) -> Format {
    Format { name, remedy, is }
}

/// The format of a file that begins with `head`; `head` is empty for an empty file only.
pub fn recognize(head: &[u8]) -> &'static Format {
    let found = FORMATS.iter().find(|format| format.is.is_of(head));
    found.unwrap_or(&FORMATS[FORMATS.len() - 1])
}

impl Format {
    /// The start of a file once its remedy has been applied, where that leaves one that the kernel may take.
    pub fn repaired(&self, head: &[u8]) -> Option<Vec<u8>> {
        match self.is {
            Sign::Start([0xef, 0xbb, 0xbf, ..]) => Some(head[3..].to_vec()),
            Sign::Start([0xff, 0xfe]) => Some(from_utf_16(head, u16::from_le_bytes)),
            Sign::Start([0xfe, 0xff]) => Some(from_utf_16(head, u16::from_be_bytes)),
            Sign::LateShebang => Some(head.trim_ascii_start().to_vec()),
            Sign::AnyText => Some([b"#!/bin/sh\n", head].concat()),
            _ => None,
        }
    }
}

/// Without the mark of the byte order.
fn from_utf_16(head: &[u8], unit: fn([u8; 2]) -> u16) -> Vec<u8> {
    let pairs = head.chunks_exact(2).skip(1);
    let units: Vec<u16> = pairs.map(|pair| unit([pair[0], pair[1]])).collect();
    String::from_utf16_lossy(&units).into_bytes()
}

impl Sign {
    fn is_of(&self, head: &[u8]) -> bool {
        match self {
            Self::Start(bytes) => head.starts_with(bytes),
            Self::Number(bytes, least, most) => head.strip_prefix(*bytes).is_some_and(|rest| {
                let number = rest.first_chunk().map(|four| u32::from_be_bytes(*four));
                number.is_some_and(|number| (*least..=*most).contains(&number))
            }),
            Self::Pe(machine) => {
                let at = head.get(0x3c..).and_then(|rest| rest.first_chunk());
                let at = at.and_then(|four| usize::try_from(u32::from_le_bytes(*four)).ok());
                let rest = at.and_then(|at| head.get(at..)?.strip_prefix(b"PE\0\0"));
                head.starts_with(b"MZ") && rest.is_some_and(|rest| rest.starts_with(&machine.to_le_bytes()))
            }
            Self::Text(start) => {
                let head = head.trim_ascii_start();
                let head = head.get(..start.len());
                head.is_some_and(|head| head.eq_ignore_ascii_case(start.as_bytes()))
            }
            Self::Empty => head.is_empty(),
            Self::Zeros => head.iter().all(|byte| *byte == 0),
            Self::LateShebang => is_text(head) && head.trim_ascii_start().starts_with(b"#!"),
            Self::AnyText => is_text(head),
            Self::Anything => true,
        }
    }
}

/// Without control characters but white space; a character may be cut at the end.
fn is_text(head: &[u8]) -> bool {
    let whole = match from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_some() => return false,
        Err(error) => from_utf8(&head[..error.valid_up_to()]).unwrap_or_default(),
    };
    whole.chars().all(|c| !c.is_control() || c.is_ascii_whitespace() || c == '\u{1b}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_can_be_reached_and_the_last_takes_the_rest() {
        assert_eq!(FORMATS.last().unwrap().is, Sign::Anything);
        for format in FORMATS {
            if let Sign::Start(bytes) = format.is {
                assert_eq!(recognize(bytes), format);
            }
        }
    }
}

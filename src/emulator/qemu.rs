//! Which QEMU a file is, from its own bytes: nothing is started for that.
//!
//! QEMU's user emulators print their version from one literal (`version` in `linux-user/main.c`: `qemu-TARGET version
//! NUMBER (PACKAGE)`, a line end, and QEMU's copyright). It is in the read-only data, which linkers put into a segment
//! of its own, some 250 kB from its start: so little is read. Names of files and of entries say nothing here.

use std::fmt;
use std::fs::File;
use std::io;

use binfmt_magic::arch::Arch;
use goblin::elf::ProgramHeader;
use goblin::elf::program_header::{PF_W, PF_X, PT_LOAD};
use memchr::memmem::Finder;

use super::file::{HEAD, fill, read_up_to, segments};
use crate::kernel::file_system::reading;

/// What follows the version.
const COPYRIGHT: &[u8] = b"Copyright (c) 2003-";
/// No literal is longer, in bytes.
const LONGEST: usize = 256;
/// What is read at once, in bytes. A larger buffer costs more in page faults than it saves in calls.
const CHUNK: usize = 16 * 1024;
/// No more of a file is looked at, in bytes. The largest of QEMU's emulators has 20 million.
const MOST: u64 = 64 << 20;

/// One of QEMU's user emulators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qemu {
    /// QEMU's name for what it runs: `aarch64`.
    pub target: String,
    pub version: Version,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Version {
    /// QEMU's: `10.0.13`.
    pub number: String,
    /// The builder's addition: `Debian 1:10.0.13+ds-0+deb13u1`.
    pub package: Option<String>,
}

impl Qemu {
    /// `qemu-aarch64 version 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)`
    fn parse(line: &str) -> Option<Self> {
        let (target, _) = line.strip_prefix("qemu-")?.split_once(' ')?;
        // qemu-img and the like have such a line, too
        let arch = Arch::by_qemu(target)?;
        Some(Self { target: arch.qemu.to_owned(), version: Version::parse(line)? })
    }
}

impl Version {
    /// The first line of `NAME version 10.0.13 (PACKAGE)`; until 2.9 a comma and the copyright followed in it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (_, after) = text.lines().next()?.split_once(" version ")?;
        let after = after.split_once(", Copyright").map_or(after, |(it, _)| it);
        let (number, rest) = after.split_once(' ').unwrap_or((after, ""));
        let package = rest.trim().strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        number
            .starts_with(|c: char| c.is_ascii_digit())
            .then(|| Self { number: number.to_owned(), package: package.map(str::to_owned) })
    }

    /// The order of versions: the parts of the number, without zeros at its end, then the number of the release candidate
    /// (`10.1.0-rc2`); the release itself comes after its candidates. Anything else after the number is ignored.
    pub fn order(&self) -> (Vec<u32>, u32) {
        order(&self.number)
    }
}

/// [`Version::order`] of a number.
pub(super) fn order(version: &str) -> (Vec<u32>, u32) {
    let number = |digits: &str| digits.parse().unwrap_or(u32::MAX);
    let end = version.find(|c: char| !(c.is_ascii_digit() || c == '.'));
    let (parts, suffix) = version.split_at(end.unwrap_or(version.len()));
    let mut parts: Vec<u32> = parts.split('.').filter(|part| !part.is_empty()).map(number).collect();
    while parts.last() == Some(&0) {
        parts.pop();
    }
    let candidate = suffix.get(1..).and_then(|suffix| suffix.strip_prefix("rc"));
    (parts, candidate.map_or(u32::MAX, number))
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.number)
    }
}

/// Which of QEMU's user emulators `file` is, by its bytes. `None` for any other file, and for a QEMU whose literal is
/// not where a static program has it.
pub fn qemu_of(file: &File) -> io::Result<Option<Qemu>> {
    reading(file, || search(file))
}

fn search(file: &File) -> io::Result<Option<Qemu>> {
    let mut loaded = segments(&read_up_to(file, 0, HEAD)?).unwrap_or_default();
    loaded.retain(|segment| segment.p_type == PT_LOAD);
    // read-only data first; among them, the segment of the headers last
    let rank = |s: &ProgramHeader| (s.p_flags & (PF_X | PF_W), s.p_offset == 0, s.p_offset);
    loaded.sort_by_key(rank);
    let (finder, mut left, mut buffer) = (Finder::new(COPYRIGHT), MOST, [0; CHUNK]);
    for segment in loaded {
        let size = segment.p_filesz.min(left);
        left -= size;
        let (mut at, end) = (segment.p_offset, segment.p_offset.saturating_add(size));
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let length = fill(&mut buffer[..wanted], file, at)?;
            let chunk = &buffer[..length];
            let mut places = finder.find_iter(chunk);
            if let Some(qemu) = places.find_map(|place| before(&chunk[..place])) {
                return Ok(Some(qemu));
            }
            // the end of this chunk is read again: the literal may begin in it
            let Some(next @ 1..) = chunk.len().checked_sub(LONGEST) else {
                break;
            };
            at = at.saturating_add(next as u64);
        }
    }
    Ok(None)
}

/// The emulator that the string names that ends here.
fn before(copyright: &[u8]) -> Option<Qemu> {
    let near = &copyright[copyright.len().saturating_sub(LONGEST)..];
    let start = near.iter().rposition(|byte| *byte == 0).map_or(0, |nul| nul + 1);
    let line = near[start..].strip_suffix(b"\n").or_else(|| near[start..].strip_suffix(b", "))?;
    Qemu::parse(std::str::from_utf8(line).ok()?)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::*;

    /// An ELF file of this host with one segment, read-only, of these bytes and this size.
    fn elf(bytes: &[u8], size: u64) -> File {
        const START: u64 = 0x1000;
        let mut head = binfmt_magic::probe::elf(binfmt_magic::arch::Arch::by_qemu("x86_64").unwrap());
        head.resize(0x1000, 0);
        head[64 + 4..][..4].copy_from_slice(&4_u32.to_le_bytes());
        head[64 + 8..][..8].copy_from_slice(&START.to_le_bytes());
        head[64 + 32..][..8].copy_from_slice(&size.to_le_bytes());
        let mut file = File::from(memfd_create("file", MFdFlags::MFD_CLOEXEC).unwrap());
        file.write_all(&head).unwrap();
        file.write_all_at(bytes, START).unwrap();
        file
    }

    fn of(bytes: &[u8]) -> Option<Qemu> {
        qemu_of(&elf(bytes, bytes.len() as u64)).unwrap()
    }

    const LITERAL: &[u8] =
        b"qemu-mips64el version 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)\nCopyright (c) 2003-2025 Fabrice";

    #[test]
    fn the_literal_is_found_wherever_chunks_end() {
        for before in (0..CHUNK + LONGEST).rev().step_by(37).take(30) {
            let mut bytes = vec![b'x'; before];
            bytes.push(0);
            bytes.extend(LITERAL);
            let qemu = of(&bytes).unwrap_or_else(|| panic!("after {before}"));
            assert_eq!(qemu.target, "mips64el");
            assert_eq!(qemu.version.number, "10.0.13");
            let package = qemu.version.package.as_deref();
            assert_eq!(package, Some("Debian 1:10.0.13+ds-0+deb13u1"));
        }
    }

    #[test]
    fn older_ones_have_it_in_one_line() {
        let qemu = of(b"qemu-arm version 2.5.0 (Debian 1:2.5+dfsg-5), Copyright (c) 2003-2008 F").unwrap();
        assert_eq!((qemu.target.as_str(), qemu.version.number.as_str()), ("arm", "2.5.0"));
        assert_eq!(qemu.version.package.as_deref(), Some("Debian 1:2.5+dfsg-5"));
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        let rising = "2.12 7.2.9 7.2.22 10.0.0-rc2 10.0.0-rc10 10.0.0 10.0.13 10.1.50 11.0";
        let rising: Vec<&str> = rising.split(' ').collect();
        let order = |number: &str| {
            let (number, package) = (number.to_owned(), None);
            Version { number, package }.order()
        };
        for pair in rising.windows(2) {
            assert!(order(pair[0]) < order(pair[1]), "{pair:?}");
        }
        for same in ["10.0", "10.0.0+ds", "10.0.0-Debian", "10.0.0~dev", "10"] {
            assert_eq!(order(same), order("10.0.0"), "{same}");
        }
    }

    #[test]
    fn what_only_looks_like_it_is_none() {
        for other in [
            &b""[..],
            COPYRIGHT,
            b"\nCopyright (c) 2003-",
            b"qemu-arm version 1\nCopyright (c) 1999",
            b"qemu- version 1\nCopyright (c) 2003-",
            b"qemu-arm version one\nCopyright (c) 2003-",
            b"qemu-a/b version 1\nCopyright (c) 2003-",
            b"qemu-arm version 1\xff\nCopyright (c) 2003-",
            b"qemu-img version 1.0\nCopyright (c) 2003-",
            b"qemu-arm version 1.0\0\nCopyright (c) 2003-",
            b"xqemu-arm version 1.0\nCopyright (c) 2003-",
        ] {
            assert_eq!(of(other), None, "{}", other.escape_ascii());
        }
        let endless = COPYRIGHT.repeat(10_000);
        assert_eq!(of(&endless), None);
    }

    #[test]
    fn sizes_that_headers_only_claim_cost_nothing() {
        let file = elf(LITERAL, u64::MAX);
        assert!(qemu_of(&file).unwrap().is_some());
        assert_eq!(qemu_of(&elf(b"none", u64::MAX)).unwrap(), None);
        // a hole as large as can be is not read to its end
        let file = elf(b"none", u64::MAX);
        file.set_len(1 << 40).unwrap();
        assert_eq!(qemu_of(&file).unwrap(), None);
    }
}

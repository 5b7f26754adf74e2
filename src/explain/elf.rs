//! An ELF file as its two loaders read it: Linux, and QEMU's user emulators. Pure: bytes in, facts or a fault out.
//!
//! Nothing is read beyond what the two read themselves, so a file of any size costs the same.
//!
//! Rests on the gABI, `load_elf_binary` and `load_elf_phdrs` in Linux's `fs/binfmt_elf.c` (each refusal tried on 6.18),
//! and `load_elf_image` in QEMU's `linux-user/elfload.c` (tried with 10.0), with `target_mmap` in
//! its `linux-user/mmap.c`.

use std::ffi::OsString;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use binfmt_magic::arch::Arch;
use goblin::elf::header::ET_DYN;
use goblin::elf::program_header::{PT_GNU_PROPERTY, PT_INTERP, PT_LOAD};
use goblin::elf::{Elf, Header, ProgramHeader};

use nix::errno::Errno;

use super::WINDOW;
pub use super::fault::LoadedBy;
use super::fault::{End, Fault, Remedy};
use super::format::FETCH_AGAIN;
use crate::emulator::context_of;

mod ident;

pub use ident::Ident;

/// How many bytes of program headers the kernel takes (`load_elf_phdrs`).
const HEADERS: u64 = 0x1_0000;
/// How long a loader's path may be, its NUL included (`PATH_MAX`).
const LONGEST_PATH: u64 = 4096;

/// The smallest page of a machine that QEMU's user emulators emulate (`TARGET_PAGE_SIZE`).
const EMULATED_PAGE: u64 = 4096;

/// `NT_GNU_PROPERTY_TYPE_0` (Linux extensions to the gABI)
const PROPERTIES: u32 = 5;
/// `GNU_PROPERTY_X86_ISA_1_NEEDED` (x86-64 psABI, "Program Property")
const ISA_NEEDED: u32 = 0xc000_8002;
/// What properties are padded to in 64-bit files, in bytes.
const ALIGNMENT: usize = 8;

pub(super) fn refused(what: impl Into<String>, errno: Errno) -> Fault {
    Fault::new(what, End::Refused(errno), Remedy::advice(FETCH_AGAIN))
}

fn malformed(what: impl Into<String>) -> Fault {
    refused(what, Errno::ENOEXEC)
}

/// The file ends within its header.
pub(super) fn cut_header() -> Fault {
    malformed("is truncated: it ends within its ELF header")
}

fn killed(what: impl Into<String>) -> Fault {
    Fault::new(what, End::Signal, Remedy::advice(FETCH_AGAIN))
}

/// What of a file is loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// The loader that it asks for.
    pub loader: Option<PathBuf>,
    /// The micro-architecture level that it states to need: 1 to 4 on amd64, else 1.
    pub level: u8,
    by: LoadedBy,
    kind: u16,
    entry: u64,
    segments: Vec<ProgramHeader>,
}

impl Image {
    /// Reads `file` as a program of `arch`. The kernel takes it for one by its machine alone, so class and byte order
    /// are the row's, whatever the file states. The error is what makes `by` refuse the file.
    pub fn read(file: &mut (impl Read + Seek), arch: &Arch, by: LoadedBy) -> Result<Self, Fault> {
        let mut image = Self::read_loader(file, arch, by)?;
        let mut paths = image.segments.iter().filter(|s| s.p_type == PT_INTERP);
        let loader = paths.next().map(|segment| loader(file, segment)).transpose()?;
        if by == LoadedBy::Emulator && paths.next().is_some() {
            return Err(malformed("names two loaders (PT_INTERP)"));
        }
        let mut properties = image.segments.iter().filter(|s| s.p_type == PT_GNU_PROPERTY);
        let stated = properties.next().filter(|_| arch.levels > 1);
        let note = stated.and_then(|segment| read_at(file, segment.p_offset, segment.p_filesz.min(LONGEST_PATH)));
        image.loader = loader;
        image.level = note.map_or(1, |note| level(&note));
        Ok(image)
    }

    /// Reads `file` as the loader of a program of `arch`: what a loader itself asks for or states does not count. The
    /// error is what makes `by` refuse the file.
    pub fn read_loader(file: &mut (impl Read + Seek), arch: &Arch, by: LoadedBy) -> Result<Self, Fault> {
        let header = header(file, arch)?;
        Ok(Self {
            loader: None,
            level: 1,
            by,
            kind: header.e_type,
            entry: header.e_entry,
            segments: segments(file, &header, arch, by)?,
        })
    }

    /// Whether it is position-independent.
    pub fn is_position_independent(&self) -> bool {
        self.kind == ET_DYN
    }

    /// How many bytes of its segments a file of `length` bytes lacks.
    pub fn missing(&self, length: u64) -> u64 {
        self.needs().saturating_sub(length)
    }

    /// How long the file must be to hold all segments.
    fn needs(&self) -> u64 {
        let loaded = self.segments.iter().filter(|s| s.p_type == PT_LOAD);
        let taken = loaded.filter(|s| s.p_filesz > 0);
        let ends = taken.map(|s| s.p_offset.saturating_add(s.p_filesz));
        ends.max().unwrap_or(0)
    }

    /// Why it would end at once, or may end later, in a file of `length` bytes where pages have `page` bytes.
    pub fn fatal_flaw(&self, length: u64, page: u64) -> Option<Fault> {
        let loaded = || self.segments.iter().filter(|s| s.p_type == PT_LOAD);
        if loaded().next().is_none() {
            return Some(killed("has no segment to load"));
        }
        if self.by == LoadedBy::Kernel && loaded().any(|s| s.p_filesz > s.p_memsz) {
            return Some(killed("has a segment that is larger in the file than in memory"));
        }
        // QEMU goes by the pages of the machine that it emulates, and copies where those of the host are larger
        let aligned = match self.by {
            LoadedBy::Kernel => page,
            LoadedBy::Emulator => page.min(EMULATED_PAGE),
        };
        let differs = |s: &ProgramHeader| s.p_offset % aligned != s.p_vaddr % aligned;
        if loaded().any(|s| s.p_filesz > 0 && differs(s)) {
            return Some(killed("has a segment whose offset in the file and address in memory differ within a page"));
        }
        // the rest of the page that the file ends in reads as zeros
        let mapped = length.checked_next_multiple_of(page).unwrap_or(length);
        let needs = self.needs();
        (needs > mapped).then(|| {
            let what = format!("is truncated: {length} of {needs} bytes are there");
            if self.touches(mapped, page) {
                return killed(what);
            }
            let what = format!("{what}, and a signal ends it once it touches what is missing (SIGBUS)");
            Fault::new(what, End::Unknown, Remedy::advice(FETCH_AGAIN))
        })
    }

    /// Whether its start touches a page of the file that begins at `mapped` or later. Such pages are mapped like others
    /// (`elf_load`). At the start, only two are sure to be touched: that of the entry point, if no loader comes before it, and one
    /// that ends in zeros that the file does not have (`padzero`).
    fn touches(&self, mapped: u64, page: u64) -> bool {
        let is_missing = |offset: u64| offset - offset % page >= mapped;
        let at_entry = |s: &&ProgramHeader| {
            let within = self.entry.checked_sub(s.p_vaddr).filter(|within| *within < s.p_filesz);
            within.is_some_and(|within| self.loader.is_none() && is_missing(s.p_offset.saturating_add(within)))
        };
        let at_end = |s: &&ProgramHeader| {
            let end = s.p_offset.saturating_add(s.p_filesz);
            let is_padded = s.is_write() && s.p_filesz > 0 && s.p_memsz > s.p_filesz && end % page > 0;
            is_padded && is_missing(end)
        };
        let mut loaded = self.segments.iter().filter(|s| s.p_type == PT_LOAD);
        loaded.any(|s| at_entry(&s) || at_end(&s))
    }

    /// The fault of a library that does not state where to begin.
    pub(super) fn as_library(&self) -> Option<Fault> {
        let is_library = self.entry == 0 && self.kind == ET_DYN && self.loader.is_none();
        let remedy = Remedy::advice("run the program that uses it");
        is_library.then(|| Fault::new("is a shared library without an entry point", End::Signal, remedy))
    }

    /// What is loaded of a file that is no program by its type.
    pub(super) fn without_segments(self) -> Self {
        Self { segments: Vec::new(), ..self }
    }
}

fn header(file: &mut (impl Read + Seek), arch: &Arch) -> Result<Header, Fault> {
    let size = arch.header().len() as u64;
    let mut head = read_at(file, 0, size).ok_or_else(cut_header)?;
    head[4] = arch.class as u8;
    head[5] = arch.endian as u8;
    head.resize(WINDOW, 0);
    Elf::parse_header(&head).map_err(|_| cut_header())
}

fn segments(
    file: &mut (impl Read + Seek),
    header: &Header,
    arch: &Arch,
    by: LoadedBy,
) -> Result<Vec<ProgramHeader>, Fault> {
    let wrong_size =
        |of: &str, size: u16| malformed(format!("has an ELF header that states a wrong size for {of}: {size} bytes"));
    if by == LoadedBy::Emulator && usize::from(header.e_ehsize) != arch.header().len() {
        return Err(wrong_size("itself", header.e_ehsize));
    }
    let beyond = || malformed("is truncated: its program headers lie beyond its end");
    let context = context_of(header).ok_or_else(beyond)?;
    let size = ProgramHeader::size(context);
    if usize::from(header.e_phentsize) != size {
        return Err(wrong_size("program headers", header.e_phentsize));
    }
    let count = usize::from(header.e_phnum);
    let bytes = (count * size) as u64;
    if by == LoadedBy::Kernel && !(1..=HEADERS).contains(&bytes) {
        return Err(malformed(format!(
            "has an ELF header that counts {count} program headers, which the kernel refuses"
        )));
    }
    let bytes = read_at(file, header.e_phoff, bytes).ok_or_else(beyond)?;
    ProgramHeader::parse(&bytes, 0, count, context).map_err(|_| beyond())
}

fn loader(file: &mut (impl Read + Seek), segment: &ProgramHeader) -> Result<PathBuf, Fault> {
    let length = segment.p_filesz;
    if !(2..=LONGEST_PATH).contains(&length) {
        return Err(malformed(format!(
            "names its loader (PT_INTERP) by a path of {length} bytes, where 2 to 4096 are allowed"
        )));
    }
    let end = segment.p_offset.checked_add(length);
    if end.is_none_or(|end| i64::try_from(end).is_err()) {
        let what = "has the path of its loader (PT_INTERP) at an impossible offset";
        return Err(refused(what, Errno::EINVAL));
    }
    let mut path = read_at(file, segment.p_offset, length).ok_or_else(|| {
        let what = "is truncated: the path of its loader (PT_INTERP) lies beyond its end";
        refused(what, Errno::EIO)
    })?;
    if path.last() != Some(&0) {
        return Err(malformed("names its loader (PT_INTERP) by a path that does not end in a NUL"));
    }
    let end = path.iter().position(|byte| *byte == 0);
    path.truncate(end.unwrap_or(path.len()));
    Ok(OsString::from_vec(path).into())
}

/// The micro-architecture level that a little-endian, 64-bit property segment states: 1 where it states none.
fn level(note: &[u8]) -> u8 {
    isa_needed(note).map_or(1, |bits| match bits {
        // GNU_PROPERTY_X86_ISA_1_BASELINE is bit 0, _V2 bit 1, and so on
        0..=1 => 1,
        2..=3 => 2,
        4..=7 => 3,
        _ => 4,
    })
}

fn isa_needed(note: &[u8]) -> Option<u32> {
    let word = |bytes: &[u8], at: usize| {
        let four = bytes.get(at..)?.first_chunk()?;
        Some(u32::from_le_bytes(*four))
    };
    let (name_length, length, kind) = (word(note, 0)?, word(note, 4)?, word(note, 8)?);
    if (name_length, kind, note.get(12..16)?) != (4, PROPERTIES, b"GNU\0") {
        return None;
    }
    let mut rest = note.get(16..)?;
    rest = &rest[..rest.len().min(usize::try_from(length).ok()?)];
    loop {
        let (kind, size) = (word(rest, 0)?, usize::try_from(word(rest, 4)?).ok()?);
        if kind == ISA_NEEDED {
            return word(rest.get(8..)?, 0).filter(|_| size == 4);
        }
        let next = size.checked_next_multiple_of(ALIGNMENT)?.checked_add(8)?;
        rest = rest.get(next..)?;
    }
}

/// Exactly these bytes of the file, or none.
fn read_at(file: &mut (impl Read + Seek), offset: u64, length: u64) -> Option<Vec<u8>> {
    file.seek(SeekFrom::Start(offset)).ok()?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 == length).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use binfmt_magic::arch::ARCHES;
    use binfmt_magic::probe;

    use super::*;

    const BOTH: [LoadedBy; 2] = [LoadedBy::Kernel, LoadedBy::Emulator];

    #[test]
    fn every_probe_is_a_static_program_of_its_row() {
        for arch in &ARCHES {
            let file = probe::elf(arch);
            let ident = Ident::read(&file).unwrap();
            assert_eq!(ident.arch().map(|arch| arch.qemu), Some(arch.qemu));
            assert!(ident.is_program(), "{}", arch.qemu);
            for by in BOTH {
                let image = Image::read(&mut Cursor::new(&file), arch, by).unwrap();
                assert_eq!((&image.loader, image.level), (&None, 1), "{}", arch.qemu);
                assert!(!image.is_position_independent(), "{}", arch.qemu);
                assert!(image.fatal_flaw(file.len() as u64, 4096).is_none(), "{}", arch.qemu);
            }
        }
    }

    /// As on hosts whose pages have 64 KiB: QEMU runs there what was linked for pages of 4 KiB.
    #[test]
    fn an_emulator_goes_by_the_pages_that_it_emulates() {
        let arch = Arch::by_qemu("i386").unwrap();
        let file = probe::elf(arch);
        for (by, moved, expected) in [
            (LoadedBy::Kernel, 0x1000, true),
            (LoadedBy::Kernel, 0x1_0000, false),
            (LoadedBy::Emulator, 0x1000, false),
            (LoadedBy::Emulator, 0x800, true),
        ] {
            let mut image = Image::read(&mut Cursor::new(&file), arch, by).unwrap();
            image.segments[0].p_vaddr = 0x40_0000 + moved;
            let flaw = image.fatal_flaw(file.len() as u64, 0x1_0000);
            let differs = flaw.is_some_and(|flaw| flaw.what.contains("within a page"));
            assert_eq!(differs, expected, "{by:?}: {moved:#x}");
        }
    }

    #[test]
    fn a_probe_that_is_cut_is_truncated_wherever_that_is() {
        for arch in &ARCHES {
            let file = probe::elf(arch);
            let header = arch.header().len();
            for length in 0..file.len() {
                for by in BOTH {
                    let image = Image::read(&mut Cursor::new(&file[..length]), arch, by);
                    let row = format!("{} at {length}", arch.qemu);
                    match image {
                        Err(flaw) if length < header => {
                            assert_eq!(flaw.what, cut_header().what, "{row}");
                        }
                        Err(flaw) => assert!(flaw.what.contains("program headers"), "{row}"),
                        Ok(image) => {
                            let (needs, has) = (file.len() as u64, length as u64);
                            assert_eq!(image.missing(has), needs - has, "{row}");
                            assert!(image.fatal_flaw(has, 4096).is_none(), "{row}");
                            let flaw = image.fatal_flaw(has, 1).expect("a flaw").what;
                            assert!(flaw.contains(&format!("{has} of {needs} bytes")), "{row}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_level_is_the_highest_bit_of_a_whole_note() {
        let note = |kind: u32, data: &[u8]| {
            let size = u32::try_from(data.len()).unwrap().to_le_bytes();
            let mut body = [&kind.to_le_bytes(), &size, data].concat();
            body.resize(body.len().next_multiple_of(ALIGNMENT), 0);
            let length = u32::try_from(body.len()).unwrap().to_le_bytes();
            [&4u32.to_le_bytes(), &length, &5u32.to_le_bytes(), b"GNU\0", &body[..]].concat()
        };
        let rows = [(0, 1), (1, 1), (2, 2), (3, 2), (4, 3), (7, 3), (8, 4), (15, 4)];
        for (bits, expected) in rows {
            assert_eq!(level(&note(ISA_NEEDED, &u32::to_le_bytes(bits))), expected);
        }
        let stated = note(ISA_NEEDED, &[4, 0, 0, 0]);
        for cut in 0..stated.len() - 4 {
            assert_eq!(level(&stated[..cut]), 1, "{cut}");
        }
        assert_eq!(level(&note(ISA_NEEDED, &[4])), 1);
        let mut huge = note(1, &[]);
        assert_eq!(level(&huge), 1);
        huge[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(level(&huge), 1);
    }
}

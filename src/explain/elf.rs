//! An ELF file as those read it that load it: Linux, and QEMU's user emulators. Pure: bytes in, facts or a named fault out.
//!
//! Owns what a header says, what of it is a lie, and which lies matter to whom. Nothing is read beyond what the two
//! read themselves, so a file of any size costs the same. Whether the loader that a file asks for is there, and which
//! handler takes the file, is [`crate::explain`]'s.
//!
//! Rests on the gABI, `load_elf_binary` and `load_elf_phdrs` in Linux's `fs/binfmt_elf.c` (each refusal tried on 6.18),
//! and `load_elf_image` in QEMU's `linux-user/elfload.c` (tried with 10.0), with `target_mmap` in
//! its `linux-user/mmap.c`.

use std::ffi::OsString;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use binfmt_magic::arch::{Arch, Class, Endian};
use goblin::container::{Container, Ctx};
use goblin::elf::header::{ET_DYN, header32, header64};
use goblin::elf::program_header::{PT_GNU_PROPERTY, PT_INTERP, PT_LOAD};
use goblin::elf::{Elf, Header, ProgramHeader};

use super::WINDOW;

mod fault;
mod ident;
mod property;

pub use fault::{Doomed, Malformed};
pub use ident::Ident;

/// How many bytes of program headers the kernel takes (`load_elf_phdrs`).
const HEADERS: u64 = 0x1_0000;
/// How long a loader's path may be, its NUL included (`PATH_MAX`).
const LONGEST_PATH: u64 = 4096;

/// The smallest page of a machine that QEMU's user emulators emulate (`TARGET_PAGE_SIZE`).
const EMULATED_PAGE: u64 = 4096;

/// Who loads the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadedBy {
    /// The kernel itself.
    Kernel,
    /// QEMU's user emulator.
    Emulator,
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
    /// are the row's, whatever the file states.
    ///
    /// # Errors
    /// The lie that makes `by` refuse the file.
    pub fn read(
        file: &mut (impl Read + Seek),
        arch: &Arch,
        by: LoadedBy,
    ) -> Result<Self, Malformed> {
        let mut image = Self::read_loader(file, arch, by)?;
        let mut paths = image.segments.iter().filter(|s| s.p_type == PT_INTERP);
        let loader = paths
            .next()
            .map(|segment| loader(file, segment))
            .transpose()?;
        if by == LoadedBy::Emulator && paths.next().is_some() {
            return Err(Malformed::Loaders);
        }
        let mut properties = image
            .segments
            .iter()
            .filter(|s| s.p_type == PT_GNU_PROPERTY);
        let level = properties.next().filter(|_| arch.levels > 1);
        let note = level.and_then(|segment| {
            read_at(file, segment.p_offset, segment.p_filesz.min(LONGEST_PATH))
        });
        image.loader = loader;
        image.level = note.map_or(1, |note| property::level(&note));
        Ok(image)
    }

    /// Reads `file` as the loader of a program of `arch`: nobody looks at what a loader itself asks for or states.
    ///
    /// # Errors
    /// The lie that makes `by` refuse the file.
    pub fn read_loader(
        file: &mut (impl Read + Seek),
        arch: &Arch,
        by: LoadedBy,
    ) -> Result<Self, Malformed> {
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
    #[must_use]
    pub fn is_position_independent(&self) -> bool {
        self.kind == ET_DYN
    }

    /// How many bytes of what is to be mapped a file of `length` bytes does not have.
    #[must_use]
    pub fn missing(&self, length: u64) -> u64 {
        self.needs().saturating_sub(length)
    }

    /// How long the file must be for all that is to be mapped.
    fn needs(&self) -> u64 {
        let loaded = self.segments.iter().filter(|s| s.p_type == PT_LOAD);
        let taken = loaded.filter(|s| s.p_filesz > 0);
        let ends = taken.map(|s| s.p_offset.saturating_add(s.p_filesz));
        ends.max().unwrap_or(0)
    }

    /// Why it would end at once, in a file of `length` bytes where pages have `page` bytes.
    #[must_use]
    pub fn doom(&self, length: u64, page: u64) -> Option<Doomed> {
        let loaded = || self.segments.iter().filter(|s| s.p_type == PT_LOAD);
        if loaded().next().is_none() {
            return Some(Doomed::NoSegment);
        }
        if self.by == LoadedBy::Kernel && loaded().any(|s| s.p_filesz > s.p_memsz) {
            return Some(Doomed::Overfull);
        }
        // QEMU goes by the pages of the machine that it emulates, and copies where those of the host are larger
        let aligned = match self.by {
            LoadedBy::Kernel => page,
            LoadedBy::Emulator => page.min(EMULATED_PAGE),
        };
        let differs = |s: &ProgramHeader| s.p_offset % aligned != s.p_vaddr % aligned;
        if loaded().any(|s| s.p_filesz > 0 && differs(s)) {
            return Some(Doomed::Unaligned);
        }
        // the rest of the page that the file ends in reads as zeros
        let mapped = length.checked_next_multiple_of(page).unwrap_or(length);
        let needs = self.needs();
        if needs > mapped {
            return Some(Doomed::Truncated { needs, has: length });
        }
        let is_library = self.entry == 0 && self.kind == ET_DYN && self.loader.is_none();
        is_library.then_some(Doomed::NoEntry)
    }
}

fn header(file: &mut (impl Read + Seek), arch: &Arch) -> Result<Header, Malformed> {
    let size = match arch.class {
        Class::Elf32 => header32::SIZEOF_EHDR,
        Class::Elf64 => header64::SIZEOF_EHDR,
    };
    let mut head = read_at(file, 0, size as u64).ok_or(Malformed::Header)?;
    head[4] = arch.class as u8;
    head[5] = arch.endian as u8;
    head.resize(WINDOW, 0);
    Elf::parse_header(&head).map_err(|_| Malformed::Header)
}

fn segments(
    file: &mut (impl Read + Seek),
    header: &Header,
    arch: &Arch,
    by: LoadedBy,
) -> Result<Vec<ProgramHeader>, Malformed> {
    let (container, header_size) = match arch.class {
        Class::Elf32 => (Container::Little, header32::SIZEOF_EHDR),
        Class::Elf64 => (Container::Big, header64::SIZEOF_EHDR),
    };
    let order = match arch.endian {
        Endian::Little => goblin::container::Endian::Little,
        Endian::Big => goblin::container::Endian::Big,
    };
    let context = Ctx::new(container, order);
    if by == LoadedBy::Emulator && usize::from(header.e_ehsize) != header_size {
        return Err(Malformed::HeaderSize(header.e_ehsize));
    }
    let size = ProgramHeader::size(context);
    if usize::from(header.e_phentsize) != size {
        return Err(Malformed::EntrySize(header.e_phentsize));
    }
    let count = usize::from(header.e_phnum);
    let bytes = (count * size) as u64;
    if by == LoadedBy::Kernel && !(1..=HEADERS).contains(&bytes) {
        return Err(Malformed::Count(header.e_phnum));
    }
    let bytes = read_at(file, header.e_phoff, bytes).ok_or(Malformed::Headers)?;
    ProgramHeader::parse(&bytes, 0, count, context).map_err(|_| Malformed::Headers)
}

fn loader(file: &mut (impl Read + Seek), segment: &ProgramHeader) -> Result<PathBuf, Malformed> {
    let length = segment.p_filesz;
    if !(2..=LONGEST_PATH).contains(&length) {
        return Err(Malformed::PathLength(length));
    }
    if segment
        .p_offset
        .checked_add(length)
        .is_none_or(|end| i64::try_from(end).is_err())
    {
        return Err(Malformed::PathOffset);
    }
    let mut path = read_at(file, segment.p_offset, length).ok_or(Malformed::PathBeyond)?;
    if path.last() != Some(&0) {
        return Err(Malformed::PathEnd);
    }
    let end = path.iter().position(|byte| *byte == 0);
    path.truncate(end.unwrap_or(path.len()));
    Ok(OsString::from_vec(path).into())
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
                assert_eq!(image.doom(file.len() as u64, 4096), None, "{}", arch.qemu);
            }
        }
    }

    /// As on hosts whose pages have 64 KiB: QEMU runs there what was linked for pages of 4 KiB.
    #[test]
    fn an_emulator_goes_by_the_pages_that_it_emulates() {
        let arch = Arch::by_qemu("i386").unwrap();
        let file = probe::elf(arch);
        for (by, moved, expected) in [
            (LoadedBy::Kernel, 0x1000, Some(Doomed::Unaligned)),
            (LoadedBy::Kernel, 0x1_0000, None),
            (LoadedBy::Emulator, 0x1000, None),
            (LoadedBy::Emulator, 0x800, Some(Doomed::Unaligned)),
        ] {
            let mut image = Image::read(&mut Cursor::new(&file), arch, by).unwrap();
            image.segments[0].p_vaddr = 0x40_0000 + moved;
            let doomed = image.doom(file.len() as u64, 0x1_0000);
            assert_eq!(doomed, expected, "{by:?}: {moved:#x}");
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
                        Err(malformed) if length < header => {
                            assert_eq!(malformed, Malformed::Header, "{row}");
                        }
                        Err(malformed) => assert_eq!(malformed, Malformed::Headers, "{row}"),
                        Ok(image) => {
                            let (needs, has) = (file.len() as u64, length as u64);
                            assert_eq!(image.missing(has), needs - has, "{row}");
                            assert_eq!(image.doom(has, 4096), None, "{row}");
                            let doomed = image.doom(has, 1);
                            assert_eq!(doomed, Some(Doomed::Truncated { needs, has }), "{row}");
                        }
                    }
                }
            }
        }
    }
}

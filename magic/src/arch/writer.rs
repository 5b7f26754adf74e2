//! The smallest ELF executable of an architecture, in parts.

use super::{Arch, Class};

/// Where the file is mapped: above every `vm.mmap_min_addr`, and where every architecture has programs.
const LOAD_ADDRESS: u32 = 0x0040_0000;

/// The largest page of any Linux: the segment must start on one.
const ALIGNMENT: u32 = 0x1_0000;

/// Writes ELF's integers in an architecture's width and byte order.
pub(crate) struct Writer<'a> {
    arch: &'a Arch,
    pub(crate) bytes: Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(crate) fn of(arch: &'a Arch) -> Self {
        let bytes = Vec::new();
        Self { arch, bytes }
    }

    /// Bytes of the ELF header and of a program header.
    fn sizes(&self) -> (u16, u16) {
        match self.arch.class {
            Class::Elf32 => (52, 32),
            Class::Elf64 => (64, 56),
        }
    }

    /// The header of a file with one segment, which begins with the code behind both headers.
    pub(crate) fn header(&mut self) {
        const EV_CURRENT: u32 = 1;
        let (header_size, segment_size) = self.sizes();
        // e_ident, e_type and e_machine are those of the magic
        self.bytes.extend(&self.arch.magic().as_slice()[..20]);
        self.word(EV_CURRENT);
        self.address(LOAD_ADDRESS + u32::from(header_size + segment_size)); // e_entry
        self.address(u32::from(header_size)); // e_phoff
        self.address(0); // e_shoff
        self.word(self.arch.flags);
        for half in [header_size, segment_size, 1, 0, 0, 0] {
            self.half(half); // e_ehsize, e_phentsize, e_phnum; no sections
        }
    }

    /// The program header of the segment, which is the whole file with `code` bytes of code.
    pub(crate) fn segment(&mut self, code: usize) {
        const PT_LOAD: u32 = 1;
        const READ_EXECUTE: u32 = 5;
        let (header_size, segment_size) = self.sizes();
        let code = u32::try_from(code).unwrap_or(u32::MAX);
        let size = u32::from(header_size + segment_size).saturating_add(code);
        self.word(PT_LOAD);
        // The only difference between the classes but width: where p_flags is
        if self.arch.class == Class::Elf64 {
            self.word(READ_EXECUTE);
        }
        for address in [0, LOAD_ADDRESS, LOAD_ADDRESS, size, size] {
            self.address(address); // p_offset, p_vaddr, p_paddr, p_filesz, p_memsz
        }
        if self.arch.class == Class::Elf32 {
            self.word(READ_EXECUTE);
        }
        self.address(ALIGNMENT);
    }

    fn half(&mut self, value: u16) {
        self.bytes.extend(self.arch.endian.order(value.to_le_bytes()));
    }

    fn word(&mut self, value: u32) {
        self.bytes.extend(self.arch.endian.order(value.to_le_bytes()));
    }

    fn address(&mut self, value: u32) {
        match self.arch.class {
            Class::Elf32 => self.word(value),
            Class::Elf64 => self.bytes.extend(self.arch.endian.order(u64::from(value).to_le_bytes())),
        }
    }
}

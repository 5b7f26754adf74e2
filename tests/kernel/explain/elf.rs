//! ELF files with every lie in them that a loader looks for. 64-bit and little-endian, as hosts of these tests are.
//!
//! The program is that of the probes: it ends with the first byte of its `argv[0]`, which is a slash here.

use binfmt_magic::arch::Arch;

/// Where executables are mapped.
const BASE: u64 = 0x40_0000;
/// How long the files are.
const SIZE: usize = 0x1000;
/// Where the path of the loader is.
const PATH: usize = 0x800;

pub(crate) const ET_REL: u16 = 1;
pub(crate) const ET_EXEC: u16 = 2;
pub(crate) const ET_DYN: u16 = 3;
pub(crate) const ET_CORE: u16 = 4;
const PT_NULL: u32 = 0;
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_GNU_PROPERTY: u32 = 0x6474_e553;

/// To be read and executed.
const R_X: u32 = 5;
/// The same, and to be written.
pub(crate) const RWX: u32 = 7;

/// A segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    pub(crate) kind: u32,
    pub(crate) offset: u64,
    pub(crate) address: u64,
    pub(crate) in_file: u64,
    pub(crate) in_memory: u64,
    /// What may be done with it, as bits.
    pub(crate) flags: u32,
}

/// A program in the making.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) kind: u16,
    pub(crate) machine: u16,
    pub(crate) entry: Option<u64>,
    pub(crate) headers: u64,
    pub(crate) header_size: u16,
    pub(crate) count: Option<u16>,
    pub(crate) segments: Vec<Segment>,
    path: Vec<u8>,
    code: &'static [u8],
}

impl Program {
    /// One that runs.
    pub(crate) fn new(arch: &Arch) -> Self {
        let all = Segment {
            kind: PT_LOAD,
            offset: 0,
            address: BASE,
            in_file: SIZE as u64,
            in_memory: SIZE as u64,
            flags: R_X,
        };
        Self {
            kind: ET_EXEC,
            machine: arch.machine,
            entry: None,
            headers: 64,
            header_size: 56,
            count: None,
            segments: vec![all],
            path: Vec::new(),
            code: arch.code,
        }
    }

    /// The same, position-independent.
    pub(crate) fn position_independent(arch: &Arch) -> Self {
        let mut program = Self::new(arch);
        program.kind = ET_DYN;
        program.segments[0].address = 0;
        program
    }

    /// Changed in this way.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Changed in its only segment.
    pub(crate) fn load(self, change: impl FnOnce(&mut Segment)) -> Self {
        self.with(|program| change(&mut program.segments[0]))
    }

    /// Asking for a loader by a path of these bytes; its segment changed in this way.
    pub(crate) fn loader(mut self, path: &[u8], change: impl FnOnce(&mut Segment)) -> Self {
        self.path = path.to_vec();
        let mut segment = Segment {
            kind: PT_INTERP,
            offset: PATH as u64,
            address: 0,
            in_file: path.len() as u64,
            in_memory: 0,
            flags: R_X,
        };
        change(&mut segment);
        self.segments.insert(0, segment);
        self
    }

    /// Stating to need levels of x86-64, by their bits.
    pub(crate) fn needs(mut self, bits: u32) -> Self {
        let words = [4, 16, 5, u32::from_le_bytes(*b"GNU\0"), 0xc000_8002, 4, bits, 0];
        self.path = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let length = self.path.len() as u64;
        self.segments.push(Segment {
            kind: PT_GNU_PROPERTY,
            offset: PATH as u64,
            address: 0,
            in_file: length,
            in_memory: 0,
            flags: R_X,
        });
        self
    }

    /// With so many more segments that say nothing.
    pub(crate) fn padded(self, count: usize) -> Self {
        let nothing = Segment { kind: PT_NULL, offset: 0, address: 0, in_file: 0, in_memory: 0, flags: R_X };
        self.with(|program| program.segments.extend(vec![nothing; count]))
    }

    /// The file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let code = 64 + 56 * self.segments.len() as u64;
        let base = if self.kind == ET_DYN { 0 } else { BASE };
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        file.extend(self.kind.to_le_bytes());
        file.extend(self.machine.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        for address in [self.entry.unwrap_or(base + code), self.headers, 0] {
            file.extend(address.to_le_bytes());
        }
        file.extend(0u32.to_le_bytes());
        let count = u16::try_from(self.segments.len()).expect("few segments");
        for half in [64, self.header_size, self.count.unwrap_or(count), 0, 0, 0] {
            file.extend(half.to_le_bytes());
        }
        for segment in &self.segments {
            file.extend(segment.kind.to_le_bytes());
            file.extend(segment.flags.to_le_bytes());
            for value in
                [segment.offset, segment.address, segment.address, segment.in_file, segment.in_memory, SIZE as u64]
            {
                file.extend(value.to_le_bytes());
            }
        }
        file.extend(self.code);
        file.resize(file.len().max(SIZE), 0);
        file[PATH..PATH + self.path.len()].copy_from_slice(&self.path);
        file
    }
}

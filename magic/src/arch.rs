//! The table: one [`Arch`] per QEMU linux-user target, and everything that follows from a row.
//!
//! A row holds facts only; magic, mask, entry name and probe are derived. The facts are those of QEMU's
//! `scripts/qemu-binfmt-conf.sh` (10.0) and of each architecture's ELF psABI supplement.

/// Width of an architecture's ELF files (`e_ident[EI_CLASS]`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// `ELFCLASS32`
    Elf32 = 1,
    /// `ELFCLASS64`
    Elf64 = 2,
}

/// Byte order of an architecture's ELF files (`e_ident[EI_DATA]`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endian {
    /// `ELFDATA2LSB`
    Little = 1,
    /// `ELFDATA2MSB`
    Big = 2,
}

/// One architecture that QEMU's user emulation can run.
#[derive(Debug)]
pub struct Arch {
    /// QEMU's target name: `qemu-<this>` is the entry's name, and the interpreter's file name unless
    /// [`interpreter`](Self::interpreter) says otherwise.
    pub qemu: &'static str,
    /// Architecture in an OCI platform: `arm64` in `linux/arm64`. The GOARCH where Go has one, else QEMU's name.
    pub oci: &'static str,
    /// Other names that people write: Debian's, uname's, GNU triplets' first word. Lower case.
    pub aliases: &'static [&'static str],
    /// QEMU target whose emulator runs this row; differs from [`qemu`](Self::qemu) for `i486` only.
    pub interpreter: &'static str,
    /// ELF class.
    pub class: Class,
    /// ELF byte order.
    pub endian: Endian,
    /// ELF `e_machine`, as a number.
    pub machine: u16,
    /// Machine code of the probe: `exit_group(argv[0][0])`, see [`crate::probe`].
    pub code: &'static [u8],
}

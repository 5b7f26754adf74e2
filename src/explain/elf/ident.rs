//! The start of an ELF file, which tells what it is.

use binfmt_magic::arch::{ARCHES, Arch, Class, Endian};
use goblin::elf::header::{
    EM_AARCH64, EM_LOONGARCH, EM_NONE, EM_S390, EM_X86_64, ET_CORE, ET_DYN, ET_EXEC, ET_REL, machine_to_str,
};

/// What the start of an ELF file says of the rest. Numbers are as they stand there, whatever they mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ident {
    /// `e_ident[EI_CLASS]`
    pub class: u8,
    /// `e_ident[EI_DATA]`
    pub data: u8,
    /// `e_ident[EI_OSABI]`
    pub os_abi: u8,
    /// `e_type`, in the byte order that it states; little-endian if that is none.
    pub kind: u16,
    /// `e_machine`, in the same byte order.
    pub machine: u16,
    /// `e_flags`, in the same byte order.
    pub flags: u32,
}

impl Ident {
    /// Reads the start of a file; zeros stand for what is missing. `None`: no ELF file.
    pub fn read(head: &[u8]) -> Option<Self> {
        let byte = |at: usize| head.get(at).copied().unwrap_or(0);
        let is_big = byte(5) == Endian::Big as u8;
        let half = |at| {
            let half = u16::from_le_bytes([byte(at), byte(at + 1)]);
            if is_big { half.swap_bytes() } else { half }
        };
        let word = |at| {
            let word = u32::from_le_bytes([byte(at), byte(at + 1), byte(at + 2), byte(at + 3)]);
            if is_big { word.swap_bytes() } else { word }
        };
        let flags_at = if byte(4) == Class::Elf64 as u8 { 48 } else { 36 };
        head.starts_with(b"\x7fELF").then(|| Self {
            class: byte(4),
            data: byte(5),
            os_abi: byte(7),
            kind: half(16),
            machine: half(18),
            flags: word(flags_at),
        })
    }

    /// The architecture, whatever kind of file it is.
    pub fn arch(&self) -> Option<&'static Arch> {
        ARCHES.iter().find(|arch| {
            (arch.class as u8, arch.endian as u8, arch.machine) == (self.class, self.data, self.machine)
                && (arch.flags ^ self.flags) & arch.distinct_flags == 0
        })
    }

    /// Whether it is a program at all, by what it states: executable, or position-independent.
    pub fn is_program(&self) -> bool {
        matches!(self.kind, ET_EXEC | ET_DYN)
    }

    /// 32 or 64, if its class is a known one.
    pub fn bits(&self) -> Option<u8> {
        let classes = [(Class::Elf32, 32), (Class::Elf64, 64)];
        classes.into_iter().find_map(|(class, bits)| (class as u8 == self.class).then_some(bits))
    }

    /// `little` or `big`, if it states one of these.
    pub fn byte_order(&self) -> Option<&'static str> {
        let orders = [(Endian::Little, "little"), (Endian::Big, "big")];
        orders.into_iter().find_map(|(order, name)| (order as u8 == self.data).then_some(name))
    }

    /// What kind of file it states to be.
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            ET_EXEC => "executable",
            ET_DYN => "position-independent",
            ET_REL => "an object file",
            ET_CORE => "a core dump",
            _ => "of no known type",
        }
    }

    /// The operating system's ABI, as far as files for Linux state one.
    pub fn os_abi_name(&self) -> String {
        match self.os_abi {
            0 => "System V".to_owned(),
            3 => "GNU/Linux".to_owned(),
            6 => "Solaris".to_owned(),
            9 => "FreeBSD".to_owned(),
            12 => "OpenBSD".to_owned(),
            65 => "FDPIC".to_owned(),
            97 => "ARM".to_owned(),
            other => format!("number {other}"),
        }
    }

    /// The machine's name in the gABI, or its number.
    pub fn machine_name(&self) -> String {
        let number = self.machine;
        match (machine_name(number), machine_name(number.swap_bytes())) {
            (Some(name), _) => name.to_owned(),
            (None, Some(name)) => format!("number {number}, which is {name} in the other byte order"),
            (None, None) => format!("number {number}"),
        }
    }

    /// The machine's name, and the ABI where its programs differ from the usual kind.
    pub fn machine_in_words(&self) -> String {
        let name = self.machine_name();
        let Some(bits) = self.bits() else {
            return format!("{name} of class {}", self.class);
        };
        let own = (self.machine, self.class);
        let abi = ABIS.iter().find(|(machine, class, _)| (*machine, *class as u8) == own);
        let is_emulated = ARCHES.iter().any(|arch| arch.machine == self.machine);
        match abi {
            Some((_, _, abi)) => format!("{name} with {abi}"),
            None if is_emulated => {
                let order = self.byte_order().unwrap_or("little");
                format!("{name} as {bits}-bit and {order}-endian")
            }
            None => name,
        }
    }
}

/// What machines are that have another class than usual.
const ABIS: &[(u16, Class, &str)] = &[
    (EM_X86_64, Class::Elf32, "32-bit pointers (x32)"),
    (EM_AARCH64, Class::Elf32, "32-bit pointers (ILP32)"),
    (EM_S390, Class::Elf32, "31-bit addresses (s390)"),
    (EM_LOONGARCH, Class::Elf32, "32-bit registers (LA32)"),
];

fn machine_name(machine: u16) -> Option<&'static str> {
    let name = machine_to_str(machine);
    let is_known = name != "EM_UNKNOWN" && machine != EM_NONE;
    is_known.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_named_with_what_is_unusual() {
        let x86_64 = Some("x86_64");
        #[rustfmt::skip]
        let rows = [
            (2, 1, [0x3e, 0], x86_64, "X86_64", "X86_64 as 64-bit and little-endian"),
            (2, 2, [0, 0xb7], Some("aarch64_be"), "AARCH64", "AARCH64 as 64-bit and big-endian"),
            (2, 1, [0xf7, 0], None, "BPF", "BPF"),
            (2, 1, [0, 0x3e], None, "number 15872, which is X86_64 in the other byte order", ""),
            (2, 1, [0xfe, 0xfe], None, "number 65278", "number 65278"),
            (2, 1, [0, 0], None, "number 0", "number 0"),
            (1, 1, [0x3e, 0], None, "X86_64", "X86_64 with 32-bit pointers (x32)"),
            (1, 1, [0xb7, 0], None, "AARCH64", "AARCH64 with 32-bit pointers (ILP32)"),
            (1, 2, [0, 22], None, "S390", "S390 with 31-bit addresses (s390)"),
            (2, 1, [22, 0], None, "S390", "S390 as 64-bit and little-endian"),
            (2, 1, [3, 0], None, "386", "386 as 64-bit and little-endian"),
            (0, 1, [3, 0], None, "386", "386 of class 0"),
        ];
        for (class, data, machine, arch, name, words) in rows {
            let mut head = b"\x7fELF".to_vec();
            head.extend([class, data]);
            head.resize(18, 0);
            head.extend(machine);
            let ident = Ident::read(&head).unwrap();
            let found = ident.arch().map(|arch| arch.qemu);
            assert_eq!((found, ident.machine_name().as_str()), (arch, name));
            let in_words = ident.machine_in_words();
            assert!(words.is_empty() || in_words == words, "{in_words}");
        }
    }
}

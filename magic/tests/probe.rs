//! The probes, as a reader of ELF sees them that is not ours. That they run is for real emulators to say, in the tool's tests.

use binfmt_magic::arch::{ARCHES, Arch, Class, Endian};
use binfmt_magic::probe;
use goblin::elf::Elf;
use goblin::elf::header::{ET_EXEC, EV_CURRENT};
use goblin::elf::program_header::{PF_R, PF_X, PT_LOAD};

#[test]
fn a_probe_is_a_header_of_its_architecture_and_one_segment() {
    for arch in &ARCHES {
        let file = probe::elf(arch);
        let elf = Elf::parse(&file).unwrap_or_else(|error| panic!("{}: {error}", arch.qemu));
        let header = elf.header;
        assert_eq!(elf.is_64, arch.class == Class::Elf64, "{}", arch.qemu);
        assert_eq!(elf.little_endian, arch.endian == Endian::Little, "{}", arch.qemu);
        assert_eq!(
            (header.e_type, header.e_machine, header.e_flags),
            (ET_EXEC, arch.machine, arch.flags),
            "{}",
            arch.qemu
        );
        assert_eq!(header.e_version, u32::from(EV_CURRENT), "{}", arch.qemu);
        let (header_size, segment_size) = if elf.is_64 { (64, 56) } else { (52, 32) };
        assert_eq!(
            (header.e_ehsize, header.e_phentsize, header.e_phnum),
            (header_size, segment_size, 1),
            "{}",
            arch.qemu
        );
        assert_eq!((header.e_shoff, header.e_shnum), (0, 0), "{}", arch.qemu);

        let [segment] = &elf.program_headers[..] else {
            panic!("{} has not one segment", arch.qemu);
        };
        let length = file.len() as u64;
        assert_eq!((segment.p_type, segment.p_flags, segment.p_offset), (PT_LOAD, PF_R | PF_X, 0), "{}", arch.qemu);
        assert_eq!((segment.p_filesz, segment.p_memsz), (length, length), "{}", arch.qemu);
        assert_eq!(segment.p_vaddr, segment.p_paddr, "{}", arch.qemu);
        assert_eq!(segment.p_vaddr % segment.p_align, 0, "{}", arch.qemu);
        // no page of Linux is larger
        assert_eq!(segment.p_align, 1 << 16, "{}", arch.qemu);
        let entry = usize::try_from(header.e_entry - segment.p_vaddr).unwrap();
        assert_eq!(&file[entry..], arch.code, "{}", arch.qemu);
    }
}

/// What of `e_flags` loaders look at: ABIs that differ in calls, in byte order of code, or in what a CPU must have. From the
/// psABIs and binutils' `include/elf`.
#[test]
fn flags_are_those_of_ordinary_programs() {
    #[rustfmt::skip]
    let expected = [
        ("ppc64", 2), ("ppc64le", 2), ("mips64el", 0x2000_0000), ("mips64", 0x2000_0000), ("loongarch64", 0x43),
        ("arm", 0x0500_0000), ("armeb", 0x0580_0000), ("hexagon", 0x67), ("hppa", 0x0210), ("mips", 0x1000),
        ("mipsel", 0x1000), ("mipsn32", 0x2000_0020), ("mipsn32el", 0x2000_0020), ("sh4", 9), ("sh4eb", 9),
        ("sparc32plus", 0x100),
    ];
    for arch in &ARCHES {
        let of = expected.iter().find(|(qemu, _)| *qemu == arch.qemu);
        assert_eq!(arch.flags, of.map_or(0, |(_, flags)| *flags), "{}: not as listed above", arch.qemu);
    }
    assert!(expected.iter().all(|(qemu, _)| Arch::by_qemu(qemu).is_some()));
}

/// `CONFIG_COMPAT` and the like, by architecture (Linux's `arch/*/Kconfig`), and older programs of the same kind.
#[test]
fn what_a_kernel_may_run_besides_is_what_linux_knows() {
    let expected = [
        ("x86_64", &["i386", "i486"][..]),
        ("i386", &["i486"]),
        ("aarch64", &["arm"]),
        ("aarch64_be", &["armeb"]),
        ("riscv64", &["riscv32"]),
        ("ppc64", &["ppc"]),
        ("mips64el", &["mipsel", "mipsn32el"]),
        ("mips64", &["mips", "mipsn32"]),
        ("sparc", &["sparc32plus"]),
        ("sparc64", &["sparc", "sparc32plus"]),
    ];
    for arch in &ARCHES {
        let of = expected.iter().find(|(qemu, _)| *qemu == arch.qemu);
        assert_eq!(arch.compat, of.map_or(&[][..], |(_, others)| *others), "{}: not as listed above", arch.qemu);
    }
}

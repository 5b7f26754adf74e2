//! x32: programs of amd64 with 32-bit pointers, which have the machine of amd64 and the class of 386.
//!
//! Kernels run them with `CONFIG_X86_X32_ABI`, and some only when booted with `syscall.x32=y`; so one is started to
//! find out. Rests on the x86-64 psABI, section 2.3, and `compat_elf_check_arch` in Linux's
//! `arch/x86/include/asm/elf.h`.

use std::sync::LazyLock;

use binfmt_magic::arch::{Arch, Class};
use binfmt_magic::probe;

use super::elf::Ident;
use super::fault::{Fault, Remedy};
use crate::helper::probes::{self, ProbeOutcome, Run};

/// The row of amd64 in this form.
static X32: LazyLock<Option<Arch>> = LazyLock::new(|| {
    let mut arch = Arch::by_qemu("x86_64")?.clone();
    (arch.class, arch.levels, arch.code) = (Class::Elf32, 1, CODE);
    Some(arch)
});

#[rustfmt::skip]
const CODE: &[u8] = &[
    0x31, 0xff,                   // xor edi, edi
    0xb8, 0xe7, 0x00, 0x00, 0x40, // mov eax, 0x400000e7: exit_group of x32
    0x0f, 0x05,                   // syscall
];

pub(super) fn matches(ident: &Ident) -> bool {
    let x32 = X32.as_ref();
    x32.is_some_and(|arch| (arch.class as u8, arch.machine) == (ident.class, ident.machine))
}

/// The row, if this kernel is seen to start such a program, and it ends well.
pub(super) fn native() -> Option<&'static Arch> {
    let arch = X32.as_ref()?;
    let file = probes::in_memory_file("x32", &probe::elf(arch)).ok()?;
    let runs = probes::ask(&[&file], probes::LIMIT).ok()?;
    let ends_well = |run: &Run| run.outcome == ProbeOutcome::Exited(0);
    runs.iter().all(ends_well).then_some(arch)
}

/// A program of x32, where the kernel starts none.
pub(super) fn fault() -> Fault {
    Fault::unknown_format(
        "is an x32 program (amd64 with 32-bit pointers), and this kernel does not start x32 programs",
        Remedy::advice(
            "build it for amd64 or 386 (gcc -m64, gcc -m32), or boot a kernel with CONFIG_X86_X32_ABI (some need \
             syscall.x32=y on its command line)",
        ),
    )
}

//! The facts: one row per QEMU linux-user target. A row says only what nothing else follows from.
//!
//! Names: QEMU's `scripts/qemu-binfmt-conf.sh`, Go's list of known architectures, Debian's ports, `uname -m`.
//! Machine numbers and `e_flags`: each psABI supplement. To add a row, write its facts; the compiler and the tests
//! say what they collide with.
//!
//! Code: each probe loads `argv[0]` from the stack, loads the byte that it points to, loads the number of
//! `exit_group` and makes the system call. Numbers and registers are those of the kernel's system call tables
//! and of `syscall(2)`; where that does not explain an instruction, a remark does. One line is one instruction.
//!
//! Order: the one in which status lists platforms, then by QEMU name.

use super::{Arch, Class, Endian};

/// A row of the ordinary kind; what differs is set around it.
macro_rules! row {
    ($qemu:literal, $oci:literal, $class:ident, $endian:ident, $machine:literal) => {
        Arch {
            qemu: $qemu,
            oci: $oci,
            platforms: &[concat!("linux/", $oci)],
            aliases: &[],
            interpreter: $qemu,
            class: Class::$class,
            endian: Endian::$endian,
            machine: $machine,
            flags: 0,
            distinct_flags: 0,
            odd_mask: &[],
            levels: 1,
            compat: &[],
            code: &[],
        }
    };
}

/// QEMU leaves the lowest bit of `EI_DATA` and `EI_VERSION` open on x86 and alpha.
const LOOSE_IDENT: &[(usize, u8)] = &[(5, 0xfe), (6, 0xfe)];

/// `EI_ABIVERSION` on MIPS is what a program asks of the dynamic linker, and may be anything.
const ANY_ABI_VERSION: &[(usize, u8)] = &[(8, 0x00)];

/// The bit of `e_flags` that tells N32 from o32 (`EF_MIPS_ABI2`).
const MIPS_ABI2: u32 = 0x20;

#[rustfmt::skip]
const AARCH64: &[u8] = &[
    0xe0, 0x07, 0x40, 0xf9, // ldr x0, [sp, #8]
    0x00, 0x00, 0x40, 0x39, // ldrb w0, [x0]
    0xc8, 0x0b, 0x80, 0xd2, // mov x8, #94
    0x01, 0x00, 0x00, 0xd4, // svc #0
];

#[rustfmt::skip]
const ARM: &[u8] = &[
    0x04, 0x00, 0x9d, 0xe5, // ldr r0, [sp, #4]
    0x00, 0x00, 0xd0, 0xe5, // ldrb r0, [r0]
    0xf8, 0x70, 0xa0, 0xe3, // mov r7, #248
    0x00, 0x00, 0x00, 0xef, // svc #0
];

#[rustfmt::skip]
const X86_32: &[u8] = &[
    0x8b, 0x44, 0x24, 0x04,       // mov eax, [esp+4]
    0x0f, 0xb6, 0x18,             // movzx ebx, byte [eax]
    0xb8, 0xfc, 0x00, 0x00, 0x00, // mov eax, 252
    0xcd, 0x80,                   // int 0x80
];

#[rustfmt::skip]
const SPARC: &[u8] = &[
    0xd0, 0x03, 0xa0, 0x44, // ld [%sp + 68], %o0  argv[0], past the register window and argc
    0xd0, 0x0a, 0x00, 0x00, // ldub [%o0], %o0
    0x82, 0x10, 0x20, 0xbc, // mov 188, %g1
    0x91, 0xd0, 0x20, 0x10, // ta 0x10
];

/// Every architecture that QEMU's user emulation knows.
#[rustfmt::skip]
pub static ARCHES: [Arch; 34] = [
    Arch {
        aliases: &["x86-64"],
        odd_mask: LOOSE_IDENT,
        // The psABI's levels: every feature of one and of those below it, and a kernel that saves the registers
        levels: 4,
        code: &[
            0x48, 0x8b, 0x74, 0x24, 0x08,       // mov rsi, [rsp+8]
            0x0f, 0xb6, 0x3e,                   // movzx edi, byte [rsi]
            0xb8, 0x01, 0x00, 0x00, 0x00,       // mov eax, 1
            0x0f, 0xa2,                         // cpuid
            0x89, 0xce,                         // mov esi, ecx
            0xf7, 0xd6,                         // not esi               what leaf 1 lacks
            0xb8, 0x01, 0x00, 0x00, 0x80,       // mov eax, 0x80000001
            0x0f, 0xa2,                         // cpuid
            0x89, 0xcd,                         // mov ebp, ecx
            0xf7, 0xd5,                         // not ebp               what the extended leaf lacks
            0xf7, 0xc6, 0x01, 0x22, 0x98, 0x00, // test esi, 0x982201    v2: SSE3 SSSE3 CX16 SSE4.1 SSE4.2 POPCNT
            0x75, 0x51,                         // jnz exit
            0xf7, 0xc5, 0x01, 0x00, 0x00, 0x00, // test ebp, 1           v2: LAHF-SAHF
            0x75, 0x49,                         // jnz exit
            0xff, 0xc7,                         // inc edi
            0xf7, 0xc6, 0x00, 0x10, 0x40, 0x38, // test esi, 0x38401000  v3: FMA MOVBE OSXSAVE AVX F16C
            0x75, 0x3f,                         // jnz exit
            0xf7, 0xc5, 0x20, 0x00, 0x00, 0x00, // test ebp, 0x20        v3: LZCNT
            0x75, 0x37,                         // jnz exit
            0x31, 0xc0,                         // xor eax, eax
            0x0f, 0xa2,                         // cpuid
            0x83, 0xf8, 0x07,                   // cmp eax, 7            is there a leaf 7?
            0x72, 0x2e,                         // jb exit
            0xb8, 0x07, 0x00, 0x00, 0x00,       // mov eax, 7
            0x31, 0xc9,                         // xor ecx, ecx
            0x0f, 0xa2,                         // cpuid
            0xf7, 0xd3,                         // not ebx               what leaf 7 lacks
            0xf7, 0xc3, 0x28, 0x01, 0x00, 0x00, // test ebx, 0x128       v3: BMI1 AVX2 BMI2
            0x75, 0x1b,                         // jnz exit
            0x31, 0xc9,                         // xor ecx, ecx
            0x0f, 0x01, 0xd0,                   // xgetbv
            0xf7, 0xd0,                         // not eax               what the kernel does not save
            0xa8, 0x06,                         // test al, 6            v3: XMM YMM
            0x75, 0x10,                         // jnz exit
            0xff, 0xc7,                         // inc edi
            0xf7, 0xc3, 0x00, 0x00, 0x03, 0xd0, // test ebx, 0xd0030000  v4: AVX512 F DQ CD BW VL
            0x75, 0x06,                         // jnz exit
            0xa8, 0xe0,                         // test al, 0xe0         v4: mask registers, ZMM
            0x75, 0x02,                         // jnz exit
            0xff, 0xc7,                         // inc edi
            0xb8, 0xe7, 0x00, 0x00, 0x00,       // exit: mov eax, 231
            0x0f, 0x05,                         // syscall
        ],
        compat: &["i386", "i486"],
        ..row!("x86_64", "amd64", Elf64, Little, 62)
    },
    Arch {
        aliases: &["arm64v8"],
        code: AARCH64,
        compat: &["arm"],
        ..row!("aarch64", "arm64", Elf64, Little, 183)
    },
    Arch {
        code: &[
            0x03, 0x35, 0x81, 0x00, // ld a0, 8(sp)
            0x03, 0x45, 0x05, 0x00, // lbu a0, 0(a0)
            0x93, 0x08, 0xe0, 0x05, // li a7, 94
            0x73, 0x00, 0x00, 0x00, // ecall
        ],
        compat: &["riscv32"],
        ..row!("riscv64", "riscv64", Elf64, Little, 243)
    },
    Arch {
        aliases: &["powerpc64"],
        flags: 2, // ELFv2: the entry point is code, not a function descriptor
        code: &[
            0xe8, 0x61, 0x00, 0x08, // ld r3, 8(r1)
            0x88, 0x63, 0x00, 0x00, // lbz r3, 0(r3)
            0x38, 0x00, 0x00, 0xea, // li r0, 234
            0x44, 0x00, 0x00, 0x02, // sc
        ],
        compat: &["ppc"],
        ..row!("ppc64", "ppc64", Elf64, Big, 21)
    },
    Arch {
        aliases: &["ppc64el", "powerpc64le", "powerpc64el"],
        flags: 2, // ELFv2
        odd_mask: &[(19, 0x00)], // the high byte of e_machine
        code: &[
            0x08, 0x00, 0x61, 0xe8, // ld r3, 8(r1)
            0x00, 0x00, 0x63, 0x88, // lbz r3, 0(r3)
            0xea, 0x00, 0x00, 0x38, // li r0, 234
            0x02, 0x00, 0x00, 0x44, // sc
        ],
        ..row!("ppc64le", "ppc64le", Elf64, Little, 21)
    },
    Arch {
        code: &[
            0xe3, 0x20, 0xf0, 0x08, 0x00, 0x04, // lg %r2, 8(%r15)
            0xe3, 0x20, 0x20, 0x00, 0x00, 0x90, // llgc %r2, 0(%r2)
            0x0a, 0xf8,                         // svc 248
        ],
        ..row!("s390x", "s390x", Elf64, Big, 22)
    },
    Arch {
        aliases: &["x86", "i586", "i686"],
        odd_mask: LOOSE_IDENT,
        code: X86_32,
        compat: &["i486"],
        ..row!("i386", "386", Elf32, Little, 3)
    },
    Arch {
        flags: 0x2000_0000, // EF_MIPS_ARCH_3
        odd_mask: ANY_ABI_VERSION,
        code: &[
            0x08, 0x00, 0xa4, 0xdf, // ld $a0, 8($sp)
            0x55, 0x14, 0x02, 0x24, // li $v0, 5205
            0x00, 0x00, 0x84, 0x90, // lbu $a0, 0($a0)
            0x0c, 0x00, 0x00, 0x00, // syscall
        ],
        compat: &["mipsel", "mipsn32el"],
        ..row!("mips64el", "mips64le", Elf64, Little, 8)
    },
    Arch {
        flags: 0x2000_0000, // EF_MIPS_ARCH_3
        odd_mask: ANY_ABI_VERSION,
        code: &[
            0xdf, 0xa4, 0x00, 0x08, // ld $a0, 8($sp)
            0x24, 0x02, 0x14, 0x55, // li $v0, 5205
            0x90, 0x84, 0x00, 0x00, // lbu $a0, 0($a0)
            0x00, 0x00, 0x00, 0x0c, // syscall
        ],
        compat: &["mips", "mipsn32"],
        ..row!("mips64", "mips64", Elf64, Big, 8)
    },
    Arch {
        flags: 0x43, // LP64D, object file ABI version 1
        odd_mask: &[(7, 0xfc), (8, 0x00)], // OS ABI 0 to 3, any ABI version
        code: &[
            0x64, 0x20, 0xc0, 0x28, // ld.d $a0, $sp, 8
            0x84, 0x00, 0x00, 0x2a, // ld.bu $a0, $a0, 0
            0x0b, 0x78, 0x81, 0x03, // ori $a7, $zero, 94
            0x00, 0x00, 0x2b, 0x00, // syscall 0
        ],
        ..row!("loongarch64", "loong64", Elf64, Little, 258)
    },
    Arch {
        platforms: &["linux/arm/v7", "linux/arm/v6"],
        aliases: &["armhf", "armel", "armv5l", "armv5tel", "armv6", "armv6l", "armv6hl", "armv7", "armv7a",
                   "armv7l", "armv7hl", "armv8l", "arm32v5", "arm32v6", "arm32v7"],
        flags: 0x0500_0000, // EABI version 5
        code: ARM,
        ..row!("arm", "arm", Elf32, Little, 40)
    },
    Arch {
        code: AARCH64,
        compat: &["armeb"],
        ..row!("aarch64_be", "arm64be", Elf64, Big, 183)
    },
    Arch {
        odd_mask: LOOSE_IDENT,
        code: &[
            0x08, 0x00, 0x1e, 0xa6, // ldq $16, 8($30)
            0x00, 0x00, 0x30, 0x2e, // ldq_u $17, 0($16)    the quad-word around its first byte
            0xd0, 0x00, 0x30, 0x4a, // extbl $17, $16, $16  that byte: the first Alphas load no less
            0x95, 0x01, 0x1f, 0x20, // lda $0, 405($31)
            0x83, 0x00, 0x00, 0x00, // callsys
        ],
        ..row!("alpha", "alpha", Elf64, Little, 0x9026)
    },
    Arch {
        aliases: &["armv7b"],
        flags: 0x0580_0000, // EABI version 5, BE8: code is little-endian all the same
        code: ARM,
        ..row!("armeb", "armbe", Elf32, Big, 40)
    },
    Arch {
        flags: 0x67, // V67, the newest that QEMU 7.2 takes too
        code: &[
            0x20, 0xc0, 0x9d, 0x91, // r0 = memw(r29+#4)
            0x00, 0xc0, 0x20, 0x91, // r0 = memub(r0+#0)
            0xc6, 0xcb, 0x00, 0x78, // r6 = #94
            0x04, 0xc0, 0x00, 0x54, // trap0(#1)
        ],
        ..row!("hexagon", "hexagon", Elf32, Little, 164)
    },
    Arch {
        aliases: &["parisc", "parisc64"],
        flags: 0x0210, // PA-RISC 1.1
        code: &[
            0x0f, 0x00, 0x10, 0x9a, // ldw 0(%r24), %r26     argv[0]: the stack grows up, argv comes in %r24
            0x0f, 0x40, 0x10, 0x1a, // ldb 0(%r26), %r26
            0xe4, 0x00, 0x82, 0x00, // ble 0x100(%sr2, %r0)  the gateway page
            0x34, 0x14, 0x01, 0xbc, // ldi 222, %r20         exit_group, in the delay slot
        ],
        ..row!("hppa", "hppa", Elf32, Big, 15)
    },
    Arch {
        // EM_486: obsolete, but a kernel that runs i386 programs takes it, and so does QEMU's i386 emulator.
        // No OCI platform: images call the same programs 386
        interpreter: "i386",
        platforms: &[],
        odd_mask: LOOSE_IDENT,
        code: X86_32,
        ..row!("i486", "i486", Elf32, Little, 6)
    },
    Arch {
        odd_mask: &[(6, 0xfe)], // the lowest bit of EI_VERSION
        code: &[
            0x20, 0x6f, 0x00, 0x04,             // move.l 4(%sp), %a0
            0x72, 0x00,                         // moveq #0, %d1
            0x12, 0x10,                         // move.b (%a0), %d1
            0x20, 0x3c, 0x00, 0x00, 0x00, 0xf7, // move.l #247, %d0
            0x4e, 0x40,                         // trap #0
        ],
        ..row!("m68k", "m68k", Elf32, Big, 4)
    },
    Arch {
        // QEMU's own script has the bytes of a little-endian header here, which no MicroBlaze program has
        code: &[
            0xe8, 0xa1, 0x00, 0x04, // lwi r5, r1, 4
            0xe0, 0xa5, 0x00, 0x00, // lbui r5, r5, 0
            0x31, 0x80, 0x00, 0xfc, // addik r12, r0, 252
            0xb9, 0xcc, 0x00, 0x08, // brki r14, 0x8
        ],
        ..row!("microblaze", "microblaze", Elf32, Big, 0xbaab)
    },
    Arch {
        code: &[
            0x04, 0x00, 0xa1, 0xe8, // lwi r5, r1, 4
            0x00, 0x00, 0xa5, 0xe0, // lbui r5, r5, 0
            0xfc, 0x00, 0x80, 0x31, // addik r12, r0, 252
            0x08, 0x00, 0xcc, 0xb9, // brki r14, 0x8
        ],
        ..row!("microblazeel", "microblazeel", Elf32, Little, 0xbaab)
    },
    Arch {
        flags: 0x1000, // EF_MIPS_ABI_O32
        distinct_flags: MIPS_ABI2,
        odd_mask: ANY_ABI_VERSION,
        code: &[
            0x8f, 0xa4, 0x00, 0x04, // lw $a0, 4($sp)
            0x24, 0x02, 0x10, 0x96, // li $v0, 4246     exit_group, in the load delay slot
            0x90, 0x84, 0x00, 0x00, // lbu $a0, 0($a0)
            0x00, 0x00, 0x00, 0x0c, // syscall
        ],
        ..row!("mips", "mips", Elf32, Big, 8)
    },
    Arch {
        flags: 0x1000, // EF_MIPS_ABI_O32
        distinct_flags: MIPS_ABI2,
        odd_mask: ANY_ABI_VERSION,
        code: &[
            0x04, 0x00, 0xa4, 0x8f, // lw $a0, 4($sp)
            0x96, 0x10, 0x02, 0x24, // li $v0, 4246     exit_group, in the load delay slot
            0x00, 0x00, 0x84, 0x90, // lbu $a0, 0($a0)
            0x0c, 0x00, 0x00, 0x00, // syscall
        ],
        ..row!("mipsel", "mipsle", Elf32, Little, 8)
    },
    Arch {
        flags: 0x2000_0000 | MIPS_ABI2, // EF_MIPS_ARCH_3
        distinct_flags: MIPS_ABI2,
        odd_mask: ANY_ABI_VERSION,
        code: &[
            0x8f, 0xa4, 0x00, 0x04, // lw $a0, 4($sp)
            0x24, 0x02, 0x18, 0x3d, // li $v0, 6205
            0x90, 0x84, 0x00, 0x00, // lbu $a0, 0($a0)
            0x00, 0x00, 0x00, 0x0c, // syscall
        ],
        ..row!("mipsn32", "mips64p32", Elf32, Big, 8)
    },
    Arch {
        flags: 0x2000_0000 | MIPS_ABI2, // EF_MIPS_ARCH_3
        distinct_flags: MIPS_ABI2,
        odd_mask: ANY_ABI_VERSION,
        code: &[
            0x04, 0x00, 0xa4, 0x8f, // lw $a0, 4($sp)
            0x3d, 0x18, 0x02, 0x24, // li $v0, 6205
            0x00, 0x00, 0x84, 0x90, // lbu $a0, 0($a0)
            0x0c, 0x00, 0x00, 0x00, // syscall
        ],
        ..row!("mipsn32el", "mips64p32le", Elf32, Little, 8)
    },
    Arch {
        aliases: &["openrisc"],
        code: &[
            0x84, 0x61, 0x00, 0x04, // l.lwz r3, 4(r1)
            0x8c, 0x63, 0x00, 0x00, // l.lbz r3, 0(r3)
            0xa9, 0x60, 0x00, 0x5e, // l.ori r11, r0, 94
            0x20, 0x00, 0x00, 0x01, // l.sys 1
        ],
        ..row!("or1k", "or1k", Elf32, Big, 92)
    },
    Arch {
        aliases: &["powerpc"],
        code: &[
            0x80, 0x61, 0x00, 0x04, // lwz r3, 4(r1)
            0x88, 0x63, 0x00, 0x00, // lbz r3, 0(r3)
            0x38, 0x00, 0x00, 0xea, // li r0, 234
            0x44, 0x00, 0x00, 0x02, // sc
        ],
        ..row!("ppc", "ppc", Elf32, Big, 20)
    },
    Arch {
        code: &[
            0x03, 0x25, 0x41, 0x00, // lw a0, 4(sp)
            0x03, 0x45, 0x05, 0x00, // lbu a0, 0(a0)
            0x93, 0x08, 0xe0, 0x05, // li a7, 94
            0x73, 0x00, 0x00, 0x00, // ecall
        ],
        ..row!("riscv32", "riscv", Elf32, Little, 243)
    },
    Arch {
        aliases: &["sh4a"],
        flags: 9, // EF_SH4
        code: &[
            0xf1, 0x54, // mov.l @(4, r15), r4
            0x40, 0x64, // mov.b @r4, r4
            0xfc, 0xe3, // mov #-4, r3
            0x3c, 0x63, // extu.b r3, r3        252: exit_group
            0x11, 0xc3, // trapa #0x11          one argument
        ],
        ..row!("sh4", "sh", Elf32, Little, 42)
    },
    Arch {
        aliases: &["sh4aeb"],
        flags: 9, // EF_SH4
        code: &[
            0x54, 0xf1, // mov.l @(4, r15), r4
            0x64, 0x40, // mov.b @r4, r4
            0xe3, 0xfc, // mov #-4, r3
            0x63, 0x3c, // extu.b r3, r3        252: exit_group
            0xc3, 0x11, // trapa #0x11          one argument
        ],
        ..row!("sh4eb", "sheb", Elf32, Big, 42)
    },
    Arch {
        code: SPARC,
        compat: &["sparc32plus"],
        ..row!("sparc", "sparc", Elf32, Big, 2)
    },
    Arch {
        flags: 0x100, // EF_SPARC_32PLUS
        code: SPARC,
        ..row!("sparc32plus", "sparc32plus", Elf32, Big, 18)
    },
    Arch {
        code: &[
            0xd0, 0x5b, 0xa8, 0x87, // ldx [%sp + 2183], %o0  argv[0], past bias, register window and argc
            0xd0, 0x0a, 0x00, 0x00, // ldub [%o0], %o0
            0x82, 0x10, 0x20, 0xbc, // mov 188, %g1
            0x91, 0xd0, 0x20, 0x6d, // ta 0x6d
        ],
        compat: &["sparc", "sparc32plus"],
        ..row!("sparc64", "sparc64", Elf64, Big, 43)
    },
    Arch {
        code: &[
            0x62, 0x21, 0x01, // l32i a6, a1, 4
            0x62, 0x06, 0x00, // l8ui a6, a6, 0
            0x22, 0xa0, 0x77, // movi a2, 119
            0x00, 0x50, 0x00, // syscall
        ],
        ..row!("xtensa", "xtensa", Elf32, Little, 94)
    },
    Arch {
        code: &[
            0x26, 0x12, 0x01, // l32i a6, a1, 4
            0x26, 0x60, 0x00, // l8ui a6, a6, 0
            0x22, 0x0a, 0x77, // movi a2, 119
            0x00, 0x05, 0x00, // syscall
        ],
        ..row!("xtensaeb", "xtensaeb", Elf32, Big, 94)
    },
];

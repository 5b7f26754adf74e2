//! The table against what others register: QEMU's own script and Debian's package, byte for byte.
//!
//! The lines stand in `data/` as they were captured. Each difference that is meant has its reason here; any other one
//! is a mistake in the table, or news in a captured file that was replaced by a newer one.

use std::collections::BTreeMap;

use binfmt_magic::arch::{ARCHES, Arch};

const QEMU_SCRIPT: &str = include_str!("data/qemu-magic.tsv");
const DEBIAN_RULES: &str = include_str!("data/debian-binfmt.d.conf");

/// Bytes by offset.
type Bytes = &'static [(usize, u8)];

/// Where QEMU's script has other bytes, and which: row, magic, mask.
#[rustfmt::skip]
const QEMU_DIFFERS: &[(&str, Bytes, Bytes)] = &[
    // e_type in the wrong byte order for a big-endian architecture: its line matches no program there is
    ("microblaze", &[(16, 2), (17, 0)], &[(16, 0xfe), (17, 0xff)]),
];

/// Where Debian's rules have other bytes in the mask, and which.
#[rustfmt::skip]
const DEBIAN_DIFFERS: &[(&[&str], Bytes)] = &[
    // only the OS ABIs 0 to 3 (System V, GNU/Linux)
    (
        &["i386", "x86_64", "ppc", "ppc64", "ppc64le", "s390x", "sh4", "sh4eb", "sparc", "sparc32plus", "sparc64"],
        &[(7, 0xfc)],
    ),
    // EI_DATA and EI_VERSION to the last bit
    (&["alpha", "m68k"], &[(5, 0xff), (6, 0xff)]),
];

/// Rows that Debian has no rule for: nothing makes such programs any more.
const NOT_IN_DEBIAN: &[&str] = &["i486"];

#[test]
fn magic_and_mask_are_those_of_qemus_script() {
    let mut theirs: BTreeMap<&str, (Vec<u8>, Vec<u8>)> = QEMU_SCRIPT
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            (fields[0], (bytes(fields[1]), bytes(fields[2])))
        })
        .collect();
    for arch in &ARCHES {
        let (mut magic, mut mask) = ours(arch);
        for (_, magic_differs, mask_differs) in QEMU_DIFFERS.iter().filter(|(row, ..)| *row == arch.qemu) {
            replace(&mut magic, magic_differs);
            replace(&mut mask, mask_differs);
        }
        let line = theirs.remove(arch.qemu).map(shown);
        assert_eq!(line, Some(shown((magic, mask))), "{} of data/qemu-magic.tsv", arch.qemu);
    }
    assert!(theirs.is_empty(), "rows that are missing: {:?}", theirs.keys());
}

#[test]
fn magic_and_mask_are_those_of_debians_rules() {
    let mut theirs: BTreeMap<&str, (Vec<u8>, Vec<u8>)> = DEBIAN_RULES
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields[1], (bytes(fields[4]), bytes(fields[5])))
        })
        .collect();
    for arch in ARCHES.iter().filter(|arch| !NOT_IN_DEBIAN.contains(&arch.qemu)) {
        let (magic, mut mask) = ours(arch);
        for (_, differs) in DEBIAN_DIFFERS.iter().filter(|(rows, _)| rows.contains(&arch.qemu)) {
            replace(&mut mask, differs);
        }
        let rule = theirs.remove(arch.entry_name("").as_str()).map(shown);
        assert_eq!(rule, Some(shown((magic, mask))), "{} of data/debian-binfmt.d.conf", arch.qemu);
    }
    assert!(theirs.is_empty(), "rows that are missing: {:?}", theirs.keys());
}

#[test]
fn a_difference_is_one() {
    let in_qemu = QEMU_DIFFERS.iter().map(|(row, ..)| row);
    let in_debian = DEBIAN_DIFFERS.iter().flat_map(|(rows, _)| *rows);
    for row in in_qemu.chain(in_debian).chain(NOT_IN_DEBIAN) {
        assert!(Arch::by_qemu(row).is_some(), "{row} is no row");
    }
    for (rows, differs) in DEBIAN_DIFFERS {
        for row in *rows {
            let (_, mask) = ours(Arch::by_qemu(row).unwrap());
            let mut debian = mask.clone();
            replace(&mut debian, differs);
            assert_ne!(mask, debian, "{row} does not differ from Debian's");
        }
    }
}

fn ours(arch: &Arch) -> (Vec<u8>, Vec<u8>) {
    (arch.magic().as_slice().to_vec(), arch.mask().as_slice().to_vec())
}

/// Magic and mask as `data/qemu-magic.tsv` has them.
fn shown((magic, mask): (Vec<u8>, Vec<u8>)) -> String {
    let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    hex(magic) + "\t" + &hex(mask)
}

fn replace(pattern: &mut [u8], with: Bytes) {
    for &(offset, byte) in with {
        pattern[offset] = byte;
    }
}

/// The bytes of `7f45…` or of `\x7f\x45…`.
fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.replace("\\x", "");
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("two hexadecimal digits"))
        .collect()
}

//! The property note of an ELF file: which micro-architecture level of x86-64 it states to need.
//!
//! Rests on the x86-64 psABI, "Program Property", and the Linux extensions to the gABI (`NT_GNU_PROPERTY_TYPE_0`).

/// `NT_GNU_PROPERTY_TYPE_0`
const PROPERTIES: u32 = 5;
/// `GNU_PROPERTY_X86_ISA_1_NEEDED`
const ISA_NEEDED: u32 = 0xc000_8002;
/// What properties are padded to in 64-bit files.
const ALIGNMENT: usize = 8;

/// The level that a little-endian, 64-bit property segment states: 1 where it states none.
pub(super) fn level(note: &[u8]) -> u8 {
    isa_needed(note).map_or(1, |bits| match bits {
        // GNU_PROPERTY_X86_ISA_1_BASELINE is bit 0, _V2 bit 1, and so on
        0..=1 => 1,
        2..=3 => 2,
        4..=7 => 3,
        _ => 4,
    })
}

fn isa_needed(note: &[u8]) -> Option<u32> {
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

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*four))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(properties: &[(u32, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (kind, data) in properties {
            body.extend(kind.to_le_bytes());
            body.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
            body.extend(*data);
            body.resize(body.len().next_multiple_of(ALIGNMENT), 0);
        }
        let length = u32::try_from(body.len()).unwrap();
        [
            &4u32.to_le_bytes(),
            &length.to_le_bytes(),
            &5u32.to_le_bytes(),
            b"GNU\0",
            &body[..],
        ]
        .concat()
    }

    #[test]
    fn the_level_is_the_highest_bit() {
        for (bits, expected) in [
            (0, 1),
            (1, 1),
            (2, 2),
            (3, 2),
            (4, 3),
            (7, 3),
            (8, 4),
            (15, 4),
        ] {
            let bits = u32::to_le_bytes(bits);
            let feature = (0xc000_0002, &[3, 0, 0, 0][..]);
            assert_eq!(level(&note(&[feature, (ISA_NEEDED, &bits)])), expected);
        }
    }

    #[test]
    fn what_is_no_such_note_states_nothing() {
        let stated = note(&[(ISA_NEEDED, &[4, 0, 0, 0])]);
        for cut in 0..stated.len() - 4 {
            assert_eq!(level(&stated[..cut]), 1, "{cut}");
        }
        assert_eq!(level(&note(&[(ISA_NEEDED, &[4])])), 1);
        assert_eq!(level(&note(&[(1, &[])])), 1);
        let mut huge = note(&[(1, &[])]);
        huge[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(level(&huge), 1);
    }
}

//! The head of an emulator's file, and the sections of the program's own: what is taken lies within the file, and
//! a file that was cut short is not taken.

#![no_main]

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::Path;

use binfmt::readers::{EmulatorError, HEAD, check_head, places, segments};
use binfmt_magic::arch::Arch;
use libfuzzer_sys::fuzz_target;
use nix::sys::memfd::{MFdFlags, memfd_create};

/// `PT_LOAD` and `PT_INTERP` (`elf(5)`).
const LOAD: u32 = 1;
const INTERP: u32 = 3;

fuzz_target!(|bytes: &[u8]| {
    read_head(bytes);
    read_places(bytes);
});

fn read_head(bytes: &[u8]) {
    let head = &bytes[..bytes.len().min(HEAD as usize)];
    let found = segments(head);
    if found.is_some() {
        assert_eq!(found, segments(bytes), "more bytes change nothing");
    }
    match check_head(head, bytes.len() as u64) {
        Ok(()) => {
            let found = found.expect("what is taken has segments");
            assert!(Arch::of_host().is_none_or(|host| host.matches(head)));
            assert!(found.iter().all(|segment| segment.p_type != INTERP));
            let loaded = found.iter().filter(|segment| segment.p_type == LOAD);
            let ends = loaded.map(|segment| segment.p_offset.checked_add(segment.p_filesz));
            let end = ends.max().expect("something is loaded");
            let end = end.expect("no end beyond all files");
            assert!(end <= bytes.len() as u64);
            if let Some(short) = end.checked_sub(1) {
                assert!(check_head(head, short).is_err());
            }
        }
        Err(unfit) => {
            let path = Path::new("/usr/bin/qemu-aarch64").to_owned();
            let text = EmulatorError { path, unfit }.to_string();
            assert!(!text.is_empty() && !text.contains('\n'), "{text}");
        }
    }
}

fn read_places(bytes: &[u8]) {
    let Ok(places) = places(&mut file_of(bytes)) else {
        return;
    };
    for name in places.keys() {
        let name = format!("{name}.zst");
        let mut windows = bytes.windows(name.len());
        assert!(windows.any(|window| window == name.as_bytes()), "{name}");
    }
    // the section headers are the last thing in a program; what has not even the file's own is no program
    #[cfg(target_pointer_width = "64")]
    if !places.is_empty() {
        let start: [u8; 8] = bytes[40..48].try_into().expect("eight bytes");
        let count = u16::from_ne_bytes([bytes[60], bytes[61]]);
        let end = u64::from_ne_bytes(start) + 64 * u64::from(count);
        let short = usize::try_from(end).expect("within the file") - 1;
        let error = self::places(&mut file_of(&bytes[..short])).expect_err("cut short");
        assert!(short < 64 || error.kind() == io::ErrorKind::InvalidData);
    }
}

/// In memory.
fn file_of(bytes: &[u8]) -> File {
    let mut file = File::from(memfd_create("file", MFdFlags::MFD_CLOEXEC).expect("a descriptor"));
    file.write_all(bytes).expect("memory");
    file.rewind().expect("a file");
    file
}

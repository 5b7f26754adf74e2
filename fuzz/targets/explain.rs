//! The readers of files that anybody may have made: no bytes make them panic, overflow, or hold more than they may.

#![no_main]

use std::ffi::OsStr;
use std::io::Cursor;
use std::path::Path;

use binfmt::readers::elf::{Ident, Image, LoadedBy};
use binfmt::readers::handler::{Handlers, Unmatched, compare};
use binfmt::readers::{format, shebang};
use binfmt_magic::arch::Arch;
use binfmt_magic::entry::Entry;
use libfuzzer_sys::fuzz_target;

/// One row of each class and byte order; the first has micro-architecture levels.
const ARCHES: [&str; 4] = ["x86_64", "i386", "s390x", "mips"];

fuzz_target!(|bytes: &[u8]| {
    let format = format::recognize(bytes);
    let _ = format.repaired(bytes);
    read_shebang(bytes);
    read_elf(bytes);
    read_entry(bytes);
});

fn read_shebang(bytes: &[u8]) {
    let Some(Ok(line)) = shebang::read(bytes) else {
        return;
    };
    let name = line.interpreter.as_os_str().as_encoded_bytes();
    assert!(!name.is_empty() && name.len() < binfmt::readers::WINDOW);
    assert!(!name.iter().any(|byte| b" \t\n\0".contains(byte)));
}

fn read_elf(bytes: &[u8]) {
    if let Some(ident) = Ident::read(bytes) {
        let _ = (ident.arch(), ident.kind_name(), ident.machine_name(), ident.machine_in_words(), ident.os_abi_name());
    }
    for name in ARCHES {
        let arch = Arch::by_qemu(name).expect("a row of the table");
        for by in [LoadedBy::Kernel, LoadedBy::Emulator] {
            match Image::read(&mut Cursor::new(bytes), arch, by) {
                Ok(image) => {
                    let _ = image.fatal_flaw(bytes.len() as u64, 4096);
                    assert!((1..=4).contains(&image.level));
                    let path = image.loader.unwrap_or_default();
                    assert!(path.as_os_str().len() < 4096);
                }
                Err(flaw) => assert!(!flaw.what.is_empty()),
            }
        }
    }
}

/// The bytes as what a kernel prints of an entry, and as the file that it may take.
fn read_entry(bytes: &[u8]) {
    let entry = Entry::parse(OsStr::new("entry"), bytes);
    if let Some(matcher) = &entry.matcher {
        let equal = compare(matcher, bytes).iter().all(|byte| byte.equal);
        let takes = matcher.matches(bytes, OsStr::new("file"));
        assert!(equal || !takes, "a match is a match of every byte");
        let compared = compare(matcher, bytes);
        if let Some(unmatched) = Unmatched::of(&compared) {
            let repaired = unmatched.repaired(bytes);
            assert!(matcher.matches(&repaired, OsStr::new("file")), "{unmatched}");
        }
    }
    let _ = Handlers::of(&[entry], true, Path::new("file"), bytes);
}

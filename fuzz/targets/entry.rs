//! What a kernel may print of an entry, today or one day: reading never fails, and what is understood as a rule is one that a
//! kernel would take, and that says the same.

#![no_main]

use std::ffi::OsStr;

use binfmt_magic::entry::Entry;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let entry = Entry::parse(OsStr::new("qemu-entry"), bytes);
    let _ = (entry.is_qemu(), entry.takes(bytes, OsStr::new("file.jar")));
    let Some(rule) = entry.to_rule() else {
        return;
    };
    assert!(entry.is_made_by(&rule));
    // what no kernel prints may well be what no kernel takes
    if let Ok(line) = rule.encode() {
        assert!(line.len() <= 1920);
    }
});

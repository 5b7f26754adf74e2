//! The record of what was written to a host: what is read is what would be written for it, and it tells of nothing but what
//! the program itself makes.

#![no_main]

use std::path::Path;

use binfmt::readers::{EMULATORS, RULES, Record};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Record::parse(text) {
        Ok(record) => {
            let written = record.text();
            let again = Record::parse(&written).expect("what was written");
            assert_eq!(again, record);
            assert_eq!(again.text(), written);
            // each is looked at, renamed and removed
            for path in record.paths() {
                assert!(path.file_name().is_some(), "{}", path.display());
                let dirs = [EMULATORS, RULES].map(|dir| Some(Path::new(dir)));
                assert!(dirs.contains(&path.parent()), "{}", path.display());
            }
            let mut made = written.lines().filter_map(|line| line.strip_prefix("# made "));
            assert!(made.all(|dir| dir.starts_with('/')), "{written}");
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    }
});

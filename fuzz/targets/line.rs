//! Registration lines: what is read is what would be written for it, and nothing that is written is refused.

#![no_main]

use std::ffi::OsStr;

use binfmt_magic::rule::Rule;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match Rule::decode(bytes) {
        Ok(rule) => {
            let _ = rule.matcher.matches(bytes, OsStr::new("file"));
            // a rule whose escapes take more room than the kernel has was shorter as it came
            if let Ok(line) = rule.encode() {
                assert_eq!(Rule::decode(&line).as_ref(), Ok(&rule));
            }
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    }
});

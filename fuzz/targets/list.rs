//! Lists of platforms, as users and their scripts write them: whatever they are, each item comes out as a platform or by its
//! name, and a platform's own name stands for it.

#![no_main]

use binfmt_magic::platform::{Platform, Selection, items};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(selection) = Selection::parse(text) else {
        return;
    };
    let count = items(text).count();
    assert!(selection.named.len() + selection.excluded.len() + selection.unknown.len() <= count);
    for platform in &selection.named {
        let mut excluded = selection.excluded.iter();
        assert!(excluded.all(|arch| *arch != platform.arch), "{platform}");
        let again: Platform = platform.to_string().parse().expect("its own name");
        assert_eq!(again, *platform);
    }
    for unknown in &selection.unknown {
        assert!(!unknown.to_string().contains('\n'), "{unknown}");
    }
});

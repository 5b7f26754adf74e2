//! The text of `/etc/subuid`: any lines give a map that a kernel accepts, with no id twice.

#![no_main]

use std::ops::Range;

use binfmt::readers::subordinate;
use libfuzzer_sys::fuzz_target;

const OWN: u32 = 1000;

fuzz_target!(|text: &str| {
    let owners = [Some(OWN.to_string()), Some("anna".to_owned())];
    let Some(map) = subordinate(text, &owners, OWN) else {
        return;
    };
    assert!(text.contains("1000:") || text.contains("anna:"));
    let mut next = 0;
    let mut outside: Vec<Range<u32>> = Vec::new();
    for line in map.lines() {
        let numbers = line.split(' ').map(|number| number.parse::<u32>());
        let numbers: Vec<u32> = numbers.collect::<Result<_, _>>().expect("numbers");
        let [inside, first, count] = numbers[..] else {
            panic!("{line} is no line of a map");
        };
        assert_eq!(inside, next, "one after the other");
        assert!(count > 0, "{line}");
        next = inside.checked_add(count).expect("within a kernel's numbers");
        let end = first.checked_add(count).expect("within a kernel's numbers");
        let apart = |other: &Range<u32>| other.end <= first || end <= other.start;
        assert!(outside.iter().all(apart), "{map}");
        outside.push(first..end);
    }
    assert_eq!(outside[0], OWN..OWN + 1, "root is the caller");
    assert!(outside.len() > 1, "{map}");
});

//! The captured registrations that the table is compared with are those of the package Debian has now.

use crate::harness::fake::needs_emulators;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use binfmt_magic::rule::Rule;

const CAPTURED: &str = include_str!("../../magic/tests/data/debian-binfmt.d.conf");

fn folder() -> PathBuf {
    let default = || concat!(env!("CARGO_MANIFEST_DIR"), "/build/binfmt.d").into();
    std::env::var_os("BINFMT_TEST_BINFMT_D").map_or_else(default, PathBuf::from)
}

#[test]
fn the_captured_registrations_are_the_packages() {
    needs_emulators!();
    let folder = folder();
    let files =
        fs::read_dir(&folder).unwrap_or_else(|e| panic!("no {}: {e}; run make test-material", folder.display()));
    let paths = files.map(|file| file.unwrap().path());
    let rules = paths.filter(|path| path.extension().is_some_and(|e| e == "conf"));
    let packaged: BTreeSet<String> = rules
        .flat_map(|path| fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let captured = CAPTURED.lines().filter(|line| line.starts_with(':'));
    assert_eq!(captured.map(str::to_owned).collect::<BTreeSet<_>>(), packaged);
    for line in packaged {
        let rule = Rule::decode(line.as_bytes()).unwrap_or_else(|e| panic!("{line}: {e}"));
        assert!(rule.flags.fix_binary, "{line}");
    }
}

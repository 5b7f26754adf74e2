//! Properties of the three parsers: what is written is read back as it was, and no input makes any of them panic.
//!
//! The rules here are all that the kernel could hold, so names, paths and magics are arbitrary bytes; what the kernel
//! prints for them is spelled here once more, after `entry_status` in its `fs/binfmt_misc.c`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use binfmt_magic::arch::ARCHES;
use binfmt_magic::entry::Entry;
use binfmt_magic::platform::{Platform, Selection, items, variants};
use binfmt_magic::rule::{Flags, Matcher, Rule};
use proptest::collection::vec;
use proptest::prelude::*;

/// Text without NUL and without any of `others`, as names, paths and extensions are; delimiters in plenty.
fn plain(longest: usize, others: &'static [u8]) -> impl Strategy<Value = OsString> {
    let byte = prop_oneof![3 => 1..=u8::MAX, 1 => proptest::sample::select(&b":|,;.\n \\"[..])];
    let byte = byte.prop_map(move |byte| if others.contains(&byte) { b'_' } else { byte });
    vec(byte, 1..=longest).prop_map(OsString::from_vec)
}

/// No newline in extensions: the kernel takes it, but what it then prints could as well be a line of its own.
fn matcher() -> impl Strategy<Value = Matcher> {
    let bytes = (1_usize..=90).prop_flat_map(|length| {
        let mask = proptest::option::of(vec(any::<u8>(), length));
        (0..=256 - length, vec(any::<u8>(), length), mask)
    });
    let magic = bytes.prop_map(|(offset, magic, mask)| Matcher::Magic { offset, magic, mask });
    prop_oneof![3 => magic, 1 => plain(20, b"/\n").prop_map(Matcher::Extension)]
}

fn rule() -> impl Strategy<Value = Rule> {
    let name = plain(255, b"/").prop_filter("always taken", |name| {
        !["register", "status", ".", ".."].contains(&name.to_string_lossy().as_ref())
    });
    let letters = vec!['P', 'O', 'C', 'F', 'T'];
    let together = |letters: &Vec<char>| !(letters.contains(&'P') && letters.contains(&'T'));
    let flags = proptest::sample::subsequence(letters, 0..=5).prop_filter("refused together", together);
    (name, matcher(), plain(300, b""), flags).prop_map(|(name, matcher, interpreter, letters)| Rule {
        name,
        matcher,
        interpreter: interpreter.into(),
        flags: Flags::parse(&String::from_iter(letters)).0,
    })
}

/// What the kernel prints once it holds `rule`.
fn kernel_text(rule: &Rule, enabled: bool) -> Vec<u8> {
    let mut text = if enabled { b"enabled".to_vec() } else { b"disabled".to_vec() };
    text.extend(b"\ninterpreter ");
    text.extend(rule.interpreter.as_os_str().as_bytes());
    text.extend(format!("\nflags: {}\n", rule.flags).as_bytes());
    match &rule.matcher {
        Matcher::Extension(extension) => {
            text.extend([b"extension .", extension.as_bytes()].concat());
        }
        Matcher::Magic { offset, magic, mask } => {
            text.extend(format!("offset {offset}\nmagic {}", hex(magic)).as_bytes());
            if let Some(mask) = mask {
                text.extend(format!("\nmask {}", hex(mask)).as_bytes());
            }
        }
    }
    text.push(b'\n');
    text
}

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.concat()
}

/// Bytes that look like a registration line or an entry in places.
fn almost(words: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let word = proptest::sample::select(words).prop_map(|word| word.as_bytes().to_vec());
    vec(prop_oneof![4 => word, 1 => vec(any::<u8>(), 0..6)], 0..40).prop_map(|parts| parts.concat())
}

const LINE: &[&str] =
    &[":", "M", "E", "n", "::", ":M::", ":E::", "\\x7f", "\\x0", "\\", "\0", "\n", "/bin/x", "POCF", "OFT", "5"];
const TEXT: &[&str] = &[
    "enabled",
    "disabled",
    "\n",
    "\ninterpreter /bin/x",
    "\nflags: POF",
    "\nflags: OTL",
    "\nbpf x",
    "\nbpf-interpreter arm /bin/x",
    "\noffset 0",
    "\nmagic 7f45",
    "\nmask ff",
    "00",
    "\nextension .jar",
    " ",
];
const LIST: &[&str] = &[
    "all", ",", " ", "-", "!", "linux/", "arm64", "arm", "/v7", "v", "qemu-", "-static", "x86_64", "darwin/", "armhf",
    "/", "K", "ß",
];

proptest! {
    #[test]
    fn a_rule_survives_its_line(rule in rule()) {
        let line = rule.encode().unwrap();
        prop_assert_eq!(Rule::decode(&line), Ok(rule.clone()));
        let echoed = [&line[..], b"\n"].concat();
        if echoed.len() <= 1920 {
            prop_assert_eq!(Rule::decode(&echoed), Ok(rule));
        }
    }

    #[test]
    fn a_rule_survives_the_kernels_text(rule in rule(), enabled: bool) {
        let entry = Entry::parse(&rule.name, &kernel_text(&rule, enabled));
        prop_assert_eq!(entry.enabled, enabled);
        prop_assert!(entry.unknown.is_empty() && entry.unknown_flags.is_empty());
        prop_assert!(entry.is_made_by(&rule));
        let again = entry.to_rule().unwrap();
        prop_assert_eq!(again.encode(), rule.encode());
    }

    #[test]
    fn a_magic_takes_a_file_that_has_it(matcher in matcher(), tail in vec(any::<u8>(), 0..300)) {
        if let Matcher::Magic { offset, magic, .. } = &matcher {
            let file = [&vec![0; *offset], &magic[..], &tail[..]].concat();
            prop_assert!(matcher.matches(&file, OsStr::new("a")));
        }
    }

    #[test]
    fn what_is_decoded_can_be_encoded(line in prop_oneof![vec(any::<u8>(), 0..64), almost(LINE)]) {
        if let Ok(rule) = Rule::decode(&line) {
            match rule.encode() {
                Ok(encoded) => prop_assert_eq!(Rule::decode(&encoded), Ok(rule)),
                Err(error) => prop_assert!(error.to_string().contains("bytes"), "{}", error),
            }
        }
    }

    #[test]
    fn any_text_is_an_entry(
        text in prop_oneof![vec(any::<u8>(), 0..200), almost(TEXT)],
        cut in any::<proptest::sample::Index>(),
        head in vec(any::<u8>(), 0..300),
    ) {
        for text in [&text[..], &text[..cut.index(text.len() + 1)]] {
            let entry = Entry::parse(OsStr::new("x"), text);
            let _ = (entry.takes(&head, OsStr::new("a.jar")), entry.is_qemu());
            if let Some(rule) = entry.to_rule() {
                prop_assert!(entry.is_made_by(&rule));
            }
        }
    }

    #[test]
    fn any_list_is_read(list in prop_oneof![any::<String>(), almost(LIST).prop_map(|text| String::from_utf8_lossy(&text).into_owned())]) {
        prop_assert!(items(&list).all(|item| !item.is_empty()));
        if let Ok(selection) = Selection::parse(&list) {
            for platform in &selection.named {
                prop_assert_eq!(platform.to_string().parse::<Platform>(), Ok(*platform));
                prop_assert!(selection.wants(platform.arch));
            }
            prop_assert!(selection.unknown.iter().all(|unknown| unknown.to_string().lines().count() == 1));
        }
    }
}

#[test]
fn every_platform_is_read_as_it_is_printed() {
    for arch in &ARCHES {
        let plain = std::iter::once(format!("linux/{}", arch.oci));
        let with_variant = variants(arch).iter().map(|variant| format!("linux/{}/{variant}", arch.oci));
        for text in plain.chain(with_variant) {
            let platform: Platform = text.parse().unwrap();
            assert_eq!(platform.arch.qemu, arch.qemu, "{text}");
            assert_eq!(platform.to_string().parse(), Ok(platform), "{text}");
        }
        assert_eq!(arch.platform().parse::<Platform>().map(|it| it.arch.qemu), Ok(arch.qemu));
        assert!(arch.platform().starts_with("linux/"), "{}", arch.platform());
        for printed in arch.platforms() {
            let platform: Platform = printed.parse().unwrap();
            assert_eq!(platform.to_string(), *printed, "{}", arch.qemu);
        }
        for name in [arch.qemu, arch.oci].iter().chain(arch.aliases) {
            for form in [name.to_uppercase(), format!("linux/{name}"), format!("qemu-{name}-static")] {
                let platform: Platform = form.parse().unwrap();
                assert_eq!(platform.arch.qemu, arch.qemu, "{form}");
            }
        }
    }
}

#[test]
fn every_rows_rule_survives_line_and_text() {
    for arch in &ARCHES {
        for letters in ["", "F", "POF", "POCF"] {
            let rule = Rule::for_arch(arch, "", "/usr/bin".as_ref(), Flags::parse(letters).0);
            let line = rule.encode().unwrap();
            assert_eq!(Rule::decode(&line).as_ref(), Ok(&rule), "{}", arch.qemu);
            let entry = Entry::parse(&rule.name, &kernel_text(&rule, true));
            assert_eq!(entry.to_rule().as_ref(), Some(&rule), "{}", arch.qemu);
            assert!(entry.is_qemu() && entry.takes(&arch.header(), OsStr::new("a")), "{}", arch.qemu);
        }
    }
}

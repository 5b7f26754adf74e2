//! What emulators are measured with: [`WORKLOADS`], each a program that is started in the root directory.
//!
//! Owns their commands, how they must end and what they read, which is the same bytes in every run anywhere. The
//! longer ones are files in `bench/workloads`. Sizes are such that all take a slow emulator less than a minute.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use binfmt_magic::arch::Arch;
use binfmt_magic::probe;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::sample::Program;

/// One program, started a number of times for one sample.
#[derive(Debug)]
pub(super) struct Workload {
    /// What `--only` calls it.
    pub(super) name: &'static str,
    /// What tables and plots call it.
    pub(super) title: &'static str,
    /// How many starts one sample is: the shorter they are the more, or chance decides.
    pub(super) starts: u32,
    /// What is started.
    pub(super) program: Program,
    /// What has to run once before, under any emulator.
    pub(super) preparation: Option<Program>,
}

/// The workload of [`probe`], whose page faults are told too.
pub(super) const PROBE: &str = "probe";

impl Workload {
    const fn new(name: &'static str, title: &'static str, starts: u32, program: Program) -> Self {
        Self { name, title, starts, program, preparation: None }
    }

    /// The same, once the guest's own compiler has run.
    const fn after_gcc(mut self, argv: &'static [&'static str]) -> Self {
        self.preparation = Some(run("/usr/bin/gcc", argv));
        self
    }
}

/// A program whose success is exit status 0.
const fn run(path: &'static str, argv: &'static [&'static str]) -> Program {
    ends(0, path, argv)
}

const fn ends(status: i32, path: &'static str, argv: &'static [&'static str]) -> Program {
    Program { path, argv, status }
}

/// A script of `bench/workloads`.
const fn shell(argv: &'static [&'static str]) -> Program {
    run("/bin/sh", argv)
}

/// The first byte of its name is what the probe exits with.
const PROBE_NAME: &str = "Q";

/// All of them, from the shortest to the longest start, then what is mostly computing.
#[rustfmt::skip]
pub(super) static WORKLOADS: [Workload; 9] = [
    Workload::new(PROBE, "start, smallest program", 40, ends(probe::ARGV0 as i32, "/tmp/probe", &[PROBE_NAME])),
    Workload::new("static", "start, static C program", 30, run("/tmp/static", &["static"]))
        .after_gcc(&["gcc", "-O2", "-static", "-o", "static", "hello.c"]),
    Workload::new("dynamic", "start, dynamic C program", 30, run("/tmp/dynamic", &["dynamic"]))
        .after_gcc(&["gcc", "-O2", "-o", "dynamic", "hello.c"]),
    Workload::new("storm", "shell, 300 commands", 1, shell(&["sh", "storm.sh"])),
    Workload::new("configure", "configure, 10 compiles", 1, shell(&["sh", "configure.sh"])),
    Workload::new("perl", "perl, word count", 1, run("/usr/bin/perl", &["perl", "words.pl", "excerpt"])),
    Workload::new("python", "python3, word count", 1, run("/usr/bin/python3", &["python3", "words.py", "excerpt"])),
    Workload::new("gzip", "gzip and back, 4 MB", 1, shell(&["sh", "gzip.sh", "text"])),
    Workload::new("sha256", "sha256sum, 32 MB", 1, run("/usr/bin/sha256sum",
        &["sha256sum", "text", "text", "text", "text", "text", "text", "text", "text"])),
];

/// Reads what `--only` takes: a name.
pub(super) fn parser() -> impl TypedValueParser<Value = &'static Workload> {
    let names = WORKLOADS.each_ref().map(|workload| workload.name);
    PossibleValuesParser::new(names).try_map(|name| by_name(&name).ok_or("no such workload"))
}

fn by_name(name: &str) -> Option<&'static Workload> {
    WORKLOADS.iter().find(|workload| workload.name == name)
}

/// The file that `text` is, in bytes, and its beginning `excerpt`.
const TEXT: usize = 4_000_000;
const EXCERPT: usize = 500_000;

/// Writes the files that workloads read, and the probe, to the directory in which they run.
///
/// # Errors
/// It cannot be written to.
pub(super) fn write_files(work: &Path, arch: &Arch) -> Result<()> {
    let text = text(TEXT);
    let files: [(&str, &[u8]); 9] = [
        ("probe", &probe::elf(arch)),
        ("hello.c", include_bytes!("../../workloads/hello.c")),
        ("storm.sh", include_bytes!("../../workloads/storm.sh")),
        ("configure.sh", include_bytes!("../../workloads/configure.sh")),
        ("words.pl", include_bytes!("../../workloads/words.pl")),
        ("words.py", include_bytes!("../../workloads/words.py")),
        ("gzip.sh", include_bytes!("../../workloads/gzip.sh")),
        ("text", text.as_bytes()),
        ("excerpt", &text.as_bytes()[..EXCERPT]),
    ];
    for (name, content) in files {
        let path = work.join(name);
        fs::write(&path, content)
            .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o755)))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Words of two or three syllables, short ones more often than long ones, in lines: `length` bytes or little more.
fn text(length: usize) -> String {
    const SYLLABLES: [&str; 16] =
        ["ba", "be", "ko", "ku", "la", "li", "ma", "mo", "na", "ni", "ra", "ri", "sa", "su", "ta", "to"];
    const WORDS: u64 = 4096;
    // Knuth's MMIX generator; its high bits are the random ones
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let mut text = String::with_capacity(length + 8);
    while text.len() < length {
        let mut word = (random() % WORDS).min(random() % WORDS);
        while word > 0 {
            text.push_str(SYLLABLES[usize::try_from(word % 16).unwrap_or(0)]);
            word /= 16;
        }
        text.push(if random() % 10 == 0 { '\n' } else { ' ' });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_and_known() {
        for workload in &WORKLOADS {
            let found = by_name(workload.name).unwrap();
            assert!(std::ptr::eq(found, workload), "{}", workload.name);
        }
        assert!(by_name("pearl").is_none());
    }

    #[test]
    fn every_program_has_a_path_and_a_name() {
        for workload in &WORKLOADS {
            for program in [Some(workload.program), workload.preparation].into_iter().flatten() {
                assert!(program.path.starts_with('/') && !program.argv.is_empty(), "{}", workload.name);
            }
        }
        assert_eq!(PROBE_NAME.as_bytes(), [probe::ARGV0]);
    }

    #[test]
    fn text_is_the_same_words_every_time() {
        let text = text(1000);
        assert_eq!(text, super::text(1000));
        assert!(text.starts_with(&super::text(100)));
        assert!((1000..1008).contains(&text.len()), "{}", text.len());
        assert!(text.is_ascii() && text.contains('\n'));
    }
}

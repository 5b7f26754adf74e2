//! Which of the known defects an emulator has, by its version, its builder, and the programs that it runs. Pure.
//!
//! The rows are in `defects/table.rs`. An emulator of unknown version has no known defect: nothing is guessed from a file's name.
//! QEMU's builders state themselves in the version (`--with-pkgversion`): `10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)`.

use std::fmt;

use binfmt_magic::arch::{Arch, Class};
use serde::Serialize;

use super::qemu::{Version, order};

mod table;

use table::DEFECTS;

/// The end of the package's name in our own emulators (`qemu/tuned/build.sh`). They have every patch of the first release; a row
/// with a later patch needs more than this to tell them apart.
const OURS: &str = ", tuned";

#[derive(Debug)]
struct Defect {
    name: &'static str,
    /// What a user meets.
    effect: &'static str,
    versions: &'static [Range],
    guests: Guests,
    builds: Builds,
    /// Packages in which a distribution has fixed it without a new version of QEMU. So have those whose text differs only by a
    /// greater number at its end.
    fixed_packages: &'static [&'static str],
    /// Which file of `qemu/tuned/patches` frees our own emulators of it.
    patch: Option<&'static str>,
    /// Where it is described.
    sources: &'static [&'static str],
}

/// Versions in a row: the first that is affected, and the first that is not any more; `None` is open.
#[derive(Debug, Clone, Copy)]
struct Range {
    from: Option<&'static str>,
    until: Option<&'static str>,
}

const ALL: &[Range] = &[Range { from: None, until: None }];

const fn before(until: &'static str) -> Range {
    Range { from: None, until: Some(until) }
}

const fn between(from: &'static str, until: &'static str) -> Range {
    Range { from: Some(from), until: Some(until) }
}

impl Range {
    fn has(&self, version: &str) -> bool {
        let version = order(version);
        self.from.is_none_or(|from| order(from) <= version) && self.until.is_none_or(|until| version < order(until))
    }
}

#[derive(Debug)]
enum Guests {
    All,
    Of32Bits,
    /// By QEMU's names.
    Only(&'static [&'static str]),
}

impl Guests {
    fn include(&self, arch: &Arch) -> bool {
        match self {
            Self::All => true,
            Self::Of32Bits => arch.class == Class::Elf32,
            Self::Only(names) => names.contains(&arch.interpreter),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Builds {
    All,
    /// Those of `tonistiigi/binfmt`, which are linked with musl. Their package is QEMU's tag: `9.2.2 (v9.2.2)`.
    Incumbents,
}

/// A known defect that an emulator has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct KnownDefect {
    pub name: &'static str,
    pub effect: &'static str,
    /// The first version after the emulator's that is free of it, if there is one.
    pub fixed_in: Option<&'static str>,
    /// Our patch against it.
    pub patch: Option<&'static str>,
    pub sources: &'static [&'static str],
}

/// What it does, and what is free of it: `…; fixed in QEMU 9.2`.
impl fmt::Display for KnownDefect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.fixed_in, self.patch) {
            (Some(version), _) => write!(f, "{}; fixed in QEMU {version}", self.effect),
            (None, Some(_)) => write!(f, "{}; fixed only in binfmt's own build of QEMU", self.effect),
            (None, None) => write!(f, "{}; fixed in no release of QEMU", self.effect),
        }
    }
}

/// The known defects that programs of `arch` meet under the emulator of this version, in the table's order.
pub fn known_defects(version: &Version, arch: &Arch) -> Vec<KnownDefect> {
    DEFECTS.iter().filter_map(|defect| defect.of(version, arch)).collect()
}

impl Defect {
    fn of(&self, version: &Version, arch: &Arch) -> Option<KnownDefect> {
        let range = self.versions.iter().find(|range| range.has(&version.number))?;
        let package = version.package.as_deref().unwrap_or_default();
        let is_built_so = self.builds == Builds::All || package.strip_prefix('v') == Some(&version.number);
        let is_ours = self.patch.is_some() && package.ends_with(OURS);
        let is_fixed = is_ours || self.fixed_packages.iter().any(|fixed| is_at_least(package, fixed));
        let Self { name, effect, patch, sources, .. } = *self;
        let has = self.guests.include(arch) && is_built_so && !is_fixed;
        has.then_some(KnownDefect { name, effect, fixed_in: range.until, patch, sources })
    }
}

/// Whether `package` is `fixed`, or differs from it only by a greater number at its end.
fn is_at_least(package: &str, fixed: &str) -> bool {
    let split = |text: &str| text.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let (start, least) = fixed.split_at(split(fixed));
    let number = |digits: &str| digits.parse::<u32>().ok();
    package.strip_prefix(start).and_then(number).is_some_and(|revision| Some(revision) >= number(least))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use binfmt_magic::arch::ARCHES;

    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(&format!("qemu-x version {text}")).unwrap_or_else(|| panic!("no version: {text}"))
    }

    /// The names of the defects that `qemu`'s programs meet under this version.
    fn names(text: &str, qemu: &str) -> Vec<&'static str> {
        let arch = Arch::by_qemu(qemu).unwrap();
        known_defects(&version(text), arch).iter().map(|defect| defect.name).collect()
    }

    #[track_caller]
    fn begins_and_ends(name: &str, qemu: &str, affected: &[&str], free: &[&str]) {
        for text in affected {
            assert!(names(text, qemu).contains(&name), "{text} has it");
        }
        for text in free {
            assert!(!names(text, qemu).contains(&name), "{text} is free of it");
        }
    }

    #[test]
    fn versions_are_affected_from_the_first_until_before_the_last() {
        let name = "read-only-bss";
        let affected = ["2.5.0", "7.2.22", "9.2.4", "10.0.9", "10.0.10-rc1", "10.1.0", "10.1.5", "10.2.0", "10.2.2"];
        begins_and_ends(name, "s390x", &affected, &["10.0.10", "10.0.13", "10.0.100", "10.2.3", "11.0.0", "11.1.3"]);
        let affected = ["8.1.1", "8.2.9", "9.0.0", "9.1.3", "9.2.1"];
        begins_and_ends("ldconfig", "aarch64", &affected, &["7.2.22", "8.1.0", "8.2.10", "9.2.2", "10.0.0"]);
        let affected = ["6.1.0", "7.2.18", "8.0.0", "9.2.4", "10.0.2"];
        begins_and_ends("fork-lock", "riscv64", &affected, &["6.0.1", "7.2.19", "7.2.22", "10.0.3", "10.1.0"]);
        begins_and_ends("pauth", "aarch64", &["4.0.0", "9.2.4"], &["3.1.0", "10.0.0-rc1+", "10.0.0"]);
        begins_and_ends("openat2", "x86_64", &["8.2.10", "9.1.3"], &["9.2.0", "9.2.2", "10.0.13"]);
        begins_and_ends("go-1.23.0", "aarch64", &["7.2.0", "7.2.22"], &["7.1.0", "8.0.0"]);
    }

    #[test]
    fn the_first_version_without_it_is_that_of_the_same_series_if_there_is_one() {
        let fixed_in = |text: &str, name: &str| {
            let all = known_defects(&version(text), Arch::by_qemu("aarch64").unwrap());
            let found = all.iter().find(|defect| defect.name == name);
            found.map(|defect| defect.fixed_in)
        };
        assert_eq!(fixed_in("7.2.17", "fork-lock"), Some(Some("7.2.19")));
        assert_eq!(fixed_in("8.2.2", "fork-lock"), Some(Some("10.0.3")));
        assert_eq!(fixed_in("8.2.2", "ldconfig"), Some(Some("8.2.10")));
        assert_eq!(fixed_in("10.1.2", "read-only-bss"), Some(Some("10.2.3")));
        assert_eq!(fixed_in("11.1.3", "namespaces"), Some(None));
    }

    #[test]
    fn only_programs_of_certain_architectures_meet_some_defects() {
        for (qemu, is_of_32_bits) in
            [("arm", true), ("i386", true), ("i486", true), ("mipsn32", true), ("s390x", false)]
        {
            assert_eq!(names("11.1.3", qemu).contains(&"readdir"), is_of_32_bits, "{qemu}");
        }
        assert!(!names("9.0.0", "arm").contains(&"pauth"));
    }

    #[test]
    fn builders_are_told_apart() {
        begins_and_ends(
            "openat2-flags",
            "aarch64",
            &["9.2.2 (v9.2.2)", "10.0.7 (v10.0.7)", "10.1.2 (v10.1.2)"],
            &["9.2.2", "9.2.2 (Debian 1:9.2.2+ds-1)", "10.0.8 (v10.0.8)", "10.1.3 (v10.1.3)", "9.1.2 (v9.1.2)"],
        );
        let noble = "8.2.2 (Debian 1:8.2.2+ds-0ubuntu1";
        let [before, first, later] = ["", ".7", ".18"].map(|revision| format!("{noble}{revision})"));
        let upstream = "8.2.2 (Debian 1:8.2.2+ds-2)";
        begins_and_ends("ldconfig", "aarch64", &[&before, upstream], &[&first, &later]);
        begins_and_ends("ldconfig", "aarch64", &[&format!("{noble}.6)"), &format!("{noble}.7~ppa1)")], &[]);
    }

    #[test]
    fn our_own_emulators_are_free_of_what_their_patches_fix() {
        let debians = "10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)";
        assert_eq!(names(debians, "arm"), ["namespaces", "readdir"]);
        let ours = "10.0.13 (Debian 1:10.0.13+ds-0+deb13u1, tuned)";
        assert!(ARCHES.iter().all(|arch| names(ours, arch.qemu).is_empty()));
        // a patch against something else does not free them of it
        assert!(names("9.1.0 (Debian 1:9.1.0+ds-1, tuned)", "arm").contains(&"openat2"));
        let build = fs::read_to_string(root().join("qemu/tuned/build.sh")).unwrap();
        assert!(
            build.contains(&format!("--with-pkgversion=\"Debian $(recorded version){OURS}\"")),
            "the builder's name"
        );
    }

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    #[test]
    fn rows_are_complete_and_their_ranges_are_apart() {
        let unique: BTreeSet<&str> = DEFECTS.iter().map(|defect| defect.name).collect();
        assert_eq!(unique.len(), DEFECTS.len(), "names");
        for Defect { name, effect, versions, guests, patch, sources, fixed_packages, .. } in &DEFECTS {
            assert!(!name.is_empty() && effect.chars().count() <= 100, "{name}: {effect}");
            assert!(!sources.is_empty() && sources.iter().all(|it| it.starts_with("https://")), "{name}: {sources:?}");
            if let Guests::Only(qemu) = guests {
                assert!(qemu.iter().all(|qemu| Arch::by_qemu(qemu).is_some()), "{name}: {qemu:?}");
            }
            let patch = patch.map(|patch| root().join(format!("qemu/tuned/patches/{patch}.patch")));
            assert!(patch.is_none_or(|patch| patch.exists()), "{name}: its patch");
            assert!(fixed_packages.iter().all(|it| it.ends_with(|c: char| c.is_ascii_digit())), "{name}");
            // rising, with a gap after each; so every version that is free of it is outside of all ranges
            let ends = versions.iter().flat_map(|range| [range.from, range.until]);
            let ends: Vec<&str> = ends.flatten().collect();
            assert!(ends.windows(2).all(|pair| order(pair[0]) < order(pair[1])), "{name}: {ends:?}");
            let inner = &versions[1..];
            assert!(inner.iter().all(|range| range.from.is_some()), "{name}: only the first may be open at its start");
            let fixed = versions.iter().filter_map(|range| range.until);
            for fixed in fixed {
                assert!(!versions.iter().any(|range| range.has(fixed)), "{name}: {fixed} is free of it");
            }
        }
    }
}

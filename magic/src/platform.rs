//! What people write for an architecture, alone and in lists: read, normalised, and printed as an OCI platform.
//!
//! Owns the forms of a name (`linux/arm/v7`, `armhf`, `qemu-arm`, `X86_64`) and the variants; lists are in
//! `platform/selection.rs`. The names themselves are facts of the table in [`crate::arch`].
//!
//! Source: the OCI image specification's platform object, normalised as containerd does it (`arm` is `arm/v7`,
//! `arm64/v8` is `arm64`); variants are the values of GOAMD64, GOARM, GOARM64, GOPPC64 and GORISCV64.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use crate::arch::{ARCHES, Arch};

mod selection;

pub use selection::{EmptyList, Selection, excludes_all, items};

/// Variants by OCI architecture, from the least demanding to the most.
#[rustfmt::skip]
const VARIANTS: &[(&str, &[&str])] = &[
    ("amd64", &["v1", "v2", "v3", "v4"]),
    ("arm", &["v5", "v6", "v7", "v8"]),
    ("arm64", &["v8", "v8.1", "v8.2", "v8.3", "v8.4", "v8.5", "v8.6", "v8.7", "v8.8", "v8.9",
                "v9", "v9.1", "v9.2", "v9.3", "v9.4", "v9.5"]),
    ("ppc64", &["power8", "power9", "power10"]),
    ("ppc64le", &["power8", "power9", "power10"]),
    ("riscv64", &["rva20u64", "rva22u64", "rva23u64"]),
];

/// The variants that `linux/<architecture>/<variant>` may name, from the least demanding to the most.
#[must_use]
pub fn variants(arch: &Arch) -> &'static [&'static str] {
    let row = VARIANTS.iter().find(|(oci, _)| *oci == arch.oci);
    row.map_or(&[], |(_, variants)| variants)
}

/// An architecture, and which of its variants is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Platform {
    /// The row.
    pub arch: &'static Arch,
    /// The variant, normalised: `None` for what the plain name means, except that `arm` is `v7`.
    pub variant: Option<&'static str>,
}

impl Platform {
    fn new(arch: &'static Arch, variant: Option<&'static str>) -> Self {
        let variant = match (arch.oci, variant) {
            ("arm", None) => Some("v7"),
            ("amd64", Some("v1")) | ("arm64", Some("v8")) => None,
            (_, variant) => variant,
        };
        Self { arch, variant }
    }

    /// How demanding the variant is; programs for a lesser one of the same architecture run too.
    fn rank(&self) -> Option<usize> {
        let variant = self.variant?;
        variants(self.arch).iter().position(|known| *known == variant)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (slash, variant) = self.variant.map_or(("", ""), |variant| ("/", variant));
        f.pad(&format!("linux/{}{slash}{variant}", self.arch.oci))
    }
}

impl FromStr for Platform {
    type Err = UnknownPlatform;

    fn from_str(item: &str) -> Result<Self, UnknownPlatform> {
        let wrong = |part, closest| UnknownPlatform { item: item.to_owned(), part, closest };
        let lower = item.to_ascii_lowercase();
        let parts: Vec<&str> = lower.split('/').collect();
        let (name, variant) = match parts[..] {
            ["linux", name, variant] => (name, Some(variant)),
            ["linux", name] | [name] => (name, None),
            [name, variant] if named(name).is_some() => (name, Some(variant)),
            [_, name] | [_, name, _] if named(name).is_some() => {
                return Err(wrong(UnknownPart::System, vec![]));
            }
            _ => return Err(wrong(UnknownPart::Name, closest(parts[0]))),
        };
        let (arch, implied) = named(name).ok_or_else(|| wrong(UnknownPart::Name, closest(name)))?;
        let Some(variant) = variant.or(implied.as_deref()) else {
            return Ok(Self::new(arch, None));
        };
        known_variant(arch, variant)
            .map(|variant| Self::new(arch, Some(variant)))
            .ok_or_else(|| wrong(UnknownPart::Variant, variants(arch).to_vec()))
    }
}

/// The row of a lower-case name, also with `qemu-` before it and `-static` after it, and the variant it implies.
fn named(name: &str) -> Option<(&'static Arch, Option<String>)> {
    let name = name.strip_prefix("qemu-").unwrap_or(name);
    let name = name.strip_suffix("-static").unwrap_or(name);
    if let Some(arch) = ARCHES.iter().find(|arch| names(arch).any(|known| known == name)) {
        let digit = name.split_once('v').and_then(|(_, rest)| rest.chars().next());
        let variant = match (arch.oci, name, digit) {
            ("arm", "armel", _) => Some("v6".to_owned()),
            ("arm", _, Some(digit)) => Some(format!("v{digit}")),
            _ => None,
        };
        return Some((arch, variant));
    }
    // x86-64-v3, amd64v3, armv7: a variant right behind a name
    let (name, variant) = name.rsplit_once('v')?;
    let name = name.trim_end_matches(['-', '_']);
    let arch = ARCHES.iter().find(|arch| !variants(arch).is_empty() && names(arch).any(|known| known == name))?;
    Some((arch, Some(format!("v{variant}"))))
}

fn names(arch: &'static Arch) -> impl Iterator<Item = &'static str> {
    [arch.oci, arch.qemu].into_iter().chain(arch.aliases.iter().copied())
}

/// The variant as the table writes it: `7` is `v7`, `v9.0` is `v9`.
fn known_variant(arch: &Arch, text: &str) -> Option<&'static str> {
    let text = text.strip_suffix(".0").unwrap_or(text);
    let fits = |known: &&&str| **known == text || known.strip_prefix('v') == Some(text);
    variants(arch).iter().find(fits).copied()
}

/// The known names nearest to a name that is not known, if near enough: at most three, each of another architecture.
fn closest(name: &str) -> Vec<&'static str> {
    const LONGEST: usize = 24;
    let length = name.chars().count();
    if length > LONGEST {
        return Vec::new();
    }
    let distance = |known: &&str| strsim::damerau_levenshtein(name, known);
    let mut near: Vec<_> = ARCHES.iter().filter_map(|arch| names(arch).min_by_key(distance)).collect();
    let nearest = near.iter().map(distance).min();
    let limit = (length / 3).max(1);
    near.retain(|known| distance(known) <= limit && Some(distance(known)) == nearest);
    // Swapped letters are likelier than wrong ones: amr64 is arm64 rather than amd64.
    let likeness = |known| strsim::jaro_winkler(name, known);
    near.sort_by(|one, other| likeness(other).total_cmp(&likeness(one)));
    near.truncate(3);
    near
}

/// What is wrong with an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownPart {
    /// No architecture is called that.
    Name,
    /// The architecture is known; its programs for another operating system are not for this one's kernel.
    System,
    /// The architecture is known, the variant is not one of its own.
    Variant,
}

/// An item that names no architecture that QEMU's user emulation runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownPlatform {
    /// What was written.
    pub item: String,
    /// What is wrong with it.
    pub part: UnknownPart,
    /// What may have been meant: names or, where the variant is wrong, all variants of the architecture.
    pub closest: Vec<&'static str>,
}

impl fmt::Display for UnknownPlatform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (item, closest) = (self.item.escape_debug(), self.closest.join(", "));
        match (self.part, closest.as_str()) {
            (UnknownPart::System, _) => write!(f, "unsupported operating system: {item}: binfmt is for linux programs"),
            (UnknownPart::Name, "") => write!(f, "unsupported architecture: {item}"),
            (UnknownPart::Name, _) => write!(f, "unsupported architecture: {item}, did you mean {closest}?"),
            (UnknownPart::Variant, "") => {
                write!(f, "unsupported variant: {item}: this architecture has none")
            }
            (UnknownPart::Variant, _) => {
                write!(f, "unsupported variant: {item}: known are {closest}")
            }
        }
    }
}

impl Error for UnknownPlatform {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_every_form() {
        #[rustfmt::skip]
        let rows = [
            ("arm64", "linux/arm64"), ("linux/arm64", "linux/arm64"), ("arm64/v8", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"), ("arm64/v8.0", "linux/arm64"), ("arm64/v9.2", "linux/arm64/v9.2"),
            ("aarch64", "linux/arm64"), ("AArch64", "linux/arm64"), ("Linux/ARM64", "linux/arm64"),
            ("qemu-aarch64", "linux/arm64"), ("qemu-aarch64-static", "linux/arm64"), ("arm64v8", "linux/arm64"),
            ("arm", "linux/arm/v7"), ("linux/arm", "linux/arm/v7"), ("arm/v6", "linux/arm/v6"),
            ("arm/7", "linux/arm/v7"), ("linux/arm/v5", "linux/arm/v5"), ("qemu-arm/v6", "linux/arm/v6"),
            ("armhf", "linux/arm/v7"), ("armel", "linux/arm/v6"), ("armv7l", "linux/arm/v7"),
            ("armv6l", "linux/arm/v6"), ("armv5tel", "linux/arm/v5"), ("armv8l", "linux/arm/v8"),
            ("arm32v5", "linux/arm/v5"), ("armhf/v6", "linux/arm/v6"), ("qemu-armeb", "linux/armbe"),
            ("amd64", "linux/amd64"), ("x86_64", "linux/amd64"), ("x86-64", "linux/amd64"),
            ("amd64/v1", "linux/amd64"), ("amd64/v3", "linux/amd64/v3"), ("x86-64-v2", "linux/amd64/v2"),
            ("x86_64_v4", "linux/amd64/v4"), ("amd64v3", "linux/amd64/v3"), ("386", "linux/386"),
            ("i386", "linux/386"), ("i686", "linux/386"), ("linux/386", "linux/386"), ("i486", "linux/i486"),
            ("ppc64el", "linux/ppc64le"), ("ppc64le/power9", "linux/ppc64le/power9"), ("ppc64", "linux/ppc64"),
            ("mips64el", "linux/mips64le"), ("mips64le", "linux/mips64le"), ("mipsel", "linux/mipsle"),
            ("loongarch64", "linux/loong64"), ("loong64", "linux/loong64"), ("s390x", "linux/s390x"),
            ("powerpc64", "linux/ppc64"), ("powerpc", "linux/ppc"), ("armv7b", "linux/armbe"), ("x86", "linux/386"),
            ("i586", "linux/386"), ("powerpc64le", "linux/ppc64le"), ("powerpc64el", "linux/ppc64le"),
            ("parisc", "linux/hppa"), ("parisc64", "linux/hppa"), ("openrisc", "linux/or1k"), ("sh4a", "linux/sh"),
            ("sh4aeb", "linux/sheb"), ("riscv64/rva23u64", "linux/riscv64/rva23u64"), ("riscv32", "linux/riscv"),
            ("aarch64_be", "linux/arm64be"), ("sh4", "linux/sh"), ("microblazeel", "linux/microblazeel"),
        ];
        for (item, expected) in rows {
            let platform = item.parse::<Platform>().map(|platform| platform.to_string());
            assert_eq!(platform.as_deref(), Ok(expected), "{item}");
        }
    }

    /// Some are read without being listed, as a name with a variant behind it; who lists them does not know that.
    #[test]
    fn docker_hubs_names_are_among_the_names() {
        for (qemu, name) in [("aarch64", "arm64v8"), ("arm", "arm32v5"), ("arm", "arm32v6"), ("arm", "arm32v7")] {
            let arch = Arch::by_qemu(qemu).unwrap();
            assert!(names(arch).any(|known| known == name), "{name}");
        }
    }

    #[test]
    fn platforms_differ_by_architecture_and_variant() {
        let of = |name: &str| name.parse::<Platform>().unwrap();
        assert_eq!(of("arm64"), of("linux/aarch64/v8"));
        for (one, other) in [("arm64", "amd64"), ("arm/v6", "arm/v7"), ("amd64", "amd64/v2"), ("arm/v5", "mips")] {
            assert_ne!(of(one), of(other), "{one} {other}");
        }
    }

    #[test]
    fn what_is_no_platform_is_explained() {
        let arm64: String = variants(Arch::by_qemu("aarch64").unwrap()).join(", ");
        #[rustfmt::skip]
        let rows = [
            ("amr64", "unsupported architecture: amr64, did you mean arm64, amd64?"),
            ("linux/risc64", "unsupported architecture: linux/risc64, did you mean riscv64?"),
            ("AMR64/v8", "unsupported architecture: AMR64/v8, did you mean arm64, amd64?"),
            ("foo", "unsupported architecture: foo"),
            ("linux", "unsupported architecture: linux"),
            ("linux/", "unsupported architecture: linux/"),
            ("", "unsupported architecture: "),
            ("/", "unsupported architecture: /"),
            ("arm64/v8/x/y", "unsupported architecture: arm64/v8/x/y, did you mean arm64?"),
            ("a\nb", "unsupported architecture: a\\nb"),
            ("darwin/arm64", "unsupported operating system: darwin/arm64: binfmt is for linux programs"),
            ("windows/amd64/v2", "unsupported operating system: windows/amd64/v2: binfmt is for linux programs"),
            ("amd64/v5", "unsupported variant: amd64/v5: known are v1, v2, v3, v4"),
            ("armv4", "unsupported variant: armv4: known are v5, v6, v7, v8"),
            ("arm/", "unsupported variant: arm/: known are v5, v6, v7, v8"),
            ("386/sse2", "unsupported variant: 386/sse2: this architecture has none"),
            ("arm64/v7", &format!("unsupported variant: arm64/v7: known are {arm64}")),
        ];
        for (item, expected) in rows {
            let error = item.parse::<Platform>().unwrap_err();
            assert_eq!(error.to_string(), expected, "{item:?}");
        }
    }

    #[test]
    fn suggestions_are_few_and_of_different_architectures() {
        for (name, expected) in [
            ("mips46", &["mips64"][..]),
            ("amr64", &["arm64", "amd64"]),
            ("s309x", &["s390x"]),
            ("x86_46", &["x86_64"]),
            ("ppc64l", &["ppc64le", "ppc64"]),
            ("mipz", &["mips"]),
            ("loongarh6", &["loongarch64"]),
            ("zzz", &[]),
        ] {
            assert_eq!(closest(name), expected, "{name}");
        }
        assert!(closest(&"arm64".repeat(1000)).is_empty());
    }

    #[test]
    fn variants_are_of_architectures_in_the_table() {
        for (oci, _) in VARIANTS {
            assert!(ARCHES.iter().any(|arch| arch.oci == *oci), "{oci}");
        }
    }
}

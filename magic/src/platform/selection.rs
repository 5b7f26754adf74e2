//! A list of platforms, as people write it after `--install`: `arm64,arm/v7`, `all`, `all, -riscv64`.
//!
//! Owns separators, `all`, exclusions and repeats; each item's name is [`Platform`]'s to read. What of the selection
//! there is an emulator for, and what runs already, is not known here.

use std::error::Error;
use std::fmt;

use super::{Platform, UnknownPlatform};
use crate::arch::Arch;

/// The items of a list: between commas or white space, none of them empty.
pub fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(|c: char| c == ',' || c.is_whitespace()).filter(|item| !item.is_empty())
}

/// A list that asks for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmptyList;

impl fmt::Display for EmptyList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the list asks for no architecture: write all, or names such as arm64,arm/v7")
    }
}

impl Error for EmptyList {}

/// What a list asks for.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// `all` is in it.
    pub all: bool,
    /// What it names and does not exclude, in its order: each architecture once, with its most demanding variant.
    pub named: Vec<Platform>,
    /// What it excludes: `-name` or `!name`. One emulator runs all variants, so a variant stands for them all.
    pub excluded: Vec<&'static Arch>,
    /// What is no platform.
    pub unknown: Vec<UnknownPlatform>,
}

impl Selection {
    /// These architectures, each by its name.
    #[must_use]
    pub fn of(arches: &[&'static Arch]) -> Self {
        let named = arches.iter().map(|arch| Platform { arch, variant: None });
        Self { named: named.collect(), ..Self::default() }
    }

    /// Reads a list such as `arm64,arm/v7`, `all` or `all, -riscv64`.
    ///
    /// # Errors
    /// [`EmptyList`] if nothing is asked for: no item at all, only exclusions, or only what is excluded as well.
    pub fn parse(list: &str) -> Result<Self, EmptyList> {
        let mut selection = Self::default();
        for item in items(list) {
            if item.eq_ignore_ascii_case("all") {
                selection.all = true;
            } else {
                selection.add(item);
            }
        }
        if items(list).any(excludes_all) {
            return Err(EmptyList);
        }
        selection.drop_excluded();
        if selection.all || !selection.named.is_empty() || !selection.unknown.is_empty() {
            Ok(selection)
        } else {
            Err(EmptyList)
        }
    }

    fn add(&mut self, item: &str) {
        let excluded = item.strip_prefix(['-', '!']);
        match excluded.unwrap_or(item).parse::<Platform>() {
            Ok(platform) if excluded.is_none() => self.add_platform(platform),
            Ok(platform) if !self.excluded.contains(&platform.arch) => {
                self.excluded.push(platform.arch);
            }
            Ok(_) => {}
            Err(unknown) => self.add_unknown(UnknownPlatform { item: item.to_owned(), ..unknown }),
        }
    }

    fn add_unknown(&mut self, unknown: UnknownPlatform) {
        if !self.unknown.contains(&unknown) {
            self.unknown.push(unknown);
        }
    }

    fn add_platform(&mut self, platform: Platform) {
        match self.named.iter_mut().find(|known| known.arch == platform.arch) {
            Some(known) if known.rank() < platform.rank() => *known = platform,
            Some(_) => {}
            None => self.named.push(platform),
        }
    }

    /// The platform that was asked for by name, if `arch` was.
    #[must_use]
    pub fn by_name(&self, arch: &Arch) -> Option<&Platform> {
        self.named.iter().find(|platform| platform.arch == arch)
    }

    /// Whether `arch` is asked for, by name or as one of all.
    #[must_use]
    pub fn wants(&self, arch: &Arch) -> bool {
        self.by_name(arch).is_some() || self.all && !self.excluded.contains(&arch)
    }

    /// The same without these.
    #[must_use]
    pub fn without(mut self, arches: impl IntoIterator<Item = &'static Arch>) -> Self {
        self.excluded.extend(arches);
        self.drop_excluded();
        self
    }

    fn drop_excluded(&mut self) {
        self.named.retain(|platform| !self.excluded.contains(&platform.arch));
    }

    /// What is asked for: the named in the order of the list, then the wanted ones of `all`, in their order.
    #[must_use]
    pub fn arches(&self, all: impl IntoIterator<Item = &'static Arch>) -> Vec<&'static Arch> {
        let named = self.named.iter().map(|platform| platform.arch);
        let others = all.into_iter().filter(|arch| self.wants(arch) && self.by_name(arch).is_none());
        named.chain(others).collect()
    }
}

/// `-all`, which leaves nothing.
#[must_use]
pub fn excludes_all(item: &str) -> bool {
    let excluded = item.strip_prefix(['-', '!']);
    excluded.is_some_and(|item| item.eq_ignore_ascii_case("all"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::ARCHES;

    /// `all` or not, then the named, the excluded and the unknown.
    fn summary(list: &str) -> Option<String> {
        let Selection { all, named, excluded, unknown } = Selection::parse(list).ok()?;
        let named: Vec<_> = named.iter().map(ToString::to_string).collect();
        let excluded: Vec<_> = excluded.iter().map(|arch| arch.oci).collect();
        let unknown: Vec<_> = unknown.into_iter().map(|unknown| unknown.item).collect();
        let all = if all { "all" } else { "" };
        Some([all.to_owned(), named.join(","), excluded.join(","), unknown.join(",")].join(";"))
    }

    #[test]
    fn lists_are_forgiving() {
        for (list, expected) in [
            ("all", Some("all;;;")),
            ("ALL", Some("all;;;")),
            ("all,-riscv64", Some("all;;riscv64;")),
            ("all, !riscv64\n-RISCV64,!armhf", Some("all;;riscv64,arm;")),
            ("-arm64,all", Some("all;;arm64;")),
            ("all,arm64", Some("all;linux/arm64;;")),
            ("riscv64, ppc64le", Some(";linux/riscv64,linux/ppc64le;;")),
            ("\tarm64\r\narm64 ,,aarch64,", Some(";linux/arm64;;")),
            ("arm/v6,arm/v7,arm/v5", Some(";linux/arm/v7;;")),
            ("amd64/v2,arm64,amd64", Some(";linux/amd64/v2,linux/arm64;;")),
            ("arm64,foo,foo,s390x", Some(";linux/arm64,linux/s390x;;foo")),
            ("arm64,s390x,-arm64", Some(";linux/s390x;arm64;")),
            ("all,-foo", Some("all;;;-foo")),
            ("all,-all", None),
            ("arm64,!ALL", None),
            ("foo,-arm64", Some(";;arm64;foo")),
            ("arm64,-", Some(";linux/arm64;;-")),
            ("", None),
            (" ,\n,", None),
            ("-arm64,!s390x", None),
            ("arm64,-aarch64", None),
        ] {
            assert_eq!(summary(list).as_deref(), expected, "{list:?}");
        }
    }

    #[test]
    fn a_list_of_nothing_says_what_to_write() {
        let error = Selection::parse("").unwrap_err().to_string();
        assert!(error.contains("write all, or names"), "{error}");
    }

    #[test]
    fn what_is_taken_out_is_wanted_no_more() {
        let arch = |name| Arch::by_qemu(name).unwrap();
        let list = Selection::parse("all,arm64,s390x,-arm").unwrap();
        let left = list.without([arch("aarch64"), arch("riscv64")]);
        let wanted = ["x86_64", "aarch64", "riscv64", "arm", "s390x", "ppc"];
        let wanted = wanted.map(|name| left.wants(arch(name)));
        assert_eq!(wanted, [true, false, false, false, true, true]);
        let named: Vec<_> = left.named.iter().map(ToString::to_string).collect();
        assert_eq!(named, ["linux/s390x"]);
    }

    #[test]
    fn the_named_come_first_and_the_excluded_never() {
        for (list, expected) in [
            ("all,-arm64,s390x", "s390x amd64 riscv64 ppc64"),
            ("arm64,i486", "arm64 i486"),
            ("all", "amd64 arm64 riscv64 ppc64"),
            ("foo", ""),
        ] {
            let selection = Selection::parse(list).unwrap();
            let arches = selection.arches(ARCHES.iter().take(4));
            let names: Vec<_> = arches.iter().map(|arch| arch.oci).collect();
            assert_eq!(names.join(" "), expected, "{list}");
            assert!(arches.iter().all(|arch| selection.wants(arch)), "{list}");
        }
    }

    #[test]
    fn only_what_is_named_is_asked_for_by_name() {
        let selection = Selection::parse("all,arm/v6,-riscv64").unwrap();
        for (qemu, by_name, wanted) in
            [("arm", Some("linux/arm/v6"), true), ("aarch64", None, true), ("riscv64", None, false)]
        {
            let arch = Arch::by_qemu(qemu).unwrap();
            let platform = selection.by_name(arch).map(ToString::to_string);
            assert_eq!(platform.as_deref(), by_name, "{qemu}");
            assert_eq!(selection.wants(arch), wanted, "{qemu}");
        }
    }
}

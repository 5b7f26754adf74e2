//! The emulators that are compared: one of each directory that was named, and how the kernel comes to use it.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use binfmt_magic::arch::Arch;
use binfmt_magic::rule::{Flags, Rule};

use crate::namespace;

/// The flags that an install gives: the program's own `argv[0]`, any program, its setuid bits, any root directory.
const FLAGS: Flags =
    Flags { preserve_argv0: true, open_binary: true, credentials: true, fix_binary: true, transparent: false };

/// A directory of emulators, what it is called in tables and plots, and which setting its programs get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    /// Not empty.
    pub(super) name: String,
    /// Not empty.
    pub(super) directory: PathBuf,
    /// A variable of the programs' environment, such as `QEMU_TB_CACHE=0`.
    pub(super) setting: Option<String>,
}

impl FromStr for Named {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (named, setting) = match text.split_once(',') {
            Some((named, setting)) => (named, Some(setting.to_owned())),
            None => (text, None),
        };
        let is_assignment = setting.as_ref().is_none_or(|text| text.contains('='));
        match named.split_once('=') {
            Some((name, directory)) if !name.is_empty() && !directory.is_empty() && is_assignment => {
                Ok(Self { name: name.to_owned(), directory: directory.into(), setting })
            }
            _ => Err("a name, `=`, a directory of emulators and perhaps a variable for its programs, such as \
                      debian=build/emulators or alone=build/tuned,QEMU_TB_CACHE=0"),
        }
    }
}

/// One of the emulators that are compared.
#[derive(Debug)]
pub(super) struct Emulator {
    /// Of its directory.
    pub(super) name: String,
    /// As it states it itself: `10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)`.
    pub(super) version: String,
    /// Bytes of its file.
    pub(super) size: u64,
    /// A variable of the programs' environment.
    pub(super) setting: Option<String>,
    rule: Rule,
}

impl Emulator {
    /// The emulator of `arch` in a directory.
    ///
    /// # Errors
    /// There is none, or it does not run on this machine.
    pub(super) fn find(named: &Named, arch: &Arch) -> Result<Self> {
        let path = named.directory.join(arch.interpreter_name(""));
        let directory = named.directory.canonicalize();
        let found = directory.and_then(|directory| Ok((directory, path.metadata()?.len())));
        let (directory, size) = found.with_context(|| {
            let (name, path) = (&named.name, path.display());
            format!("{name} has no emulator at {path}; build or fetch it")
        })?;
        let rule = Rule::for_arch(arch, "", &directory, FLAGS);
        let (name, setting) = (named.name.clone(), named.setting.clone());
        Ok(Self { name, version: version(&rule)?, size, setting, rule })
    }

    /// Makes it the only emulator in the table.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn register(&self) -> Result<()> {
        namespace::clear_table()?;
        namespace::register(&self.rule)
    }

    /// Its version, and the variable that its programs get.
    pub(super) fn what(&self) -> String {
        let setting = self.setting.iter().map(|setting| format!(", {setting}"));
        format!("QEMU {}", self.version) + &setting.collect::<String>()
    }
}

impl fmt::Display for Emulator {
    /// Its name, which file it is, and [`Emulator::what`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.rule.interpreter.display();
        write!(f, "{}: {path}, {}", self.name, self.what())
    }
}

fn version(rule: &Rule) -> Result<String> {
    let path = rule.interpreter.display();
    let output =
        Command::new(&rule.interpreter).arg("--version").output().with_context(|| format!("cannot run {path}"))?;
    ensure!(output.status.success(), "{path} --version ends with {}", output.status);
    stated_version(&String::from_utf8_lossy(&output.stdout)).with_context(|| format!("{path} --version states none"))
}

/// The version in what `--version` prints.
fn stated_version(text: &str) -> Option<String> {
    let (_, version) = text.lines().next()?.split_once(" version ")?;
    Some(version.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_named_before_the_first_equals_sign() {
        for (text, expected) in [
            ("ours=build/ours", Some(("ours", "build/ours", None))),
            ("ours=a=b", Some(("ours", "a=b", None))),
            ("ours=a,B=c,d", Some(("ours", "a", Some("B=c,d")))),
            ("ours=a,b", None),
            ("ours=a,", None),
            ("build/ours", None),
            ("=build/ours", None),
            ("ours=", None),
            ("", None),
        ] {
            let expected = expected.map(|(name, directory, setting)| Named {
                name: name.to_owned(),
                directory: directory.into(),
                setting: setting.map(str::to_owned),
            });
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
    }

    #[test]
    fn version_is_what_qemu_prints_after_the_word() {
        let debian = "qemu-arm version 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)\nCopyright (c)\n";
        for (text, expected) in [
            (debian, Some("10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)")),
            ("qemu-arm version 7.2.22\n", Some("7.2.22")),
            ("usage: qemu-arm\n", None),
            ("", None),
        ] {
            assert_eq!(stated_version(text).as_deref(), expected, "{text}");
        }
    }
}

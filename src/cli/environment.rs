//! The environment variables that binfmt reads.

use std::ffi::OsString;
use std::path::PathBuf;

use super::Cli;

/// The environment variables that binfmt reads.
#[expect(clippy::struct_excessive_bools, reason = "each is a variable, on or off")]
#[derive(Debug)]
pub struct Environment {
    /// `QEMU_BINARY_PATH`
    pub emulators: Option<PathBuf>,
    /// `QEMU_BINARY_PREFIX`
    pub prefix: OsString,
    /// `QEMU_BINARY_REPLACE`
    pub replace: bool,
    /// `QEMU_PRESERVE_ARGV0`
    pub preserve_argv0: bool,
    /// `QEMU_TRANSPARENT`
    pub transparent: bool,
    /// `BINFMT_IMAGE`: whether this is the container image. Other emulators there need another image.
    pub in_image: bool,
}

impl Environment {
    /// The same, overridden by the options of `cli` that stand for variables.
    pub(super) fn with(mut self, cli: &Cli) -> Self {
        self.emulators = cli.qemu_path.clone().or(self.emulators);
        self.preserve_argv0 = cli.preserve_argv0.unwrap_or(self.preserve_argv0);
        self.transparent = cli.transparent.unwrap_or(self.transparent);
        self
    }

    /// Reads the variables by `get`. An empty one counts as not set.
    pub fn from(get: impl Fn(&str) -> Option<OsString>) -> Self {
        let get = |name| get(name).filter(|value| !value.is_empty());
        let is_off = |value: &OsString| {
            let mut off = ["0", "no", "false"].iter();
            off.any(|off| value.eq_ignore_ascii_case(off))
        };
        let (replace, preserve_argv0) = (get("QEMU_BINARY_REPLACE"), get("QEMU_PRESERVE_ARGV0"));
        Self {
            emulators: get("QEMU_BINARY_PATH").map(PathBuf::from),
            prefix: get("QEMU_BINARY_PREFIX").unwrap_or_default(),
            replace: replace.is_some_and(|value| !is_off(&value)),
            preserve_argv0: !preserve_argv0.is_some_and(|value| is_off(&value)),
            transparent: !get("QEMU_TRANSPARENT").is_some_and(|value| is_off(&value)),
            in_image: get("BINFMT_IMAGE").is_some(),
        }
    }
}

//! `binfmt` teaches a Linux host to run programs of other CPU architectures: it registers QEMU's user emulators with
//! the kernel's `binfmt_misc`, proves that they work, and says what runs through what.
//!
//! A folder is a layer. Each uses only those after it in this list. None is an interface for other programs; what `main.rs`,
//! the package and the fuzz targets call is named below.
//!
//! - `command`: one file for each thing that can be asked for; knows the exit statuses.
//! - `cli`: what may be written on the command line and in the environment.
//! - `output`: the public JSON, tables and lines for people, Prometheus' metrics, and the streams they go to.
//! - `explain`: why a file runs here, or does not.
//! - `policy`: what is registered, what should be, and what is done about the difference.
//! - `emulator`: the files of QEMU's user emulators, and what they say.
//! - `helper`: what the program starts itself again for.
//! - `kernel`: the interfaces of Linux, one file each.
//!
//! What an architecture is stands in a crate of its own, [`binfmt_magic`].

#![allow(
    unreachable_pub,
    clippy::must_use_candidate,
    clippy::missing_errors_doc,
    reason = "the layers are private: pub is what another layer calls, and nobody else"
)]

mod cli;
mod command;
mod emulator;
mod explain;
mod helper;
mod kernel;
mod output;
mod policy;

pub use cli::{Cli, Environment, SECTIONS, Shell, USAGE, completions};
pub use command::run;
pub use output::Streams;

/// The readers of what others have written: fuzz targets and tests call them alone.
pub mod readers {
    pub use crate::emulator::{EmulatorError, HEAD, check_head, places, qemu_of, segments};
    pub use crate::explain::{WINDOW, elf, format, handler, shebang};
    pub use crate::helper::ids::subordinate;
    pub use crate::policy::persist::{EMULATORS, RULES, Record};
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::path::{Path, PathBuf};

    /// The layers, the uppermost first, as the list at the top of this file has them.
    fn layers() -> Vec<&'static str> {
        include_str!("lib.rs").lines().filter_map(|line| line.strip_prefix("//! - `")?.split('`').next()).collect()
    }

    fn sources(dir: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let below = entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] });
        let is_source = |path: &PathBuf| path.extension() == Some(OsStr::new("rs"));
        below.filter(is_source).collect()
    }

    #[test]
    fn every_layer_uses_only_those_below_it() {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let layers = layers();
        let floor = |name: &str| layers.iter().position(|layer| *layer == name);
        let mut upwards = Vec::new();
        for path in sources(&src) {
            let name = path.strip_prefix(&src).unwrap().iter().next().unwrap();
            let Some(own) = floor(name.to_str().unwrap().trim_end_matches(".rs")) else {
                continue; // main.rs, lib.rs
            };
            let text = fs::read_to_string(&path).unwrap();
            for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
                let used = line.split("crate::").skip(1);
                let used = used.filter_map(|rest| floor(rest.split(':').next()?));
                upwards.extend(used.filter(|used| *used < own).map(|_| format!("{}: {line}", path.display())));
            }
        }
        assert!(upwards.is_empty(), "{upwards:#?}");
        assert_eq!(layers.len(), 8);
    }
}

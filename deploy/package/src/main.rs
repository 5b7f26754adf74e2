//! Writes the man page and the completions for bash, zsh and fish into a folder, from the definition of the command line that
//! `--help` shows. `build.sh` packs them.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
use binfmt::{Cli, SECTIONS, Shell, USAGE, completions};
use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1);
    let folder = folder.context("usage: binfmt-package FOLDER")?;
    write_all(Path::new(&folder))
}

/// Writes all of them.
fn write_all(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let failed = || format!("cannot write into {}", folder.display());
    write_man(&folder.join("binfmt.1")).with_context(failed)?;
    for (shell, file) in [(Shell::Bash, "binfmt.bash"), (Shell::Zsh, "_binfmt"), (Shell::Fish, "binfmt.fish")] {
        fs::write(folder.join(file), completions(shell)).with_context(failed)?;
    }
    Ok(())
}

/// The man page. Each part of `--help` besides the options is a section.
fn write_man(path: &Path) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let command = Cli::command().version(version);
    let source = format!("binfmt {version}");
    let man = Man::new(command).source(source).manual("binfmt");
    let mut page = File::create(path)?;
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    synopsis().to_writer(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    sections().to_writer(&mut page)?;
    Ok(())
}

/// `clap_mangen` would write one line with all options, which is too long to read.
fn synopsis() -> Roff {
    let mut page = Roff::default();
    page.control("SH", ["SYNOPSIS"]);
    for usage in USAGE {
        page.text([roman(usage)]);
        page.control("br", []);
    }
    page
}

/// Titles, and below each its terms and what they mean.
fn sections() -> Roff {
    let mut page = Roff::default();
    for (title, rows) in SECTIONS {
        page.control("SH", [title.to_uppercase().as_str()]);
        for (term, meaning) in rows {
            page.control("TP", []);
            page.text([bold(*term)]);
            page.text([roman(*meaning)]);
        }
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([
        bold("binfmt.d"),
        roman("(5), "),
        bold("systemd-binfmt.service"),
        roman("(8), "),
        bold("qemu-user"),
        roman("(1), and /usr/share/doc/binfmt/README.md"),
    ]);
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Arg;

    /// Every long option and every line about the environment and the exit status is in the man page; every option in each
    /// completion.
    #[test]
    fn nothing_of_the_help_is_missing() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/package-test");
        write_all(&folder).unwrap();
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        let page = read("binfmt.1");
        let command = Cli::command();
        let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
        for long in shown.filter_map(Arg::get_long) {
            let escaped = long.replace('-', "\\-");
            assert!(page.contains(&format!("\\-\\-{escaped}")), "{long}: {page}");
            assert!(read("binfmt.bash").contains(&format!(" --{long}")), "{long}");
            let zsh = read("_binfmt");
            let is_there = |after| zsh.contains(&format!("--{long}{after}["));
            assert!(is_there("=") || is_there(""), "{long}: {zsh}");
            assert!(read("binfmt.fish").contains(&format!(" -l {long} ")), "{long}");
        }
        for word in ["EXAMPLES", "ENVIRONMENT", "QEMU_BINARY_PATH", "EXIT STATUS", "SEE ALSO"] {
            assert!(page.contains(word), "{word}: {page}");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}

//! For people: the facts of [`crate::report`] in aligned columns, colour for the state where the reader is a terminal;
//! and the line that stderr gets for each platform.

use std::ffi::OsString;
use std::io::{self, Write};

use binfmt_magic::arch::Arch;

use crate::install;
use crate::report::{Architecture, Health, State};
use crate::uninstall::{self, Removal};
use crate::wording::{printable, shown};

mod explained;

pub use explained::write_explained;

/// `uninstalling: aarch64 OK (qemu-aarch64)`, in the incumbent's words up to the parenthesis.
#[must_use]
pub fn removal(removal: &Removal) -> String {
    let label = shown(&removal.label);
    match &removal.result {
        Ok(uninstall::Outcome::Removed(names)) if names[..] == [removal.label.clone()] => {
            format!("uninstalling: {label} OK")
        }
        Ok(uninstall::Outcome::Removed(names)) => {
            format!("uninstalling: {label} OK ({})", join(names))
        }
        Ok(uninstall::Outcome::NotFound) => format!("uninstalling: {label} not found"),
        Err(refusal) => format!("uninstalling: {label} {refusal}"),
    }
}

/// `installing: arm64 OK (qemu-aarch64 10.0.13, 4.1 ms)`, in the incumbent's words up to the parenthesis.
#[must_use]
pub fn installation(arch: &Arch, result: &anyhow::Result<install::Outcome>) -> String {
    let outcome = match result {
        Ok(outcome) => describe(arch, outcome),
        Err(error) => format!("{error:#}"),
    };
    format!("installing: {} {outcome}", arch.oci)
}

fn describe(arch: &Arch, outcome: &install::Outcome) -> String {
    use install::Outcome;
    match outcome {
        Outcome::Native { shadowed_by: None } => "native".to_owned(),
        Outcome::Native {
            shadowed_by: Some(entry),
        } => {
            let entry = shown(entry);
            format!(
                "native, but {entry} takes its programs; give them back: binfmt --uninstall {entry}"
            )
        }
        Outcome::AlreadyInstalled { entry, kept: None } => {
            format!("already installed ({})", shown(entry))
        }
        Outcome::AlreadyInstalled {
            entry,
            kept: Some(why),
        } => {
            format!("already installed ({}, kept: {why})", shown(entry))
        }
        Outcome::LeftTo { entry } => {
            format!(
                "left to {}, which runs it; --force takes over",
                shown(entry)
            )
        }
        Outcome::Installed {
            version,
            micros,
            replaced,
        } => {
            let start = milliseconds(*micros);
            let replaced = match replaced[..] {
                [] => String::new(),
                _ => format!(", replaced {}", join(replaced)),
            };
            format!(
                "OK (qemu-{} {version}, {start}{replaced})",
                arch.interpreter
            )
        }
    }
}

fn join(names: &[OsString]) -> String {
    let names: Vec<String> = names.iter().map(|name| shown(name)).collect();
    names.join(", ")
}

/// Writes the table of `--status`.
///
/// # Errors
/// Those of `out`.
pub fn write_health(out: &mut dyn Write, health: &Health, colour: bool) -> io::Result<()> {
    let mut rows = vec![row([
        "PLATFORM",
        "STATE",
        "ENTRY",
        "FLAGS",
        "ARGV0",
        "START",
        "INTERPRETER",
    ])];
    for p in &health.platforms {
        let state = match p.state {
            State::Native => "native",
            State::Works => "works",
            State::Broken => "broken",
            State::Missing => "missing",
        };
        let argv0 = match p.argv0 {
            Some(true) => "kept",
            Some(false) => "replaced",
            None => "-",
        };
        let start = p.start_us.map_or_else(|| "-".to_owned(), milliseconds);
        let (entry, flags) = (
            p.entry.as_deref().unwrap_or("-"),
            p.flags.as_deref().unwrap_or("-"),
        );
        let last = p
            .reason
            .as_deref()
            .or(p.interpreter.as_deref())
            .unwrap_or("-");
        rows.push(row([&p.platform, state, entry, flags, argv0, &start, last]));
    }
    write_columns(out, &rows, colour)?;
    if !health.others.is_empty() {
        writeln!(out, "\nother entries:")?;
        let others = health.others.iter().map(|other| {
            let state = match (other.enabled, other.unknown.is_empty()) {
                (_, false) => "not understood",
                (true, true) => "enabled",
                (false, true) => "disabled",
            };
            row([
                &other.entry,
                state,
                other.interpreter.as_deref().unwrap_or("-"),
            ])
        });
        write_columns(out, &others.collect::<Vec<_>>(), false)?;
    }
    Ok(())
}

/// Writes the table of `--list`.
///
/// # Errors
/// Those of `out`.
pub fn write_list(out: &mut dyn Write, list: &[Architecture], colour: bool) -> io::Result<()> {
    let mut rows = vec![row(["PLATFORM", "STATE", "QEMU", "ENTRY OR REASON"])];
    for arch in list {
        let note = arch
            .reason
            .as_deref()
            .or(arch.entry.as_deref())
            .unwrap_or("");
        rows.push(row([&arch.platform, arch.state, arch.qemu, note]));
    }
    write_columns(out, &rows, colour)
}

/// `4.1 ms`
#[must_use]
pub fn milliseconds(micros: u64) -> String {
    format!("{}.{} ms", micros / 1000, micros % 1000 / 100)
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(printable).to_vec()
}

/// Two spaces between columns; the second one is the state and may have a colour.
fn write_columns(out: &mut dyn Write, rows: &[Vec<String>], colour: bool) -> io::Result<()> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|c| {
            rows.iter()
                .filter_map(|row| row.get(c))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate();
        let cells = cells.map(|(column, (cell, width))| {
            match state_colour(cell).filter(|_| colour && column == 1) {
                Some(code) => format!("\x1b[{code}m{cell:width$}\x1b[0m  "),
                None => format!("{cell:width$}  "),
            }
        });
        writeln!(out, "{}", cells.collect::<String>().trim_end())?;
    }
    Ok(())
}

fn state_colour(state: &str) -> Option<u8> {
    const RED: u8 = 31;
    const GREEN: u8 = 32;
    const YELLOW: u8 = 33;
    match state {
        "native" | "works" | "registered" => Some(GREEN),
        "broken" => Some(RED),
        "missing" => Some(YELLOW),
        _ => None,
    }
}

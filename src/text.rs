//! The same facts as [`crate::report`], for people: aligned columns, colour for the state where the reader is a terminal.

use std::io::{self, Write};

use crate::report::{Architecture, Health, State};

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
    cells.map(|cell| cell.escape_debug().to_string()).to_vec()
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

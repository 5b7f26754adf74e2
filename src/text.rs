//! For people: the facts of [`crate::report`] in aligned columns, colour for the state where the reader is a terminal;
//! and the line that stderr gets for each platform.

use std::cmp::Ordering;
use std::ffi::OsString;
use std::io::{self, Write};
use std::time::Duration;

use binfmt_magic::arch::Arch;

use crate::emulator::Version;
use crate::install;
use crate::persist::Fate;
use crate::report::Architecture;
use crate::uninstall::{self, Removal};
use crate::wording::{printable, shown};

mod explained;
mod health;
mod held;
mod verify;

pub use explained::write_explained;
pub use health::write_health;
pub use held::{holding, mending};
pub use verify::write_verification;

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
        Ok(uninstall::Outcome::NotFound {
            left_to: Some(entry),
            ..
        }) => {
            let entry = shown(entry);
            format!(
                "uninstalling: {label} not found; {entry}, which is not QEMU's, runs it; --force removes that"
            )
        }
        Ok(uninstall::Outcome::NotFound { closest, .. }) if !closest.is_empty() => {
            let closest = closest.join(", ");
            format!("uninstalling: {label} not found; did you mean {closest}?")
        }
        Ok(uninstall::Outcome::NotFound { .. }) => format!("uninstalling: {label} not found"),
        Err(refusal) => format!("uninstalling: {label} {refusal}"),
    }
}

/// `persisting: /host/etc/binfmt.d/qemu-arm.conf OK`
#[must_use]
pub fn persisting(path: &str, fate: Fate) -> String {
    let (verb, fate) = match fate {
        Fate::Written => ("persisting", "OK"),
        Fate::Unchanged => ("persisting", "already there"),
        Fate::TakenBack => ("persisting", "taken back"),
        Fate::Removed => ("unpersisting", "OK"),
        Fate::Gone => ("unpersisting", "not found"),
        Fate::Changed => ("unpersisting", "changed since, and so left"),
    };
    format!("{verb}: {path} {fate}")
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
        Outcome::AlreadyInstalled {
            entry,
            kept,
            unseen,
        } => {
            let kept = kept.as_ref().map(|why| format!(", kept: {why}"));
            let unseen = unseen
                .as_ref()
                .map(|why| format!("; which emulator it has cannot be seen: {why}"));
            let (kept, unseen) = (kept.unwrap_or_default(), unseen.unwrap_or_default());
            format!("already installed ({}{kept}{unseen})", shown(entry))
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
            former,
            replaced,
        } => {
            let name = format!("qemu-{}", arch.interpreter);
            let what = match former {
                Some(former) => change(&name, former.version.as_ref(), version),
                None => format!("{name} {version}"),
            };
            let start = milliseconds(*micros);
            let others: Vec<OsString> = replaced
                .iter()
                .filter(|other| former.is_none() || **other != *name)
                .cloned()
                .collect();
            let replaced = match others[..] {
                [] => String::new(),
                _ => format!(", replaced {}", join(&others)),
            };
            format!("OK ({what}, {start}{replaced})")
        }
    }
}

/// `upgraded qemu-aarch64 7.2.19 → 10.0.13`
fn change(name: &str, former: Option<&Version>, version: &Version) -> String {
    let Some(former) = former else {
        return format!("{name} {version} in place of another emulator");
    };
    match former.order().cmp(&version.order()) {
        Ordering::Less => format!("upgraded {name} {former} → {version}"),
        Ordering::Greater => format!("downgraded {name} {former} → {version}"),
        Ordering::Equal => {
            let package = |version: &Version| {
                let package = version.package.as_ref();
                package.map_or_else(|| version.to_string(), |package| printable(package))
            };
            let (former, version) = (package(former), package(version));
            if former == version {
                format!("{name} {version}, another build")
            } else {
                format!("rebuilt {name} {former} → {version}")
            }
        }
    }
}

fn join(names: &[OsString]) -> String {
    let names: Vec<String> = names.iter().map(|name| shown(name)).collect();
    names.join(", ")
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

/// `500ms`, `30s`, `5m`, as the command line takes it
#[must_use]
pub fn interval(interval: Duration) -> String {
    match interval.as_millis() {
        millis if millis % 1000 != 0 => format!("{millis}ms"),
        millis if millis % 60_000 != 0 => format!("{}s", millis / 1000),
        millis if millis % 3_600_000 != 0 => format!("{}m", millis / 60_000),
        millis => format!("{}h", millis / 3_600_000),
    }
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
        "native" | "works" | "registered" | "in order" | "passed" => Some(GREEN),
        "broken" | "drift" | "failed" => Some(RED),
        "missing" | "not tried" => Some(YELLOW),
        _ => None,
    }
}

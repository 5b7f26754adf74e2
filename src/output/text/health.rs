//! The table of `--status`, and what is below it.

use std::io::{self, Write};

use super::{milliseconds, row, write_columns, write_defects};
use crate::emulator::KnownDefect;
use crate::emulator::identity::Place;
use crate::output::json::{Health, OtherEntry};
use crate::policy::status::{EmulatorFile, PlatformHealth};

/// Digits of a build id that tell builds apart.
const BUILD: usize = 8;

/// Which columns a narrow terminal lacks first, from BUILD to FLAGS; then the version, and the entry.
const SPARE: [usize; 7] = [8, 4, 5, 6, 3, 7, 2];

/// Writes the table of `--status`, for a terminal of `width` columns if it is for one.
pub fn write_health(out: &mut dyn Write, health: &Health, colour: bool, width: Option<usize>) -> io::Result<()> {
    let mut rows =
        vec![row(["PLATFORM", "STATE", "ENTRY", "FLAGS", "ARGV0", "SETUID", "START", "QEMU", "BUILD", "INTERPRETER"])];
    rows.extend(health.platforms.iter().map(platform));
    write_columns(out, &rows, colour, width, &SPARE)?;
    write_defects(out, health.platforms.iter().flat_map(met), width)?;
    if !health.others.is_empty() {
        writeln!(out, "\nother entries:")?;
        let others = health.others.iter().map(other);
        write_columns(out, &others.collect::<Vec<_>>(), false, width, &[])?;
    }
    Ok(())
}

/// The known defects that programs of a platform meet.
fn met(platform: &PlatformHealth) -> impl Iterator<Item = (&str, &str, &KnownDefect)> {
    let emulator = platform.emulator.as_ref();
    let version = emulator.and_then(|emulator| emulator.version.as_deref()).unwrap_or_default();
    let defects = emulator.map(|emulator| &*emulator.defects).unwrap_or_default();
    defects.iter().map(move |defect| (&*platform.platform, version, defect))
}

fn platform(platform: &PlatformHealth) -> Vec<String> {
    let either = |value: Option<bool>, yes, no| match value {
        Some(true) => yes,
        Some(false) => no,
        None => "-",
    };
    let start = platform.start_us.map_or_else(|| "-".to_owned(), milliseconds);
    let emulator = platform.emulator.as_ref();
    let build = emulator.and_then(|e| e.build_id.as_deref()?.get(..BUILD));
    row([
        &platform.platform,
        platform.state,
        or_dash(platform.entry.as_deref()),
        or_dash(platform.flags.as_deref()),
        either(platform.argv0, "kept", "replaced"),
        either(platform.setuid, "honoured", "ignored"),
        &start,
        or_dash(emulator.and_then(|e| e.version.as_deref())),
        or_dash(build),
        &last(platform),
    ])
}

/// Why it does not run; else the interpreter, and what there is to know about that.
fn last(platform: &PlatformHealth) -> String {
    if let Some(reason) = &platform.reason {
        return reason.clone();
    }
    let emulator = platform.emulator.as_ref();
    let path = platform.interpreter.as_ref().or(emulator.map(|e| &e.path));
    let Some(path) = path else {
        return "-".to_owned();
    };
    let mut notes: Vec<String> = emulator.and_then(fate).into_iter().collect();
    notes.extend(emulator.and_then(|e| e.privilege.clone()));
    if platform.ps_shows == Some("program") && platform.entry.is_some() {
        notes.push("ps shows the program".to_owned());
    }
    notes.extend(platform.unseen.as_ref().map(|why| format!("which file it is cannot be seen: {why}")));
    notes.extend(emulator.and_then(|e| e.mute.clone()));
    if !platform.shadowed.is_empty() {
        notes.push(format!("shadows {}", platform.shadowed.join(", ")));
    }
    match notes[..] {
        [] => path.clone(),
        _ => format!("{path} ({})", notes.join("; ")),
    }
}

fn fate(emulator: &EmulatorFile) -> Option<String> {
    let fate = match emulator.place {
        Place::Present => return None,
        Place::Moved => return Some(format!("moved to {}", emulator.path)),
        Place::Deleted => "deleted",
        Place::Replaced => "another file is there now",
        Place::Elsewhere => "of a container or mount namespace",
        Place::Unknown => "its file system does not answer",
    };
    Some(fate.to_owned())
}

fn other(other: &OtherEntry) -> Vec<String> {
    let state = match (other.enabled, other.unknown.is_empty()) {
        (_, false) => "not understood",
        (true, true) => "enabled",
        (false, true) => "disabled",
    };
    row([&other.entry, state, &what_runs(other)])
}

/// Its interpreter, and what it does with that, unless it is the usual.
fn what_runs(other: &OtherEntry) -> String {
    if let Some(handler) = &other.bpf {
        let bound = match &other.bound[..] {
            [] => String::new(),
            bound => format!(": {}", bound.join(", ")),
        };
        return format!("the BPF handler {handler} decides{bound}");
    }
    let interpreter = or_dash(other.interpreter.as_deref());
    let loads = if other.flags.contains('L') { " (replaces the loader of native programs)" } else { "" };
    format!("{interpreter}{loads}")
}

pub(super) fn or_dash(text: Option<&str>) -> &str {
    text.filter(|text| !text.is_empty()).unwrap_or("-")
}

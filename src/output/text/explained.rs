//! An explanation for people: a block of lines for each file that the kernel comes to.

use std::io::{self, Write};

use super::{row, write_columns};
use crate::explain::handler::Byte;
use crate::explain::{Explanation, Matching, Step};
use crate::kernel::wording::printable;

/// Writes the text of `--explain`.
pub fn write_explained(out: &mut dyn Write, explained: &Explanation, colour: bool) -> io::Result<()> {
    for step in &explained.steps {
        writeln!(out, "{}", printable(&step.path))?;
        write_step(out, step)?;
    }
    for note in &explained.notes {
        fact(out, "note", note)?;
    }
    let (answer, code) = match explained.runs {
        Some(true) => ("yes", 32),
        Some(false) => ("no", 31),
        None => ("unknown", 33),
    };
    let answer = if colour { format!("\x1b[{code}m{answer}\x1b[0m") } else { answer.to_owned() };
    writeln!(out, "runs: {answer}")?;
    for (name, text) in [("because", &explained.reason), ("remedy", &explained.remedy)] {
        if let Some(text) = text {
            fact(out, name, text)?;
        }
    }
    Ok(())
}

fn write_step(out: &mut dyn Write, step: &Step) -> io::Result<()> {
    if let Some(real) = &step.real {
        fact(out, "leads to", real)?;
    }
    fact(out, "is", &describe(step))?;
    if let Some(loader) = &step.loader {
        let found = match &step.loader_found {
            Some(found) if found == loader => String::new(),
            Some(found) => format!(", which is {found}"),
            None => ", not here".to_owned(),
        };
        fact(out, "loader", &format!("{loader}{found}"))?;
    }
    if let Some(interpreter) = &step.interpreter {
        let argument = step.argument.as_ref().map(|argument| format!(", with the argument {argument}"));
        fact(out, "names", &format!("{interpreter}{}", argument.unwrap_or_default()))?;
    }
    let taken = match (&step.handler, step.taken_by) {
        (Some(entry), _) => matching(entry),
        (None, "handler") => "a handler of the host, out of sight from here".to_owned(),
        (None, other) => other.to_owned(),
    };
    let works = match step.handler_works {
        Some(true) => ", which works",
        Some(false) => ", which does not work",
        None => "",
    };
    fact(out, "taken by", &format!("{taken}{works}"))?;
    for (entries, why) in [(&step.shadowed, "older"), (&step.disabled, "switched off")] {
        for entry in entries {
            fact(out, "not by", &format!("{}: {why}", matching(entry)))?;
        }
    }
    match &step.bytes {
        Some(bytes) if !bytes.is_empty() => write_bytes(out, bytes),
        _ => Ok(()),
    }
}

fn write_bytes(out: &mut dyn Write, bytes: &[Byte]) -> io::Result<()> {
    let mut rows = vec![row(["  BYTE", "FILE", "MASK", "MAGIC", ""])];
    rows.extend(bytes.iter().map(|byte| {
        let verdict = match (byte.equal, byte.mask) {
            (true, 0) => "any",
            (true, _) => "equal",
            (false, _) => "differs",
        };
        let offset = format!("  {}", byte.offset);
        let [file, mask, magic] = [byte.file, byte.mask, byte.magic].map(|byte| format!("{byte:02x}"));
        row([&offset, &file, &mask, &magic, verdict])
    }));
    write_columns(out, &rows, false, None, &[])
}

/// `a program for linux/arm64: 64-bit, little-endian, executable, dynamic, System V ABI`
fn describe(step: &Step) -> String {
    let facts = [
        step.bits.map(|bits| format!("{bits}-bit")),
        step.byte_order.map(|order| format!("{order}-endian")),
        step.kind.map(str::to_owned),
        step.linkage.map(str::to_owned),
        step.os_abi.as_ref().map(|abi| format!("{abi} ABI")),
    ];
    let facts: Vec<String> = facts.into_iter().flatten().collect();
    if facts.is_empty() {
        return step.is.clone();
    }
    format!("{}: {}", step.is, facts.join(", "))
}

fn matching(entry: &Matching) -> String {
    let by = entry.extension.as_ref().map(|extension| format!("by its extension .{extension}, "));
    let flags = match entry.flags.as_str() {
        "" => "no flags",
        flags => flags,
    };
    let interpreter = entry.interpreter.as_deref().unwrap_or("no interpreter");
    format!("{} ({}{flags}, {interpreter})", entry.entry, by.unwrap_or_default())
}

fn fact(out: &mut dyn Write, name: &str, value: &str) -> io::Result<()> {
    writeln!(out, "  {name:10}{}", printable(value))
}

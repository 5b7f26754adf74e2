//! For fleets: the facts of [`crate::output::json`] in Prometheus' text format, as `node_exporter`'s textfile collector
//! reads it.
//!
//! Owns the metrics' names, what each says of itself, and their form. A fact that is not known has no sample. Times
//! are absolute; queries compute an age (`time() - …`). The order is that of the report. The last line is `# EOF`, so that
//! a file that was cut off can be told from a whole one.
//!
//! Rests on <https://prometheus.io/docs/instrumenting/exposition_formats/> and
//! <https://prometheus.io/docs/practices/naming/>.

use std::borrow::Cow;
use std::io::{self, Write};

use crate::kernel::wording::{is_control, printable};
use crate::policy::status::{EmulatorFile, PlatformHealth};

/// One platform, and what is asked of it here alone.
#[derive(Debug)]
pub struct Measured<'a> {
    pub health: &'a PlatformHealth,
    /// When its handler was registered, or last written to from a shell, in seconds since 1970.
    pub changed: Option<i64>,
    /// Whether that file is another than the one that an install would take.
    pub stale: Option<bool>,
}

/// Labels in their order, with their values.
type Labels<'a> = Vec<(&'static str, &'a str)>;
/// Labels, and the number.
type Sample<'a> = (Labels<'a>, String);

/// Writes all metrics; each of them is a gauge.
pub fn write_metrics(out: &mut dyn Write, platforms: &[Measured]) -> io::Result<()> {
    let of_each = |number: &dyn Fn(&Measured) -> Option<String>| -> Vec<Sample> {
        let sample = |one| Some((labels(one), number(one)?));
        platforms.iter().filter_map(sample).collect()
    };
    let one = || "1".to_owned();
    let either = |yes: bool| u8::from(yes).to_string();
    let families = [
        ("build_info", "The binfmt that has looked.", vec![(vec![("version", env!("CARGO_PKG_VERSION"))], one())]),
        (
            "platform_up",
            "Whether a program of the platform has just run, natively or through a handler.",
            of_each(&|one| Some(either(one.health.reason.is_none()))),
        ),
        (
            "platform_start_cpu_seconds",
            "Processor time of one start of the smallest program.",
            of_each(&|one| one.health.start_us.map(seconds)),
        ),
        (
            "emulator_info",
            "The handler of the platform, and the very file that the kernel has pinned for it.",
            platforms.iter().filter_map(emulator).collect(),
        ),
        (
            "emulator_stale",
            "Whether an install would replace that file by another.",
            of_each(&|one| one.stale.map(either)),
        ),
        (
            "emulator_modified_timestamp_seconds",
            "When that file was last changed, as its file system has it.",
            of_each(&|one| one.health.emulator.as_ref().map(|file| file.modified.to_string())),
        ),
        (
            "handler_changed_timestamp_seconds",
            "When the handler was registered, or last switched on or off from a shell.",
            of_each(&|one| one.changed.map(|time| time.to_string())),
        ),
    ];
    for (name, help, samples) in families {
        write_family(out, name, help, &samples)?;
    }
    writeln!(out, "# EOF")
}

fn labels<'a>(one: &Measured<'a>) -> Labels<'a> {
    vec![("platform", &one.health.platform)]
}

/// What is known of the handler and its emulator; a label without a value counts as none.
fn emulator<'a>(one: &Measured<'a>) -> Option<Sample<'a>> {
    let health = one.health;
    let file = health.emulator.as_ref();
    if health.entry.is_none() && file.is_none() {
        return None;
    }
    let of_file = |value: fn(&EmulatorFile) -> Option<&String>| file.and_then(value);
    let path = health.interpreter.as_ref();
    let known = [
        ("entry", health.entry.as_ref()),
        ("flags", health.flags.as_ref()),
        ("interpreter", path.or(of_file(|file| Some(&file.path)))),
        ("version", of_file(|file| file.version.as_ref())),
        ("package", of_file(|file| file.package.as_ref())),
        ("build_id", of_file(|file| file.build_id.as_ref())),
    ];
    let known = known.map(|(name, value)| (name, value.map_or("", String::as_str)));
    Some(([labels(one), known.to_vec()].concat(), "1".to_owned()))
}

/// `0.001834`
fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

/// A metric and its samples; one without samples is left out.
fn write_family(out: &mut dyn Write, name: &str, help: &str, samples: &[Sample]) -> io::Result<()> {
    if samples.is_empty() {
        return Ok(());
    }
    writeln!(out, "# HELP binfmt_{name} {help}")?;
    writeln!(out, "# TYPE binfmt_{name} gauge")?;
    for (labels, number) in samples {
        let label = |(label, value): &(&str, &str)| format!("{label}=\"{}\"", escaped(value));
        let labels: Vec<String> = labels.iter().map(label).collect();
        writeln!(out, "binfmt_{name}{{{}}} {number}", labels.join(","))?;
    }
    Ok(())
}

/// As the format has label values: any text, with a backslash before backslash and quote, and `\n` for the end of a
/// line. Other control characters are shown as they are in texts, since a terminal may be what reads them.
fn escaped(value: &str) -> Cow<'_, str> {
    if !value.contains(|c: char| is_control(c) || ['\\', '"'].contains(&c)) {
        return value.into();
    }
    let lines: Vec<String> = value.split('\n').map(printable).collect();
    let value = lines.join("\n");
    let value = value.replace('\\', r"\\").replace('"', "\\\"");
    value.replace('\n', r"\n").into()
}

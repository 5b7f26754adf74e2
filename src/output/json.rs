//! The public JSON: this file is the contract with every reader of our output.
//!
//! The keys of [`Status`] are the incumbent's, in its order; those of [`Health`] begin with them and go on.

use std::io::{self, Write};

use binfmt_magic::arch::Arch;
use binfmt_magic::entry::Entry;
use serde::Serialize;

use crate::kernel::wording::{is_control, text};
use crate::policy::status::PlatformHealth;
use crate::policy::survey::{PlatformStatus, Survey};

/// What `binfmt` prints without arguments.
#[derive(Debug, Serialize)]
pub struct Status {
    pub supported: Vec<String>,
    pub emulators: Option<Vec<String>>,
}

/// What `binfmt --status --format json` prints.
#[derive(Debug, Serialize)]
pub struct Health {
    #[serde(flatten)]
    pub status: Status,
    pub platforms: Vec<PlatformHealth>,
    pub others: Vec<OtherEntry>,
}

/// An entry that is no platform's handler.
#[derive(Debug, Serialize)]
pub struct OtherEntry {
    pub entry: String,
    pub enabled: bool,
    pub qemu: bool,
    pub interpreter: Option<String>,
    pub flags: String,
    pub bpf: Option<String>,
    pub bound: Vec<String>,
    pub unknown: Vec<String>,
}

impl From<&Survey> for Status {
    fn from(survey: &Survey) -> Self {
        let enabled = survey.entries.iter().filter(|entry| entry.enabled);
        let mut names: Vec<String> = enabled.map(|entry| text(&entry.name)).collect();
        names.sort();
        let is_foreign = |s: &&PlatformStatus| Arch::of_host().is_none_or(|host| host != s.arch);
        let mut statuses: Vec<&PlatformStatus> = survey.statuses.iter().collect();
        statuses.sort_by_key(is_foreign);
        Self {
            supported: statuses.into_iter().flat_map(platforms).collect(),
            emulators: (!names.is_empty()).then_some(names),
        }
    }
}

/// The OCI platforms that have been seen to run.
fn platforms(status: &PlatformStatus) -> Vec<String> {
    let Some(level) = status.verdict.level() else {
        return Vec::new();
    };
    let names = status.arch.platforms();
    let levels = (2..=level).filter_map(|level| names.first().map(|name| format!("{name}/v{level}")));
    let names = names.iter().map(ToString::to_string);
    names.chain(levels).collect()
}

impl Health {
    /// The health of these platforms; `others`: with the entries that belong to none.
    pub fn new(survey: &Survey, platforms: Vec<PlatformHealth>, others: bool) -> Self {
        let used = |entry: &Entry| {
            let mut handlers = survey.statuses.iter().filter_map(|s| s.handler.as_ref());
            handlers.any(|handler| handler.name == entry.name)
        };
        let entries = survey.entries.iter().filter(|e| others && !used(e));
        let other = |entry| OtherEntry::new(entry, survey.is_qemu(entry));
        Self { status: Status::from(survey), platforms, others: entries.map(other).collect() }
    }

    /// Those that do not run.
    pub fn failing(&self) -> impl Iterator<Item = &PlatformHealth> {
        self.platforms.iter().filter(|platform| platform.reason.is_some())
    }
}

impl OtherEntry {
    fn new(entry: &Entry, qemu: bool) -> Self {
        Self {
            entry: text(&entry.name),
            enabled: entry.enabled,
            qemu,
            interpreter: entry.interpreter.as_ref().map(text),
            flags: format!("{}{}", entry.flags, entry.unknown_flags),
            bpf: entry.bpf.clone(),
            bound: entry.bound.clone(),
            unknown: entry.unknown.clone(),
        }
    }
}

/// Writes `value` as JSON, two spaces deep, with a newline at the end. What must not reach a terminal is escaped, also where JSON
/// allows it as it is: readers get the same value.
pub fn write_json(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_string_pretty(value)?;
    let mut rest = json.as_str();
    // the ASCII ones are escaped already, or are the layout
    while let Some((at, c)) = rest.char_indices().find(|(_, c)| *c >= '\x7f' && is_control(*c)) {
        write!(out, "{}", &rest[..at])?;
        for unit in c.encode_utf16(&mut [0; 2]) {
            write!(out, "\\u{unit:04x}")?;
        }
        rest = &rest[at + c.len_utf8()..];
    }
    writeln!(out, "{rest}")
}

//! The public JSON: this file is the contract with every reader of our output.
//!
//! The keys of [`Status`] are the incumbent's, in its order; those of [`Health`] begin with them and go on.

use std::io::{self, Write};

use binfmt_magic::arch::Arch;
use binfmt_magic::entry::Entry;
use serde::Serialize;

use crate::emulator::identity::Place;
use crate::kernel::wording::{is_control, text};
use crate::policy::remedy::Means;
use crate::policy::status::{Emulator, Examined, Listed};
use crate::policy::survey::{PlatformStatus, Survey, Verdict};

mod verify;

pub use verify::{Checked, FindingReport, Verification};

/// What `binfmt` prints without arguments.
#[derive(Debug, Serialize)]
pub struct Status {
    pub supported: Vec<String>,
    pub emulators: Option<Vec<String>>,
}

/// What `binfmt --status --format json` prints.
#[derive(Debug, Serialize)]
pub struct Health {
    pub supported: Vec<String>,
    pub emulators: Option<Vec<String>>,
    pub platforms: Vec<PlatformHealth>,
    pub others: Vec<OtherEntry>,
}

/// The state of a platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The kernel runs it by itself.
    Native,
    /// A handler runs it: `entry`, or one out of sight.
    Works,
    /// There is a handler, and programs do not run.
    Broken,
    /// There is no handler.
    Missing,
}

/// One platform, probed.
#[derive(Debug, Serialize)]
pub struct PlatformHealth {
    pub platform: String,
    pub qemu: &'static str,
    pub state: State,
    pub reason: Option<String>,
    pub remedy: Option<String>,
    pub entry: Option<String>,
    pub flags: Option<String>,
    pub interpreter: Option<String>,
    pub argv0: Option<bool>,
    pub setuid: Option<bool>,
    pub start_us: Option<u64>,
    pub emulator: Option<EmulatorFile>,
    pub unseen: Option<String>,
    pub shadowed: Vec<String>,
}

/// The very file that runs programs, which may long have gone from its path.
#[derive(Debug, Serialize)]
pub struct EmulatorFile {
    pub version: Option<String>,
    pub package: Option<String>,
    pub mute: Option<String>,
    pub build_id: Option<String>,
    pub sha256: Option<String>,
    pub size: u64,
    pub path: String,
    pub place: Place,
}

/// An entry that is no platform's handler.
#[derive(Debug, Serialize)]
pub struct OtherEntry {
    pub entry: String,
    pub enabled: bool,
    pub qemu: bool,
    pub interpreter: Option<String>,
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
    let Verdict::Works { level, .. } = status.verdict else {
        return Vec::new();
    };
    let names = status.arch.platforms();
    let levels = (2..=level).filter_map(|level| names.first().map(|name| format!("{name}/v{level}")));
    let names = names.iter().map(ToString::to_string);
    names.chain(levels).collect()
}

impl Health {
    /// The health of the platforms that were `examined`, with what `means` would do for them; `others`: with the
    /// entries that belong to none.
    pub fn new(means: &Means, examined: &[Examined<'_>], others: bool) -> Self {
        let survey = means.survey;
        let status = Status::from(survey);
        let used = |entry: &Entry| {
            let mut handlers = survey.statuses.iter().filter_map(|s| s.handler.as_ref());
            handlers.any(|handler| handler.name == entry.name)
        };
        let entries = survey.entries.iter().filter(|e| others && !used(e));
        let platform = |examined| PlatformHealth::new(examined, means);
        let other = |entry| OtherEntry::new(entry, survey.is_qemu(entry));
        Self {
            supported: status.supported,
            emulators: status.emulators,
            platforms: examined.iter().map(platform).collect(),
            others: entries.map(other).collect(),
        }
    }

    /// Those that do not run.
    pub fn failing(&self) -> impl Iterator<Item = &PlatformHealth> {
        self.platforms.iter().filter(|p| matches!(p.state, State::Broken | State::Missing))
    }
}

impl PlatformHealth {
    fn new(examined: &Examined<'_>, means: &Means) -> Self {
        let status = examined.status;
        let handler = status.handler.as_ref();
        let (state, failure, argv0, start_us) = match &status.verdict {
            Verdict::Works { argv0, micros, .. } => {
                let state = if status.is_native() { State::Native } else { State::Works };
                (state, None, Some(*argv0), Some(*micros))
            }
            Verdict::Fails(failure) => {
                let state = if handler.is_some() { State::Broken } else { State::Missing };
                (state, Some(failure), None, None)
            }
        };
        let emulator = examined.emulator.as_ref();
        Self {
            platform: name(status.arch),
            qemu: status.arch.qemu,
            state,
            reason: failure.map(ToString::to_string),
            remedy: failure.map(|failure| means.against(failure, status.arch)),
            entry: handler.map(|h| text(&h.name)),
            flags: handler.map(|h| format!("{}{}", h.flags, h.unknown_flags)),
            interpreter: handler.and_then(|h| h.interpreter.as_ref()).map(text),
            argv0,
            setuid: status.setuid,
            start_us,
            emulator: emulator.and_then(|emulator| Some(emulator.as_ref().ok()?.into())),
            unseen: emulator.and_then(|emulator| emulator.as_ref().err().cloned()),
            shadowed: examined.shadowed.iter().map(|e| text(&e.name)).collect(),
        }
    }
}

impl From<&Emulator> for EmulatorFile {
    fn from(emulator: &Emulator) -> Self {
        let identity = &emulator.identity;
        let (version, mute) = match &emulator.version {
            Some(Ok(version)) => (Some(version), None),
            Some(Err(error)) => (None, Some(error.to_string())),
            None => (None, Some("it is not QEMU's".to_owned())),
        };
        Self {
            version: version.map(ToString::to_string),
            package: version.and_then(|version| version.package.clone()),
            mute,
            build_id: identity.build_id.clone(),
            sha256: emulator.sha256.clone(),
            size: identity.size,
            path: text(&identity.path),
            place: identity.place,
        }
    }
}

impl OtherEntry {
    fn new(entry: &Entry, qemu: bool) -> Self {
        Self {
            entry: text(&entry.name),
            enabled: entry.enabled,
            qemu,
            interpreter: entry.interpreter.as_ref().map(text),
            unknown: entry.unknown.clone(),
        }
    }
}

fn name(arch: &Arch) -> String {
    format!("linux/{}", arch.oci)
}

/// One architecture of `binfmt --list --format json`.
#[derive(Debug, Serialize)]
pub struct Architecture {
    pub platform: String,
    pub qemu: &'static str,
    pub aliases: &'static [&'static str],
    pub state: &'static str,
    pub entry: Option<String>,
    pub reason: Option<String>,
}

impl From<&Listed> for Architecture {
    fn from(listed: &Listed) -> Self {
        let (entry, reason) = (listed.entry.as_deref().map(text), listed.reason.clone());
        Self {
            platform: name(listed.arch),
            qemu: listed.arch.qemu,
            aliases: listed.arch.aliases,
            state: listed.state,
            entry,
            reason,
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

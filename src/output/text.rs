//! For people: the facts of [`crate::output::json`] in aligned columns, colour for the state where the reader is a
//! terminal; and the line that stderr gets for each platform.

use std::cmp::Ordering;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::time::Duration;

use binfmt_magic::arch::Arch;

use crate::emulator::{KnownDefect, Version};
use crate::kernel::wording::{printable, shown};
use crate::policy::install::{Credentials, InstallOutcome};
use crate::policy::persist::FileOutcome;
use crate::policy::status::Listed;
use crate::policy::uninstall::Removal;
use crate::policy::verify::{Audit, Checked, Finding};

mod columns;
mod explained;
mod health;
mod held;

use columns::{pieces, row, write_columns};
pub use explained::write_explained;
use health::or_dash;
pub use health::write_health;
pub use held::{holding, repairing};

/// What was done, or in a dry run would be, about something: a line.
#[derive(Debug)]
pub struct Action {
    /// `install`
    verb: &'static str,
    what: String,
    /// What there is to say after OK; or why it was not done.
    done: Result<String, String>,
}

impl Action {
    /// It was done. `how`: what there is to say after OK, with a blank before it.
    pub fn done(verb: &'static str, what: impl Display, how: impl Into<String>) -> Self {
        Self { verb, what: what.to_string(), done: Ok(how.into()) }
    }

    pub fn not_done(verb: &'static str, what: impl Display, why: impl Into<String>) -> Self {
        Self { verb, what: what.to_string(), done: Err(why.into()) }
    }

    /// `installing: arm64 OK (qemu-aarch64 10.0.13, 4.1 ms)`, in the incumbent's words up to the parenthesis.
    pub fn said(&self) -> String {
        let Self { verb, what, done } = self;
        match done {
            Ok(how) => format!("{verb}ing: {what} OK{how}"),
            Err(why) => format!("{verb}ing: {what} {why}"),
        }
    }

    /// The same in a dry run: `would install: arm64 (qemu-aarch64 10.0.13)`.
    pub fn would(&self) -> String {
        let Self { verb, what, done } = self;
        match done {
            Ok(how) => format!("would {verb}: {what}{how}"),
            Err(why) => format!("would not {verb}: {what} {why}"),
        }
    }
}

/// `uninstalling: arm64 OK (qemu-aarch64)`
pub fn removal(removal: &Removal) -> Action {
    let done = match (&removal.failure, &removal.removed[..], &removal.left_to) {
        (Some(why), ..) => Err(why.clone()),
        (None, [name], _) if *name == removal.label => Ok(String::new()),
        (None, [], Some(entry)) => {
            Err(format!("not found; {}, which is not QEMU's, runs it; --force removes that", shown(entry)))
        }
        (None, [], None) => Err("not found".to_owned()),
        (None, names, _) => Ok(format!(" ({})", join(names))),
    };
    Action { verb: "uninstall", what: shown(&removal.label), done }
}

/// `persisting: /host/etc/binfmt.d/qemu-arm.conf OK`. `verb` names the option that writes or removes the file.
pub fn filed(verb: &'static str, path: &str, fate: FileOutcome) -> Action {
    let why_not = match fate {
        FileOutcome::Written | FileOutcome::Removed => return Action::done(verb, path, ""),
        FileOutcome::Unchanged => "already there",
        FileOutcome::TakenBack => "taken back",
        FileOutcome::Gone => "not found",
        FileOutcome::Changed => "changed since, and so left",
    };
    Action::not_done(verb, path, why_not)
}

/// `installing: arm64 OK (qemu-aarch64 10.0.13, 4.1 ms)`
pub fn installation(arch: &Arch, result: &anyhow::Result<InstallOutcome>) -> Action {
    let done = match result {
        Ok(outcome) => describe(arch, outcome),
        Err(error) => Err(format!("{error:#}")),
    };
    Action { verb: "install", what: arch.oci.to_owned(), done }
}

fn describe(arch: &Arch, outcome: &InstallOutcome) -> Result<String, String> {
    Err(match outcome {
        InstallOutcome::Native { shadowed_by: None } => "native".to_owned(),
        InstallOutcome::Native { shadowed_by: Some(by) } => {
            format!("native, but {} takes its programs; remove it: {}", shown(&by.entry), by.removal)
        }
        InstallOutcome::AlreadyInstalled { entry, kept, unseen, credentials } => {
            let kept = kept.as_ref().map(|why| format!(", kept: {why}"));
            let unseen = unseen.as_ref().map(|why| format!("; which emulator it has cannot be seen: {why}"));
            let (kept, unseen) = (kept.unwrap_or_default(), unseen.unwrap_or_default());
            let setuid = setuid(*credentials);
            format!("already installed ({}{kept}{unseen}{setuid})", shown(entry))
        }
        InstallOutcome::LeftTo { entry } => {
            format!("left to {}, which runs it; --force takes over", shown(entry))
        }
        InstallOutcome::Installed { version, micros, former, replaced, credentials } => {
            let name = format!("qemu-{}", arch.interpreter);
            let what = match former {
                Some(former) => change(&name, former.version.as_ref(), version),
                None => format!("{name} {version}"),
            };
            let start = micros.map(|micros| format!(", {}", milliseconds(micros)));
            let start = start.unwrap_or_default();
            let others: Vec<OsString> =
                replaced.iter().filter(|other| former.is_none() || **other != *name).cloned().collect();
            let replaced = match others[..] {
                [] => String::new(),
                _ => format!(", replaced {}", join(&others)),
            };
            let setuid = setuid(*credentials);
            return Ok(format!(" ({what}{start}{replaced}{setuid})"));
        }
    })
}

/// What the reader did not ask for, and the option that asks for the other.
fn setuid(credentials: Credentials) -> &'static str {
    match credentials {
        Credentials::AsAsked => "",
        Credentials::LeftOut => "; without flag C, as before: --credentials yes sets it",
        Credentials::Gained => {
            "; setuid programs get their owner's privilege from now on (flag C): --credentials no leaves it off"
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

/// Writes the table of `--list`, for a terminal of `width` columns if it is for one.
pub fn write_list(out: &mut dyn Write, list: &[Listed], colour: bool, width: Option<usize>) -> io::Result<()> {
    let mut rows = vec![row(["PLATFORM", "STATE", "QEMU", "ENTRY OR REASON"])];
    for arch in list {
        let note = arch.reason.as_deref().or(arch.entry.as_deref()).unwrap_or("");
        rows.push(row([&arch.platform, arch.state, arch.qemu, note]));
    }
    write_columns(out, &rows, colour, width, &[2])
}

/// Writes the table of `--verify`: a line per platform that is in order, and one per finding; below, known defects.
pub fn write_verification(out: &mut dyn Write, audit: &Audit, colour: bool, width: Option<usize>) -> io::Result<()> {
    let mut rows = vec![row(["PLATFORM", "STATE", "ENTRY", "FINDING"])];
    rows.extend(audit.checked.iter().map(checked));
    rows.extend(audit.findings.iter().map(finding));
    write_columns(out, &rows, colour, width, &[2])?;
    let defects = audit.defects.iter();
    write_defects(out, defects.map(|meets| (&*meets.platform, &*meets.version, &meets.defect)), width)
}

/// What a line that continues another begins with.
const INDENT: &str = "  ";

/// The known defects of the emulators that programs run through, below the tables of `--status` and `--verify`: writes a line
/// per version and defect, with the platforms that meet it, for a terminal of `width` columns if it is for one;
/// nothing if there is no defect. `met`: platform, QEMU's version, defect.
fn write_defects<'a>(
    out: &mut dyn Write,
    met: impl Iterator<Item = (&'a str, &'a str, &'a KnownDefect)>,
    width: Option<usize>,
) -> io::Result<()> {
    let mut groups: Vec<((&str, &KnownDefect), Vec<&str>)> = Vec::new();
    for (platform, version, defect) in met {
        let short = platform.strip_prefix("linux/").unwrap_or(platform);
        match groups.iter_mut().find(|(key, _)| *key == (version, defect)) {
            Some((_, platforms)) => platforms.push(short),
            None => groups.push(((version, defect), vec![short])),
        }
    }
    if groups.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nknown defects:")?;
    for ((version, defect), platforms) in groups {
        let line = printable(&format!("QEMU {version}, {}: {defect}", platforms.join(", ")));
        let room = width.map_or(usize::MAX, |width| width.saturating_sub(INDENT.len()).max(1));
        for (at, piece) in pieces(&line, room, true).iter().enumerate() {
            writeln!(out, "{}{piece}", if at == 0 { "" } else { INDENT })?;
        }
    }
    Ok(())
}

fn checked(checked: &Checked) -> Vec<String> {
    let note = match (&checked.entry, &checked.kept) {
        (None, _) => "native".to_owned(),
        (Some(_), _) if checked.left_to_other => "not QEMU's, and left to it".to_owned(),
        (Some(_), Some(why)) => format!("kept: {why}"),
        (Some(_), None) => "-".to_owned(),
    };
    let entry = checked.entry.as_deref().unwrap_or("-");
    row([&checked.platform, "in order", entry, &note])
}

fn finding(finding: &Finding) -> Vec<String> {
    row([or_dash(finding.platform.as_deref()), "drift", or_dash(finding.entry.as_deref()), &finding.text])
}

/// `4.1 ms`
pub fn milliseconds(micros: u64) -> String {
    format!("{}.{} ms", micros / 1000, micros % 1000 / 100)
}

/// `500ms`, `30s`, `5m`, as the command line takes it
pub fn interval(interval: Duration) -> String {
    match interval.as_millis() {
        millis if millis % 1000 != 0 => format!("{millis}ms"),
        millis if millis % 60_000 != 0 => format!("{}s", millis / 1000),
        millis if millis % 3_600_000 != 0 => format!("{}m", millis / 60_000),
        millis => format!("{}h", millis / 3_600_000),
    }
}

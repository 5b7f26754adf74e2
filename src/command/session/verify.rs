//! The part of a session that audits: look, compare, tell.

use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use binfmt_magic::arch::Arch;
use binfmt_magic::platform::Selection;

use super::{Session, describe_unknown};
use crate::cli::{Anchor, Cli, Environment, Format, YesNo};
use crate::kernel::anchor;
use crate::kernel::mount::{self, HeldBy};
use crate::kernel::wording::quoted;
use crate::output::json::{Verification, write_json};
use crate::output::streams::Streams;
use crate::output::text;
use crate::policy::invocation::Invocation;
use crate::policy::survey::Survey;
use crate::policy::verify::{self, Audit, Drift, Finding, Repair};

/// What a table without rows would leave open.
const NOTHING: &str = "no QEMU handler is registered, so nothing was checked; list the platforms to check: binfmt --verify LIST";

impl Session<'_> {
    pub(super) fn verify(&mut self, streams: &mut Streams) -> Result<()> {
        let table = mount::for_looking(&self.at)?.context(
            "no binfmt_misc is in sight here; verify where it is mounted, or name its mount point with --mount",
        )?;
        let lock = table.lock()?;
        let survey = Survey::take(Some(&table))?;
        let audit = self.audit(table.path(), &survey)?;
        drop(lock);
        self.missing
            .extend(self.means_nothing(self.listed.as_ref(), &survey));
        let says_nothing =
            self.listed.is_none() && !survey.entries.iter().any(|entry| survey.is_qemu(entry));
        if says_nothing && audit.findings.is_empty() {
            streams.say(NOTHING);
        }
        if let Some(why) = &audit.unrehearsed {
            streams.say(&format!(
                "flag P is judged by QEMU's version, since nothing can be rehearsed: {why}"
            ));
        }
        let repair = verify::command(&audit.findings, &survey, &self.invocation);
        let unknown = self.listed.iter().flat_map(|selection| &selection.unknown);
        let unknown = unknown.map(describe_unknown).collect();
        let verification = Verification::new(&audit, repair, unknown);
        self.judge_audit(&verification);
        let shown = self.show_audit(&verification, streams);
        streams.finish(shown)
    }

    fn audit(&self, table: &Path, survey: &Survey) -> Result<Audit> {
        let mut audit = Audit::default();
        if !survey.enabled {
            let status = table.join("status");
            let line = format!("echo 1 > {}", quoted(&status.to_string_lossy()));
            audit
                .findings
                .push(about_table(Drift::TableOff, Repair::Shell(line)));
            return Ok(audit);
        }
        let asked = self.meant_by(self.listed.as_ref(), survey);
        audit = verify::verify(survey, &self.order(Selection::default()), asked.as_deref())?;
        if let Some(arch) = self.may_end(survey) {
            let repair = Repair::Install { arch, force: false };
            audit.findings.push(about_table(Drift::MayEnd, repair));
        }
        Ok(audit)
    }

    /// One of the architectures whose handlers may end with this container, where that can be told from here.
    fn may_end(&self, survey: &Survey) -> Option<&'static Arch> {
        let declined = self.cli.anchor == Anchor::Never;
        if declined || mount::holder(&self.at)? != HeldBy::NobodyElse || anchor::seen()? {
            return None;
        }
        let installed = survey.statuses.iter().find(|status| {
            let handler = status.handler.as_ref();
            status.works() && handler.is_some_and(|entry| survey.is_qemu(entry))
        });
        installed.map(|status| status.arch)
    }

    /// Drift counts as not in place, and so does what was asked for and is unknown.
    fn judge_audit(&mut self, verification: &Verification) {
        self.missing.extend(verification.unknown.iter().cloned());
        let findings = &verification.findings;
        let by_hand: Vec<&String> = findings.iter().filter_map(|f| f.advice.as_ref()).collect();
        let count = match findings.len() {
            0 => return,
            1 => "1 finding".to_owned(),
            count => format!("{count} findings"),
        };
        self.missing
            .push(match (&verification.repair, by_hand.last()) {
                (Some(command), None) => format!("{count}; repair: {command}"),
                (Some(command), Some(_)) => {
                    format!(
                        "{count}, of which {} must be fixed manually (see above); repair the others: {command}",
                        by_hand.len()
                    )
                }
                (None, Some(advice)) => format!("{count}: {advice}"),
                (None, None) => count,
            });
    }

    fn show_audit(&self, verification: &Verification, streams: &mut Streams) -> io::Result<()> {
        if self.cli.format == Some(Format::Json) {
            return write_json(streams.out, verification);
        }
        let width = self.width(streams.width);
        text::write_verification(streams.out, verification, streams.colour, width)
    }
}

fn about_table(drift: Drift, repair: Repair) -> Finding {
    Finding {
        arch: None,
        entry: None,
        drift,
        repair,
    }
}

/// What every suggested command repeats of this command line.
pub(super) fn invocation(cli: &Cli, environment: &Environment) -> Invocation {
    let mut invocation = Invocation {
        mount: cli.mount.clone(),
        ..Invocation::default()
    };
    let default = Environment::from(|_| None);
    if let Some(path) = &environment.emulators {
        let path = path.to_string_lossy().into_owned();
        invocation.environment.push(("QEMU_BINARY_PATH", path));
    }
    if environment.prefix != default.prefix {
        let prefix = environment.prefix.to_string_lossy().into_owned();
        invocation.environment.push(("QEMU_BINARY_PREFIX", prefix));
    }
    if !environment.preserve_argv0 {
        invocation
            .environment
            .push(("QEMU_PRESERVE_ARGV0", "0".to_owned()));
    }
    if environment.replace {
        let replace = ("QEMU_BINARY_REPLACE", "1".to_owned());
        invocation.environment.push(replace);
    }
    if let Some(credentials) = cli.credentials {
        let value = if credentials == YesNo::Yes {
            "yes"
        } else {
            "no"
        };
        invocation.options.push(format!("--credentials {value}"));
    }
    if cli.force {
        invocation.options.push("--force".to_owned());
    }
    if cli.keep {
        invocation.options.push("--keep".to_owned());
    }
    invocation
}

//! The edge: from a command line to output and an exit status. The only module that prints.
//!
//! stdout gets the JSON or the table that was asked for, nothing else; stderr a line per platform in the incumbent's
//! words and, where something is not in place, a last line that says what and what to do.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::platform::{Selection, items};
use clap::Parser;
use clap::error::ErrorKind as UsageError;

use crate::anchor;
use crate::cli::{Anchor, Cli, Environment, Format, YesNo, accept_single_dash};
use crate::emulator;
use crate::install::{self, Order, Outcome, install};
use crate::list::list;
use crate::mount::{self, Keeper, MountPoint, Mounted};
use crate::report::{Architecture, Health, State, Status, write_json};
use crate::runner;
use crate::survey::Survey;
use crate::table::{Table, shown};
use crate::text;
use crate::uninstall::{self, Removal, uninstall, uninstall_others};

/// Everything asked for is in place.
const DONE: u8 = 0;
/// Something is not; the last line on stderr says what to do.
const NOT_DONE: u8 = 1;
/// The command line is wrong; nothing was done.
const USAGE: u8 = 2;

/// Where output goes.
pub struct Streams<'a> {
    /// The JSON or the table.
    pub out: &'a mut dyn Write,
    /// Progress and errors.
    pub err: &'a mut dyn Write,
    /// Whether `out` shows colours.
    pub colour: bool,
}

impl std::fmt::Debug for Streams<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams")
            .field("colour", &self.colour)
            .finish_non_exhaustive()
    }
}

impl Streams<'_> {
    /// A line on stderr. If nobody listens there, the exit status still tells.
    fn say(&mut self, line: &str) {
        let _ = writeln!(self.err, "{line}");
    }

    fn fail(&mut self, reason: &anyhow::Error) -> u8 {
        self.say(&format!("binfmt: {reason:#}"));
        NOT_DONE
    }
}

/// Does what `args`, the program's name first, ask for; returns the exit status.
pub fn run(args: Vec<OsString>, environment: &Environment, streams: &mut Streams) -> u8 {
    if args.get(1).is_some_and(|arg| arg == runner::VERB) {
        return match runner::serve(&args[2..], &mut *streams.out) {
            Ok(()) => DONE,
            Err(error) => {
                streams.say(&format!("{error:#}"));
                NOT_DONE
            }
        };
    }
    let cli = match Cli::try_parse_from(accept_single_dash(args)) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, streams),
    };
    match Session::new(&cli, environment) {
        Ok(mut session) => session
            .run(streams)
            .unwrap_or_else(|error| streams.fail(&error)),
        Err(Wrong::Usage(error)) => {
            streams.say(&format!("binfmt: {error:#}; try binfmt --help"));
            USAGE
        }
        Err(Wrong::Value(error)) => streams.fail(&error),
    }
}

/// Help goes to stdout; what is wrong with a command line to stderr, in one line.
fn usage(error: &clap::Error, streams: &mut Streams) -> u8 {
    let text = error.render().to_string();
    if error.kind() == UsageError::DisplayHelp {
        let _ = write!(streams.out, "{text}");
        return DONE;
    }
    let words: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:"))
        .collect();
    let text = words.join(" ");
    let text = text.trim().trim_start_matches("error: ");
    streams.say(&format!("binfmt: {text}; try binfmt --help"));
    USAGE
}

/// Why a command line that parses is not carried out.
enum Wrong {
    Usage(anyhow::Error),
    Value(anyhow::Error),
}

/// One command line, understood.
struct Session<'a> {
    cli: &'a Cli,
    at: MountPoint,
    order: Option<Order>,
    status: Option<Selection>,
    emulators: std::path::PathBuf,
    prefix: String,
    /// What is not in place, for the last line.
    missing: Vec<String>,
}

impl<'a> Session<'a> {
    fn new(cli: &'a Cli, environment: &Environment) -> Result<Self, Wrong> {
        let selection = |list: &str| Selection::parse(list).map_err(|e| Wrong::Usage(e.into()));
        let order = match (cli.install.is_empty(), cli.reset) {
            (false, _) => Some(selection(&cli.install.join(","))?),
            (true, true) => Some(selection("all")?),
            (true, false) => None,
        };
        let status = match &cli.status {
            Some(Some(list)) => Some(selection(list)?),
            _ => None,
        };
        let uninstall = cli.uninstall.join(",");
        if !cli.uninstall.is_empty() && items(&uninstall).next().is_none() {
            return Err(Wrong::Usage(anyhow!(
                "the list of what to uninstall is empty"
            )));
        }
        let prefix = prefix(environment).map_err(Wrong::Value)?;
        let emulators =
            std::path::absolute(&environment.emulators).map_err(|e| Wrong::Value(e.into()))?;
        let order = order.map(|selection| Order {
            selection,
            emulators: emulators.clone(),
            prefix: prefix.clone(),
            preserve_argv0: environment.preserve_argv0,
            credentials: cli.credentials == YesNo::Yes,
            force: cli.force,
        });
        let explicit = cli.mount != Path::new(mount::DEFAULT);
        let at = MountPoint {
            dir: cli.mount.clone(),
            explicit,
        };
        Ok(Self {
            cli,
            at,
            order,
            status,
            emulators,
            prefix,
            missing: Vec::new(),
        })
    }

    fn run(&mut self, streams: &mut Streams) -> Result<u8> {
        if self.cli.version {
            streams.say(&version(&self.emulators, &self.prefix));
            return Ok(DONE);
        }
        if !self.cli.uninstall.is_empty() {
            self.uninstall(streams)?;
        }
        let survey = self
            .order
            .take()
            .map(|order| self.install(&order, streams))
            .transpose()?;
        let survey = match survey {
            Some(survey) => survey,
            None => Survey::take(mount::for_reading(&self.at)?.as_ref())?,
        };
        let shown = self.show(&survey, streams);
        ignore_closed(shown.and_then(|()| streams.out.flush()))
            .context("cannot write the output")?;
        let Some(last) = self.missing.pop() else {
            return Ok(DONE);
        };
        let more = match self.missing.len() {
            0 => String::new(),
            more => format!(" (and {more} more, above)"),
        };
        streams.say(&format!("binfmt: {last}{more}"));
        Ok(NOT_DONE)
    }

    fn uninstall(&mut self, streams: &mut Streams) -> Result<()> {
        let list = self.cli.uninstall.join(",");
        match mount::for_reading(&self.at)? {
            Some(table) => {
                let removals = uninstall(&table, &list, self.cli.force)?;
                self.report_removals(removals, streams);
                self.tidy(table)?;
            }
            None => items(&list)
                .for_each(|item| streams.say(&format!("uninstalling: {item} not found"))),
        }
        Ok(())
    }

    fn report_removals(&mut self, removals: Vec<Removal>, streams: &mut Streams) {
        for Removal { label, result } in removals {
            let label = shown(&label);
            let line = match result {
                Ok(uninstall::Outcome::Removed(names))
                    if names.len() == 1 && label == shown(&names[0]) =>
                {
                    "OK".to_owned()
                }
                Ok(uninstall::Outcome::Removed(names)) => format!("OK ({})", join(&names)),
                Ok(uninstall::Outcome::NotFound) => "not found".to_owned(),
                Err(refusal) => {
                    self.missing
                        .push(format!("cannot uninstall {label}: {refusal}"));
                    refusal.to_string()
                }
            };
            streams.say(&format!("uninstalling: {label} {line}"));
        }
    }

    /// Where the table is empty, leaves nothing of ours behind.
    fn tidy(&self, table: Table) -> Result<()> {
        if table.entries()?.is_empty() {
            drop(table);
            anchor::clear()?;
            mount::release(&self.at)?;
        }
        Ok(())
    }

    fn install(&mut self, order: &Order, streams: &mut Streams) -> Result<Survey> {
        let Mounted { table, keeper } = mount::for_writing(&self.at)?;
        let caveat = self.keep(keeper);
        let installed = install(&table, order).and_then(|(items, survey)| {
            let kept: Vec<&Arch> = items
                .iter()
                .filter(|(_, result)| result.is_ok())
                .map(|(arch, _)| *arch)
                .collect();
            let others = if self.cli.reset {
                uninstall_others(&table, &kept)?
            } else {
                Vec::new()
            };
            Ok((items, survey, others))
        });
        let empty = table.entries()?.is_empty();
        self.tidy(table)?;
        let (items, survey, others) = installed?;
        self.report_removals(others, streams);
        if items.is_empty() && order.selection.unknown.is_empty() {
            let dir = order.emulators.display();
            self.missing.push(format!(
                "no emulators in {dir}; set QEMU_BINARY_PATH to their directory"
            ));
        }
        self.report_items(items, streams);
        for unknown in &order.selection.unknown {
            streams.say(&format!(
                "installing: {} {unknown}",
                unknown.item.escape_debug()
            ));
            self.missing.push(unknown.to_string());
        }
        if let Some(caveat) = caveat.filter(|_| !empty) {
            self.missing.push(format!("{caveat:#}"));
        }
        Ok(survey)
    }

    /// Sees to it that the handlers outlive this call, or says why they will not.
    fn keep(&self, keeper: Keeper) -> Option<anyhow::Error> {
        let refused = match (keeper, self.cli.anchor) {
            (Keeper::Host | Keeper::Other, _) => return None,
            (Keeper::NobodyElse, Anchor::Never) if anchor::is_set() => return None,
            (Keeper::NobodyElse, Anchor::Never) => anyhow!("--anchor never"),
            (Keeper::NobodyElse, Anchor::Auto) => {
                anchor::set(&self.at.dir.join("status")).err()?.into()
            }
        };
        let dir = self.at.dir.display();
        Some(refused.context(format!(
            "these handlers end with this container or mount namespace, since the host itself has no binfmt_misc \
             mounted; on the host: mount -t binfmt_misc binfmt_misc {}, or run with --pid=host, or with -v {dir}:{dir}",
            mount::DEFAULT
        )))
    }

    fn report_items(&mut self, items: Vec<install::Item>, streams: &mut Streams) {
        for (arch, result) in items {
            let line = match result {
                Ok(outcome) => describe(arch, &outcome),
                Err(error) => {
                    self.missing
                        .push(format!("{} is not installed: {error:#}", arch.oci));
                    format!("{error:#}")
                }
            };
            streams.say(&format!("installing: {} {line}", arch.oci));
        }
    }

    fn show(&mut self, survey: &Survey, streams: &mut Streams) -> io::Result<()> {
        if self.cli.list {
            let listed = list(survey, &self.emulators, &self.prefix);
            let listed: Vec<Architecture> = listed.iter().map(Architecture::from).collect();
            return match self.cli.format {
                Some(Format::Json) => write_json(streams.out, &listed),
                _ => text::write_list(streams.out, &listed, streams.colour),
            };
        }
        let asked = self.cli.status.is_some();
        if !asked && self.cli.format != Some(Format::Text) {
            return write_json(streams.out, &Status::from(survey));
        }
        let arches = self
            .status
            .as_ref()
            .map(|selection| selection.arches(registered(survey)));
        let health = Health::new(survey, arches.as_deref());
        if asked {
            self.judge(&health);
        }
        match self.cli.format {
            Some(Format::Json) => write_json(streams.out, &health),
            _ => text::write_health(streams.out, &health, streams.colour),
        }
    }

    /// `--status` is a health check: what does not run counts as missing.
    fn judge(&mut self, health: &Health) {
        for failing in health.failing() {
            let reason = failing.reason.as_deref().unwrap_or_default();
            let name = failing.platform.trim_start_matches("linux/");
            let remedy = match failing.state {
                State::Missing => "install it",
                _ => "install it again",
            };
            self.missing.push(format!(
                "{} does not run: {reason}; {remedy}: binfmt --install {name}",
                failing.platform
            ));
        }
        for unknown in self.status.iter().flat_map(|selection| &selection.unknown) {
            self.missing.push(unknown.to_string());
        }
    }
}

fn registered(survey: &Survey) -> Vec<&'static Arch> {
    ARCHES
        .iter()
        .filter(|arch| survey.of(arch).handler.is_some() || survey.of(arch).is_native())
        .collect()
}

fn prefix(environment: &Environment) -> Result<String> {
    let prefix = environment
        .prefix
        .to_str()
        .context("QEMU_BINARY_PREFIX is not UTF-8")?;
    if prefix.contains('/') {
        bail!(
            "QEMU_BINARY_PREFIX must not contain a slash: {prefix}; set QEMU_BINARY_PATH to the directory"
        );
    }
    Ok(prefix.to_owned())
}

fn describe(arch: &Arch, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Native { shadowed_by: None } => "native".to_owned(),
        Outcome::Native {
            shadowed_by: Some(entry),
        } => format!(
            "native, but {0} takes its programs; give them back: binfmt --uninstall {0}",
            shown(entry)
        ),
        Outcome::AlreadyInstalled { entry, kept: None } => {
            format!("already installed ({})", shown(entry))
        }
        Outcome::AlreadyInstalled {
            entry,
            kept: Some(why),
        } => format!("already installed ({}, kept: {why})", shown(entry)),
        Outcome::LeftTo { entry } => format!(
            "left to {}, which runs it; --force takes over",
            shown(entry)
        ),
        Outcome::Installed {
            version,
            micros,
            replaced,
        } => {
            let start = text::milliseconds(*micros);
            let replaced = if replaced.is_empty() {
                String::new()
            } else {
                format!(", replaced {}", join(replaced))
            };
            format!(
                "OK (qemu-{} {version}, {start}{replaced})",
                arch.interpreter
            )
        }
    }
}

fn join(names: &[OsString]) -> String {
    names
        .iter()
        .map(|name| shown(name))
        .collect::<Vec<_>>()
        .join(", ")
}

/// One line in the incumbent's form; the QEMU is the one that an install would take.
fn version(dir: &Path, prefix: &str) -> String {
    let emulators = ARCHES
        .iter()
        .map(|arch| dir.join(arch.interpreter_name(prefix)));
    let first = emulators
        .filter(|path| path.exists())
        .find_map(|path| emulator::version(&path).ok());
    let qemu = first.map_or_else(|| "none".to_owned(), |version| format!("v{version}"));
    format!("binfmt/{} qemu/{qemu}", env!("CARGO_PKG_VERSION"))
}

/// A reader that has gone away is no failure of ours.
fn ignore_closed(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

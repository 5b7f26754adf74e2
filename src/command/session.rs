//! One command line, carried out: uninstall, then install, then show, as far as each was asked for.
//!
//! stdout gets the JSON or the table that was asked for, nothing else; stderr a line per platform in the incumbent's
//! words. What is not in place is gathered for the last line.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::platform::{Platform, Selection, UnknownPart, UnknownPlatform, items};
use binfmt_magic::rule::Flags;

use crate::cli::{Cli, Environment, Format, YesNo};
use crate::emulator::Source;
use crate::kernel::mount::{self, MountPoint};
use crate::kernel::wording::{cause, shown};
use crate::output::streams::Streams;
use crate::output::text;
use crate::policy::export::export;
use crate::policy::install::{Order, Working};
use crate::policy::invocation::Invocation;
use crate::policy::remedy::Means;
use crate::policy::survey::{Survey, Verdict, may_be_native};

mod command;
mod dry_run;
mod explain;
mod hold;
mod install;
mod metrics;
mod persist;
mod show;
mod uninstall;
mod verify;

pub use command::NotRun;

/// Why a command line that parses is not carried out.
#[derive(Debug)]
pub enum Wrong {
    /// It makes no sense.
    Usage(anyhow::Error),
    /// A value that it, or the environment, has cannot be used.
    Value(anyhow::Error),
}

/// One command line, understood.
#[derive(Debug)]
pub struct Session<'a> {
    cli: &'a Cli,
    at: MountPoint,
    emulators: Source,
    prefix: String,
    flags: Flags,
    /// Whether what an install would keep is to be replaced as well.
    replace: bool,
    install: Option<Selection>,
    uninstall: Option<String>,
    /// Options whose lists are empty.
    empty: Vec<&'static str>,
    status: Option<Selection>,
    /// What `--verify` names.
    listed: Option<Selection>,
    /// What `--run` runs programs of.
    platform: Option<Platform>,
    /// What every suggested command repeats.
    invocation: Invocation,
    /// What is not in place.
    missing: Vec<String>,
    /// The same, of what there is a line about already.
    told: Vec<String>,
    /// Its line, and its sentence, of the failure that has no line yet: it may be the last line.
    held_back: Option<(String, String)>,
}

impl<'a> Session<'a> {
    /// Understands `cli` and `environment`. Touches nothing.
    ///
    /// # Errors
    /// [`Wrong`], with the reason.
    pub fn new(cli: &'a Cli, environment: &Environment) -> Result<Self, Wrong> {
        let selection = |list: &str| {
            let selection = Selection::parse(list).map_err(|e| Wrong::Usage(e.into()))?;
            let is_exclusion = |unknown: &&UnknownPlatform| unknown.item.starts_with(['-', '!']);
            // to go on without it would do what was not to be done
            match selection.unknown.iter().find(is_exclusion) {
                Some(unknown) => Err(Wrong::Usage(anyhow!("{}", describe_unknown(unknown)))),
                None => Ok(selection),
            }
        };
        let (install, uninstall) = (cli.install.join(","), cli.uninstall.join(","));
        let is_empty = |list: &str| items(list).next().is_none();
        // multiarch/qemu-user-static registers everything when told to be persistent, and by --reset
        let multiarch = cli.reset || (cli.persistent.is_some() && !cli.asks_otherwise());
        let install = match (cli.install.is_empty(), multiarch) {
            (false, false) if is_empty(&install) && !cli.hold && cli.persist.is_none() => None,
            (false, _) => Some(selection(&install)?),
            (true, true) => Some(selection("all")?),
            (true, false) => None,
        };
        let mut unknown = install.iter().flat_map(|selection| &selection.unknown);
        // waiting makes no name known
        if let Some(unknown) = unknown.next().filter(|_| cli.hold) {
            return Err(Wrong::Usage(anyhow!("{}", describe_unknown(unknown))));
        }
        let uninstall = Some(uninstall).filter(|list| !is_empty(list));
        // of a variable that is empty, as in the incumbent: nothing is asked for, which is no mistake
        let asks = |given: &[String]| !given.is_empty();
        let nothing = [
            ("--install", asks(&cli.install) && install.is_none()),
            ("--uninstall", asks(&cli.uninstall) && uninstall.is_none()),
        ];
        let empty: Vec<_> = nothing
            .iter()
            .filter(|(_, empty)| *empty)
            .map(|(option, _)| *option)
            .collect();
        let installs = install.is_some() || cli.verify.is_some() || asks(&cli.install);
        if cli.keep && !installs {
            return Err(Wrong::Usage(anyhow!(
                "--keep says how to install, and nothing is to be installed"
            )));
        }
        if cli.force && !installs && cli.uninstall.is_empty() && cli.export.is_none() {
            return Err(Wrong::Usage(anyhow!(
                "--force needs something to install, uninstall or export"
            )));
        }
        if cli.format == Some(Format::Prometheus) && cli.status.is_none() {
            return Err(Wrong::Usage(anyhow!(
                "--format prometheus is a form of --status alone"
            )));
        }
        // multiarch's option takes that word, and another one here is a directory
        if let Some(word) = cli.persist.as_ref().filter(|dir| is_yes_or_no(dir)) {
            return Err(Wrong::Usage(anyhow!(
                "--persist takes the host's root directory, as in --persist /host; multiarch's word is --persistent {}",
                word.display()
            )));
        }
        let status = cli.status.as_ref().and_then(Option::as_ref);
        let listed = cli.verify.as_ref().and_then(Option::as_ref);
        let default = || PathBuf::from(mount::DEFAULT);
        Ok(Self {
            cli,
            at: MountPoint {
                dir: cli
                    .mount
                    .as_ref()
                    .map_or_else(default, |dir| dir.canonicalize().unwrap_or(dir.clone())),
                explicit: cli.mount.is_some(),
            },
            emulators: source(environment).map_err(Wrong::Value)?,
            prefix: prefix(environment).map_err(Wrong::Value)?,
            flags: flags(cli, environment),
            replace: cli.force || cli.reset || environment.replace,
            empty,
            install,
            uninstall,
            status: status.map(|list| selection(list)).transpose()?,
            listed: listed.map(|list| selection(list)).transpose()?,
            platform: cli.run.as_deref().map(platform).transpose()?,
            invocation: verify::invocation(cli, environment),
            missing: Vec::new(),
            told: Vec::new(),
            held_back: None,
        })
    }

    /// Where emulators are taken from.
    #[must_use]
    pub fn emulators(&self) -> &Source {
        &self.emulators
    }

    /// What is put before file and entry names.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Carries it out. `None`: everything asked for is in place; else the sentence that says what is not, and what to
    /// do.
    ///
    /// # Errors
    /// When nothing, or nothing further, could be done.
    pub fn run(mut self, streams: &mut Streams) -> Result<Option<String>> {
        let done = self.carry_out(streams);
        if done.is_err() || !self.missing.is_empty() {
            self.let_go(streams);
        }
        done.map(|()| self.last_line(streams))
    }

    fn carry_out(&mut self, streams: &mut Streams) -> Result<()> {
        for option in &self.empty {
            streams.say(&format!(
                "binfmt: the list of {option} is empty, so it does nothing"
            ));
        }
        if self.cli.dry_run {
            return self.dry_run(streams);
        }
        if let Some(list) = self.uninstall.take() {
            self.uninstall(&list, streams)?;
        }
        if let Some(dir) = &self.cli.unpersist {
            self.unpersist(dir, streams)?;
        }
        let installed = match self.install.take() {
            Some(selection) if self.cli.hold => return self.hold(selection, streams),
            Some(selection) => {
                let installed = self.install(selection, streams)?;
                self.missing.extend(installed.caveat);
                Some(installed.survey)
            }
            None => None,
        };
        if self.cli.verify.is_some() {
            return self.verify(streams);
        }
        let survey = match installed {
            Some(survey) if !self.shows_health() => survey,
            _ => self.survey()?,
        };
        if let Some(dir) = &self.cli.export {
            self.export(&survey, dir, streams);
        }
        let shown = self.show(&survey, streams);
        streams.finish(shown)
    }

    /// A failure, as a `line` among others and as a `sentence` by itself. It is told once: by its line when another one follows, else
    /// by the last line.
    fn fails(&mut self, line: String, sentence: String, streams: &mut Streams) {
        self.let_go(streams);
        self.held_back = Some((line, sentence));
    }

    /// Tells a failure that was held back: it is not the last one, or others are not to wait for it.
    fn let_go(&mut self, streams: &mut Streams) {
        if let Some((line, sentence)) = self.held_back.take() {
            streams.say(&line);
            self.told.push(sentence);
        }
    }

    /// The last of what is not in place; what was not told of the others, before that.
    fn last_line(&mut self, streams: &mut Streams) -> Option<String> {
        let held_back = self.held_back.take().map(|(_, sentence)| sentence);
        let last = self.missing.pop().or(held_back);
        let last = last.or_else(|| self.told.pop())?;
        for missing in &self.missing {
            streams.say(&format!("binfmt: {missing}"));
        }
        Some(match self.missing.len() + self.told.len() {
            0 => last,
            more => format!("{last} (and {more} more, above)"),
        })
    }

    /// What an install of `selection` with this command line would be, except for the entries that it resets.
    fn order(&self, selection: Selection) -> Order {
        Order {
            selection,
            emulators: self.emulators.clone(),
            prefix: self.prefix.clone(),
            flags: self.flags,
            reset: false,
            force: self.cli.force,
            working: if self.cli.keep {
                Working::Keep
            } else if self.replace {
                Working::Replace
            } else {
                Working::Upgrade
            },
            credentials: self
                .cli
                .credentials
                .map(|credentials| credentials == YesNo::Yes),
        }
    }

    /// What remedies are judged by, and written with.
    fn means<'b>(&'b self, survey: &'b Survey) -> Means<'b> {
        let order = self.order(Selection::default());
        Means::new(survey, order, &self.invocation)
    }

    fn survey(&self) -> Result<Survey> {
        let table = mount::for_looking(&self.at)?;
        if self.shows_health() {
            return Survey::take_closely(table.as_ref());
        }
        Survey::take(table.as_ref())
    }

    fn shows_health(&self) -> bool {
        !self.cli.list && (self.cli.status.is_some() || self.cli.format == Some(Format::Text))
    }

    /// A variant that was asked for by name must be reached.
    fn check_levels(&mut self, selection: &Selection, survey: &Survey) {
        let lacking =
            |platform: &Platform| level_lacking(*platform, &survey.of(platform.arch).verdict);
        self.missing
            .extend(selection.named.iter().filter_map(lacking));
    }

    /// What a list, if there is one, means here: its `all` is what has a handler or an emulator.
    fn meant_by(&self, list: Option<&Selection>, survey: &Survey) -> Option<Vec<&'static Arch>> {
        let known = ARCHES
            .iter()
            .filter(|arch| survey.of(arch).is_known() || self.has_emulator(arch));
        list.map(|selection| selection.arches(known))
    }

    /// Where a list means `all`, and there is neither a handler nor an emulator to tell what that is.
    fn means_nothing(&self, list: Option<&Selection>, survey: &Survey) -> Option<String> {
        let known = |arch: &Arch| !may_be_native(arch) && survey.of(arch).is_known();
        let unknown = list?.all && !ARCHES.iter().any(known) && !self.has_emulators();
        unknown.then(|| {
            let dir = self.emulators.dir().display();
            format!(
                "there is no handler, and no emulators are in {dir}, so nothing says what all is; \
                 name the platforms, or {}",
                self.emulators.remedy()
            )
        })
    }

    fn has_emulators(&self) -> bool {
        self.emulators.has_any(&self.prefix)
    }

    fn has_emulator(&self, arch: &Arch) -> bool {
        let path = self.emulators.path_for(arch, &self.prefix);
        self.emulators.has(&path)
    }

    fn export(&mut self, survey: &Survey, dir: &Path, streams: &mut Streams) {
        let exported = match export(survey, dir, self.cli.force, false) {
            Ok(exported) => exported,
            Err(error) => return self.missing.push(format!("{error:#}")),
        };
        for (path, written) in exported.items {
            let path = shown(path.as_os_str());
            match written {
                Ok(fate) => streams.say(&text::filed("exporting", &path, fate)),
                Err(error) => {
                    streams.say(&format!("exporting: {path} {error:#}"));
                    self.told.push(format!("{path} is not written: {error:#}"));
                }
            }
        }
        self.missing.extend(exported.caveats);
    }
}

fn is_yes_or_no(dir: &Path) -> bool {
    ["yes", "no"].iter().any(|word| dir == Path::new(word)) && !dir.exists()
}

fn platform(name: &str) -> Result<Platform, Wrong> {
    let known = name.parse::<Platform>();
    known.map_err(|unknown| Wrong::Value(anyhow!("{}", describe_unknown(&unknown))))
}

/// What is wrong where a variant that was asked for by name (`linux/amd64/v4`) is not reached.
fn level_lacking(platform: Platform, verdict: &Verdict) -> Option<String> {
    let Verdict::Works { level, .. } = verdict else {
        return None;
    };
    let wanted = platform.variant?.strip_prefix('v')?.parse::<u8>().ok()?;
    (platform.arch.levels > 1 && wanted > *level).then(|| {
        format!("{platform} does not run: only level v{level} of it does; use a newer QEMU")
    })
}

fn describe_unknown(unknown: &UnknownPlatform) -> String {
    if unknown.part == UnknownPart::Name && unknown.closest.is_empty() {
        return format!("{unknown}; binfmt --list shows all that there are");
    }
    unknown.to_string()
}

/// Always pinned: without F no container finds the emulator. C brings O with it.
fn flags(cli: &Cli, environment: &Environment) -> Flags {
    let credentials = cli.credentials != Some(YesNo::No);
    Flags {
        preserve_argv0: environment.preserve_argv0,
        open_binary: credentials,
        credentials,
        fix_binary: true,
    }
}

/// What the environment names is a directory, also for a program that carries emulators.
fn source(environment: &Environment) -> Result<Source> {
    let Some(dir) = &environment.emulators else {
        return Ok(Source::own(&prefix(environment)?, environment.in_image)?);
    };
    let absolute = std::path::absolute(dir).map_err(|e| {
        let cause = cause(&e);
        anyhow!("QEMU_BINARY_PATH cannot be made absolute: {cause}; give an absolute path")
    })?;
    Ok(Source::directory(&absolute))
}

fn prefix(environment: &Environment) -> Result<String> {
    let prefix = environment
        .prefix
        .to_str()
        .context("QEMU_BINARY_PREFIX is not UTF-8; set another")?;
    if prefix.contains('/') {
        bail!(
            "QEMU_BINARY_PREFIX must not contain a slash: {prefix}; set QEMU_BINARY_PATH to the directory"
        );
    }
    Ok(prefix.to_owned())
}

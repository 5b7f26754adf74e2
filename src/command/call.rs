//! The state of one call: what every mode works with, and what has failed so far.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{Context, Result, anyhow, ensure};
use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::platform::{Platform, Selection};
use serde::Serialize;

use crate::cli::{Environment, Format, Mode, Request, Settings};
use crate::emulator::Source;
use crate::helper::probes::TRIAL;
use crate::kernel::file_system::within_limit;
use crate::kernel::mount::{self, MountPoint};
use crate::kernel::wording::cause;
use crate::output::Streams;
use crate::output::json::write_json;
use crate::output::text::Action;
use crate::policy::install::Order;
use crate::policy::remedy::{Issue, Remedies, all_lacking, level_lacking};
use crate::policy::survey::{Look, Survey};

pub(super) struct Call<'a, 's> {
    pub(super) settings: &'a Settings,
    pub(super) streams: &'a mut Streams<'s>,
    /// Where the kernel's table is mounted.
    pub(super) at: MountPoint,
    /// How this call would install, with an empty selection.
    pub(super) order: Order,
    /// What runs here, if nothing has changed since that was seen.
    survey: Option<Rc<Survey>>,
    /// What an install has seen, which need not be started again.
    known: Option<Rc<Survey>>,
    /// With `--dry-run`: the entries that would be removed before anything is surveyed.
    removed: Vec<OsString>,
    /// With `--dry-run`: the lines for stdout, in place of those for stderr.
    would: Option<Vec<String>>,
    /// Whether it has done something when it shows what runs here.
    pub(super) has_done: bool,
    /// Whether a survey starts each handler once more, to see what it does with credentials.
    closely: bool,
    /// The sentences of the failures that the user has been told about.
    told: Vec<String>,
    /// The latest failure, which the user has not been told about: its line among others, and its sentence as the last line.
    pending: Option<(String, String)>,
}

impl<'a, 's> Call<'a, 's> {
    /// Prepares the call that `request` asks for. Changes nothing.
    pub(super) fn new(request: &'a Request, streams: &'a mut Streams<'s>) -> Result<Self> {
        let settings = &request.settings;
        let prefix = prefix(&settings.environment)?;
        let order = Order {
            selection: Selection::default(),
            emulators: source(&settings.environment, &prefix)?,
            prefix,
            flags: settings.flags,
            reset: false,
            force: settings.force,
            working: settings.working,
            credentials: settings.credentials,
            invocation: settings.invocation.clone(),
        };
        let resolved = |dir: &PathBuf| within_limit(dir, || dir.canonicalize()).unwrap_or_else(|_| dir.clone());
        let shows_health = |mode: &Mode| match mode {
            Mode::Status(_) => true,
            Mode::Overview | Mode::Hold(..) => settings.format == Format::Text,
            _ => false,
        };
        Ok(Self {
            settings,
            streams,
            at: MountPoint {
                dir: settings.mount.as_ref().map_or_else(|| mount::DEFAULT.into(), resolved),
                explicit: settings.mount.is_some(),
            },
            order,
            survey: None,
            known: None,
            removed: Vec::new(),
            would: matches!(request.modes[..], [Mode::DryRun(_)]).then(Vec::new),
            has_done: !matches!(request.modes[..], [Mode::Overview]),
            closely: request.modes.iter().any(shows_health),
            told: Vec::new(),
            pending: None,
        })
    }

    /// Tells what was done, or in a dry run what would be.
    pub(super) fn tell(&mut self, action: &Action) {
        match &mut self.would {
            Some(lines) => lines.push(action.would()),
            None => self.streams.say(&action.said()),
        }
    }

    /// Records a failure. It is told once: as a line of its own if another failure follows, else by `sentence`, as the last line. In a
    /// dry run stdout has the line.
    pub(super) fn fails(&mut self, action: &Action, sentence: String) {
        if let Some(lines) = &mut self.would {
            lines.push(action.would());
            return self.shown(sentence);
        }
        self.tell_pending();
        self.pending = Some((action.said(), sentence));
    }

    /// Records a failure whose line is its sentence.
    pub(super) fn lacks(&mut self, sentence: String) {
        self.tell_pending();
        self.pending = Some((format!("binfmt: {sentence}"), sentence));
    }

    pub(super) fn lacks_each(&mut self, sentences: impl IntoIterator<Item = String>) {
        for sentence in sentences {
            self.lacks(sentence);
        }
    }

    /// Records a failure that the user has been told about: stdout shows it, or lines of a call that holds have said it.
    pub(super) fn shown(&mut self, sentence: String) {
        self.told.push(sentence);
    }

    /// Tells the latest failure now, since it may be long until the call ends.
    pub(super) fn tell_pending(&mut self) {
        if let Some((line, sentence)) = self.pending.take() {
            self.streams.say(&line);
            self.told.push(sentence);
        }
    }

    /// Forgets failures that were told and may yet be repaired.
    pub(super) fn forget(&mut self, sentences: &[String]) {
        self.told.retain(|told| !sentences.contains(told));
    }

    /// The last line of a call that failed, without the program's name.
    pub(super) fn last_line(mut self) -> Option<String> {
        let last = self.pending.take().map(|(_, sentence)| sentence).or_else(|| self.told.pop())?;
        Some(match self.told.len() {
            0 => last,
            more => format!("{last} (and {more} more, above)"),
        })
    }

    pub(super) fn order(&self, selection: Selection) -> Order {
        Order { selection, ..self.order.clone() }
    }

    pub(super) fn remedies<'b>(&self, survey: &'b Survey) -> Remedies<'b> {
        Remedies::new(survey, self.order.clone(), self.at.clone())
    }

    /// What runs here. Looks only once, unless something has changed since.
    pub(super) fn survey(&mut self) -> Result<Rc<Survey>> {
        if let Some(survey) = &self.survey {
            return Ok(Rc::clone(survey));
        }
        let table = mount::for_looking(&self.at)?;
        let known = self.known.as_ref().map_or(&[][..], |known| &known.statuses);
        let look = Look { setuid: self.closely, known, ..Look::default() };
        let mut survey = Survey::look(table.as_ref(), look)?;
        survey.forget(|entry| self.removed.contains(&entry.name));
        let survey = Rc::new(survey);
        self.survey = Some(Rc::clone(&survey));
        Ok(survey)
    }

    /// Whether what runs here is known.
    pub(super) fn has_surveyed(&self) -> bool {
        self.survey.is_some()
    }

    /// In a dry run: from now on, what runs here is what would run without the entries of these names.
    pub(super) fn forget_entries(&mut self, removed: Vec<OsString>) {
        self.removed.extend(removed);
    }

    /// Remembers what runs here after an install, for the modes that follow.
    pub(super) fn surveyed(&mut self, survey: &Rc<Survey>) {
        self.known = Some(Rc::clone(survey));
        self.survey = self.known.clone().filter(|_| !self.closely);
    }

    pub(super) fn take_would(&mut self) -> Vec<String> {
        self.would.take().unwrap_or_default()
    }

    pub(super) fn is_dry(&self) -> bool {
        self.would.is_some()
    }

    /// Shows `value` as JSON, or by `text`, which gets whether there are colours, and the columns that a table has to fit into.
    pub(super) fn show(
        &mut self,
        value: &impl Serialize,
        text: impl FnOnce(&mut dyn Write, bool, Option<usize>) -> io::Result<()>,
    ) -> Result<()> {
        let Streams { out, colour, width, .. } = &mut *self.streams;
        let width = width.filter(|_| !self.settings.verbose);
        let written = match self.settings.format {
            Format::Json => write_json(out, value),
            _ => text(out, *colour, width),
        };
        self.finish(written)
    }

    /// Ends the output that was `written`. If it cannot be written, nobody has been told what it shows.
    pub(super) fn finish(&mut self, written: io::Result<()>) -> Result<()> {
        self.streams.finish(written).inspect_err(|_| self.told.clear())
    }

    pub(super) fn has_emulator(&self, arch: &Arch) -> bool {
        self.order.emulators.has_for(arch, &self.order.prefix)
    }

    /// The architectures of a list, if there is one: its `all` means those that have a handler or an emulator.
    pub(super) fn listed(&self, list: Option<&Selection>, survey: &Survey) -> Option<Vec<&'static Arch>> {
        let known = ARCHES.iter().filter(|arch| survey.of(arch).is_known() || self.has_emulator(arch));
        list.map(|selection| selection.arches(known))
    }

    /// Says that `mode`, which had no list, has found nothing to check: an empty table does not tell whether a platform is missing.
    pub(super) fn say_empty(&mut self, mode: &str) {
        self.streams.say(&format!(
            "no QEMU handler is registered, so no emulator was checked; list the platforms to check: binfmt {mode} LIST"
        ));
    }

    /// A list whose `all` means nothing is a failure.
    pub(super) fn check_all(&mut self, list: Option<&Selection>, survey: &Survey) {
        let issue = list.and_then(|list| all_lacking(list, survey, &self.order));
        self.lacks_each(issue.map(in_words));
    }

    /// A level that was asked for by name (`linux/amd64/v4`) and is not reached is a failure.
    pub(super) fn check_levels(&mut self, selection: &Selection, survey: &Survey) {
        let issue = |platform: &Platform| level_lacking(*platform, &survey.of(platform.arch).verdict);
        self.lacks_each(selection.named.iter().filter_map(issue).map(in_words));
    }
}

/// What is wrong and what to do about it, as one sentence.
pub(super) fn in_words((why, remedy): Issue) -> String {
    format!("{why}; {remedy}")
}

/// The directory that the environment names, or the program's own emulators.
fn source(environment: &Environment, prefix: &str) -> Result<Source> {
    let Some(dir) = &environment.emulators else {
        return Ok(Source::own(prefix, environment.in_image)?);
    };
    let absolute = std::path::absolute(dir).map_err(|error| {
        let cause = cause(&error);
        anyhow!("QEMU_BINARY_PATH cannot be made absolute: {cause}; give an absolute path")
    })?;
    Ok(Source::directory(&absolute))
}

fn prefix(environment: &Environment) -> Result<String> {
    let prefix = environment.prefix.to_str().context("QEMU_BINARY_PREFIX is not UTF-8; set another")?;
    ensure!(
        !prefix.contains('/'),
        "QEMU_BINARY_PREFIX must not contain a slash: {prefix}; set QEMU_BINARY_PATH to the directory"
    );
    ensure!(
        !prefix.starts_with(TRIAL),
        "QEMU_BINARY_PREFIX must not begin with {TRIAL}, as entries of trials do; set another"
    );
    Ok(prefix.to_owned())
}

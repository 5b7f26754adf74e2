//! The steps of a call that changes handlers: it finds the table, mounts it, sees that it lasts, installs, persists, resets and
//! uninstalls.
//!
//! Each step is done, or, in a dry run, only noted: then the next one begins with what it would have left. It is one sequence for
//! both, so that a dry run tells what a call does.

use std::ffi::OsString;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Error, Result, anyhow, ensure};
use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::entry::Entry;
use binfmt_magic::platform::{Platform, UnknownPlatform, items};

use crate::kernel::mount::{self, Lifetime, MountError, MountPoint, Mounted};
use crate::kernel::table::Table;
use crate::policy::install::{InstallOutcome, Item, Order, dry_run, install, result_of};
use crate::policy::persist::{FileOutcome, Host, Staged};
use crate::policy::remedy::level_lacking;
use crate::policy::survey::{Look, PlatformStatus, Survey};
use crate::policy::trial;
use crate::policy::uninstall::{
    self, Recognition, Removal, mistake, recognise, recognised_by, refuses_reset, reset, uninstall,
};

/// What was done, or in a dry run would be.
#[derive(Debug)]
pub enum Event<'a> {
    /// In a dry run: the table would be mounted there.
    Mounts(&'a Path),
    Installed(&'a Item),
    /// No table is in reach, and programs run all the same: natively, or through a handler of the host.
    Runs(&'a Arch, bool),
    /// An item of the list is no platform.
    Unknown(&'a UnknownPlatform),
    Removed(&'a Removal),
    /// What became of a file that is persisted.
    Filed(String, Result<FileOutcome>),
    /// Nothing was written for it, and why.
    NotPersisted(&'a Arch, Error),
    /// It was not installed, since it is not persisted.
    NotTried(&'a Arch),
    /// Something else is not as asked for; what, and what to do.
    Lacks(String),
}

/// Is called with each event as soon as it is known.
pub type Tell<'a> = &'a mut dyn FnMut(Event);

/// What an install came to.
#[derive(Debug)]
pub struct Installed {
    pub items: Vec<Item>,
    /// What runs here afterwards.
    pub survey: Rc<Survey>,
    /// Why the handlers may end before the host does, and what to do.
    pub caveat: Option<String>,
}

/// How a call installs, besides its order.
#[derive(Debug, Default)]
pub struct Asked<'a> {
    /// The root directory of the host that gets copies of the emulators.
    pub persist: Option<&'a Path>,
    /// Whether the call stays to repair, and so needs a table that it can change.
    pub holds: bool,
}

/// One call's steps.
#[derive(Debug)]
pub struct Transaction {
    /// Where the table is, or is to be mounted.
    pub at: MountPoint,
    pub lifetime: Lifetime,
    /// In a dry run: what would run here after the steps so far.
    pub noted: Option<Rc<Survey>>,
}

/// The table that a step is about.
enum TargetTable {
    /// It is mounted and locked.
    Mounted(Mounted),
    /// In a dry run: what runs here; the table, if there is one; and whether it would be mounted.
    Noted(Rc<Survey>, Option<Table>, bool),
}

impl Transaction {
    /// Removes what `list` names. Fails when the table cannot be opened, locked, read or changed, and when the list excludes an
    /// unknown name.
    pub fn uninstall(&mut self, list: &str, force: bool, tell: Tell) -> Result<()> {
        let Some(table) = mount::for_uninstalling(&self.at)? else {
            return without_table(list, tell);
        };
        if let Some(survey) = &self.noted {
            let removals = note(&table, survey.table(), list, recognised_by(survey, force).as_ref())?;
            self.noted = Some(without(survey, &removals, tell));
            return Ok(());
        }
        // before the lock: other calls must not wait for a handler that hangs
        let mut recognition = recognise(&table.entries()?, list, force);
        let (lock, entries) = uninstall::lock(&table, list, &mut recognition)?;
        for removal in &uninstall(Some(&table), entries, list, recognition.as_ref())? {
            tell(Event::Removed(removal));
        }
        trial::clear(&table, &table.entries()?)?;
        mount::tidy(&table, &lock, &self.at)?;
        Ok(())
    }

    /// Installs. Fails when nothing can be done at all, or would remove everything and install nothing.
    pub fn install(&mut self, order: &Order, asked: &Asked, tell: Tell) -> Result<Installed> {
        ensure!(!order.reset || order.has_emulators(), order.no_emulators());
        let host = asked.persist.map(|dir| Host::at(dir, order, self.noted.is_some())).transpose()?;
        let target = self.open();
        // to hold, and to persist, a table is needed
        if let (Err(error), None, false) = (&target, &host, asked.holds) {
            if let Some(survey) = runs_already(error, order, tell)? {
                report(order, &[], &survey, tell);
                return Ok(Installed { items: Vec::new(), survey: Rc::new(survey), caveat: None });
            }
        }
        let target = target?;
        let mut caveat = None;
        if let TargetTable::Mounted(Mounted { table, held_by, .. }) = &target {
            if asked.holds {
                // even if nothing has to change now: later it may
                table.may_change()?;
            }
            caveat = mount::ensure_lifetime(&self.at, *held_by, self.lifetime);
        }
        let installed = match &host {
            Some(host) => target.persist(host, order, &self.at.dir, tell),
            None => target.install(order, &self.at.dir, tell),
        };
        let installed = installed.and_then(|(items, survey)| {
            let survey = if order.reset && refuses_reset(&order.selection, &items).is_none() {
                target.reset(order, &items, &survey, tell)?
            } else {
                survey
            };
            Ok((items, survey))
        });
        let tidied = match &target {
            TargetTable::Mounted(Mounted { table, lock, .. }) => mount::tidy(table, lock, &self.at),
            TargetTable::Noted(..) => Ok(false),
        };
        let (items, survey) = installed?;
        if items.is_empty() && order.selection.unknown.is_empty() && !order.has_emulators() {
            tell(Event::Lacks(order.no_emulators()));
        }
        report(order, &items, &survey, tell);
        // an empty table cannot lose handlers
        let caveat = caveat.filter(|_| matches!(tidied, Ok(false))).map(|caveat| format!("{caveat:#}"));
        if let Err(error) = tidied {
            tell(Event::Lacks(format!("{error:#}")));
        }
        let survey = Rc::new(survey);
        self.noted = self.noted.take().map(|_| Rc::clone(&survey));
        Ok(Installed { items, survey, caveat })
    }

    fn open(&self) -> Result<TargetTable> {
        Ok(match &self.noted {
            None => TargetTable::Mounted(mount::for_installing(&self.at)?),
            Some(survey) => {
                let mounts = mount::would_mount(&self.at)?;
                TargetTable::Noted(Rc::clone(survey), mount::for_looking(&self.at)?, mounts)
            }
        })
    }
}

impl TargetTable {
    fn install(&self, order: &Order, at: &Path, tell: Tell) -> Result<(Vec<Item>, Survey)> {
        let (survey, table, mounts) = match self {
            Self::Mounted(Mounted { table, .. }) => {
                return install(table, order, &[], &mut |item| tell(Event::Installed(item)));
            }
            Self::Noted(survey, table, mounts) => (survey, table, mounts),
        };
        let (items, after) = dry_run(table.as_ref(), order, survey)?;
        let registers = |(_, result): &Item| matches!(result, Ok(InstallOutcome::Installed { .. }));
        if items.iter().any(registers) {
            match table {
                _ if *mounts => tell(Event::Mounts(at)),
                Some(table) => table.may_change()?,
                None => {}
            }
        }
        for item in &items {
            tell(Event::Installed(item));
        }
        Ok((items, after))
    }

    /// Copies the emulators of `order` to the host, and installs them from there, so that the host registers the same at boot.
    fn persist(&self, host: &Host, order: &Order, at: &Path, tell: Tell) -> Result<(Vec<Item>, Survey)> {
        if let Some(why) = host.does_not_read() {
            tell(Event::Lacks(why));
        }
        let (table, entries) = match self {
            Self::Mounted(Mounted { table, .. }) => (Some(table), table.entries()?),
            Self::Noted(survey, ..) => (None, survey.table()),
        };
        let (emulators, copies) = host.copy_emulators(table, &entries, order)?;
        let (mut staged, mut failed, mut untold) = (Vec::new(), Vec::new(), None);
        for (arch, copy) in copies {
            match copy {
                Ok(copy) => {
                    tell(Event::Filed(host.shown(&copy.path), Ok(copy.fate)));
                    staged.push((arch, copy));
                }
                Err(error) => {
                    failed.push(arch);
                    tell(Event::NotTried(arch));
                    if let Some((arch, error)) = untold.replace((arch, error)) {
                        tell(Event::NotPersisted(arch, error));
                    }
                }
            }
        }
        let installed = if let Some((arch, error)) = untold.take_if(|_| order.reset) {
            let why = format!("{} is not persisted", arch.oci);
            Err(error.context(why).context("not reset, since not every emulator could be persisted"))
        } else {
            if let Some((arch, error)) = untold {
                tell(Event::NotPersisted(arch, error));
            }
            // the host may have an older copy of a failed one
            let selection = order.selection.clone().without(failed);
            self.install(&Order { selection, emulators, ..order.clone() }, at, tell)
        };
        match &installed {
            Ok((items, survey)) => write_rules(host, &staged, items, survey, tell),
            Err(_) => staged.iter().for_each(|(_, copy)| give_back(host, copy, tell)),
        }
        installed
    }

    /// Removes what is not of the install that came to `items` and `survey`.
    fn reset(&self, order: &Order, items: &[Item], survey: &Survey, tell: Tell) -> Result<Survey> {
        let Self::Mounted(Mounted { table, .. }) = self else {
            let removals = reset(None, &survey.entries, items, &order.prefix);
            return Ok(Rc::unwrap_or_clone(without(survey, &removals, tell)));
        };
        for removal in &reset(Some(table), &table.entries()?, items, &order.prefix) {
            tell(Event::Removed(removal));
        }
        Survey::look(Some(table), Look { known: &survey.statuses, ..Look::default() })
    }
}

/// A dry run of [`Transaction::uninstall`] alone, which looks at nothing that is not asked for. Returns the names of the entries that
/// would be removed.
pub fn dry_uninstall(at: &MountPoint, list: &str, force: bool, tell: Tell) -> Result<Vec<OsString>> {
    let Some(table) = mount::for_uninstalling(at)? else {
        without_table(list, tell)?;
        return Ok(Vec::new());
    };
    let entries = table.entries()?;
    let recognition = recognise(&entries, list, force);
    let removals = note(&table, entries, list, recognition.as_ref())?;
    for removal in &removals {
        tell(Event::Removed(removal));
    }
    Ok(removals.into_iter().flat_map(|removal| removal.removed).collect())
}

/// What an uninstall from a table with these entries would come to.
fn note(table: &Table, entries: Vec<Entry>, list: &str, recognition: Option<&Recognition>) -> Result<Vec<Removal>> {
    let removals = uninstall(None, entries, list, recognition)?;
    if removals.iter().any(|removal| !removal.removed.is_empty()) {
        table.may_change()?;
    }
    Ok(removals)
}

/// Tells removals of a dry run, and returns what they would leave.
fn without(survey: &Survey, removals: &[Removal], tell: Tell) -> Rc<Survey> {
    let mut after = survey.clone();
    for removal in removals {
        tell(Event::Removed(removal));
        after.forget(|entry: &Entry| removal.removed.contains(&entry.name));
    }
    Rc::new(after)
}

/// Tells what the outcomes of the single platforms do not show.
fn report(order: &Order, items: &[Item], survey: &Survey, tell: Tell) {
    let selection = &order.selection;
    for unknown in &selection.unknown {
        tell(Event::Unknown(unknown));
    }
    if order.reset {
        if let Some(why) = refuses_reset(selection, items) {
            tell(Event::Lacks(why));
        }
    }
    let lacking = |platform: &Platform| level_lacking(*platform, &survey.of(platform.arch).verdict);
    for (why, remedy) in selection.named.iter().filter_map(lacking) {
        tell(Event::Lacks(format!("{why}; {remedy}")));
    }
}

/// In a user namespace without a table of its own, or without the privilege to mount one, which `error` says, a platform may run
/// through the host's handlers. If all that `order` asks for does so, tells it, and returns what runs here. What only a table
/// could do is not passed over: then there is no such result.
fn runs_already(error: &Error, order: &Order, tell: Tell) -> Result<Option<Survey>> {
    let is_not_allowed = error.downcast_ref().is_some_and(MountError::is_not_allowed);
    if !is_not_allowed || order.reset {
        return Ok(None);
    }
    let survey = Survey::take(None)?;
    let known = ARCHES.iter().filter(|arch| order.emulators.has_for(arch, &order.prefix));
    let arches = order.selection.arches(known);
    let is_native = |arch: &Arch| survey.of(arch).is_native();
    let is_as_asked = |arch: &&Arch| survey.of(arch).works() && (order.credentials.is_none() || is_native(arch));
    if arches.is_empty() || !arches.iter().all(is_as_asked) {
        return Ok(None);
    }
    for arch in &arches {
        tell(Event::Runs(arch, is_native(arch)));
    }
    Ok(Some(survey))
}

/// In a user namespace without a table of its own nothing can be uninstalled. A platform that runs nevertheless, through a handler of
/// the host or of a table that is mounted elsewhere, is a failure.
fn without_table(list: &str, tell: Tell) -> Result<()> {
    let survey = Survey::take(None)?;
    for item in items(list) {
        tell(Event::Removed(&Removal { label: item.into(), failure: mistake(item), ..Removal::default() }));
        let named = item.parse::<Platform>().ok().map(|platform| platform.arch);
        let is_meant = |arch: &Arch| item == "all" || named.is_some_and(|named| named == arch);
        let mut statuses = survey.statuses.iter().filter(|status| is_meant(status.arch));
        if let Some(PlatformStatus { arch, .. }) = statuses.find(|status| status.works() && !status.is_native()) {
            let elsewhere = "of the host, or of a table that is mounted elsewhere; uninstall it there (--mount DIR)";
            tell(Event::Lacks(format!("{} runs through a handler {elsewhere}", arch.oci)));
        }
    }
    Ok(())
}

/// Takes back the copy of an emulator that no handler uses.
fn give_back(host: &Host, copy: &Staged, tell: Tell) {
    let outcome = match host.give_back(copy) {
        Ok(false) => return,
        Ok(true) => Ok(FileOutcome::TakenBack),
        Err(error) => Err(error.context("not taken back")),
    };
    tell(Event::Filed(host.shown(&copy.path), outcome));
}

/// Writes a rule for each handler that was seen to work with an emulator on the host, and takes the other emulators back.
fn write_rules(host: &Host, staged: &[(&'static Arch, Staged)], items: &[Item], survey: &Survey, tell: Tell) {
    for (arch, copy) in staged {
        let written = match result_of(items, arch) {
            Some(Ok(outcome)) => host.register_at_boot(arch, outcome, survey),
            // this failure is told already
            Some(Err(_)) => Ok(None),
            None => Err(anyhow!("there was nothing to install")),
        };
        if !matches!(written, Ok(Some(_))) {
            give_back(host, copy, tell);
        }
        match written {
            Ok(Some((path, fate, caveat))) => {
                tell(Event::Filed(path, Ok(fate)));
                if let Some(caveat) = caveat {
                    tell(Event::Lacks(caveat));
                }
            }
            Ok(None) => {}
            Err(error) => tell(Event::NotPersisted(arch, error)),
        }
    }
}

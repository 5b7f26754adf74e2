//! `--dry-run`: what the other modes would do, a line for each on stdout. Nothing is done: no write, no mount, no lock; and
//! `--persist`, `--unpersist` and `--export` start no emulator either.
//!
//! The exit status is 1 if something would plainly fail.

use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use anyhow::{Error, Result};
use binfmt_magic::entry::Entry;
use binfmt_magic::platform::Selection;
use binfmt_magic::rule::Rule;

use super::Call;
use super::install::{self, is_wanted, not_installed};
use super::persist::{PERSISTED, arches, changed, check_prefix, is_host, rules_of};
use super::uninstall::not_removed;
use crate::cli::{Install, Mode, describe_unknown};
use crate::helper::probes::Ran;
use crate::kernel::mount::{self, MountError};
use crate::kernel::table::Table;
use crate::kernel::wording::printable;
use crate::output::text;
use crate::policy::export;
use crate::policy::install::{InstallOutcome, Item, dry_run as dry_install};
use crate::policy::persist::{self, FileOutcome};
use crate::policy::survey::{Failure, Survey, Verdict};
use crate::policy::uninstall::{self, Removal};

/// Tells what `modes` would do. Each sees the table as the ones before would leave it.
pub(super) fn dry_run(call: &mut Call, modes: &[Mode]) -> Result<()> {
    let table = mount::for_looking(&call.at)?;
    let survey = Survey::take(table.as_ref())?;
    let mut dry = DryRun {
        call,
        table,
        survey,
        lines: Vec::new(),
    };
    for mode in modes {
        match mode {
            Mode::Uninstall(list) => dry.uninstall(list)?,
            Mode::Unpersist(dir) => dry.unpersist(dir)?,
            Mode::Install(asked) => {
                if let Some(dir) = &asked.persist {
                    dry.persist(dir, &asked.selection)?;
                }
                dry.install(asked)?;
            }
            Mode::Export(dir) => dry.export(dir)?,
            _ => {}
        }
    }
    let DryRun { call, lines, .. } = dry;
    let mut lines = lines.iter();
    let written = lines.try_for_each(|line| writeln!(call.streams.out, "{}", printable(line)));
    call.streams.finish(written)
}

struct DryRun<'c, 'a, 's> {
    call: &'c mut Call<'a, 's>,
    table: Option<Table>,
    /// What would run here by now.
    survey: Survey,
    /// What to print.
    lines: Vec<String>,
}

impl DryRun<'_, '_, '_> {
    fn uninstall(&mut self, list: &str) -> Result<()> {
        let entries = self.survey.table();
        let removals = uninstall::dry_run(entries.clone(), list, self.call.settings.force)?;
        let is_gone = |entry: &Entry| removals.iter().any(|removal| removal.has_removed(entry));
        if let Some(table) = self.table.as_ref().filter(|_| entries.iter().any(is_gone)) {
            table.may_change()?;
        }
        self.survey.entries.retain(|entry| !is_gone(entry));
        for status in &mut self.survey.statuses {
            if status.handler.as_ref().is_some_and(is_gone) {
                status.handler = None;
                status.ran = Ran::Itself;
                status.verdict = Verdict::Fails(Failure::NoHandler);
            }
        }
        self.removals(&removals);
        Ok(())
    }

    fn install(&mut self, asked: &Install) -> Result<()> {
        let order = install::order(self.call, asked)?;
        let mounts = mount::would_mount(&self.call.at);
        if let Err(MountError::UserNamespace(_) | MountError::Denied(_)) = &mounts {
            if let Some((_, said)) = install::runs_already(self.call, &order.selection)? {
                self.lines.extend(said.iter().map(|line| text::would(line)));
                return Ok(());
            }
        }
        let mounts = mounts?;
        let items = dry_install(self.table.as_ref(), &order, &self.survey)?;
        let registers = |(_, result): &Item| matches!(result, Ok(InstallOutcome::Installed { .. }));
        if items.iter().any(registers) {
            if mounts {
                let dir = self.call.at.dir.display();
                self.lines.push(format!("would mount: {dir}"));
            } else if let Some(table) = &self.table {
                table.may_change()?;
            }
        }
        for item in &items {
            let line = text::would(&text::installation(item.0, &item.1));
            self.line(line, not_installed(item));
        }
        for unknown in &order.selection.unknown {
            let line = format!("would not install: {} {unknown}", unknown.item);
            self.line(line, Some(describe_unknown(unknown)));
        }
        if order.reset {
            let wanted = |entry: &Entry| is_wanted(entry, &items, &order.prefix);
            let others = uninstall::dry_run_others(&self.survey.entries, wanted);
            self.removals(&others);
        }
        install::check_order(self.call, &order, &items);
        Ok(())
    }

    /// What an install of `selection` would copy to the host whose root directory is `dir`.
    fn persist(&mut self, dir: &Path, selection: &Selection) -> Result<()> {
        check_prefix(self.call)?;
        let boot = persist::boot_of(dir)?;
        self.call.lacks_each(boot.does_not_read());
        let mut files = Vec::new();
        for arch in arches(self.call, selection, &self.survey.entries)? {
            let order = &self.call.order;
            let name = arch.interpreter_name(&order.prefix);
            let emulators = Path::new(persist::EMULATORS);
            let rule = Rule::for_arch(arch, &order.prefix, emulators, order.flags);
            let path = Path::new(persist::RULES).join(rules_of(&rule.name));
            let emulator = order.emulators.open(&order.emulators.dir().join(&name));
            let read = emulator.map_err(Error::from).and_then(|mut file| {
                let mut bytes = Vec::new();
                file.rewind()?;
                file.read_to_end(&mut bytes)?;
                Ok((bytes, export::line(&rule)?))
            });
            self.call.lacks_each(boot.overrules(&path, &rule, arch));
            match read {
                Ok((bytes, line)) => {
                    files.push((emulators.join(&name), bytes));
                    files.push((path, [PERSISTED, &line].concat()));
                }
                Err(error) => {
                    let line = format!("would not persist: {} {error:#}", arch.oci);
                    let sentence = format!("{} is not persisted: {error:#}", arch.oci);
                    self.line(line, Some(sentence));
                }
            }
        }
        let fates = persist::would_write(dir, &files, self.call.settings.force)?;
        let paths = files
            .iter()
            .map(|(path, _)| persist::shown(dir, path).into());
        self.files("persisting", paths.zip(fates));
        Ok(())
    }

    fn unpersist(&mut self, dir: &Path) -> Result<()> {
        if is_host(dir) {
            let taken = persist::would_take_back(dir)?.into_iter();
            let taken = taken.map(|(path, fate)| (persist::shown(dir, &path).into(), fate));
            self.files("unpersisting", taken);
        }
        self.files("unpersisting", export::take_back(dir, true)?.into_iter());
        Ok(())
    }

    /// What would be written, of the handlers that there are by now.
    fn export(&mut self, dir: &Path) -> Result<()> {
        let exported = export::export(&self.survey, dir, self.call.settings.force, true)?;
        self.files("exporting", exported.items.into_iter());
        self.call.lacks_each(exported.caveats);
        Ok(())
    }

    fn files(&mut self, verb: &str, items: impl Iterator<Item = (PathBuf, Result<FileOutcome>)>) {
        for (path, fate) in items {
            let path = path.display().to_string();
            match fate {
                Ok(fate) => {
                    let failure = (fate == FileOutcome::Changed).then(|| changed(&path));
                    self.line(text::would(&text::filed(verb, &path, fate)), failure);
                }
                Err(error) => {
                    let line = text::would(&format!("{verb}: {path} {error:#}"));
                    self.line(line, Some(format!("{path}: {error:#}")));
                }
            }
        }
    }

    fn removals(&mut self, removals: &[Removal]) {
        for removal in removals {
            let line = text::would(&text::removal(removal));
            self.line(line, not_removed(removal));
        }
    }

    fn line(&mut self, line: String, failure: Option<String>) {
        self.lines.push(line);
        if let Some(sentence) = failure {
            self.call.shown(sentence);
        }
    }
}

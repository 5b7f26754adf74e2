//! The part of a session that makes an install outlast the next boot of a host, and takes that back.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use anyhow::{Error, Result, anyhow, bail};
use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::entry::Entry;
use binfmt_magic::platform::Selection;

use super::Session;
use crate::kernel::table::Table;
use crate::kernel::wording::shown;
use crate::output::streams::Streams;
use crate::output::text;
use crate::policy::export;
use crate::policy::install::{InstallOutcome, Item, Order, install, try_out};
use crate::policy::persist::{self, FileOutcome, Host, OnTrial};
use crate::policy::survey::{Survey, runs_natively, without_handlers};

mod plan;

/// What a file of rules begins with.
const PERSISTED: &[u8] = b"# written by binfmt --persist; systemd-binfmt registers it at boot\n";

/// An emulator that was copied to a host, and its architecture.
type Copied = (&'static Arch, OnTrial);
/// A file of rules, what became of it, and why it will not be what the host registers at boot.
type Ruled = (String, FileOutcome, Option<String>);

impl Session<'_> {
    /// The host of `--persist`, if it is one.
    pub(super) fn host(&self) -> Result<Option<Host>> {
        let Some(dir) = &self.cli.persist else {
            return Ok(None);
        };
        self.check_prefix()?;
        Host::with_rules_at_boot(dir, self.cli.force).map(Some)
    }

    fn check_prefix(&self) -> Result<()> {
        if self.prefix.contains(char::is_control) {
            bail!("QEMU_BINARY_PREFIX has a control character, which no file of rules may have");
        }
        Ok(())
    }

    /// Copies the emulators of `order` to the host, has it take them from there, and installs.
    pub(super) fn install_and_persist(
        &mut self,
        host: &Host,
        table: &Table,
        mut order: Order,
        streams: &mut Streams,
    ) -> Result<(Vec<Item>, Survey)> {
        self.missing.extend(host.boot()?.does_not_read());
        let (copied, mut failed) = self.copy_emulators(host, table, &order, streams)?;
        order.emulators = host.emulators()?;
        let copied = self.try_copies(host, table, &order, copied, &mut failed, streams)?;
        let all_copied = failed.is_empty();
        // of these it is told already; what of them the host has is an older one
        order.selection = order.selection.without(failed);
        let installed = if order.reset && !all_copied {
            Err(anyhow!(
                "not reset, since not every emulator could be persisted: {}",
                self.told.pop().unwrap_or_default()
            ))
        } else {
            install(table, &order, &[], &mut |item| self.report(item, streams))
        };
        match installed {
            Ok((items, survey)) => {
                self.write_rules(host, copied, &items, &survey, streams);
                Ok((items, survey))
            }
            Err(error) => {
                self.give_all_back(host, &copied, streams);
                Err(error)
            }
        }
    }

    /// Those that need an emulator.
    fn arches_to_persist(
        &self,
        selection: &Selection,
        entries: &[Entry],
    ) -> Result<Vec<&'static Arch>> {
        let known = ARCHES.iter().filter(|arch| self.has_emulator(arch));
        let mut arches = selection.arches(known);
        let seen = without_handlers(entries)?;
        arches.retain(|arch| !runs_natively(&seen, arch));
        Ok(arches)
    }

    /// Those that are on the host now, and those of which there is none. One that runs no programs is not copied: the next boot
    /// would have it.
    fn copy_emulators(
        &mut self,
        host: &Host,
        table: &Table,
        order: &Order,
        streams: &mut Streams,
    ) -> Result<(Vec<Copied>, Vec<&'static Arch>)> {
        let arches = self.arches_to_persist(&order.selection, &table.entries()?)?;
        let (mut copied, mut failed) = (Vec::new(), Vec::new());
        for (arch, tried) in try_out(table, order, &arches)? {
            let name = arch.interpreter_name(&self.prefix);
            let path = Path::new(persist::EMULATORS).join(&name);
            match tried.and_then(|()| self.copy_emulator(host, arch, &name)) {
                Ok(copy) => {
                    streams.say(&text::persisting(&host.shown(&path), copy.fate));
                    copied.push((arch, copy));
                }
                Err(error) => {
                    failed.push(arch);
                    self.is_left_alone(arch, &error, streams);
                }
            }
        }
        Ok((copied, failed))
    }

    /// Those of `copied` that also run programs from where they are now: also where a handler makes an install of no need, the next
    /// boot has to make it. The others are taken back, and join `failed`.
    fn try_copies(
        &mut self,
        host: &Host,
        table: &Table,
        order: &Order,
        copied: Vec<Copied>,
        failed: &mut Vec<&'static Arch>,
        streams: &mut Streams,
    ) -> Result<Vec<Copied>> {
        let arches: Vec<_> = copied.iter().map(|(arch, _)| *arch).collect();
        let tried = try_out(table, order, &arches);
        if tried.is_err() {
            self.give_all_back(host, &copied, streams);
        }
        let mut passed = Vec::new();
        for ((arch, tried), copy) in tried?.into_iter().zip(copied) {
            let Err(error) = tried else {
                passed.push(copy);
                continue;
            };
            self.give_all_back(host, &[copy], streams);
            failed.push(arch);
            self.is_left_alone(arch, &error, streams);
        }
        Ok(passed)
    }

    fn give_all_back(&self, host: &Host, copied: &[Copied], streams: &mut Streams) {
        for (arch, copy) in copied {
            if let Err(error) = self.give_back(host, arch, copy, streams) {
                // the error that led here is told last
                let name = &copy.name;
                streams.say(&format!("persisting: {name} not taken back: {error:#}"));
            }
        }
    }

    fn copy_emulator(&self, host: &Host, arch: &Arch, name: &str) -> Result<OnTrial> {
        let path = self.emulators.path_for(arch, &self.prefix);
        host.copy(name, &mut self.emulators.open(&path)?)
    }

    /// What is not installed either.
    fn is_left_alone(&mut self, arch: &Arch, error: &Error, streams: &mut Streams) {
        self.is_not_persisted(arch, error, streams);
        streams.say(&format!(
            "installing: {} not tried, since it is not persisted",
            arch.oci
        ));
    }

    /// Writes a rule for each handler that was seen to work with an emulator on the host, and gives the other emulators back.
    fn write_rules(
        &mut self,
        host: &Host,
        copied: Vec<Copied>,
        items: &[Item],
        survey: &Survey,
        streams: &mut Streams,
    ) {
        for (arch, copy) in copied {
            let item = items.iter().find(|(of, _)| *of == arch);
            let written = match item.map(|(_, result)| result) {
                Some(Ok(outcome)) => write_rule(host, arch, outcome, survey),
                // that it is not installed is told
                Some(Err(_)) => Ok(None),
                None => Err(anyhow!("there was nothing to install")),
            };
            let settled = match &written {
                Ok(Some(_)) => host.settle(&copy),
                _ => self.give_back(host, arch, &copy, streams),
            };
            match written.and_then(|written| settled.map(|()| written)) {
                Ok(written) => {
                    if let Some((path, fate, caveat)) = written {
                        streams.say(&text::persisting(&path, fate));
                        self.missing.extend(caveat);
                    }
                }
                Err(error) => self.is_not_persisted(arch, &error, streams),
            }
        }
    }

    /// Takes back the copy of an emulator, if it is one of this call.
    fn give_back(
        &self,
        host: &Host,
        arch: &Arch,
        copy: &OnTrial,
        streams: &mut Streams,
    ) -> Result<()> {
        let fate = host.give_back(copy, &self.rules_of(arch))?;
        if let Some(fate) = fate {
            let path = host.shown(&Path::new(persist::EMULATORS).join(&copy.name));
            streams.say(&text::persisting(&path, fate));
        }
        Ok(())
    }

    fn is_not_persisted(&mut self, arch: &Arch, error: &Error, streams: &mut Streams) {
        let failed = format!("{} is not persisted: {error:#}", arch.oci);
        streams.say(&format!("persisting: {} {error:#}", arch.oci));
        self.told.push(failed);
    }

    /// The file of rules of an architecture's entry.
    fn rules_of(&self, arch: &Arch) -> String {
        rules_of(OsStr::new(&arch.entry_name(&self.prefix)))
    }

    pub(super) fn unpersist(&mut self, dir: &Path, streams: &mut Streams) -> Result<()> {
        let mut fates = Vec::new();
        if is_host(dir) {
            let host = Host::at(dir, false)?;
            let taken = host.take_back()?.into_iter();
            fates.extend(taken.map(|(path, fate)| (host.shown(&path), fate)));
        }
        let exported = export::take_back(dir, false)?.into_iter();
        fates.extend(exported.map(|(path, fate)| (shown(path.as_os_str()), fate)));
        if fates.is_empty() {
            streams.say(&format!("unpersisting: {} nothing found", dir.display()));
        }
        for (path, fate) in fates {
            match fate {
                Ok(fate) => {
                    streams.say(&text::persisting(&path, fate));
                    if fate == FileOutcome::Changed {
                        self.told.push(plan::changed(&path));
                    }
                }
                Err(error) => {
                    streams.say(&format!("unpersisting: {path} {error:#}"));
                    self.told.push(format!("{path} stays: {error:#}"));
                }
            }
        }
        Ok(())
    }
}

/// Whether `dir` may be a host's root directory. One that rules were exported to is not.
fn is_host(dir: &Path) -> bool {
    fs::symlink_metadata(dir.join("etc")).is_ok()
}

/// `None` where the kernel needs no rule.
fn write_rule(
    host: &Host,
    arch: &Arch,
    outcome: &InstallOutcome,
    survey: &Survey,
) -> Result<Option<Ruled>> {
    match outcome {
        InstallOutcome::Native { .. } => return Ok(None),
        InstallOutcome::AlreadyInstalled {
            kept: Some(why), ..
        } => bail!("the handler that was there is kept: {why}"),
        InstallOutcome::LeftTo { entry } => {
            bail!("it is left to {}; --force takes over", shown(entry))
        }
        InstallOutcome::AlreadyInstalled { .. } | InstallOutcome::Installed { .. } => {}
    }
    let handler = survey.of(arch).handler.as_ref();
    let rule = handler.and_then(|entry| Some((entry, entry.to_rule()?)));
    let (entry, rule) = rule.ok_or_else(|| anyhow!("its handler is out of sight"))?;
    if !rule.interpreter.starts_with(persist::EMULATORS) {
        bail!(
            "it runs through {}, which is not of that host",
            rule.interpreter.display()
        );
    }
    let name = rules_of(&entry.name);
    let rules = [PERSISTED, &export::line(&rule)?].concat();
    let fate = host.register_at_boot(&name, &rules)?;
    let path = Path::new(persist::RULES).join(&name);
    let caveat = host.boot()?.overrules(&path, &rule, arch);
    Ok(Some((host.shown(&path), fate, caveat)))
}

/// The file of rules for an entry.
fn rules_of(entry: &OsStr) -> String {
    format!("{}.conf", entry.to_string_lossy())
}

//! The part of a session that makes an install outlast the next boot of a host, and takes that back.

use std::ffi::OsStr;
use std::path::Path;

use anyhow::{Result, anyhow};
use binfmt_magic::arch::{ARCHES, Arch};

use super::Session;
use crate::emulator;
use crate::export;
use crate::install::{Item, Order, Outcome};
use crate::persist::{self, Fate, Host};
use crate::streams::Streams;
use crate::survey::Survey;
use crate::text;

impl Session<'_> {
    /// Copies the emulators of `order` to the host, and has it take them from there.
    ///
    /// One that does not even say its version is not copied. Where nothing could be copied, that of an earlier call serves.
    pub(super) fn copy_emulators(
        &mut self,
        dir: &Path,
        order: &mut Order,
        streams: &mut Streams,
    ) -> Result<Host> {
        let host = Host::at(dir, self.cli.force)?;
        host.check()?;
        let before = Survey::take(None)?;
        let known = ARCHES.iter().filter(|arch| self.has_emulator(arch));
        let arches = order.selection.arches(known).into_iter();
        for arch in arches.filter(|arch| !before.of(arch).is_native()) {
            let name = arch.interpreter_name(&self.prefix);
            let path = Path::new(persist::EMULATORS).join(&name);
            match self.copy_emulator(&host, &name) {
                Ok(fate) => streams.say(&text::persisting(&host.shown(&path), fate)),
                Err(error) => {
                    let failed = format!("{} is not persisted: {error:#}", arch.oci);
                    streams.say(&format!("persisting: {error:#}"));
                    self.told.push(failed);
                }
            }
        }
        order.emulators = host.emulators()?;
        Ok(host)
    }

    fn copy_emulator(&self, host: &Host, name: &str) -> Result<Fate> {
        let path = self.emulators.dir().join(name);
        emulator::version(&path, &self.emulators)?;
        host.copy(name, &mut self.emulators.open(&path)?)
    }

    /// Writes a rule for each handler that works and has an emulator on the host, and takes back the emulators of those that do
    /// not work.
    pub(super) fn write_rules(
        &mut self,
        host: &Host,
        items: &[Item],
        survey: &Survey,
        streams: &mut Streams,
    ) {
        for (arch, result) in items {
            let written = match result {
                Ok(Outcome::Native { .. }) => continue,
                Ok(_) => write_rule(host, arch, survey).map(|(path, fate)| {
                    streams.say(&text::persisting(&path, fate));
                }),
                Err(_) => {
                    let (emulator, rules) = (
                        arch.interpreter_name(&self.prefix),
                        rules_of(OsStr::new(&arch.entry_name(&self.prefix))),
                    );
                    host.discard(&emulator, &rules)
                }
            };
            if let Err(error) = written {
                streams.say(&format!("persisting: {} {error:#}", arch.oci));
                let failed = format!("{} is not persisted: {error:#}", arch.oci);
                self.told.push(failed);
            }
        }
    }

    pub(super) fn unpersist(&mut self, dir: &Path, streams: &mut Streams) -> Result<()> {
        let host = Host::at(dir, self.cli.force)?;
        let fates = host.take_back()?;
        if fates.is_empty() {
            streams.say(&format!("unpersisting: {} nothing found", dir.display()));
        }
        for (path, fate) in fates {
            let path = host.shown(&path);
            streams.say(&text::persisting(&path, fate));
            if fate == Fate::Changed {
                let left =
                    format!("{path} was changed since --persist wrote it; remove it by hand");
                self.told.push(left);
            }
        }
        Ok(())
    }
}

fn write_rule(host: &Host, arch: &Arch, survey: &Survey) -> Result<(String, Fate)> {
    let handler = survey.of(arch).handler.as_ref();
    let rule = handler.and_then(|entry| Some((entry, entry.to_rule()?)));
    let (entry, rule) = rule.ok_or_else(|| anyhow!("its handler is out of sight"))?;
    if !entry.is_qemu() || !rule.interpreter.starts_with(persist::EMULATORS) {
        return Err(anyhow!(
            "it runs through {}, which is not of that host; --force takes over",
            rule.interpreter.display()
        ));
    }
    let name = rules_of(&entry.name);
    let fate = host.register_at_boot(&name, &export::rules(&rule)?)?;
    let path = Path::new(persist::RULES).join(&name);
    Ok((host.shown(&path), fate))
}

/// The file of rules for an entry.
fn rules_of(entry: &OsStr) -> String {
    format!("{}.conf", entry.to_string_lossy())
}

//! `--persist`, `--export` and `--unpersist`: what a host registers at its next boot.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use anyhow::{Error, Result, anyhow, bail, ensure};
use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::entry::Entry;
use binfmt_magic::platform::Selection;

use super::{Call, install};
use crate::kernel::table::Table;
use crate::kernel::wording::shown;
use crate::output::text;
use crate::policy::install::{InstallOutcome, Item, Order, install as install_all, try_out};
use crate::policy::persist::{self, FileOutcome, Host, OnTrial, export};
use crate::policy::survey::{Survey, runs_natively, without_handlers};

/// What a file of rules begins with.
pub(super) const PERSISTED: &[u8] = b"# written by binfmt --persist; systemd-binfmt registers it at boot\n";

/// An emulator that was copied to a host, and its architecture.
type Copied = (&'static Arch, OnTrial);
/// A file of rules, what became of it, and why the host will not register it at boot.
type Ruled = (String, FileOutcome, Option<String>);

/// The host whose root directory is `dir`, if there is one to persist to.
pub(super) fn host(call: &Call, dir: Option<&Path>) -> Result<Option<Host>> {
    let Some(dir) = dir else {
        return Ok(None);
    };
    check_prefix(call)?;
    Host::with_rules_at_boot(dir, call.settings.force).map(Some)
}

pub(super) fn check_prefix(call: &Call) -> Result<()> {
    ensure!(
        !call.order.prefix.contains(char::is_control),
        "QEMU_BINARY_PREFIX has a control character, which no file of rules may have; set another"
    );
    Ok(())
}

/// Copies the emulators of `order` to the host, and installs them from there, so that the host registers the same at boot.
pub(super) fn install_and_persist(
    call: &mut Call,
    host: &Host,
    table: &Table,
    mut order: Order,
) -> Result<(Vec<Item>, Survey)> {
    call.lacks_each(host.boot()?.does_not_read());
    let (copied, mut failed) = copy_emulators(call, host, table, &order)?;
    order.emulators = host.emulators()?;
    let copied = try_copies(call, host, table, &order, copied, &mut failed)?;
    let installed = if order.reset && !failed.is_empty() {
        Err(anyhow!(
            "not reset, since not every emulator could be persisted: {}",
            call.take_pending().unwrap_or_default()
        ))
    } else {
        // the host may have an older copy of a failed one
        order.selection = order.selection.without(failed);
        install_all(table, &order, &[], &mut |item| install::report(call, item))
    };
    match &installed {
        Ok((items, survey)) => write_rules(call, host, copied, items, survey),
        Err(_) => give_all_back(call, host, &copied),
    }
    installed
}

/// The architectures that need an emulator.
pub(super) fn arches(call: &Call, selection: &Selection, entries: &[Entry]) -> Result<Vec<&'static Arch>> {
    let known = ARCHES.iter().filter(|arch| call.has_emulator(arch));
    let mut arches = selection.arches(known);
    let seen = without_handlers(entries)?;
    arches.retain(|arch| !runs_natively(&seen, arch));
    Ok(arches)
}

/// Copies the emulators that work: the next boot would have one that does not. The second value: the architectures that failed.
fn copy_emulators(
    call: &mut Call,
    host: &Host,
    table: &Table,
    order: &Order,
) -> Result<(Vec<Copied>, Vec<&'static Arch>)> {
    let arches = arches(call, &order.selection, &table.entries()?)?;
    let (mut copied, mut failed) = (Vec::new(), Vec::new());
    for (arch, tried) in try_out(table, order, &arches)? {
        let name = arch.interpreter_name(&order.prefix);
        let path = Path::new(persist::EMULATORS).join(&name);
        let copy = tried.and_then(|()| {
            let emulator = order.emulators.path_for(arch, &order.prefix);
            host.copy(&name, &mut order.emulators.open(&emulator)?)
        });
        match copy {
            Ok(copy) => {
                let line = text::filed("persisting", &host.shown(&path), copy.fate);
                call.streams.say(&line);
                copied.push((arch, copy));
            }
            Err(error) => {
                failed.push(arch);
                is_left_alone(call, arch, &error);
            }
        }
    }
    Ok((copied, failed))
}

/// Those of `copied` that also run programs from where they are now. The others are taken back, and join `failed`. This trial is
/// needed even if a handler is in place: the next boot has to register the copy.
fn try_copies(
    call: &mut Call,
    host: &Host,
    table: &Table,
    order: &Order,
    copied: Vec<Copied>,
    failed: &mut Vec<&'static Arch>,
) -> Result<Vec<Copied>> {
    let arches: Vec<_> = copied.iter().map(|(arch, _)| *arch).collect();
    let tried = try_out(table, order, &arches);
    if tried.is_err() {
        give_all_back(call, host, &copied);
    }
    let mut passed = Vec::new();
    for ((arch, tried), copy) in tried?.into_iter().zip(copied) {
        let Err(error) = tried else {
            passed.push(copy);
            continue;
        };
        give_all_back(call, host, &[copy]);
        failed.push(arch);
        is_left_alone(call, arch, &error);
    }
    Ok(passed)
}

fn give_all_back(call: &mut Call, host: &Host, copied: &[Copied]) {
    for (arch, copy) in copied {
        if let Err(error) = give_back(call, host, arch, copy) {
            let path = host.shown(&Path::new(persist::EMULATORS).join(&copy.name));
            let line = format!("persisting: {path} not taken back: {error:#}");
            call.fails(line, format!("{path} is not taken back: {error:#}"));
        }
    }
}

/// Takes back the copy of an emulator, if it is one of this call.
fn give_back(call: &mut Call, host: &Host, arch: &Arch, copy: &OnTrial) -> Result<()> {
    let rules = rules_of(OsStr::new(&arch.entry_name(&call.order.prefix)));
    if let Some(fate) = host.give_back(copy, &rules)? {
        let path = host.shown(&Path::new(persist::EMULATORS).join(&copy.name));
        call.streams.say(&text::filed("persisting", &path, fate));
    }
    Ok(())
}

fn is_left_alone(call: &mut Call, arch: &Arch, error: &Error) {
    is_not_persisted(call, arch, error);
    let oci = arch.oci;
    let line = format!("installing: {oci} not tried, since it is not persisted");
    call.streams.say(&line);
}

pub(super) fn is_not_persisted(call: &mut Call, arch: &Arch, error: &Error) {
    call.fails(format!("persisting: {} {error:#}", arch.oci), format!("{} is not persisted: {error:#}", arch.oci));
}

/// Writes a rule for each handler that was seen to work with an emulator on the host, and takes the other emulators back.
fn write_rules(call: &mut Call, host: &Host, copied: Vec<Copied>, items: &[Item], survey: &Survey) {
    for (arch, copy) in copied {
        let item = items.iter().find(|(of, _)| *of == arch);
        let written = match item.map(|(_, result)| result) {
            Some(Ok(outcome)) => write_rule(host, arch, outcome, survey),
            // this failure is recorded already
            Some(Err(_)) => Ok(None),
            None => Err(anyhow!("there was nothing to install")),
        };
        let settled = match &written {
            Ok(Some(_)) => host.settle(&copy),
            _ => give_back(call, host, arch, &copy),
        };
        match written.and_then(|written| settled.map(|()| written)) {
            Ok(Some((path, fate, caveat))) => {
                call.streams.say(&text::filed("persisting", &path, fate));
                call.lacks_each(caveat);
            }
            Ok(None) => {}
            Err(error) => is_not_persisted(call, arch, &error),
        }
    }
}

/// `None`: the kernel needs no rule.
fn write_rule(host: &Host, arch: &Arch, outcome: &InstallOutcome, survey: &Survey) -> Result<Option<Ruled>> {
    match outcome {
        InstallOutcome::Native { .. } => return Ok(None),
        InstallOutcome::AlreadyInstalled { kept: Some(why), .. } => bail!("the handler that was there is kept: {why}"),
        InstallOutcome::LeftTo { entry } => {
            bail!("it is left to {}; --force takes over", shown(entry))
        }
        InstallOutcome::AlreadyInstalled { .. } | InstallOutcome::Installed { .. } => {}
    }
    let handler = survey.of(arch).handler.as_ref();
    let rule = handler.and_then(|entry| Some((entry, entry.to_rule()?)));
    let (entry, rule) = rule.ok_or_else(|| anyhow!("its handler cannot be seen"))?;
    if !rule.interpreter.starts_with(persist::EMULATORS) {
        bail!("it runs through {}, which is not on that host", rule.interpreter.display());
    }
    let name = rules_of(&entry.name);
    let rules = [PERSISTED, &export::line(&rule)?].concat();
    let fate = host.register_at_boot(&name, &rules)?;
    let path = Path::new(persist::RULES).join(&name);
    let caveat = host.boot()?.overrules(&path, &rule, arch);
    Ok(Some((host.shown(&path), fate, caveat)))
}

/// The name of the file of rules for an entry.
pub(super) fn rules_of(entry: &OsStr) -> String {
    format!("{}.conf", entry.to_string_lossy())
}

/// `--export`: writes rules for the handlers that work into `dir`.
pub(super) fn export(call: &mut Call, dir: &Path) -> Result<()> {
    let survey = call.survey()?;
    match export::export(&survey, dir, call.settings.force, call.is_dry()) {
        Ok(exported) => {
            report(call, "exporting", exported.items.into_iter().map(in_words));
            call.lacks_each(exported.caveats);
        }
        Err(error) => call.lacks(format!("{error:#}")),
    }
    Ok(())
}

/// `--unpersist`: removes what `--persist` or `--export` wrote to `dir`.
pub(super) fn unpersist(call: &mut Call, dir: &Path) -> Result<()> {
    let mut files = Vec::new();
    // a directory that rules were exported to is not a host's root directory
    if fs::symlink_metadata(dir.join("etc")).is_ok() {
        let taken = if call.is_dry() { persist::would_take_back(dir)? } else { Host::at(dir, false)?.take_back()? };
        let taken = taken.into_iter();
        files.extend(taken.map(|(path, outcome)| (persist::shown(dir, &path), outcome)));
    }
    let exported = export::take_back(dir, call.is_dry())?;
    files.extend(exported.into_iter().map(in_words));
    if files.is_empty() && !call.is_dry() {
        call.tell(&format!("unpersisting: {} nothing found", dir.display()));
    }
    report(call, "unpersisting", files);
    Ok(())
}

fn in_words((path, outcome): export::Item) -> (String, Result<FileOutcome>) {
    (shown(path.as_os_str()), outcome)
}

/// Tells what became of files. Somebody else's changes are a failure: such a file stays.
pub(super) fn report(call: &mut Call, verb: &str, files: impl IntoIterator<Item = (String, Result<FileOutcome>)>) {
    for (path, outcome) in files {
        match outcome {
            Ok(outcome) => {
                let line = text::filed(verb, &path, outcome);
                if outcome == FileOutcome::Changed {
                    let why = "was changed since it was written; remove it by hand";
                    call.fails(line, format!("{path} {why}"));
                } else {
                    call.tell(&line);
                }
            }
            Err(error) => call.fails(format!("{verb}: {path} {error:#}"), format!("{verb} {path} failed: {error:#}")),
        }
    }
}

//! Persisting: copies emulators into a host's file system, writes rules by which its init system registers them at every boot, and
//! removes exactly these files again.
//!
//! The host is named by its root directory; a container has that mounted somewhere. Before a file is written, its digest is added to
//! a record beside the emulators, in the form of `sha256sum`, so that a kill at any moment leaves no file that cannot be removed.
//! Files of others, and files that were changed since, are not touched unless the user forces it. A file that has the right bytes already counts as written.
//! A new file is written beside its place. An emulator gets into its place once it has passed a trial from beside it.
//!
//! See `binfmt.d(5)`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::entry::Entry;
use binfmt_magic::rule::{Flags, Rule};

use crate::emulator::{Source, identity};
use crate::kernel::namespace::with_root_directory;
use crate::kernel::table::Table;
use crate::kernel::wording::{self, cause};
use crate::policy::install::{InstallOutcome, Order, try_out};
use crate::policy::survey::{Survey, runs_natively, without_handlers};

mod boot;
pub mod export;
mod file;
mod lock;
mod owners;
mod record;

use boot::Boot;
use file::{FileAt, digest_of};
use lock::Locked;
use owners::{check_owner, check_owners, enter, enter_to_write};
// public for fuzz/
pub use record::Record;

/// Where the emulators are copied to. It is writable on hosts with a read-only `/usr`.
pub const EMULATORS: &str = "/var/lib/binfmt";
/// Where the rules are written.
pub const RULES: &str = "/etc/binfmt.d";
/// The first line of a file of rules.
const MARK: &[u8] = b"# written by binfmt --persist; systemd-binfmt registers it at boot\n";
const EXECUTABLE: u32 = 0o755;
const READABLE: u32 = 0o644;

/// A host, by its root directory. While this exists, no other call writes to the host.
#[derive(Debug)]
pub struct Host {
    locked: Locked,
    /// What it does at boot.
    boot: Boot,
    /// Whether to replace files that are not of an earlier call.
    force: bool,
}

/// A file that was written to the host, beside its place until [`Host::place`].
#[derive(Debug)]
pub struct Staged {
    /// Its place.
    pub path: PathBuf,
    /// Whether it was written, or was in its place already.
    pub fate: FileOutcome,
    digest: String,
    /// Whether there was a file in its place before.
    existed: bool,
}

impl Staged {
    /// Where it is now.
    fn current(&self) -> PathBuf {
        match self.fate {
            FileOutcome::Written => {
                let name = self.path.file_name().unwrap_or_default();
                self.path.with_file_name(file::beside(name, file::NEW))
            }
            _ => self.path.clone(),
        }
    }
}

/// An architecture, and its emulator on the host, or why it is not there.
pub type Copied = (&'static Arch, Result<Staged>);

/// A file of rules, what became of it, and why the host will not register it at boot.
pub type Ruled = (String, FileOutcome, Option<String>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileOutcome {
    Written,
    /// It was there already, with the same bytes.
    Unchanged,
    Removed,
    /// It was removed again, since no handler uses it.
    TakenBack,
    /// It did not exist any more.
    Gone,
    /// It was changed since, and stays.
    Changed,
}

impl Host {
    /// The host whose root directory is `dir`, if it reads rules at boot, and no other user can change what an install by
    /// `order` writes there. On any other, nothing is touched. With `dry`, nothing will be: what follows only finds out what
    /// would become of each file.
    pub fn at(dir: &Path, order: &Order, dry: bool) -> Result<Self> {
        check_prefix(order)?;
        let boot = boot_of(dir)?;
        let written = order.selection.arches(&ARCHES).into_iter().map(|arch| on_host(arch, order));
        let paths: Vec<PathBuf> = written.flat_map(|(rule, rules)| [rules, rule.interpreter]).collect();
        let root = enter_to_write(dir, &paths)?;
        let locked = if dry { Locked::dry(root, dir)? } else { Locked::new(root, dir)? };
        Ok(Self { locked, boot, force: order.force })
    }

    /// Why the rules are not read at boot, if so, and what to do.
    pub fn does_not_read(&self) -> Option<String> {
        self.boot.does_not_read()
    }

    /// The path by which this process finds `path` of the host.
    pub fn shown(&self, path: &Path) -> String {
        self.boot.shown(path)
    }

    /// Copies the emulators that `order` needs and that work, here and on the host: the next boot would also have those that do
    /// not. Returns the emulators that the host then has. `entries` are those of the table; without a `table`, none is tried.
    pub fn copy_emulators(
        &self,
        table: Option<&Table>,
        entries: &[Entry],
        order: &Order,
    ) -> Result<(Source, Vec<Copied>)> {
        let arches = arches(order, entries)?;
        // now, so that nothing is written if it fails
        let mut on_it = Source::below(self.locked.root.try_clone()?.into(), Path::new(EMULATORS));
        let rules: Vec<_> = arches.iter().map(|arch| (*arch, order.rule(arch))).collect();
        let tried = try_out(table, &order.emulators, &rules)?;
        let staged = rules.iter().zip(tried).map(|((arch, rule), tried)| {
            tried?;
            let bytes = order.emulators.read(&rule.interpreter)?;
            self.stage(on_host(arch, order).0.interpreter, &bytes, EXECUTABLE)
        });
        let staged: Vec<Result<Staged>> = staged.collect();
        let written = rules.into_iter().zip(&staged).filter_map(|(rule, staged)| Some((rule, staged.as_ref().ok()?)));
        if self.locked.is_dry() {
            let paths = written.clone().map(|((_, rule), staged)| (staged.path.clone(), rule.interpreter));
            on_it = on_it.with_copies(order.emulators.clone(), paths.collect());
        }
        let written = written.map(|((arch, rule), staged)| (arch, Rule { interpreter: staged.current(), ..rule }));
        let tried = try_out(table, &on_it, &written.collect::<Vec<_>>());
        if tried.is_err() {
            staged.iter().flatten().for_each(|staged| drop(self.give_back(staged)));
        }
        let mut tried = tried?.into_iter();
        let copied = staged.into_iter().map(|staged| {
            let staged = staged?;
            if let Err(error) = tried.next().context("it was not tried")? {
                self.give_back(&staged)?;
                return Err(error);
            }
            self.place(&staged).map(|()| staged)
        });
        let copied: Vec<_> = copied.collect();
        Ok((on_it, arches.into_iter().zip(copied).collect()))
    }

    /// Writes the rule of the handler for `arch`, to which an install came by this `outcome`. Fails when that does not run programs
    /// through an emulator on the host. `None`: the kernel needs no rule.
    pub fn register_at_boot(&self, arch: &Arch, outcome: &InstallOutcome, survey: &Survey) -> Result<Option<Ruled>> {
        match outcome {
            InstallOutcome::Native { .. } => return Ok(None),
            InstallOutcome::AlreadyInstalled { kept: Some(why), .. } => {
                bail!("the handler that was there is kept: {why}")
            }
            InstallOutcome::LeftTo { entry } => {
                bail!("it is left to {}; --force takes over", wording::shown(entry))
            }
            InstallOutcome::AlreadyInstalled { .. } | InstallOutcome::Installed { .. } => {}
        }
        let handler = survey.of(arch).handler.as_ref();
        let rule = handler.and_then(Entry::to_rule).context("its handler cannot be seen")?;
        if !rule.interpreter.starts_with(EMULATORS) {
            bail!("it runs through {}, which is not on that host", rule.interpreter.display());
        }
        let rule = for_any_kernel(rule);
        let staged = self.stage(rules_of(&rule.name), &lines(&rule)?, READABLE)?;
        self.place(&staged)?;
        let caveat = self.boot.overrules(&staged.path, &rule, arch);
        Ok(Some((self.shown(&staged.path), staged.fate, caveat)))
    }

    /// Writes a file beside its place, after its digest is in the record. Fails when a file of others is in its place.
    fn stage(&self, path: PathBuf, bytes: &[u8], mode: u32) -> Result<Staged> {
        let failed = format!("cannot write {}", self.boot.shown(&path));
        let stage = || -> Result<Staged> {
            check_owner(&self.boot.dir, &path)?;
            let (mut record, mut existed, mut fate) = (Record::read(&self.boot.dir)?, false, FileOutcome::Written);
            if let Ok(target) = FileAt::of(&path) {
                existed = target.id().is_ok();
                fate = target.replaceable(bytes, "--persist", self.force, |there| record.has(&path, there))?;
            }
            let staged = Staged { path, fate, digest: identity::digest(bytes), existed };
            if self.locked.is_dry() {
                file::check_place(&staged.path, mode == EXECUTABLE)?;
                return Ok(staged);
            }
            if fate == FileOutcome::Unchanged {
                return Ok(staged);
            }
            record.make_dirs(&staged.path)?;
            record.add(&staged.path, &staged.digest);
            let write = || {
                record.write()?;
                record.made_dirs()?;
                FileAt::to_write(&staged.path)?.write_beside(bytes, mode, file::NEW)
            };
            if let Err(error) = write() {
                // the first error is reported, not this one
                let _ = undo(&mut record, &staged);
                return Err(error);
            }
            Ok(staged)
        };
        self.inside(stage).context(failed)
    }

    /// Puts a file into its place. From then on, only this file is ours there.
    fn place(&self, staged: &Staged) -> Result<()> {
        let path = &staged.path;
        if self.locked.is_dry() {
            return Ok(());
        }
        let place = || {
            let target = FileAt::to_write(path)?;
            if staged.fate == FileOutcome::Written {
                target.put_in_place(file::NEW)?;
            }
            let mut record = Record::read(&self.boot.dir)?;
            record.add(path, &staged.digest);
            record.settle(path, &staged.digest);
            record.write()
        };
        let failed = || format!("cannot write {}", self.boot.shown(path));
        self.inside(place).inspect_err(|_| drop(self.give_back(staged))).with_context(failed)
    }

    /// Removes a file that is not needed, unless there was one in its place before. Whether it was in its place.
    pub fn give_back(&self, staged: &Staged) -> Result<bool> {
        if self.locked.is_dry() {
            return Ok(!staged.existed);
        }
        self.inside(|| undo(&mut Record::read(&self.boot.dir)?, staged))
    }

    /// Does `work` in the host's root directory, so that symbolic links lead to where they do on the host.
    fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        with_root_directory(&self.locked.root, work)?
    }
}

fn check_prefix(order: &Order) -> Result<()> {
    ensure!(
        !order.prefix.contains(char::is_control),
        "QEMU_BINARY_PREFIX has a control character, which no file of rules may have; set another"
    );
    ensure!(
        !export::is_hidden(OsStr::new(&order.prefix)),
        "QEMU_BINARY_PREFIX begins with a dot, and systemd-binfmt reads no file of rules whose name does; set another"
    );
    Ok(())
}

/// The architectures of `order` that need an emulator.
fn arches(order: &Order, entries: &[Entry]) -> Result<Vec<&'static Arch>> {
    let known = ARCHES.iter().filter(|arch| order.emulators.has_for(arch, &order.prefix));
    let mut arches = order.selection.arches(known);
    let seen = without_handlers(entries)?;
    arches.retain(|arch| !runs_natively(&seen, arch));
    Ok(arches)
}

/// The rule of a host for `arch`, and the path of its file there.
fn on_host(arch: &Arch, order: &Order) -> (Rule, PathBuf) {
    let rule = Rule::for_arch(arch, &order.prefix, Path::new(EMULATORS), order.visible());
    let path = rules_of(&rule.name);
    (rule, path)
}

/// The same without flag T: the next boot may bring an older kernel, which would refuse the line. In its place comes P, which every
/// emulator honours that honours T.
fn for_any_kernel(rule: Rule) -> Rule {
    if !rule.flags.transparent {
        return rule;
    }
    Rule { flags: Flags { transparent: false, preserve_argv0: true, ..rule.flags }, ..rule }
}

fn rules_of(name: &OsStr) -> PathBuf {
    Path::new(RULES).join(format!("{}.conf", name.to_string_lossy()))
}

fn lines(rule: &Rule) -> Result<Vec<u8>> {
    Ok([MARK, &export::line(rule)?].concat())
}

/// Removes the unchanged files that were written, rules before emulators, and the empty directories that were made for them. Files
/// that cannot be removed stay in the record. With `dry`, only finds out what would be removed.
pub fn take_back(dir: &Path, dry: bool) -> Result<Vec<(PathBuf, Result<FileOutcome>)>> {
    let root = enter(dir)?;
    check_owners(&root, dir, &[])?;
    let own = root.try_clone()?;
    let _locked = if dry { Locked::dry(own, dir)? } else { Locked::new(own, dir)? };
    with_root_directory(&root, || {
        let mut record = Record::read(dir)?;
        let mut fates = Vec::new();
        for path in record.paths().into_iter().rev() {
            let fate = if dry { fate_of(&record, &path) } else { remove_if_ours(&record, &path) };
            if fate.is_ok() {
                // a file that was changed is not ours any more
                record.forget(&path);
            }
            fates.push((path, fate));
        }
        if !dry {
            record.write_or_remove()?;
        }
        Ok(fates)
    })?
}

/// What the host whose root directory is `dir` does at boot. Fails when nothing there reads rules.
fn boot_of(dir: &Path) -> Result<Boot> {
    let boot = Boot::new(enter(dir)?.into(), dir);
    if boot.has_reader() {
        return Ok(boot);
    }
    bail!(
        "nothing in {} reads {RULES} at boot, neither systemd-binfmt nor OpenRC's binfmt; is that the host's root directory?",
        dir.display()
    )
}

/// The path by which this process finds `path` of the host whose root directory is `dir`.
pub fn shown(dir: &Path, path: &Path) -> String {
    let below = path.strip_prefix("/").unwrap_or(path);
    dir.join(below).display().to_string()
}

/// Removes what was staged, and the file in its place if there was none before. Updates the record. Whether there was
/// a file in its place.
fn undo(record: &mut Record, staged: &Staged) -> Result<bool> {
    let path = &staged.path;
    let mut removed = false;
    if staged.existed {
        FileAt::of(path)?.clear(file::NEW);
    } else {
        removed = remove_if_ours(record, path)? == FileOutcome::Removed;
    }
    match digest_of(path)? {
        Some(digest) => record.settle(path, &digest),
        None => record.forget(path),
    }
    record.write_or_remove()?;
    Ok(removed)
}

/// The outcome of taking back the file at `path`: [`FileOutcome::Removed`] if it is unchanged.
fn fate_of(record: &Record, path: &Path) -> Result<FileOutcome> {
    Ok(match digest_of(path)? {
        None => FileOutcome::Gone,
        Some(there) if record.has(path, &there) => FileOutcome::Removed,
        Some(_) => FileOutcome::Changed,
    })
}

/// Removes the file at `path` if it is ours, and the files that a killed call left beside it.
fn remove_if_ours(record: &Record, path: &Path) -> Result<FileOutcome> {
    let fate = fate_of(record, path)?;
    let Ok(target) = FileAt::of(path) else {
        return Ok(fate);
    };
    target.clear(file::NEW);
    if fate == FileOutcome::Removed {
        let removed = target.remove();
        removed.map_err(|errno| anyhow!("it cannot be removed: {}", cause(&errno.into())))?;
    }
    Ok(fate)
}

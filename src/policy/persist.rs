//! Persisting: copies emulators into a host's file system, writes rules by which its init system registers them at every boot, and
//! removes exactly these files again.
//!
//! The host is named by its root directory; a container has that mounted somewhere. Before a file is written, its digest is added to
//! a record beside the emulators, in the form of `sha256sum`, so that a kill at any moment leaves no file that cannot be removed.
//! Files of others, and files that were changed since, are not touched. A file that has the right bytes already counts as written.
//! A new file is written beside its place. An emulator gets into its place once it has passed a trial from there.
//!
//! See `binfmt.d(5)`.

use std::ffi::OsStr;
use std::fmt::Display;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::entry::Entry;
use binfmt_magic::rule::Rule;
use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::emulator::{Source, Stranger, identity, stranger_in};
use crate::kernel::namespace::with_root_directory;
use crate::kernel::table::Table;
use crate::kernel::wording::{self, cause, errno_of};
use crate::policy::install::{InstallOutcome, Order, try_out};
use crate::policy::survey::{Survey, runs_natively, without_handlers};

mod boot;
pub mod export;
mod file;
mod lock;
mod record;

use boot::Boot;
use file::{Spot, digest_of, find};
use lock::Locked;
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
    /// `order` writes there. On any other, nothing is touched.
    pub fn at(dir: &Path, order: &Order) -> Result<Self> {
        check_prefix(order)?;
        let boot = boot_of(dir)?;
        let written = order.selection.arches(&ARCHES).into_iter().map(|arch| on_host(arch, order));
        let paths: Vec<PathBuf> = written.flat_map(|(rule, rules)| [rules, rule.interpreter]).collect();
        let root = enter_to_write(dir, &paths)?;
        Ok(Self { locked: Locked::new(root, dir)?, boot, force: order.force })
    }

    /// Why the rules are not read at boot, if so, and what to do.
    pub fn does_not_read(&self) -> Option<String> {
        self.boot.does_not_read()
    }

    /// The path by which this process finds `path` of the host.
    pub fn shown(&self, path: &Path) -> String {
        self.boot.shown(path)
    }

    /// The emulators on the host.
    pub fn emulators(&self) -> io::Result<Source> {
        let root = self.locked.root.try_clone()?.into();
        Ok(Source::below(root, Path::new(EMULATORS)))
    }

    /// Copies the emulators that `order` needs and that work, here and on the host: the next boot would also have those that do
    /// not.
    pub fn copy_emulators(&self, table: &Table, order: &Order) -> Result<Vec<Copied>> {
        let arches = arches(order, &table.entries()?)?;
        let rules: Vec<_> = arches.iter().map(|arch| (*arch, order.rule(arch))).collect();
        let tried = try_out(table, &order.emulators, &rules)?;
        let staged = rules.iter().zip(tried).map(|((arch, rule), tried)| {
            tried?;
            let bytes = order.emulators.read(&rule.interpreter)?;
            self.stage(on_host(arch, order).0.interpreter, &bytes, EXECUTABLE)
        });
        let staged: Vec<Result<Staged>> = staged.collect();
        let written = rules.into_iter().zip(&staged).filter_map(|((arch, rule), staged)| {
            let interpreter = staged.as_ref().ok()?.current();
            Some((arch, Rule { interpreter, ..rule }))
        });
        let tried = try_out(table, &self.emulators()?, &written.collect::<Vec<_>>());
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
        Ok(arches.into_iter().zip(copied).collect())
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
            if let Ok(spot) = Spot::of(&path) {
                existed = spot.id().is_ok();
                fate = spot.replaceable(bytes, "--persist", self.force, |there| record.has(&path, there))?;
            }
            let staged = Staged { path, fate, digest: identity::digest(bytes), existed };
            if fate == FileOutcome::Unchanged {
                return Ok(staged);
            }
            record.make_dirs(&staged.path)?;
            record.add(&staged.path, &staged.digest);
            let write = || {
                record.write()?;
                record.made_dirs()?;
                Spot::to_write(&staged.path)?.write_beside(bytes, mode, file::NEW)
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
        let place = || {
            let spot = Spot::to_write(path)?;
            if staged.fate == FileOutcome::Written {
                spot.put_in_place(file::NEW)?;
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
        self.inside(|| undo(&mut Record::read(&self.boot.dir)?, staged))
    }

    /// Does `work` in the host's root directory, so that symbolic links lead to where they do on the host.
    fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        with_root_directory(&self.locked.root, work)?
    }
}

/// What an install would write to a host.
#[derive(Debug, Default)]
pub struct WouldPersist {
    /// The files, and what would become of each.
    pub files: Vec<(String, Result<FileOutcome>)>,
    /// The emulators that would not be copied, and why.
    pub failed: Vec<(&'static Arch, Error)>,
    /// Why the host will not register the rules at boot, and what to do.
    pub caveats: Vec<String>,
}

/// What an install by `order` would write to the host whose root directory is `dir`; `entries` are those of the table. Starts no
/// emulator, and changes nothing.
pub fn would_persist(dir: &Path, order: &Order, entries: &[Entry]) -> Result<WouldPersist> {
    check_prefix(order)?;
    let boot = boot_of(dir)?;
    let mut would = WouldPersist { caveats: boot.does_not_read().into_iter().collect(), ..WouldPersist::default() };
    let mut files = Vec::new();
    for arch in arches(order, entries)? {
        let (rule, path) = on_host(arch, order);
        would.caveats.extend(boot.overrules(&path, &rule, arch));
        let read = order.emulators.read(&order.rule(arch).interpreter).map_err(Error::from);
        match read.and_then(|bytes| Ok([(path, lines(&rule)?), (rule.interpreter, bytes)])) {
            Ok([rules, emulator]) => files.extend([emulator, rules]),
            Err(error) => would.failed.push((arch, error)),
        }
    }
    let paths: Vec<PathBuf> = files.iter().map(|(path, _)| path.clone()).collect();
    let root = enter_to_write(dir, &paths)?;
    would.files = with_root_directory(&root, || -> Result<_> {
        let record = Record::read(dir)?;
        let fate = |(path, bytes): &(PathBuf, Vec<u8>)| {
            let is_ours = |there: &str| record.has(path, there);
            let replaceable = |spot: Spot| spot.replaceable(bytes, "--persist", order.force, is_ours);
            (shown(dir, path), Spot::of(path).map_or(Ok(FileOutcome::Written), replaceable))
        };
        Ok(files.iter().map(fate).collect())
    })??;
    Ok(would)
}

fn check_prefix(order: &Order) -> Result<()> {
    ensure!(
        !order.prefix.contains(char::is_control),
        "QEMU_BINARY_PREFIX has a control character, which no file of rules may have; set another"
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
    let rule = Rule::for_arch(arch, &order.prefix, Path::new(EMULATORS), order.flags);
    let path = rules_of(&rule.name);
    (rule, path)
}

fn rules_of(name: &OsStr) -> PathBuf {
    Path::new(RULES).join(format!("{}.conf", name.to_string_lossy()))
}

fn lines(rule: &Rule) -> Result<Vec<u8>> {
    Ok([MARK, &export::line(rule)?].concat())
}

/// Opens the root directory `dir`, if what is at `paths` there can be written.
fn enter_to_write(dir: &Path, paths: &[PathBuf]) -> Result<File> {
    let root = enter(dir)?;
    check_owners(&root, dir, paths)?;
    check_links(&root, dir)?;
    Ok(root)
}

/// Removes the unchanged files that were written, rules before emulators, and the empty directories that were made for them. Files
/// that cannot be removed stay in the record. With `dry`, only finds out what would be removed.
pub fn take_back(dir: &Path, dry: bool) -> Result<Vec<(PathBuf, Result<FileOutcome>)>> {
    let root = enter(dir)?;
    check_owners(&root, dir, &[])?;
    let _locked = if dry { None } else { Some(Locked::new(root.try_clone()?, dir)?) };
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

/// Fails when another user owns, or can write to, a folder on the way to our files on the host whose root directory is `root`; the
/// record; a file that it names; or a file at `paths`. Such a user could have us write, or remove, any file of the host, and
/// root starts what is there. If there is no such user, nobody can change any of it between this look and its use.
fn check_owners(root: &File, dir: &Path, paths: &[PathBuf]) -> Result<()> {
    with_root_directory(root, || {
        check_owner(dir, &record::path())?;
        check_owner(dir, &Path::new(RULES).join("*.conf"))?;
        // a record that cannot be read is reported where it is used
        let recorded = Record::read(dir).map(|record| record.paths()).unwrap_or_default();
        paths.iter().chain(&recorded).try_for_each(|path| check_owner(dir, path))
    })?
}

/// The same of the file at `path` alone. `dir`: the name in messages of the root directory that this thread has.
fn check_owner(dir: &Path, path: &Path) -> Result<()> {
    let shown = || shown(dir, path);
    let stranger = stranger_in(path.parent().unwrap_or(path), path.file_name())
        .map_err(|errno| anyhow!("cannot see who owns {}: {}", shown(), cause(&errno.into())))?;
    refuse(stranger.map(|stranger| stranger.below(dir)), shown())
}

/// Fails when there is somebody else who decides what is at `path`.
fn refuse(stranger: Option<Stranger>, path: impl Display) -> Result<()> {
    stranger
        .map_or(Ok(()), |stranger| bail!("{path} can be replaced by {}; {}", stranger.named(), stranger.take_over()))
}

/// Fails when a folder of ours, or one on the way to it, is a symbolic link that leads nowhere: none can be made there.
fn check_links(root: &File, dir: &Path) -> Result<()> {
    let leads_nowhere = |path: &&Path| {
        find(path, OFlag::empty()).is_err_and(|errno| errno == Errno::ENOENT) && find(path, OFlag::O_NOFOLLOW).is_ok()
    };
    let mut folders = [EMULATORS, RULES].into_iter().flat_map(|folder| Path::new(folder).ancestors());
    match with_root_directory(root, || folders.find(leads_nowhere))? {
        Some(link) => bail!(
            "{} is a symbolic link to what does not exist on that host; make that directory there, or remove the link",
            shown(dir, link)
        ),
        None => Ok(()),
    }
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

/// Opens `dir`, and checks that it can be made the root directory.
fn enter(dir: &Path) -> Result<File> {
    let open = || -> io::Result<File> {
        let root = File::open(dir)?;
        with_root_directory(&root, || ())?;
        Ok(root)
    };
    open().map_err(|error| {
        let remedy = match errno_of(&error) {
            Errno::EPERM => "run it as root, or the container with --privileged".to_owned(),
            _ => format!("in a container, mount the host's there: docker run -v /:{}", dir.display()),
        };
        let (dir, cause) = (dir.display(), cause(&error));
        anyhow!("{dir} cannot be entered as a root directory: {cause}; {remedy}")
    })
}

/// Removes what was staged, and the file in its place if there was none before. Updates the record. Whether there was
/// a file in its place.
fn undo(record: &mut Record, staged: &Staged) -> Result<bool> {
    let path = &staged.path;
    let mut removed = false;
    if staged.existed {
        Spot::of(path)?.clear(file::NEW);
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
    let Ok(spot) = Spot::of(path) else {
        return Ok(fate);
    };
    spot.clear(file::NEW);
    if fate == FileOutcome::Removed {
        let removed = spot.remove();
        removed.map_err(|errno| anyhow!("it cannot be removed: {}", cause(&errno.into())))?;
    }
    Ok(fate)
}

//! Where an install takes emulators from: a directory, that of another root directory, or this program itself.
//!
//! The kernel looks up an interpreter's path in the root directory of the process that registers it, so registering is
//! done here too.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, anyhow};
use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::rule::{Flags, Rule};
use nix::errno::Errno;

use super::embedded::Embedded;
use super::missing::{Home, target_of};
use super::{EmulatorError, Unfit, cannot_mount, file, trust};
use crate::kernel::file_system::within_limit;
use crate::kernel::namespace::with_root_directory;
use crate::kernel::table::Table;
use crate::kernel::wording::cause;

/// The directory of emulators unless another is named; also the image's.
pub const DIR: &str = "/usr/bin/";

#[derive(Debug, Clone)]
pub struct Source {
    dir: PathBuf,
    from: From,
    home: Home,
    copies: Option<Arc<Copies>>,
    chosen: Option<Arc<Chosen>>,
}

/// The emulator of the one architecture that these are used for.
#[derive(Debug)]
struct Chosen {
    path: PathBuf,
    /// `None` if it is unfit.
    file: Option<File>,
}

/// Copies that are not made, in a dry run.
#[derive(Debug)]
struct Copies {
    of: Source,
    /// The path of each, and that of its original.
    paths: HashMap<PathBuf, PathBuf>,
}

#[derive(Debug, Clone)]
enum From {
    /// This process's own root directory.
    Here,
    /// Another one, which is open.
    Below(Arc<OwnedFd>),
    Program(Arc<Embedded>),
}

impl Source {
    /// The emulators in `dir`, which is absolute.
    pub fn directory(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), from: From::Here, home: Home::Named, copies: None, chosen: None }
    }

    /// Those in `dir` of the root directory `root`, which is open.
    pub fn below(root: OwnedFd, dir: &Path) -> Self {
        Self { from: From::Below(Arc::new(root)), ..Self::directory(dir) }
    }

    /// The same, also once this process has another root directory than now.
    pub fn of_this_root(self) -> Self {
        match (&self.from, File::open("/")) {
            (From::Here, Ok(root)) => Self { from: From::Below(Arc::new(root.into())), ..self },
            _ => self,
        }
    }

    /// The emulators embedded in this program, under names that begin with `prefix`; if it has none, those of [`DIR`],
    /// which are the image's if `in_image`. A program that cannot read its own file has none. Fails when that file was
    /// cut short.
    pub fn own(prefix: &str, in_image: bool) -> io::Result<Self> {
        let source =
            Self { home: if in_image { Home::Image } else { Home::System }, ..Self::directory(Path::new(DIR)) };
        match Embedded::in_this_program(prefix) {
            Ok(Some(embedded)) => Ok(Self { from: From::Program(Arc::new(embedded)), ..source }),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(error),
            _ => Ok(source),
        }
    }

    /// These, as if copies of emulators of `of` were here: each path here comes with that of its original.
    pub fn with_copies(self, of: Self, paths: HashMap<PathBuf, PathBuf>) -> Self {
        Self { copies: Some(Arc::new(Copies { of, paths })), ..self }
    }

    /// These, to be used for `arch` alone, with the emulator that there is now: later looks find the file that is judged here,
    /// whatever is at its path by then, and whatever this process sees of it from another namespace. The error says why it is
    /// unfit. An embedded emulator is not judged.
    pub fn choose(&self, arch: &Arch, prefix: &str) -> (Self, Option<EmulatorError>) {
        if matches!(self.from, From::Program(_)) {
            return (self.clone(), self.look(&self.path_for(arch, prefix)).err());
        }
        let path = self.path_for(arch, prefix);
        let (file, unfit) = match self.open(&path) {
            Ok(file) => (Some(file), None),
            Err(error) => (None, Some(error)),
        };
        (Self { chosen: Some(Arc::new(Chosen { path, file })), ..self.clone() }, unfit)
    }

    /// Where the emulator at `path` is really found.
    pub(crate) fn original<'a>(&'a self, path: &'a Path) -> (&'a Self, &'a Path) {
        let of = |copies: &'a Arc<Copies>| Some((&copies.of, copies.paths.get(path)?.as_path()));
        self.copies.as_ref().and_then(of).unwrap_or((self, path))
    }

    /// Whether they are in another root directory than this process's.
    pub(crate) fn is_elsewhere(&self) -> bool {
        matches!(self.from, From::Below(_))
    }

    /// What the paths of interpreters begin with.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path of the emulator for `arch`, whose name begins with `prefix`. Packages of static emulators also call it
    /// `qemu-aarch64-static`: that one is taken where the plain name is missing, or is no static emulator of this host.
    pub fn path_for(&self, arch: &Arch, prefix: &str) -> PathBuf {
        if let Some(chosen) = &self.chosen {
            return chosen.path.clone();
        }
        let plain = self.dir.join(arch.interpreter_name(prefix));
        let named_static = self.dir.join(arch.interpreter_name(prefix) + "-static");
        if self.has(&named_static) && self.fit(&plain).is_err() { named_static } else { plain }
    }

    /// What an install registers for `arch`; `prefix` is put before the names of the emulator and of the entry.
    pub fn rule_for(&self, arch: &Arch, prefix: &str, flags: Flags) -> Rule {
        Rule { interpreter: self.path_for(arch, prefix), ..Rule::for_arch(arch, prefix, &self.dir, flags) }
    }

    /// What the names of the embedded emulators begin with, if they are the source.
    pub fn embedded_prefix(&self) -> Option<&str> {
        match &self.from {
            From::Program(embedded) => Some(&embedded.prefix),
            _ => None,
        }
    }

    /// Whether something is at `path`, even a link that leads nowhere.
    pub fn has(&self, path: &Path) -> bool {
        let (source, path) = self.original(path);
        let has = || within_limit(path, || path.symlink_metadata().is_ok());
        match &source.from {
            From::Here => has(),
            From::Below(root) => with_root_directory(root, has).unwrap_or(false),
            From::Program(embedded) => embedded.has(name(path)),
        }
    }

    /// Whether nothing is at `path`. False if that cannot be seen.
    pub fn lacks(&self, path: &Path) -> bool {
        let (source, path) = self.original(path);
        let lacks = || within_limit(path, || matches!(path.try_exists(), Ok(false)));
        match &source.from {
            From::Here => lacks(),
            From::Below(root) => with_root_directory(root, lacks).unwrap_or(false),
            From::Program(embedded) => !embedded.has(name(path)),
        }
    }

    /// Opens the emulator at `path` after a look at it without running it: an executable, static, complete ELF program
    /// of this host. An embedded one is not looked at.
    pub fn open(&self, path: &Path) -> Result<File, EmulatorError> {
        self.fit(path).map_err(|unfit| {
            let unfit = match unfit {
                Unfit::Missing(_) => {
                    let name = name(path).to_string_lossy();
                    let prefix = name.split("qemu-").next().unwrap_or_default();
                    Unfit::Missing(self.home.remedy_for_one(&name, self.has_any(prefix)))
                }
                other => other,
            };
            EmulatorError { path: path.to_owned(), unfit }
        })
    }

    fn fit(&self, path: &Path) -> Result<File, Unfit> {
        if let Some(chosen) = &self.chosen {
            let file = chosen.file.as_ref().filter(|_| chosen.path == path);
            // what is there by now was not judged
            let file = file.ok_or_else(|| Unfit::Refused(Errno::ESTALE.into()))?;
            return file.try_clone().map_err(Unfit::Refused);
        }
        let (source, path) = self.original(path);
        let look = || within_limit(path, || file::look(path));
        match &source.from {
            From::Here => look(),
            From::Below(root) => {
                with_root_directory(root, look).unwrap_or_else(|errno| Err(Unfit::Refused(errno.into())))
            }
            From::Program(embedded) => embedded.open(name(path)).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => Unfit::Wrong(format!(
                    "is not embedded in this binfmt; build one that has it: make single TARGETS={},…; or set \
                             QEMU_BINARY_PATH to a directory that has it",
                    target_of(&name(path).to_string_lossy())
                )),
                _ => Unfit::Refused(error),
            }),
        }
    }

    /// The bytes of the emulator at `path`. Fails as [`Self::open`] does, and when they cannot be read.
    pub fn read(&self, path: &Path) -> Result<Vec<u8>, EmulatorError> {
        let mut bytes = Vec::new();
        let mut file = self.open(path)?;
        let read = within_limit(path, || file.read_to_end(&mut bytes));
        read.map_err(|error| EmulatorError { path: path.to_owned(), unfit: Unfit::Refused(error) })?;
        Ok(bytes)
    }

    /// Whether there is an emulator for `arch`, whose name begins with `prefix`.
    pub fn has_for(&self, arch: &Arch, prefix: &str) -> bool {
        self.has(&self.path_for(arch, prefix))
    }

    /// Whether there is an emulator, of whichever architecture.
    pub fn has_any(&self, prefix: &str) -> bool {
        ARCHES.iter().any(|arch| self.has_for(arch, prefix))
    }

    /// What to do where there is none.
    pub fn remedy(&self) -> String {
        self.home.remedy_for_all()
    }

    /// Whether it could be opened. No embedded emulator is unpacked for that.
    pub fn look(&self, path: &Path) -> Result<(), EmulatorError> {
        match &self.original(path).0.from {
            From::Program(embedded) if embedded.has(name(path)) => Ok(()),
            _ => self.open(path).map(drop),
        }
    }

    /// The file at `path` as it is, to be compared.
    pub fn file(&self, path: &Path) -> Option<File> {
        let (source, path) = self.original(path);
        let file = || within_limit(path, || trust::open_any(path).ok());
        match &source.from {
            From::Here => file(),
            From::Below(root) => with_root_directory(root, file).ok().flatten(),
            From::Program(embedded) => embedded.open(name(path)).ok(),
        }
    }

    /// Registers `rule`, whose interpreter is one of these. Errors: those of [`Table::register`]; when an embedded
    /// emulator cannot be unpacked, or its root directory cannot be entered.
    pub fn register(&self, table: &Table, rule: &Rule) -> Result<()> {
        let register = || within_limit(&rule.interpreter, || table.register(rule));
        let root = match &self.from {
            From::Here => return register(),
            From::Below(root) => root.clone(),
            From::Program(embedded) => {
                let path = &rule.interpreter;
                let unpacked = embedded.root(name(path));
                unpacked.map_err(|error| {
                    let (path, cause) = (path.display(), cause(&error));
                    let needs = if cannot_mount(&error) { "; this needs root and Linux 5.2" } else { "" };
                    anyhow!("{path} cannot be unpacked: {cause}{needs}")
                })?
            }
        };
        let registered = with_root_directory(root, register);
        registered.map_err(|errno| {
            let cause = cause(&errno.into());
            anyhow!("the emulator's root directory cannot be entered: {cause}")
        })?
    }
}

fn name(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

//! Whether a command that was found would run: an emulator's own words are few.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use binfmt_magic::arch::Arch;
use nix::errno::Errno;

use super::place::Place;
use super::{Context, Explanation, explain, machine_of};
use crate::kernel::mount;
use crate::kernel::wording::{cause, shown};
use crate::policy::remedy::Remedies;
use crate::policy::survey::may_be_native;

/// A command for the programs of one architecture.
#[derive(Debug)]
pub struct Command<'a> {
    /// Its path in its root directory.
    pub program: PathBuf,
    /// What its program is for, see [`machine_of`].
    pub arch: Option<&'static Arch>,
    /// The architecture that was asked for.
    wanted: &'static Arch,
    /// The directory that is its root directory, unless it is this process's own.
    root: Option<&'a Path>,
}

impl<'a> Command<'a> {
    pub fn new(place: &Place, program: PathBuf, wanted: &'static Arch, root: Option<&'a Path>) -> Self {
        Self { arch: machine_of(place, &program), program, wanted, root }
    }

    /// What is wrong if its root file system is of another architecture than asked for. The command tells which it is of, or the
    /// shell if the command is one of the host's programs: a root file system may have programs of this host. Fails when that
    /// directory cannot be opened.
    pub fn in_wrong_root(&self) -> Result<Option<String>> {
        let (Some(dir), Some(arch)) = (self.root, self.arch.filter(|arch| !self.is_wanted(arch))) else {
            return Ok(None);
        };
        let shell = machine_of(&Place::below(dir)?, Path::new("/bin/sh"));
        if may_be_native(arch) && shell.is_some_and(|shell| self.is_wanted(shell)) {
            return Ok(None);
        }
        Ok(Some(self.of_other_machine(&format!("{} in {}", self.name(), shown(dir.as_os_str())), arch)))
    }

    /// What is wrong if it would not run here, once its root directory is this process's own. `has_libraries`: whether emulators
    /// were told where to look for loaders. Fails as [`explain`] does.
    pub fn obstacle(&self, remedies: Remedies, has_libraries: bool) -> Result<Option<String>> {
        if let Some(arch) = self.arch {
            if !self.is_wanted(arch) && !remedies.survey.of(arch).works() {
                return Ok(Some(self.of_other_machine(&self.name(), arch)));
            }
        }
        let explanation = self.explained(remedies)?;
        let (Some(false), Some(reason)) = (explanation.runs, explanation.reason) else {
            return Ok(None);
        };
        if explanation.errno.is_none() && has_libraries {
            return Ok(None);
        }
        let remedy = if explanation.is_emulators_loader && self.root.is_none() {
            "give its root file system: --root DIR; or where its libraries are: QEMU_LD_PREFIX=DIR".to_owned()
        } else {
            explanation.remedy.unwrap_or_default()
        };
        Ok(Some(self.not_run(&format!("{reason}; {remedy}"))))
    }

    /// What is wrong if the kernel has refused it with this `errno`, which may not be all that there is to say.
    pub fn refused(&self, errno: Errno, remedies: Option<Remedies>) -> String {
        let explanation = remedies.and_then(|remedies| self.explained(remedies).ok());
        self.not_run(&match explanation {
            Some(Explanation { reason: Some(reason), remedy: Some(remedy), .. }) => format!("{reason}; {remedy}"),
            _ => cause(&errno.into()),
        })
    }

    fn explained(&self, remedies: Remedies) -> Result<Explanation> {
        let table = Path::new(mount::DEFAULT);
        let context = Context { remedies, table, root: None, entered: self.root, verbose: false };
        explain(&self.program, OsStr::new(""), &context)
    }

    fn not_run(&self, why: &str) -> String {
        format!("{} cannot be run: {why}", self.name())
    }

    fn of_other_machine(&self, program: &str, arch: &Arch) -> String {
        let (arch, wanted) = (arch.oci, self.wanted.oci);
        format!("{program} is a program for linux/{arch}, not for linux/{wanted}; name that: --run linux/{arch}")
    }

    fn name(&self) -> String {
        shown(self.program.as_os_str())
    }

    fn is_wanted(&self, arch: &Arch) -> bool {
        arch.interpreter == self.wanted.interpreter
    }
}

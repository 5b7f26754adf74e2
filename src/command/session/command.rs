//! The part of a session that runs a command with `--run`: it becomes the command, so that signals, the terminal and the
//! exit status are the command's own, and no process of ours is left. SIGPIPE and SIGCHLD begin with their default actions,
//! whatever the caller had set: Rust's runtime does not tell of the one, and [`crate::kernel::process`] needs the other.
//!
//! Where programs of the platform run already, they run as they do. Where they do not, the command gets a table of its
//! own, in a user namespace. Whoever may not enter one is told why.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, anyhow};
use binfmt_magic::arch::Arch;
use binfmt_magic::platform::{Platform, Selection};
use binfmt_magic::rule::Rule;
use nix::errno::Errno;
use nix::unistd::{getegid, geteuid};

use super::{Session, level_lacking};
use crate::emulator::Unfit;
use crate::explain::elf::LoadedBy;
use crate::explain::place::Place;
use crate::explain::problem::Culprit;
use crate::explain::{Explanation, Here, explain, machine_of};
use crate::helper::can_have_own_table;
use crate::helper::ids::{self, Ids};
use crate::helper::probes::Ran;
use crate::kernel::mount::{self, MountError, MountPoint};
use crate::kernel::process;
use crate::kernel::root_directory;
use crate::kernel::table::Table;
use crate::kernel::user_namespace::{self, Refused};
use crate::kernel::wording::{cause, shown};
use crate::output::streams::Streams;
use crate::policy::install::{self, install};
use crate::policy::survey::{self, Survey, Verdict, may_be_native};

mod search;

use search::{below, completed, search};

/// Why a command was not run.
#[derive(Debug)]
pub enum NotRun {
    /// Something that it needs is missing.
    Failed(Error),
    /// It is there, and cannot be run.
    CannotBeRun(Error),
    /// It is not there.
    NotFound(Error),
}

impl From<Error> for NotRun {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The command, found.
struct Found {
    program: PathBuf,
    arch: Option<&'static Arch>,
    /// With `--root`: what is searched, and where to start.
    inside: Option<(OsString, PathBuf)>,
}

impl Session<'_> {
    /// Becomes the command of `--run`, and so returns only if it does not.
    #[must_use]
    pub fn become_command(&self, streams: &mut Streams) -> NotRun {
        match self.run_command(streams) {
            Ok(never) => match never {},
            Err(not_run) => not_run,
        }
    }

    fn run_command(&self, streams: &mut Streams) -> Result<Infallible, NotRun> {
        let (Some(platform), Some(name)) = (self.platform, self.cli.command.first()) else {
            return Err(anyhow!("there is nothing to run").into());
        };
        if !Path::new("/proc/self").exists() {
            return Err(Error::from(MountError::NoProc).into());
        }
        let found = self.find(name)?;
        self.check_root(platform.arch, &found)?;
        let caller = (geteuid(), getegid());
        let (mut verdict, ran) = survey::of_one(platform.arch)?;
        let works = matches!(verdict, Verdict::Works { .. });
        let handler = handler_of(platform.arch, &ran).filter(|_| works);
        let own_table = !works || handler.is_some() && can_have_own_table();
        if own_table && handler.is_none() {
            self.check_emulator(platform.arch)?;
        }
        if own_table || self.cli.root.is_some() {
            self.enter_user_namespace(streams)?;
        }
        let mut survey = None;
        if own_table {
            let after = match &handler {
                Some(handler) => Self::copy(handler)?,
                None => self.install_for(platform)?,
            };
            verdict = after.of(platform.arch).verdict.clone();
            survey = Some(after);
        }
        if let Some(lacking) = level_lacking(platform, &verdict) {
            return Err(anyhow!(lacking).into());
        }
        if let Some(dir) = &self.cli.root {
            for link in root_directory::enter(dir).map_err(Error::from)? {
                streams.say(&format!(
                    "binfmt: {}/{link} is a symbolic link, so nothing is mounted there",
                    shown(dir.as_os_str())
                ));
            }
        }
        if survey.is_none() && !found.arch.is_some_and(may_be_native) {
            survey = Some(self.survey()?);
        }
        if let Some(survey) = &survey {
            self.check(&found, platform.arch, survey)?;
        }
        if own_table && self.cli.root.is_none() && !caller.0.is_root() {
            user_namespace::become_user(caller.0, caller.1).map_err(no_namespace)?;
        }
        self.exec(name, &found, survey)
    }

    /// Finds the command as the kernel, or execvp(3), would, in the root directory that it is to run in.
    fn find(&self, name: &OsStr) -> Result<Found, NotRun> {
        let path = env::var_os("PATH");
        let Some(dir) = &self.cli.root else {
            let (place, path) = (Place::here(), path.unwrap_or_else(|| completed(None)));
            let program = search(&place, name, &path, Path::new(""))?;
            return Ok(Found {
                arch: machine_of(&place, &program),
                program,
                inside: None,
            });
        };
        let place = Place::below(dir).map_err(Error::from)?;
        let path = completed(path.as_deref());
        let start = below(dir).unwrap_or_else(|| "/".into());
        let program = search(&place, name, &path, &start)?;
        Ok(Found {
            arch: machine_of(&place, &program),
            program,
            inside: Some((path, start)),
        })
    }

    /// A root file system of another architecture than named is told by the command, or by its shell where the command is
    /// the host's own: a root file system may well hold programs of this host.
    fn check_root(&self, wanted: &Arch, found: &Found) -> Result<(), NotRun> {
        let (Some(dir), Some(arch)) = (&self.cli.root, found.arch) else {
            return Ok(());
        };
        if is_same(arch, wanted) {
            return Ok(());
        }
        let place = Place::below(dir).map_err(Error::from)?;
        let shell = machine_of(&place, Path::new("/bin/sh"));
        if may_be_native(arch) && shell.is_some_and(|shell| is_same(shell, wanted)) {
            return Ok(());
        }
        Err(NotRun::CannotBeRun(anyhow!(
            "{} in {} is a program for linux/{2}, not for linux/{3}; name that: --run linux/{2}",
            shown(found.program.as_os_str()),
            shown(dir.as_os_str()),
            arch.oci,
            wanted.oci,
        )))
    }

    /// Whether others can replace the emulator, before a user namespace is entered in which they cannot be told apart.
    fn check_emulator(&self, arch: &Arch) -> Result<(), Error> {
        match self
            .emulators
            .look(&self.emulators.path_for(arch, &self.prefix))
        {
            Err(error) if matches!(error.unfit, Unfit::Replaceable(_)) => {
                Err(Error::from(error)
                    .context(format!("programs for linux/{} do not run", arch.oci)))
            }
            _ => Ok(()),
        }
    }

    fn enter_user_namespace(&self, streams: &mut Streams) -> Result<(), Error> {
        if self.cli.root.is_none() && !geteuid().is_root() {
            return user_namespace::enter_as_root().map_err(no_namespace);
        }
        let entered = ids::enter_as_root().map_err(no_namespace)?;
        if let (Ids::One(lack), Some(_)) = (entered, &self.cli.root) {
            streams.say(&format!(
                "binfmt: not all users and groups are known in there, and programs that become another one fail (apt: -o \
                 APT::Sandbox::User=root): {lack}"
            ));
        }
        Ok(())
    }

    /// Registers the platform's handler in a table that ends with the command.
    fn install_for(&self, platform: Platform) -> Result<Survey, Error> {
        let order = self.order(Selection {
            named: vec![platform],
            ..Selection::default()
        });
        let (items, survey) = install(&own_table()?, &order, &[], &mut |_| ())?;
        for (arch, result) in items {
            let refused = || format!("programs for linux/{} do not run", arch.oci);
            let _: install::InstallOutcome = result.with_context(refused)?;
        }
        Ok(survey)
    }

    /// Registers a handler in a table that ends with the command. It was seen to work.
    fn copy(handler: &Rule) -> Result<Survey, Error> {
        let table = own_table()?;
        table.register(handler)?;
        Survey::take(Some(&table))
    }

    fn exec(
        &self,
        name: &OsStr,
        found: &Found,
        survey: Option<Survey>,
    ) -> Result<Infallible, NotRun> {
        let mut environment: BTreeMap<OsString, OsString> = env::vars_os().collect();
        if let Some((path, start)) = &found.inside {
            let _ = env::set_current_dir(start);
            environment.insert("PATH".into(), path.clone());
            environment.insert("HOME".into(), "/root".into());
        }
        let variable = |(mut name, value): (OsString, OsString)| {
            name.push("=");
            name.push(value);
            name
        };
        let environment: Vec<_> = environment.into_iter().map(variable).collect();
        let args = [&[name.to_owned()], &self.cli.command[1..]].concat();
        let errno = process::become_program(&found.program, &args, &environment);
        let named = shown(found.program.as_os_str());
        let why = || anyhow!("{named} cannot be run: {}", cause(&errno.into()));
        if ![Errno::ENOEXEC, Errno::ENOENT, Errno::EACCES].contains(&errno) {
            return Err(NotRun::CannotBeRun(why()));
        }
        // the kernel's own word, if there is no better one
        let survey = survey.map_or_else(|| self.survey(), Ok);
        let explanation = survey.and_then(|survey| self.explained(&found.program, &survey));
        let told = explanation
            .ok()
            .and_then(|told| Some((told.problem?, told.remedy?)));
        Err(NotRun::CannotBeRun(
            told.map_or_else(why, |(problem, remedy)| {
                anyhow!("{named} cannot be run: {problem}; {remedy}")
            }),
        ))
    }

    /// What keeps the command from running is said before it is started, since an emulator's own words are few.
    fn check(&self, found: &Found, wanted: &Arch, survey: &Survey) -> Result<(), NotRun> {
        let named = shown(found.program.as_os_str());
        if let Some(arch) = found.arch {
            if !is_same(arch, wanted) && !survey.of(arch).works() {
                return Err(NotRun::CannotBeRun(anyhow!(
                    "{named} is a program for linux/{0}, not for linux/{1}; name that: --run linux/{0}",
                    arch.oci,
                    wanted.oci
                )));
            }
        }
        let explanation = self.explained(&found.program, survey)?;
        let Some(problem) = explanation.problem.filter(|problem| !problem.is_unknown()) else {
            return Ok(());
        };
        // an emulator that is told so looks for the loader elsewhere
        if problem.errno().is_none() && env::var_os("QEMU_LD_PREFIX").is_some() {
            return Ok(());
        }
        let is_loader = matches!(&problem.culprit, Culprit::Loader(_, LoadedBy::Emulator, _));
        let remedy = if is_loader && found.inside.is_none() {
            "give its root file system: --root DIR; or where its libraries are: QEMU_LD_PREFIX=DIR"
                .to_owned()
        } else {
            explanation.remedy.unwrap_or_default()
        };
        Err(NotRun::CannotBeRun(anyhow!(
            "{named} cannot be run: {problem}; {remedy}"
        )))
    }

    fn explained(&self, program: &Path, survey: &Survey) -> Result<Explanation, Error> {
        let here = Here {
            means: self.means(survey),
            enabled: true,
            table: Path::new(mount::DEFAULT),
            root: None,
        };
        Ok(explain(program, OsStr::new(""), &here)?)
    }
}

/// The handler that programs of `arch` ran through just now, with the very file `ran` pinned; `None` where it is out of sight. A copy
/// is nobody else's to uninstall.
fn handler_of(arch: &Arch, ran: &Ran) -> Option<Rule> {
    let Ran::Interpreter(file) = ran else {
        return None;
    };
    let at = MountPoint {
        dir: mount::DEFAULT.into(),
        explicit: false,
    };
    let entries = mount::for_looking(&at).ok()??.entries().ok()?;
    let header = arch.header();
    let mut takers = entries
        .iter()
        .filter(|entry| entry.takes(&header, OsStr::new(arch.qemu)));
    let mut rule = takers.next()?.to_rule()?;
    rule.flags.fix_binary = true;
    let id = |metadata: Metadata| (metadata.dev(), metadata.ino());
    let own = file.metadata().map(id).ok()?;
    if fs::metadata(&rule.interpreter).map(id).ok() != Some(own) {
        rule.interpreter = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
    }
    Some(rule)
}

fn own_table() -> Result<Table, Error> {
    mount::own().map_err(|error| match error {
        MountError::DeniedInUserNamespace(dir) => {
            Error::from(Refused(Errno::EPERM)).context(format!("cannot mount {}", dir.display()))
        }
        error => error.into(),
    })
}

fn no_namespace(errno: Errno) -> Error {
    Error::from(Refused(errno)).context("cannot enter a user namespace")
}

fn is_same(one: &Arch, other: &Arch) -> bool {
    one.interpreter == other.interpreter
}

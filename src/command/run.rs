//! `--run`: becomes a command, so that signals, the terminal and the exit status are the command's own, and no process of ours is
//! left. SIGPIPE and SIGCHLD begin with their default actions, whatever the caller had set: Rust's runtime ignores SIGPIPE without
//! telling what it was before, and [`crate::kernel::process`] needs SIGCHLD.
//!
//! If programs of the platform run already, the command runs through the same handler. If not, it gets a table of its own in a user
//! namespace. A caller who may not enter one is told why.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Error, Result};
use binfmt_magic::platform::Selection;
use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::unistd::{getegid, geteuid};

use super::{Call, NOT_RUN};
use crate::cli::Run;
use crate::explain::Command;
use crate::explain::place::Place;
use crate::helper::ids::{self, Entry};
use crate::kernel::file_system::within_limit;
use crate::kernel::mount::MountError;
use crate::kernel::process;
use crate::kernel::root_directory;
use crate::kernel::user_namespace::{self, Refused};
use crate::kernel::wording::{cause, shown};
use crate::policy::run::Way;
use crate::policy::survey::{Survey, may_be_native};

mod search;

use search::{below, completed, search};

/// Why a command that was found, or searched for, was not run, and the exit status. Any other error: what it needs is missing.
#[derive(Debug)]
pub(super) struct NotRun(pub(super) u8, pub(super) String);

impl fmt::Display for NotRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.1)
    }
}

impl std::error::Error for NotRun {}

/// Fails if something is `wrong`.
fn refuse(wrong: Option<String>) -> Result<()> {
    wrong.map_or(Ok(()), |why| Err(NotRun(NOT_RUN, why).into()))
}

struct Found<'a> {
    command: Command<'a>,
    /// With `--root`: the search path, and the directory to start in.
    inside: Option<(OsString, PathBuf)>,
}

/// Becomes the command, and so returns only if it does not.
pub(super) fn become_command(call: &mut Call, run: &Run) -> Result<Infallible> {
    if !process::has_own_proc() {
        return Err(MountError::no_proc().into());
    }
    let (platform, arch) = (run.platform, run.platform.arch);
    let found = find(run)?;
    refuse(found.command.in_wrong_root()?)?;
    let caller = (geteuid(), getegid());
    let order = call.order(Selection { named: vec![platform], ..Selection::default() });
    let way = Way::choose(&order, arch)?;
    let own_table = way.has_own_table();
    if own_table || run.root.is_some() {
        enter_user_namespace(call, run)?;
    }
    if run.root.is_some() && caller.0.is_root() {
        spare_cgroups(call);
    }
    let mut survey = way.prepare(&order, platform)?.map(Rc::new);
    if survey.is_none() && !found.command.arch.is_some_and(may_be_native) {
        survey = Some(call.survey()?);
    }
    // this program may not run there, nor is there what a remedy would install
    if let Some(dir) = &run.root {
        let inner = caller.0.is_root().then(Entry::prepare);
        call.order.emulators = call.order.emulators.clone().of_this_root();
        for missing in within_limit(dir, || root_directory::enter(dir, caller.0.is_root()))? {
            call.streams.say(&format!("binfmt: {}/{missing}", shown(dir.as_os_str())));
        }
        if let Some(inner) = inner {
            // locks the mounts of the root directory, before anything of it is looked at or started; shared memory of root's programs
            // is theirs
            let lack = inner.enter(CloneFlags::CLONE_NEWIPC).map_err(no_namespace)?;
            tell_of_ids(call, lack);
        }
    }
    if let Some(survey) = &survey {
        let has_libraries = env::var_os("QEMU_LD_PREFIX").is_some();
        refuse(found.command.obstacle(call.remedies(survey), has_libraries)?)?;
    }
    if own_table && run.root.is_none() && !caller.0.is_root() {
        user_namespace::become_user(caller.0, caller.1).map_err(no_namespace)?;
    }
    exec(call, run, &found, survey)
}

/// Finds the command as the kernel, or execvp(3), would, in the root directory that it is to run in.
fn find(run: &Run) -> Result<Found<'_>> {
    let path = env::var_os("PATH");
    let (place, path, inside) = match &run.root {
        None => (Place::here(), path.unwrap_or_else(|| completed(None)), None),
        Some(dir) => {
            let path = completed(path.as_deref());
            let start = below(dir).unwrap_or_else(|| "/".into());
            (Place::below(dir)?, path.clone(), Some((path, start)))
        }
    };
    let start = inside.as_ref().map_or(Path::new(""), |(_, start)| start);
    let program = search(&place, &run.name, &path, start)?;
    Ok(Found { command: Command::new(&place, program, run.platform.arch, run.root.as_deref()), inside })
}

fn enter_user_namespace(call: &mut Call, run: &Run) -> Result<()> {
    if run.root.is_none() && !geteuid().is_root() {
        return user_namespace::enter_as_root().map_err(no_namespace);
    }
    let lack = ids::enter_as_root().map_err(no_namespace)?;
    if run.root.is_some() {
        tell_of_ids(call, lack);
    }
    Ok(())
}

/// Keeps the command from changing the caller's control groups, or says that it can change them.
fn spare_cgroups(call: &mut Call) {
    if let Err(errno) = user_namespace::forbid_cgroup_namespaces() {
        let (limit, cause) = (user_namespace::MAX_CGROUP_NAMESPACES, cause(&errno.into()));
        call.streams
            .say(&format!("binfmt: the command can change the caller's control groups: cannot write {limit}: {cause}"));
    }
}

fn tell_of_ids(call: &mut Call, lack: Option<String>) {
    if let Some(lack) = lack {
        call.streams.say(&format!(
            "binfmt: not all users and groups are known in there, and programs that become another one fail (apt: -o \
             APT::Sandbox::User=root): {lack}"
        ));
    }
}

fn exec(call: &mut Call, run: &Run, found: &Found, survey: Option<Rc<Survey>>) -> Result<Infallible> {
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
    let args = [std::slice::from_ref(&run.name), &run.args].concat();
    let errno = process::become_program(&found.command.program, &args, &environment);
    // the kernel's errno is the answer only if nothing better is found
    let tells_more = [Errno::ENOEXEC, Errno::ENOENT, Errno::EACCES].contains(&errno);
    let survey = if tells_more { survey.or_else(|| call.survey().ok()) } else { None };
    let remedies = survey.as_deref().map(|survey| call.remedies(survey));
    Err(NotRun(NOT_RUN, found.command.refused(errno, remedies)).into())
}

fn no_namespace(errno: Errno) -> Error {
    Error::from(Refused(errno)).context("cannot enter a user namespace")
}

//! `--run`: becomes a command, so that signals, the terminal and the exit status are the command's own, and no process of ours is
//! left. SIGPIPE and SIGCHLD begin with their default actions, whatever the caller had set: Rust's runtime ignores SIGPIPE without
//! telling what it was before, and [`crate::kernel::process`] needs SIGCHLD.
//!
//! If programs of the platform run already, the command runs through the same handler. If not, it gets a table of its own in a user
//! namespace. A caller who may not enter one is told why.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Error, Result, bail};
use binfmt_magic::arch::Arch;
use binfmt_magic::platform::{Platform, Selection};
use binfmt_magic::rule::Rule;
use nix::errno::Errno;
use nix::unistd::{getegid, geteuid};

use super::call::level_lacking;
use super::{Call, NOT_RUN};
use crate::cli::Run;
use crate::emulator::Unfit;
use crate::explain::place::Place;
use crate::explain::{Explanation, Here, explain, machine_of};
use crate::helper::can_have_own_table;
use crate::helper::ids;
use crate::helper::probes::{Form, Ran};
use crate::kernel::mount::{self, MountError, MountErrorKind, MountPoint};
use crate::kernel::process;
use crate::kernel::root_directory;
use crate::kernel::table::Table;
use crate::kernel::user_namespace::{self, Refused};
use crate::kernel::wording::{cause, shown};
use crate::policy::install::install;
use crate::policy::survey::{self, Survey, Verdict, may_be_native};

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

fn cannot_be_run(why: String) -> Error {
    NotRun(NOT_RUN, why).into()
}

struct Found {
    program: PathBuf,
    arch: Option<&'static Arch>,
    /// With `--root`: the search path, and the directory to start in.
    inside: Option<(OsString, PathBuf)>,
}

/// Becomes the command, and so returns only if it does not.
pub(super) fn become_command(call: &mut Call, run: &Run) -> Result<Infallible> {
    if !Path::new("/proc/self").exists() {
        return Err(MountError::no_proc().into());
    }
    let (platform, arch) = (run.platform, run.platform.arch);
    let found = find(run)?;
    check_root(run, &found)?;
    let caller = (geteuid(), getegid());
    let (mut verdict, ran) = survey::of_one(arch, Form::Plain)?;
    let works = matches!(verdict, Verdict::Works { .. });
    let handler = own_copy(arch, &ran).filter(|_| works);
    let own_table = !works || handler.is_some() && can_have_own_table();
    if own_table && handler.is_none() {
        check_emulator(call, arch)?;
    }
    if own_table || run.root.is_some() {
        enter_user_namespace(call, run)?;
    }
    let mut survey = None;
    if own_table {
        let after = match &handler {
            Some(handler) => copy(handler)?,
            None => install_for(call, platform)?,
        };
        verdict = after.of(arch).verdict.clone();
        survey = Some(Rc::new(after));
    }
    if let Some(lacking) = level_lacking(platform, &verdict) {
        bail!(lacking);
    }
    if let Some(dir) = &run.root {
        for missing in root_directory::enter(dir)? {
            call.streams.say(&format!("binfmt: {}/{missing}", shown(dir.as_os_str())));
        }
    }
    if survey.is_none() && !found.arch.is_some_and(may_be_native) {
        survey = Some(call.survey()?);
    }
    if let Some(survey) = &survey {
        check(call, run, &found, arch, survey)?;
    }
    if own_table && run.root.is_none() && !caller.0.is_root() {
        user_namespace::become_user(caller.0, caller.1).map_err(no_namespace)?;
    }
    exec(call, run, &found, survey)
}

/// Finds the command as the kernel, or execvp(3), would, in the root directory that it is to run in.
fn find(run: &Run) -> Result<Found> {
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
    Ok(Found { arch: machine_of(&place, &program), program, inside })
}

/// Refuses a root file system of another architecture than named. The command tells which it is of, or its shell if the command is
/// one of the host's programs: a root file system may have programs of this host.
fn check_root(run: &Run, found: &Found) -> Result<()> {
    let wanted = run.platform.arch;
    let (Some(dir), Some(arch)) = (&run.root, found.arch) else {
        return Ok(());
    };
    if is_same(arch, wanted) {
        return Ok(());
    }
    let shell = machine_of(&Place::below(dir)?, Path::new("/bin/sh"));
    if may_be_native(arch) && shell.is_some_and(|shell| is_same(shell, wanted)) {
        return Ok(());
    }
    let named = format!("{} in {}", shown(found.program.as_os_str()), shown(dir.as_os_str()));
    Err(of_other_machine(&named, arch, wanted))
}

fn of_other_machine(program: &str, arch: &Arch, wanted: &Arch) -> Error {
    let (arch, wanted) = (arch.oci, wanted.oci);
    cannot_be_run(format!(
        "{program} is a program for linux/{arch}, not for linux/{wanted}; name that: --run linux/{arch}"
    ))
}

/// Refuses an emulator that others can replace, before a user namespace is entered in which they cannot be told apart.
fn check_emulator(call: &Call, arch: &Arch) -> Result<()> {
    let path = call.order.emulators.path_for(arch, &call.order.prefix);
    match call.order.emulators.look(&path) {
        Err(error) if matches!(error.unfit, Unfit::Replaceable(_)) => Err(Error::from(error).context(do_not_run(arch))),
        _ => Ok(()),
    }
}

fn do_not_run(arch: &Arch) -> String {
    format!("programs for {} do not run", arch.platform())
}

fn enter_user_namespace(call: &mut Call, run: &Run) -> Result<()> {
    if run.root.is_none() && !geteuid().is_root() {
        return user_namespace::enter_as_root().map_err(no_namespace);
    }
    let entered = ids::enter_as_root().map_err(no_namespace)?;
    if let (Some(lack), Some(_)) = (entered, &run.root) {
        call.streams.say(&format!(
            "binfmt: not all users and groups are known in there, and programs that become another one fail (apt: -o \
             APT::Sandbox::User=root): {lack}"
        ));
    }
    Ok(())
}

/// Registers the platform's handler in a table that ends with the command.
fn install_for(call: &Call, platform: Platform) -> Result<Survey> {
    let order = call.order(Selection { named: vec![platform], ..Selection::default() });
    let (items, survey) = install(&own_table()?, &order, &[], &mut |_| ())?;
    for (arch, result) in items {
        result.with_context(|| do_not_run(arch))?;
    }
    Ok(survey)
}

/// Registers a handler, which was seen to work, in a table that ends with the command.
fn copy(handler: &Rule) -> Result<Survey> {
    let table = own_table()?;
    table.register(handler)?;
    Survey::take(Some(&table))
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
    let errno = process::become_program(&found.program, &args, &environment);
    let named = shown(found.program.as_os_str());
    let mut why = format!("{named} cannot be run: {}", cause(&errno.into()));
    if [Errno::ENOEXEC, Errno::ENOENT, Errno::EACCES].contains(&errno) {
        // the kernel's errno is the answer only if nothing better is found
        let survey = survey.map_or_else(|| call.survey(), Ok);
        let explanation = survey.and_then(|survey| explained(call, run, &found.program, &survey));
        if let Ok(Explanation { reason: Some(reason), remedy: Some(remedy), .. }) = explanation {
            why = format!("{named} cannot be run: {reason}; {remedy}");
        }
    }
    Err(cannot_be_run(why))
}

/// Refuses a command that would not run, and says why: an emulator's own words are few.
fn check(call: &Call, run: &Run, found: &Found, wanted: &Arch, survey: &Survey) -> Result<()> {
    let named = shown(found.program.as_os_str());
    if let Some(arch) = found.arch {
        if !is_same(arch, wanted) && !survey.of(arch).works() {
            return Err(of_other_machine(&named, arch, wanted));
        }
    }
    let explanation = explained(call, run, &found.program, survey)?;
    let (Some(false), Some(reason)) = (explanation.runs, explanation.reason) else {
        return Ok(());
    };
    // this variable makes an emulator look for the loader elsewhere
    if explanation.errno.is_none() && env::var_os("QEMU_LD_PREFIX").is_some() {
        return Ok(());
    }
    let remedy = if explanation.is_emulators_loader && found.inside.is_none() {
        "give its root file system: --root DIR; or where its libraries are: QEMU_LD_PREFIX=DIR".to_owned()
    } else {
        explanation.remedy.unwrap_or_default()
    };
    Err(cannot_be_run(format!("{named} cannot be run: {reason}; {remedy}")))
}

fn explained(call: &Call, run: &Run, program: &Path, survey: &Survey) -> Result<Explanation> {
    let means = call.means(survey);
    let here =
        Here { means, table: Path::new(mount::DEFAULT), root: None, entered: run.root.as_deref(), verbose: false };
    explain(program, OsStr::new(""), &here)
}

/// The handler that programs of `arch` ran through just now, with the very file that the kernel has pinned; `None` if it cannot be
/// seen. The command gets a copy of it, which nobody else can uninstall.
fn own_copy(arch: &Arch, ran: &Ran) -> Option<Rule> {
    let Ran::Interpreter(file) = ran else {
        return None;
    };
    let at = MountPoint { dir: mount::DEFAULT.into(), explicit: false };
    let entries = mount::for_looking(&at).ok()??.entries().ok()?;
    let mut rule = survey::handler_of(&entries, arch)?.to_rule()?;
    rule.flags.fix_binary = true;
    let id = |metadata: Metadata| (metadata.dev(), metadata.ino());
    let own = file.metadata().map(id).ok()?;
    if fs::metadata(&rule.interpreter).map(id).ok() != Some(own) {
        rule.interpreter = process::path_of(&**file);
    }
    Some(rule)
}

fn own_table() -> Result<Table, Error> {
    mount::own().map_err(|error| match error {
        MountError { kind: MountErrorKind::DeniedInUserNamespace, .. } => {
            Error::from(Refused(Errno::EPERM)).context(format!("cannot mount {}", mount::DEFAULT))
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

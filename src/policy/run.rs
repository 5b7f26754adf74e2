//! The handler that one command runs through: that of the host, or one in a table that ends with the command.
//!
//! A handler of the host that can be seen is copied into a table of the command's own, where nobody else can uninstall it.

use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Error, Result, bail};
use binfmt_magic::arch::Arch;
use binfmt_magic::platform::Platform;
use binfmt_magic::rule::Rule;
use nix::errno::Errno;

use crate::emulator::{EmulatorError, Source, Unfit};
use crate::helper::can_have_own_table;
use crate::helper::probes::{Form, Ran};
use crate::kernel::mount::{self, MountError, MountErrorKind, MountPoint};
use crate::kernel::process;
use crate::kernel::table::Table;
use crate::kernel::user_namespace::Refused;
use crate::policy::install::{Order, install};
use crate::policy::remedy::level_lacking;
use crate::policy::survey::{self, Survey, Verdict, may_be_native};

/// How programs of one platform come to run.
#[derive(Debug)]
pub enum Way {
    /// They run already, natively or through a handler that cannot be copied.
    Here(Verdict),
    /// Through a copy of this handler, in a table of their own, with the very file that the kernel has pinned.
    Copy(Rule, Arc<File>),
    /// Through a handler that is installed into a table of their own, with the emulator of this source; or why that is unfit. The
    /// kernel may need none there.
    Install(Source, Option<EmulatorError>),
}

impl Way {
    /// What to do for programs of `arch`; `order` says how a handler would be installed. Fails when probes cannot be run, and when
    /// the emulator that is needed is unfit. It is judged here: in a user namespace, other users could not be told apart.
    pub fn choose(order: &Order, arch: &'static Arch) -> Result<Self> {
        let (verdict, ran) = survey::of_one(arch, Form::Plain)?;
        if matches!(verdict, Verdict::Works { .. }) {
            let Ran::Interpreter(file) = ran else {
                return Ok(Self::Here(verdict));
            };
            let handler = in_effect(arch).filter(|_| can_have_own_table());
            return Ok(handler.map_or(Self::Here(verdict), |handler| Self::Copy(handler, file)));
        }
        let (emulators, unfit) = order.emulators.choose(arch, &order.prefix);
        let is_privileged = |unfit: &Unfit| matches!(unfit, Unfit::Replaceable(_) | Unfit::Privileged(_));
        match unfit {
            Some(error) if is_privileged(&error.unfit) || !may_be_native(arch) => {
                Err(Error::from(error).context(do_not_run(arch)))
            }
            unfit => Ok(Self::Install(emulators, unfit)),
        }
    }

    /// Whether there is to be a table of their own. Then this process has to enter a user namespace first.
    pub fn has_own_table(&self) -> bool {
        !matches!(self, Self::Here(_))
    }

    /// Makes the table, if there is to be one, and returns what runs by it. Fails when programs of `platform` do not run then.
    pub fn prepare(&self, order: &Order, platform: Platform) -> Result<Option<Survey>> {
        let arch = platform.arch;
        let (survey, verdict) = match self {
            Self::Here(verdict) => (None, verdict.clone()),
            Self::Copy(handler, file) => of(copy(handler.clone(), file)?, arch),
            Self::Install(emulators, unfit) => {
                let order = Order { emulators: emulators.clone(), ..order.clone() };
                let (items, survey) = install(&own_table()?, &order, &[], &mut |_| ())?;
                for (arch, result) in items {
                    if let (Err(_), Some(unfit)) = (&result, unfit) {
                        bail!("{}: {unfit}", do_not_run(arch));
                    }
                    result.with_context(|| do_not_run(arch))?;
                }
                of(survey, arch)
            }
        };
        if let Verdict::Fails(failure) = &verdict {
            bail!("{}: in a table of their own, {failure}; ask root to install another emulator", do_not_run(arch));
        }
        if let Some((why, remedy)) = level_lacking(platform, &verdict) {
            bail!("{why}; {remedy}");
        }
        Ok(survey)
    }
}

fn do_not_run(arch: &Arch) -> String {
    format!("programs for {} do not run", arch.platform())
}

fn of(survey: Survey, arch: &Arch) -> (Option<Survey>, Verdict) {
    let verdict = survey.of(arch).verdict.clone();
    (Some(survey), verdict)
}

/// Registers a handler, which was seen to work with `file`, in a table that ends with the command.
fn copy(mut handler: Rule, file: &File) -> Result<Survey> {
    // by its path, the kernel might find another one
    handler.interpreter = process::path_of(file);
    handler.flags.fix_binary = true;
    let table = own_table()?;
    table.register(&handler)?;
    Survey::take(Some(&table))
}

/// The handler of `arch` in the table, if it can be seen.
fn in_effect(arch: &Arch) -> Option<Rule> {
    let at = MountPoint { dir: mount::DEFAULT.into(), explicit: false };
    let entries = mount::for_looking(&at).ok()??.entries().ok()?;
    survey::handler_of(&entries, arch)?.to_rule()
}

fn own_table() -> Result<Table, Error> {
    mount::own().map_err(|error| match error {
        MountError { kind: MountErrorKind::DeniedInUserNamespace, .. } => {
            Error::from(Refused(Errno::EPERM)).context(format!("cannot mount {}", mount::DEFAULT))
        }
        error => error.into(),
    })
}

//! The processes that this program starts of itself, each with a hidden first argument, a [`Verb`]. The command line does not
//! know these.
//!
//! What each does is in a file of its own; `command` hands the words after the verb to it. A rehearsal needs more than this layer
//! has, and is in `policy::rehearsal`.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use crate::kernel::{mount, user_namespace};

pub mod ids;
pub mod probes;

/// What such a process is started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Start probes or emulators, see [`probes`].
    RunProbes,
    /// Register rules in a private table.
    Rehearse,
    /// Give a user namespace its ids, see [`ids`].
    MapIds,
    /// Find out whether this user can have a table of their own, see [`can_have_own_table`].
    TryOwnTable,
}

impl Verb {
    const ALL: [Self; 4] = [Self::RunProbes, Self::Rehearse, Self::MapIds, Self::TryOwnTable];

    const fn word(self) -> &'static str {
        match self {
            Self::RunProbes => "--run-probes",
            Self::Rehearse => "--rehearse",
            Self::MapIds => "--map-ids",
            Self::TryOwnTable => "--try-own-table",
        }
    }

    /// The verb that this first argument is, if it is one.
    pub fn of(argument: &OsStr) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| argument == verb.word())
    }

    /// This program with this verb. The words follow it.
    pub fn command(self) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.arg(self.word());
        command
    }
}

/// Whether this user can have a table of their own. A process tries it, since none leaves a user namespace again.
pub fn can_have_own_table() -> bool {
    let mut command = Verb::TryOwnTable.command();
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// What the process of [`Verb::TryOwnTable`] does.
pub fn try_own_table() -> anyhow::Result<()> {
    user_namespace::enter_as_root()?;
    mount::own()?;
    Ok(())
}

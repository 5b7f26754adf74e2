//! The processes that this program starts of itself, each with a hidden first argument, a [`Verb`]. The command line
//! does not know these.
//!
//! What each does is in a file of its own; `command` hands the words after the verb to it. A rehearsal needs more than
//! this layer has, and is in `policy::rehearsal`.

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
    const WORDS: [(&str, Self); 4] = [
        ("--run-probes", Self::RunProbes),
        ("--rehearse", Self::Rehearse),
        ("--map-ids", Self::MapIds),
        ("--try-own-table", Self::TryOwnTable),
    ];

    /// The verb that this first argument is, if it is one.
    pub fn of(argument: &OsStr) -> Option<Self> {
        Self::WORDS.into_iter().find_map(|(word, verb)| (argument == word).then_some(verb))
    }

    /// This program with this verb. The words follow it.
    pub fn command(self) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.args(Self::WORDS.iter().filter(|(_, verb)| *verb == self).map(|(word, _)| word));
        command
    }
}

/// Whether this user can have a table of their own. Another process tries it, because no process can leave a user namespace.
pub fn can_have_own_table() -> bool {
    let mut command = Verb::TryOwnTable.command();
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// What the process of [`Verb::TryOwnTable`] does. Fails when the kernel refuses the user namespace or the table.
pub fn try_own_table() -> anyhow::Result<()> {
    user_namespace::enter_as_root()?;
    mount::own()?;
    Ok(())
}

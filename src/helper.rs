//! The processes that this program starts of itself, each with a hidden first argument, a [`Verb`]. The command line
//! does not know these.
//!
//! What each does is in a file of its own; `command` hands the words after the verb to it. A rehearsal needs more than
//! this layer has, and is in `policy::rehearsal`.

use std::ffi::OsStr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::kernel::wait::Wait;
use crate::kernel::{mount, user_namespace};

pub mod files;
pub mod ids;
pub mod probes;
pub mod removal;

/// What such a process is started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Start probes or emulators, see [`probes`].
    RunProbes,
    /// Register rules in a private table.
    Rehearse,
    /// Give a user namespace its ids, see [`ids`].
    MapIds,
    /// Say which files are at some paths, see [`files`].
    LookAtFiles,
    /// Remove entries from the table, see [`removal`].
    RemoveEntries,
    /// Find out whether this user can have a table of their own, see [`can_have_own_table`].
    TryOwnTable,
}

impl Verb {
    const WORDS: [(&str, Self); 6] = [
        ("--run-probes", Self::RunProbes),
        ("--rehearse", Self::Rehearse),
        ("--map-ids", Self::MapIds),
        ("--look-at-files", Self::LookAtFiles),
        ("--remove-entries", Self::RemoveEntries),
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
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().ok();
    child.as_mut().is_some_and(|child| end_of(child, "the kernel").is_ok_and(|status| status.success()))
}

/// Waits until `child` ends, which waits for `whom`. Fails when it has not ended after [`PATIENCE`], or this process is told
/// to end; then it is killed.
fn end_of(child: &mut Child, whom: &str) -> Result<ExitStatus> {
    const PAUSE: Duration = Duration::from_millis(5);
    let mut wait = Wait::at_most(PATIENCE);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if !wait.goes_on(None, PAUSE, || whom.to_owned())? {
            let _ = child.kill();
            child.wait()?;
            bail!("{whom} has not answered within {} s", PATIENCE.as_secs());
        }
    }
}

/// How long a process may take that sets up a namespace.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the process of [`Verb::TryOwnTable`] does. Fails when the kernel refuses the user namespace or the table.
pub fn try_own_table() -> Result<()> {
    user_namespace::enter_as_root()?;
    mount::own()?;
    Ok(())
}

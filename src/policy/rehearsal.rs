//! Rehearsing registrations where nobody else sees them: in a table of a user namespace that is made for it.
//!
//! Tells what an install would come to, flag P included, without a write to the table that is in effect. Works where a
//! user namespace may have a table of its own (Linux 6.7). The process of [`Verb::Rehearse`] does it,
//! because only a process with one thread may enter a user namespace.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use binfmt_magic::arch::Arch;
use binfmt_magic::rule::Rule;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::Signal;

use crate::emulator::{DIR, Source};
use crate::helper::Verb;
use crate::helper::probes::LIMIT;
use crate::kernel::mount;
use crate::kernel::process::path_of;
use crate::kernel::user_namespace;
use crate::kernel::wait::Wait;
use crate::kernel::wording::not_started;
use crate::policy::survey::{ANOTHER_BUILD, Verdict};
use crate::policy::trial;

/// How much longer than the emulators their starter may take.
const GRACE: Duration = Duration::from_secs(5);

/// What a program saw that ran by one rule; or that none ran.
pub type Rehearsed = Result<Seen, NotRun>;

/// As in [`Verdict::Works`].
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    pub argv0: bool,
    pub level: u8,
}

/// No program ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotRun {
    pub why: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for NotRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.why, self.remedy)
    }
}

/// Tries every rule, whose interpreters are of `emulators`, at once; the answers are in their order. Fails if there can
/// be no user namespace, or no table in it: then nothing was tried.
pub fn rehearse(candidates: &[(&'static Arch, Rule)], emulators: &Source) -> Result<Vec<Rehearsed>> {
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    let sources = candidates.iter().map(|(_, rule)| emulators.original(&rule.interpreter));
    let sources: Vec<_> = sources.collect();
    let prefix = sources.iter().find_map(|(source, _)| source.embedded_prefix());
    let mut command = Verb::Rehearse.command();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    match prefix {
        Some(prefix) => command.args([EMBEDDED, prefix]),
        None => command.args([FILES, ""]),
    };
    let mut inherited = Vec::new();
    for ((arch, rule), (source, path)) in candidates.iter().zip(sources) {
        let mut interpreter = path.to_owned();
        if source.is_elsewhere() {
            ensure!(prefix.is_none(), "{} is in another root directory", path.display());
            let file = source.open(path)?;
            fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty()))?;
            interpreter = path_of(&file);
            inherited.push(file);
        }
        let line = OsString::from_vec(Rule { interpreter, ..rule.clone() }.encode()?);
        command.arg(arch.qemu).arg(line);
    }
    let child = command.spawn();
    drop(inherited);
    let mut child =
        child.map_err(|error| anyhow!("cannot start /proc/self/exe to rehearse: {}", not_started(&error)))?;
    let printed = printed(&mut child);
    if printed.is_err() {
        // fails only for one that has ended
        let _ = child.kill();
    }
    let said = child.wait_with_output()?.stderr;
    let answers: Vec<Rehearsed> = String::from_utf8_lossy(&printed?).split_terminator('\0').map(read).collect();
    if answers.len() != candidates.len() {
        let said = String::from_utf8_lossy(&said);
        bail!("{}", said.lines().next_back().unwrap_or("no answer"));
    }
    Ok(answers)
}

/// All that `child` prints. Says after a second that it is waited for. Fails when it takes too long, or when this process is told
/// to end.
fn printed(child: &mut Child) -> Result<Vec<u8>> {
    let mut stdout = child.stdout.take().context("a pipe that was asked for")?;
    fcntl(&stdout, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let (mut bytes, mut wait) = (Vec::new(), Wait::at_most(LIMIT + GRACE));
    let what = || format!("an emulator to end, for {} s at most", LIMIT.as_secs());
    loop {
        match stdout.read_to_end(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            end => return Ok(end.map(|_| bytes)?),
        }
        ensure!(wait.goes_on(Some(stdout.as_fd()), LIMIT, what)?, "the rehearsal did not end");
    }
}

/// Whether each ran a program that saw its own `argv[0]`.
pub fn runs(rehearsed: &[Rehearsed]) -> Vec<bool> {
    rehearsed.iter().map(|answer| answer.as_ref().is_ok_and(|seen| seen.argv0)).collect()
}

/// Emulators that are embedded in the process's program, which is the same.
const EMBEDDED: &str = "embedded";
/// Emulators that it finds at their paths.
const FILES: &str = "files";
const KEPT: &str = "kept";
const REPLACED: &str = "replaced";
/// Between why no program ran and what to do.
const REMEDY: char = '\n';

fn read(answer: &str) -> Rehearsed {
    let seen = answer.split_once(' ').and_then(|(word, level)| {
        let argv0 = [(KEPT, true), (REPLACED, false)].into_iter().find(|(known, _)| *known == word)?.1;
        Some(Seen { argv0, level: level.parse().ok()? })
    });
    seen.ok_or_else(|| {
        let (why, remedy) = answer.split_once(REMEDY).unwrap_or((answer, ANOTHER_BUILD));
        NotRun { why: why.to_owned(), remedy: remedy.to_owned() }
    })
}

/// What the process of [`Verb::Rehearse`] does; `words` follow the verb. Fails as [`rehearse`] does, which reports it.
pub fn perform(words: &[OsString], mut answers: impl Write) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // a caller that has ended before that is not reported
    ensure!(has_reader(&io::stdout())?, "the call that started it has ended");
    let [from, prefix, words @ ..] = words else {
        bail!("nothing to rehearse");
    };
    let candidates: Vec<(&'static Arch, Rule)> = words.chunks(2).map(candidate).collect::<Result<_>>()?;
    user_namespace::enter_as_root()?;
    let table = mount::in_passing()?;
    if !table.entries()?.is_empty() {
        bail!("the table of a new user namespace is not empty");
    }
    let emulators = if from == EMBEDDED {
        Source::own(&prefix.to_string_lossy(), false)?
    } else {
        Source::directory(Path::new(DIR))
    };
    let rules: Vec<_> = candidates.iter().map(|(arch, rule)| (*arch, rule)).collect();
    for (verdict, (arch, _)) in trial::run(&table, &emulators, &rules, LIMIT)?.into_iter().zip(&rules) {
        let answer = match verdict {
            Ok(Verdict::Works { argv0, level, .. }) => format!("{} {level}", if argv0 { KEPT } else { REPLACED }),
            Ok(Verdict::Fails(failure)) => format!("{failure}{REMEDY}{}", failure.remedy_of_emulator(arch)),
            Err(error) => format!("{error:#}"),
        };
        write!(answers, "{}\0", answer.replace('\0', " "))?;
    }
    Ok(answers.flush()?)
}

/// Whether somebody can read what is written to this pipe.
fn has_reader(pipe: &impl AsFd) -> Result<bool> {
    let mut pipe = [PollFd::new(pipe.as_fd(), PollFlags::empty())];
    poll(&mut pipe, PollTimeout::ZERO)?;
    Ok(pipe[0].revents().is_some_and(|events| !events.contains(PollFlags::POLLERR)))
}

fn candidate(words: &[OsString]) -> Result<(&'static Arch, Rule)> {
    let [qemu, line] = words else {
        bail!("a rule without its architecture");
    };
    let arch = qemu.to_str().and_then(Arch::by_qemu);
    let arch = arch.with_context(|| format!("no architecture {}", qemu.to_string_lossy()))?;
    Ok((arch, Rule::decode(OsStr::as_bytes(line))?))
}

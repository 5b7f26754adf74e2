//! Rehearsing registrations where nobody else sees them: in a table of a user namespace that is made for it.
//!
//! Tells what an install would come to, flag P included, without a write to the table that is in effect. Works where a
//! user namespace may have a table of its own (Linux 6.7). The process of [`Verb::Rehearse`] does it,
//! because only a process with one thread may enter a user namespace.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, anyhow, bail};
use binfmt_magic::arch::Arch;
use binfmt_magic::rule::Rule;
use nix::sys::prctl;
use nix::sys::signal::Signal;

use crate::emulator::{DIR, Source};
use crate::helper::Verb;
use crate::helper::probes::LIMIT;
use crate::kernel::mount;
use crate::kernel::user_namespace;
use crate::kernel::wording::not_started;
use crate::policy::survey::Verdict;
use crate::policy::trial;

/// What came of one rule: whether a program saw the `argv[0]` that its caller chose; or why no program ran.
pub type Rehearsed = Result<bool, String>;

/// Tries every rule, whose interpreters are of `emulators`, at once; the answers are in their order. Fails if there can
/// be no user namespace, or no table in it: then nothing was tried.
pub fn rehearse(candidates: &[(&'static Arch, Rule)], emulators: &Source) -> Result<Vec<Rehearsed>> {
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    let mut command = Verb::Rehearse.command();
    command.stdin(Stdio::null());
    match emulators.embedded_prefix() {
        Some(prefix) => command.args([EMBEDDED, prefix]),
        None => command.args([FILES, ""]),
    };
    for (arch, rule) in candidates {
        let line = OsString::from_vec(rule.encode()?);
        command.arg(arch.qemu).arg(line);
    }
    let output = command.output();
    let output = output.map_err(|error| anyhow!("cannot start /proc/self/exe to rehearse: {}", not_started(&error)))?;
    let answers: Vec<Rehearsed> = String::from_utf8_lossy(&output.stdout).split_terminator('\0').map(read).collect();
    if answers.len() != candidates.len() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}", said.lines().next_back().unwrap_or("no answer"));
    }
    Ok(answers)
}

/// Emulators that are embedded in the process's program, which is the same.
const EMBEDDED: &str = "embedded";
/// Emulators that it finds at their paths.
const FILES: &str = "files";
const KEPT: &str = "kept";
const REPLACED: &str = "replaced";

fn read(answer: &str) -> Rehearsed {
    match answer {
        KEPT => Ok(true),
        REPLACED => Ok(false),
        why => Err(why.to_owned()),
    }
}

/// What the process of [`Verb::Rehearse`] does; `words` follow the verb. Fails as [`rehearse`] does, which reports it.
pub fn perform(words: &[OsString], mut answers: impl Write) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
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
    for verdict in trial::run(&table, &emulators, &rules, LIMIT)? {
        let answer = match verdict {
            Ok(Verdict::Works { argv0: true, .. }) => KEPT.to_owned(),
            Ok(Verdict::Works { argv0: false, .. }) => REPLACED.to_owned(),
            Ok(Verdict::Fails(failure)) => failure.to_string(),
            Err(error) => format!("{error:#}"),
        };
        write!(answers, "{}\0", answer.replace('\0', " "))?;
    }
    Ok(answers.flush()?)
}

fn candidate(words: &[OsString]) -> Result<(&'static Arch, Rule)> {
    let [qemu, line] = words else {
        bail!("a rule without its architecture");
    };
    let arch = qemu.to_str().and_then(Arch::by_qemu);
    let arch = arch.with_context(|| format!("no architecture {}", qemu.to_string_lossy()))?;
    Ok((arch, Rule::decode(OsStr::as_bytes(line))?))
}

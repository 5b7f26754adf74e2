//! The edge: from a command line to an exit status. Decides what is a wrong command line and what a failure; the work
//! is a [`Session`]'s.

use std::ffi::OsString;
use std::io::{Write, stderr};

use anyhow::{Result, anyhow};
use binfmt_magic::arch::ARCHES;
use clap::error::ErrorKind;

use crate::cli::{Cli, Environment, completions, help, meant};
use crate::command::session::{NotRun, Session, Wrong};
use crate::emulator::{self, EmulatorError, Source, Unfit};
use crate::helper::{self, Verb, ids, probes};
use crate::kernel::process;
use crate::kernel::wait;
use crate::kernel::wording::{cause, printable};
use crate::output::streams::Streams;
use crate::policy::rehearsal;

pub mod session;

/// Everything asked for is in place.
const DONE: u8 = 0;
/// Something is not; the last line on stderr says what to do.
const NOT_DONE: u8 = 1;
/// The command line is wrong; nothing was done.
const USAGE: u8 = 2;
/// Of a command that is to be run, as env(1), chroot(1) and docker have them: nothing was started, also for a wrong command
/// line, since the command's own status may be any other.
const NOT_STARTED: u8 = 125;
/// The command is there, and cannot be run.
const NOT_RUN: u8 = 126;
/// There is no such command.
const NOT_FOUND: u8 = 127;

/// Does what `args`, the program's name first, ask for; returns the exit status.
pub fn run(args: &[OsString], environment: Environment, streams: &mut Streams) -> u8 {
    if let Err(error) = process::hear_of_failures() {
        return report(Err(error.into()), "binfmt: ", streams);
    }
    if let Some(verb) = args.get(1).and_then(|argument| Verb::of(argument)) {
        let words = &args[2..];
        let done = match verb {
            Verb::RunProbes => probes::serve(words, &mut *streams.out),
            Verb::Rehearse => rehearsal::perform(words, &mut *streams.out),
            Verb::MapIds => ids::give(words),
            Verb::TryOwnTable => helper::try_own_table(),
        };
        return report(done.map(|()| None), "", streams);
    }
    wait::say_by(|line| {
        // as everything that is said there: if nobody listens, the exit status still tells
        let _ = writeln!(stderr(), "{}", printable(line));
    });
    let runs = asks_to_run(args);
    if runs {
        process::close_inherited();
    }
    let (wrong, failed) = if runs {
        (NOT_STARTED, NOT_STARTED)
    } else {
        (USAGE, NOT_DONE)
    };
    let cli = match Cli::read(args.to_vec()) {
        Ok(cli) => cli,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => return print(&help(), streams),
        Err(error) => return usage(args, error, wrong, streams),
    };
    if let Some(shell) = cli.completions {
        return print(&completions(shell), streams);
    }
    match Session::new(&cli, &environment.with(&cli)) {
        Ok(session) if cli.version => {
            let (line, refused) = version(session.emulators(), session.prefix());
            for error in refused {
                streams.say(&format!("binfmt: {error}"));
            }
            report(tell(&line, streams).map(|()| None), "binfmt: ", streams)
        }
        Ok(session) if runs => {
            let (status, why) = match session.become_command(streams) {
                NotRun::Failed(error) => (NOT_STARTED, error),
                NotRun::CannotBeRun(error) => (NOT_RUN, error),
                NotRun::NotFound(error) => (NOT_FOUND, error),
            };
            streams.say(&format!("binfmt: {why:#}"));
            status
        }
        Ok(session) => report(session.run(streams), "binfmt: ", streams),
        Err(Wrong::Usage(error)) => {
            streams.say(&format!("binfmt: {error:#}; try binfmt --help"));
            wrong
        }
        Err(Wrong::Value(error)) => {
            streams.say(&format!("binfmt: {error:#}"));
            failed
        }
    }
}

/// Whether the command line, right or wrong, is one of `--run`.
fn asks_to_run(args: &[OsString]) -> bool {
    let mut own = args.iter().take_while(|arg| *arg != "--");
    own.any(|arg| {
        let name = arg.as_encoded_bytes().split(|byte| *byte == b'=').next();
        name == Some(b"--run") || name == Some(b"-run")
    })
}

/// Prints what was asked for, and nothing else.
fn print(text: &str, streams: &mut Streams) -> u8 {
    let written = write!(streams.out, "{text}");
    let finished = streams.finish(written);
    report(finished.map(|()| None), "binfmt: ", streams)
}

/// A line on stderr that is what was asked for, so that losing it is a failure.
fn tell(line: &str, streams: &mut Streams) -> Result<()> {
    writeln!(streams.err, "{line}")
        .map_err(|error| anyhow!("cannot write the output: {}", cause(&error)))
}

/// Turns what is not in place, if anything, into the last line and the exit status.
fn report(result: anyhow::Result<Option<String>>, prefix: &str, streams: &mut Streams) -> u8 {
    let last = match result {
        Ok(None) => return DONE,
        Ok(Some(missing)) => missing,
        Err(error) => format!("{error:#}"),
    };
    streams.say(&format!("{prefix}{last}"));
    NOT_DONE
}

/// What is wrong with a command line, in one line, and the one that was meant.
fn usage(args: &[OsString], error: clap::Error, wrong: u8, streams: &mut Streams) -> u8 {
    let text = error.render().to_string();
    let lines = text.lines().map(str::trim);
    // clap's tips go by letters alone
    let own = |line: &&str| {
        let others = ["tip:", "Usage:", "For more"];
        !others.iter().any(|other| line.starts_with(other))
    };
    let words: Vec<&str> = lines.filter(own).collect();
    let text = words.join(" ");
    let text = text.trim().trim_start_matches("error: ");
    let lacks_dashes = match error.kind() {
        ErrorKind::UnknownArgument => !text.contains("'-"),
        kind => kind == ErrorKind::MissingRequiredArgument,
    };
    let hint = match meant(args, error) {
        Some(meant) => format!("did you mean: {meant}"),
        None if wrong == NOT_STARTED && lacks_dashes => {
            "the command to run follows --; try binfmt --help".to_owned()
        }
        None => "try binfmt --help".to_owned(),
    };
    streams.say(&format!("binfmt: {text}; {hint}"));
    wrong
}

/// One line in the incumbent's form; the QEMU is the one that an install would take. Also the emulators that others can
/// replace, up to there.
fn version(source: &Source, prefix: &str) -> (String, Vec<EmulatorError>) {
    let mut refused = Vec::new();
    let emulators = ARCHES.iter().map(|arch| source.path_for(arch, prefix));
    let mut present = emulators.filter(|path| source.has(path));
    let first = present.find_map(|path| match emulator::version(&path, source) {
        Ok(version) => Some(version),
        Err(error) => {
            let is_refused = matches!(error.unfit, Unfit::Replaceable(_));
            refused.extend(is_refused.then_some(error));
            None
        }
    });
    let qemu = first.map_or_else(|| "none".to_owned(), |version| format!("v{version}"));
    let line = format!("binfmt/{} qemu/{qemu}", env!("CARGO_PKG_VERSION"));
    (line, refused)
}

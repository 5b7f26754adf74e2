//! The edge: from a command line to an exit status. One file per mode: it calls what decides, and prints.
//!
//! stdout gets the JSON or the table that was asked for, nothing else; stderr gets a line per platform in the incumbent's words.
//! The last line on stderr says what failed, and what to do.

use std::ffi::OsString;
use std::io::{Write, stderr};

use anyhow::Result;
use clap::error::ErrorKind;

use crate::cli::{Environment, Mistake, Mode, Request, completions, help, suggest};
use crate::helper::{self, Verb, files, ids, probes, removal};
use crate::kernel::mount::mountinfo;
use crate::kernel::process;
use crate::kernel::wait;
use crate::kernel::wording::printable;
use crate::kernel::{file_system, lock};
use crate::output::Streams;
use crate::policy::rehearsal;

mod call;
mod explain;
mod hold;
mod install;
mod persist;
mod run;
mod show;
mod status;
mod verify;

use call::Call;
use run::NotRun;

/// Everything asked for is in place.
const DONE: u8 = 0;
/// Something is not; the last line on stderr says what to do.
const NOT_DONE: u8 = 1;
/// The command line is wrong; nothing was done.
const USAGE: u8 = 2;
/// With `--run`: nothing was started, be it for a wrong command line, since the command's own status may be any other. This and
/// the next two are those of env(1), chroot(1) and docker.
const NOT_STARTED: u8 = 125;
/// With `--run`: the command exists, and cannot be run.
const NOT_RUN: u8 = 126;
/// With `--run`: the command does not exist.
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
            Verb::LookAtFiles => files::look(words, &mut *streams.out),
            Verb::RemoveEntries => removal::perform(words, &mut *streams.out),
            Verb::TryOwnTable => helper::try_own_table(),
        };
        return report(done, "", streams);
    }
    wait::say_by(|line| {
        // if nobody listens there, the exit status still tells
        let _ = writeln!(stderr(), "{}", printable(line));
    });
    wait::before_end(lock::unlock_all);
    if !mountinfo::has_file_servers() {
        file_system::no_server();
    }
    let (mut wrong, mut failed) = (USAGE, NOT_DONE);
    if asks_to_run(args) {
        process::close_inherited();
        (wrong, failed) = (NOT_STARTED, NOT_STARTED);
        file_system::fail_with(NOT_STARTED);
    }
    match Request::read(args.to_vec(), environment) {
        Ok(request) => perform(&request, failed, streams),
        Err(Mistake::Parse(error)) if error.kind() == ErrorKind::DisplayHelp => {
            report(show::print(&help(), streams), "binfmt: ", streams)
        }
        Err(Mistake::Parse(error)) => {
            let line = describe(args, error, wrong);
            streams.say(&line);
            wrong
        }
        Err(Mistake::Usage(error)) => {
            streams.say(&format!("binfmt: {error:#}; try binfmt --help"));
            wrong
        }
    }
}

/// Whether the command line, right or wrong, is one of `--run`.
fn asks_to_run(args: &[OsString]) -> bool {
    args.iter().take_while(|arg| *arg != "--").any(|arg| {
        let name = arg.as_encoded_bytes().split(|byte| *byte == b'=').next();
        name == Some(b"--run") || name == Some(b"-run")
    })
}

/// Turns a failure, if there is one, into the last line and the exit status.
fn report(result: Result<()>, prefix: &str, streams: &mut Streams) -> u8 {
    let Err(error) = result else {
        return DONE;
    };
    streams.say(&format!("{prefix}{error:#}"));
    NOT_DONE
}

/// Does what was asked for. `failed`: the exit status if that is not all in place afterwards.
fn perform(request: &Request, mut failed: u8, streams: &mut Streams) -> u8 {
    let mut call = match Call::new(request, streams) {
        Ok(call) => call,
        Err(error) => {
            streams.say(&format!("binfmt: {error:#}"));
            return failed;
        }
    };
    for option in &request.empty {
        let line = format!("binfmt: the list of {option} is empty, so it does nothing");
        call.streams.say(&line);
    }
    let mut modes = request.modes.iter();
    if let Err(error) = modes.try_for_each(|mode| perform_one(&mut call, mode)) {
        failed = error.downcast_ref().map_or(failed, |NotRun(status, _)| *status);
        call.lacks(format!("{error:#}"));
    }
    let Some(last) = call.last_line() else {
        return DONE;
    };
    streams.say(&format!("binfmt: {last}"));
    failed
}

fn perform_one(call: &mut Call, mode: &Mode) -> Result<()> {
    match mode {
        Mode::Completions(shell) => show::print(&completions(*shell), call.streams),
        Mode::Version => show::version(call),
        Mode::Run(run) => match run::become_command(call, run)? {},
        Mode::DryRun(modes) => show::dry_run(call, modes),
        Mode::Uninstall(list) => install::uninstall(call, list),
        Mode::Unpersist(dir) => persist::unpersist(call, dir),
        Mode::Install(install) => install::install(call, install),
        Mode::Hold(install, stay) => hold::hold(call, install, stay),
        Mode::Verify(list) => verify::verify(call, list.as_ref()),
        Mode::Export(dir) => persist::export(call, dir),
        Mode::Explain { file, root } => explain::explain(call, file, root.as_deref()),
        Mode::List => show::list(call),
        Mode::Status(list) => status::status(call, list.as_ref()),
        Mode::Overview => status::overview(call),
    }
}

/// What is wrong with a command line, in one line, and the one that was meant.
fn describe(args: &[OsString], error: clap::Error, wrong: u8) -> String {
    let text = error.render().to_string();
    // clap's tips compare letters, and do not know other tools' words. They repeat arguments, which may have several lines
    let others = ["\n\n  tip:", "\n\nUsage:", "\n\nFor more"];
    let end = others.iter().filter_map(|other| text.find(other)).min();
    let words: Vec<&str> = text[..end.unwrap_or(text.len())].lines().map(str::trim).collect();
    let text = words.join(" ");
    let text = text.trim().trim_start_matches("error: ");
    let lacks_dashes = match error.kind() {
        ErrorKind::UnknownArgument => !text.contains("'-"),
        kind => kind == ErrorKind::MissingRequiredArgument,
    };
    let hint = match suggest(args, error) {
        Some(meant) => format!("did you mean: {meant}"),
        None if wrong == NOT_STARTED && lacks_dashes => "the command to run follows --; try binfmt --help".to_owned(),
        None => "try binfmt --help".to_owned(),
    };
    format!("binfmt: {text}; {hint}")
}

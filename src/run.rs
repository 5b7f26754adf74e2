//! The edge: from a command line to an exit status. Decides what is a wrong command line and what a failure; the work
//! is a [`Session`]'s.

use std::ffi::OsString;
use std::path::Path;

use binfmt_magic::arch::ARCHES;
use clap::Parser;
use clap::error::ErrorKind;

use crate::cli::{Cli, Environment, accept_single_dash};
use crate::emulator;
use crate::process;
use crate::rehearsal;
use crate::runner;
use crate::session::{Session, Wrong};
use crate::streams::Streams;

/// Everything asked for is in place.
const DONE: u8 = 0;
/// Something is not; the last line on stderr says what to do.
const NOT_DONE: u8 = 1;
/// The command line is wrong; nothing was done.
const USAGE: u8 = 2;

/// Does what `args`, the program's name first, ask for; returns the exit status.
pub fn run(args: Vec<OsString>, environment: &Environment, streams: &mut Streams) -> u8 {
    if let Err(error) = process::wait_for_children() {
        return report(Err(error.into()), "binfmt: ", streams);
    }
    if args.get(1).is_some_and(|arg| arg == runner::VERB) {
        let served = runner::serve(&args[2..], &mut *streams.out);
        return report(served.map(|()| None), "", streams);
    }
    if args.get(1).is_some_and(|arg| arg == runner::BECOME) {
        let Err(not_started) = runner::become_other(&args[2..]);
        // as it is: who reads it is no terminal
        let _ = write!(streams.err, "{not_started}");
        return NOT_DONE;
    }
    if args.get(1).is_some_and(|arg| arg == rehearsal::VERB) {
        let performed = rehearsal::perform(&args[2..], &mut *streams.out);
        return report(performed.map(|()| None), "", streams);
    }
    let cli = match Cli::try_parse_from(accept_single_dash(args)) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, streams),
    };
    match Session::new(&cli, environment) {
        Ok(session) if cli.version => {
            let line = version(session.emulators(), session.prefix());
            streams.say(&line);
            DONE
        }
        Ok(session) => report(session.run(streams), "binfmt: ", streams),
        Err(Wrong::Usage(error)) => {
            streams.say(&format!("binfmt: {error:#}; try binfmt --help"));
            USAGE
        }
        Err(Wrong::Value(error)) => report(Err(error), "binfmt: ", streams),
    }
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

/// Help goes to stdout; what is wrong with a command line to stderr, in one line.
fn usage(error: &clap::Error, streams: &mut Streams) -> u8 {
    let text = error.render().to_string();
    if error.kind() == ErrorKind::DisplayHelp {
        let written = write!(streams.out, "{text}");
        let finished = streams.finish(written);
        return report(finished.map(|()| None), "binfmt: ", streams);
    }
    let lines = text.lines().map(str::trim);
    let words: Vec<&str> = lines
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .collect();
    let text = words.join(" ");
    let text = text.trim().trim_start_matches("error: ");
    streams.say(&format!("binfmt: {text}; try binfmt --help"));
    USAGE
}

/// One line in the incumbent's form; the QEMU is the one that an install would take.
fn version(dir: &Path, prefix: &str) -> String {
    let emulators = ARCHES
        .iter()
        .map(|arch| dir.join(arch.interpreter_name(prefix)));
    let present = emulators.filter(|path| path.exists());
    let first = present
        .map(|path| emulator::version(&path))
        .find_map(Result::ok);
    let qemu = first.map_or_else(|| "none".to_owned(), |version| format!("v{version}"));
    format!("binfmt/{} qemu/{qemu}", env!("CARGO_PKG_VERSION"))
}

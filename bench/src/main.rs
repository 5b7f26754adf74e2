//! Time, memory and size of `binfmt`, side by side with any other of the same command line: [`tool`] compares two
//! binaries, or one with what [`stand_in`] does, [`image`] two images as an engine runs them. And of what it registers: [`emulators`] compares QEMU's user
//! emulators with others of the same architecture.
//!
//! Everything happens in one run: each round measures one right after the other, in alternating order, because a
//! machine's speed drifts by more than they differ. A ratio is the median of the rounds' ratios.

mod emulators;
mod image;
mod measure;
mod namespace;
mod report;
mod stand_in;
mod tool;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use emulators::sample;

/// Time, memory and size of binfmt or of emulators, and of others beside them
#[derive(Debug, Parser)]
enum Cli {
    Tool(tool::Tools),
    Image(image::Images),
    Emulators(emulators::Emulators),
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::complain(&format!("bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match arguments.split_first() {
        Some((verb, rest)) if verb == measure::VERB => return measure::answer(rest),
        Some((verb, rest)) if verb == stand_in::VERB => return stand_in::answer(rest),
        Some((verb, rest)) if verb == sample::VERB => return sample::answer(rest),
        _ => {}
    }
    match Cli::parse() {
        Cli::Tool(tools) => tool::compare(&tools),
        Cli::Image(images) => image::compare(&images),
        Cli::Emulators(emulators) => emulators::compare(&emulators),
    }
}

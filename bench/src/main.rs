//! Time, memory and size of `binfmt`, side by side with any other of the same command line: [`tool`] compares two
//! binaries, [`image`] two images as an engine runs them.
//!
//! Everything happens in one run: each round measures one right after the other, in alternating order, because a
//! machine's speed drifts by more than the tools differ. A ratio is the median of the rounds' ratios.

mod image;
mod measure;
mod namespace;
mod report;
mod tool;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// Time, memory and size of binfmt, and of another one beside it
#[derive(Debug, Parser)]
enum Cli {
    Tool(tool::Tools),
    Image(image::Images),
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
    if arguments
        .first()
        .is_some_and(|first| first == measure::VERB)
    {
        return measure::answer(&arguments[1..]);
    }
    match Cli::parse() {
        Cli::Tool(tools) => tool::compare(&tools),
        Cli::Image(images) => image::compare(&images),
    }
}

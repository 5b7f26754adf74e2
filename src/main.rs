//! The program: reads its arguments and environment, and leaves the rest to the library.

use std::env;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use binfmt::cli::Environment;
use binfmt::run::run;
use binfmt::streams::Streams;

fn main() -> ExitCode {
    // not locked: what is waited for is said there too
    let (mut out, mut err) = (io::stdout().lock(), io::stderr());
    let colour = out.is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let environment = Environment::from(|name| env::var_os(name));
    let mut streams = Streams {
        out: &mut out,
        err: &mut err,
        colour,
    };
    ExitCode::from(run(env::args_os().collect(), &environment, &mut streams))
}

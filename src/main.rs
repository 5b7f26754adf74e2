//! The program: passes its arguments and environment to the library, and exits with the status that it returns.

use std::env;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::process::ExitCode;

use binfmt::{Environment, Streams, run};
use rustix::termios::tcgetwinsize;

fn main() -> ExitCode {
    // stderr is not locked: lines about waiting are written there without these streams
    let (mut out, mut err) = (io::stdout().lock(), io::stderr());
    let colour = out.is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let environment = Environment::from(|name| env::var_os(name));
    let width = out.is_terminal().then(|| width(&out));
    let mut streams = Streams { out: &mut out, err: &mut err, colour, width };
    let args: Vec<_> = env::args_os().collect();
    ExitCode::from(run(&args, environment, &mut streams))
}

/// The columns of the terminal `out`: those of COLUMNS, else those that the terminal reports, else 80.
fn width(out: &impl AsFd) -> usize {
    let said = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let asked = || tcgetwinsize(out).map(|size| usize::from(size.ws_col)).ok();
    let is_known = |columns: &usize| *columns > 0;
    let width = said.filter(is_known).or_else(asked);
    width.filter(is_known).unwrap_or(80)
}

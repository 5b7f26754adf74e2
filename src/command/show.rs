//! What needs no file of its own: `--version`, `--list`, `--dry-run`, and the printing of texts that are the same everywhere.

use anyhow::{Result, anyhow, bail};
use binfmt_magic::arch::ARCHES;
use nix::errno::Errno;

use super::{Call, perform_one};
use crate::cli::Mode;
use crate::emulator::{self, EmulatorError, Unfit};
use crate::kernel::wording::{cause, errno_of, printable};
use crate::output::Streams;
use crate::output::text;
use crate::policy::status;

pub(super) fn print(text: &str, streams: &mut Streams) -> Result<()> {
    let written = write!(streams.out, "{text}");
    streams.finish(written)
}

/// `--version`: one line on stderr, as the incumbent has it. Its QEMU is the first one that an install would use. Emulators before
/// that one that others can replace are named.
pub(super) fn version(call: &mut Call) -> Result<()> {
    let (emulators, prefix) = (&call.order.emulators, &call.order.prefix);
    let paths = ARCHES.iter().map(|arch| emulators.path_for(arch, prefix));
    let paths: Vec<_> = paths.filter(|path| emulators.has(path)).collect();
    let (version, errors) = emulator::first_version(emulators, &paths);
    for error in errors {
        match error {
            EmulatorError {
                unfit: Unfit::Replaceable(_) | Unfit::Privileged(_) | Unfit::TimedOut | Unfit::Stuck,
                ..
            } => {
                call.streams.say(&format!("binfmt: {error}"));
            }
            EmulatorError { unfit: Unfit::Refused(error), path }
                if [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM].contains(&errno_of(&error)) =>
            {
                bail!("cannot read the version of {}: {}", path.display(), cause(&error))
            }
            _ => {}
        }
    }
    let qemu = version.map_or_else(|| "none".to_owned(), |version| format!("v{version}"));
    let line = format!("binfmt/{} qemu/{qemu}", env!("CARGO_PKG_VERSION"));
    // what was asked for: it is a failure if nobody can read it
    writeln!(call.streams.err, "{}", printable(&line))
        .map_err(|error| anyhow!("cannot write the output: {}", cause(&error)))
}

pub(super) fn list(call: &mut Call) -> Result<()> {
    let survey = call.survey()?;
    let listed = status::list(&survey, &call.order.emulators, &call.order.prefix);
    call.show(&listed, |out, colour, width| text::write_list(out, &listed, colour, width))
}

/// `--dry-run`: tells what `modes` would do, a line for each on stdout; each sees the table as the ones before would leave it.
/// Nothing is done: no write, no mount, no lock; and `--persist`, `--unpersist` and `--export` start no emulator either. Fails when
/// something would plainly fail.
pub(super) fn dry_run(call: &mut Call, modes: &[Mode]) -> Result<()> {
    let told = modes.iter().try_for_each(|mode| perform_one(call, mode));
    let written = call.take_would().iter().try_for_each(|line| writeln!(call.streams.out, "{}", printable(line)));
    call.finish(written)?;
    told
}

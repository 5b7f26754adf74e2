//! What needs no file of its own: `--version`, `--list`, and the printing of texts that are the same everywhere.

use anyhow::{Result, anyhow, bail};
use binfmt_magic::arch::ARCHES;
use nix::errno::Errno;

use super::Call;
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
    let mut qemu = "none".to_owned();
    for path in paths.filter(|path| emulators.has(path)) {
        match emulator::version(&path, emulators) {
            Ok(version) => {
                qemu = format!("v{version}");
                break;
            }
            Err(error) if matches!(error.unfit, Unfit::Replaceable(_)) => {
                call.streams.say(&format!("binfmt: {error}"));
            }
            Err(EmulatorError { unfit: Unfit::Refused(error), path })
                if [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM].contains(&errno_of(&error)) =>
            {
                bail!("cannot read the version of {}: {}", path.display(), cause(&error))
            }
            Err(_) => {}
        }
    }
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

//! What stands in for tonistiigi/binfmt where its binary is not to hand: its work, and nothing else.
//!
//! That tool registers what it is asked for, and then starts the smallest program of each architecture in turn, in a root
//! directory of its own (its `archutil`), to say what runs. So does this, with the same emulators and our probes. Its runtime
//! (Go's) and its unpacking of the programs are left out, so a ratio beside it is less in our favour than one beside the tool.
//! docs/measurements.md has a measurement beside the tool. Like that tool it asks no emulator for its version.

use std::env;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::platform::Selection;
use binfmt_magic::probe;
use binfmt_magic::rule::{Flags, Rule};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::chroot;

use crate::namespace;

/// First argument of the copy of this program that stands in.
pub(crate) const VERB: &str = "stand-in";

/// The copy's whole work: `--version`, `--install LIST`, or nothing, as the tool understands them.
///
/// # Errors
/// It cannot register, or not start a program.
pub(crate) fn answer(arguments: &[OsString]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    match words[..] {
        ["--version"] => return crate::report::say("stand-in"),
        ["--install", list] => install(list)?,
        [] => {}
        _ => bail!("{VERB} does not know {words:?}"),
    }
    start_each()
}

fn install(list: &str) -> Result<()> {
    let emulators = env::var_os("QEMU_BINARY_PATH").context("QEMU_BINARY_PATH is not set")?;
    for arch in Selection::parse(list)?.arches(&ARCHES) {
        let flags = Flags::parse("POCF").0;
        let rule = Rule::for_arch(arch, "", Path::new(&emulators), flags);
        if !namespace::has(&rule.name) {
            namespace::register(&rule)?;
        }
    }
    Ok(())
}

/// Starts the probe of each architecture that has a handler, and of those that the kernel may run itself, one after the
/// other.
fn start_each() -> Result<()> {
    let runs = |arch: &&Arch| {
        let native = Arch::of_host().is_some_and(|h| h == *arch || h.compat.contains(&arch.qemu));
        native || namespace::has(arch.entry_name("").as_ref())
    };
    let arches: Vec<&Arch> = ARCHES.iter().filter(runs).collect();
    let root = PathBuf::from("/proc/sys");
    unshare(CloneFlags::CLONE_NEWNS)?;
    let nothing = None::<&str>;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(nothing, "/proc", nothing, private, nothing)?;
    mount(Some("probes"), &root, Some("tmpfs"), MsFlags::empty(), nothing)?;
    for arch in &arches {
        let path = root.join(arch.qemu);
        fs::write(&path, probe::elf(arch))?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    }
    let null = fs::File::options().read(true).write(true).open("/dev/null")?;
    chroot(&root)?;
    env::set_current_dir("/")?;
    for arch in arches {
        let silent = || null.try_clone().map(Stdio::from);
        let mut command = Command::new(Path::new("/").join(arch.qemu));
        command.arg0("Q").env_clear();
        command.stdin(silent()?).stdout(silent()?).stderr(silent()?);
        command.status().with_context(|| arch.qemu.to_owned())?;
    }
    Ok(())
}

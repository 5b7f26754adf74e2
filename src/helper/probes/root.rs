//! The programs that are started, in a root directory that holds nothing else.

use std::env;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use binfmt_magic::probe;
use nix::libc::MFD_EXEC;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::chroot;

use super::protocol::{NOT_STARTED, Task, id};
use super::{Form, Job, mark};
use crate::kernel::process::path_of;
use crate::kernel::user_namespace;

/// The owner of the programs of [`Form::Setuid`]: `nobody`, who has no privilege to give.
pub(super) const OWNER: u32 = 65534;

/// The programs of some tasks, ready to be started.
pub(super) struct Programs {
    /// In the order of the tasks.
    pub(super) all: Vec<Program>,
    /// The root directory to start them in, if there is an empty one.
    root: Option<PathBuf>,
}

pub(super) struct Program {
    pub(super) task: Task,
    /// In the root directory.
    pub(super) path: PathBuf,
    /// Which file, as [`id`] has it; [`NOT_STARTED`] for one whose start would show nothing.
    pub(super) file: String,
    /// What the path leads to, if that is an open file.
    _opened: Option<File>,
}

impl Programs {
    /// Writes the probes to where their root directory is empty.
    ///
    /// Without the privilege for that, of this process or of a user namespace of its own, they stay in memory: then a
    /// probe shows that programs run, and only the flags of its handler whether they would in a container.
    pub(super) fn write(tasks: &[Task]) -> Result<Self> {
        let here = |task: &Task| matches!(task, Task::Probe(job) if job.form == Form::Here);
        if tasks.iter().any(here) {
            return in_memory(tasks, tasks.iter().map(opened).collect());
        }
        // from a user namespace of its own, the caller's descriptors are out of reach
        let emulators: Vec<Option<File>> = tasks.iter().map(opened).collect();
        in_empty_root(tasks, &emulators).or_else(|_| in_memory(tasks, emulators))
    }

    /// Makes their root directory this process's own.
    pub(super) fn enter(&self) -> Result<()> {
        if let Some(root) = &self.root {
            chroot(root)?;
            env::set_current_dir("/")?;
        }
        Ok(())
    }
}

/// A private tmpfs. It is mounted over `/proc/sys`: that exists wherever `binfmt_misc` does, and nothing here needs it.
/// `/proc` itself leads to this program and, if one of these steps is refused, to the probes in memory.
fn in_empty_root(tasks: &[Task], emulators: &[Option<File>]) -> Result<Programs> {
    let (proc, root) = (Path::new("/proc"), Path::new("/proc/sys"));
    let nothing = None::<&str>;
    if unshare(CloneFlags::CLONE_NEWNS).is_err() {
        user_namespace::enter_as_root()?;
    }
    // tried here, before anything is mounted: the same call follows with another directory
    chroot("/")?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(nothing, proc, nothing, private, nothing)?;
    mount(Some("probes"), root, Some("tmpfs"), MsFlags::MS_NODEV, Some("size=1g,mode=755"))?;
    let programs = tasks.iter().zip(emulators).enumerate().map(|(number, (task, emulator))| {
        let (name, setuid) = match task {
            Task::Probe(_) => (task.word(), task.is_setuid()),
            Task::Ask(_) => (number.to_string(), false),
        };
        let path = root.join(&name);
        match task {
            Task::Probe(job) => fs::write(&path, program(job))?,
            // a copy, since no other file of the caller is in there
            Task::Ask(_) => {
                let mut emulator = emulator.as_ref().context("the emulator cannot be read")?;
                io::copy(&mut emulator, &mut File::create(&path)?).map(drop)?;
            }
        }
        let given_away = setuid && chown(&path, Some(OWNER), None).is_ok();
        let mode = if given_away { 0o4755 } else { 0o755 };
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
        // without another owner for the file, the bit has no effect
        let is_pointless = setuid && !given_away;
        Ok(Program {
            task: task.clone(),
            file: if is_pointless { NOT_STARTED.to_owned() } else { id(&fs::metadata(&path)?) },
            path: Path::new("/").join(name),
            _opened: None,
        })
    });
    Ok(Programs { all: programs.collect::<Result<_>>()?, root: Some(root.to_owned()) })
}

/// The emulator that is to be asked, if one is.
fn opened(task: &Task) -> Option<File> {
    match task {
        Task::Probe(_) => None,
        Task::Ask(path) => File::open(path).ok(),
    }
}

/// A file of memory that may be executed.
pub fn in_memory_file(name: &str, bytes: &[u8]) -> io::Result<File> {
    // asked for where vm.memfd_noexec is set, unknown before Linux 6.3
    let executable = MFdFlags::from_bits_retain(MFD_EXEC);
    let memory = memfd_create(name, executable).or_else(|_| memfd_create(name, MFdFlags::empty()));
    let mut file = File::from(memory?);
    file.write_all(bytes)?;
    Ok(file)
}

/// The processes inherit the memory, because an emulator looks up the path of its program itself, and may not look into
/// other processes.
fn in_memory(tasks: &[Task], emulators: Vec<Option<File>>) -> Result<Programs> {
    let programs = tasks.iter().zip(emulators).map(|(task, emulator)| {
        let job = match task {
            Task::Probe(job) => job,
            Task::Ask(_) => {
                let emulator = emulator.context("the emulator cannot be read")?;
                let (path, file) = (path_of(&emulator), id(&emulator.metadata()?));
                return Ok(Program { task: task.clone(), path, file, _opened: Some(emulator) });
            }
        };
        let file = in_memory_file(job.arch.qemu, &program(job)).context("no memory for the probes")?;
        let started = job.form != Form::Setuid;
        Ok(Program {
            task: task.clone(),
            path: path_of(&file),
            file: if started { id(&file.metadata()?) } else { NOT_STARTED.to_owned() },
            _opened: Some(file),
        })
    });
    Ok(Programs { all: programs.collect::<Result<_>>()?, root: None })
}

fn program(job: &Job) -> Vec<u8> {
    let mut file = probe::elf(job.arch);
    match job.form {
        Form::Marked => mark(&mut file),
        Form::Of(kind) => kind.apply(&mut file, job.arch),
        Form::Plain | Form::Here | Form::Setuid => {}
    }
    file
}

//! The process that starts probes, holds each at its start to look at it, and waits for them.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write, stdin};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{ChildStderr, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::ptrace;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::{Pid, gettid};

use super::answer::{Answer, Shown, parse_word};
use super::become_other::{NotStarted, Other};
use super::root::{OWNER, Program, Programs};
use super::{Form, Job, Outcome};
use crate::process::effective_user;
use crate::wording::{cause, not_started};

/// How long a probe may take. Starting an emulator takes milliseconds, seconds on a machine under heavy load.
pub(super) const LIMIT: Duration = Duration::from_secs(20);
/// Why a file is not seen as long as its process has not stopped.
const NOT_HELD: &str = "ptrace(2) is refused (by seccomp, or kernel.yama.ptrace_scope)";
/// A crash at start is retried: emulators have had races there, and one lost start in many is not "does not work".
const TRIES: u32 = 2;

/// The other side of [`run`](super::run): what the process does that was started with [`VERB`](super::VERB). `words`
/// follow the verb. It stays until its standard input ends, since the answer names files that it has open.
///
/// # Errors
/// When the probes cannot be written or started, or the answer cannot be written.
pub fn serve(words: &[OsString], mut answer: impl Write) -> Result<()> {
    let jobs = words
        .iter()
        .map(|word| parse_word(word))
        .collect::<Result<Vec<Job>>>()?;
    // told so, it ends its probes before itself, and whatever they have started
    prctl::set_pdeathsig(Signal::SIGTERM)?;
    let orphans = Orphans::adopt()?;

    let programs = Programs::write(&jobs).map_err(|error| match error.downcast::<io::Error>() {
        Ok(error) => anyhow!("cannot write them: {}", cause(&error)),
        Err(error) => error,
    })?;
    let all: Vec<&Program> = programs.all.iter().collect();
    let mut runs = start_all(&programs.root, &all)?;
    for _ in 1..TRIES {
        let crashed = |run: &&mut Finished| matches!(run.outcome, Outcome::Killed(_));
        let (crashed, again): (Vec<&mut Finished>, Vec<&Program>) = runs
            .iter_mut()
            .zip(&all)
            .filter(|(run, _)| crashed(run))
            .unzip();
        for (first, second) in crashed.into_iter().zip(start_all(&programs.root, &again)?) {
            *first = second;
        }
    }
    // who has the answers may end this process at any moment
    drop(orphans);
    for run in &runs {
        answer.write_all(run.answer().to_fields().as_bytes())?;
    }
    answer.flush()?;
    Ok(io::copy(&mut stdin(), &mut io::sink()).map(drop)?)
}

/// What probes have started and left behind: it becomes this process's, and ends with it.
struct Orphans;

impl Orphans {
    fn adopt() -> nix::Result<Self> {
        prctl::set_child_subreaper(true).map(|()| Self)
    }
}

impl Drop for Orphans {
    fn drop(&mut self) {
        // one that is killed may leave others behind
        let list = format!("/proc/self/task/{}/children", gettid());
        while let Some(children) = fs::read_to_string(&list)
            .ok()
            .filter(|list| !list.is_empty())
        {
            for child in children
                .split_ascii_whitespace()
                .filter_map(|id| id.parse().ok())
            {
                let child = Pid::from_raw(child);
                let _ = kill(child, Signal::SIGKILL);
                let _ = waitpid(child, None);
            }
        }
    }
}

/// A probe that was started.
struct Running<'a> {
    program: &'a Program,
    pid: Pid,
    /// Until it is closed at the other end.
    stderr: Option<ChildStderr>,
    complaint: Vec<u8>,
    held: bool,
    /// Processor time that it had used when it was held, in microseconds: not the emulator's.
    before: u64,
    ran: Ran,
    ended: bool,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // fails only for one that has ended
        let _ = kill(self.pid, Signal::SIGKILL);
        while let Ok(WaitStatus::Stopped(..)) = waitpid(self.pid, None) {}
    }
}

/// A probe that has ended.
struct Finished {
    outcome: Outcome,
    micros: u64,
    ran: Ran,
    complaint: String,
}

/// The file that the kernel ran.
enum Ran {
    Itself,
    Interpreter(File),
    Unseen(String),
}

impl Finished {
    fn without_start(outcome: Outcome) -> Self {
        Self {
            outcome,
            micros: 0,
            ran: Ran::Itself,
            complaint: String::new(),
        }
    }

    fn answer(&self) -> Answer {
        let ran = match &self.ran {
            Ran::Itself => Shown::Itself,
            Ran::Interpreter(file) => Shown::Open(file.as_raw_fd()),
            Ran::Unseen(why) => Shown::Unseen(why.clone()),
        };
        Answer {
            outcome: self.outcome,
            micros: self.micros,
            ran,
            complaint: self.complaint.clone(),
        }
    }
}

fn start_all(root: &Path, programs: &[&Program]) -> Result<Vec<Finished>> {
    // the ends of children, and of the caller, are read from a descriptor, so that one poll waits for all of them
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGCHLD);
    ends.add(Signal::SIGTERM);
    ends.thread_block()?;
    let ends = SignalFd::with_flags(&ends, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;

    let deadline = Instant::now() + LIMIT;
    let mut finished: Vec<Option<Finished>> = Vec::with_capacity(programs.len());
    let mut running = Vec::with_capacity(programs.len());
    for program in programs {
        // the kernel takes no setuid bit where there is nobody to give the file to
        let in_vain = program.job.form == Form::Setuid && !program.given_away;
        finished.push(in_vain.then(|| Finished::without_start(Outcome::Setuid(None))));
        running.push(if in_vain {
            None
        } else {
            Some(start(root, program)?)
        });
    }
    while running.iter().any(Option::is_some) {
        let left = deadline.saturating_duration_since(Instant::now());
        wait_for_news(&ends, &mut running, left)?;
        for (slot, finished) in running.iter_mut().zip(&mut finished) {
            let Some(probe) = slot else { continue };
            *finished = attend(probe, left.is_zero())?;
            if finished.is_some() {
                *slot = None;
            }
        }
    }
    Ok(finished.into_iter().flatten().collect())
}

fn start<'a>(root: &Path, program: &'a Program) -> Result<Running<'a>> {
    let mut command = Other::Probe(root, &program.path).command();
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|e| anyhow!("cannot start a probe: {}", not_started(&e)))?;
    Ok(Running {
        program,
        pid: Pid::from_raw(i32::try_from(child.id())?),
        stderr: child.stderr.take(),
        complaint: Vec::new(),
        held: false,
        before: 0,
        ran: Ran::Unseen(NOT_HELD.to_owned()),
        ended: false,
    })
}

/// Waits until a child has stopped or ended or has something to say, and takes down what it says.
fn wait_for_news(
    ends: &SignalFd,
    running: &mut [Option<Running<'_>>],
    left: Duration,
) -> Result<()> {
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    let talking = running
        .iter()
        .flatten()
        .filter_map(|probe| probe.stderr.as_ref());
    let mut news = vec![PollFd::new(ends.as_fd(), PollFlags::POLLIN)];
    news.extend(talking.map(|stderr| PollFd::new(stderr.as_fd(), PollFlags::POLLIN)));
    match poll(&mut news, timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let heard = PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR;
    let said = |fd: &PollFd| fd.revents().is_some_and(|events| events.intersects(heard));
    let said: Vec<bool> = news[1..].iter().map(said).collect();
    for (probe, _) in running
        .iter_mut()
        .flatten()
        .filter(|probe| probe.stderr.is_some())
        .zip(said)
        .filter(|(_, said)| *said)
    {
        listen(probe);
    }
    while let Some(signal) = ends.read_signal()? {
        if signal.ssi_signo == Signal::SIGTERM as u32 {
            bail!("the call that wanted to know has ended");
        }
    }
    Ok(())
}

/// Takes down some of what the emulator says, of which the end counts. False if there was nothing to be heard.
fn listen(probe: &mut Running<'_>) -> bool {
    const KEPT: usize = 4096;
    let mut chunk = [0; KEPT];
    let Some(stderr) = &mut probe.stderr else {
        return false;
    };
    let length = stderr.read(&mut chunk).unwrap_or(0);
    if length == 0 {
        probe.stderr = None;
    }
    probe.complaint.extend(&chunk[..length]);
    let excess = probe.complaint.len().saturating_sub(KEPT);
    probe.complaint.drain(..excess);
    length > 0
}

/// Looks at a child that is held, and lets it go; returns what came of one that has ended, or that ends now because
/// its time is up.
fn attend(probe: &mut Running<'_>, time_is_up: bool) -> Result<Option<Finished>> {
    loop {
        let before = child_time()?;
        let outcome = match waitpid(probe.pid, Some(WaitPidFlag::WNOHANG))? {
            WaitStatus::Stopped(pid, Signal::SIGTRAP) => {
                probe.held = true;
                probe.before = time_of(pid);
                probe.ran = executable_of(pid, probe.program);
                if probe.program.job.form == Form::Setuid {
                    Outcome::Setuid(Some(effective_user(pid) == Some(OWNER)))
                } else {
                    still_there(ptrace::detach(pid, None))?;
                    continue;
                }
            }
            // a signal on its way, before it was held
            WaitStatus::Stopped(pid, signal) => {
                still_there(ptrace::cont(pid, signal))?;
                continue;
            }
            WaitStatus::Exited(_, status) => Outcome::Exited(status),
            WaitStatus::Signaled(_, signal, _) => Outcome::Killed(signal as i32),
            _ if time_is_up => Outcome::TimedOut,
            _ => return Ok(None),
        };
        probe.ended = matches!(outcome, Outcome::Exited(_) | Outcome::Killed(_));
        let micros = child_time()?.saturating_sub(before);
        return finish(probe, outcome, micros).map(Some);
    }
}

/// One that was killed meanwhile is gone; the next wait tells.
fn still_there(result: nix::Result<()>) -> nix::Result<()> {
    match result {
        Err(Errno::ESRCH) => Ok(()),
        result => result,
    }
}

fn finish(probe: &mut Running<'_>, outcome: Outcome, micros: u64) -> Result<Finished> {
    // what is still in the pipe; whoever else holds its other end is not waited for
    let nonblocking = FcntlArg::F_SETFL(OFlag::O_NONBLOCK);
    if probe
        .stderr
        .as_ref()
        .is_some_and(|stderr| fcntl(stderr, nonblocking).is_ok())
    {
        while listen(probe) {}
    }
    let said = String::from_utf8_lossy(&probe.complaint);
    // whoever was held became the emulator, and may say anything
    if let Some(errno) = NotStarted::read(&said).filter(|_| !probe.held) {
        return Ok(Finished::without_start(Outcome::Refused(refusal(errno)?)));
    }
    Ok(Finished {
        outcome,
        micros: micros.saturating_sub(probe.before),
        ran: std::mem::replace(&mut probe.ran, Ran::Itself),
        complaint: said.trim().to_owned(),
    })
}

/// The errno of a refused `execve(2)`, unless it says nothing about a handler: then the whole run has failed.
fn refusal(errno: Errno) -> Result<i32> {
    match errno {
        Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE | Errno::EIO => {
            bail!("cannot start a probe: {}", not_started(&errno.into()))
        }
        errno => Ok(errno as i32),
    }
}

/// The file that the kernel runs for this process, which is held: for a handler's program, the interpreter.
fn executable_of(pid: Pid, program: &Program) -> Ran {
    let look = || {
        let file = File::open(format!("/proc/{pid}/exe"))?;
        let metadata = file.metadata()?;
        io::Result::Ok((file, (metadata.dev(), metadata.ino())))
    };
    match look() {
        Ok((_, id)) if id == program.id => Ran::Itself,
        Ok((file, _)) => Ran::Interpreter(file),
        Err(error) => Ran::Unseen(format!("/proc/PID/exe: {}", cause(&error))),
    }
}

/// Processor time that a process has used, in microseconds.
fn time_of(pid: Pid) -> u64 {
    let time = clock_getcpuclockid(pid).and_then(clock_gettime);
    time.map_or(0, |time| {
        let micros = time.tv_sec() * 1_000_000 + time.tv_nsec() / 1000;
        u64::try_from(micros).unwrap_or(0)
    })
}

/// Processor time of all children that were waited for, in microseconds; the difference is the last one's.
fn child_time() -> Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = |t: nix::sys::time::TimeVal| t.tv_sec() * 1_000_000 + t.tv_usec();
    Ok(u64::try_from(
        micros(usage.user_time()) + micros(usage.system_time()),
    )?)
}

//! The process that starts programs, each in an empty root directory and without anything of its caller, and waits for
//! them.
//!
//! It is the first process of a PID namespace where that is allowed, and is held while another thread of it starts them
//! ([`super::watch`], [`super::starter`]).

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write, stdin};
use std::iter::repeat_with;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use binfmt_magic::probe;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::resource::{Resource, UsageWho, getrusage, setrlimit};
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, gettid, pipe2};

use super::ProbeOutcome;
use super::protocol::{Answer, HELD, NOT_STARTED, Task, write_started};
use super::root::{Program, Programs};
use super::starter::Starter;
use crate::kernel::process::{close_inherited, signals};
use crate::kernel::wording::{cause, errno_of, not_started};

/// How long a program may take. Starting an emulator takes milliseconds, seconds on a machine under heavy load.
pub const LIMIT: Duration = Duration::from_secs(20);
/// How long one start of several may take until the rest is left to other processes. Starting a program takes a millisecond; a
/// process too many does no harm.
const PATIENCE: Duration = Duration::from_millis(500);
/// How much of what a program says is kept, in bytes: the end.
const KEPT: usize = 4096;
/// How much a pipe holds, in bytes (`pipe(7)`).
const PIPE: usize = 65536;

/// The other side of [`run`](super::run): what the process of [`Verb::RunProbes`](crate::helper::Verb) does. `words`
/// follow the verb: how long a program may take, in milliseconds, and the programs.
///
/// It says which files it will start, waits until it is told whether it is held, starts them, says how many it has started, stops
/// itself if it is held, and says what came of each.
pub fn serve(words: &[OsString], mut answer: impl Write) -> Result<()> {
    close_inherited();
    let (limit, words) = words.split_first().context("no limit")?;
    let limit = limit.to_str().and_then(|limit| limit.parse().ok());
    let limit = Duration::from_millis(limit.context("not a limit")?);
    let tasks = words.iter().map(|word| Task::parse(word));
    let tasks = tasks.collect::<Result<Vec<Task>>>()?;
    let is_first = getpid() == Pid::from_raw(1);
    // the kernel ends a PID namespace with its first process; another process gets SIGTERM, and ends the programs
    // itself
    prctl::set_pdeathsig(if is_first { Signal::SIGKILL } else { Signal::SIGTERM })?;
    let orphans = if is_first { None } else { Some(Orphans::adopt()?) };
    let signals = Signals(signals(&[Signal::SIGCHLD, Signal::SIGTERM])?);
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(|error| cannot_start(&error))?;

    let programs = Programs::write(&tasks).map_err(|error| match error.downcast::<std::io::Error>() {
        Ok(error) => anyhow!("cannot write them: {}", cause(&error)),
        Err(error) => error,
    })?;
    let files: Vec<&str> = programs.all.iter().map(|program| program.file.as_str()).collect();
    writeln!(answer, "{}", files.join(" "))?;
    answer.flush()?;
    let mut go = [0];
    stdin().read_exact(&mut go).context("the call that started it has ended")?;
    programs.enter()?;
    // ends a program even if no process is left to do so; refused only where a tighter limit exists
    let seconds = LIMIT.as_secs();
    let _ = setrlimit(Resource::RLIMIT_CPU, seconds, seconds);
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    // QEMU asks for huge pages for translated code. To clear one takes a twentieth of a start, and a probe fills no page.
    let _ = prctl::set_thp_disable(true);

    let total = programs.all.len();
    let patience = if total == 1 { limit } else { PATIENCE };
    let starter = Starter::begin(programs.all, patience, move |program| start(&program, &null));
    let starter = starter.map_err(|error| error.context("cannot start a probe"))?;
    let tell = |count| {
        write_started(&mut answer, count)?;
        if go == [HELD] {
            raise(Signal::SIGSTOP)?;
        }
        Ok(())
    };
    let states = run_all(starter, &signals, limit, tell);
    drop(orphans);
    let answers = states?.into_iter().map(State::answer);
    let rest = repeat_with(|| Answer::without_words(ProbeOutcome::Stuck));
    for one in answers.chain(rest).take(total) {
        answer.write_all(one.encode().as_bytes())?;
    }
    Ok(answer.flush()?)
}

/// The signals that tell of the ends of children and of the caller, read from a descriptor so that one poll waits for
/// everything.
struct Signals(SignalFd);

impl Signals {
    /// Reads those that have come. Fails when the caller has ended.
    fn take(&self) -> Result<()> {
        while let Some(signal) = self.0.read_signal()? {
            if signal.ssi_signo == Signal::SIGTERM as u32 {
                bail!("the call that started it has ended");
            }
        }
        Ok(())
    }
}

/// The processes that programs leave behind, where no PID namespace ends them: they become children of this process,
/// and are ended when this is dropped.
struct Orphans {
    children: Option<File>,
}

impl Orphans {
    /// How long to try to end processes that keep starting others.
    const PATIENCE: Duration = Duration::from_secs(2);

    fn adopt() -> Result<Self> {
        prctl::set_child_subreaper(true)?;
        let children = File::open(format!("/proc/self/task/{}/children", gettid())).ok();
        Ok(Self { children })
    }

    fn list(&mut self) -> Option<String> {
        let (mut list, file) = (String::new(), self.children.as_mut()?);
        file.seek(SeekFrom::Start(0)).ok()?;
        file.read_to_string(&mut list).ok()?;
        (!list.is_empty()).then_some(list)
    }
}

impl Drop for Orphans {
    fn drop(&mut self) {
        let deadline = Instant::now() + Self::PATIENCE;
        // one that is killed may leave others behind
        while let Some(list) = self.list().filter(|_| Instant::now() < deadline) {
            let children = list.split_ascii_whitespace().filter_map(|id| id.parse().ok());
            for child in children {
                let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
            }
            while waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)).is_ok_and(|end| end.pid().is_some()) {}
            thread::sleep(Duration::from_micros(200));
        }
    }
}

/// A program that was started.
struct Running {
    pid: Pid,
    /// The pipe for what it prints, until its other end is closed.
    said: Option<File>,
    text: Vec<u8>,
    /// Its outcome and its processor time in microseconds, once it has ended.
    end: Option<(ProbeOutcome, u64)>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.end.is_none() {
            // it is reaped together with all others that are left
            let _ = kill(self.pid, Signal::SIGKILL);
        }
    }
}

/// What has become of a program whose `execve(2)` has returned.
enum State {
    Running(Running),
    NotStarted(ProbeOutcome),
}

impl State {
    fn running(&mut self) -> Option<&mut Running> {
        if let Self::Running(running) = self { Some(running) } else { None }
    }

    fn is_over(&self) -> bool {
        match self {
            Self::Running(running) => running.end.is_some(),
            Self::NotStarted(_) => true,
        }
    }

    fn answer(self) -> Answer {
        let mut running = match self {
            Self::NotStarted(outcome) => return Answer::without_words(outcome),
            Self::Running(running) => running,
        };
        // the rest of the pipe; not up to its end, which other processes may keep open for ever
        for _ in 0..PIPE / KEPT {
            listen(&mut running);
        }
        let (outcome, micros) = running.end.unwrap_or((ProbeOutcome::TimedOut, 0));
        let said = String::from_utf8_lossy(&running.text).trim().to_owned();
        Answer { outcome, micros, said }
    }
}

/// A start's result. An inner error is the outcome of a program that is not started.
type Start = Result<Result<Running, ProbeOutcome>>;

/// Waits until all have ended, or `limit` is over. `tell` is told how many were started once no further one is.
fn run_all(
    mut starter: Starter<Start>,
    signals: &Signals,
    limit: Duration,
    tell: impl FnOnce(usize) -> Result<()>,
) -> Result<Vec<State>> {
    let deadline = Instant::now() + limit;
    let left = || deadline.saturating_duration_since(Instant::now());
    let (mut all, mut ends) = (Vec::new(), Vec::new());
    loop {
        let at_most = left().min(starter.patience());
        if starter.is_done() || at_most.is_zero() {
            break;
        }
        wait_for_news(signals, Some(starter.news()), &mut all, at_most)?;
        for result in starter.take() {
            all.push(result?.map_or_else(State::NotStarted, State::Running));
        }
        reap(deadline, |end| ends.push(end))?;
        // one may end before its start is reported
        ends.retain(|end| !record(&mut all, end));
    }
    drop(starter);
    tell(all.len())?;
    while !all.iter().all(State::is_over) && !left().is_zero() {
        wait_for_news(signals, None, &mut all, left())?;
        reap(deadline, |end| {
            record(&mut all, &end);
        })?;
    }
    Ok(all)
}

/// Starts it.
fn start(program: &Program, null: &File) -> Start {
    if program.file == NOT_STARTED {
        return Ok(Err(ProbeOutcome::Setuid(None)));
    }
    let (said, says) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| cannot_start(&errno.into()))?;
    fcntl(&said, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let mut command = Command::new(&program.path);
    command.env_clear().stdin(null.try_clone()?);
    match &program.task {
        Task::Probe(_) => {
            let argv0 = char::from(probe::ARGV0).to_string();
            command.arg0(argv0).stdout(null.try_clone()?);
        }
        Task::Ask(_) => {
            command.arg0("qemu").arg("--version").stdout(says.try_clone()?);
        }
    }
    match command.stderr(Stdio::from(says)).spawn() {
        Ok(child) => Ok(Ok(Running {
            pid: Pid::from_raw(i32::try_from(child.id())?),
            said: Some(said.into()),
            text: Vec::new(),
            end: None,
        })),
        Err(error) => Ok(Err(ProbeOutcome::Refused(refusal(&error)?))),
    }
}

fn cannot_start(error: &std::io::Error) -> anyhow::Error {
    anyhow!("cannot start a probe: {}", not_started(error))
}

/// The errno of a refused `execve(2)`, unless it says nothing about a handler: then the whole run has failed.
fn refusal(error: &std::io::Error) -> Result<i32> {
    match errno_of(error) {
        Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE | Errno::EIO => Err(cannot_start(error)),
        errno => Ok(errno as i32),
    }
}

/// Waits until a program is started (then `started` can be read), has ended or prints something, and records what it prints.
fn wait_for_news(signals: &Signals, started: Option<BorrowedFd>, all: &mut [State], left: Duration) -> Result<()> {
    // rounded up, lest it waits in a circle
    let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
    let running: Vec<&mut Running> = all.iter_mut().filter_map(State::running).collect();
    let talking = running.iter().filter_map(|running| running.said.as_ref());
    let talking = talking.map(AsFd::as_fd);
    let waited = [signals.0.as_fd()].into_iter().chain(started).chain(talking);
    let mut news: Vec<PollFd> = waited.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    match poll(&mut news, timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    for running in running {
        listen(running);
    }
    signals.take()
}

/// Records some of what the program prints, of which the end counts.
fn listen(running: &mut Running) {
    let mut chunk = [0; KEPT];
    let Some(said) = &mut running.said else { return };
    match said.read(&mut chunk) {
        Ok(length @ 1..) => running.text.extend(&chunk[..length]),
        Err(error) if errno_of(&error) == Errno::EAGAIN => {}
        Ok(0) | Err(_) => running.said = None,
    }
    let excess = running.text.len().saturating_sub(KEPT);
    running.text.drain(..excess);
}

/// The end of a child: its outcome, and its processor time in microseconds.
struct End(Pid, ProbeOutcome, u64);

/// Whether it is the end of one of `all`, which then has it.
fn record(all: &mut [State], End(pid, outcome, micros): &End) -> bool {
    let mut running = all.iter_mut().filter_map(State::running);
    let ended = running.find(|running| running.pid == *pid && running.end.is_none());
    ended.is_some_and(|running| running.end.replace((*outcome, *micros)).is_none())
}

/// Calls `tell` with the ends of children, also of those that were left to this process.
fn reap(deadline: Instant, mut tell: impl FnMut(End)) -> Result<()> {
    while Instant::now() < deadline {
        let before = child_time()?;
        let (pid, outcome) = match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) => (pid, ProbeOutcome::Exited(status)),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, ProbeOutcome::Killed(signal as i32)),
            Err(Errno::EINTR) => continue,
            Ok(_) | Err(Errno::ECHILD) => break,
            Err(errno) => return Err(errno.into()),
        };
        tell(End(pid, outcome, child_time()?.saturating_sub(before)));
    }
    Ok(())
}

/// Processor time of all children that were waited for, in microseconds.
fn child_time() -> Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = |t: nix::sys::time::TimeVal| t.tv_sec() * 1_000_000 + t.tv_usec();
    Ok(u64::try_from(micros(usage.user_time()) + micros(usage.system_time()))?)
}

//! The watching side: starts the process that starts programs, holds each of these at its first instruction to see
//! which file the kernel runs for it, and keeps the time.
//!
//! All that is a thread's work, for two reasons. A thread can ask for a PID namespace for what it starts, and only for
//! that: so the process is the first of its namespace, and with it the kernel ends everything that an emulator has
//! started, however fast that forks. And the calling thread is free to end it when its time is up.
//!
//! The process is traced (`PTRACE_SEIZE`), and so are its thread that starts programs and its children from their first moment on:
//! each child stops once it has become another program (`PTRACE_EVENT_EXEC`), is looked at, and let go. The process itself is let go
//! when it stops itself, having started everything, or waited long enough for what it could not start: that is left to itself, since
//! not even SIGKILL ends a process that waits for a file server. See `ptrace(2)` and `pid_namespaces(7)`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc::{PTRACE_EVENT_CLONE, PTRACE_EVENT_EXEC, PTRACE_EVENT_FORK, PTRACE_EVENT_VFORK};
use nix::sched::{CloneFlags, unshare};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::{Pid, pipe2};

use super::protocol::{Answer, HELD, NOT_STARTED, Task, id, read_started};
use super::root::OWNER;
use super::{ProbeOutcome, Ran, Run};
use crate::helper::Verb;
use crate::kernel::mount::MountError;
use crate::kernel::process::{Mapped, effective_user, has_own_proc};
use crate::kernel::table;
use crate::kernel::wait::{self, Wait};
use crate::kernel::wording::{cause, not_started};

/// Why the file of a process that was not held is not seen.
fn not_held() -> String {
    if has_own_proc() {
        "ptrace(2) is refused (by seccomp, or kernel.yama.ptrace_scope)".to_owned()
    } else {
        MountError::no_proc().to_string()
    }
}

/// After this time, a line says that an emulator is waited for.
const QUIET: Duration = Duration::from_secs(2);
/// In place of the process's number: it is not started yet.
const NONE: i32 = 0;
/// In place of the process's number: its answers are in.
const OVER: i32 = -1;
/// Enough for the thread. Where memory is limited, an emulator's start should be what fails, because its complaint
/// names the limit.
const STACK: usize = 256 * 1024;
/// How much longer than what it starts the process may take before it is ended itself.
const GRACE: Duration = Duration::from_secs(3);
/// How long processes that were killed may take to end where one of them waits for a file server.
const UNTIL_KILLED: Duration = Duration::from_millis(500);

/// Starts all of them at once, and gives each up to `limit`. Returns the outcomes in the order of the tasks. Of several, the first
/// that waits for a file server is [`ProbeOutcome::Stuck`], and so are all after it: they were not started. `says`: whether a line
/// says what is waited for.
pub(super) fn start(tasks: &[Task], limit: Duration, says: bool) -> Result<Vec<Run>> {
    let process = AtomicI32::new(NONE);
    let not_started = |error: io::Error| anyhow!("cannot start a probe: {}", not_started(&error));
    let (ended, ends) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| not_started(errno.into()))?;
    thread::scope(|scope| {
        let process = &process;
        let work = move || {
            let runs = Server::start(tasks, process, limit).and_then(|mut server| server.runs(tasks));
            process.store(OVER, Ordering::Release);
            drop(ends);
            runs
        };
        let worker = thread::Builder::new().stack_size(STACK);
        let worker = worker.spawn_scoped(scope, work).map_err(not_started)?;
        let kept = keep_time(process, ended.as_fd(), limit, says);
        let runs = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        kept.and(runs)
    })
}

/// Waits until `process` is over, and ends it when its time is up, or when this process is told to end. `ended` is
/// closed at the other end when it is over.
fn keep_time(process: &AtomicI32, ended: BorrowedFd, limit: Duration, says: bool) -> Result<()> {
    const PAUSE: Duration = Duration::from_secs(1);
    // a busy machine is not worth a line
    let quiet = if wait::is_told_to_end() { Duration::ZERO } else { QUIET };
    let slept = wait::sleep(Some(ended), quiet);
    let mut wait = if says { Wait::at_most(limit + GRACE) } else { Wait::silent(limit + GRACE) };
    let what = || format!("an emulator to end, for {} s at most", limit.as_secs());
    let mut goes_on = slept.map(|()| true);
    loop {
        match process.load(Ordering::Acquire) {
            OVER if matches!(goes_on, Ok(false)) && wait::is_told_to_end() => {
                bail!("this call was told to end, and waits for no emulator")
            }
            OVER => return goes_on.map(drop).map_err(Into::into),
            pid if pid != NONE && !matches!(goes_on, Ok(true)) => {
                // fails only for one that has ended
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            _ => {}
        }
        if let Ok(true) = goes_on {
            goes_on = wait.goes_on(Some(ended), PAUSE, what);
        } else {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The process that starts programs. It and all that it has started ends when this is dropped.
struct Server<'a> {
    child: Child,
    pid: Pid,
    answers: BufReader<ChildStdout>,
    /// Whether a program waits for a file server, so that the process may not end.
    stuck: bool,
    /// Its number while it lives, for the thread that limits its time.
    process: &'a AtomicI32,
}

/// One program that was started.
struct Started {
    /// Of the tasks.
    number: usize,
    pid: Pid,
    seen: Option<Seen>,
    /// Whether nothing further can be seen.
    done: bool,
}

/// What was seen of a program when it was held.
struct Seen {
    ran: Ran,
    transparent: bool,
    /// Its processor time until then, in microseconds.
    micros: u64,
    /// Whether it has its owner's privilege, if that was asked.
    privileged: Option<bool>,
}

impl Started {
    /// Handles its stop or its end. Once it has become the program, it is looked at and let go.
    fn go_on(&mut self, status: WaitStatus, task: &Task, file: &str) -> nix::Result<()> {
        let pid = self.pid;
        match status {
            WaitStatus::PtraceEvent(_, _, PTRACE_EVENT_EXEC) => {
                let setuid = task.is_setuid();
                let privileged = setuid.then(|| effective_user(pid) == Some(OWNER));
                let (ran, transparent) = executable_of(pid, file);
                self.seen = Some(Seen { ran, transparent, micros: time_of(pid), privileged });
                self.done = !setuid;
                if setuid { still_there(kill(pid, Signal::SIGKILL)) } else { still_there(ptrace::detach(pid, None)) }
            }
            WaitStatus::PtraceEvent(..) => still_there(ptrace::cont(pid, None)),
            WaitStatus::Stopped(_, signal) => still_there(ptrace::cont(pid, signal)),
            _ => {
                self.done = true;
                Ok(())
            }
        }
    }
}

impl<'a> Server<'a> {
    fn start(tasks: &[Task], process: &'a AtomicI32, limit: Duration) -> Result<Self> {
        // if this is refused, processes that emulators leave behind are ended one by one
        let _ = unshare(CloneFlags::CLONE_NEWPID);
        let mut child = Verb::RunProbes
            .command()
            .arg(limit.as_millis().to_string())
            .args(tasks.iter().map(Task::word))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| anyhow!("cannot start /proc/self/exe to run the probes: {}", not_started(&error)))?;
        let stdout = child.stdout.take().context("a pipe that was asked for")?;
        let pid = i32::try_from(child.id())?;
        process.store(pid, Ordering::Release);
        Ok(Self { child, pid: Pid::from_raw(pid), answers: BufReader::new(stdout), stuck: false, process })
    }

    fn runs(&mut self, tasks: &[Task]) -> Result<Vec<Run>> {
        let mut line = String::new();
        let _ = self.answers.read_line(&mut line);
        let files: Vec<&str> = line.split_whitespace().collect();
        // seized only now: it would have stopped when it became this program
        let options = Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        // elsewhere, the numbers of processes are those of others in /proc
        let held = has_own_proc() && ptrace::seize(self.pid, options).is_ok();
        let go = if held { HELD } else { 0 };
        let told = self.child.stdin.as_mut().map(|stdin| stdin.write_all(&[go]));
        if files.len() != tasks.len() || !matches!(told, Some(Ok(()))) {
            bail!("cannot run the probes: {}", self.excuse());
        }
        let tasks: Vec<(&Task, &str)> = tasks.iter().zip(files.iter().copied()).collect();
        let mut started = Vec::new();
        if held {
            started = self.hold(&tasks)?;
        } else {
            self.count_started(tasks.len());
        }
        let runs = (0..tasks.len()).map(|number| {
            let answer = self.answer()?;
            let started = started.iter_mut().find(|one| one.number == number);
            Some(run(answer, started.and_then(|one| one.seen.take())))
        });
        let runs: Option<Vec<Run>> = runs.collect();
        runs.ok_or_else(|| anyhow!("cannot run the probes: {}", self.excuse()))
    }

    /// How many were started of `total`, once no further one is.
    fn count_started(&mut self, total: usize) -> usize {
        let count = read_started(&mut self.answers).unwrap_or(total);
        self.stuck = count < total;
        count
    }

    /// Traces the process until every program is started and has been looked at, or waits for a file server.
    fn hold(&mut self, tasks: &[(&Task, &str)]) -> Result<Vec<Started>> {
        let (mut started, mut early) = (Vec::with_capacity(tasks.len()), Vec::new());
        let held = self.hold_all(tasks, &mut started, &mut early);
        // nothing stays held, neither a child whose start its parent did not live to report: no later wait would end
        let left = started.iter().filter(|one| !one.done).map(|one| one.pid);
        for pid in left.chain(early) {
            let _ = kill(pid, Signal::SIGKILL);
        }
        held.map(|()| started)
    }

    fn hold_all(&mut self, tasks: &[(&Task, &str)], started: &mut Vec<Started>, early: &mut Vec<Pid>) -> Result<()> {
        let mut thread = None;
        let mut numbers = (0..tasks.len()).filter(|number| tasks[*number].1 != NOT_STARTED);
        let mut starting = true;
        while starting || started.iter().any(|one| !one.done) {
            let any = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
            let status = match waitpid(None::<Pid>, Some(any)) {
                Err(Errno::EINTR) => continue,
                status => status?,
            };
            let pid = status.pid().context("no process was waited for")?;
            match status {
                WaitStatus::PtraceEvent(_, _, PTRACE_EVENT_FORK | PTRACE_EVENT_VFORK) if thread == Some(pid) => {
                    let child = reported(pid)?;
                    let number = numbers.next().context("one more than was asked for")?;
                    started.push(Started { number, pid: child, seen: None, done: false });
                    go_on_together(pid, child, early)?;
                }
                WaitStatus::PtraceEvent(_, _, PTRACE_EVENT_CLONE) if pid == self.pid => {
                    let new = reported(pid)?;
                    thread = Some(new);
                    go_on_together(pid, new, early)?;
                }
                WaitStatus::Stopped(_, Signal::SIGSTOP) if pid == self.pid => {
                    starting = false;
                    let count = self.count_started(tasks.len());
                    let (begun, stuck) = started.drain(..).partition(|one| one.number < count);
                    *started = begun;
                    early.extend(stuck.iter().map(|one: &Started| one.pid));
                    still_there(ptrace::detach(pid, None))?;
                }
                status if pid == self.pid || thread == Some(pid) => match status {
                    WaitStatus::Stopped(_, signal) => still_there(ptrace::cont(pid, signal))?,
                    WaitStatus::PtraceEvent(..) => still_there(ptrace::cont(pid, None))?,
                    // the thread has ended; or the process, and its number may become another one's: its stderr says why
                    _ if pid == self.pid => {
                        self.process.store(NONE, Ordering::Release);
                        break;
                    }
                    _ => {}
                },
                status => match started.iter_mut().find(|one| one.pid == pid) {
                    Some(one) => {
                        let (task, file) = tasks[one.number];
                        one.go_on(status, task, file)?;
                    }
                    // it is continued when the stop of its parent tells what it is
                    None => early.push(pid),
                },
            }
        }
        Ok(())
    }

    fn answer(&mut self) -> Option<Answer> {
        let mut bytes = Vec::new();
        self.answers.read_until(0, &mut bytes).ok()?;
        Answer::parse(&String::from_utf8_lossy(bytes.strip_suffix(&[0])?))
    }

    /// Why it gave no answer.
    fn excuse(&mut self) -> String {
        let mut reason = String::new();
        // it may be waiting for the end of its input
        drop(self.child.stdin.take());
        let stderr = self.child.stderr.as_mut();
        let read = stderr.and_then(|stderr| stderr.read_to_string(&mut reason).ok());
        match read {
            Some(1..) => reason.trim_end().to_owned(),
            _ => "their process ended, or made no sense".to_owned(),
        }
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        // all that it started ends with it
        if self.process.swap(NONE, Ordering::AcqRel) != NONE {
            let _ = self.child.kill();
        }
        // it ends only after each traced process has been waited for
        let any = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        let until = Instant::now() + UNTIL_KILLED;
        let how = if self.stuck { any | WaitPidFlag::WNOHANG } else { any };
        loop {
            match waitpid(None::<Pid>, Some(how)) {
                Err(Errno::ECHILD) => break,
                Ok(WaitStatus::StillAlive) if Instant::now() >= until => break,
                Ok(WaitStatus::StillAlive) => thread::sleep(Duration::from_millis(1)),
                _ => {}
            }
        }
    }
}

/// Which process or thread the stop of `pid` is about.
fn reported(pid: Pid) -> Result<Pid> {
    Ok(Pid::from_raw(i32::try_from(ptrace::getevent(pid)?)?))
}

/// Lets `parent` go on, and its new child or thread, if that has stopped already.
fn go_on_together(parent: Pid, new: Pid, early: &mut Vec<Pid>) -> nix::Result<()> {
    if let Some(at) = early.iter().position(|pid| *pid == new) {
        early.swap_remove(at);
        still_there(ptrace::cont(new, None))?;
    }
    still_there(ptrace::cont(parent, None))
}

/// The outcome of one task, from what both processes saw.
fn run(answer: Answer, seen: Option<Seen>) -> Run {
    let unseen = || match answer.outcome {
        ProbeOutcome::Refused(_) | ProbeOutcome::Setuid(None) => Ran::Itself,
        ProbeOutcome::Stuck => Ran::Unseen("the kernel waits for it".to_owned()),
        _ => Ran::Unseen(not_held()),
    };
    let seen = seen.unwrap_or_else(|| Seen { ran: unseen(), transparent: false, micros: 0, privileged: None });
    Run {
        outcome: seen.privileged.map_or(answer.outcome, |privileged| ProbeOutcome::Setuid(Some(privileged))),
        micros: answer.micros.saturating_sub(seen.micros),
        ran: seen.ran,
        transparent: seen.transparent,
        complaint: answer.said,
    }
}

/// Ignores that a process was killed meanwhile: the next wait reports it.
fn still_there(result: nix::Result<()>) -> nix::Result<()> {
    match result {
        Err(Errno::ESRCH) => Ok(()),
        result => result,
    }
}

/// The file that the kernel runs for this process, which is held: for a handler's program, the interpreter; and whether it is
/// invisible. `probe` is the program's own file, as [`id`] has it.
fn executable_of(pid: Pid, probe: &str) -> (Ran, bool) {
    let look = || {
        let file = File::open(format!("/proc/{pid}/exe"))?;
        let id = id(&file.metadata()?);
        io::Result::Ok((file, id))
    };
    match look() {
        Ok((_, id)) if id == probe && table::may_be_transparent() => mapped_in(pid, probe),
        Ok((_, id)) if id == probe => (Ran::Itself, false),
        Ok((file, _)) => (Ran::Interpreter(Arc::new(file)), false),
        Err(error) => (Ran::Unseen(format!("/proc/PID/exe: {}", cause(&error))), false),
    }
}

/// The same of a process whose `/proc/PID/exe` is the probe: before its first instruction, an invisible interpreter has mapped
/// itself, and not yet the probe.
fn mapped_in(pid: Pid, probe: &str) -> (Ran, bool) {
    let unseen = |error: &io::Error| {
        // the capability counts over the host: proc_pid_map_files(5)
        let forbidden = error.raw_os_error() == Some(Errno::EPERM as i32);
        let why = if forbidden { "only root on the host sees it" } else { "it is invisible" };
        Ran::Unseen(format!("{why} (flag T), /proc/PID/map_files: {}", cause(error)))
    };
    match Mapped::of(pid) {
        Ok(mapped) if mapped.iter().any(|file| format!("{}:{}", file.id.0, file.id.1) == probe) => (Ran::Itself, false),
        Ok(mapped) => match Mapped::open_first(pid, &mapped) {
            Ok(file) => (Ran::Interpreter(Arc::new(file)), true),
            Err(error) => (unseen(&error), true),
        },
        Err(error) => (Ran::Unseen(format!("/proc/PID/maps: {}", cause(&error))), false),
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

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    /// It ends by itself at its limit, so no emulator shows this.
    #[test]
    fn a_process_that_does_not_end_at_its_limit_is_killed() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = AtomicI32::new(child.id().try_into().unwrap());
        let (ended, ends) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let began = Instant::now();
        let status = thread::scope(|scope| {
            let process = &process;
            let waiting = scope.spawn(move || {
                let status = child.wait().unwrap();
                process.store(OVER, Ordering::Release);
                drop(ends);
                status
            });
            keep_time(process, ended.as_fd(), Duration::ZERO, true).unwrap();
            waiting.join().unwrap()
        });
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32), "{status}");
        assert!(began.elapsed() >= QUIET + GRACE, "{:?}", began.elapsed());
    }
}

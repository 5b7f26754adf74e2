//! Waiting for another process: for a lock, for an emulator. After a second, a line says what is waited for. Once this
//! process is told to end, no wait lasts for long.
//!
//! Only `command` prints, and waits happen far below it. So it passes in the function that prints ([`say_by`]).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::time::TimeSpec;

use crate::kernel::process;

/// A wait up to this long is not worth a line.
pub(super) const QUIET: Duration = Duration::from_secs(1);
/// How long all waits together may still last once this process is told to end.
const GRACE: Duration = Duration::from_secs(4);
/// How long this process may still run then, whatever it waits for.
const END: Duration = Duration::from_secs(9);
/// How long the line about that may take. A pipe that nobody reads may be what this process waits for.
const LAST_LINE: Duration = Duration::from_secs(1);

static SAY: OnceLock<fn(&str)> = OnceLock::new();
static BEFORE_END: OnceLock<fn()> = OnceLock::new();
static ENDS: OnceLock<SignalFd> = OnceLock::new();
static TOLD: OnceLock<Instant> = OnceLock::new();

/// Lines about waits are printed by `say` from now on. Only the first call counts.
pub fn say_by(say: fn(&str)) {
    let _ = SAY.set(say);
}

/// `work` is done before a wait [ends](end) this process. Only the first call counts.
pub fn before_end(work: fn()) {
    let _ = BEFORE_END.set(work);
}

/// Ends this process, whose other threads may be in a system call that waits for a file server.
#[expect(clippy::exit, reason = "the thread that would return is in a system call")]
pub fn end(status: u8) -> ! {
    if let Some(work) = BEFORE_END.get() {
        work();
    }
    std::process::exit(status.into())
}

/// Prints a line about a wait.
pub fn say(line: &str) {
    if let Some(say) = SAY.get() {
        say(line);
    }
}

/// From now on, SIGTERM, SIGINT and SIGHUP end the waits of this process, not the process, and interrupt no system call.
/// They are blocked in the programs that it starts, too. SIGHUP does nothing if this process ignores it (`nohup(1)`).
pub fn end_by_signals() -> io::Result<()> {
    let mut ends = vec![Signal::SIGTERM, Signal::SIGINT];
    if !process::ignored()(Signal::SIGHUP) {
        ends.push(Signal::SIGHUP);
    }
    let _ = ENDS.set(process::signals(&ends)?);
    thread::Builder::new().spawn(end_by_force)?;
    Ok(())
}

/// Ends this process if it still runs [`END`] after it is told to end. A blocked signal does not interrupt a
/// system call that waits for a FUSE or NFS server; only the end of the process does.
fn end_by_force() {
    let Some(ends) = ENDS.get() else { return };
    let mut told = [PollFd::new(ends.as_fd(), PollFlags::POLLIN)];
    while ppoll(&mut told, None, None) == Err(Errno::EINTR) {}
    thread::sleep(END);
    let line = "binfmt: still at work nine seconds after the signal to end, perhaps because a file system does not \
                answer, or nobody reads what this call prints; it ends now, and the handlers stay as they are";
    let (is_said, said) = mpsc::channel();
    let printing = thread::Builder::new().spawn(move || {
        say(line);
        is_said.send(())
    });
    if printing.is_ok() {
        let _ = said.recv_timeout(LAST_LINE);
    }
    end(1);
}

/// Whether a wait has seen that this process is told to end.
pub fn is_told_to_end() -> bool {
    TOLD.get().is_some()
}

/// Sleeps until `news` can be read, `at_most` is over, or this process is told to end.
pub fn sleep(news: Option<BorrowedFd>, at_most: Duration) -> io::Result<()> {
    let ends = ENDS.get().filter(|_| !is_told_to_end());
    let read = |fd| PollFd::new(fd, PollFlags::POLLIN);
    let mut waited: Vec<PollFd> = ends.map(|ends| read(ends.as_fd())).into_iter().collect();
    waited.extend(news.map(read));
    match ppoll(&mut waited, Some(TimeSpec::from_duration(at_most)), None) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    // left unread, so that every thread sees it
    if ends.is_some() && waited[0].any() == Some(true) {
        TOLD.get_or_init(Instant::now);
    }
    Ok(())
}

#[derive(Debug)]
pub struct Wait {
    began: Instant,
    limit: Duration,
    said: bool,
}

impl Wait {
    pub fn at_most(limit: Duration) -> Self {
        Self { began: Instant::now(), limit, said: false }
    }

    /// One that no line tells of.
    pub fn silent(limit: Duration) -> Self {
        Self { said: true, ..Self::at_most(limit) }
    }

    /// Whether it has lasted so long that a line says so.
    pub fn is_long(&self) -> bool {
        self.began.elapsed() >= QUIET
    }

    /// Sleeps until `news` can be read, or `pause` is over. False: the limit is over, or this process is told to end.
    /// After a second, a line says "waiting for", and `what`.
    pub fn goes_on(
        &mut self,
        news: Option<BorrowedFd>,
        pause: Duration,
        what: impl FnOnce() -> String,
    ) -> io::Result<bool> {
        let now = Instant::now();
        let end = self.began + self.limit;
        let end = TOLD.get().map_or(end, |told| end.min(*told + GRACE));
        if now >= end {
            return Ok(false);
        }
        if self.is_long() && !self.said {
            self.said = true;
            say(&format!("waiting for {}", what()));
        }
        let quiet = if self.said { end } else { self.began + QUIET };
        let until = end.min(quiet).saturating_duration_since(now);
        sleep(news, until.min(pause))?;
        Ok(true)
    }
}

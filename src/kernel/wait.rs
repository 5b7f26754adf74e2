//! Waiting for what another process holds up: for a lock, for an emulator. A wait of more than a second is said, and none goes
//! on for long once this process is told to end.
//!
//! Waits happen far below the edge, and only the edge prints: it says once how ([`say_by`]).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;

/// A wait up to this long needs no words.
const QUIET: Duration = Duration::from_secs(1);
/// How long all waits together may still take once this process is told to end.
const GRACE: Duration = Duration::from_secs(5);

static SAY: OnceLock<fn(&str)> = OnceLock::new();
static ENDS: OnceLock<SignalFd> = OnceLock::new();
static TOLD: OnceLock<Instant> = OnceLock::new();

/// From now on waits are said by `say`, a line at a time. The first call counts.
pub fn say_by(say: fn(&str)) {
    let _ = SAY.set(say);
}

/// Says a line about what is waited for.
pub(crate) fn say(line: &str) {
    if let Some(say) = SAY.get() {
        say(line);
    }
}

/// From now on SIGTERM and SIGINT end no system call and not this process, but its waits. What this process starts inherits that
/// they are blocked.
pub fn end_by_signals() -> io::Result<()> {
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGTERM);
    ends.add(Signal::SIGINT);
    ends.thread_block()?;
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    let _ = ENDS.set(SignalFd::with_flags(&ends, flags)?);
    thread::Builder::new().spawn(end_by_force)?;
    Ok(())
}

/// Ends this process if it is still there twice [`GRACE`] after it is told to end. The signals above do not interrupt a system
/// call that waits for a FUSE or NFS server; only the end of the process does.
#[expect(clippy::exit, reason = "the thread that would return is in a system call")]
fn end_by_force() {
    let Some(ends) = ENDS.get() else { return };
    let mut told = [PollFd::new(ends.as_fd(), PollFlags::POLLIN)];
    while ppoll(&mut told, None, None) == Err(Errno::EINTR) {}
    thread::sleep(2 * GRACE);
    say("binfmt: still at work ten seconds after the signal to end, perhaps because a file system does not answer; \
         this call ends now, and the handlers stay as they are");
    std::process::exit(1);
}

/// Whether this process was seen to be told to end.
pub fn is_told_to_end() -> bool {
    TOLD.get().is_some()
}

/// Sleeps until there is news to be read from one of these, or `at_most` is over, or this process is told to end.
pub fn sleep(news: Option<BorrowedFd>, at_most: Duration) -> io::Result<()> {
    let ends = ENDS.get().filter(|_| !is_told_to_end());
    let read = |fd| PollFd::new(fd, PollFlags::POLLIN);
    let mut waited: Vec<PollFd> = ends.map(|ends| read(ends.as_fd())).into_iter().collect();
    waited.extend(news.map(read));
    match ppoll(&mut waited, Some(TimeSpec::from_duration(at_most)), None) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    // left unread, so that it is there for whoever looks
    if ends.is_some() && waited[0].any() == Some(true) {
        TOLD.get_or_init(Instant::now);
    }
    Ok(())
}

/// One wait, from its beginning on.
#[derive(Debug)]
pub struct Wait {
    began: Instant,
    limit: Duration,
    said: bool,
}

impl Wait {
    /// Begins one of at most `limit`.
    pub fn at_most(limit: Duration) -> Self {
        Self { began: Instant::now(), limit, said: false }
    }

    /// Whether it takes so long that it is said.
    pub fn is_long(&self) -> bool {
        self.began.elapsed() >= QUIET
    }

    /// Sleeps until there may be news: something to read from `news`, or `pause` is over. False: the wait is over. `what` is said after
    /// a second, as "waiting for" that.
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

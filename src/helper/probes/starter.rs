//! The threads that start programs, one program after the other.
//!
//! `execve(2)` opens the handler's interpreter, and where that is on a file server that does not answer (NFS, FUSE), it waits, and
//! the thread that has started the program waits with it (`vfork(2)`). Then another thread starts the rest. A thread that waits is
//! left to itself. With musl, the other thread waits too: a process starts one program at a time there (`posix_spawn`), and
//! [`super::start`] has other processes start the rest.
//!
//! Each thread is named by the number of the first program that it starts, so that [`super::watch`] knows which ones it starts.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

/// How long a start may take until another thread goes on with the rest. Starting a program takes a millisecond; a thread too many
/// does no harm.
const PATIENCE: Duration = Duration::from_millis(200);
/// Enough to start a program.
const STACK: usize = 128 * 1024;

/// Starts a program, by its number.
type Start<T> = dyn Fn(usize) -> T + Send + Sync;

/// The programs that are started, and those that are still to be.
pub(super) struct Starters<T> {
    shared: Arc<Shared<T>>,
    results: Receiver<(usize, T)>,
    sender: Sender<(usize, T)>,
    /// Can be read when there is a result.
    news: File,
    /// The other end.
    tells: Arc<File>,
    /// When the last thread was started, or the last result came.
    since: Instant,
}

struct Shared<T> {
    start: Box<Start<T>>,
    turn: Mutex<Turn>,
}

/// Whose turn it is to start which program.
struct Turn {
    next: usize,
    total: usize,
    /// The first program of the thread that starts them. Any other thread has been given up.
    thread: usize,
}

impl Turn {
    /// The program that the thread is to start now.
    fn take(&mut self, thread: usize) -> Option<usize> {
        (self.thread == thread && self.next < self.total).then(|| {
            self.next += 1;
            self.next - 1
        })
    }

    /// Gives the turn to another thread, if there is a program left for it: returns the first.
    fn give_up(&mut self) -> Option<usize> {
        (self.next < self.total).then(|| {
            self.thread = self.next;
            self.next
        })
    }
}

impl<T: Send + 'static> Starters<T> {
    /// Begins to call `start` with each number below `total`.
    pub(super) fn begin(total: usize, start: Box<Start<T>>) -> Result<Self> {
        let (news, tells) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let (sender, results) = channel();
        let turn = Mutex::new(Turn { next: 0, total, thread: 0 });
        let shared = Arc::new(Shared { start, turn });
        let tells = Arc::new(File::from(tells));
        let starters = Self { shared, results, sender, news: news.into(), tells, since: Instant::now() };
        starters.start_thread(0)?;
        Ok(starters)
    }

    fn start_thread(&self, first: usize) -> Result<()> {
        let (shared, sender, tells) = (Arc::clone(&self.shared), self.sender.clone(), Arc::clone(&self.tells));
        let work = move || {
            // the lock is not held during a start
            let next = || shared.turn().take(first);
            while let Some(number) = next() {
                let result = (shared.start)(number);
                // whoever received them has ended, or has enough to read
                let _ = sender.send((number, result));
                let _ = (&*tells).write(&[0]);
            }
        };
        thread::Builder::new().name(first.to_string()).stack_size(STACK).spawn(work)?;
        Ok(())
    }

    /// What can be read when there is a result.
    pub(super) fn news(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }

    /// How long to wait for news until [`Self::take`] is to be called all the same.
    pub(super) fn patience(&self) -> Duration {
        PATIENCE.saturating_sub(self.since.elapsed())
    }

    /// The results that have come, with their numbers. Where none has come for a while, another thread goes on with the rest; fails
    /// when that cannot be started.
    pub(super) fn take(&mut self) -> Result<Vec<(usize, T)>> {
        let mut seen = [0; 64];
        while (&self.news).read(&mut seen).is_ok_and(|length| length == seen.len()) {}
        let results: Vec<_> = self.results.try_iter().collect();
        if !results.is_empty() {
            self.since = Instant::now();
        } else if self.patience().is_zero() {
            self.since = Instant::now();
            let rest = self.shared.turn().give_up();
            rest.map_or(Ok(()), |first| self.start_thread(first))?;
        }
        Ok(results)
    }
}

impl<T> Shared<T> {
    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

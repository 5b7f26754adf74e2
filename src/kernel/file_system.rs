//! How long this process waits for a file system. A path may lead to a file server that does not answer (NFS, FUSE), and then
//! only the end of the process ends a system call that waits for it. So another thread keeps the time, and ends the process.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, SigmaskHow};

use crate::kernel::process::path_of;
use crate::kernel::wait::{QUIET, end, say};

/// How long a file system may take to answer.
const LIMIT: Duration = Duration::from_secs(10);

/// Enough for the thread. Memory may be limited.
const STACK: usize = 64 * 1024;

static STATE: Mutex<State> = Mutex::new(State { asked: Vec::new(), asks: 0, watching: None, is_over: false });
static OVER: Condvar = Condvar::new();
static STATUS: AtomicU8 = AtomicU8::new(1);
static IS_LIMITED: AtomicBool = AtomicBool::new(true);
static IS_WATCHED: AtomicBool = AtomicBool::new(true);

struct State {
    /// What is waited for now.
    asked: Vec<Asked>,
    /// How often something was.
    asks: u64,
    /// The thread that keeps the time.
    watching: Option<JoinHandle<()>>,
    is_over: bool,
}

struct Asked {
    number: u64,
    path: PathBuf,
    since: Instant,
    said: bool,
}

/// From now on, a process that is ended here has this exit status. It is 1 before.
pub fn fail_with(status: u8) {
    STATUS.store(status, Ordering::Relaxed);
}

/// From now on, waits are not limited, and no thread is started for that: there is no file server.
pub fn no_server() {
    IS_WATCHED.store(false, Ordering::Relaxed);
}

/// From now on, nothing ends the process, and it waits until the server answers: for a process that is to stay.
pub fn wait_without_limit() {
    IS_LIMITED.store(false, Ordering::Relaxed);
}

/// Does `work`, which asks the file system at `path`. After a second, a line says what is waited for. When it takes longer than
/// [`LIMIT`], another line says so, and the process ends.
pub fn within_limit<T>(path: &Path, work: impl FnOnce() -> T) -> T {
    if !IS_WATCHED.load(Ordering::Relaxed) {
        return work();
    }
    let mut state = state();
    state.asks += 1;
    let number = state.asks;
    state.asked.push(Asked { number, path: path.to_owned(), since: Instant::now(), said: false });
    if state.watching.is_none() {
        // without the thread, it only waits as long as it must
        state.watching = start_watching().ok();
    }
    drop(state);
    let _end = End(number);
    work()
}

/// Starts the thread that keeps the time. It gets no signals: they are for the threads that wait for them.
fn start_watching() -> io::Result<JoinHandle<()>> {
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let started = thread::Builder::new().stack_size(STACK).spawn(watch);
    mask.thread_set_mask()?;
    started
}

/// [`within_limit`], for work that reads an open file.
pub fn reading<T>(file: &File, work: impl FnOnce() -> T) -> T {
    let path = fs::read_link(path_of(file));
    within_limit(&path.unwrap_or_else(|_| "a file".into()), work)
}

/// Ends the thread that keeps the time, until the next wait. A process with threads cannot enter a user namespace.
pub fn stop_watching() {
    let mut state = state();
    let Some(watching) = state.watching.take() else { return };
    state.is_over = true;
    drop(state);
    OVER.notify_all();
    let _ = watching.join();
    self::state().is_over = false;
}

/// The end of a wait, also by a panic.
struct End(u64);

impl Drop for End {
    fn drop(&mut self) {
        state().asked.retain(|asked| asked.number != self.0);
    }
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn watch() {
    let mut state = state();
    while !state.is_over {
        // whoever is waited for now is looked at a quarter of a second late at most
        state = OVER.wait_timeout(state, QUIET / 4).unwrap_or_else(PoisonError::into_inner).0;
        if state.asked.is_empty() {
            // a process that holds need not wake up for this
            drop(state.watching.take());
            return;
        }
        let Some(asked) = state.asked.iter_mut().find(|asked| asked.since.elapsed() >= QUIET) else { continue };
        let path = asked.path.display().to_string();
        let is_limited = IS_LIMITED.load(Ordering::Relaxed);
        if is_limited && asked.since.elapsed() >= LIMIT {
            drop(state);
            say(&format!(
                "binfmt: the file system of {path} does not answer; see whether its file server runs, or name another path"
            ));
            end(STATUS.load(Ordering::Relaxed));
        }
        if !asked.said {
            asked.said = true;
            let limit = if is_limited { format!(", for {} s at most", LIMIT.as_secs()) } else { String::new() };
            drop(state);
            // whoever reads this may be slow
            say(&format!("waiting for the file system of {path}{limit}"));
            state = self::state();
        }
    }
}

//! The threads of the process. All of them are started before anything else: later, when the system gives no more, a name
//! would be waited for without end by whoever resolves it.

use std::fs;
use std::io;
use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

/// Threads for what would hold up a worker: resolving the names of the database, of Redis, of whoever is told of events.
const HELPERS: usize = 8;

/// How long the system may take to start, or to forget, threads.
const START_MAX: Duration = Duration::from_secs(10);

/// Threads do not end for want of work.
const IDLE_MAX: Duration = Duration::from_hours(24 * 365 * 100);

/// Why the process has too few threads.
#[derive(Debug, thiserror::Error)]
#[error(
    "{needed} threads are needed and cannot all be started: {problem}; raise the limit of processes (ulimit -u, TasksMax, pids.max)"
)]
pub(super) struct ThreadsError {
    needed: usize,
    problem: io::Error,
}

/// Starts the runtime, all threads included: one worker per processor, and the helpers.
pub(super) fn start() -> Result<Runtime, ThreadsError> {
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let needed = workers + HELPERS;
    let failed = |problem| ThreadsError { needed, problem };
    probe(needed).map_err(failed)?;
    let (started, threads) = mpsc::channel();
    let runtime = Builder::new_multi_thread()
        .enable_all()
        .worker_threads(workers)
        .max_blocking_threads(HELPERS)
        .thread_keep_alive(IDLE_MAX)
        .on_thread_start(move || {
            // Nobody counts any more once all have started.
            let _ = started.send(());
        })
        .build()
        .map_err(failed)?;
    let gate = Gate::new();
    for _ in 0..HELPERS {
        runtime.spawn_blocking(gate.wait());
    }
    for _ in 0..needed {
        let late = |_| failed(io::ErrorKind::TimedOut.into());
        threads.recv_timeout(START_MAX).map_err(late)?;
    }
    Ok(runtime)
}

/// Whether so many threads can be started. The runtime itself panics when it gets none, and says nothing when it gets few.
fn probe(needed: usize) -> io::Result<()> {
    let before = alive();
    let gate = Gate::new();
    let threads: io::Result<Vec<_>> =
        (0..needed).map(|_| thread::Builder::new().spawn(gate.wait())).collect();
    drop(gate);
    for thread in threads? {
        // It does nothing that could fail.
        let _ = thread.join();
    }
    // A thread that has ended counts until the system has forgotten it.
    let deadline = Instant::now() + START_MAX;
    while before < alive() && Instant::now() < deadline {
        thread::yield_now();
    }
    Ok(())
}

/// The threads of this process.
fn alive() -> usize {
    fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// Holds tasks up until it is dropped, so that each takes a thread of its own.
struct Gate {
    _shut: mpsc::Sender<()>,
    opens: Arc<Mutex<mpsc::Receiver<()>>>,
}

impl Gate {
    fn new() -> Self {
        let (shut, opens) = mpsc::channel();
        Self { _shut: shut, opens: Arc::new(Mutex::new(opens)) }
    }

    /// A task that does nothing else.
    fn wait(&self) -> impl FnOnce() + Send + use<> {
        let opens = self.opens.clone();
        move || {
            // An error is what it waits for: nothing is ever sent.
            let _ = opens.lock().unwrap_or_else(PoisonError::into_inner).recv();
        }
    }
}

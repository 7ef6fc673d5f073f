//! Processes that never outlive the one that started them.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::StackError;
use crate::wait::{INTERVAL, START_DEADLINE};

/// How long a process may take to end after it was asked to.
const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// How many lines of a log an error shows.
const LOG_LINES: usize = 25;

/// A process to start: program, arguments, environment, log file.
#[derive(Debug, Clone)]
pub struct Recipe {
    name: String,
    program: PathBuf,
    arguments: Vec<OsString>,
    variables: Vec<(String, OsString)>,
    log: PathBuf,
}

/// A process that can be stopped and started again under the same recipe.
#[derive(Debug)]
pub struct Child {
    recipe: Recipe,
    running: Mutex<Option<process::Child>>,
}

// === impl Recipe ===

impl Recipe {
    /// A process without arguments, whose log is `<folder>/<name>.log`.
    pub fn new(name: &str, program: &Path, folder: &Path) -> Self {
        Self {
            name: name.to_owned(),
            program: program.to_owned(),
            arguments: Vec::new(),
            variables: Vec::new(),
            log: folder.join(format!("{name}.log")),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(self, arguments: impl IntoIterator<Item = A>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.variables.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The command line. `setpriv` has the kernel kill the process when its parent dies, then becomes the program.
    fn command(&self) -> Result<Command, StackError> {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.map_err(StackError::system(format!("open {:?}", self.log)))?;
        let errors = log.try_clone().map_err(StackError::system("copy a file descriptor"))?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&self.program)
            .args(&self.arguments)
            // What this process was told, such as `FAREBOX_BIN`, is not meant for its children.
            .env_clear()
            .envs(inherited())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // Ctrl-C reaches the harness alone, which then stops its parts in order.
            .process_group(0);
        Ok(command)
    }

    fn spawn(&self) -> Result<process::Child, StackError> {
        spawn_for_life(self.command()?)
            .map_err(StackError::system(format!("start {} ({:?})", self.name, self.program)))
    }

    /// The last lines of the log.
    fn last_lines(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        let first = lines.len().saturating_sub(LOG_LINES);
        lines.iter().skip(first).map(|line| format!("  | {line}\n")).collect()
    }
}

/// What a program of the system may rely on.
pub(crate) fn inherited() -> impl Iterator<Item = (&'static str, OsString)> {
    let names = ["PATH", "HOME", "TMPDIR", "RUST_BACKTRACE"];
    names.into_iter().filter_map(|name| env::var_os(name).map(|value| (name, value)))
}

type Spawned = io::Result<process::Child>;

/// A command to start, and where to say how that went.
type Order = (Command, mpsc::Sender<Spawned>);

/// Spawns on a thread that lives as long as the process.
///
/// The kernel sends the parent-death signal when the *thread* that forked ends, and test threads end early.
fn spawn_for_life(command: Command) -> Spawned {
    static SPAWNER: LazyLock<Mutex<mpsc::Sender<Order>>> = LazyLock::new(|| {
        let (orders, queue) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in queue {
                answer.send(command.spawn()).ok();
            }
        });
        Mutex::new(orders)
    });
    let (answer, spawned) = mpsc::channel();
    let gone = |_| io::Error::other("the spawning thread has ended");
    lock(&SPAWNER).send((command, answer)).map_err(|_| io::Error::other("no spawning thread"))?;
    spawned.recv().map_err(gone)?
}

/// A mutex's content, also when a test panicked while it held the lock.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Child ===

impl Child {
    /// Starts the process.
    pub fn start(recipe: Recipe) -> Result<Self, StackError> {
        let running = recipe.spawn()?;
        Ok(Self { recipe, running: Mutex::new(Some(running)) })
    }

    /// Waits until `is_ready` says so; fails when the process ends first or the deadline passes.
    pub async fn ready(&self, mut is_ready: impl AsyncFnMut() -> bool) -> Result<(), StackError> {
        let deadline = Instant::now() + START_DEADLINE;
        while !is_ready().await {
            if let Some(status) = self.ended() {
                return Err(self.not_ready(format!("ended with {status}")));
            }
            if deadline < Instant::now() {
                return Err(self.not_ready(format!("was not ready within {START_DEADLINE:?}")));
            }
            tokio::time::sleep(INTERVAL).await;
        }
        Ok(())
    }

    /// Starts the process again after [`Self::stop`] or [`Self::kill`].
    pub fn start_again(&self) -> Result<(), StackError> {
        let mut running = lock(&self.running);
        if running.is_none() {
            *running = Some(self.recipe.spawn()?);
        }
        Ok(())
    }

    /// Asks the process to end, and waits for it.
    pub fn stop(&self) {
        self.end(Signal::TERM);
    }

    /// Ends the process at once, as a crash would.
    pub fn kill(&self) {
        self.end(Signal::KILL);
    }

    /// Stops the process without ending it: it does nothing until [`Self::resume`].
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets the process go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends a signal that does not end the process, such as STOP.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(child) = &*lock(&self.running) {
            send(child, signal);
        }
    }

    /// The last lines of the log.
    pub fn last_lines(&self) -> String {
        self.recipe.last_lines()
    }

    /// The whole log.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.recipe.log).unwrap_or_default()).into_owned()
    }

    /// The process id while it runs.
    pub fn id(&self) -> Option<u32> {
        lock(&self.running).as_ref().map(process::Child::id)
    }

    /// The memory that the process has, in bytes, as the system counts it (`VmRSS`); 0 when it does not run.
    pub fn resident(&self) -> u64 {
        let status = self.id().map(|id| fs::read_to_string(format!("/proc/{id}/status")));
        let status = status.and_then(Result::ok).unwrap_or_default();
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"));
        kib.and_then(|kib| kib.trim().parse::<u64>().ok()).map_or(0, |kib| kib * 1_024)
    }

    /// Whether the process has ended by itself.
    pub fn has_ended(&self) -> bool {
        self.ended().is_some()
    }

    fn ended(&self) -> Option<ExitStatus> {
        lock(&self.running).as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    fn not_ready(&self, problem: String) -> StackError {
        StackError::NotReady { name: self.recipe.name.clone(), problem, log: self.last_lines() }
    }

    fn end(&self, signal: Signal) {
        let Some(mut child) = lock(&self.running).take() else { return };
        if let Ok(None) = child.try_wait() {
            send(&child, signal);
            let deadline = Instant::now() + STOP_DEADLINE;
            while let Ok(None) = child.try_wait() {
                if deadline < Instant::now() {
                    child.kill().ok();
                }
                thread::sleep(INTERVAL);
            }
        }
    }
}

/// The child is not waited for yet, so its id still names it and nothing else.
fn send(child: &process::Child, signal: Signal) {
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    id.map(|id| kill_process(id, signal));
}

impl Drop for Child {
    fn drop(&mut self) {
        self.stop();
    }
}

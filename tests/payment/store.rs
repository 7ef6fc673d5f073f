//! The state file. A change counts when it is on disk: beside the file, synced, then renamed over it.
//!
//! One thread writes. What changes while it writes goes with the next write, so that many calls at once share one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use crate::state::State;

pub(crate) struct Store {
    shared: Arc<Shared>,
    durable: watch::Receiver<u64>,
}

struct Shared {
    memory: Mutex<Memory>,
    changed: Condvar,
}

struct Memory {
    state: State,
    /// Counts changes.
    version: u64,
}

impl Store {
    /// Reads the file, if it is there. Callbacks go to `to_send` once they are on disk.
    pub(crate) fn open(path: &Path, to_send: UnboundedSender<u64>) -> io::Result<Self> {
        let mut state: State = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(err) if err.kind() == io::ErrorKind::NotFound => State::default(),
            Err(err) => return Err(err),
        };
        state.outbox.all_waiting_are_fresh();
        // The first write shows at once whether writing is possible at all.
        write(path, &serde_json::to_vec(&state)?)?;
        let memory = Mutex::new(Memory { state, version: 1 });
        let shared = Arc::new(Shared { memory, changed: Condvar::new() });
        let (tell, durable) = watch::channel(0);
        let writer = Writer { shared: Arc::clone(&shared), path: path.to_owned(), tell, to_send };
        thread::spawn(move || writer.run());
        Ok(Self { shared, durable })
    }

    /// Changes the state; returns when what it became is on disk.
    pub(crate) async fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let (result, version) = self.change_now(change);
        self.on_disk(version).await;
        result
    }

    /// Changes the state; it will be on disk soon, but a crash may undo it.
    pub(crate) fn change_soon<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        self.change_now(change).0
    }

    /// Reads what is on disk, or will be by the time this returns: nothing that a crash could undo is told.
    pub(crate) async fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        let (result, version) = {
            let memory = self.shared.lock();
            (read(&memory.state), memory.version)
        };
        self.on_disk(version).await;
        result
    }

    /// Reads what is in memory.
    pub(crate) fn look<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.shared.lock().state)
    }

    fn change_now<T>(&self, change: impl FnOnce(&mut State) -> T) -> (T, u64) {
        let mut memory = self.shared.lock();
        let result = change(&mut memory.state);
        memory.version += 1;
        self.shared.changed.notify_one();
        (result, memory.version)
    }

    async fn on_disk(&self, version: u64) {
        // The writer lives as long as the process.
        self.durable.clone().wait_for(|durable| version <= *durable).await.ok();
    }
}

impl Shared {
    /// The memory; a panic of its former holder left it whole, because changes come after checks.
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that writes.
struct Writer {
    shared: Arc<Shared>,
    path: PathBuf,
    tell: watch::Sender<u64>,
    to_send: UnboundedSender<u64>,
}

impl Writer {
    fn run(self) {
        let mut written = 0;
        loop {
            let (bytes, fresh) = {
                let memory = self.shared.lock();
                let unchanged = |memory: &mut Memory| memory.version == written;
                let memory = self.shared.changed.wait_while(memory, unchanged);
                let mut memory = memory.unwrap_or_else(PoisonError::into_inner);
                written = memory.version;
                (serde_json::to_vec(&memory.state), memory.state.outbox.take_fresh())
            };
            let started = Instant::now();
            if let Err(err) = bytes.map_err(io::Error::from).and_then(|b| write(&self.path, &b)) {
                // Nothing may be answered any more.
                eprintln!("cannot write {:?}: {err}", self.path);
                std::process::exit(1);
            }
            self.tell.send_replace(written);
            for number in fresh {
                self.to_send.send(number).ok();
            }
            // At most half of the time is spent writing: under load, more changes share a write.
            thread::sleep(started.elapsed());
        }
    }
}

/// Replaces a file so that a crash leaves either the old content or the new.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    // The rename itself is on disk when the folder is.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

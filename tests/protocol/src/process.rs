//! One Envoy process: the data that its workers share, its clock and its chance, and the host that each worker sees.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use farebox_filter::answer::Answer;
use farebox_filter::host::{Host, SetOutcome, Severity};
use farebox_filter::stats::Stat;
use farebox_filter::trace::Trace;

/// Seconds since 1970 when a process's clock is at zero.
const EPOCH_S: u64 = 1_800_000_000;

/// What a write to shared data does when somebody else wrote in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// It is refused, as Envoy does.
    Checked,
    /// It overwrites: a broken host, to see that tests find what goes wrong then.
    Blind,
}

#[derive(Debug, Default)]
struct SharedData {
    values: HashMap<String, (Vec<u8>, u32)>,
    last_cas: u32,
}

/// What the workers of one process share.
#[derive(Debug)]
pub struct Process {
    data: Mutex<SharedData>,
    now_ms: AtomicU64,
    random: AtomicU64,
    writes: Writes,
    /// Runs where another worker may come in between: before a stored value is read, and before each write.
    switch: fn(),
}

impl Process {
    /// A process that draws its random numbers from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            data: Mutex::default(),
            // Not zero, so that nothing works by chance because no time has passed.
            now_ms: AtomicU64::new(1_000),
            random: AtomicU64::new(seed),
            writes: Writes::Checked,
            switch: || {},
        }
    }

    /// The same with other workers running in threads.
    #[must_use]
    pub fn shared_by_threads(self, switch: fn(), writes: Writes) -> Self {
        Self { switch, writes, ..self }
    }

    /// Milliseconds on the process's clock.
    pub fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::SeqCst)
    }

    /// Time passes.
    pub fn pass(&self, ms: u64) {
        self.now_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// The next number of SplitMix64.
    fn random(&self) -> u64 {
        let state = self.random.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::SeqCst);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn with_data<T>(&self, access: impl FnOnce(&mut SharedData) -> T) -> T {
        access(&mut self.data.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn get(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        // Whoever finds nothing is disturbed at its write; the sweep over thousands of empty sets is not worth a switch.
        if !self.with_data(|data| data.values.contains_key(key)) {
            return None;
        }
        (self.switch)();
        self.with_data(|data| data.values.get(key).cloned())
    }

    /// Writes by the rules of proxy-wasm-cpp-host: a missing key is created whatever the number.
    fn set(&self, key: &str, value: &[u8], cas: u32) -> SetOutcome {
        (self.switch)();
        self.with_data(|data| {
            let stored = data.values.get(key).map(|(_, stored)| *stored);
            let is_behind = stored.is_some_and(|stored| cas != 0 && stored != cas);
            if is_behind && self.writes == Writes::Checked {
                return SetOutcome::Conflict;
            }
            data.last_cas += 1;
            data.values.insert(key.to_owned(), (value.to_vec(), data.last_cas));
            SetOutcome::Stored
        })
    }
}

/// A message that a worker has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Names it in this worker.
    pub token: u32,
    /// Where to.
    pub path: String,
    /// JSON.
    pub body: Vec<u8>,
}

/// The process as one worker sees it.
#[derive(Debug)]
pub struct VmHost {
    process: Arc<Process>,
    last_token: Cell<u32>,
    sent: RefCell<Vec<Message>>,
    resumed: RefCell<Vec<u32>>,
    answered: RefCell<Vec<(u32, u32)>>,
}

impl VmHost {
    /// A host of this process.
    pub fn new(process: Arc<Process>) -> Self {
        Self {
            process,
            last_token: Cell::new(0),
            sent: RefCell::default(),
            resumed: RefCell::default(),
            answered: RefCell::default(),
        }
    }

    /// What was sent since this was last asked.
    pub fn take_sent(&self) -> Vec<Message> {
        self.sent.take()
    }

    /// A stream goes on without ever having been paused.
    pub fn resume_at_once(&self, stream: u32) {
        self.resume(stream);
    }

    /// The streams that go on since this was last asked.
    pub fn take_resumed(&self) -> Vec<u32> {
        self.resumed.take()
    }

    /// The streams that were refused since this was last asked, with the status.
    pub fn take_answered(&self) -> Vec<(u32, u32)> {
        self.answered.take()
    }
}

impl Host for VmHost {
    fn now_ms(&self) -> u64 {
        self.process.now_ms()
    }

    fn unix_s(&self) -> u64 {
        EPOCH_S + self.process.now_ms() / 1_000
    }

    fn random(&self) -> u64 {
        self.process.random()
    }

    fn shared_get(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        self.process.get(key)
    }

    fn shared_set(&self, key: &str, value: &[u8], cas: u32) -> SetOutcome {
        self.process.set(key, value, cas)
    }

    fn call_sidecar(&self, path: &str, body: &[u8], _trace: Option<&Trace>) -> Option<u32> {
        let token = self.last_token.get() + 1;
        self.last_token.set(token);
        self.sent.borrow_mut().push(Message { token, path: path.to_owned(), body: body.to_vec() });
        Some(token)
    }

    fn resume(&self, stream: u32) {
        self.resumed.borrow_mut().push(stream);
    }

    fn answer(&self, stream: u32, answer: &Answer) {
        self.answered.borrow_mut().push((stream, answer.status));
    }

    fn count(&self, _: Stat, _: u64) {}

    fn gauge(&self, _: Stat, _: u64) {}

    fn log(&self, _: Severity, _: &str) {}

    fn tick_every_ms(&self, _: u64) {}
}

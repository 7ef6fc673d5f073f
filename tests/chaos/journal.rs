//! What the clients did and what they were told: one entry per operation.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use farebox_core::money::Nanos;
use serde::Serialize;

use crate::catalog::Service;

/// How an operation ended, as far as its caller knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// Done, and told so.
    Ok,
    /// Not done, and told so.
    Refused,
    /// Nobody told: no answer, a broken one, or one that is not from Farebox.
    Unknown,
}

/// One charged call.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Entry {
    /// Its number, which the upstream sees too; the key of what is asked of a sidecar.
    pub(crate) id: u64,
    pub(crate) user: String,
    pub(crate) service: Service,
    /// Through which gateway; none: asked of a sidecar.
    pub(crate) gateway: Option<usize>,
    pub(crate) units: u64,
    /// Milliseconds since the campaign began.
    pub(crate) begun_ms: u64,
    pub(crate) ended_ms: u64,
    pub(crate) outcome: Outcome,
    /// What the answer said that was charged.
    pub(crate) told: Option<Nanos>,
    pub(crate) status: u16,
}

/// Counts of operations that are judged by others' word, such as recharges: by kind and outcome.
pub(crate) type Counts = BTreeMap<(&'static str, Outcome), u64>;

/// The journal of all clients.
#[derive(Debug)]
pub(crate) struct Journal {
    began: Instant,
    began_unix: Duration,
    next: AtomicU64,
    entries: Mutex<Vec<Entry>>,
    counts: Mutex<Counts>,
    credits: Mutex<BTreeMap<String, Nanos>>,
    duplicates: AtomicU64,
    contradictions: Mutex<Vec<String>>,
}

impl Journal {
    /// An empty journal that begins now.
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            began_unix: UNIX_EPOCH.elapsed().unwrap_or_default(),
            next: AtomicU64::new(1),
            entries: Mutex::default(),
            counts: Mutex::default(),
            credits: Mutex::default(),
            duplicates: AtomicU64::new(0),
            contradictions: Mutex::default(),
        }
    }

    /// A number that no other operation has.
    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Milliseconds since the campaign began.
    pub(crate) fn now_ms(&self) -> u64 {
        self.at(Instant::now())
    }

    /// The same for another moment.
    pub(crate) fn at(&self, moment: Instant) -> u64 {
        let since = moment.saturating_duration_since(self.began);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// The same for a time that a database tells, in milliseconds since 1970.
    pub(crate) fn since(&self, unix_ms: u64) -> u64 {
        let since = Duration::from_millis(unix_ms).saturating_sub(self.began_unix);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// Keeps an entry.
    pub(crate) fn add(&self, entry: Entry) {
        lock(&self.entries).push(entry);
    }

    /// Counts an operation that others judge.
    pub(crate) fn count(&self, kind: &'static str, outcome: Outcome) {
        *lock(&self.counts).entry((kind, outcome)).or_default() += 1;
    }

    /// Keeps a credit that is known to be done.
    pub(crate) fn credited(&self, user: &str, amount: Nanos) {
        let mut credits = lock(&self.credits);
        let sum = credits.entry(user.to_owned()).or_default();
        *sum = sum.checked_add(amount).unwrap_or(*sum);
    }

    /// Counts a message that was sent again on purpose, and answered as before.
    pub(crate) fn duplicate(&self) {
        self.duplicates.fetch_add(1, Ordering::Relaxed);
    }

    /// Keeps an answer that contradicts an earlier one.
    pub(crate) fn contradiction(&self, text: String) {
        lock(&self.contradictions).push(text);
    }

    /// All entries.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        lock(&self.entries).clone()
    }

    /// All operations by kind and outcome.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = lock(&self.counts).clone();
        for entry in lock(&self.entries).iter() {
            *counts.entry((entry.service.name(), entry.outcome)).or_default() += 1;
        }
        counts
    }

    /// What was credited, by user.
    pub(crate) fn credits(&self) -> BTreeMap<String, Nanos> {
        lock(&self.credits).clone()
    }

    /// How many messages were sent again on purpose.
    pub(crate) fn duplicates(&self) -> u64 {
        self.duplicates.load(Ordering::Relaxed)
    }

    /// Answers that contradict earlier ones.
    pub(crate) fn contradictions(&self) -> Vec<String> {
        lock(&self.contradictions).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

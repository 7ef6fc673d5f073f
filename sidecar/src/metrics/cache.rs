//! What Redis was asked for. Without a Redis nothing is counted: nothing is missed either.

use std::time::Duration;

use metrics::{counter, histogram};

use super::{Counter, Histogram, counters};

const LOCK: &str = "billing_lock_acquire_total";
const LOCK_DURATION: &str = "billing_lock_acquire_duration_seconds";
const HINT: &str = "billing_hint_total";

pub(super) const COUNTERS: &[Counter] = &[
    (
        LOCK,
        "Locks asked for: had (success), not had in time (failed), Redis away, so charged without (unavailable).",
    ),
    (HINT, "Hints asked for: found (hit), not there (miss), Redis away (unavailable)."),
];

pub(super) const HISTOGRAMS: &[Histogram] = &[Histogram::seconds(
    LOCK_DURATION,
    "Time until a lock was had, not had in time, or Redis found to be away.",
    &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0],
)];

label! {
    /// What came of asking for a lock.
    LockResult {
        /// It was had.
        Success = "success",
        /// Somebody else had it for too long.
        Failed = "failed",
        /// Redis did not answer, or refused.
        Unavailable = "unavailable",
    }
}

label! {
    /// What came of asking for a hint.
    HintResult {
        /// It is there, and young enough.
        Hit = "hit",
        /// There is none that can be read.
        Miss = "miss",
        /// Redis did not answer, or refused.
        Unavailable = "unavailable",
    }
}

/// A lock was asked for.
pub fn lock_acquire(result: LockResult, took: Duration) {
    counter!(LOCK, "result" => result.as_str()).increment(1);
    histogram!(LOCK_DURATION).record(took);
}

/// A hint was asked for.
pub fn hint(result: HintResult) {
    counter!(HINT, "result" => result.as_str()).increment(1);
}

pub(super) fn register() {
    counters(LOCK, "result", LockResult::ALL.iter().map(|result| result.as_str()));
    counters(HINT, "result", HintResult::ALL.iter().map(|result| result.as_str()));
    let _ = histogram!(LOCK_DURATION);
}

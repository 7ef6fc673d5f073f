//! Transactions that gave way to others.

use metrics::counter;

use super::{Counter, counters};

const RETRY: &str = "billing_transaction_retry_total";
const EXHAUSTED: &str = "billing_transaction_exhausted_total";

pub(super) const COUNTERS: &[Counter] = &[
    (RETRY, "Attempts of transactions that gave way to others, by the database's error."),
    (EXHAUSTED, "Transactions that gave way in every attempt; their requests got an error."),
];

label! {
    /// Why a transaction gave way: the number of the database's error, or what this program noticed.
    GaveWay {
        /// A deadlock.
        Deadlock = "1213",
        /// Group Replication: another node's transaction was first.
        Certification = "3101",
        /// A row lock that was not had in time.
        LockWait = "1205",
        /// MariaDB: the row changed since the transaction's snapshot.
        SnapshotConflict = "1020",
        /// A row lock that was not waited for.
        NoWait = "3572",
        /// Galera: the server had rolled it back without an error.
        Lost = "lost",
        /// Another transaction created the same row.
        Raced = "raced",
    }
}

/// An attempt of a transaction gave way.
pub fn transaction_gave_way(why: GaveWay) {
    counter!(RETRY, "code" => why.as_str()).increment(1);
}

/// A transaction is not tried again.
pub fn transaction_exhausted() {
    counter!(EXHAUSTED).increment(1);
}

pub(super) fn register() {
    counters(RETRY, "code", GaveWay::ALL.iter().map(|why| why.as_str()));
    let _ = counter!(EXHAUSTED);
}

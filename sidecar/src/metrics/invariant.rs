//! The invariants: what is known to break them, and when they were checked. The gauges show what the database knows, in every
//! sidecar alike.

use std::time::Duration;

use metrics::{Unit, counter, describe_gauge, gauge};

use super::{Counter, counters, float};
use crate::store::invariant;

const VIOLATIONS: &str = "billing_invariant_violations";
const CHECKED: &str = "billing_invariant_checked_total";
const CHECKED_AT: &str = "billing_invariant_last_check_timestamp_seconds";
const UNCHECKED: &str = "billing_invariant_unchecked_seconds";

pub(super) const COUNTERS: &[Counter] =
    &[(CHECKED, "Rows that this process has checked, by invariant.")];

/// So many rows are known to break an invariant.
pub fn invariant_violations(invariant: &'static str, rows: u64) {
    gauge!(VIOLATIONS, "invariant" => invariant).set(float(rows));
}

/// So many rows were checked.
pub fn invariant_checked(invariant: &'static str, rows: u64) {
    counter!(CHECKED, "invariant" => invariant).increment(rows);
}

/// The last check saw this moment, in seconds since 1970.
pub fn invariant_checked_at(scope: &'static str, seconds: i64) {
    gauge!(CHECKED_AT, "scope" => scope).set(float(seconds.unsigned_abs()));
}

/// An account changed so long ago and has not been checked since.
pub fn invariant_unchecked(age: Duration) {
    gauge!(UNCHECKED).set(age.as_secs_f64());
}

/// The counters only: before the database was asked, a gauge at 0 would be a claim.
pub(super) fn register() {
    describe_gauge!(
        VIOLATIONS,
        Unit::Count,
        "Rows that are known to break an invariant, in the whole database; alert when it is not 0. At 1000 there may be more."
    );
    describe_gauge!(
        CHECKED_AT,
        Unit::Seconds,
        "The moment that the last check saw, by the database's clock: of accounts that had changed (touched), of everything (all)."
    );
    describe_gauge!(
        UNCHECKED,
        Unit::Seconds,
        "How long ago the account changed that waits longest for its check."
    );
    counters(CHECKED, "invariant", invariant::rules().map(|rule| rule.name));
}

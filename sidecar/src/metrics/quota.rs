//! Free quotas of the month to come, which a job makes ahead of it.

use std::time::Duration;

use metrics::{Unit, counter, describe_gauge, gauge};

use super::{Counter, float};

const ROWS: &str = "billing_quota_prepared_total";
const FINISHED: &str = "billing_quota_prepared_timestamp_seconds";
const UNPREPARED: &str = "billing_quota_unprepared_seconds";

pub(super) const COUNTERS: &[Counter] =
    &[(ROWS, "Free quotas of the month to come that this process has made ahead of it.")];

/// So many rows were made.
pub fn quotas_prepared(rows: u64) {
    counter!(ROWS).increment(rows);
}

/// The last pass over all accounts came to its end at this moment, in seconds since 1970.
pub fn quotas_prepared_at(seconds: i64) {
    gauge!(FINISHED).set(float(seconds.unsigned_abs()));
}

/// Today's pass is due for so long and has not come to its end.
pub fn quotas_unprepared(age: Duration) {
    gauge!(UNPREPARED).set(age.as_secs_f64());
}

/// The counter only: before the database was asked, a gauge at 0 would be a claim.
pub(super) fn register() {
    let _ = counter!(ROWS);
    describe_gauge!(
        FINISHED,
        Unit::Seconds,
        "When free quotas of a month to come were last made for all accounts; there are three passes a month, one on each of its last three days."
    );
    describe_gauge!(
        UNPREPARED,
        Unit::Seconds,
        "For how long today's pass is due and not finished; 0 on days without one."
    );
}

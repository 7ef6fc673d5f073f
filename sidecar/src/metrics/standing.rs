//! What stands in the database: leases, gateways, events, anomalies. Every sidecar shows the whole of it.

use std::time::Duration;

use farebox_core::money::Nanos;
use metrics::{Unit, describe_gauge, gauge};

use super::{float, units};

const LEASES: &str = "billing_leases_open";
const LEASED_UNITS: &str = "billing_lease_outstanding_units";
const LEASED_AMOUNT: &str = "billing_lease_outstanding_amount";
const LAG: &str = "billing_settle_lag_seconds";
const SILENT: &str = "billing_gateways_silent";
const OUTBOX_LAG: &str = "billing_outbox_lag_seconds";
const ANOMALIES: &str = "billing_payment_anomalies";
const POOL: &str = "billing_database_connections";
const JOB: &str = "billing_job_held_until_timestamp_seconds";
const SEEN: &str = "billing_standing_timestamp_seconds";

/// What gateways hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lent {
    /// Open leases.
    pub leases: u64,
    /// Units of free quotas that they hold.
    pub free_units: u64,
    /// Units to be paid that they hold.
    pub paid_units: u64,
    /// What these cost: the money that gateways hold, and the most that can be lost with them.
    pub amount: Nanos,
    /// How long ago the lease was spoken of that nobody has spoken of for longest.
    pub lag: Duration,
    /// Processes of gateways that hold leases and have not been heard of for `leases.ttl`.
    pub silent_gateways: u64,
}

/// This is lent.
pub fn lent(lent: Lent) {
    gauge!(LEASES).set(float(lent.leases));
    gauge!(LEASED_UNITS, "paid_by" => "free").set(float(lent.free_units));
    gauge!(LEASED_UNITS, "paid_by" => "balance").set(float(lent.paid_units));
    gauge!(LEASED_AMOUNT).set(units(lent.amount));
    gauge!(LAG).set(lent.lag.as_secs_f64());
    gauge!(SILENT).set(float(lent.silent_gateways));
}

/// The event that waits longest to be delivered is due for so long.
pub fn outbox_lag(lag: Duration) {
    gauge!(OUTBOX_LAG).set(lag.as_secs_f64());
}

/// So many kinds of news of payments did not fit and wait for a decision.
pub fn anomalies(count: u64) {
    gauge!(ANOMALIES).set(float(count));
}

/// The connections of this process to the database.
pub fn connections_to_database(busy: u32, idle: u32) {
    gauge!(POOL, "state" => "busy").set(float(busy));
    gauge!(POOL, "state" => "idle").set(float(idle));
}

/// A job is or was somebody's until this moment, in seconds since 1970.
pub fn job_held_until(name: String, seconds: i64) {
    gauge!(JOB, "name" => name).set(float(seconds.unsigned_abs()));
}

/// The database was asked for all of this at this moment, in seconds since 1970.
pub fn standing_seen_at(seconds: i64) {
    gauge!(SEEN).set(float(seconds.unsigned_abs()));
}

/// No values: before the database was asked, 0 would be a claim.
pub(super) fn register() {
    let about = [
        (LEASES, Unit::Count, "Leases that are open, in the whole database."),
        (
            LEASED_UNITS,
            Unit::Count,
            "Units that open leases hold, drawn or not, and nobody has reported.",
        ),
        (
            LEASED_AMOUNT,
            Unit::Count,
            "Money at risk: what these units cost, in units of billing.currency.",
        ),
        (
            LAG,
            Unit::Seconds,
            "How long ago the lease was spoken of that nobody has spoken of for longest: the age of the oldest usage that may not be settled.",
        ),
        (
            SILENT,
            Unit::Count,
            "Processes of gateways that hold leases and have not been heard of for leases.ttl.",
        ),
        (
            OUTBOX_LAG,
            Unit::Seconds,
            "How long the event is due that waits longest to be delivered.",
        ),
        (
            ANOMALIES,
            Unit::Count,
            "Kinds of news of payments that did not fit their orders and wait for a decision.",
        ),
        (POOL, Unit::Count, "Connections of this process to the database."),
        (
            JOB,
            Unit::Seconds,
            "Until when a job is a sidecar's. One in the past is a job that nobody does.",
        ),
        (
            SEEN,
            Unit::Seconds,
            "When the database was last asked for leases, low balances and the like.",
        ),
    ];
    for (name, unit, help) in about {
        describe_gauge!(name, unit, help);
    }
}

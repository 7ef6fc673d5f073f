//! Gateways' messages.

use std::time::Duration;

use metrics::{Unit, counter, histogram};

use super::{CALL_SECONDS, Counter, Histogram, counters, float};

const LEFT_OUT: &str = "billing_sync_left_out_total";

const ITEMS: &str = "billing_sync_items";
const DURATION: &str = "billing_sync_duration_seconds";
const GRANTED: &str = "billing_grant_units";

pub(super) const HISTOGRAMS: &[Histogram] = &[
    Histogram {
        name: ITEMS,
        help: "Items of a message of a gateway: reports, wants and journal lines.",
        unit: Unit::Count,
        buckets: &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0],
    },
    Histogram {
        name: GRANTED,
        help: "Units that were granted to a gateway at once.",
        unit: Unit::Count,
        buckets: &[1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0, 1_000_000.0],
    },
    Histogram::seconds(DURATION, "Time to take a message of a gateway in.", &CALL_SECONDS),
];

pub(super) const COUNTERS: &[Counter] = &[(
    LEFT_OUT,
    "Items of gateways' messages that were left out because somebody kept their account locked. Their gateway sends them again.",
)];

label! {
    /// What a gateway's message is made of.
    SyncItem {
        /// Usage without a lease.
        Journal = "journal",
        /// Usage of a lease.
        Report = "report",
        /// A wish for units.
        Want = "want",
    }
}

/// An item was left out.
pub fn left_out(item: SyncItem) {
    counter!(LEFT_OUT, "item" => item.as_str()).increment(1);
}

/// A message had so many items.
pub fn sync_items(items: usize) {
    histogram!(ITEMS).record(float(items));
}

/// A message was answered, or refused.
pub fn sync_duration(took: Duration) {
    histogram!(DURATION).record(took);
}

/// Units were granted.
pub fn granted(units: u64) {
    histogram!(GRANTED).record(float(units));
}

pub(super) fn register() {
    let _ = (histogram!(ITEMS), histogram!(GRANTED), histogram!(DURATION));
    counters(LEFT_OUT, "item", SyncItem::ALL.iter().map(|item| item.as_str()));
}

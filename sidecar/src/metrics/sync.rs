//! Gateways' messages.

use metrics::counter;

use super::{Counter, counters};

const LEFT_OUT: &str = "billing_sync_left_out_total";

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

pub(super) fn register() {
    counters(LEFT_OUT, "item", SyncItem::ALL.iter().map(|item| item.as_str()));
}

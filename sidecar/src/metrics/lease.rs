//! Leases that were taken back from silent gateways.

use farebox_core::lease::OnLost;
use farebox_core::money::Nanos;
use metrics::{counter, gauge};

use super::{Counter, counters, units};

const UNITS: &str = "billing_lease_lost_units_total";
const LOST_AMOUNT: &str = "billing_lease_lost_amount_total";

pub(super) const COUNTERS: &[Counter] = &[(
    UNITS,
    "Units that leases held, neither reported as used nor given back, when they were taken back from silent gateways, by leases.on_lost. The most that was lost: a gateway that stood idle used none of them.",
)];

pub(super) const AMOUNT: Counter = (
    LOST_AMOUNT,
    "What these units cost, in units of billing.currency: the most that was given away (reported), or was charged without a report (granted). For graphs, not for books.",
);

/// Leases that held this were taken back.
pub fn lease_lost(on_lost: OnLost, count: u64, amount: Nanos) {
    counter!(UNITS, "on_lost" => on_lost.as_str()).increment(count);
    gauge!(LOST_AMOUNT, "on_lost" => on_lost.as_str()).increment(units(amount));
}

pub(super) fn register() {
    let words = [OnLost::Reported, OnLost::Granted].map(OnLost::as_str);
    counters(UNITS, "on_lost", words.into_iter());
    for word in words {
        let _ = gauge!(LOST_AMOUNT, "on_lost" => word);
    }
}

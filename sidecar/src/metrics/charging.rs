//! Checks and deducts, the batches that deducts are charged in, and how many wait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use farebox_core::charge::PaidBy;
use farebox_core::code::Code;
use farebox_core::grant::Split;
use farebox_core::id::ServiceName;
use farebox_core::money::Nanos;
use metrics::{SharedString, Unit, counter, describe_gauge, gauge, histogram};

use super::account::{BalanceUpdate, balance_updated};
use super::{CALL_SECONDS, Counter, Histogram, counters, float, units};

const CHECK: &str = "billing_quota_check_total";
const CHECK_DURATION: &str = "billing_quota_check_duration_seconds";
const DEDUCT: &str = "billing_deduct_quota_total";
const DEDUCT_AMOUNT: &str = "billing_deduct_quota_amount_total";
const DEDUCT_DURATION: &str = "billing_deduct_quota_duration_seconds";
const REFUND_AMOUNT: &str = "billing_charge_refund_amount_total";
const REFUND_UNITS: &str = "billing_charge_refund_units_total";
const UNITS: &str = "billing_charged_units_total";
const REFUSED: &str = "billing_refused_total";
const BATCH_SIZE: &str = "billing_deduct_batch_size";
const QUEUE: &str = "billing_deduct_queue";

pub(super) const COUNTERS: &[Counter] = &[
    (CHECK, "Checks, by what they told."),
    (
        DEDUCT,
        "Charges that were written, by what paid for them: one per deduct, one per gateway, lease and message that reported usage.",
    ),
    (UNITS, "Units that were charged, free ones and those that money paid for."),
    (REFUND_UNITS, "Units of charges that went back, undone calls of strict routes included."),
    (REFUSED, "Deducts, and requests of gateways for units, that were refused, by error number."),
];

pub(super) const AMOUNT: Counter = (
    DEDUCT_AMOUNT,
    "Money that charges took, in units of billing.currency: the revenue. What is owed is not in it, and refunds are billing_charge_refund_amount_total. For graphs, not for books.",
);

pub(super) const REFUNDED: Counter = (
    REFUND_AMOUNT,
    "Money of charges that went back, in units of billing.currency; the revenue less this is what was earned. For graphs, not for books.",
);

pub(super) const HISTOGRAMS: &[Histogram] = &[
    Histogram::seconds(CHECK_DURATION, "Time to answer a check.", &CALL_SECONDS),
    Histogram::seconds(
        DEDUCT_DURATION,
        "Time to answer a deduct, from its body to its answer.",
        &CALL_SECONDS,
    ),
    Histogram {
        name: BATCH_SIZE,
        help: "Requests that were charged in one transaction.",
        unit: Unit::Count,
        buckets: &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0],
    },
];

/// The label of every service that is not configured: callers must not be able to add series.
const UNKNOWN: &str = "unknown";

/// A service as a label: a configured one, or `unknown`.
#[derive(Debug, Clone)]
pub struct ServiceLabel(SharedString);

/// The services that may be labels. Only here labels are made, so there are never more series than services.
#[derive(Debug, Clone)]
pub struct Services(BTreeMap<ServiceName, ServiceLabel>);

label! {
    /// What a check told.
    CheckResult {
        /// A deduct would be charged.
        Allowed = "allowed",
        /// It would be refused.
        Denied = "denied",
        /// It cannot be told.
        Error = "error",
    }
}

impl Services {
    /// Makes the labels of these services, and puts their series at 0.
    pub fn register<'a>(names: impl IntoIterator<Item = &'a ServiceName>) -> Self {
        let label =
            |name: &ServiceName| ServiceLabel(SharedString::from_shared(Arc::from(name.as_str())));
        let services = Self(names.into_iter().map(|name| (name.clone(), label(name))).collect());
        services.0.values().chain([&ServiceLabel::unknown()]).for_each(ServiceLabel::register);
        services
    }

    /// The label of a service.
    pub fn label(&self, service: &ServiceName) -> ServiceLabel {
        self.0.get(service).cloned().unwrap_or_else(ServiceLabel::unknown)
    }
}

impl ServiceLabel {
    fn unknown() -> Self {
        Self(SharedString::const_str(UNKNOWN))
    }

    pub(super) fn get(&self) -> SharedString {
        self.0.clone()
    }

    fn register(&self) {
        for result in CheckResult::ALL {
            let _ = counter!(CHECK, "service" => self.get(), "result" => result.as_str());
        }
        for paid_by in PaidBy::ALL {
            let paid_by = paid_by.as_str();
            let _ = counter!(DEDUCT, "service" => self.get(), "type" => paid_by);
            let _ = gauge!(DEDUCT_AMOUNT, "service" => self.get(), "type" => paid_by);
        }
        for paid_by in [PaidBy::Free, PaidBy::Balance] {
            let paid_by = paid_by.as_str();
            let _ = counter!(UNITS, "service" => self.get(), "paid_by" => paid_by);
            let _ = counter!(REFUND_UNITS, "service" => self.get(), "paid_by" => paid_by);
        }
        let _ = gauge!(REFUND_AMOUNT, "service" => self.get());
        let _ = histogram!(CHECK_DURATION, "service" => self.get());
        let _ = histogram!(DEDUCT_DURATION, "service" => self.get());
    }
}

/// A check was answered.
pub fn quota_check(service: &ServiceLabel, result: CheckResult, took: Duration) {
    counter!(CHECK, "service" => service.get(), "result" => result.as_str()).increment(1);
    histogram!(CHECK_DURATION, "service" => service.get()).record(took);
}

/// Charges were written: so many records of one service that the same paid for.
pub fn charged(
    service: &ServiceLabel,
    paid_by: &'static str,
    records: u64,
    split: Split,
    taken: Nanos,
) {
    counter!(DEDUCT, "service" => service.get(), "type" => paid_by).increment(records);
    gauge!(DEDUCT_AMOUNT, "service" => service.get(), "type" => paid_by).increment(units(taken));
    for (paid_by, units) in [(PaidBy::Free, split.free), (PaidBy::Balance, split.paid)] {
        counter!(UNITS, "service" => service.get(), "paid_by" => paid_by.as_str()).increment(units);
    }
    if taken != Nanos::ZERO {
        balance_updated(BalanceUpdate::Deduct, records);
    }
}

/// Charges of one service went back.
pub fn charge_refunded(service: &ServiceLabel, split: Split, amount: Nanos) {
    gauge!(REFUND_AMOUNT, "service" => service.get()).increment(units(amount));
    for (paid_by, units) in [(PaidBy::Free, split.free), (PaidBy::Balance, split.paid)] {
        let paid_by = paid_by.as_str();
        counter!(REFUND_UNITS, "service" => service.get(), "paid_by" => paid_by).increment(units);
    }
}

/// Somebody was refused, with this error number.
pub fn refused(number: u32) {
    let code = Code::from_number(number).filter(|code| REASONS.contains(code));
    counter!(REFUSED, "code" => code.map_or(OTHER, reason)).increment(1);
}

/// The reasons that have a label of their own.
const REASONS: [Code; 4] =
    [Code::InsufficientBalance, Code::AccountFrozen, Code::InsufficientQuota, Code::UnknownService];
const OTHER: &str = "other";

fn reason(code: Code) -> &'static str {
    match code {
        Code::InsufficientBalance => "190102",
        Code::AccountFrozen => "190104",
        Code::InsufficientQuota => "190202",
        Code::UnknownService => "190205",
        _ => OTHER,
    }
}

/// A deduct was answered, charged or not.
pub fn deduct_duration(service: &ServiceLabel, took: Duration) {
    histogram!(DEDUCT_DURATION, "service" => service.get()).record(took);
}

/// So many requests were charged in one transaction.
pub fn deduct_batch(requests: usize) {
    histogram!(BATCH_SIZE).record(float(requests));
}

/// So many requests wait to be charged.
pub fn deduct_queue(requests: usize) {
    gauge!(QUEUE).set(float(requests));
}

/// At the start nothing waits.
pub(super) fn register() {
    counters(REFUSED, "code", REASONS.into_iter().map(reason).chain([OTHER]));
    describe_gauge!(QUEUE, Unit::Count, "Requests that wait to be charged.");
    let _ = histogram!(BATCH_SIZE);
    deduct_queue(0);
}

//! Checks and deducts, the batches that deducts are charged in, and how many wait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use farebox_core::charge::PaidBy;
use farebox_core::id::ServiceName;
use farebox_core::money::Nanos;
use metrics::{SharedString, Unit, counter, describe_gauge, gauge, histogram};

use super::{CALL_SECONDS, Counter, Histogram, float, units};

const CHECK: &str = "billing_quota_check_total";
const CHECK_DURATION: &str = "billing_quota_check_duration_seconds";
const DEDUCT: &str = "billing_deduct_quota_total";
const DEDUCT_AMOUNT: &str = "billing_deduct_quota_amount_total";
const DEDUCT_DURATION: &str = "billing_deduct_quota_duration_seconds";
const BATCH_SIZE: &str = "billing_deduct_batch_size";
const QUEUE: &str = "billing_deduct_queue";

pub(super) const COUNTERS: &[Counter] = &[
    (CHECK, "Checks, by what they told."),
    (DEDUCT, "Deducts that were charged, by what paid for them."),
];

pub(super) const AMOUNT: Counter = (
    DEDUCT_AMOUNT,
    "Money that deducts took, in units of billing.currency; for graphs, not for books.",
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

    fn get(&self) -> SharedString {
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
        let _ = histogram!(CHECK_DURATION, "service" => self.get());
        let _ = histogram!(DEDUCT_DURATION, "service" => self.get());
    }
}

/// A check was answered.
pub fn quota_check(service: &ServiceLabel, result: CheckResult, took: Duration) {
    counter!(CHECK, "service" => service.get(), "result" => result.as_str()).increment(1);
    histogram!(CHECK_DURATION, "service" => service.get()).record(took);
}

/// A deduct was charged, and took so much money.
pub fn deducted(service: &ServiceLabel, paid_by: PaidBy, amount: Nanos) {
    let paid_by = paid_by.as_str();
    counter!(DEDUCT, "service" => service.get(), "type" => paid_by).increment(1);
    gauge!(DEDUCT_AMOUNT, "service" => service.get(), "type" => paid_by).increment(units(amount));
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
    describe_gauge!(QUEUE, Unit::Count, "Requests that wait to be charged.");
    let _ = histogram!(BATCH_SIZE);
    deduct_queue(0);
}

//! What this process does, in numbers for graphs and alerts: `GET /metrics` on the admin listener.
//!
//! One function per fact. Every label has a closed set of words, so the number of series is fixed; all counters stand at
//! 0 from the start, because `rate()` does not see a series whose first value is 1. Nothing here is for books: the
//! database is.
//!
//! | file | what it counts |
//! |---|---|
//! | `recharge.rs` | orders, payments, callbacks, refunds, events |
//! | `charging.rs` | checks, deducts, their batches and their queue |
//! | `account.rs` | balances and quotas: told, changed, low |
//! | `standing.rs` | what stands in the database: leases, silent gateways, events, anomalies |
//! | `cache.rs` | what Redis was asked for: locks and hints |
//! | `transaction.rs` | transactions that gave way to others |
//! | `lease.rs` | leases that were taken back from silent gateways |
//! | `sync.rs` | gateways' messages: items, grants, what was left out |
//! | `overload.rs` | requests and connections that were turned away |
//! | `quota.rs` | free quotas of the month to come |
//! | `operators.rs` | operators who were turned away |
//! | `tracing.rs` | what became of spans |
//! | `invariant.rs` | rows that break an invariant, and when they were checked |

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use farebox_core::money::Nanos;
use metrics::{Unit, counter, describe_counter, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

/// How often observations are put into their buckets when nobody asks for them.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// From the fastest to the slowest call that is waited for.
const CALL_SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// A counter's name and what it says of itself.
type Counter = (&'static str, &'static str);

/// Observations that are counted by size.
struct Histogram {
    name: &'static str,
    help: &'static str,
    unit: Unit,
    buckets: &'static [f64],
}

/// A closed set of words for one label.
macro_rules! label {
    ($(#[$about:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$of])* $variant),+
        }

        impl $name {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word for it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }
    };
}

// These follow the macro that they use.
mod account;
mod cache;
mod charging;
mod invariant;
mod lease;
mod operators;
mod overload;
mod quota;
mod recharge;
mod standing;
mod sync;
#[cfg(test)]
mod tests;
mod tracing;
mod transaction;

pub use self::account::{
    BalanceUpdate, account_told, accounts_frozen, balance_updated, balances_low, quotas_low,
};
pub use self::cache::{HintResult, LockResult, hint, lock_acquire};
pub use self::charging::{
    CheckResult, ServiceLabel, Services, charge_refunded, charged, deduct_batch, deduct_duration,
    deduct_queue, quota_check, refused,
};
pub use self::invariant::{
    invariant_checked, invariant_checked_at, invariant_unchecked, invariant_violations,
};
pub use self::lease::lease_lost;
pub use self::operators::{OperatorRefusal, operator_refused};
pub use self::overload::{ListenerName, Shed, accept_failed, connections, shed};
pub use self::quota::{quotas_prepared, quotas_prepared_at, quotas_unprepared};
pub use self::recharge::{
    CallbackResult, CreditSource, PaymentCall, PaymentCallResult, RechargeOperation,
    RechargeStatus, RefundStatus, anomaly, callback, credit_delay, order, order_create_duration,
    outbox_pending, payment_call, recharge, recharge_duration, recharge_failed, refund,
};
pub use self::standing::{
    Lent, anomalies, connections_to_database, job_held_until, lent, outbox_lag, standing_seen_at,
};
pub use self::sync::{SyncItem, granted, left_out, sync_duration, sync_items};
pub use self::tracing::{SpanResult, spans};
pub use self::transaction::{GaveWay, transaction_exhausted, transaction_gave_way};

impl Histogram {
    const fn seconds(name: &'static str, help: &'static str, buckets: &'static [f64]) -> Self {
        Self { name, help, unit: Unit::Seconds, buckets }
    }
}

/// The only place where money becomes a float: Prometheus knows no other numbers, and a graph needs no last digit.
fn units(amount: Nanos) -> f64 {
    amount.get() as f64 / 1e9
}

/// A count, as Prometheus knows numbers.
fn float(count: impl TryInto<u32>) -> f64 {
    f64::from(count.try_into().unwrap_or(u32::MAX))
}

/// What was recorded, for whoever asks.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

/// The recorder was not started.
#[derive(Debug, thiserror::Error)]
#[error("metrics cannot be recorded: {0}")]
pub struct MetricsError(#[from] BuildError);

/// What [`install`] made: one process has one recorder.
static INSTALLED: Mutex<Option<Metrics>> = Mutex::new(None);

/// Records what this process does from now on. A second call gets what the first one made.
pub fn install() -> Result<Metrics, MetricsError> {
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(metrics) = &*installed {
        return Ok(metrics.clone());
    }
    let metrics = Metrics(builder()?.install_recorder()?);
    register();
    *installed = Some(metrics.clone());
    Ok(metrics)
}

impl Metrics {
    /// One that nothing is recorded into, for what needs one and is not about it.
    pub fn detached() -> Result<Self, MetricsError> {
        Ok(Self(builder()?.build_recorder().handle()))
    }

    /// Everything, in the text format of Prometheus.
    pub fn render(&self) -> String {
        as_counter(&self.0.render())
    }

    /// Puts observations into their buckets until `stopping` turns true or its sender is gone: they would pile up in a
    /// process that nobody scrapes.
    pub(crate) async fn upkeep(self, mut stopping: watch::Receiver<bool>) {
        let mut clock = interval(UPKEEP_EVERY);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // What the channel lends is given back before anything else is awaited.
                () = async { drop(stopping.wait_for(|stop| *stop).await) } => return,
                _ = clock.tick() => self.0.run_upkeep(),
            }
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

fn all_counters() -> impl Iterator<Item = &'static Counter> {
    let areas = [
        recharge::COUNTERS,
        charging::COUNTERS,
        account::COUNTERS,
        cache::COUNTERS,
        transaction::COUNTERS,
        invariant::COUNTERS,
        lease::COUNTERS,
        sync::COUNTERS,
        overload::COUNTERS,
        quota::COUNTERS,
        operators::COUNTERS,
        tracing::COUNTERS,
    ];
    areas.into_iter().flatten().chain(&AMOUNTS)
}

fn all_histograms() -> impl Iterator<Item = &'static Histogram> {
    [recharge::HISTOGRAMS, charging::HISTOGRAMS, cache::HISTOGRAMS, sync::HISTOGRAMS]
        .into_iter()
        .flatten()
}

/// Counters of this library are whole numbers, and amounts are not: they are summed in a gauge that only grows, and shown
/// as the counter they are.
const AMOUNTS: [Counter; 4] =
    [recharge::AMOUNT, charging::AMOUNT, charging::REFUNDED, lease::AMOUNT];

fn as_counter(text: &str) -> String {
    AMOUNTS.iter().fold(text.to_owned(), |text, (name, _)| {
        let kept = format!("# TYPE {name} gauge\n");
        text.replacen(&kept, &format!("# TYPE {name} counter\n"), 1)
    })
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    all_histograms().try_fold(PrometheusBuilder::new(), |builder, histogram| {
        let name = Matcher::Full(histogram.name.to_owned());
        builder.set_buckets_for_metric(name, histogram.buckets)
    })
}

/// Describes everything, and puts every series that will ever be there at 0; those of services follow when they are known.
fn register() {
    for (name, help) in all_counters() {
        describe_counter!(*name, Unit::Count, *help);
    }
    for Histogram { name, help, unit, .. } in all_histograms() {
        describe_histogram!(*name, *unit, *help);
    }
    recharge::register();
    charging::register();
    account::register();
    standing::register();
    cache::register();
    transaction::register();
    invariant::register();
    lease::register();
    sync::register();
    overload::register();
    quota::register();
    operators::register();
    tracing::register();
}

fn counters(name: &'static str, label: &'static str, words: impl Iterator<Item = &'static str>) {
    for word in words {
        let _ = counter!(name, label => word);
    }
}

/// What `work` gives, and what its thread recorded meanwhile. Only on a runtime with one thread.
#[cfg(test)]
pub(crate) async fn recorded<T>(work: impl Future<Output = T>) -> (T, String) {
    let recorder = builder().expect("buckets are well-formed").build_recorder();
    let recording = metrics::set_default_local_recorder(&recorder);
    register();
    let value = work.await;
    drop(recording);
    (value, Metrics(recorder.handle()).render())
}

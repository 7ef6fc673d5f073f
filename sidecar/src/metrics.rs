//! What recharge does, in numbers for graphs and alerts: `GET /metrics` on the admin listener.
//!
//! One function per fact. Every label has a closed set of words, so the number of series is fixed; all counters stand at
//! 0 from the start, because `rate()` does not see a series whose first value is 1. Nothing here is for books: the
//! database is.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use farebox_core::money::Nanos;
use farebox_core::order::{Mismatch, State};
use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

const ORDER: &str = "billing_recharge_order_total";
const RECHARGE: &str = "billing_recharge_total";
const RECHARGE_AMOUNT: &str = "billing_recharge_amount_total";
const RECHARGE_FAILED: &str = "billing_recharge_failed_total";
const RECHARGE_DURATION: &str = "billing_recharge_duration_seconds";
const ORDER_CREATE_DURATION: &str = "billing_recharge_order_create_duration_seconds";
const CALLBACK: &str = "billing_recharge_callback_total";
const ANOMALY: &str = "billing_payment_anomaly_total";
const CREDIT_DELAY: &str = "billing_recharge_credit_delay_seconds";
const PAYMENT_CALL: &str = "billing_payment_call_total";
const PAYMENT_CALL_DURATION: &str = "billing_payment_call_duration_seconds";
const REFUND: &str = "billing_refund_total";
const OUTBOX_PENDING: &str = "billing_outbox_pending";

const COUNTERS: [(&str, &str); 8] = [
    (ORDER, "Recharge orders that reached a state."),
    (RECHARGE, "Recharges that ended: success is credited, failed is not."),
    (RECHARGE_FAILED, "Recharges that the payment service refused, or whose payment failed."),
    (CALLBACK, "Callbacks of the payment service, by what came of them."),
    (ANOMALY, "Payments that do not fit their order; each is kept for the operator."),
    (PAYMENT_CALL, "Calls to the payment service, by how they ended."),
    (REFUND, "Refunds of operators that reached a state."),
    (
        RECHARGE_AMOUNT,
        "Money of recharges that ended, in units of billing.currency; for graphs, not for books.",
    ),
];

const HISTOGRAMS: [(&str, &str, &[f64]); 4] = [
    (RECHARGE_DURATION, "Time to answer a recharge request or a callback.", &CALL_SECONDS),
    (ORDER_CREATE_DURATION, "Time to write a recharge order.", &CALL_SECONDS),
    (PAYMENT_CALL_DURATION, "Time that a call to the payment service took.", &CALL_SECONDS),
    (CREDIT_DELAY, "Time from payment, by the payment service's clock, to credit.", &DELAY_SECONDS),
];

const CALL_SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// One second to one day: a pending order is given up after a day.
const DELAY_SECONDS: [f64; 12] =
    [1.0, 5.0, 15.0, 60.0, 120.0, 300.0, 900.0, 3_600.0, 7_200.0, 21_600.0, 43_200.0, 86_400.0];

/// How often observations are put into their buckets when nobody asks for them.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

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

label! {
    /// How a recharge ended.
    RechargeStatus {
        /// Credited.
        Success = "success",
        /// Not credited, and never will be.
        Failed = "failed",
    }
}

label! {
    /// What was timed.
    RechargeOperation {
        /// A recharge request, from its body to its answer.
        Create = "create",
        /// A callback, likewise.
        Callback = "callback",
    }
}

label! {
    /// What came of a callback.
    CallbackResult {
        /// The account was credited.
        Credited = "credited",
        /// It was known already; nothing changed.
        Repeated = "repeated",
        /// The order took another state, or the news was kept.
        Noted = "noted",
        /// It does not fit the order.
        Mismatch = "mismatch",
        /// There is no such order.
        UnknownOrder = "unknown_order",
        /// It cannot be read.
        Invalid = "invalid",
        /// No signature, or a wrong one.
        Unsigned = "unsigned",
        /// It could not be dealt with; the sender repeats it.
        Error = "error",
    }
}

label! {
    /// Who found that an order was paid.
    CreditSource {
        /// The payment service said so.
        Callback = "callback",
        /// It was asked.
        Poller = "poller",
    }
}

label! {
    /// A method of the payment service.
    PaymentCall {
        /// `CreatePayment`
        Create = "create",
        /// `GetPayment`
        Get = "get",
        /// `RefundPayment`
        Refund = "refund",
    }
}

label! {
    /// How such a call ended.
    PaymentCallResult {
        /// With an answer.
        Ok = "ok",
        /// With a definite refusal.
        Refused = "refused",
        /// Without an answer.
        Unreachable = "unreachable",
        /// With an answer that breaks the contract.
        Garbage = "garbage",
    }
}

label! {
    /// A state that a refund reached.
    RefundStatus {
        /// The money went back.
        Done = "done",
        /// It will not go back.
        Failed = "failed",
        /// It is on its way.
        Pending = "pending",
    }
}

/// An order reached a state.
pub fn order(status: State) {
    counter!(ORDER, "status" => status.as_str()).increment(1);
}

/// A recharge of this amount ended.
pub fn recharge(status: RechargeStatus, amount: Nanos) {
    counter!(RECHARGE, "status" => status.as_str()).increment(1);
    gauge!(RECHARGE_AMOUNT, "status" => status.as_str()).increment(units(amount));
}

/// The payment service refused a payment for good, or a payment failed.
pub fn recharge_failed() {
    counter!(RECHARGE_FAILED).increment(1);
}

/// A recharge request or a callback was answered.
pub fn recharge_duration(operation: RechargeOperation, took: Duration) {
    histogram!(RECHARGE_DURATION, "operation" => operation.as_str()).record(took);
}

/// An order was written.
pub fn order_create_duration(took: Duration) {
    histogram!(ORDER_CREATE_DURATION).record(took);
}

/// A callback was dealt with, or refused.
pub fn callback(result: CallbackResult) {
    counter!(CALLBACK, "result" => result.as_str()).increment(1);
}

/// A payment does not fit its order.
pub fn anomaly(kind: Mismatch) {
    counter!(ANOMALY, "kind" => kind.as_str()).increment(1);
}

/// An order was credited so long after it was paid.
pub fn credit_delay(source: CreditSource, delay: Duration) {
    histogram!(CREDIT_DELAY, "source" => source.as_str()).record(delay);
}

/// A call to the payment service ended.
pub fn payment_call(method: PaymentCall, result: PaymentCallResult, took: Duration) {
    let (method, result) = (method.as_str(), result.as_str());
    counter!(PAYMENT_CALL, "method" => method, "result" => result).increment(1);
    histogram!(PAYMENT_CALL_DURATION, "method" => method).record(took);
}

/// A refund reached a state.
pub fn refund(status: RefundStatus) {
    counter!(REFUND, "status" => status.as_str()).increment(1);
}

/// So many events wait to be delivered.
pub fn outbox_pending(rows: u32) {
    gauge!(OUTBOX_PENDING).set(f64::from(rows));
}

/// The only place where money becomes a float: Prometheus knows no other numbers, and a graph needs no last digit.
fn units(amount: Nanos) -> f64 {
    amount.get() as f64 / 1e9
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

fn builder() -> Result<PrometheusBuilder, BuildError> {
    HISTOGRAMS.iter().try_fold(PrometheusBuilder::new(), |builder, (name, _, buckets)| {
        builder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), buckets)
    })
}

/// Counters of this library are whole numbers, and amounts are not: they are summed in a gauge that only grows, and shown
/// as the counter they are.
fn as_counter(text: &str) -> String {
    let kept = format!("# TYPE {RECHARGE_AMOUNT} gauge\n");
    text.replacen(&kept, &format!("# TYPE {RECHARGE_AMOUNT} counter\n"), 1)
}

/// Describes everything, and puts every series that will ever be there at 0. Only the gauge is left out: before the
/// first count, 0 would be a claim.
fn register() {
    for (name, help) in COUNTERS {
        describe_counter!(name, Unit::Count, help);
    }
    for (name, help, _) in HISTOGRAMS {
        describe_histogram!(name, Unit::Seconds, help);
    }
    describe_gauge!(OUTBOX_PENDING, Unit::Count, "Events that are not delivered yet.");
    counters(ORDER, "status", State::ALL.iter().map(|status| status.as_str()));
    counters(RECHARGE, "status", RechargeStatus::ALL.iter().map(|status| status.as_str()));
    counters(CALLBACK, "result", CallbackResult::ALL.iter().map(|result| result.as_str()));
    counters(ANOMALY, "kind", Mismatch::ALL.iter().map(|kind| kind.as_str()));
    counters(REFUND, "status", RefundStatus::ALL.iter().map(|status| status.as_str()));
    let _ = (counter!(RECHARGE_FAILED), histogram!(ORDER_CREATE_DURATION));
    for status in RechargeStatus::ALL {
        let _ = gauge!(RECHARGE_AMOUNT, "status" => status.as_str());
    }
    for operation in RechargeOperation::ALL {
        let _ = histogram!(RECHARGE_DURATION, "operation" => operation.as_str());
    }
    for source in CreditSource::ALL {
        let _ = histogram!(CREDIT_DELAY, "source" => source.as_str());
    }
    for method in PaymentCall::ALL {
        let method = method.as_str();
        let _ = histogram!(PAYMENT_CALL_DURATION, "method" => method);
        for result in PaymentCallResult::ALL {
            let _ = counter!(PAYMENT_CALL, "method" => method, "result" => result.as_str());
        }
    }
}

fn counters(name: &'static str, label: &'static str, words: impl Iterator<Item = &'static str>) {
    for word in words {
        let _ = counter!(name, label => word);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What a process that did this would show.
    fn shown(work: impl FnOnce()) -> String {
        let recorder = builder().unwrap().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            register();
            work();
        });
        Metrics(recorder.handle()).render()
    }

    fn everything() {
        order(State::PartlyRefunded);
        recharge(RechargeStatus::Success, Nanos::new(10_500_000_000));
        recharge(RechargeStatus::Success, Nanos::new(250_000_000));
        recharge_failed();
        recharge_duration(RechargeOperation::Create, Duration::from_millis(30));
        order_create_duration(Duration::from_secs(60));
        callback(CallbackResult::Credited);
        callback(CallbackResult::Credited);
        anomaly(Mismatch::UnknownOrder);
        credit_delay(CreditSource::Poller, Duration::from_secs(3_600));
        payment_call(PaymentCall::Get, PaymentCallResult::Unreachable, Duration::from_secs(5));
        refund(RefundStatus::Pending);
        outbox_pending(7);
    }

    /// Names with labels, without values.
    fn series(text: &str) -> BTreeSet<&str> {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        lines.filter_map(|line| line.rsplit_once(' ')).map(|(name, _)| name).collect()
    }

    #[test]
    fn every_fact_is_seen_under_its_agreed_name() {
        let text = shown(everything);
        for line in [
            r#"billing_recharge_order_total{status="partly_refunded"} 1"#,
            r#"billing_recharge_total{status="success"} 2"#,
            r#"billing_recharge_amount_total{status="success"} 10.75"#,
            "billing_recharge_failed_total 1",
            r#"billing_recharge_duration_seconds_bucket{operation="create",le="0.025"} 0"#,
            r#"billing_recharge_duration_seconds_bucket{operation="create",le="0.05"} 1"#,
            r#"billing_recharge_order_create_duration_seconds_bucket{le="10"} 0"#,
            r#"billing_recharge_order_create_duration_seconds_bucket{le="+Inf"} 1"#,
            "billing_recharge_order_create_duration_seconds_sum 60",
            r#"billing_recharge_callback_total{result="credited"} 2"#,
            r#"billing_payment_anomaly_total{kind="unknown_order"} 1"#,
            r#"billing_recharge_credit_delay_seconds_bucket{source="poller",le="900"} 0"#,
            r#"billing_recharge_credit_delay_seconds_bucket{source="poller",le="3600"} 1"#,
            r#"billing_payment_call_total{method="get",result="unreachable"} 1"#,
            r#"billing_payment_call_duration_seconds_count{method="get"} 1"#,
            r#"billing_refund_total{status="pending"} 1"#,
            "billing_outbox_pending 7",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn every_series_but_the_gauge_is_there_from_the_start() {
        let (before, after) = (shown(|| ()), shown(everything));
        let (before, after) = (series(&before), series(&after));
        let new: Vec<_> = after.difference(&before).collect();
        assert_eq!(new, [&"billing_outbox_pending"]);
        let counters = before.iter().filter(|name| name.contains("_total")).count();
        assert_eq!(counters, 6 + 2 + 2 + 1 + 8 + 7 + 3 * 4 + 3);
    }

    #[test]
    fn every_metric_says_what_it_is_and_an_amount_is_a_counter() {
        let text = shown(everything);
        let after = |start: &str| -> BTreeSet<String> {
            let lines = text.lines().filter_map(|line| line.strip_prefix(start));
            lines.filter_map(|rest| rest.split(' ').next()).map(str::to_owned).collect()
        };
        assert_eq!(after("# HELP "), after("# TYPE "));
        assert_eq!(after("# HELP ").len(), 13);
        for line in text.lines().filter(|line| line.starts_with("# TYPE ")) {
            let expected = match line {
                line if line.contains("_total ") => "counter",
                line if line.contains("_seconds ") => "histogram",
                _ => "gauge",
            };
            assert!(line.ends_with(expected), "{line}");
        }
    }

    #[test]
    fn a_second_installation_is_the_first_one() {
        let (first, second) = (install().unwrap(), install().unwrap());
        let before = value(&second.render());
        order(State::Closed);
        // Other tests of this process may count as well.
        assert!(before < value(&first.render()) && before < value(&second.render()));
    }

    fn value(text: &str) -> u64 {
        let line = text.lines().find_map(|line| {
            line.strip_prefix(r#"billing_recharge_order_total{status="closed"} "#)
        });
        line.unwrap().parse().unwrap()
    }

    #[tokio::test]
    async fn upkeep_ends_with_its_process() {
        let (stop, stopping) = watch::channel(false);
        let upkeep = tokio::spawn(Metrics::detached().unwrap().upkeep(stopping));
        stop.send(true).unwrap();
        upkeep.await.unwrap();
    }
}

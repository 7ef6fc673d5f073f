//! Orders, payments, callbacks, refunds, events.

use std::time::Duration;

use farebox_core::money::Nanos;
use farebox_core::order::{Mismatch, State};
use metrics::{Unit, counter, describe_gauge, gauge, histogram};

use super::{CALL_SECONDS, Counter, Histogram, counters, units};

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

pub(super) const COUNTERS: &[Counter] = &[
    (ORDER, "Recharge orders that reached a state."),
    (RECHARGE, "Recharges that ended: success is credited, failed is not."),
    (RECHARGE_FAILED, "Recharges that the payment service refused, or whose payment failed."),
    (CALLBACK, "Callbacks of the payment service, by what came of them."),
    (ANOMALY, "Payments that do not fit their order; each is kept for the operator."),
    (PAYMENT_CALL, "Calls to the payment service, by how they ended."),
    (REFUND, "Refunds of operators that reached a state."),
];

pub(super) const AMOUNT: Counter = (
    RECHARGE_AMOUNT,
    "Money of recharges that ended, in units of billing.currency; for graphs, not for books.",
);

pub(super) const HISTOGRAMS: &[Histogram] = &[
    Histogram::seconds(
        RECHARGE_DURATION,
        "Time to answer a recharge request or a callback.",
        &CALL_SECONDS,
    ),
    Histogram::seconds(ORDER_CREATE_DURATION, "Time to write a recharge order.", &CALL_SECONDS),
    Histogram::seconds(
        PAYMENT_CALL_DURATION,
        "Time that a call to the payment service took.",
        &CALL_SECONDS,
    ),
    Histogram::seconds(
        CREDIT_DELAY,
        "Time from payment, by the payment service's clock, to credit.",
        &DELAY_SECONDS,
    ),
];

/// One second to one day: a pending order is given up after a day.
const DELAY_SECONDS: [f64; 12] =
    [1.0, 5.0, 15.0, 60.0, 120.0, 300.0, 900.0, 3_600.0, 7_200.0, 21_600.0, 43_200.0, 86_400.0];

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

/// Puts every series at 0 but the gauge: before the first count, 0 would be a claim.
pub(super) fn register() {
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

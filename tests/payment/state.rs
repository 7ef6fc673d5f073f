//! What the service knows and how it may change. Pure: times and ids are arguments.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::behaviour::{Behaviour, RefundOutcome};
use crate::callback::outbox::Outbox;
use crate::currency;

/// The longest order and refund ids, in characters, and user ids, in bytes, as the contract has them.
const ID_CHARACTERS_MAX: usize = 64;
const USER_BYTES_MAX: usize = 128;

/// Everything; this is what the state file holds.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct State {
    payments: BTreeMap<String, Payment>,
    /// Payment ids by order id.
    orders: BTreeMap<String, String>,
    /// Payment ids by refund id.
    refunds: BTreeMap<String, String>,
    pub(crate) outbox: Outbox,
    pub(crate) behaviour: Behaviour,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Payment {
    pub(crate) payment_id: String,
    pub(crate) order: Order,
    pub(crate) status: Status,
    pub(crate) created_at_ms: u64,
    pub(crate) paid_at_ms: Option<u64>,
    pub(crate) refunds: Vec<Refund>,
}

/// What CreatePayment was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) order_id: String,
    pub(crate) user_id: String,
    pub(crate) source: String,
    pub(crate) amount_minor: i64,
    pub(crate) currency: String,
    pub(crate) method: String,
    pub(crate) subject: String,
    pub(crate) return_url: String,
    pub(crate) notify_url: String,
    pub(crate) client_ip: String,
    pub(crate) expires_at_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Status {
    Pending,
    Success,
    Failed,
    Closed,
    Refunded,
    PartiallyRefunded,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refund {
    pub(crate) refund_id: String,
    pub(crate) amount_minor: i64,
    pub(crate) reason: String,
    pub(crate) outcome: RefundOutcome,
}

/// What RefundPayment is asked for.
#[derive(Debug, Clone)]
pub(crate) struct NewRefund {
    pub(crate) payment_id: String,
    pub(crate) refund_id: String,
    pub(crate) amount_minor: i64,
    pub(crate) currency: String,
    pub(crate) reason: String,
}

/// Why something is not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("there is no payment with {0}")]
    Unknown(String),
    #[error("{field} is {value:?}; {remedy}")]
    Invalid { field: &'static str, value: String, remedy: &'static str },
    #[error("{0} was used before with other content; use a new one")]
    Differs(String),
    #[error("payment {payment_id} is {status:?}; {remedy}")]
    Status { payment_id: String, status: Status, remedy: &'static str },
    #[error(
        "refunds of {asked} and of {given} before are more than the payment of {paid} (minor units)"
    )]
    TooMuch { asked: i64, given: i64, paid: i64 },
}

// === impl Status ===

impl Status {
    /// As callbacks name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Success => "SUCCESS",
            Self::Failed => "FAILED",
            Self::Closed => "CLOSED",
            Self::Refunded => "REFUNDED",
            Self::PartiallyRefunded => "PARTIALLY_REFUNDED",
        }
    }
}

// === impl Payment ===

impl Payment {
    /// What went back, or, with `also_pending`, is on its way back as well.
    pub(crate) fn refunded_minor(&self, also_pending: bool) -> i64 {
        let counts = |refund: &&Refund| match refund.outcome {
            RefundOutcome::Success => true,
            RefundOutcome::Pending => also_pending,
            RefundOutcome::Failed => false,
        };
        self.refunds.iter().filter(counts).map(|refund| refund.amount_minor).sum()
    }

    fn is_over(&self, now_ms: u64) -> bool {
        self.order.expires_at_ms.is_some_and(|end| end <= now_ms)
    }

    fn refused(&self, remedy: &'static str) -> Refusal {
        Refusal::Status { payment_id: self.payment_id.clone(), status: self.status, remedy }
    }
}

// === impl Order ===

impl Order {
    /// Complains about what the contract does not allow.
    fn check(&self, now_ms: u64) -> Result<(), Refusal> {
        let invalid = |field, value: &dyn ToString, remedy| {
            Err(Refusal::Invalid { field, value: value.to_string(), remedy })
        };
        if !is_id(&self.order_id) {
            return invalid("order_id", &self.order_id, "write 1 to 64 characters");
        }
        if self.user_id.is_empty() || USER_BYTES_MAX < self.user_id.len() {
            return invalid("user_id", &self.user_id, "write 1 to 128 bytes");
        }
        if self.source != "billing" {
            return invalid("source", &self.source, "write billing");
        }
        if self.amount_minor < 1 {
            return invalid("amount_minor", &self.amount_minor, "write 1 or more");
        }
        if currency::decimals(&self.currency).is_none() {
            return invalid("currency", &self.currency, "write an ISO 4217 code such as CNY");
        }
        if !["http://", "https://"].iter().any(|scheme| self.notify_url.starts_with(scheme)) {
            return invalid("notify_url", &self.notify_url, "write an http or https address");
        }
        if self.expires_at_ms.is_some_and(|end| end <= now_ms) {
            return invalid("expires_at", &"in the past", "write a moment to come");
        }
        Ok(())
    }

    /// Whether both are the same order, as far as the contract compares them.
    fn is_same(&self, other: &Self) -> bool {
        let compared = |order: &Self| {
            let Self { order_id, user_id, source, currency, .. } = order.clone();
            (order_id, user_id, source, currency, order.amount_minor)
        };
        compared(self) == compared(other)
    }
}

fn is_id(text: &str) -> bool {
    (1..=ID_CHARACTERS_MAX).contains(&text.chars().count())
}

// === impl State ===

impl State {
    /// Begins a payment, or gives the one that the order has.
    pub(crate) fn create(
        &mut self,
        order: Order,
        payment_id: String,
        now_ms: u64,
    ) -> Result<Payment, Refusal> {
        self.expire(now_ms);
        if let Some(known) = self.orders.get(&order.order_id).and_then(|id| self.payments.get(id)) {
            let same = known.order.is_same(&order);
            return if same {
                Ok(known.clone())
            } else {
                Err(Refusal::Differs(format!("order_id {:?}", order.order_id)))
            };
        }
        order.check(now_ms)?;
        let payment = Payment {
            payment_id: payment_id.clone(),
            order,
            status: Status::Pending,
            created_at_ms: now_ms,
            paid_at_ms: None,
            refunds: Vec::new(),
        };
        self.orders.insert(payment.order.order_id.clone(), payment_id.clone());
        self.payments.insert(payment_id, payment.clone());
        Ok(payment)
    }

    /// The payment of this id.
    pub(crate) fn payment(&self, payment_id: &str) -> Result<&Payment, Refusal> {
        let unknown = || Refusal::Unknown(format!("payment_id {payment_id:?}"));
        self.payments.get(payment_id).ok_or_else(unknown)
    }

    /// The payment of this order.
    pub(crate) fn payment_of(&self, order_id: &str) -> Result<&Payment, Refusal> {
        let payment = self.orders.get(order_id).and_then(|id| self.payments.get(id));
        payment.ok_or_else(|| Refusal::Unknown(format!("order_id {order_id:?}")))
    }

    /// All payments.
    pub(crate) fn payments(&self) -> impl Iterator<Item = &Payment> {
        self.payments.values()
    }

    /// The payer pays. A payment that failed may be tried again; one that is paid stays paid.
    pub(crate) fn pay(&mut self, payment_id: &str, now_ms: u64) -> Result<(), Refusal> {
        self.expire(now_ms);
        let payment = self.payment(payment_id)?;
        match payment.status {
            Status::Success => Ok(()),
            Status::Failed if payment.is_over(now_ms) => {
                Err(payment.refused("its time is over; order again"))
            }
            Status::Pending | Status::Failed => self.set(payment_id, Status::Success, now_ms),
            Status::Closed | Status::Refunded | Status::PartiallyRefunded => {
                Err(payment.refused("it cannot be paid any more; order again"))
            }
        }
    }

    /// The payer gives up, or an attempt to pay fails: only what waits can end so.
    pub(crate) fn end(
        &mut self,
        payment_id: &str,
        status: Status,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        self.expire(now_ms);
        let payment = self.payment(payment_id)?;
        match payment.status {
            same if same == status => Ok(()),
            Status::Pending => self.set(payment_id, status, now_ms),
            Status::Success
            | Status::Failed
            | Status::Closed
            | Status::Refunded
            | Status::PartiallyRefunded => Err(payment.refused("only a pending one can end so")),
        }
    }

    /// Sets a status whatever it was, and queues its callback.
    pub(crate) fn set(
        &mut self,
        payment_id: &str,
        status: Status,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        self.payment(payment_id)?;
        let Some(payment) = self.payments.get_mut(payment_id) else { return Ok(()) };
        payment.status = status;
        if status == Status::Success {
            payment.paid_at_ms = Some(now_ms);
        }
        self.outbox.announce(payment, &self.behaviour.callback, now_ms);
        Ok(())
    }

    /// Whether a payment waits longer than it may.
    pub(crate) fn has_expired(&self, now_ms: u64) -> bool {
        self.expired(now_ms).next().is_some()
    }

    /// Closes every payment that waits longer than it may.
    pub(crate) fn expire(&mut self, now_ms: u64) {
        let over: Vec<String> = self.expired(now_ms).cloned().collect();
        for payment_id in over {
            // It was found a moment ago.
            self.set(&payment_id, Status::Closed, now_ms).ok();
        }
    }

    fn expired(&self, now_ms: u64) -> impl Iterator<Item = &String> {
        let waiting = self.payments.values().filter(|payment| payment.status == Status::Pending);
        waiting.filter(move |payment| payment.is_over(now_ms)).map(|payment| &payment.payment_id)
    }

    /// Gives money back, or tells what became of a refund that was asked for before.
    pub(crate) fn refund(
        &mut self,
        new: &NewRefund,
        now_ms: u64,
    ) -> Result<RefundOutcome, Refusal> {
        let NewRefund { payment_id, refund_id, amount_minor, currency, reason } = new;
        let told = self.behaviour.refund_outcome;
        let payment = self.payment(payment_id)?;
        let differs = || Refusal::Differs(format!("refund_id {refund_id:?}"));
        if self.refunds.get(refund_id).is_some_and(|known| known != payment_id) {
            return Err(differs());
        }
        let known = payment.refunds.iter().find(|refund| refund.refund_id == *refund_id).cloned();
        match known {
            Some(known)
                if known.amount_minor != *amount_minor || payment.order.currency != *currency =>
            {
                return Err(differs());
            }
            Some(Refund { outcome, .. }) if outcome != RefundOutcome::Pending => {
                return Ok(outcome);
            }
            Some(_) => {}
            None => {
                check_refund(payment, new)?;
                let (refund_id, reason) = (refund_id.clone(), reason.clone());
                self.refunds.insert(refund_id.clone(), payment_id.clone());
                let refund = Refund {
                    refund_id,
                    amount_minor: *amount_minor,
                    reason,
                    outcome: RefundOutcome::Pending,
                };
                if let Some(payment) = self.payments.get_mut(payment_id) {
                    payment.refunds.push(refund);
                }
            }
        }
        self.settle_refund(payment_id, refund_id, told, now_ms)?;
        Ok(told)
    }

    /// A pending refund ends, or stays pending.
    fn settle_refund(
        &mut self,
        payment_id: &str,
        refund_id: &str,
        outcome: RefundOutcome,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        let Some(payment) = self.payments.get_mut(payment_id) else { return Ok(()) };
        let refund = payment.refunds.iter_mut().find(|refund| refund.refund_id == refund_id);
        if let Some(refund) = refund {
            refund.outcome = outcome;
        }
        if outcome != RefundOutcome::Success {
            return Ok(());
        }
        let whole = payment.refunded_minor(false) == payment.order.amount_minor;
        let status = if whole { Status::Refunded } else { Status::PartiallyRefunded };
        self.set(payment_id, status, now_ms)
    }
}

/// Complains about a refund that is not possible.
fn check_refund(payment: &Payment, new: &NewRefund) -> Result<(), Refusal> {
    let invalid = |field, value: &dyn ToString, remedy| {
        Err(Refusal::Invalid { field, value: value.to_string(), remedy })
    };
    if !is_id(&new.refund_id) {
        return invalid("refund_id", &new.refund_id, "write 1 to 64 characters");
    }
    if new.amount_minor < 1 {
        return invalid("amount_minor", &new.amount_minor, "write 1 or more");
    }
    if new.currency != payment.order.currency {
        return invalid("currency", &new.currency, "write the payment's currency");
    }
    match payment.status {
        Status::Success | Status::PartiallyRefunded | Status::Refunded => {}
        Status::Pending | Status::Failed | Status::Closed => {
            return Err(payment.refused("only what was paid can go back"));
        }
    }
    let (given, paid) = (payment.refunded_minor(true), payment.order.amount_minor);
    if paid - given < new.amount_minor {
        return Err(Refusal::TooMuch { asked: new.amount_minor, given, paid });
    }
    Ok(())
}

#[cfg(test)]
mod tests;

//! Recharge orders: what can be ordered, what news of a payment changes, when to ask for news, what may be given back.
//!
//! An order's payment is known by two ways that may both come twice, late or never: callbacks, and asking the payment
//! service. Both end in [`on_news`] and [`on_confirmed`], so that nothing can be credited by one way that the other refuses.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::money::{Nanos, SCALE};

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = OrderState))]
pub enum State {
    /// Nothing is known yet.
    Pending,
    /// Paid and credited.
    Paid,
    /// The payment failed; no money moved.
    Failed,
    /// Nobody paid in time.
    Closed,
    /// Paid, and some of the money went back.
    PartlyRefunded,
    /// Paid, and all of the money went back.
    Refunded,
}

/// What became of a payment, as the payment service says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaymentStatus {
    /// It waits for the payer.
    Pending,
    /// The money is there.
    Success,
    /// No money moved.
    Failed,
    /// It cannot be paid any more.
    Closed,
    /// Some of the money went back.
    PartiallyRefunded,
    /// All of the money went back.
    Refunded,
}

/// How the payer pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = PaymentMethod))]
pub enum Method {
    /// Alipay.
    Alipay,
    /// WeChat Pay.
    Wechatpay,
    /// Stripe.
    Stripe,
    /// PayPal.
    Paypal,
    /// Apple Pay.
    Applepay,
    /// Google Pay.
    Googlepay,
}

/// A word that names no state, status or method.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {kind}; write one of {known}")]
pub struct WordError {
    kind: &'static str,
    text: String,
    known: String,
}

/// Declares the words of an enum: its text, and reading it back.
macro_rules! words {
    ($name:ident, $kind:literal, $($variant:ident = $word:literal),+) => {
        impl $name {
            /// Every one, in the order of its life.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word for it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }

            fn unknown(text: &str) -> WordError {
                let words: Vec<&str> = Self::ALL.iter().map(|known| known.as_str()).collect();
                WordError { kind: $kind, text: text.to_owned(), known: words.join(", ") }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words!(
    State,
    "state",
    Pending = "pending",
    Paid = "paid",
    Failed = "failed",
    Closed = "closed",
    PartlyRefunded = "partly_refunded",
    Refunded = "refunded"
);
words!(
    PaymentStatus,
    "payment status",
    Pending = "PENDING",
    Success = "SUCCESS",
    Failed = "FAILED",
    Closed = "CLOSED",
    PartiallyRefunded = "PARTIALLY_REFUNDED",
    Refunded = "REFUNDED"
);
words!(
    Method,
    "payment method",
    Alipay = "alipay",
    Wechatpay = "wechatpay",
    Stripe = "stripe",
    Paypal = "paypal",
    Applepay = "applepay",
    Googlepay = "googlepay"
);

impl FromStr for State {
    type Err = WordError;
    fn from_str(text: &str) -> Result<Self, WordError> {
        let found = Self::ALL.iter().find(|known| known.as_str() == text);
        found.copied().ok_or_else(|| Self::unknown(text))
    }
}

impl FromStr for PaymentStatus {
    type Err = WordError;
    /// In any case, with or without the prefix that the name has in the contract.
    fn from_str(text: &str) -> Result<Self, WordError> {
        let upper = text.to_ascii_uppercase();
        let word = upper.strip_prefix("PAYMENT_STATUS_").unwrap_or(&upper);
        let found = Self::ALL.iter().find(|known| known.as_str() == word);
        found.copied().ok_or_else(|| Self::unknown(text))
    }
}

impl FromStr for Method {
    type Err = WordError;
    /// `wechat` is the predecessor's other word for WeChat Pay.
    fn from_str(text: &str) -> Result<Self, WordError> {
        let word = if text == "wechat" { "wechatpay" } else { text };
        let found = Self::ALL.iter().find(|known| known.as_str() == word);
        found.copied().ok_or_else(|| Self::unknown(text))
    }
}

/// The longest id of an order or a payment, in bytes.
pub const ID_BYTES_MAX: usize = 64;

/// Whether a text can be the id of an order or a payment: 1 to 64 visible ASCII characters.
pub fn is_id(text: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The least that can be ordered, in currency units, where the currency has such a coin.
pub const AMOUNT_MIN: Nanos = Nanos::new(10_000_000);

/// Why an amount cannot be ordered or given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Nothing, less than nothing, or less than the smallest order.
    #[error("{amount} is less than {least}; write at least {least}")]
    TooSmall {
        /// What was asked for.
        amount: Nanos,
        /// The least.
        least: Nanos,
    },
    /// More than the operator allows.
    #[error("{amount} is more than {most}; write at most {most}")]
    TooLarge {
        /// What was asked for.
        amount: Nanos,
        /// The most.
        most: Nanos,
    },
    /// A part of the smallest coin.
    #[error(
        "{amount} has more decimals than its currency, which has {decimals}; write at most {decimals}"
    )]
    TooPrecise {
        /// What was asked for.
        amount: Nanos,
        /// Decimals of the currency (ISO 4217).
        decimals: u32,
    },
}

/// How many 1e-9 units one minor unit of a currency with `decimals` has.
fn nanos_per_minor(decimals: u32) -> Option<i64> {
    let scale = u32::try_from(SCALE).ok()?;
    10_i64.checked_pow(scale.checked_sub(decimals)?)
}

/// The amount in minor units of its currency (fen, yen, fils): exact, or an error.
pub fn minor_units(amount: Nanos, decimals: u32) -> Result<i64, AmountError> {
    let too_precise = AmountError::TooPrecise { amount, decimals };
    let nanos = nanos_per_minor(decimals).ok_or(too_precise)?;
    match amount.get().checked_rem(nanos) {
        Some(0) => amount.get().checked_div(nanos).ok_or(too_precise),
        _ => Err(too_precise),
    }
}

/// The amount that so many minor units are; `None` when it is out of range.
pub fn from_minor_units(minor: i64, decimals: u32) -> Option<Nanos> {
    nanos_per_minor(decimals)?.checked_mul(minor).map(Nanos::new)
}

/// Checks an amount that somebody wants to pay in, and gives it in minor units.
pub fn orderable(amount: Nanos, decimals: u32, most: Nanos) -> Result<i64, AmountError> {
    let smallest_coin = from_minor_units(1, decimals).unwrap_or(AMOUNT_MIN);
    let least = AMOUNT_MIN.max(smallest_coin);
    if amount < least {
        return Err(AmountError::TooSmall { amount, least });
    }
    if most < amount {
        return Err(AmountError::TooLarge { amount, most });
    }
    minor_units(amount, decimals)
}

/// What is to be done about news of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The news is old: everything is as it should be.
    Nothing,
    /// Credit the order's amount; the order is paid.
    Credit,
    /// No money came; the order ends in this state.
    End(State),
    /// Book what went back; credit the amount first when that has not been done.
    Refund {
        /// Whether the amount was never credited.
        credit_first: bool,
    },
    /// Only the payment service itself is believed: ask, then see [`on_confirmed`].
    Ask,
    /// It contradicts what the order went through: nothing changes, and somebody has to look.
    Quarantine,
}

/// What a callback's status changes.
pub fn on_news(state: State, status: PaymentStatus) -> Step {
    use PaymentStatus as Status;
    match (state, status) {
        // A failed attempt may be followed by one that succeeds, or the two callbacks came in the wrong order.
        (State::Failed, Status::Success) => Step::Ask,
        // How much went back is not in a callback.
        (
            State::Pending | State::Failed | State::Paid | State::PartlyRefunded,
            Status::Refunded | Status::PartiallyRefunded,
        ) => Step::Ask,
        _ => on_confirmed(state, status),
    }
}

/// What the payment service's own word changes, when it was asked.
pub fn on_confirmed(state: State, status: PaymentStatus) -> Step {
    use PaymentStatus as Status;
    match (state, status) {
        (State::Pending | State::Failed, Status::Success) => Step::Credit,
        (State::Pending, Status::Failed) => Step::End(State::Failed),
        (State::Pending, Status::Closed) => Step::End(State::Closed),
        (State::Pending | State::Failed, Status::Refunded | Status::PartiallyRefunded) => {
            Step::Refund { credit_first: true }
        }
        (State::Paid | State::PartlyRefunded, Status::Refunded | Status::PartiallyRefunded) => {
            Step::Refund { credit_first: false }
        }
        (State::Closed, Status::Success | Status::Refunded | Status::PartiallyRefunded) => {
            Step::Quarantine
        }
        (_, Status::Pending)
        | (State::Failed | State::Closed, Status::Failed | Status::Closed)
        | (
            State::Paid | State::PartlyRefunded | State::Refunded,
            Status::Success | Status::Failed | Status::Closed,
        )
        | (State::Refunded, Status::Refunded | Status::PartiallyRefunded) => Step::Nothing,
    }
}

/// What an order expects of its payment.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The payment, once it is known.
    pub payment_id: Option<&'a str>,
    /// What was ordered.
    pub amount: Nanos,
    /// Of what.
    pub currency: &'a str,
    /// For whom.
    pub user_id: &'a str,
}

/// What is said about a payment.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The payment.
    pub payment_id: &'a str,
    /// What was paid.
    pub amount: Nanos,
    /// Of what.
    pub currency: &'a str,
    /// By whom, if it is said.
    pub user_id: Option<&'a str>,
}

/// What does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    /// The order has another payment.
    Payment,
    /// The payment has another order.
    Order,
    /// More or less was paid than ordered.
    Amount,
    /// It was paid in another currency.
    Currency,
    /// Somebody else's order.
    User,
    /// The news contradicts what the order went through.
    Status,
    /// A payment for an order that nobody made.
    UnknownOrder,
}

impl Mismatch {
    /// Every one, for metrics and documents.
    pub const ALL: [Self; 7] = [
        Self::Payment,
        Self::Order,
        Self::Amount,
        Self::Currency,
        Self::User,
        Self::Status,
        Self::UnknownOrder,
    ];

    /// The word for it in `payment_anomaly.kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Payment => "payment",
            Self::Order => "order",
            Self::Amount => "amount",
            Self::Currency => "currency",
            Self::User => "user",
            Self::Status => "status",
            Self::UnknownOrder => "unknown_order",
        }
    }
}

/// The first thing about the claim that does not fit the order; to the last unit and letter.
pub fn mismatch(expected: &Expected<'_>, claim: &Claim<'_>) -> Option<Mismatch> {
    if expected.payment_id.is_some_and(|known| known != claim.payment_id) {
        return Some(Mismatch::Payment);
    }
    if expected.amount != claim.amount {
        return Some(Mismatch::Amount);
    }
    if !expected.currency.eq_ignore_ascii_case(claim.currency) {
        return Some(Mismatch::Currency);
    }
    if claim.user_id.is_some_and(|user| user != expected.user_id) {
        return Some(Mismatch::User);
    }
    None
}

/// How long a payment may be paid after its order was made.
pub const PAYABLE_FOR: Duration = Duration::from_hours(23);

/// When an order that is still pending is closed: an hour after the last moment at which it could be paid.
pub const CLOSED_AFTER: Duration = Duration::from_hours(24);

/// The same for orders of the predecessor, whose payments were not told when to end: how long it kept them.
pub const INHERITED_CLOSED_AFTER: Duration = Duration::from_hours(7 * 24);

/// How old an order is when the payment service is asked about it for the first time.
pub const FIRST_ASKED_AFTER: Duration = Duration::from_secs(60);

/// The longest time between two questions.
const ASKED_EVERY_AT_MOST: Duration = Duration::from_hours(1);

/// How long to wait before asking again about an order of this age: as long as it is old, within bounds, and not beyond
/// the moment when it is closed.
pub fn ask_again_after(age: Duration, closed_after: Duration) -> Duration {
    let pause = age.clamp(FIRST_ASKED_AFTER, ASKED_EVERY_AT_MOST);
    match closed_after.checked_sub(age) {
        Some(left) if !left.is_zero() => pause.min(left),
        _ => pause,
    }
}

/// Why money cannot be given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RefundRefusal {
    /// The order was never paid, or nothing of it is left.
    #[error("the order is {state}; only paid orders can be refunded")]
    NotPaid {
        /// Where it stands.
        state: State,
    },
    /// All of the payment went back, or is on its way.
    #[error("nothing is left of the payment: all of it went back or is on its way")]
    NothingLeft,
    /// More than what is left of the payment.
    #[error("{amount} is more than the {left} that is left of the payment; write at most {left}")]
    MoreThanPaid {
        /// What was asked for.
        amount: Nanos,
        /// Paid, less all refunds.
        left: Nanos,
    },
    /// The account has spent it, or leases hold it.
    #[error(
        "the account has {available} available, less than {amount}; refund at most that, or say allow_receivable: \
         the rest is then owed"
    )]
    Spent {
        /// What was asked for.
        amount: Nanos,
        /// The account's own money that nothing holds.
        available: Nanos,
    },
}

/// What a refund takes: from the balance, and as a receivable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefundSplit {
    /// From the balance.
    pub taken: Nanos,
    /// Owed from now on.
    pub owed: Nanos,
}

/// Takes from the balance what is there; the rest is owed.
pub fn split_refund(amount: Nanos, available: Nanos) -> Option<RefundSplit> {
    let taken = amount.min(available.max(Nanos::ZERO));
    Some(RefundSplit { taken, owed: amount.checked_sub(taken)? })
}

/// Decides an operator's refund of a paid order.
pub fn refund(
    state: State,
    amount: Nanos,
    left: Nanos,
    available: Nanos,
    allow_receivable: bool,
) -> Result<RefundSplit, RefundRefusal> {
    if !matches!(state, State::Paid | State::PartlyRefunded) {
        return Err(RefundRefusal::NotPaid { state });
    }
    let more = RefundRefusal::MoreThanPaid { amount, left };
    if left < amount {
        return Err(more);
    }
    let split = split_refund(amount, available).ok_or(more)?;
    if split.owed != Nanos::ZERO && !allow_receivable {
        return Err(RefundRefusal::Spent { amount, available });
    }
    Ok(split)
}

/// Where a paid order stands when so much of it has gone back.
pub fn state_after_refunds(amount: Nanos, refunded: Nanos) -> State {
    if refunded <= Nanos::ZERO {
        State::Paid
    } else if refunded < amount {
        State::PartlyRefunded
    } else {
        State::Refunded
    }
}

#[cfg(test)]
mod tests;

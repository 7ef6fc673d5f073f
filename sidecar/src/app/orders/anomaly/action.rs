//! What people may decide about news that did not fit. Pure.

use std::fmt;
use std::str::FromStr;

use farebox_core::money::Nanos;
use farebox_core::order::{Mismatch, PaymentStatus};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What is done about news that did not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nothing is owed to anybody.
    Dismiss,
    /// What was paid is credited to an account here.
    Credit,
    /// The payer got the money back at the payment service, by hand: it is noted.
    RefundAtProvider,
}

/// A word that names no action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no action; write dismiss, credit or refund_at_provider")]
pub struct ActionError {
    text: String,
}

impl Action {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Dismiss, Self::Credit, Self::RefundAtProvider];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dismiss => "dismiss",
            Self::Credit => "credit",
            Self::RefundAtProvider => "refund_at_provider",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Action {
    type Err = ActionError;

    fn from_str(text: &str) -> Result<Self, ActionError> {
        let found = Self::ALL.into_iter().find(|action| action.as_str() == text);
        found.ok_or_else(|| ActionError { text: text.to_owned() })
    }
}

/// Money that came, as the news says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paid<'a> {
    pub(super) amount: Nanos,
    pub(super) currency: &'a str,
}

/// What was paid; `None` when the news is not that money came.
pub(super) fn paid(found: &Value) -> Option<Paid<'_>> {
    let text = |name: &str| found[name].as_str();
    let is_success = text("status") == Some(PaymentStatus::Success.as_str());
    let amount: Nanos = text("amount").filter(|_| is_success)?.parse().ok()?;
    let currency = text("currency")?;
    (Nanos::ZERO < amount).then_some(Paid { amount, currency })
}

/// What may be done about such news. Only money that came can be credited or go back. It is credited where it is clear what it
/// is and that nobody else has it: not in another currency, and not when it pays another order.
pub(super) fn possible(kind: &str, found: &Value) -> Vec<Action> {
    let is_clear =
        ![Mismatch::Currency, Mismatch::Order].iter().any(|mismatch| mismatch.as_str() == kind);
    let came = paid(found).is_some();
    let is_possible = |action: &Action| match action {
        Action::Dismiss => true,
        Action::Credit => came && is_clear,
        Action::RefundAtProvider => came,
    };
    Action::ALL.into_iter().filter(is_possible).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_word_is_read_back_and_nothing_else_is_an_action() {
        for action in Action::ALL {
            assert_eq!(action.as_str().parse(), Ok(action));
            assert_eq!(serde_json::to_value(action).unwrap(), action.as_str());
        }
        assert!("refund".parse::<Action>().is_err());
    }

    #[test]
    fn each_kind_has_the_actions_that_fit_it() {
        use Action::{Credit, Dismiss, RefundAtProvider};
        let news = |status: &str, amount: &str| json!({ "payment_id": "p1", "amount": amount, "currency": "CNY", "user_id": null, "status": status });
        for kind in Mismatch::ALL {
            let with_money = match kind {
                Mismatch::Currency | Mismatch::Order => vec![Dismiss, RefundAtProvider],
                Mismatch::Payment
                | Mismatch::Amount
                | Mismatch::User
                | Mismatch::Status
                | Mismatch::UnknownOrder => vec![Dismiss, Credit, RefundAtProvider],
            };
            assert_eq!(possible(kind.as_str(), &news("SUCCESS", "9.99")), with_money, "{kind:?}");
            for (status, amount) in [
                ("FAILED", "9.99"),
                ("REFUNDED", "9.99"),
                ("refunded in all", "9.99"),
                ("CreatePayment", "9.99"),
                ("SUCCESS", "0"),
                ("SUCCESS", "-1"),
                ("SUCCESS", "much"),
            ] {
                assert_eq!(
                    possible(kind.as_str(), &news(status, amount)),
                    [Dismiss],
                    "{status} {amount}"
                );
            }
        }
        assert_eq!(possible("amount", &Value::Null), [Dismiss]);
    }
}

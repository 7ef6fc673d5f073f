//! How the service is told to misbehave. What is set stays set, also over a restart, until it is set otherwise.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tonic::{Code, Status};

/// Everything that can be told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Behaviour {
    /// CreatePayment answers so much later; the payment exists by then.
    pub(crate) create_delay_ms: u64,
    /// CreatePayment answers with this error.
    pub(crate) create_error: Option<GrpcCode>,
    pub(crate) get_delay_ms: u64,
    pub(crate) get_error: Option<GrpcCode>,
    pub(crate) refund_delay_ms: u64,
    pub(crate) refund_error: Option<GrpcCode>,
    /// Errors come after the work is done and kept, as when an answer is lost; otherwise nothing is done.
    pub(crate) error_after: bool,
    /// What becomes of refunds that are asked for or asked for again.
    pub(crate) refund_outcome: RefundOutcome,
    /// Answers break the contract in this way.
    pub(crate) garbage: Option<Garbage>,
    pub(crate) callback: CallbackBehaviour,
}

/// How callbacks of payments that change their status are made; every change is made when the status changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CallbackBehaviour {
    /// `false`: the callback is lost for ever.
    pub(crate) send: bool,
    /// So many of the same, at the same time.
    pub(crate) copies: u32,
    pub(crate) delay_ms: u64,
    pub(crate) amount_override: Option<String>,
    pub(crate) currency_override: Option<String>,
    pub(crate) payment_id_override: Option<String>,
    pub(crate) order_id_override: Option<String>,
    pub(crate) status_override: Option<String>,
    /// Signs with this secret instead of its own.
    pub(crate) secret_override: Option<String>,
}

impl Default for CallbackBehaviour {
    fn default() -> Self {
        Self {
            send: true,
            copies: 1,
            delay_ms: 0,
            amount_override: None,
            currency_override: None,
            payment_id_override: None,
            order_id_override: None,
            status_override: None,
            secret_override: None,
        }
    }
}

/// What becomes of a refund.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RefundOutcome {
    #[default]
    Success,
    Pending,
    Failed,
}

/// Answers that break the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Garbage {
    /// No payment id, no refund id.
    EmptyId,
    /// A payment id of 65 characters.
    LongId,
    /// A payment id with a blank and a letter outside ASCII.
    OddId,
    /// GetPayment names another order.
    OtherOrder,
    /// GetPayment names one minor unit more.
    WrongAmount,
    /// GetPayment names another currency.
    WrongCurrency,
    /// The payment page is no http address.
    BadUrl,
    /// A status that the contract does not have.
    UnknownStatus,
}

/// Codes of gRPC by their names in its specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum GrpcCode {
    Cancelled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
}

impl GrpcCode {
    /// The error that a call is answered with.
    pub(crate) fn status(self) -> Status {
        let code = match self {
            Self::Cancelled => Code::Cancelled,
            Self::Unknown => Code::Unknown,
            Self::InvalidArgument => Code::InvalidArgument,
            Self::DeadlineExceeded => Code::DeadlineExceeded,
            Self::NotFound => Code::NotFound,
            Self::AlreadyExists => Code::AlreadyExists,
            Self::PermissionDenied => Code::PermissionDenied,
            Self::ResourceExhausted => Code::ResourceExhausted,
            Self::FailedPrecondition => Code::FailedPrecondition,
            Self::Aborted => Code::Aborted,
            Self::OutOfRange => Code::OutOfRange,
            Self::Unimplemented => Code::Unimplemented,
            Self::Internal => Code::Internal,
            Self::Unavailable => Code::Unavailable,
            Self::DataLoss => Code::DataLoss,
            Self::Unauthenticated => Code::Unauthenticated,
        };
        Status::new(code, "told to answer so")
    }
}

impl Behaviour {
    /// This behaviour with some keys changed; `null` sets a key back.
    pub(crate) fn changed(&self, patch: &Value) -> Result<Self, serde_json::Error> {
        let mut keys = serde_json::to_value(self)?;
        merge(&mut keys, patch);
        serde_json::from_value(keys)
    }
}

/// RFC 7396: objects are merged key by key, `null` removes, anything else replaces.
fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        patch.clone_into(target);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Some(target) = target.as_object_mut() else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.as_str()).or_insert(Value::Null), value);
        }
    }
}

/// The error that a call is to be answered with, or its work and then perhaps the error; late as told.
pub(crate) async fn misbehave<T>(
    error: Option<GrpcCode>,
    error_after: bool,
    delay_ms: u64,
    work: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let done = match error {
        Some(_) if !error_after => None,
        Some(_) | None => Some(work.await?),
    };
    tokio::time::sleep(Duration::from_millis(delay_ms)).await;
    match (error, done) {
        (None, Some(answer)) => Ok(answer),
        (Some(code), _) => Err(code.status()),
        (None, None) => Err(Status::internal("neither an answer nor an error")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_named_stays_and_null_sets_back() {
        let told = json!({ "create_error": "UNAVAILABLE", "callback": { "copies": 3 } });
        let behaviour = Behaviour::default().changed(&told).unwrap();
        let behaviour = behaviour.changed(&json!({ "callback": { "send": false } })).unwrap();
        assert_eq!(behaviour.create_error, Some(GrpcCode::Unavailable));
        assert_eq!((behaviour.callback.copies, behaviour.callback.send), (3, false));
        let back = json!({ "create_error": null, "callback": null });
        assert_eq!(behaviour.changed(&back).unwrap(), Behaviour::default());
        assert_eq!(behaviour.changed(&json!({})).unwrap(), behaviour);
    }

    #[test]
    fn a_misspelt_key_is_refused() {
        let err = Behaviour::default().changed(&json!({ "creat_error": "ABORTED" })).unwrap_err();
        assert!(err.to_string().contains("creat_error"), "{err}");
    }
}

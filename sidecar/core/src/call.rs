//! Requests that the sidecar decides call by call: check, deduct, reserve, commit, release, refund. JSON both ways.
//!
//! All but `check` carry the caller's name for them, their key: sent again with the same content, a request gets the
//! answer that it got, whatever happened meanwhile. Answers are kept for [`KEY_KEPT_H`] hours, refusals too.
//!
//! Money is a decimal string in currency units. Unknown members are ignored, so a `cost` that a client sends changes
//! nothing. The predecessor's spellings `userId`, `serviceName` are read as well.

use serde::{Deserialize, Serialize};

use crate::charge::PaidBy;
use crate::id::{AccountId, ServiceName};
use crate::limits::{CALL_KEY_BYTES_MAX, RESERVATION_TTL_MS_MAX, UNITS_MAX, WAIT_MS_MAX};
use crate::money::Nanos;
use crate::package::Bought;
use crate::wire::{FieldError, FreeQuota, require};

/// The paths of the endpoints.
pub const CHECK_PATH: &str = "/internal/v1/billing/check";
/// See [`DeductRequest`].
pub const DEDUCT_PATH: &str = "/internal/v1/billing/deduct";
/// See [`ReserveRequest`].
pub const RESERVE_PATH: &str = "/internal/v1/billing/reserve";
/// See [`CommitRequest`].
pub const COMMIT_PATH: &str = "/internal/v1/billing/commit";
/// See [`ReleaseRequest`].
pub const RELEASE_PATH: &str = "/internal/v1/billing/release";
/// See [`RefundRequest`].
pub const REFUND_PATH: &str = "/internal/v1/billing/refund";

/// For how many hours a repeated request gets the answer that it got.
pub const KEY_KEPT_H: i64 = 24;

/// How long a reservation stands when the request does not say.
pub const RESERVATION_TTL_MS: u64 = 60_000;

/// Whether a call could be charged now. Nothing is set aside and no money moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CheckRequest {
    /// Who pays.
    #[serde(alias = "userId")]
    pub user_id: AccountId,
    /// What is metered.
    #[serde(alias = "serviceName", alias = "service_name")]
    pub service: ServiceName,
    /// Units of the call.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 2147483647))]
    pub count: u64,
    /// The route's own price per unit; absent: the price book's price for the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(schema_with = crate::openapi::not_negative))]
    pub price: Option<Nanos>,
}

/// What would pay for a call, or what is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Reason {
    /// The free quota covers it.
    #[serde(rename = "free")]
    Free,
    /// The balance pays for all of it.
    #[serde(rename = "balance")]
    Balance,
    /// The free quota covers a part, the balance pays for the rest.
    #[serde(rename = "mixed")]
    Mixed,
    /// Money is missing.
    #[serde(rename = "insufficient balance")]
    InsufficientBalance,
    /// Free units are missing, and the service has no price.
    #[serde(rename = "insufficient quota")]
    InsufficientQuota,
    /// An operator froze the account; there may be enough.
    #[serde(rename = "account frozen")]
    AccountFrozen,
}

impl From<PaidBy> for Reason {
    fn from(paid_by: PaidBy) -> Self {
        match paid_by {
            PaidBy::Free => Self::Free,
            PaidBy::Balance => Self::Balance,
            PaidBy::Mixed => Self::Mixed,
        }
    }
}

/// The answer to a [`CheckRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CheckReply {
    /// Whether a deduct at this moment would succeed.
    pub allowed: bool,
    /// What would pay, or what is missing.
    pub reason: Reason,
    /// Units of this month's free quota that are neither used nor held.
    pub remaining_free: u64,
    /// What may be spent: the balance that nothing holds, and the credit limit.
    pub available: Nanos,
    /// What the units beyond the free ones cost.
    pub cost: Nanos,
    /// Price per unit; absent when the service has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Nanos>,
    /// For how many more paid units of this month that price holds; absent when it holds for any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_units: Option<u64>,
    /// What `cost` is made of, when the units have several prices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<CostPart>,
    /// Packages that the call would buy; `cost` is what they cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packages: Option<Bought>,
    /// Of all amounts, ISO 4217.
    pub currency: String,
}

/// Paid units of a call at one price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CostPart {
    /// How many.
    pub units: u64,
    /// Price per unit.
    pub price: Nanos,
    /// What they cost.
    pub amount: Nanos,
}

/// Charges a call: free units first, then money, all of it or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeductRequest {
    /// The caller's name for this call, 1–255 visible ASCII. The header `Idempotency-Key` may carry it instead.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(schema_with = crate::openapi::key))]
    pub idempotency_key: String,
    /// Who pays.
    #[serde(alias = "userId")]
    pub user_id: AccountId,
    /// What is metered.
    #[serde(alias = "serviceName", alias = "service_name")]
    pub service: ServiceName,
    /// Units of the call.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 2147483647))]
    pub count: u64,
    /// The route's own price per unit; absent: the price book's price for the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(schema_with = crate::openapi::not_negative))]
    pub price: Option<Nanos>,
    /// How long to wait for units that gateways hold unused, in milliseconds; absent: as long as the request may take. No part
    /// of the content that the key names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(maximum = 60000))]
    pub wait_ms: Option<u64>,
}

/// The answer to a [`DeductRequest`] that was charged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeductReply {
    /// The billing record; the first one, when the units have several prices.
    pub record_id: String,
    /// All of them, when there are several: one for each price. A refund of the first gives all of them back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub record_ids: Vec<String>,
    /// Units taken from the month's free quota.
    pub free_units: u64,
    /// Units paid with money.
    pub paid_units: u64,
    /// What the paid units cost.
    pub amount: Nanos,
    /// Price per unit, of the first one where they have several; absent when the service has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Nanos>,
    /// Packages that the call bought; their cost is part of `amount`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packages: Option<Bought>,
    /// The balance after the charge, held money included.
    pub balance: Nanos,
    /// What may be spent: the balance that nothing holds, and the credit limit.
    pub available: Nanos,
    /// Of all amounts, ISO 4217.
    pub currency: String,
    /// The month's free quota of the service after the charge.
    pub free_quota: FreeQuota,
}

/// What an account has beside what a refused call takes: members of the refusal's problem document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Shortfall {
    /// Units of this month's free quota that are neither used nor held.
    pub remaining_free: u64,
    /// What may be spent: the balance that nothing holds, and the credit limit.
    pub available: Nanos,
    /// What the units beyond the free ones cost.
    pub cost: Nanos,
    /// Price per unit; absent when the service has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Nanos>,
    /// The month's free quota of the service.
    pub free_quota: FreeQuota,
}

/// Sets units or money aside for one call, for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReserveRequest {
    /// The caller's name for this reservation, 1–255 visible ASCII. The header `Idempotency-Key` may carry it instead.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(schema_with = crate::openapi::key))]
    pub idempotency_key: String,
    /// Who pays.
    #[serde(alias = "userId")]
    pub user_id: AccountId,
    /// What is metered.
    #[serde(alias = "serviceName", alias = "service_name")]
    pub service: ServiceName,
    /// Units to set aside, free ones first. Either this or `amount`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 2147483647))]
    pub units: Option<u64>,
    /// Money to set aside, for calls whose cost is known afterwards. Takes no free units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(schema_with = crate::openapi::not_negative))]
    pub amount: Option<Nanos>,
    /// The route's own price per unit; absent: the price book's. Not together with `amount`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(schema_with = crate::openapi::not_negative))]
    pub price: Option<Nanos>,
    /// When it comes back by itself, in milliseconds from now; absent: [`RESERVATION_TTL_MS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 86400000))]
    pub ttl_ms: Option<u64>,
    /// As in [`DeductRequest::wait_ms`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(maximum = 60000))]
    pub wait_ms: Option<u64>,
}

/// The answer to a [`ReserveRequest`] that was met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReserveReply {
    /// The reservation.
    pub reservation_id: String,
    /// Free units set aside.
    pub free_units: u64,
    /// Units set aside that money pays for; 0 for an amount.
    pub paid_units: u64,
    /// Money set aside.
    pub amount: Nanos,
    /// Price per unit; absent when the service has none, and for an amount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Nanos>,
    /// Packages that it bought, besides `amount`. They come back when nobody needs them any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packages: Option<Bought>,
    /// When it comes back by itself, RFC 3339 in UTC.
    pub expires_at: String,
    /// The balance, held money included.
    pub balance: Nanos,
    /// What may be spent: the balance that nothing holds, and the credit limit.
    pub available: Nanos,
    /// Of all amounts, ISO 4217.
    pub currency: String,
}

/// Charges a part of a reservation, or all of it, and gives the rest back. Its key is the reservation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CommitRequest {
    /// Which reservation.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 36, pattern = "^[!-~]+$"))]
    pub reservation_id: String,
    /// Units that the call took, no more than were reserved, free ones first; absent: all. For a reservation of units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(maximum = 2147483647))]
    pub units: Option<u64>,
    /// What the call cost, no more than was reserved; absent: all. For a reservation of an amount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(schema_with = crate::openapi::not_negative))]
    pub amount: Option<Nanos>,
}

/// The answer to a [`CommitRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CommitReply {
    /// The reservation.
    pub reservation_id: String,
    /// The billing record; absent when nothing was charged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record_id: Option<String>,
    /// Units taken from the free quota of the month in which they were reserved.
    pub free_units: u64,
    /// Units paid with money; for an amount, 1 at its own price.
    pub paid_units: u64,
    /// Money charged.
    pub amount: Nanos,
    /// The balance after the charge, held money included.
    pub balance: Nanos,
    /// What may be spent: the balance that nothing holds, and the credit limit.
    pub available: Nanos,
    /// Of all amounts, ISO 4217.
    pub currency: String,
}

/// Gives a reservation back. Its key is the reservation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReleaseRequest {
    /// Which reservation.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 36, pattern = "^[!-~]+$"))]
    pub reservation_id: String,
}

/// The answer to a [`ReleaseRequest`]; all zero when the reservation had run out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReleaseReply {
    /// The reservation.
    pub reservation_id: String,
    /// Free units given back.
    pub free_units: u64,
    /// Paid units given back; 0 for an amount.
    pub paid_units: u64,
    /// Money given back.
    pub amount: Nanos,
    /// The balance, held money included.
    pub balance: Nanos,
    /// What may be spent: the balance that nothing holds, and the credit limit.
    pub available: Nanos,
    /// Of all amounts, ISO 4217.
    pub currency: String,
}

/// Gives units of a charge back to where they came from: free ones to the free quota of their month, paid ones as money.
///
/// By `deduct_key` it also undoes a deduct whose outcome the caller does not know, for [`KEY_KEPT_H`] hours: one that has not
/// arrived yet will charge nothing when it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RefundRequest {
    /// The caller's name for this refund, 1–255 visible ASCII. The header `Idempotency-Key` may carry it instead.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(schema_with = crate::openapi::key))]
    pub idempotency_key: String,
    /// The billing record. Either this or `deduct_key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 36, pattern = "^[!-~]+$"))]
    pub record_id: Option<String>,
    /// The key of the deduct that was charged, or may have been. Needs `user_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "openapi",
        schema(min_length = 1, max_length = 255, pattern = "^[!-~]+$")
    )]
    pub deduct_key: Option<String>,
    /// Whose charge it is; needed with `deduct_key`, checked with `record_id`.
    #[serde(default, alias = "userId", skip_serializing_if = "Option::is_none")]
    pub user_id: Option<AccountId>,
    /// Units to give back, paid ones first; absent: all that have not come back yet. Not with `deduct_key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 2147483647))]
    pub units: Option<u64>,
}

/// The answer to a [`RefundRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RefundReply {
    /// The refund; absent when there was nothing to give back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refund_id: Option<String>,
    /// The billing record; absent when no deduct of the last [`KEY_KEPT_H`] hours was charged under the key, and none will be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record_id: Option<String>,
    /// Free units given back.
    pub free_units: u64,
    /// Paid units given back.
    pub paid_units: u64,
    /// Money given back.
    pub amount: Nanos,
    /// The balance after the refund, held money included.
    pub balance: Nanos,
    /// What may be spent: the balance that nothing holds, and the credit limit.
    pub available: Nanos,
    /// Of all amounts, ISO 4217.
    pub currency: String,
}

/// A key of a request.
fn check_key(field: &str, key: &str) -> Result<(), FieldError> {
    let is_key = (1..=CALL_KEY_BYTES_MAX).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_graphic());
    let shown: String = key.chars().take(40).collect();
    require(
        is_key,
        field,
        format!("{shown:?}"),
        "must be 1 to 255 visible ASCII characters, for instance a UUID",
    )
}

fn check_units(field: &str, units: u64) -> Result<(), FieldError> {
    require((1..=UNITS_MAX).contains(&units), field, units, "must be 1 to 2147483647")
}

fn check_price(price: Option<Nanos>) -> Result<(), FieldError> {
    let price = price.unwrap_or(Nanos::ZERO);
    require(!price.is_negative(), "price", price, "must not be negative")
}

fn check_wait(wait_ms: Option<u64>) -> Result<(), FieldError> {
    let wait = wait_ms.unwrap_or(0);
    require(wait <= WAIT_MS_MAX, "wait_ms", wait, "must be 60000 or less")
}

/// An id that the sidecar gave out; anything else is not found anyway.
fn check_id(field: &str, id: &str) -> Result<(), FieldError> {
    let shown: String = id.chars().take(40).collect();
    require(
        (1..=36).contains(&id.len()),
        field,
        format!("{shown:?}"),
        "must be an id that a reply named",
    )
}

impl CheckRequest {
    /// Checks every bound that the types cannot express.
    pub fn validate(&self) -> Result<(), FieldError> {
        check_units("count", self.count)?;
        check_price(self.price)
    }
}

impl DeductRequest {
    /// Checks every bound that the types cannot express.
    pub fn validate(&self) -> Result<(), FieldError> {
        check_key("idempotency_key", &self.idempotency_key)?;
        check_units("count", self.count)?;
        check_price(self.price)?;
        check_wait(self.wait_ms)
    }
}

impl ReserveRequest {
    /// Checks every bound that the types cannot express.
    pub fn validate(&self) -> Result<(), FieldError> {
        check_key("idempotency_key", &self.idempotency_key)?;
        match (self.units, self.amount) {
            (Some(units), None) => check_units("units", units)?,
            (None, Some(amount)) => {
                require(Nanos::ZERO < amount, "amount", amount, "must be above 0")?;
                let price = self.price.map_or_else(String::new, |price| price.to_string());
                require(
                    self.price.is_none(),
                    "price",
                    price,
                    "must be left out: an amount has no price per unit",
                )?;
            }
            (Some(units), Some(_)) => {
                return require(
                    false,
                    "units",
                    units,
                    "must not stand beside amount; send one of them",
                );
            }
            (None, None) => {
                return require(false, "units", "missing", "must be sent, or else amount");
            }
        }
        check_price(self.price)?;
        let ttl = self.ttl_ms.unwrap_or(RESERVATION_TTL_MS);
        require(
            (1..=RESERVATION_TTL_MS_MAX).contains(&ttl),
            "ttl_ms",
            ttl,
            "must be 1 to 86400000",
        )?;
        check_wait(self.wait_ms)
    }
}

impl CommitRequest {
    /// Checks every bound that the types cannot express.
    pub fn validate(&self) -> Result<(), FieldError> {
        check_id("reservation_id", &self.reservation_id)?;
        let units = self.units.unwrap_or(0);
        require(units <= UNITS_MAX, "units", units, "must be 0 to 2147483647")?;
        let amount = self.amount.unwrap_or(Nanos::ZERO);
        require(!amount.is_negative(), "amount", amount, "must not be negative")?;
        let both = self.units.is_some() && self.amount.is_some();
        require(!both, "units", units, "must not stand beside amount; send what was reserved")
    }
}

impl ReleaseRequest {
    /// Checks every bound that the types cannot express.
    pub fn validate(&self) -> Result<(), FieldError> {
        check_id("reservation_id", &self.reservation_id)
    }
}

impl RefundRequest {
    /// Checks every bound that the types cannot express.
    pub fn validate(&self) -> Result<(), FieldError> {
        check_key("idempotency_key", &self.idempotency_key)?;
        if let Some(units) = self.units {
            check_units("units", units)?;
        }
        match (&self.record_id, &self.deduct_key) {
            (Some(record), None) => check_id("record_id", record),
            (None, Some(key)) => {
                check_key("deduct_key", key)?;
                let units = self.units.unwrap_or(0);
                require(
                    self.units.is_none(),
                    "units",
                    units,
                    "must be left out with deduct_key: all of it goes back",
                )?;
                require(
                    self.user_id.is_some(),
                    "user_id",
                    "missing",
                    "must be sent with deduct_key",
                )
            }
            (Some(_), Some(key)) => {
                let shown: String = key.chars().take(40).collect();
                require(
                    false,
                    "deduct_key",
                    format!("{shown:?}"),
                    "must not stand beside record_id; send one of them",
                )
            }
            (None, None) => {
                require(false, "record_id", "missing", "must be sent, or else deduct_key")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn deduct(text: &str) -> Result<DeductRequest, String> {
        let request: DeductRequest = serde_json::from_str(text).map_err(|err| err.to_string())?;
        request.validate().map_err(|err| err.to_string())?;
        Ok(request)
    }

    #[test]
    fn a_deduct_reads_as_documented_and_in_the_predecessors_spelling() {
        let ours = r#"{"idempotency_key":"k1","user_id":"u","service":"asset","count":3}"#;
        let theirs = r#"{"idempotency_key":"k1","userId":"u","serviceName":"asset","count":3,"cost":0.5,"appId":"a"}"#;
        assert_eq!(
            deduct(ours),
            deduct(theirs),
            "a cost that a client sends changes nothing (T09)"
        );
        assert_eq!(serde_json::to_string(&deduct(ours).unwrap()).unwrap(), ours);
    }

    #[test]
    fn bounds_that_are_broken_are_named_with_their_values() {
        // T08: 0, below it, beyond the predecessor's int32.
        let with = |count: &str| {
            deduct(&format!(
                r#"{{"idempotency_key":"k","user_id":"u","service":"s","count":{count}}}"#
            ))
        };
        assert_eq!(with("0").unwrap_err(), "count is 0: must be 1 to 2147483647");
        assert_eq!(with("2147483648").unwrap_err(), "count is 2147483648: must be 1 to 2147483647");
        for refused in ["-1", "1.5", "\"3\"", "null", "1e400"] {
            assert!(with(refused).is_err(), "{refused}");
        }
        assert!(with("2147483647").is_ok());
        let key = deduct(r#"{"idempotency_key":"a b","user_id":"u","service":"s","count":1}"#);
        assert_eq!(
            key.unwrap_err(),
            "idempotency_key is \"a b\": must be 1 to 255 visible ASCII characters, for instance a UUID"
        );
    }

    #[test]
    fn a_reservation_is_of_units_or_of_an_amount() {
        let reserve = |members: &str| {
            let text = format!(r#"{{"idempotency_key":"k","user_id":"u","service":"s"{members}}}"#);
            serde_json::from_str::<ReserveRequest>(&text)
                .unwrap()
                .validate()
                .map_err(|err| err.to_string())
        };
        assert_eq!(reserve(r#","units":3"#), Ok(()));
        assert_eq!(reserve(r#","amount":"0.5","ttl_ms":1000"#), Ok(()));
        for (members, problem) in [
            ("", "units is missing: must be sent, or else amount"),
            (
                r#","units":3,"amount":"0.5""#,
                "units is 3: must not stand beside amount; send one of them",
            ),
            (r#","amount":"0""#, "amount is 0: must be above 0"),
            (
                r#","amount":"1","price":"2""#,
                "price is 2: must be left out: an amount has no price per unit",
            ),
            (r#","units":3,"ttl_ms":0"#, "ttl_ms is 0: must be 1 to 86400000"),
            (r#","units":3,"price":"-1""#, "price is -1: must not be negative"),
        ] {
            assert_eq!(reserve(members).unwrap_err(), problem);
        }
    }

    #[test]
    fn a_refund_names_its_charge_once() {
        let refund = |members: &str| {
            let text = format!(r#"{{"idempotency_key":"k"{members}}}"#);
            serde_json::from_str::<RefundRequest>(&text)
                .unwrap()
                .validate()
                .map_err(|err| err.to_string())
        };
        assert_eq!(refund(r#","record_id":"r","units":2"#), Ok(()));
        assert_eq!(refund(r#","deduct_key":"d","user_id":"u""#), Ok(()));
        for (members, problem) in [
            ("", "record_id is missing: must be sent, or else deduct_key"),
            (
                r#","record_id":"r","deduct_key":"d""#,
                "deduct_key is \"d\": must not stand beside record_id; send one of them",
            ),
            (r#","deduct_key":"d""#, "user_id is missing: must be sent with deduct_key"),
            (
                r#","deduct_key":"d","user_id":"u","units":1"#,
                "units is 1: must be left out with deduct_key: all of it goes back",
            ),
            (r#","record_id":"r","units":0"#, "units is 0: must be 1 to 2147483647"),
        ] {
            assert_eq!(refund(members).unwrap_err(), problem);
        }
    }
}

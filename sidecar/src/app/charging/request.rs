//! What tells requests apart: their key, and what the key stands for.

use sha2::{Digest, Sha256};

use farebox_core::call::{DeductRequest, RefundRequest, ReserveRequest};
use farebox_core::id::AccountId;

use super::Request;
use crate::store::idempotency_key::RequestKey;

/// Keys of each kind of request are kept apart from each other, and from those of operators.
const DEDUCT: &str = "call.deduct";
const RESERVE: &str = "call.reserve";
const COMMIT: &str = "call.commit";
const RELEASE: &str = "call.release";
const REFUND: &str = "call.refund";

/// Every scope, for whoever deletes old answers.
pub(in crate::app) const SCOPES: [&str; 5] = [DEDUCT, RESERVE, COMMIT, RELEASE, REFUND];

/// The name under which a deduct's answer is kept.
pub(super) fn deduct_key(key: &str) -> RequestKey {
    RequestKey { scope: DEDUCT, key: key.to_owned() }
}

/// Where a request's account is found.
pub(super) enum Owner<'a> {
    /// In the request itself.
    Named(&'a AccountId),
    /// In the reservation.
    OfReservation(&'a str),
    /// In the billing record.
    OfRecord(&'a str),
}

impl Request {
    /// The name under which its answer is kept.
    pub(super) fn key(&self) -> RequestKey {
        let (scope, key) = match self {
            Self::Deduct(request) => (DEDUCT, &request.idempotency_key),
            Self::Reserve(request) => (RESERVE, &request.idempotency_key),
            Self::Commit(request) => (COMMIT, &request.reservation_id),
            Self::Release(request) => (RELEASE, &request.reservation_id),
            Self::Refund(request) => (REFUND, &request.idempotency_key),
        };
        RequestKey { scope, key: key.clone() }
    }

    /// What makes two requests with one key the same.
    pub(super) fn content_hash(&self) -> [u8; 32] {
        let content = match self {
            Self::Deduct(request) => {
                let content = DeductRequest { wait_ms: None, ..request.clone() };
                serde_json::to_vec(&content)
            }
            Self::Reserve(request) => {
                let content = ReserveRequest { wait_ms: None, ..request.clone() };
                serde_json::to_vec(&content)
            }
            Self::Commit(request) => serde_json::to_vec(request),
            Self::Release(request) => serde_json::to_vec(request),
            Self::Refund(request) => serde_json::to_vec(request),
        };
        // Texts and numbers always have a JSON text.
        Sha256::digest(content.unwrap_or_default()).into()
    }

    /// Whose account it is about.
    pub(super) fn owner(&self) -> Owner<'_> {
        match self {
            Self::Deduct(request) => Owner::Named(&request.user_id),
            Self::Reserve(request) => Owner::Named(&request.user_id),
            Self::Commit(request) => Owner::OfReservation(&request.reservation_id),
            Self::Release(request) => Owner::OfReservation(&request.reservation_id),
            Self::Refund(RefundRequest { record_id: Some(record), .. }) => Owner::OfRecord(record),
            Self::Refund(RefundRequest { user_id: Some(user), .. }) => Owner::Named(user),
            // Refused when it was validated; nothing has an empty id.
            Self::Refund(_) => Owner::OfRecord(""),
        }
    }

    /// How long it may wait for units that gateways hold unused; `None` for as long as it may take.
    pub(super) fn wait_ms(&self) -> Option<u64> {
        match self {
            Self::Deduct(request) => request.wait_ms,
            Self::Reserve(request) => request.wait_ms,
            Self::Commit(_) | Self::Release(_) | Self::Refund(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deduct(count: u64, wait_ms: Option<u64>) -> Request {
        Request::Deduct(DeductRequest {
            idempotency_key: "k".to_owned(),
            user_id: "u".parse().unwrap(),
            service: "asset".parse().unwrap(),
            count,
            price: None,
            wait_ms,
        })
    }

    #[test]
    fn patience_is_no_part_of_what_a_key_stands_for() {
        assert_eq!(deduct(3, None).content_hash(), deduct(3, Some(5)).content_hash());
        assert_ne!(deduct(3, None).content_hash(), deduct(4, None).content_hash());
    }
}

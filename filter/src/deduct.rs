//! Messages of strict calls: one deduct per call, and what its answer says.

use farebox_core::call::DeductRequest;
use farebox_core::code::Code;
use farebox_core::money::Nanos;
use farebox_core::wire::{FreeQuota, LeaseKey};
use serde::Deserialize;

use crate::answer::{Funds, Reason};
use crate::record::Drawn;

/// What became of a deduct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The call is charged, on this billing record.
    Charged(Drawn, String),
    /// The account cannot pay, or may not, and nothing was charged.
    Short(Funds),
    /// Not decided, and nothing was charged by this message; the same one may be sent again.
    Busy(Reason),
    /// The answer says nothing about the charge.
    Unknown {
        /// Whether the same message may bring a better one.
        repeats: bool,
        /// Whether other calls would fare the same.
        is_away: bool,
    },
}

/// The members of a [`farebox_core::call::DeductReply`] that a gateway needs.
#[derive(Deserialize)]
struct Charged {
    record_id: String,
    free_units: u64,
    paid_units: u64,
    #[serde(default)]
    price: Option<Nanos>,
}

/// A problem document, with the members of a [`farebox_core::call::Shortfall`] that callers are told.
#[derive(Deserialize)]
struct Problem {
    code: u32,
    #[serde(default)]
    remaining_free: u64,
    /// Every refusal says it.
    #[serde(default)]
    available: Option<Nanos>,
    #[serde(default)]
    price: Option<Nanos>,
    #[serde(default)]
    free_quota: FreeQuota,
}

/// The message that charges `units` of a call under the name `key`.
pub fn message(key: &str, call: &LeaseKey, units: u64, wait_ms: u64) -> Vec<u8> {
    let request = DeductRequest {
        idempotency_key: key.to_owned(),
        user_id: call.account.clone(),
        service: call.service.clone(),
        count: units,
        price: call.price,
        wait_ms: Some(wait_ms),
    };
    serde_json::to_vec(&request).unwrap_or_default()
}

/// Reads an answer: the sidecar's, or one that Envoy or something between made up; status 0 for a reset.
pub fn outcome(status: u32, body: &[u8], units: u64) -> Outcome {
    if status == 200 {
        return match serde_json::from_slice::<Charged>(body) {
            Ok(Charged { record_id, free_units, paid_units, price }) => {
                let price = price.unwrap_or(Nanos::ZERO);
                Outcome::Charged(Drawn { free: free_units, paid: paid_units, price }, record_id)
            }
            Err(_) => Outcome::Unknown { repeats: true, is_away: true },
        };
    }
    let problem = serde_json::from_slice::<Problem>(body).ok();
    let named = problem.as_ref().and_then(|problem| Code::from_number(problem.code));
    // The status must be the code's own: anything else was not said by a sidecar about this call.
    let code = named.filter(|code| u32::from(code.http_status()) == status);
    match (code, problem) {
        (
            Some(
                code @ (Code::InsufficientBalance
                | Code::AccountFrozen
                | Code::InsufficientQuota
                | Code::UnknownService),
            ),
            Some(problem),
        ) => Outcome::Short(funds(code, &problem, units)),
        // A newer sidecar has more reasons. Its callers hear the most common one, as on routes that draw from leases.
        (None, Some(problem)) if named.is_none() && is_refusal(&problem, status) => {
            Outcome::Short(funds(Code::InsufficientBalance, &problem, units))
        }
        (Some(Code::AccountBusy), _) => Outcome::Busy(Reason::Held),
        (Some(Code::Overloaded), _) => Outcome::Busy(Reason::Overloaded),
        (_, _) => Outcome::Unknown {
            repeats: !(400..500).contains(&status),
            // These are about the one message; any other answer of this class is about the gateway.
            is_away: !matches!(status, 400 | 409 | 413 | 422),
        },
    }
}

/// Whether a sidecar said no to this call, whatever its reason is called.
fn is_refusal(problem: &Problem, status: u32) -> bool {
    let is_of_billing = problem.code.checked_div(10_000) == Some(19);
    is_of_billing && problem.available.is_some() && matches!(status, 402 | 403 | 429)
}

fn funds(code: Code, problem: &Problem, units: u64) -> Funds {
    Funds {
        code,
        available: problem.available.unwrap_or(Nanos::ZERO),
        free_units: problem.remaining_free,
        price: problem.price.unwrap_or(Nanos::ZERO),
        units,
        quota_total: problem.free_quota.total,
        quota_resets_in_s: problem.free_quota.resets_in_s,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farebox_core::call::{DeductReply, Shortfall};
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const QUOTA: FreeQuota = FreeQuota { total: 10, remaining: 1, resets_in_s: 60 };

    fn nanos(text: &str) -> Nanos {
        text.parse().unwrap()
    }

    fn refusal(code: Code, shortfall: Option<&Shortfall>) -> Vec<u8> {
        let mut json = serde_json::json!({ "code": code.number(), "title": "no", "detail": "no" });
        if let Some(shortfall) = shortfall {
            let members = serde_json::to_value(shortfall).unwrap();
            json.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        }
        json.to_string().into_bytes()
    }

    #[test]
    fn a_message_is_one_that_the_sidecar_takes() {
        let call = LeaseKey {
            account: "u\"1".parse().unwrap(),
            service: "asset".parse().unwrap(),
            price: Some(nanos("0.002")),
        };
        let request: DeductRequest = serde_json::from_slice(&message("k", &call, 3, 800)).unwrap();
        request.validate().unwrap();
        assert_eq!((request.user_id, request.price), (call.account, call.price));
        assert_eq!((request.count, request.wait_ms), (3, Some(800)));
    }

    #[test]
    fn a_charge_tells_where_it_was_taken_from() {
        let reply = DeductReply {
            record_id: "r".to_owned(),
            record_ids: vec![],
            packages: None,
            free_units: 1,
            paid_units: 2,
            amount: nanos("0.004"),
            price: Some(nanos("0.002")),
            balance: nanos("1"),
            available: nanos("1"),
            currency: "CNY".to_owned(),
            free_quota: QUOTA,
        };
        let body = serde_json::to_vec(&reply).unwrap();
        let drawn = Drawn { free: 1, paid: 2, price: nanos("0.002") };
        assert_eq!(outcome(200, &body, 3), Outcome::Charged(drawn, "r".to_owned()));
    }

    #[test]
    fn a_refusal_tells_what_there_is() {
        let shortfall = Shortfall {
            remaining_free: 1,
            available: nanos("0.5"),
            cost: nanos("0.8"),
            price: Some(nanos("0.4")),
            free_quota: QUOTA,
        };
        let body = refusal(Code::InsufficientBalance, Some(&shortfall));
        let expected = Funds {
            code: Code::InsufficientBalance,
            available: nanos("0.5"),
            free_units: 1,
            price: nanos("0.4"),
            units: 3,
            quota_total: 10,
            quota_resets_in_s: 60,
        };
        assert_eq!(outcome(402, &body, 3), Outcome::Short(expected));
        for (status, code) in [
            (429, Code::InsufficientQuota),
            (403, Code::UnknownService),
            (403, Code::AccountFrozen),
        ] {
            let Outcome::Short(funds) = outcome(status, &refusal(code, None), 1) else {
                panic!("{status}");
            };
            assert_eq!(funds.code, code);
        }
    }

    #[test]
    fn a_refusal_with_a_code_of_a_newer_sidecar_is_one_all_the_same() {
        let new = |available: Option<&str>| {
            let mut json = serde_json::json!({ "code": 199_999, "title": "no", "detail": "no" });
            if let Some(available) = available {
                json["available"] = available.into();
            }
            json.to_string().into_bytes()
        };
        for status in [402, 403, 429] {
            let Outcome::Short(funds) = outcome(status, &new(Some("1")), 1) else {
                panic!("{status}");
            };
            assert_eq!((funds.code, funds.available), (Code::InsufficientBalance, nanos("1")));
        }
        let unknown = |is_away| Outcome::Unknown { repeats: false, is_away };
        assert_eq!(outcome(409, &new(Some("1")), 1), unknown(false));
        assert_eq!(outcome(403, &new(None), 1), unknown(true), "that may be about the gateway");
    }

    #[test]
    fn only_a_sidecar_that_says_so_is_busy() {
        let busy = refusal(Code::AccountBusy, None);
        assert_eq!(outcome(503, &busy, 1), Outcome::Busy(Reason::Held));
        let full = refusal(Code::Overloaded, None);
        assert_eq!(outcome(503, &full, 1), Outcome::Busy(Reason::Overloaded));
    }

    #[test]
    fn whatever_else_comes_says_nothing_about_the_charge() {
        let unknown = |repeats, is_away| Outcome::Unknown { repeats, is_away };
        for (status, body, expected) in [
            (0, Vec::new(), unknown(true, true)),
            (200, b"<html>".to_vec(), unknown(true, true)),
            (200, b"{}".to_vec(), unknown(true, true)),
            (503, b"no healthy upstream".to_vec(), unknown(true, true)),
            (503, refusal(Code::Unavailable, None), unknown(true, true)),
            (504, b"upstream request timeout".to_vec(), unknown(true, true)),
            (500, refusal(Code::AccountBusy, None), unknown(true, true)),
            (402, b"{}".to_vec(), unknown(false, true)),
            (403, refusal(Code::InsufficientBalance, None), unknown(false, true)),
            (401, refusal(Code::TokenInvalid, None), unknown(false, true)),
            (404, refusal(Code::NotFound, None), unknown(false, true)),
            (400, refusal(Code::InvalidArgument, None), unknown(false, false)),
            (409, refusal(Code::Conflict, None), unknown(false, false)),
        ] {
            assert_eq!(outcome(status, &body, 1), expected, "{status} {body:?}");
        }
    }

    #[cfg(not(target_family = "wasm"))]
    proptest::proptest! {
        #[test]
        fn no_answer_is_too_much(status: u32, body: Vec<u8>) {
            let _ = outcome(status, &body, 1);
        }
    }
}

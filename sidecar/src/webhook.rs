//! Whether a callback comes from the payment service, and the signatures of our own events: Standard Webhooks 1.0,
//! symmetric signatures (`v1`).
//!
//! The payment service signs `id.timestamp.body` with HMAC-SHA256 and a key that both sides hold, and sends the result
//! with the id and the time in three headers. Whoever records a callback can repeat it for [`TOLERANCE_S`] seconds and
//! change nothing in it; that a repeat does nothing is the order's matter.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::Utc;
use standardwebhooks::{
    HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook,
};
use subtle::{Choice, ConstantTimeEq as _};

use crate::config::Secret;

/// How far the sender's clock may be from this one, either way.
const TOLERANCE_S: u64 = 300;

/// The longest id of a callback.
const ID_BYTES_MAX: usize = 255;

/// What a secret begins with, so that nobody takes it for another one.
const SECRET_PREFIX: &str = "whsec_";

/// Shorter keys can be guessed, longer ones add nothing to HMAC-SHA256.
const KEY_BYTES: RangeInclusive<usize> = 24..=64;

/// The keys that callbacks may be signed with; several while one is being changed.
#[derive(Clone)]
pub struct CallbackKeys(Arc<[Webhook]>);

/// The keys that events are signed with; several while one is being changed.
#[derive(Clone)]
pub(crate) struct SigningKeys(Arc<[Webhook]>);

/// A secret that is no key. Its text is never repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "holds a secret that is not whsec_ and the standard base64 of 24 to 64 bytes; make one with: echo whsec_$(openssl rand -base64 32), and write commas between several"
)]
pub struct CallbackKeyError;

/// Why a callback is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// A header is not there.
    #[error(
        "the header {0} is missing; send webhook-id, webhook-timestamp and webhook-signature as Standard Webhooks says"
    )]
    Missing(&'static str),
    /// A header is there twice, and the two could differ.
    #[error("the header {0} occurs more than once; send it once")]
    Doubled(&'static str),
    /// A header, or the body, that cannot be read.
    #[error(
        "{0} cannot be read; send webhook-id as 1 to 255 visible ASCII characters without '.', webhook-timestamp as seconds since 1970, webhook-signature as v1, and base64, and the body as UTF-8"
    )]
    Malformed(&'static str),
    /// Signed too long ago, or in the future.
    #[error(
        "webhook-timestamp is more than {TOLERANCE_S} seconds from this server's time; sign each attempt anew and set the clock"
    )]
    Expired,
    /// No signature fits.
    #[error(
        "no v1 signature in webhook-signature fits; sign id.timestamp.body, byte by byte as sent, with the shared secret"
    )]
    Wrong,
}

impl CallbackKeys {
    /// The keys in the secrets.
    pub fn new(secrets: &[Secret]) -> Result<Self, CallbackKeyError> {
        secrets.iter().map(key).collect::<Result<_, _>>().map(Self)
    }

    /// Whether there is none: then no callback is believed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of the keys signed this body, a moment ago. Reads the clock.
    pub fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), SignatureError> {
        self.verify_at(headers, body, Utc::now().timestamp())
    }

    /// The same at a given time, in seconds since 1970.
    ///
    /// [`Webhook::verify`] is not used: it takes the first of doubled headers, and its clock cannot be set by a test.
    fn verify_at(&self, headers: &HeaderMap, body: &[u8], now: i64) -> Result<(), SignatureError> {
        let id = once(headers, HEADER_WEBHOOK_ID)?;
        // A dot would let the id reach into the time behind it, under the same signature.
        if id.is_empty() || ID_BYTES_MAX < id.len() || id.contains(['.', ' ', '\t']) {
            return Err(SignatureError::Malformed(HEADER_WEBHOOK_ID));
        }
        let timestamp = seconds(once(headers, HEADER_WEBHOOK_TIMESTAMP)?)
            .ok_or(SignatureError::Malformed(HEADER_WEBHOOK_TIMESTAMP))?;
        let signatures = once(headers, HEADER_WEBHOOK_SIGNATURE)?;
        if !signatures.split(' ').all(|signature| signature.contains(',')) {
            return Err(SignatureError::Malformed(HEADER_WEBHOOK_SIGNATURE));
        }
        if TOLERANCE_S < now.abs_diff(timestamp) {
            return Err(SignatureError::Expired);
        }
        let mut fits = Choice::from(0);
        for key in self.0.iter() {
            let expected =
                key.sign(id, timestamp, body).map_err(|_| SignatureError::Malformed("the body"))?;
            // Every signature is compared with every key. The version is compared with it, so `v1a,` never fits.
            for shown in signatures.split(' ') {
                fits |= shown.as_bytes().ct_eq(expected.as_bytes());
            }
        }
        if fits.into() { Ok(()) } else { Err(SignatureError::Wrong) }
    }
}

impl fmt::Debug for CallbackKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallbackKeys({} hidden)", self.0.len())
    }
}

impl SigningKeys {
    /// The keys in the secrets.
    pub(crate) fn new(secrets: &[Secret]) -> Result<Self, CallbackKeyError> {
        secrets.iter().map(key).collect::<Result<_, _>>().map(Self)
    }

    /// The signature of each key, with a space between them, as `webhook-signature` has it: a receiver that knows one key
    /// finds its own.
    pub(crate) fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let signatures = self.0.iter().map(|key| key.sign(id, timestamp, body.as_bytes()));
        // The library refuses bodies that are no text, which a `str` always is.
        signatures.filter_map(Result::ok).collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKeys({} hidden)", self.0.len())
    }
}

fn key(secret: &Secret) -> Result<Webhook, CallbackKeyError> {
    let text = secret.expose().strip_prefix(SECRET_PREFIX).ok_or(CallbackKeyError)?;
    let bytes = STANDARD.decode(text).map_err(|_| CallbackKeyError)?;
    if !KEY_BYTES.contains(&bytes.len()) {
        return Err(CallbackKeyError);
    }
    Webhook::from_bytes(bytes).map_err(|_| CallbackKeyError)
}

/// The header's text, if the header is there once.
fn once<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<&'h str, SignatureError> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().ok_or(SignatureError::Missing(name))?;
    if values.next().is_some() {
        return Err(SignatureError::Doubled(name));
    }
    value.to_str().map_err(|_| SignatureError::Malformed(name))
}

/// One time has one text: what is signed is the number, and what was sent must be the same.
fn seconds(text: &str) -> Option<i64> {
    let seconds = text.parse::<i64>().ok()?;
    (0 <= seconds && seconds.to_string() == text).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"order_id":"recharge_1","amount":"10.00"}"#;
    const NOW: i64 = 1_700_000_000;

    fn secret(byte: u8, length: usize) -> Secret {
        Secret::new(format!("whsec_{}", STANDARD.encode(vec![byte; length])))
    }

    fn old() -> Secret {
        secret(1, 24)
    }

    fn new() -> Secret {
        secret(2, 64)
    }

    fn keys() -> CallbackKeys {
        CallbackKeys::new(&[old(), new()]).unwrap()
    }

    fn sign(secret: &Secret, timestamp: i64, body: &[u8]) -> String {
        key(secret).unwrap().sign("msg_1", timestamp, body).unwrap()
    }

    fn headers(timestamp: &str, signature: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", "msg_1".parse().unwrap());
        headers.insert("webhook-timestamp", timestamp.parse().unwrap());
        headers.insert("webhook-signature", signature.parse().unwrap());
        headers
    }

    /// Headers as the payment service sends them.
    fn good() -> HeaderMap {
        headers(&NOW.to_string(), &sign(&new(), NOW, BODY))
    }

    fn verify(headers: &HeaderMap) -> Result<(), SignatureError> {
        keys().verify_at(headers, BODY, NOW)
    }

    #[test]
    fn the_example_of_the_standards_own_libraries_is_believed() {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let mut headers = headers("1614265330", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        headers.insert("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek".parse().unwrap());
        let keys = CallbackKeys::new(&[secret]).unwrap();
        assert_eq!(keys.verify_at(&headers, br#"{"test": 2432232314}"#, 1_614_265_330), Ok(()));
    }

    #[test]
    fn either_key_signs_and_another_one_does_not() {
        for (secret, expected) in
            [(old(), Ok(())), (new(), Ok(())), (secret(3, 32), Err(SignatureError::Wrong))]
        {
            let signed = headers(&NOW.to_string(), &sign(&secret, NOW, BODY));
            assert_eq!(verify(&signed), expected);
        }
        let none = CallbackKeys::new(&[]).unwrap();
        assert!(none.is_empty() && !keys().is_empty());
        assert_eq!(none.verify_at(&good(), BODY, NOW), Err(SignatureError::Wrong));
    }

    #[test]
    fn the_clock_of_this_machine_is_the_one_that_counts() {
        let now = Utc::now().timestamp();
        let fresh = headers(&now.to_string(), &sign(&new(), now, BODY));
        assert_eq!(keys().verify(&fresh, BODY), Ok(()));
        assert_eq!(keys().verify(&good(), BODY), Err(SignatureError::Expired));
    }

    #[test]
    fn each_header_must_be_there_once() {
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            let mut without = good();
            without.remove(name);
            assert_eq!(verify(&without), Err(SignatureError::Missing(name)));

            let mut doubled = good();
            doubled.append(name, good()[name].clone());
            assert_eq!(verify(&doubled), Err(SignatureError::Doubled(name)));
        }
    }

    #[test]
    fn a_header_that_cannot_be_read_is_named() {
        let long = "x".repeat(256);
        for (name, values) in [
            ("webhook-id", &["", "a.b", "a b", "ü", &long][..]),
            (
                "webhook-timestamp",
                &[
                    "",
                    "now",
                    "-1",
                    "+1700000000",
                    "01700000000",
                    "1700000000.0",
                    "9999999999999999999",
                ],
            ),
            ("webhook-signature", &["", "v1", "v1,a  v1,b", "ü"]),
        ] {
            for value in values {
                let mut headers = good();
                headers.insert(name, value.parse().unwrap());
                assert_eq!(verify(&headers), Err(SignatureError::Malformed(name)), "{value:?}");
            }
        }
    }

    #[test]
    fn what_was_signed_cannot_be_changed() {
        assert_eq!(verify(&good()), Ok(()));
        for place in 0..BODY.len() {
            let mut body = BODY.to_vec();
            body[place] ^= 1;
            let found = keys().verify_at(&good(), &body, NOW);
            assert_eq!(found, Err(SignatureError::Wrong), "byte {place}");
        }
        for body in [&BODY[1..], &[], b"{}"] {
            assert_eq!(keys().verify_at(&good(), body, NOW), Err(SignatureError::Wrong));
        }
        let mut other_id = good();
        other_id.insert("webhook-id", "msg_2".parse().unwrap());
        assert_eq!(verify(&other_id), Err(SignatureError::Wrong));
        let mut other_time = good();
        other_time.insert("webhook-timestamp", (NOW - 1).into());
        assert_eq!(verify(&other_time), Err(SignatureError::Wrong));
    }

    #[test]
    fn five_minutes_either_way_are_tolerated_and_no_second_more() {
        for (distance, expected) in [
            (0, Ok(())),
            (299, Ok(())),
            (300, Ok(())),
            (301, Err(SignatureError::Expired)),
            (NOW, Err(SignatureError::Expired)),
        ] {
            for timestamp in [NOW - distance, NOW + distance] {
                let signed = headers(&timestamp.to_string(), &sign(&new(), timestamp, BODY));
                assert_eq!(verify(&signed), expected, "{timestamp}");
            }
        }
        let furthest = headers(&i64::MAX.to_string(), &sign(&new(), i64::MAX, BODY));
        assert_eq!(verify(&furthest), Err(SignatureError::Expired));
    }

    #[test]
    fn one_of_several_signatures_must_fit_and_have_the_symmetric_version() {
        let right = sign(&old(), NOW, BODY);
        let bare = right.strip_prefix("v1,").unwrap();
        let wrong = sign(&secret(3, 32), NOW, BODY);
        for (text, expected) in [
            (format!("{wrong} v1a,{bare} {right}"), Ok(())),
            (format!("{right} v9,x"), Ok(())),
            (format!("{wrong} {wrong}"), Err(SignatureError::Wrong)),
            (format!("v1a,{bare}"), Err(SignatureError::Wrong)),
            (format!("V1,{bare}"), Err(SignatureError::Wrong)),
            (format!("v1,{bare}="), Err(SignatureError::Wrong)),
            (format!("v1,{}", &bare[1..]), Err(SignatureError::Wrong)),
            ("v1,".to_owned(), Err(SignatureError::Wrong)),
        ] {
            assert_eq!(verify(&headers(&NOW.to_string(), &text)), expected, "{text}");
        }
    }

    #[test]
    fn a_body_that_is_no_text_is_not_believed() {
        let found = keys().verify_at(&good(), b"\xff", NOW);
        assert_eq!(found, Err(SignatureError::Malformed("the body")));
    }

    #[test]
    fn a_secret_must_be_a_key_of_good_length() {
        for length in [24, 64] {
            assert!(CallbackKeys::new(&[secret(1, length)]).is_ok(), "{length}");
        }
        let bare = STANDARD.encode([1; 32]);
        for bad in [
            secret(1, 23),
            secret(1, 65),
            Secret::new(""),
            Secret::new("whsec_"),
            Secret::new(bare.clone()),
            Secret::new(format!("WHSEC_{bare}")),
            Secret::new(format!("whsec_{}", bare.trim_end_matches('='))),
            Secret::new(format!("whsec_{bare} ")),
            Secret::new("whsec_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_"),
        ] {
            let text = bad.expose().to_owned();
            assert!(CallbackKeys::new(&[old(), bad]).is_err(), "{text:?}");
        }
    }

    #[test]
    fn every_key_signs_so_that_a_receiver_may_know_either() {
        let body = std::str::from_utf8(BODY).unwrap();
        let signature = SigningKeys::new(&[old(), new()]).unwrap().sign("msg_1", NOW, body);
        assert_eq!(signature.split(' ').count(), 2);
        let signed = headers(&NOW.to_string(), &signature);
        for secret in [old(), new()] {
            let receiver = CallbackKeys::new(&[secret]).unwrap();
            assert_eq!(receiver.verify_at(&signed, BODY, NOW), Ok(()));
        }
        let stranger = CallbackKeys::new(&[secret(3, 32)]).unwrap();
        assert_eq!(stranger.verify_at(&signed, BODY, NOW), Err(SignatureError::Wrong));
        assert!(SigningKeys::new(&[secret(1, 23)]).is_err());
    }

    #[test]
    fn keys_do_not_print_themselves() {
        assert_eq!(format!("{:?}", keys()), "CallbackKeys(2 hidden)");
        let signing = SigningKeys::new(&[old()]).unwrap();
        assert_eq!(format!("{signing:?}"), "SigningKeys(1 hidden)");
    }
}

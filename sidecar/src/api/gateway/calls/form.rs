//! The two forms of a body: one request, or `{"items": […]}`, a batch in which each item stands for itself.

use axum::http::HeaderMap;
use farebox_core::limits::CALL_ITEMS_MAX;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::kind::Call;
use crate::api::body::{self, Malformed, Place};
use crate::api::key::{self, IDEMPOTENCY_KEY};

/// A body's requests, each readable or with what is wrong with it.
#[derive(Debug)]
pub(super) struct Form<C> {
    /// In the body's order.
    pub(super) items: Vec<Result<C, Malformed>>,
    /// Whether the body is a batch; otherwise it is its only item.
    pub(super) is_batch: bool,
}

/// What tells the two forms apart. The items' own text is read later, so that one of them cannot spoil the others.
#[derive(Debug, Deserialize)]
struct Envelope<'b> {
    #[serde(borrow, default, deserialize_with = "given")]
    items: Option<Vec<&'b RawValue>>,
}

/// A member that stands there, so that `null` is no list of items instead of none.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl<C: Call> Form<C> {
    /// Reads the body, and the key that a header may carry for it.
    pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, Malformed> {
        let Envelope { items } = body::parse(body)?;
        let header_key = if C::IS_KEYED { header_key(headers)? } else { None };
        match items {
            None => {
                let item = single(body, header_key);
                Ok(Self { items: vec![item], is_batch: false })
            }
            Some(_) if header_key.is_some() => Err(Malformed::new(
                IDEMPOTENCY_KEY,
                "a batch has no key of its own; leave the header Idempotency-Key out and give each item an idempotency_key",
            )),
            Some(items) => Ok(Self { items: batch(&items)?, is_batch: true }),
        }
    }
}

fn header_key(headers: &HeaderMap) -> Result<Option<String>, Malformed> {
    key::optional(headers).map_err(|detail| Malformed::new(IDEMPOTENCY_KEY, detail))
}

fn single<C: Call>(body: &[u8], header_key: Option<String>) -> Result<C, Malformed> {
    let mut call: C = body::parse(body)?;
    if let (Some(key), Some(own)) = (header_key, call.key()) {
        if own.is_empty() {
            *own = key;
        } else if *own != key {
            return Err(Malformed::new(
                IDEMPOTENCY_KEY,
                "the header Idempotency-Key is not the body's idempotency_key; send one of them, or the same in both",
            ));
        }
    }
    validated(call, Place::Body)
}

fn batch<C: Call>(items: &[&RawValue]) -> Result<Vec<Result<C, Malformed>>, Malformed> {
    let count = items.len();
    if !(1..=CALL_ITEMS_MAX).contains(&count) {
        let detail = format!("items has {count} requests; send 1 to {CALL_ITEMS_MAX} in a batch");
        return Err(Malformed::new("items", detail));
    }
    let item = |(index, text): (usize, &&RawValue)| {
        let place = Place::Item(index);
        validated(body::parse_at(text.get().as_bytes(), place)?, place)
    };
    Ok(items.iter().enumerate().map(item).collect())
}

fn validated<C: Call>(call: C, place: Place) -> Result<C, Malformed> {
    match call.validate() {
        Ok(()) => Ok(call),
        Err(err) => Err(Malformed::from_field(err, place)),
    }
}

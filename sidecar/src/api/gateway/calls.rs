//! Requests that are decided call by call, one or a batch of them in a body.
//!
//! | file | what it does |
//! |---|---|
//! | `form.rs` | body and key in: one request, or a batch in which each item stands for itself |
//! | `endpoints.rs` | the six endpoints and their documents |
//! | `kind.rs` | what they differ in |
//! | `forms.rs` | one request or a batch, for the documents |
//! | `answer.rs` | what was decided, or why nothing was, as replies and problems |
//! | `text.rs` | what people are told, in two languages |
//! | `faults.rs` | a fault of the database is logged once, however many requests it hit |

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use axum::response::Response;
use farebox_core::code::{Code, Language};
use farebox_core::limits::BODY_BYTES_MAX;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use self::answer::Speaker;
pub(super) use self::endpoints::routes;
pub(super) use self::faults::Faults;
use self::form::Form;
use self::kind::Call;
use super::Gateways;
use crate::api::body::{self, Limit};
use crate::api::reply::{self, language};
use crate::metrics::{self, Shed};
use crate::trace;

mod answer;
mod endpoints;
mod faults;
mod form;
mod forms;
mod kind;
mod text;

const BODY: Limit = Limit { bytes: BODY_BYTES_MAX, remedy: "send several batches" };

/// What one slot stands for: a body of this size is dealt with.
const SLOT_BYTES: usize = 16 * 1_024;

/// Slots in all, so that bodies take 128 MiB at most: 8,192 single requests, or 128 batches of the largest size.
pub(super) const CALL_SLOTS_MAX: usize = 8_192;

/// The requests are given up this much before the caller is, so that the caller hears what became of them.
const MARGIN_MAX: Duration = Duration::from_millis(250);

async fn call<C: Call>(gateways: Gateways, request: Request) -> Response {
    let (language, started) = (language(request.headers()), Instant::now());
    if !gateways.tokens.admit(request.headers()) {
        return reply::unauthorized(language, "show a gateway token: Authorization: Bearer …");
    }
    let slots = gateways.call_slots.clone();
    let Ok(slots) = slots.try_acquire_many_owned(slots_of(announced(request.headers()))) else {
        metrics::shed(Shed::Calls);
        let detail = "too many requests at once; send the same request again";
        return reply::come_again(language, Code::Overloaded, detail);
    };
    let ends = started + gateways.timeout;
    let answer = answer::<C>(gateways, request, slots, language, started);
    match tokio::time::timeout_at(ends, answer).await {
        Ok(response) => response,
        Err(_) => reply::come_again(
            language,
            Code::Unavailable,
            "not done in time; send the same request again",
        ),
    }
}

/// The size that the body says it has; a body that does not say may have any.
fn announced(headers: &HeaderMap) -> usize {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    length.unwrap_or(BODY_BYTES_MAX)
}

fn slots_of(bytes: usize) -> u32 {
    let slots = bytes.min(BODY_BYTES_MAX).div_ceil(SLOT_BYTES).max(1);
    u32::try_from(slots).unwrap_or(u32::MAX)
}

async fn answer<C: Call>(
    gateways: Gateways,
    request: Request,
    slots: OwnedSemaphorePermit,
    language: Language,
    started: Instant,
) -> Response {
    let (head, body) = request.into_parts();
    let body = match body::read(&head.headers, body, BODY, language).await {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    let slots = fitting(slots, &body);
    match Form::<C>::read(&head.headers, &body) {
        Ok(form) => {
            let deadline = started + gateways.timeout - margin(gateways.timeout);
            decide(gateways, form, slots, language, deadline).await
        }
        Err(malformed) => malformed.into_response(language),
    }
}

/// Of the slots that the body might have needed, those that it needs.
fn fitting(mut slots: OwnedSemaphorePermit, body: &Bytes) -> OwnedSemaphorePermit {
    let needed = usize::try_from(slots_of(body.len())).unwrap_or(usize::MAX);
    slots.split(needed).unwrap_or(slots)
}

fn margin(timeout: Duration) -> Duration {
    (timeout / 10).min(MARGIN_MAX)
}

/// Has the requests decided by a task of its own.
///
/// What has begun is finished, whether or not the caller still waits. The task keeps the slots, so the bound holds for
/// abandoned requests too.
async fn decide<C: Call>(
    gateways: Gateways,
    form: Form<C>,
    slots: OwnedSemaphorePermit,
    language: Language,
    deadline: Instant,
) -> Response {
    let Form { items, is_batch } = form;
    let task = trace::spawn(async move {
        let _slots = slots;
        let Gateways { app, faults, .. } = gateways;
        let mut calls = Vec::with_capacity(items.len());
        let asked: Vec<_> = items
            .into_iter()
            .map(|item| {
                item.map(|call| {
                    let asked = call.asked();
                    calls.push(call);
                    asked
                })
            })
            .collect();
        let decided =
            if calls.is_empty() { Vec::new() } else { C::decide(&app, calls, deadline).await };
        Speaker { language, endpoint: C::NAME, is_keyed: C::IS_KEYED, is_batch, faults: &faults }
            .answers(asked, decided)
    });
    let answers = match task.await {
        Ok(answers) => answers,
        Err(err) => {
            tracing::error!(endpoint = C::NAME, error = %err, "a request was not finished");
            return reply::internal(language);
        }
    };
    answer::respond(&answers, is_batch, language)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_takes_slots_by_its_size_and_an_unannounced_one_as_many_as_there_may_be() {
        let with = |length: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(length) = length {
                headers.insert(CONTENT_LENGTH, length.parse().unwrap());
            }
            slots_of(announced(&headers))
        };
        assert_eq!((with(Some("0")), with(Some("16384")), with(Some("16385"))), (1, 1, 2));
        assert_eq!((with(Some("1048576")), with(Some("9999999999"))), (64, 64));
        assert_eq!((with(None), with(Some("nonsense"))), (64, 64));
    }

    #[test]
    fn requests_are_given_up_a_little_before_their_caller() {
        assert_eq!(margin(Duration::from_secs(5)), MARGIN_MAX);
        assert_eq!(margin(Duration::from_millis(100)), Duration::from_millis(10));
    }
}

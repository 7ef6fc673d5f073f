//! `POST /internal/v1/billing/sync`: what a gateway says and hears.
//!
//! The order of checks bounds what a stranger can cost: the token first, then a free slot, then the body.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::post;
use farebox_core::code::{Code, Language};
use farebox_core::limits::BODY_BYTES_MAX;
use farebox_core::problem::Problem;
use farebox_core::wire::{SYNC_PATH, SyncRequest};
use http_body_util::LengthLimitError;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::reply::{self, language, problem};
use super::token::Tokens;
use crate::app::App;

/// Messages that are read and answered at the same time; each may hold a body of [`BODY_BYTES_MAX`].
const SYNCS_IN_FLIGHT_MAX: usize = 128;

/// What the endpoint needs.
#[derive(Debug, Clone)]
pub struct Gateways {
    app: App,
    tokens: Tokens,
    slots: Arc<Semaphore>,
    timeout: Duration,
}

impl Gateways {
    /// Gateways that show one of `tokens`, each message answered within `timeout`.
    pub fn new(app: App, tokens: Tokens, timeout: Duration) -> Self {
        Self::with_slots(app, tokens, timeout, SYNCS_IN_FLIGHT_MAX)
    }

    pub(super) fn with_slots(app: App, tokens: Tokens, timeout: Duration, slots: usize) -> Self {
        Self { app, tokens, slots: Arc::new(Semaphore::new(slots)), timeout }
    }
}

pub(super) fn routes(gateways: Gateways) -> Router {
    Router::new().route(SYNC_PATH, post(sync)).with_state(gateways)
}

async fn sync(State(gateways): State<Gateways>, request: Request) -> Response {
    let language = language(request.headers());
    if !gateways.tokens.admit(request.headers()) {
        return unauthorized(language);
    }
    let Ok(slot) = gateways.slots.clone().try_acquire_owned() else {
        return reply::come_again(
            language,
            Code::Overloaded,
            "too many messages at once; send it again",
        );
    };
    let answer = answer(gateways.app, request, slot, language);
    match tokio::time::timeout(gateways.timeout, answer).await {
        Ok(response) => response,
        Err(_) => reply::come_again(
            language,
            Code::Unavailable,
            "not done in time; send the same message again",
        ),
    }
}

/// Reads the message and hands it to a task of its own.
///
/// A message that has begun is finished, whether or not its sender still waits: a transaction dropped half-way would
/// keep its locks until the connection is reset. The task keeps the slot, so the bound holds for abandoned ones too.
async fn answer(
    app: App,
    request: Request,
    slot: OwnedSemaphorePermit,
    language: Language,
) -> Response {
    let (head, body) = request.into_parts();
    let body = match read_body(&head.headers, body, language).await {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    let message: SyncRequest = match parse(&body) {
        Ok(message) => message,
        Err(malformed) => return malformed.into_response(language),
    };
    let task = tokio::spawn(async move {
        let _slot = slot;
        app.sync(&message, &body).await
    });
    match task.await {
        Ok(Ok(reply)) => reply::json(StatusCode::OK, reply),
        Ok(Err(err)) => reply::sync_failed(language, &err),
        Err(err) => {
            tracing::error!(error = %err, "a message was not finished");
            reply::internal(language)
        }
    }
}

fn unauthorized(language: Language) -> Response {
    let detail = "show a gateway token: Authorization: Bearer …";
    let mut response = problem(language, Problem::new(Code::TokenInvalid, language, detail));
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// The refusal is boxed: it is large, and rare.
async fn read_body(
    headers: &HeaderMap,
    body: Body,
    language: Language,
) -> Result<Bytes, Box<Response>> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes: usize| BODY_BYTES_MAX < bytes) {
        return Err(Box::new(too_large(language)));
    }
    axum::body::to_bytes(body, BODY_BYTES_MAX).await.map_err(|err| {
        let is_limit =
            std::error::Error::source(&err).is_some_and(|cause| cause.is::<LengthLimitError>());
        Box::new(if is_limit {
            too_large(language)
        } else {
            problem(language, Problem::new(Code::InvalidArgument, language, "the body broke off"))
        })
    })
}

fn too_large(language: Language) -> Response {
    let detail = format!("the body has more than {BODY_BYTES_MAX} bytes; send several messages");
    problem(language, Problem::new(Code::InvalidArgument, language, detail).with_field("body"))
}

/// A body that is not the JSON it should be.
#[derive(Debug)]
struct Malformed {
    field: Option<String>,
    detail: String,
}

impl Malformed {
    fn into_response(self, language: Language) -> Response {
        let plain = Problem::new(Code::InvalidArgument, language, self.detail);
        problem(language, Problem { field: self.field, ..plain })
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Malformed> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|err| {
        let path = err.path().to_string();
        let detail = format!("the body cannot be read: {}", err.inner());
        Malformed { field: (path != ".").then_some(path), detail }
    })?;
    json.end().map_err(|err| Malformed {
        field: None,
        detail: format!("the body cannot be read: {err}"),
    })?;
    Ok(parsed)
}

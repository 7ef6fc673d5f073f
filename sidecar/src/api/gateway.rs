//! `POST /internal/v1/billing/sync`: what a gateway says and hears.
//!
//! The order of checks bounds what a stranger can cost: the token first, then a free slot, then the body.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use farebox_core::code::{Code, Language};
use farebox_core::limits::BODY_BYTES_MAX;
use farebox_core::wire::{SYNC_PATH, SyncRequest};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::body::{self, Limit};
use super::reply::{self, language};
use super::token::Tokens;
use crate::app::App;

/// Messages that are read and answered at the same time; each may hold a body of [`BODY_BYTES_MAX`].
const SYNCS_IN_FLIGHT_MAX: usize = 128;

const MESSAGE: Limit = Limit { bytes: BODY_BYTES_MAX, remedy: "send several messages" };

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
        return reply::unauthorized(language, "show a gateway token: Authorization: Bearer …");
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
    let body = match body::read(&head.headers, body, MESSAGE, language).await {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    let message: SyncRequest = match body::parse(&body) {
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

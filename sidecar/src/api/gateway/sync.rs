//! `POST /internal/v1/billing/sync`: what a gateway says and hears.

use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use farebox_core::code::{Code, Language};
use farebox_core::limits::BODY_BYTES_MAX;
use farebox_core::wire::{SYNC_PATH, SyncReply, SyncRequest};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Gateways;
use crate::api::body::{self, Limit};
use crate::api::reply::{self, language};
use crate::app::App;
use crate::metrics::{self, Shed};
use crate::trace;

/// Messages that are read and answered at the same time; each may hold a body of [`BODY_BYTES_MAX`].
pub(super) const SYNCS_IN_FLIGHT_MAX: usize = 128;

const MESSAGE: Limit = Limit { bytes: BODY_BYTES_MAX, remedy: "send several messages" };

/// Takes a gateway's report and tells it what it may spend
///
/// What the filter in Envoy sends once per `sync_interval`: usage, wishes and what goes back, all in totals. The same message
/// again gets the same reply; the same number with another body gets 409. Members that are not known are ignored by both sides.
#[utoipa::path(post, path = SYNC_PATH, operation_id = "sync", tag = "gateways", request_body = SyncRequest,
    responses((status = 200, description = "What became of it", body = SyncReply)))]
pub(super) async fn sync(State(gateways): State<Gateways>, request: Request) -> Response {
    let language = language(request.headers());
    if !gateways.tokens.admit(request.headers()) {
        return reply::unauthorized(language, "show a gateway token: Authorization: Bearer …");
    }
    let Ok(slot) = gateways.sync_slots.clone().try_acquire_owned() else {
        metrics::shed(Shed::Sync);
        return reply::come_again(
            language,
            Code::Overloaded,
            "too many messages at once; send it again",
        );
    };
    let begun = Instant::now();
    let answer = answer(gateways.app, request, slot, language);
    let answered = tokio::time::timeout(gateways.timeout, answer).await;
    metrics::sync_duration(begun.elapsed());
    match answered {
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
/// A message that has begun is not dropped half-way when its sender leaves: the transaction would keep its locks until the
/// connection is reset. The task keeps the slot, so the bound holds for abandoned ones too.
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
    trace::note("farebox.gateway.id", message.gateway.to_string());
    let (answer, waiting) = oneshot::channel();
    trace::spawn(async move {
        let _slot = slot;
        let outcome = app.sync(&message, &body, &|| !answer.is_closed()).await;
        // Whoever has left hears nothing.
        let _ = answer.send(outcome);
    });
    match waiting.await {
        Ok(Ok(reply)) => reply::json(StatusCode::OK, reply),
        Ok(Err(err)) => reply::sync_failed(language, &err),
        Err(err) => {
            tracing::error!(error = %err, "a message was not finished");
            reply::internal(language)
        }
    }
}

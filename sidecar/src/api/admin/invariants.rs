//! `GET /admin/v1/invariants`: what the last checks of the books found, whichever sidecar made them.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use farebox_core::code::Code;
use serde::Serialize;

use crate::api::reply::{self, language};
use crate::app::{App, InvariantStatus};

/// How long an operator waits.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn routes(app: App) -> Router {
    Router::new().route("/admin/v1/invariants", get(invariants)).with_state(app)
}

#[derive(Debug, Serialize)]
struct Invariants {
    invariants: Vec<InvariantStatus>,
}

async fn invariants(State(app): State<App>, headers: HeaderMap) -> Response {
    let language = language(&headers);
    match tokio::time::timeout(TIMEOUT, app.invariant_status()).await {
        Ok(Ok(invariants)) => reply::value(StatusCode::OK, &Invariants { invariants }, language),
        Ok(Err(err)) => reply::store_failed(language, &err),
        Err(_) => reply::come_again(language, Code::Unavailable, "not done in time; ask again"),
    }
}

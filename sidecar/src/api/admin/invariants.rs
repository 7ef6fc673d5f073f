//! `GET /admin/v1/invariants`: what the last checks of the books found, whichever sidecar made them.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Serialize;
use utoipa_axum::routes;

use crate::api::document::Routes;
use crate::api::reply::{self, language};
use crate::app::{App, InvariantStatus};

/// How long an operator waits.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn routes() -> Routes<App> {
    Routes::new().add(routes!(invariants), &[])
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Invariants {
    invariants: Vec<InvariantStatus>,
}

/// Tells what the last checks of the books found
#[utoipa::path(get, path = "/admin/v1/invariants", operation_id = "listInvariants", tag = "invariants",
    responses((status = 200, description = "Each rule, and the rows that are known to break it", body = Invariants)))]
async fn invariants(State(app): State<App>, headers: HeaderMap) -> Response {
    let language = language(&headers);
    match tokio::time::timeout(TIMEOUT, app.invariant_status()).await {
        Ok(Ok(invariants)) => reply::value(StatusCode::OK, &Invariants { invariants }, language),
        Ok(Err(err)) => reply::store_failed(language, &err),
        Err(_) => reply::late(language),
    }
}

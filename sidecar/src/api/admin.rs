//! `/healthz` and `/readyz`, for orchestrators and operators.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use serde::Serialize;

use super::reply;
use crate::app::App;
use crate::cache::{Cache, CacheHealth};

#[derive(Debug, Clone)]
struct Probes {
    app: App,
    cache: Cache,
}

pub(super) fn routes(app: App, cache: Cache) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(Probes { app, cache })
}

/// The process runs and answers; nothing else is asked, so that a dead database does not get it restarted.
async fn healthz() -> Response {
    reply::json(StatusCode::OK, r#"{"status":"alive"}"#.to_owned())
}

/// What `/readyz` says. Only the database decides; Redis is told for information.
#[derive(Debug, Serialize)]
struct Readiness {
    status: &'static str,
    database: String,
    redis: CacheHealth,
}

async fn readyz(State(Probes { app, cache }): State<Probes>) -> Response {
    let (database, redis) = tokio::join!(app.ready(), cache.health());
    let (status, word, database) = match database {
        Ok(()) => (StatusCode::OK, "ready", "ok".to_owned()),
        Err(err) => (StatusCode::SERVICE_UNAVAILABLE, "not ready", err.to_string()),
    };
    let readiness = Readiness { status: word, database, redis };
    match serde_json::to_string(&readiness) {
        Ok(body) => reply::json(status, body),
        Err(err) => {
            tracing::error!(error = %err, "a readiness report was not written");
            reply::internal(farebox_core::code::Language::English)
        }
    }
}

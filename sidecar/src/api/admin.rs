//! What operators and orchestrators reach: `/healthz`, `/readyz` and `/metrics` openly, `/admin/v1/` with a token.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{any, get};
use serde::Serialize;

use super::reply::{self, language};
use super::shed;
use super::token::Tokens;
use crate::app::App;
use crate::cache::{Cache, CacheHealth};
use crate::metrics::{Metrics, Shed};

mod accounts;
mod audit;
mod credit_limit;
mod freeze;
mod invariants;
mod orders;
mod prices;
mod quotas;

/// The exposition format of Prometheus, as its servers ask for it.
const METRICS_TYPE: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Requests that are in progress at the same time; further ones are turned away.
const IN_FLIGHT_MAX: usize = 32;

/// Who acts, in the audit log.
const ACTOR: &str = "admin api";

/// What the listener needs.
#[derive(Debug, Clone)]
pub struct Operators {
    /// The use cases.
    pub app: App,
    /// The cache whose health is told.
    pub cache: Cache,
    /// What is measured.
    pub metrics: Metrics,
    /// What operators show for `/admin/v1/`; with none, nobody gets in.
    pub tokens: Tokens,
}

pub(super) fn routes(operators: Operators) -> Router {
    let routes = orders::routes(operators.app.clone());
    let routes = routes.merge(invariants::routes(operators.app.clone()));
    let routes = routes.merge(audit::routes(operators.app.clone()));
    let routes = routes.merge(accounts::routes(operators.app.clone()));
    let routes = routes.merge(freeze::routes(operators.app.clone()));
    let routes = routes.merge(credit_limit::routes(operators.app.clone()));
    let routes = routes.merge(prices::routes(operators.app.clone()));
    let routes = routes.merge(quotas::routes(operators.app.clone()));
    let guarded = guard(routes, operators.tokens.clone());
    let open = Router::new()
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(operators)
        .merge(guarded);
    // Whoever asks whether the process lives is always answered.
    let alive = Router::new().route("/healthz", get(healthz));
    alive.merge(shed::limit(open, IN_FLIGHT_MAX, Shed::Operators))
}

/// Lets through to the routes below `/admin/v1/` whoever shows a token; nobody else learns which of them exist.
pub(super) fn guard(router: Router, tokens: Tokens) -> Router {
    router
        .route("/admin/v1/{*rest}", any(super::not_found))
        // Set here, under the layer: set later, it would answer strangers.
        .method_not_allowed_fallback(super::method_not_allowed)
        .layer(middleware::from_fn_with_state(tokens, admit))
}

async fn admit(State(tokens): State<Tokens>, request: Request, next: Next) -> Response {
    if tokens.admit(request.headers()) {
        return next.run(request).await;
    }
    let remedy = if tokens.is_empty() {
        "no admin token is configured: set FAREBOX_ADMIN_TOKEN, or server.admin.token_file, and start the sidecar again"
    } else {
        "show an admin token: Authorization: Bearer …"
    };
    reply::unauthorized(language(request.headers()), remedy)
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

async fn readyz(State(Operators { app, cache, .. }): State<Operators>) -> Response {
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

async fn metrics(State(Operators { metrics, .. }): State<Operators>) -> Response {
    let mut response = Response::new(Body::from(metrics.render()));
    response.headers_mut().insert(CONTENT_TYPE, METRICS_TYPE);
    response
}

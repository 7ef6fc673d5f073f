//! What operators and orchestrators reach: `/healthz`, `/readyz` and `/metrics` openly, `/admin/v1/` with a token.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::get;
use serde::Serialize;

pub use self::access::Remote;
pub(super) use self::access::{Access, guard};
pub use self::roles::operator_routes;
use super::reply;
use super::shed;
use super::token::Tokens;
use crate::app::App;
use crate::cache::{Cache, CacheHealth};
use crate::metrics::{Metrics, Shed};

mod access;
mod accounts;
mod anomalies;
mod audit;
mod credit_limit;
mod freeze;
mod gateways;
mod invariants;
mod leases;
mod orders;
mod prices;
mod quotas;
mod rate;
mod roles;
mod tokens;

/// The exposition format of Prometheus, as its servers ask for it.
const METRICS_TYPE: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Requests that are in progress at the same time; further ones are turned away.
const IN_FLIGHT_MAX: usize = 32;

/// What the listener needs.
#[derive(Debug, Clone)]
pub struct Operators {
    /// The use cases.
    pub app: App,
    /// The cache whose health is told.
    pub cache: Cache,
    /// What is measured.
    pub metrics: Metrics,
    /// The configured tokens for `/admin/v1/`, whose role is admin; others are made with `farebox token create`.
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
    let routes = routes.merge(anomalies::routes(operators.app.clone()));
    let routes = routes.merge(gateways::routes(operators.app.clone()));
    let routes = routes.merge(leases::routes(operators.app.clone()));
    let routes = routes.merge(tokens::routes(operators.app.clone()));
    let access = Access::new(operators.app.clone(), operators.tokens.clone());
    let guarded = guard(routes, access);
    let open = Router::new()
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(operators)
        .merge(guarded);
    // Whoever asks whether the process lives is always answered.
    let alive = Router::new().route("/healthz", get(healthz));
    alive.merge(shed::limit(open, IN_FLIGHT_MAX, Shed::Operators))
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

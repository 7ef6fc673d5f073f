//! What operators and orchestrators reach: `/healthz`, `/readyz` and `/metrics` openly, `/admin/v1/` with a token.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use farebox_core::code::Code;
use farebox_core::problem::Problem;
use serde::Serialize;
use utoipa::openapi::OpenApi;
use utoipa_axum::routes;

pub use self::access::Remote;
pub(super) use self::access::{Access, guard};
pub use self::roles::operator_routes;
use super::document::{self, Listener, Routes};
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
    let access = Access::new(operators.app.clone(), operators.tokens.clone());
    let guarded = guard(guarded().into_router(operators.app.clone()), access);
    let open = open().into_router(operators).merge(guarded);
    // Whoever asks whether the process lives is always answered.
    let alive = alive().into_router(()).merge(document::route(Listener::Admin));
    alive.merge(shed::limit(open, IN_FLIGHT_MAX, Shed::Operators))
}

/// What is said about them.
pub(super) fn document() -> OpenApi {
    let document = alive().into_document();
    document.merge_from(open().into_document()).merge_from(guarded().into_document())
}

fn alive() -> Routes<()> {
    Routes::new().add(routes!(healthz), &[])
}

/// What orchestrators and Prometheus reach without a token.
fn open() -> Routes<Operators> {
    Routes::new().add(routes!(readyz), &[]).add(routes!(metrics), &[Code::Overloaded])
}

/// What operators reach with a token whose role is enough.
fn guarded() -> Routes<App> {
    orders::routes()
        .and(invariants::routes())
        .and(audit::routes())
        .and(accounts::routes())
        .and(freeze::routes())
        .and(credit_limit::routes())
        .and(prices::routes())
        .and(quotas::routes())
        .and(anomalies::routes())
        .and(gateways::routes())
        .and(leases::routes())
        .and(tokens::routes())
        .all_refuse(&[Code::TokenInvalid, Code::Forbidden, Code::Overloaded, Code::Unavailable])
        // With one token, or with wrong ones from one address.
        .all_refuse_as(StatusCode::TOO_MANY_REQUESTS, Code::Overloaded)
        .secured_by(&["adminToken"])
}

/// Says that the process lives
///
/// Nothing else is asked, so that a dead database does not get it restarted.
#[utoipa::path(get, path = "/healthz", operation_id = "healthz", tag = "service",
    responses((status = 200, description = "It lives", body = serde_json::Value)))]
async fn healthz() -> Response {
    reply::json(StatusCode::OK, r#"{"status":"alive"}"#.to_owned())
}

/// What `/readyz` says. Only the database decides; Redis is told for information.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Readiness {
    status: &'static str,
    database: String,
    redis: CacheHealth,
}

/// Says whether the sidecar can serve
#[utoipa::path(get, path = "/readyz", operation_id = "readyz", tag = "service",
    responses((status = 200, description = "The database is reachable and migrated", body = Readiness),
        (status = 503, description = "It is not, or `100303` Billing service overloaded (计费服务繁忙)",
            content((Readiness = "application/json"), (Problem = "application/problem+json")))))]
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

/// Tells what is measured, for Prometheus
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", tag = "service",
    responses((status = 200, description = "The text format of Prometheus", body = String, content_type = "text/plain")))]
async fn metrics(State(Operators { metrics, .. }): State<Operators>) -> Response {
    let mut response = Response::new(Body::from(metrics.render()));
    response.headers_mut().insert(CONTENT_TYPE, METRICS_TYPE);
    response
}

//! `/admin/v1/leases`: who holds what, and asking for it back.

use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use farebox_core::code::{Code, Language};
use farebox_core::id::{AccountId, GatewayId, ServiceName};
use farebox_core::problem::Problem;
use serde::Deserialize;
use utoipa_axum::routes;

use super::gateways;
use crate::api::body::{self, Limit};
use crate::api::document::{PageOf, Routes};
use crate::api::query::Parameters;
use crate::api::reply::{self, language, problem};
use crate::app::{App, Caller, LeaseFilter, LeasePage, LeaseView, RecallError};
use crate::trace;

/// The largest body.
const LIMIT: Limit = Limit { bytes: 16 * 1_024, remedy: "send the reason alone" };

/// How long looking may take.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn routes() -> Routes<App> {
    Routes::new()
        .add(routes!(list), &[Code::InvalidArgument])
        .add(routes!(recall), &[Code::InvalidArgument, Code::NotFound, Code::Conflict])
}

/// Lists open leases, newest first
#[utoipa::path(get, path = "/admin/v1/leases", operation_id = "listLeases", tag = "gateways",
    params(("gateway" = Option<GatewayId>, Query, description = "Of this gateway only."),
        ("account" = Option<AccountId>, Query, description = "Of this account only."),
        ("service" = Option<ServiceName>, Query, description = "For this service only."), PageOf),
    responses((status = 200, description = "A page of leases", body = LeasePage)))]
async fn list(State(app): State<App>, uri: Uri, headers: HeaderMap) -> Response {
    let language = language(&headers);
    let filter = match filter(&uri, language) {
        Ok(filter) => filter,
        Err(refusal) => return *refusal,
    };
    match tokio::time::timeout(TIMEOUT, app.leases(&filter)).await {
        Ok(Ok(page)) => reply::value(StatusCode::OK, &page, language),
        Ok(Err(err)) => gateways::failed(language, &err),
        Err(_) => reply::late(language),
    }
}

fn filter(uri: &Uri, language: Language) -> Result<LeaseFilter, Box<Response>> {
    let known = ["gateway", "account", "service", "limit", "cursor"];
    let mut parameters = Parameters::read(uri, &known, language)?;
    Ok(LeaseFilter {
        gateway: parameters.value("gateway")?,
        account: parameters.value("account")?,
        service: parameters.value("service")?,
        limit: parameters.limit()?,
        cursor: parameters.text("cursor"),
    })
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LeaseRecall)]
struct Body {
    /// Why, for the audit log.
    #[schema(min_length = 1, max_length = 1000)]
    reason: String,
}

/// Asks a gateway to give a lease back
///
/// It hears of it with its next message, gives back what it does not use, and asks anew when it needs more.
#[utoipa::path(post, path = "/admin/v1/leases/{id}/recall", operation_id = "recallLease", tag = "gateways",
    params(("id" = u64, Path, description = "The lease's number.")), request_body = Body,
    responses((status = 200, description = "The lease as it stands now", body = LeaseView)))]
async fn recall(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let language = language(request.headers());
    let Ok(lease) = id.parse() else {
        let detail = format!("there is no lease {id}");
        return problem(language, Problem::new(Code::NotFound, language, detail));
    };
    let Body { reason } = match read(request, language).await {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    // What has begun is finished, whether or not the operator still waits.
    let task = trace::spawn(async move { app.recall(lease, &reason, &caller.actor).await });
    match task.await {
        Ok(Ok(view)) => reply::value(StatusCode::OK, &view, language),
        Ok(Err(err)) => failed(language, &err),
        Err(err) => {
            tracing::error!(error = %err, "a lease was not recalled to the end");
            reply::internal(language)
        }
    }
}

async fn read(request: Request, language: Language) -> Result<Body, Box<Response>> {
    let (head, body) = request.into_parts();
    let body = body::read(&head.headers, body, LIMIT, language).await?;
    body::parse(&body).map_err(|malformed| Box::new(malformed.into_response(language)))
}

fn failed(language: Language, err: &RecallError) -> Response {
    let with = |code| Problem::new(code, language, err.to_string());
    let plain = match err {
        RecallError::Store(store) => return reply::store_failed(language, store),
        RecallError::Unknown { .. } => with(Code::NotFound),
        RecallError::Ended { .. } => with(Code::Conflict),
        RecallError::Length(text) => with(Code::InvalidArgument).with_field(text.field),
    };
    problem(language, plain)
}

//! `/admin/v1/anomalies`: payments that did not fit their orders, and what is decided about them.

use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use farebox_core::code::{Code, Language};
use farebox_core::id::AccountId;
use farebox_core::problem::Problem;
use serde::{Deserialize, Serialize};
use utoipa_axum::routes;

use crate::api::body::{self, Limit};
use crate::api::document::{PageOf, Routes};
use crate::api::query::Parameters;
use crate::api::reply::{self, language, problem};
use crate::app::{
    Action, AnomaliesError, AnomalyFilter, AnomalyPage, AnomalyState, AnomalyView, App, Caller,
    CreditError, Resolution, ResolveError,
};
use crate::trace;

/// The largest body.
const LIMIT: Limit = Limit { bytes: 16 * 1_024, remedy: "send the decision alone" };

/// How long looking may take.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn routes() -> Routes<App> {
    Routes::new()
        .add(routes!(list), &[Code::InvalidArgument])
        .add(routes!(show), &[Code::NotFound])
        .add(routes!(resolve), &[Code::InvalidArgument, Code::NotFound, Code::Conflict])
}

/// Lists payments that did not fit their orders, newest first
///
/// None of them was credited by itself.
#[utoipa::path(get, path = "/admin/v1/anomalies", operation_id = "listAnomalies", tag = "anomalies",
    params(("state" = Option<AnomalyState>, Query, description = "In this state only."), PageOf),
    responses((status = 200, description = "A page of anomalies", body = AnomalyPage)))]
async fn list(State(app): State<App>, uri: Uri, headers: HeaderMap) -> Response {
    let language = language(&headers);
    match filter(&uri, language) {
        Ok(filter) => answer(language, app.anomalies(&filter)).await,
        Err(refusal) => *refusal,
    }
}

fn filter(uri: &Uri, language: Language) -> Result<AnomalyFilter, Box<Response>> {
    let mut parameters = Parameters::read(uri, &["state", "limit", "cursor"], language)?;
    Ok(AnomalyFilter {
        state: parameters.value("state")?,
        limit: parameters.limit()?,
        cursor: parameters.text("cursor"),
    })
}

/// Shows what did not fit, and what may be done about it
#[utoipa::path(get, path = "/admin/v1/anomalies/{id}", operation_id = "showAnomaly", tag = "anomalies",
    params(("id" = i64, Path, description = "The anomaly's number.")),
    responses((status = 200, description = "The anomaly", body = AnomalyView)))]
async fn show(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let language = language(&headers);
    match number(&id, language) {
        Ok(id) => answer(language, app.anomaly(id)).await,
        Err(refusal) => *refusal,
    }
}

fn number(id: &str, language: Language) -> Result<i64, Box<Response>> {
    id.parse().map_err(|_| {
        let detail = format!("there is no anomaly {id}");
        Box::new(problem(language, Problem::new(Code::NotFound, language, detail)))
    })
}

async fn answer<T: Serialize>(
    language: Language,
    looking: impl Future<Output = Result<T, AnomaliesError>>,
) -> Response {
    match tokio::time::timeout(TIMEOUT, looking).await {
        Ok(Ok(found)) => reply::value(StatusCode::OK, &found, language),
        Ok(Err(AnomaliesError::Page(page))) => reply::no_such_page(language, page),
        Ok(Err(AnomaliesError::Store(store))) => reply::store_failed(language, &store),
        Ok(Err(err @ AnomaliesError::Unknown { .. })) => {
            problem(language, Problem::new(Code::NotFound, language, err.to_string()))
        }
        Err(_) => reply::late(language),
    }
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AnomalyDecision)]
struct Body {
    /// One of its `actions`.
    action: Action,
    /// Why, for the audit log.
    #[schema(min_length = 1, max_length = 1000)]
    reason: String,
    /// Whom to credit, where no order says it.
    #[serde(default)]
    #[schema(nullable)]
    account: Option<AccountId>,
}

/// Decides about a payment that did not fit
///
/// Once: the same decision again changes nothing. No payment is credited twice.
#[utoipa::path(post, path = "/admin/v1/anomalies/{id}/resolve", operation_id = "resolveAnomaly", tag = "anomalies",
    params(("id" = i64, Path, description = "The anomaly's number.")), request_body = Body,
    responses((status = 200, description = "The anomaly as it stands now", body = AnomalyView)))]
async fn resolve(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let language = language(request.headers());
    let anomaly = match number(&id, language) {
        Ok(id) => id,
        Err(refusal) => return *refusal,
    };
    let Body { action, reason, account } = match read(request, language).await {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    let resolution = Resolution { anomaly, action, account, reason, actor: caller.actor };
    // What has begun is finished, whether or not the operator still waits.
    let task = trace::spawn(async move { app.resolve(&resolution).await });
    match task.await {
        Ok(Ok(view)) => reply::value(StatusCode::OK, &view, language),
        Ok(Err(err)) => failed(language, &err),
        Err(err) => {
            tracing::error!(error = %err, "an anomaly was not resolved to the end");
            reply::internal(language)
        }
    }
}

async fn read(request: Request, language: Language) -> Result<Body, Box<Response>> {
    let (head, body) = request.into_parts();
    let body = body::read(&head.headers, body, LIMIT, language).await?;
    body::parse(&body).map_err(|malformed| Box::new(malformed.into_response(language)))
}

fn failed(language: Language, err: &ResolveError) -> Response {
    let with = |code| Problem::new(code, language, err.to_string());
    let plain = match err {
        ResolveError::Store(store) | ResolveError::Credit(CreditError::Store(store)) => {
            return reply::store_failed(language, store);
        }
        ResolveError::Unknown { .. } => with(Code::NotFound),
        ResolveError::Length(text) => with(Code::InvalidArgument).with_field(text.field),
        ResolveError::Account { .. } => with(Code::InvalidArgument).with_field("account"),
        ResolveError::Action { .. } => with(Code::Conflict).with_field("action"),
        ResolveError::Resolved { .. }
        | ResolveError::Currency { .. }
        | ResolveError::Counted { .. }
        | ResolveError::Credit(_) => with(Code::Conflict),
    };
    problem(language, plain)
}

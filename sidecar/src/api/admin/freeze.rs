//! `POST /admin/v1/accounts/{account}/freeze` and `/thaw`.

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use axum::{Extension, Router};
use farebox_core::code::{Code, Language};
use farebox_core::id::AccountId;
use farebox_core::problem::Problem;
use serde::Deserialize;

use super::accounts::{invalid, named};
use crate::api::body::{self, Limit};
use crate::api::reply::{self, language, problem};
use crate::app::{App, Caller, FreezeError, FreezeOutcome};
use crate::trace;

/// The largest body.
const LIMIT: Limit = Limit { bytes: 16 * 1_024, remedy: "send the reason alone" };

pub(super) fn routes(app: App) -> Router {
    Router::new()
        .route("/admin/v1/accounts/{account}/freeze", post(freeze))
        .route("/admin/v1/accounts/{account}/thaw", post(thaw))
        .with_state(app)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    reason: String,
}

async fn freeze(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(account): Path<String>,
    request: Request,
) -> Response {
    let language = language(request.headers());
    let (account, reason) = match read(&account, request, language).await {
        Ok(read) => read,
        Err(refusal) => return *refusal,
    };
    // What has begun is finished, whether or not the operator still waits.
    let task = trace::spawn(async move { app.freeze(&account, &reason, &caller.actor).await });
    answer(task.await, language)
}

async fn thaw(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(account): Path<String>,
    request: Request,
) -> Response {
    let language = language(request.headers());
    let (account, reason) = match read(&account, request, language).await {
        Ok(read) => read,
        Err(refusal) => return *refusal,
    };
    let task = trace::spawn(async move { app.thaw(&account, &reason, &caller.actor).await });
    answer(task.await, language)
}

async fn read(
    account: &str,
    request: Request,
    language: Language,
) -> Result<(AccountId, String), Box<Response>> {
    let account = named(account, language)?;
    let (head, body) = request.into_parts();
    let body = body::read(&head.headers, body, LIMIT, language).await?;
    let Body { reason } =
        body::parse(&body).map_err(|malformed| Box::new(malformed.into_response(language)))?;
    Ok((account, reason))
}

fn answer(
    done: Result<Result<FreezeOutcome, FreezeError>, tokio::task::JoinError>,
    language: Language,
) -> Response {
    match done {
        Ok(Ok(outcome)) => reply::value(StatusCode::OK, &outcome, language),
        Ok(Err(FreezeError::Store(err))) => reply::store_failed(language, &err),
        Ok(Err(FreezeError::Length(err))) => invalid(language, err.field, &err.to_string()),
        Ok(Err(err @ FreezeError::NoAccount { .. })) => {
            problem(language, Problem::new(Code::NotFound, language, err.to_string()))
        }
        Err(err) => {
            tracing::error!(error = %err, "an account was not frozen or thawed to the end");
            reply::internal(language)
        }
    }
}

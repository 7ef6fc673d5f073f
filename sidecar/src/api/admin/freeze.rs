//! `POST /admin/v1/accounts/{account}/freeze` and `/thaw`.

use axum::Extension;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use farebox_core::code::{Code, Language};
use farebox_core::id::AccountId;
use farebox_core::problem::Problem;
use serde::Deserialize;
use utoipa_axum::routes;

use super::accounts::{invalid, named};
use crate::api::body::{self, Limit};
use crate::api::document::Routes;
use crate::api::reply::{self, language, problem};
use crate::app::{App, Caller, FreezeError, FreezeOutcome};
use crate::trace;

/// The largest body.
const LIMIT: Limit = Limit { bytes: 16 * 1_024, remedy: "send the reason alone" };

pub(super) fn routes() -> Routes<App> {
    let refused = [Code::InvalidArgument, Code::NotFound];
    Routes::new().add(routes!(freeze), &refused).add(routes!(thaw), &refused)
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = FreezeOrThaw)]
struct Body {
    /// Why, for the audit log.
    #[schema(min_length = 1, max_length = 1000)]
    reason: String,
}

/// Freezes an account
///
/// Nothing of it can be used until it is thawed, and what gateways hold of it is recalled. Money can still be added.
#[utoipa::path(post, path = "/admin/v1/accounts/{account}/freeze", operation_id = "freezeAccount", tag = "accounts",
    params(("account" = AccountId, Path, description = "Whose account.")), request_body = Body,
    responses((status = 200, description = "Where it stands now", body = FreezeOutcome)))]
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

/// Thaws a frozen account
#[utoipa::path(post, path = "/admin/v1/accounts/{account}/thaw", operation_id = "thawAccount", tag = "accounts",
    params(("account" = AccountId, Path, description = "Whose account.")), request_body = Body,
    responses((status = 200, description = "Where it stands now", body = FreezeOutcome)))]
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

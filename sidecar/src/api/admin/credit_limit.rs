//! `POST /admin/v1/accounts/{account}/credit-limit`.

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
use crate::api::amount::Amount;
use crate::api::body::{self, Limit};
use crate::api::document::Routes;
use crate::api::reply::{self, language, problem};
use crate::app::{App, Caller, CreditLimit, CreditLimitError, CreditLimitOutcome};
use crate::trace;

/// The largest body.
const LIMIT: Limit = Limit { bytes: 16 * 1_024, remedy: "send the limit alone" };

/// The member that says how much.
const FIELD: &str = "credit_limit";

pub(super) fn routes() -> Routes<App> {
    Routes::new().add(routes!(set), &[Code::InvalidArgument, Code::Conflict])
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CreditLimit)]
struct Body {
    /// How far below zero the balance may go from now on; 0 for not at all.
    credit_limit: Amount,
    /// Why, for the audit log.
    #[schema(min_length = 1, max_length = 1000)]
    reason: String,
}

/// Sets how far below zero an account's balance may go
///
/// An account that does not exist yet begins with it. No lower than what is in use.
#[utoipa::path(post, path = "/admin/v1/accounts/{account}/credit-limit", operation_id = "setCreditLimit", tag = "accounts",
    params(("account" = AccountId, Path, description = "Whose account.")), request_body = Body,
    responses((status = 200, description = "Where it stands now", body = CreditLimitOutcome)))]
async fn set(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(account): Path<String>,
    request: Request,
) -> Response {
    let language = language(request.headers());
    let new = match read(&account, request, caller, language).await {
        Ok(new) => new,
        Err(refusal) => return *refusal,
    };
    // What has begun is finished, whether or not the operator still waits.
    let task = trace::spawn(async move { app.set_credit_limit(&new).await });
    match task.await {
        Ok(Ok(outcome)) => reply::value(StatusCode::OK, &outcome, language),
        Ok(Err(err)) => failed(language, &err),
        Err(err) => {
            tracing::error!(error = %err, "a credit limit was not set to the end");
            reply::internal(language)
        }
    }
}

async fn read(
    account: &str,
    request: Request,
    caller: Caller,
    language: Language,
) -> Result<CreditLimit, Box<Response>> {
    let account = named(account, language)?;
    let (head, body) = request.into_parts();
    let body = body::read(&head.headers, body, LIMIT, language).await?;
    let Body { credit_limit, reason } =
        body::parse(&body).map_err(|malformed| Box::new(malformed.into_response(language)))?;
    Ok(CreditLimit { account, limit: credit_limit.0, reason, actor: caller.actor })
}

fn failed(language: Language, err: &CreditLimitError) -> Response {
    match err {
        CreditLimitError::Store(store) => reply::store_failed(language, store),
        CreditLimitError::Length(text) => invalid(language, text.field, &err.to_string()),
        CreditLimitError::Negative { .. } => invalid(language, FIELD, &err.to_string()),
        CreditLimitError::InUse { .. } => {
            let refusal = Problem::new(Code::Conflict, language, err.to_string());
            problem(language, refusal.with_field(FIELD))
        }
    }
}

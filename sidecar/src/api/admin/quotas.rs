//! `/admin/v1/quotas`: this month's free quotas follow the configuration.

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use farebox_core::code::{Code, Language};
use farebox_core::id::{AccountId, ServiceName};
use farebox_core::problem::Problem;
use serde::Deserialize;
use utoipa_axum::routes;

use crate::api::body::{self, Limit};
use crate::api::document::Routes;
use crate::api::reply::{self, language, problem};
use crate::app::{App, Caller, QuotaChanges, QuotaFilter, QuotasError};
use crate::trace;

/// The largest body.
const LIMIT: Limit = Limit { bytes: 16 * 1_024, remedy: "send the change alone" };

pub(super) fn routes() -> Routes<App> {
    Routes::new().add(routes!(apply), &[Code::InvalidArgument, Code::NotFound])
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = QuotaChange)]
struct Body {
    /// Of this service only.
    service: Option<ServiceName>,
    /// Of this account only.
    account: Option<AccountId>,
    /// Why, for the audit log.
    #[schema(min_length = 1, max_length = 1000)]
    reason: String,
    /// Only tells what would change.
    #[serde(default)]
    dry_run: bool,
}

/// Has this month's free quotas follow the configuration
///
/// Nobody loses what is used or held already.
#[utoipa::path(post, path = "/admin/v1/quotas", operation_id = "applyQuotas", tag = "quotas", request_body = Body,
    responses((status = 200, description = "What follows, or with `dry_run` would follow", body = QuotaChanges)))]
async fn apply(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    let language = language(request.headers());
    let Body { service, account, reason, dry_run } = match read(request, language).await {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    let filter = QuotaFilter { service, account };
    // What has begun is finished, whether or not the operator still waits: all accounts may take minutes.
    let task = trace::spawn(async move {
        match dry_run {
            true => app.plan_quotas(&filter).await,
            false => app.apply_quotas(&filter, &reason, &caller.actor).await,
        }
    });
    match task.await {
        Ok(Ok(changes)) => reply::value(StatusCode::OK, &changes, language),
        Ok(Err(err)) => failed(language, &err),
        Err(err) => {
            tracing::error!(error = %err, "a change of free quotas was not finished");
            reply::internal(language)
        }
    }
}

async fn read(request: Request, language: Language) -> Result<Body, Box<Response>> {
    let (head, body) = request.into_parts();
    let body = body::read(&head.headers, body, LIMIT, language).await?;
    body::parse(&body).map_err(|malformed| Box::new(malformed.into_response(language)))
}

fn failed(language: Language, err: &QuotasError) -> Response {
    let with = |code| Problem::new(code, language, err.to_string());
    let refusal = match err {
        QuotasError::Store(store) => return reply::store_failed(language, store),
        QuotasError::NoAccount { .. } => with(Code::NotFound).with_field("account"),
        QuotasError::Unknown { .. } => with(Code::InvalidArgument).with_field("service"),
        QuotasError::Length(text) => with(Code::InvalidArgument).with_field(text.field),
    };
    problem(language, refusal)
}

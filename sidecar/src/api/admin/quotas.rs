//! `/admin/v1/quotas`: this month's free quotas follow the configuration.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use axum::{Extension, Router};
use farebox_core::code::{Code, Language};
use farebox_core::id::{AccountId, ServiceName};
use farebox_core::problem::Problem;
use serde::Deserialize;

use crate::api::body::{self, Limit};
use crate::api::reply::{self, language, problem};
use crate::app::{App, Caller, QuotaFilter, QuotasError};
use crate::trace;

/// The largest body.
const LIMIT: Limit = Limit { bytes: 16 * 1_024, remedy: "send the change alone" };

pub(super) fn routes(app: App) -> Router {
    Router::new().route("/admin/v1/quotas", post(apply)).with_state(app)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    service: Option<ServiceName>,
    account: Option<AccountId>,
    reason: String,
    /// Only tells what would change.
    #[serde(default)]
    dry_run: bool,
}

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

//! `GET /admin/v1/audit`: what operators did, newest first.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use axum::routing::get;
use farebox_core::code::{Code, Language};
use farebox_core::problem::Problem;

use crate::api::query::Parameters;
use crate::api::reply::{self, language, problem};
use crate::app::{App, AuditError, AuditFilter};

/// How long an operator waits.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn routes(app: App) -> Router {
    Router::new().route("/admin/v1/audit", get(audit)).with_state(app)
}

async fn audit(State(app): State<App>, uri: Uri, headers: HeaderMap) -> Response {
    let language = language(&headers);
    let filter = match filter(&uri, language) {
        Ok(filter) => filter,
        Err(refusal) => return *refusal,
    };
    match tokio::time::timeout(TIMEOUT, app.audit(&filter)).await {
        Ok(Ok(page)) => reply::value(StatusCode::OK, &page, language),
        Ok(Err(err)) => failed(language, &err),
        Err(_) => reply::come_again(language, Code::Unavailable, "not done in time; ask again"),
    }
}

fn filter(uri: &Uri, language: Language) -> Result<AuditFilter, Box<Response>> {
    let known = ["account", "by", "since", "limit", "cursor"];
    let mut parameters = Parameters::read(uri, &known, language)?;
    let moment = "write for instance 2026-01-31T00:00:00Z";
    Ok(AuditFilter {
        account: parameters.value("account")?,
        by: parameters.text("by"),
        since: parameters.value_or("since", moment)?,
        limit: parameters.limit()?,
        cursor: parameters.text("cursor"),
    })
}

fn failed(language: Language, err: &AuditError) -> Response {
    let field = match err {
        AuditError::Page(page) => return reply::no_such_page(language, *page),
        AuditError::Since { .. } => "since",
        AuditError::Store(store) => return reply::store_failed(language, store),
    };
    let plain = Problem::new(Code::InvalidArgument, language, err.to_string());
    problem(language, plain.with_field(field))
}

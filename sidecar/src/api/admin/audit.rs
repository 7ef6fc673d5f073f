//! `GET /admin/v1/audit`: what operators did, newest first.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use farebox_core::code::{Code, Language};
use farebox_core::id::AccountId;
use farebox_core::problem::Problem;
use utoipa_axum::routes;

use crate::api::document::{PageOf, Routes};
use crate::api::query::Parameters;
use crate::api::reply::{self, language, problem};
use crate::app::{App, AuditError, AuditFilter, AuditPage};

/// How long an operator waits.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn routes() -> Routes<App> {
    Routes::new().add(routes!(audit), &[Code::InvalidArgument])
}

/// Lists what operators did, newest first
#[utoipa::path(get, path = "/admin/v1/audit", operation_id = "listAudit", tag = "audit",
    params(("account" = Option<AccountId>, Query, description = "What was done to this account and its orders."),
        ("by" = Option<String>, Query, description = "What this operator did: `cli:ann`, `admin api`."),
        ("since" = Option<String>, Query, description = "Since this moment.", format = "date-time"), PageOf),
    responses((status = 200, description = "A page of actions", body = AuditPage)))]
async fn audit(State(app): State<App>, uri: Uri, headers: HeaderMap) -> Response {
    let language = language(&headers);
    let filter = match filter(&uri, language) {
        Ok(filter) => filter,
        Err(refusal) => return *refusal,
    };
    match tokio::time::timeout(TIMEOUT, app.audit(&filter)).await {
        Ok(Ok(page)) => reply::value(StatusCode::OK, &page, language),
        Ok(Err(err)) => failed(language, &err),
        Err(_) => reply::late(language),
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

//! `GET /admin/v1/gateways`: who is alive, and what each holds.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use farebox_core::code::{Code, Language};
use utoipa_axum::routes;

use crate::api::document::{PageOf, Routes};
use crate::api::query::Parameters;
use crate::api::reply::{self, language};
use crate::app::{App, GatewayFilter, GatewayPage, HoldersError};

/// How long looking may take.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn routes() -> Routes<App> {
    Routes::new().add(routes!(list), &[Code::InvalidArgument])
}

/// Lists gateways in the order of their names
///
/// When each was last heard of, what it holds, and the money that is at risk with it.
#[utoipa::path(get, path = "/admin/v1/gateways", operation_id = "listGateways", tag = "gateways", params(PageOf),
    responses((status = 200, description = "A page of gateways", body = GatewayPage)))]
async fn list(State(app): State<App>, uri: Uri, headers: HeaderMap) -> Response {
    let language = language(&headers);
    let filter = match filter(&uri, language) {
        Ok(filter) => filter,
        Err(refusal) => return *refusal,
    };
    match tokio::time::timeout(TIMEOUT, app.gateways(&filter)).await {
        Ok(Ok(page)) => reply::value(StatusCode::OK, &page, language),
        Ok(Err(err)) => failed(language, &err),
        Err(_) => reply::late(language),
    }
}

fn filter(uri: &Uri, language: Language) -> Result<GatewayFilter, Box<Response>> {
    let mut parameters = Parameters::read(uri, &["limit", "cursor"], language)?;
    Ok(GatewayFilter { limit: parameters.limit()?, cursor: parameters.text("cursor") })
}

pub(super) fn failed(language: Language, err: &HoldersError) -> Response {
    match err {
        HoldersError::Page(page) => reply::no_such_page(language, *page),
        HoldersError::Store(store) => reply::store_failed(language, store),
    }
}

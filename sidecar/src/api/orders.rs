//! What the two listeners that show orders share: query parameters in, pages and problems out.

use std::time::Duration;

use axum::http::{StatusCode, Uri};
use axum::response::Response;
use farebox_core::code::{Code, Language};
use farebox_core::problem::Problem;
use serde::Serialize;

use super::query::Parameters;
use super::reply::{self, problem};
use crate::app::{OrderFilter, OrdersError};

/// The filter in a query string that may have the parameters `known` and no others.
pub(super) fn filter(
    uri: &Uri,
    known: &[&str],
    language: Language,
) -> Result<OrderFilter, Box<Response>> {
    let mut query = Parameters::read(uri, known, language)?;
    let filter = OrderFilter {
        cursor: query.text("cursor"),
        limit: query.limit()?,
        state: query.value("state")?,
        account: query.value("user")?,
    };
    Ok(filter)
}

/// The reply to a request for orders, in time.
pub(super) async fn answer<T: Serialize>(
    language: Language,
    timeout: Duration,
    orders: impl Future<Output = Result<T, OrdersError>>,
) -> Response {
    match tokio::time::timeout(timeout, orders).await {
        Ok(Ok(orders)) => reply::value(StatusCode::OK, &orders, language),
        Ok(Err(err)) => failed(language, &err),
        Err(_) => reply::late(language),
    }
}

fn failed(language: Language, err: &OrdersError) -> Response {
    let with = |code| Problem::new(code, language, err.to_string());
    match err {
        OrdersError::Unknown { .. } => problem(language, with(Code::OrderNotFound)),
        OrdersError::Page(page) => reply::no_such_page(language, *page),
        OrdersError::RedisAway { .. } => {
            reply::come_again(language, Code::Unavailable, &err.to_string())
        }
        OrdersError::Store(store) => reply::store_failed(language, store),
    }
}

//! What the two listeners that show orders share: query parameters in, pages and problems out.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::Query;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use farebox_core::code::{Code, Language};
use farebox_core::problem::Problem;
use serde::Serialize;

use super::reply::{self, problem};
use crate::app::{OrderFilter, OrdersError};

/// The filter in a query string that may have the parameters `known` and no others.
pub(super) fn filter(
    uri: &Uri,
    known: &[&str],
    language: Language,
) -> Result<OrderFilter, Box<Response>> {
    let invalid = |field: &str, detail: String| {
        let plain = Problem::new(Code::InvalidArgument, language, detail);
        Box::new(problem(language, plain.with_field(field)))
    };
    let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else {
        return Err(invalid("query", "the query string cannot be read".to_owned()));
    };
    let mut values = BTreeMap::new();
    for (name, value) in pairs {
        if !known.contains(&name.as_str()) {
            let detail = format!("{name} is no parameter here; known are {}", known.join(", "));
            return Err(invalid(&name, detail));
        }
        if values.insert(name.clone(), value).is_some() {
            return Err(invalid(&name, format!("{name} occurs more than once; write it once")));
        }
    }
    let mut filter = OrderFilter { cursor: values.remove("cursor"), ..OrderFilter::default() };
    if let Some(text) = values.remove("limit") {
        let detail = || format!("limit is {text:?}; write a number from 1 to 200");
        filter.limit = Some(text.parse().map_err(|_| invalid("limit", detail()))?);
    }
    if let Some(text) = values.remove("state") {
        let read = |err: farebox_core::order::WordError| invalid("state", err.to_string());
        filter.state = Some(text.parse().map_err(read)?);
    }
    if let Some(text) = values.remove("user") {
        let read = |err: farebox_core::id::NameError| invalid("user", err.to_string());
        filter.account = Some(text.parse().map_err(read)?);
    }
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
        Err(_) => reply::come_again(language, Code::Unavailable, "not done in time; ask again"),
    }
}

fn failed(language: Language, err: &OrdersError) -> Response {
    let with = |code| Problem::new(code, language, err.to_string());
    match err {
        OrdersError::Unknown { .. } => problem(language, with(Code::OrderNotFound)),
        OrdersError::Limit { .. } => {
            problem(language, with(Code::InvalidArgument).with_field("limit"))
        }
        OrdersError::Cursor => problem(language, with(Code::InvalidArgument).with_field("cursor")),
        OrdersError::RedisAway { .. } => {
            reply::come_again(language, Code::Unavailable, &err.to_string())
        }
        OrdersError::Store(store) => reply::store_failed(language, store),
    }
}

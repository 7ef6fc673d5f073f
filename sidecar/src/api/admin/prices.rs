//! `/admin/v1/prices`: every price version, and changes.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use farebox_core::code::{Code, Language};
use farebox_core::id::{AccountId, ServiceName};
use farebox_core::problem::Problem;
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};
use utoipa_axum::routes;

use self::form::{Own, Price};
use super::super::body::{self, Limit};
use super::super::document::Routes;
use super::super::reply::{self, language, problem};
use crate::app::{App, Caller, PriceChange, PricePlan, PriceView, PricesError};
use crate::config::price_file;
use crate::trace;

mod form;

/// The largest body.
const LIMIT: Limit = Limit { bytes: 256 * 1_024, remedy: "send fewer services at a time" };

/// How long looking may take.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn routes() -> Routes<App> {
    Routes::new().add(routes!(list), &[]).add(routes!(apply), &[Code::InvalidArgument])
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Prices {
    prices: Vec<PriceView>,
}

/// Tells every price version
///
/// What held, holds and is to come.
#[utoipa::path(get, path = "/admin/v1/prices", operation_id = "listPrices", tag = "prices",
    responses((status = 200, description = "Every version", body = Prices)))]
async fn list(State(app): State<App>, headers: HeaderMap) -> Response {
    let language = language(&headers);
    match tokio::time::timeout(TIMEOUT, app.prices()).await {
        Ok(Ok(prices)) => reply::value(StatusCode::OK, &Prices { prices }, language),
        Ok(Err(err)) => reply::store_failed(language, &err),
        Err(_) => reply::late(language),
    }
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PriceChange)]
struct Body {
    /// Money per unit, by service.
    #[serde(default)]
    prices: BTreeMap<ServiceName, Price>,
    /// The same for one account alone, by account and service; `book` takes it back.
    #[serde(default)]
    accounts: BTreeMap<AccountId, BTreeMap<ServiceName, Own>>,
    /// Now, when it is not said; else `now`, or a moment to come.
    #[serde(default, deserialize_with = "effective")]
    #[schema(value_type = String, required = false, example = "2027-01-01T00:00:00+08:00")]
    effective: Option<chrono::DateTime<chrono::Utc>>,
    /// Why, for the audit log.
    #[schema(min_length = 1, max_length = 1000)]
    reason: String,
}

fn effective<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<chrono::DateTime<chrono::Utc>>, D::Error> {
    let text = String::deserialize(deserializer)?;
    price_file::effective(&text)
        .map_err(|complaint| de::Error::custom(format!("{text:?} is {complaint}")))
}

/// Sets prices
///
/// Now, or from a moment to come until the next change. Services that are not named keep theirs. Applied again, it changes
/// nothing.
#[utoipa::path(post, path = "/admin/v1/prices", operation_id = "applyPrices", tag = "prices", request_body = Body,
    responses((status = 200, description = "What differs now", body = PricePlan)))]
async fn apply(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    let language = language(request.headers());
    let Body { prices, accounts, effective, reason } = match read(request, language).await {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    let prices = prices.into_iter().map(|(service, price)| (service, price.0)).collect();
    let own = |prices: BTreeMap<ServiceName, Own>| {
        prices.into_iter().map(|(service, price)| (service, price.0)).collect()
    };
    let accounts = accounts.into_iter().map(|(account, prices)| (account, own(prices))).collect();
    let change = PriceChange { prices, accounts, effective };
    // What has begun is finished, whether or not the operator still waits.
    let task = trace::spawn(async move { app.apply_prices(&change, &reason, &caller.actor).await });
    match task.await {
        Ok(Ok(plan)) => reply::value(StatusCode::OK, &plan, language),
        Ok(Err(err)) => failed(language, &err),
        Err(err) => {
            tracing::error!(error = %err, "a change of prices was not finished");
            reply::internal(language)
        }
    }
}

async fn read(request: Request, language: Language) -> Result<Body, Box<Response>> {
    let (head, body) = request.into_parts();
    let body = body::read(&head.headers, body, LIMIT, language).await?;
    body::parse(&body).map_err(|malformed| Box::new(malformed.into_response(language)))
}

fn failed(language: Language, err: &PricesError) -> Response {
    let field = match err {
        PricesError::Store(store) => return reply::store_failed(language, store),
        PricesError::Empty => "prices".to_owned(),
        PricesError::Unknown { field } | PricesError::Negative { field, .. } => field.clone(),
        PricesError::Past { .. } => "effective".to_owned(),
        PricesError::Length(text) => text.field.to_owned(),
    };
    let refusal = Problem::new(Code::InvalidArgument, language, err.to_string());
    problem(language, refusal.with_field(field))
}

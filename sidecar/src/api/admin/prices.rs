//! `/admin/v1/prices`: every price version, and changes.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use farebox_core::code::{Code, Language};
use farebox_core::id::{AccountId, ServiceName};
use farebox_core::package::Package;
use farebox_core::problem::Problem;
use farebox_core::tariff::{Tariff, Tier};
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::super::amount::Amount;
use super::super::body::{self, Limit};
use super::super::reply::{self, language, problem};
use crate::app::{App, Caller, NewPrice, PriceChange, PriceView, PricesError};
use crate::config::price_file;
use crate::trace;

/// The largest body.
const LIMIT: Limit = Limit { bytes: 256 * 1_024, remedy: "send fewer services at a time" };

/// How long looking may take.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn routes(app: App) -> Router {
    Router::new().route("/admin/v1/prices", get(list).post(apply)).with_state(app)
}

#[derive(Debug, Serialize)]
struct Prices {
    prices: Vec<PriceView>,
}

async fn list(State(app): State<App>, headers: HeaderMap) -> Response {
    let language = language(&headers);
    match tokio::time::timeout(TIMEOUT, app.prices()).await {
        Ok(Ok(prices)) => reply::value(StatusCode::OK, &Prices { prices }, language),
        Ok(Err(err)) => reply::store_failed(language, &err),
        Err(_) => reply::come_again(language, Code::Unavailable, "not done in time; ask again"),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(default)]
    prices: BTreeMap<ServiceName, Price>,
    #[serde(default)]
    accounts: BTreeMap<AccountId, BTreeMap<ServiceName, Own>>,
    /// Now, when it is not said.
    #[serde(default, deserialize_with = "effective")]
    effective: Option<chrono::DateTime<chrono::Utc>>,
    reason: String,
}

/// What units cost: an amount, tiers, or a package.
#[derive(Debug)]
struct Price(Tariff);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    tiers: Option<Vec<TierBody>>,
    #[serde(default)]
    package: Option<PackageBody>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PackageBody {
    units: u64,
    price: Amount,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TierBody {
    #[serde(default)]
    up_to: Option<u64>,
    price: Amount,
}

impl<'de> Deserialize<'de> for Price {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let read = |text: &str| -> Result<Tariff, String> {
            if !text.starts_with('{') {
                let price: Amount = serde_json::from_str(text).map_err(|err| err.to_string())?;
                return Ok(Tariff::flat(price.0));
            }
            let Written { tiers, package } =
                serde_json::from_str(text).map_err(|err| err.to_string())?;
            let tier = |TierBody { up_to, price }| Tier { up_to, price: price.0 };
            let tiers = tiers.map(|tiers| tiers.into_iter().map(tier).collect());
            let package =
                package.map(|PackageBody { units, price }| Package { units, price: price.0 });
            Tariff::written(tiers, package).map_err(|err| err.to_string())
        };
        read(raw.get()).map(Self).map_err(de::Error::custom)
    }
}

/// What an account is to pay: a price, or `"book"`.
#[derive(Debug)]
struct Own(NewPrice);

impl<'de> Deserialize<'de> for Own {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let price = match raw.get() {
            r#""book""# => NewPrice::Book,
            text => {
                NewPrice::Price(serde_json::from_str::<Price>(text).map_err(de::Error::custom)?.0)
            }
        };
        Ok(Self(price))
    }
}

fn effective<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<chrono::DateTime<chrono::Utc>>, D::Error> {
    let text = String::deserialize(deserializer)?;
    price_file::effective(&text)
        .map_err(|complaint| de::Error::custom(format!("{text:?} is {complaint}")))
}

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

//! The price book: versions that never change, each with its time.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::mysql::MySqlConnection;

use farebox_core::id::{AccountId, ServiceName};
use farebox_core::tariff::Tariff;

use crate::app::books::new_id;
use crate::app::{App, rfc3339};
use crate::store::lease::{self, Priced};
use crate::store::price_version::{self, NewVersion, PriceVersion};
use crate::store::retry::retry;
use crate::store::{self, StoreError, job_lease};

pub(super) mod change;
pub(super) mod repricing;
mod timeline;

use timeline::{Placed, place};

/// One price version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PriceView {
    /// What is metered.
    pub service: String,
    /// `book` for the price book, `route` for a price that a gateway's route names.
    pub source: String,
    /// Whose price; absent for everybody's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    /// Money per unit; `{"tiers": […]}` when it is graduated.
    pub price: Tariff,
    /// `configuration`, or `operator` for one that was applied.
    pub set_by: String,
    /// From when, RFC 3339 in UTC.
    pub effective_from: String,
    /// Until when; absent while no end is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective_to: Option<String>,
    /// Whether it is in force at the moment that was asked for.
    pub active: bool,
}

/// The row that two sidecars which start together take turns on.
const JOB: &str = "price_book";

/// Brings the services that the configuration leads in line with it, and warns about the others that differ from it.
pub(super) async fn seed(app: &App) -> Result<usize, StoreError> {
    let (changed, applied) = retry("seed prices", || async {
        let mut tx = app.store.begin().await?;
        let outcome = seed_once(&mut tx, app).await;
        store::finish(tx, outcome).await
    })
    .await?;
    for (service, price) in applied {
        let Some(configured) = app.settings.prices.get(&service) else { continue };
        if *configured != price {
            tracing::warn!(
                service = %service,
                price.configured = %configured,
                price.applied = %price,
                "billing.prices.{service} is {configured}, but an operator applied {price}, which holds: \
                 write {price} into billing.prices, or set {configured} with `farebox prices apply`",
            );
        }
    }
    Ok(changed)
}

/// How many prices changed, and what operators set.
async fn seed_once(
    tx: &mut MySqlConnection,
    app: &App,
) -> Result<(usize, BTreeMap<ServiceName, Tariff>), StoreError> {
    job_lease::take_turn(tx, JOB).await?;
    let now = store::now(tx).await?;
    let led_by_operators = price_version::set_by_operators(tx).await?;
    let versions = price_version::all(tx).await?;
    let prices = &app.settings.prices;
    let mut timelines: BTreeMap<&ServiceName, Vec<&PriceVersion>> =
        prices.keys().map(|service| (service, Vec::new())).collect();
    for version in
        versions.iter().filter(|version| version.source == "book" && version.account.is_none())
    {
        timelines.entry(&version.service).or_default().push(version);
    }
    let (mut changed, mut applied) = (0, BTreeMap::new());
    for (service, timeline) in timelines {
        if led_by_operators.contains(service) {
            let holds = timeline.iter().find(|version| version.holds(now));
            applied.extend(holds.map(|version| (service.clone(), version.tariff.clone())));
        } else if follow(tx, service, &timeline, prices.get(service), now).await? {
            changed += 1;
        }
    }
    Ok((changed, applied))
}

/// Has a service's price be the configured one from now on; whether it was another.
async fn follow(
    tx: &mut MySqlConnection,
    service: &ServiceName,
    timeline: &[&PriceVersion],
    tariff: Option<&Tariff>,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let Some(Placed { ends, until }) = place(timeline, now, tariff) else { return Ok(false) };
    if let Some(version) = ends {
        price_version::close(tx, version, now).await?;
        lease::end_price(tx, Priced::At(&version.ids), now).await?;
    }
    if let Some(tariff) = tariff {
        let (rate, set_by, account) = (new_id(), "configuration", None);
        let new = NewVersion { service, account, tariff, rate, set_by, from: now, until };
        price_version::open_book(tx, &new).await?;
    }
    Ok(true)
}

/// Every version; `active` tells which hold at `at`, or now.
pub(super) async fn view(
    app: &App,
    at: Option<DateTime<Utc>>,
) -> Result<Vec<PriceView>, StoreError> {
    let mut connection = app.store.acquire().await?;
    let now = match at {
        Some(at) => at,
        None => store::now(&mut connection).await?,
    };
    let versions = price_version::all(&mut connection).await?;
    let mut views: Vec<PriceView> =
        versions.into_iter().map(|version| price_view(version, now)).collect();
    // The sort is stable: within the two halves the order stays by service, newest first.
    views.sort_by_key(|view| !view.active);
    Ok(views)
}

fn price_view(version: PriceVersion, now: DateTime<Utc>) -> PriceView {
    let active = version.holds(now);
    PriceView {
        service: version.service.to_string(),
        source: version.source,
        account: version.account,
        price: version.tariff,
        set_by: version.set_by,
        effective_from: rfc3339(version.effective_from),
        effective_to: version.effective_to.map(rfc3339),
        active,
    }
}

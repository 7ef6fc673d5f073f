//! The price book: versions that never change, each with its time.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::mysql::MySqlConnection;

use farebox_core::money::Nanos;

use crate::app::{App, rfc3339};
use crate::store::column::OnCorrupt;
use crate::store::price_version::{self, PriceVersion};
use crate::store::retry::retry;
use crate::store::{self, StoreError, job_lease, lease};

/// One price version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PriceView {
    /// What is metered.
    pub service: String,
    /// `book` for the price book, `route` for a price that a gateway's route names.
    pub source: String,
    /// Money per unit.
    pub price: Nanos,
    /// From when, RFC 3339 in UTC.
    pub effective_from: String,
    /// Until when; absent while no end is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective_to: Option<String>,
    /// Whether it is in force.
    pub active: bool,
}

/// The row that two sidecars which start together take turns on.
const JOB: &str = "price_book";

pub(super) async fn seed(app: &App) -> Result<usize, StoreError> {
    retry("seed prices", || async {
        let mut tx = app.store.begin().await?;
        let outcome = seed_once(&mut tx, app).await;
        store::finish(tx, outcome).await
    })
    .await
}

async fn seed_once(tx: &mut MySqlConnection, app: &App) -> Result<usize, StoreError> {
    job_lease::take_turn(tx, JOB).await?;
    let now = store::now(tx).await?;
    let prices = &app.settings.prices;
    let active = price_version::book(tx, now, OnCorrupt::Fail).await?;
    let mut changed = BTreeSet::new();
    for version in &active {
        if prices.get(&version.service) != Some(&version.price) {
            price_version::close(tx, version.id, now).await?;
            lease::end_price_version(tx, version.id, now).await?;
            changed.insert(&version.service);
        }
    }
    for (service, &price) in prices {
        if !active.iter().any(|version| version.service == *service && version.price == price) {
            price_version::open_book(tx, service, price, now).await?;
            changed.insert(service);
        }
    }
    Ok(changed.len())
}

pub(super) async fn view(app: &App) -> Result<Vec<PriceView>, StoreError> {
    let mut connection = app.store.acquire().await?;
    let now = store::now(&mut connection).await?;
    let versions = price_version::all(&mut connection).await?;
    let mut views: Vec<PriceView> =
        versions.into_iter().map(|version| price_view(version, now)).collect();
    // The sort is stable: within the two halves the order stays by service, newest first.
    views.sort_by_key(|view| !view.active);
    Ok(views)
}

fn price_view(version: PriceVersion, now: DateTime<Utc>) -> PriceView {
    let active = version.effective_from <= now && version.effective_to.is_none_or(|end| now < end);
    PriceView {
        service: version.service.to_string(),
        source: version.source,
        price: version.price,
        effective_from: rfc3339(version.effective_from),
        effective_to: version.effective_to.map(rfc3339),
        active,
    }
}

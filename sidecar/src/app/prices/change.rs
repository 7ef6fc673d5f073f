//! Prices that operators set: now, or from a moment to come.

use std::collections::BTreeMap;

use chrono::{DateTime, SubsecRound, Utc};
use serde::Serialize;
use sqlx::mysql::MySqlConnection;

use farebox_core::id::ServiceName;
use farebox_core::money::Nanos;

use super::JOB;
use super::timeline::{Placed, place};
use crate::app::texts::{self, LengthError};
use crate::app::{App, rfc3339};
use crate::calendar::Month;
use crate::store::audit_log::{self, AuditLine};
use crate::store::price_usage::{self, Usage};
use crate::store::price_version::{self, NewVersion, PriceVersion};
use crate::store::retry::{MayBeStore, retry};
use crate::store::{self, StoreError, job_lease, lease};

/// Prices to come into force together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceChange {
    /// Money per unit. Services that are not named keep theirs.
    pub prices: BTreeMap<ServiceName, Nanos>,
    /// From when; `None` is now.
    pub effective: Option<DateTime<Utc>>,
}

/// What a change does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PricePlan {
    /// From when, RFC 3339 in UTC.
    pub effective: String,
    /// What differs; empty when nothing changes.
    pub changes: Vec<PriceDifference>,
}

/// Another price of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PriceDifference {
    /// What is metered.
    pub service: ServiceName,
    /// The price until then; absent when there is none.
    pub from: Option<Nanos>,
    /// The price from then on.
    pub to: Nanos,
    /// Until when: where the next change stands already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// What last month's usage would have come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repricing {
    /// `YYYY-MM` in the billing time zone.
    pub month: String,
    /// Each named service that earned something.
    pub services: Vec<Repriced>,
    /// The accounts that would have paid most more or less, the most affected first.
    pub accounts: Vec<Repriced>,
}

/// Usage at the prices that it was charged at, and at other ones. Sums may be beyond what one amount can be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repriced {
    /// The service or the account.
    pub name: String,
    /// What it earned, or paid.
    pub earned: String,
    /// What it would have.
    pub would_have_earned: String,
    /// The latter less the former.
    pub difference: String,
}

/// Why prices were not changed.
#[derive(Debug, thiserror::Error)]
pub enum PricesError {
    /// Nothing to set.
    #[error("prices names no service; write at least one, such as `passport: 0.001`")]
    Empty,
    /// A service that calls are refused for.
    #[error(
        "prices.{service}: farebox.yaml names no such service; correct the name, or add it to billing.prices or billing.free_quotas first"
    )]
    Unknown {
        /// As it was named.
        service: ServiceName,
    },
    /// A price below zero.
    #[error("prices.{service} is {price}: negative; write 0 or more")]
    Negative {
        /// Whose.
        service: ServiceName,
        /// As it was named.
        price: Nanos,
    },
    /// What has been charged stays as it was.
    #[error("effective is {at}: past, it is {now}; write now or a moment to come")]
    Past {
        /// As it was named.
        at: String,
        /// The database's time.
        now: String,
    },
    /// A text beyond its column.
    #[error(transparent)]
    Length(#[from] LengthError),
    /// The database's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MayBeStore for PricesError {
    fn into_store(self) -> Result<StoreError, Self> {
        match self {
            Self::Store(err) => Ok(err),
            other => Err(other),
        }
    }
}

/// Accounts that a plan names.
const ACCOUNTS: u32 = 10;

/// What a change would do.
pub(in crate::app) async fn plan(
    app: &App,
    change: &PriceChange,
) -> Result<(PricePlan, Repricing), PricesError> {
    validate(app, change)?;
    let mut connection = app.store.acquire().await?;
    let now = store::now(&mut connection).await?;
    let (plan, _) = compare(&mut connection, change, now).await?;
    let month = Month::text_before(now, app.settings.time_zone);
    let prices = &change.prices;
    let services = price_usage::by_service(&mut connection, &month, prices).await?;
    let accounts = price_usage::most_affected(&mut connection, &month, prices, ACCOUNTS).await?;
    let repriced = |usage: Vec<Usage>| usage.into_iter().map(repriced).collect();
    Ok((plan, Repricing { month, services: repriced(services), accounts: repriced(accounts) }))
}

fn repriced(usage: Usage) -> Repriced {
    let Usage { name, earned, would_have_earned } = usage;
    let difference = would_have_earned.checked_sub(earned).unwrap_or_default();
    let text = |amount: rust_decimal::Decimal| amount.normalize().to_string();
    Repriced {
        name,
        earned: text(earned),
        would_have_earned: text(would_have_earned),
        difference: text(difference),
    }
}

/// Makes a change. Made again, it changes nothing.
pub(in crate::app) async fn apply(
    app: &App,
    change: &PriceChange,
    reason: &str,
    actor: &str,
) -> Result<PricePlan, PricesError> {
    validate(app, change)?;
    texts::check(JOB, reason, actor)?;
    retry("apply prices", || async {
        let mut tx = app.store.begin().await?;
        let outcome = apply_once(&mut tx, change, reason, actor).await;
        store::finish(tx, outcome).await
    })
    .await
}

fn validate(app: &App, change: &PriceChange) -> Result<(), PricesError> {
    if change.prices.is_empty() {
        return Err(PricesError::Empty);
    }
    for (service, &price) in &change.prices {
        let settings = &app.settings;
        let is_known =
            settings.prices.contains_key(service) || settings.free_quotas.contains_key(service);
        if !is_known {
            return Err(PricesError::Unknown { service: service.clone() });
        }
        if price.is_negative() {
            return Err(PricesError::Negative { service: service.clone(), price });
        }
    }
    Ok(())
}

async fn apply_once(
    tx: &mut MySqlConnection,
    change: &PriceChange,
    reason: &str,
    actor: &str,
) -> Result<PricePlan, PricesError> {
    job_lease::take_turn(tx, JOB).await?;
    let now = store::now(tx).await?;
    let (plan, placed) = compare(tx, change, now).await?;
    if placed.is_empty() {
        return Ok(plan);
    }
    let at = moment(change, now);
    for (service, price, Placed { ends, until }) in placed {
        if let Some((id, _)) = ends {
            price_version::close(tx, id, at).await?;
            if at <= now {
                lease::end_price_version(tx, id, at).await?;
            } else {
                lease::bound_price_version(tx, id, at).await?;
            }
        }
        let new = NewVersion { service, price, set_by: "operator", from: at, until };
        price_version::open_book(tx, &new).await?;
    }
    let before: BTreeMap<_, _> =
        plan.changes.iter().map(|change| (&change.service, change.from)).collect();
    let line = AuditLine {
        actor,
        action: "prices.apply",
        subject: JOB,
        reason,
        before_json: serde_json::json!(before).to_string(),
        after_json: serde_json::json!(plan).to_string(),
    };
    audit_log::insert(tx, line).await?;
    Ok(plan)
}

type Change<'c> = (&'c ServiceName, Nanos, Placed);

/// What differs between the book and the change.
async fn compare<'c>(
    connection: &mut MySqlConnection,
    change: &'c PriceChange,
    now: DateTime<Utc>,
) -> Result<(PricePlan, Vec<Change<'c>>), PricesError> {
    let at = moment(change, now);
    let versions = price_version::all(connection).await?;
    let placed: Vec<Change<'c>> = change
        .prices
        .iter()
        .filter_map(|(service, &price)| {
            let of_service =
                |version: &&PriceVersion| version.source == "book" && version.service == *service;
            let timeline: Vec<&PriceVersion> = versions.iter().filter(of_service).collect();
            place(&timeline, at, price).map(|placed| (service, price, placed))
        })
        .collect();
    // Whoever repeats a change after its time hears that nothing changes.
    if at < now && !placed.is_empty() {
        return Err(PricesError::Past { at: rfc3339(at), now: rfc3339(now) });
    }
    let changes = placed
        .iter()
        .map(|&(service, to, placed)| PriceDifference {
            service: service.clone(),
            from: placed.ends.map(|(_, price)| price),
            to,
            until: placed.until.map(rfc3339),
        })
        .collect();
    Ok((PricePlan { effective: rfc3339(at), changes }, placed))
}

/// From when the change holds, as exactly as the database keeps it.
fn moment(change: &PriceChange, now: DateTime<Utc>) -> DateTime<Utc> {
    change.effective.map_or(now, |at| at.trunc_subsecs(3))
}

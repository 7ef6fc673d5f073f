//! Prices that operators set: now, or from a moment to come; for everybody, or for one account.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::{DateTime, SubsecRound, Utc};
use serde::{Serialize, Serializer};
use sqlx::mysql::MySqlConnection;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AnyOfBuilder, ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use farebox_core::id::{AccountId, ServiceName};
use farebox_core::money::Nanos;
use farebox_core::tariff::Tariff;

use super::JOB;
use super::timeline::{Placed, place};
use crate::app::books::new_id;
use crate::app::texts::{self, LengthError};
use crate::app::{App, rfc3339};
use crate::store::audit_log::{self, AuditLine};
use crate::store::lease::{self, Priced};
use crate::store::price_version::{self, Lock, NewVersion, PriceVersion};
use crate::store::retry::{MayBeStore, retry};
use crate::store::{self, StoreError, job_lease};

/// What an account is to pay for a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewPrice {
    /// This.
    Price(Tariff),
    /// What everybody pays.
    Book,
}

impl NewPrice {
    fn own(&self) -> Option<&Tariff> {
        match self {
            Self::Price(price) => Some(price),
            Self::Book => None,
        }
    }
}

impl fmt::Display for NewPrice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Price(price) => price.fmt(f),
            Self::Book => f.write_str("book"),
        }
    }
}

impl PartialSchema for NewPrice {
    fn schema() -> RefOr<Schema> {
        AnyOfBuilder::new()
            .item(Tariff::schema())
            .item(ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["book"])))
            .description(Some("A price, or `book`: what everybody pays."))
            .into()
    }
}

impl ToSchema for NewPrice {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("PriceOrBook")
    }
}

impl Serialize for NewPrice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Price(price) => price.serialize(serializer),
            Self::Book => serializer.collect_str(self),
        }
    }
}

/// Prices to come into force together. What is not named stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PriceChange {
    /// What everybody pays who has no price of the own.
    pub prices: BTreeMap<ServiceName, Tariff>,
    /// What single accounts pay.
    pub accounts: BTreeMap<AccountId, BTreeMap<ServiceName, NewPrice>>,
    /// From when; `None` is now.
    pub effective: Option<DateTime<Utc>>,
}

/// For whom, for which service, and what; no price of the own for an account that pays what everybody does.
type Setting<'c> = (Option<&'c AccountId>, &'c ServiceName, Option<&'c Tariff>);

impl PriceChange {
    /// Everything that it sets, everybody's prices first.
    fn settings(&self) -> impl Iterator<Item = Setting<'_>> {
        let everybodys = self.prices.iter().map(|(service, price)| (None, service, Some(price)));
        let own = self.accounts.iter().flat_map(|(account, prices)| {
            prices.iter().map(move |(service, price)| (Some(account), service, price.own()))
        });
        everybodys.chain(own)
    }
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
    /// Whose price; absent for everybody's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    /// What is metered.
    pub service: ServiceName,
    /// The price until then; absent when there is none.
    pub from: Option<NewPrice>,
    /// The price from then on.
    pub to: NewPrice,
    /// Until when: where the next change stands already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// Why prices were not changed.
#[derive(Debug, thiserror::Error)]
pub enum PricesError {
    /// Nothing to set.
    #[error(
        "prices names no service; write at least one, such as `passport: 0.001`, or one of an account under accounts"
    )]
    Empty,
    /// A service that calls are refused for.
    #[error(
        "{field}: farebox.yaml names no such service; correct the name, or add it to billing.prices or billing.free_quotas first"
    )]
    Unknown {
        /// Where it was named.
        field: String,
    },
    /// A price below zero.
    #[error("{field} is {price}: negative; write 0 or more")]
    Negative {
        /// Where it was named.
        field: String,
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

/// Requires that the change names something, and services that are metered.
pub(super) fn validate(app: &App, change: &PriceChange) -> Result<(), PricesError> {
    if change.settings().next().is_none() {
        return Err(PricesError::Empty);
    }
    for (account, service, price) in change.settings() {
        let field = || match account {
            None => format!("prices.{service}"),
            Some(account) => format!("accounts.{account}.{service}"),
        };
        if !app.settings.is_metered(service) {
            return Err(PricesError::Unknown { field: field() });
        }
        if let Some(price) = price.and_then(Tariff::negative) {
            return Err(PricesError::Negative { field: field(), price });
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
    let versions = price_version::all(tx).await?;
    let (plan, placed) = compare(&versions, change, now)?;
    let at = moment(change, now);
    for step in placed {
        set(tx, &step, at, now).await?;
    }
    tell(tx, &plan, reason, actor).await?;
    Ok(plan)
}

/// Ends the version that held until `at`, begins the new one, and lets no lease reach beyond.
async fn set(
    tx: &mut MySqlConnection,
    step: &Step<'_>,
    at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let &Step { account, service, tariff, placed: Placed { ends, until } } = step;
    if let Some(account) = account {
        // A lease may be made at this moment at everybody's price: it is waited for, and then seen.
        price_version::lock(tx, account, service, now, Lock::Change).await?;
    }
    if let Some(version) = ends {
        price_version::close(tx, version, at).await?;
    }
    let priced = match (account, ends) {
        // An account's leases may be at everybody's price so far.
        (Some(account), _) => Some(Priced::Of(account, service)),
        (None, ends) => ends.map(|version| Priced::At(&version.ids)),
    };
    match priced {
        Some(priced) if at <= now => lease::end_price(tx, priced, at).await?,
        Some(priced) => lease::bound_price(tx, priced, at).await?,
        None => {}
    }
    if let Some(tariff) = tariff {
        let (rate, set_by, from) = (new_id(), "operator", at);
        let new = NewVersion { service, account, tariff, rate, set_by, from, until };
        price_version::open_book(tx, &new).await?;
    }
    Ok(())
}

/// Writes into the audit log what changes: one line for everybody's prices, and one for each account's.
async fn tell(
    tx: &mut MySqlConnection,
    plan: &PricePlan,
    reason: &str,
    actor: &str,
) -> Result<(), StoreError> {
    let whose: BTreeSet<&Option<AccountId>> =
        plan.changes.iter().map(|change| &change.account).collect();
    for account in whose {
        let changes: Vec<&PriceDifference> =
            plan.changes.iter().filter(|change| change.account == *account).collect();
        let before: BTreeMap<_, _> =
            changes.iter().map(|change| (&change.service, &change.from)).collect();
        let after = serde_json::json!({ "effective": plan.effective, "changes": changes });
        let line = AuditLine {
            actor,
            action: "prices.apply",
            subject: account.as_ref().map_or(JOB, AccountId::as_str),
            reason,
            before_json: serde_json::json!(before).to_string(),
            after_json: after.to_string(),
        };
        audit_log::insert(tx, line).await?;
    }
    Ok(())
}

/// A price that is set, or taken away, and what that does to its timeline.
pub(super) struct Step<'c> {
    account: Option<&'c AccountId>,
    service: &'c ServiceName,
    tariff: Option<&'c Tariff>,
    placed: Placed<'c>,
}

impl Step<'_> {
    fn difference(&self) -> PriceDifference {
        let before = self.placed.ends.map(|version| NewPrice::Price(version.tariff.clone()));
        PriceDifference {
            account: self.account.cloned(),
            service: self.service.clone(),
            from: before.or_else(|| self.account.map(|_| NewPrice::Book)),
            to: self.tariff.map_or(NewPrice::Book, |tariff| NewPrice::Price(tariff.clone())),
            until: self.placed.until.map(rfc3339),
        }
    }
}

/// What differs between the book and the change.
pub(super) fn compare<'c>(
    versions: &'c [PriceVersion],
    change: &'c PriceChange,
    now: DateTime<Utc>,
) -> Result<(PricePlan, Vec<Step<'c>>), PricesError> {
    let at = moment(change, now);
    let step = |(account, service, tariff): Setting<'c>| {
        let timeline: Vec<&PriceVersion> =
            versions.iter().filter(|version| is_of(version, account, service)).collect();
        place(&timeline, at, tariff).map(|placed| Step { account, service, tariff, placed })
    };
    let steps: Vec<Step<'c>> = change.settings().filter_map(step).collect();
    // Whoever repeats a change after its time hears that nothing changes.
    if at < now && !steps.is_empty() {
        return Err(PricesError::Past { at: rfc3339(at), now: rfc3339(now) });
    }
    let changes = steps.iter().map(Step::difference).collect();
    Ok((PricePlan { effective: rfc3339(at), changes }, steps))
}

/// Whether the version is of this timeline of the book.
pub(super) fn is_of(
    version: &PriceVersion,
    account: Option<&AccountId>,
    service: &ServiceName,
) -> bool {
    version.source == "book" && version.account.as_ref() == account && version.service == *service
}

/// From when the change holds, as exactly as the database keeps it.
pub(super) fn moment(change: &PriceChange, now: DateTime<Utc>) -> DateTime<Utc> {
    change.effective.map_or(now, |at| at.trunc_subsecs(3))
}

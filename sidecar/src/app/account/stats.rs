//! What a user used: today, this month, by service. Told from the sums that are written with the records.

use chrono::{Datelike as _, Days, Months, NaiveDate};
use farebox_core::id::{AccountId, ServiceName};
use farebox_core::money::Nanos;
use serde::Serialize;

use super::ViewError;
use crate::app::{App, rfc3339};
use crate::calendar::{day_of, start_of};
use crate::store::column::time_text;
use crate::store::retry::retry;
use crate::store::usage_day::{self, Usage};
use crate::store::{self, StoreError, user_balance};

/// A time that statistics are about, in the billing time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// Since midnight.
    Today,
    /// Since the first of the month.
    Month,
}

/// What was used of one service, or of all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct UsageView {
    /// Units that were charged: free ones and paid ones.
    pub total_count: u64,
    /// Units that the free quota paid for.
    pub free_count: u64,
    /// Units that money paid for, or that are owed.
    pub paid_count: u64,
    /// Money that was charged, the owed part included.
    pub total_cost: Nanos,
    /// The part of it that found no money.
    pub owed: Nanos,
    /// Units that went back in this time, of whenever they had been charged.
    pub refunded_count: u64,
    /// Money that went back in this time.
    pub refunded_cost: Nanos,
}

/// What one service was used for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ServiceUsageView {
    /// What is metered.
    pub service_name: String,
    /// How much.
    #[serde(flatten)]
    pub usage: UsageView,
}

/// What a user used in a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct StatsView {
    /// Who.
    pub user_id: String,
    /// Of this service only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// Which time.
    pub period: Period,
    /// When it begins, RFC 3339.
    pub from: String,
    /// When it ends; what happens at this moment is not in it.
    pub to: String,
    /// Of all amounts, ISO 4217.
    pub currency: String,
    /// How much.
    #[serde(flatten)]
    pub usage: UsageView,
}

/// What a user used this month, by service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct SummaryView {
    /// Who.
    pub user_id: String,
    /// The month, `YYYY-MM`.
    pub month: String,
    /// When it begins, RFC 3339.
    pub from: String,
    /// When it ends.
    pub to: String,
    /// Of all amounts, ISO 4217.
    pub currency: String,
    /// Of all services together.
    #[serde(flatten)]
    pub usage: UsageView,
    /// Each of them, in order of their names.
    pub services: Vec<ServiceUsageView>,
}

impl Period {
    /// Its first day, and the first one after it.
    fn days(self, today: NaiveDate) -> (NaiveDate, NaiveDate) {
        let first = today.with_day(1).unwrap_or(today);
        match self {
            Self::Today => (today, today.checked_add_days(Days::new(1)).unwrap_or(today)),
            Self::Month => (first, first.checked_add_months(Months::new(1)).unwrap_or(today)),
        }
    }
}

impl UsageView {
    fn plus(self, usage: &Usage) -> Option<Self> {
        let Usage { units, amount, owed, refunded_units, refunded } = usage;
        Some(Self {
            total_count: self.total_count.checked_add(units.total())?,
            free_count: self.free_count.checked_add(units.free)?,
            paid_count: self.paid_count.checked_add(units.paid)?,
            total_cost: self.total_cost.checked_add(*amount)?,
            owed: self.owed.checked_add(*owed)?,
            refunded_count: self.refunded_count.checked_add(refunded_units.total())?,
            refunded_cost: self.refunded_cost.checked_add(*refunded)?,
        })
    }
}

/// What is known of a period.
struct Known {
    days: (NaiveDate, NaiveDate),
    currency: String,
    services: Vec<(String, Usage)>,
}

impl Known {
    async fn load(app: &App, account: &AccountId, period: Period) -> Result<Self, StoreError> {
        let mut connection = app.store.acquire().await?;
        let now = store::now(&mut connection).await?;
        let days = period.days(day_of(now, app.settings.time_zone));
        let (from, to) = days;
        let services = usage_day::sums(&mut connection, account, from, to).await?;
        let balance = user_balance::find(&mut connection, account).await?;
        let currency =
            balance.map_or_else(|| app.settings.currency.clone(), |balance| balance.currency);
        Ok(Self { days, currency, services })
    }

    fn bounds(&self, app: &App) -> (String, String) {
        let bound = |day| rfc3339(start_of(day, app.settings.time_zone));
        (bound(self.days.0), bound(self.days.1))
    }

    fn total(&self, account: &AccountId) -> Result<UsageView, StoreError> {
        let mut usages = self.services.iter().map(|(_, usage)| usage);
        let total = usages.try_fold(UsageView::default(), UsageView::plus);
        total.ok_or_else(|| StoreError::Corrupt {
            table: "usage_day",
            column: "amount",
            key: account.to_string(),
        })
    }
}

pub(in crate::app) async fn stats(
    app: &App,
    account: &AccountId,
    period: Period,
    service: Option<&ServiceName>,
) -> Result<StatsView, ViewError> {
    let mut known = Known::load(app, account, period).await?;
    if let Some(service) = service {
        known.services.retain(|(name, _)| name == service.as_str());
    }
    let (from, to) = known.bounds(app);
    let usage = known.total(account)?;
    let (user_id, service_name) = (account.to_string(), service.map(ServiceName::to_string));
    Ok(StatsView { user_id, service_name, period, from, to, currency: known.currency, usage })
}

pub(in crate::app) async fn summary(
    app: &App,
    account: &AccountId,
) -> Result<SummaryView, ViewError> {
    let known = Known::load(app, account, Period::Month).await?;
    let (from, to) = known.bounds(app);
    let usage = known.total(account)?;
    let service = |(name, usage): &(String, Usage)| {
        let usage = UsageView::default().plus(usage).unwrap_or_default();
        ServiceUsageView { service_name: name.clone(), usage }
    };
    Ok(SummaryView {
        user_id: account.to_string(),
        month: known.days.0.format("%Y-%m").to_string(),
        from,
        to,
        services: known.services.iter().map(service).collect(),
        currency: known.currency,
        usage,
    })
}

/// Sums up the records of the days from the month before this one to today.
pub(in crate::app) async fn begin(app: &App) -> Result<u64, StoreError> {
    let zone = app.settings.time_zone;
    retry("statistics", || async {
        let mut tx = app.store.begin().await?;
        let outcome = async {
            let (today, _) = Period::Today.days(day_of(store::now(&mut tx).await?, zone));
            let (this_month, _) = Period::Month.days(today);
            let first = this_month.checked_sub_months(Months::new(1)).unwrap_or(this_month);
            let days = first.iter_days().take_while(|day| *day <= today);
            let days: Vec<usage_day::Day> = days
                .map(|day| usage_day::Day {
                    day: day.to_string(),
                    from: time_text(start_of(day, zone)),
                    to: time_text(start_of(day.succ_opt().unwrap_or(day), zone)),
                })
                .collect();
            usage_day::backfill(&mut tx, &days).await
        }
        .await;
        store::finish(tx, outcome).await
    })
    .await
}

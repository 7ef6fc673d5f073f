//! What an account's owner and its operators see.

use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::mysql::MySqlConnection;

use farebox_core::id::AccountId;
use farebox_core::money::Nanos;

use crate::app::page::PageError;
use crate::app::{App, rfc3339};
use crate::calendar::Month;
use crate::metrics;
use crate::store::billing_record::{self, Record};
use crate::store::free_quota::{self, Quota};
use crate::store::{self, StoreError, user_balance};

pub(super) mod many;
pub(super) mod records;
pub(super) mod statement;
pub(super) mod stats;

pub use self::many::{AccountStanding, Found};
pub use self::records::{RecordFilter, RecordPage};
pub use self::statement::{MovementView, StatementView};
pub use self::stats::{Period, ServiceUsageView, StatsView, SummaryView, UsageView};

/// An account at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct AccountView {
    /// Whose account.
    pub account: String,
    /// The currency of every amount.
    pub currency: String,
    /// Prepaid money, held money included.
    pub balance: Nanos,
    /// Money that leases and reservations hold.
    pub held: Nanos,
    /// What may be spent: balance and credit limit, minus held.
    pub available: Nanos,
    /// What the account owes for usage that found no money left.
    pub receivable: Nanos,
    /// How far below zero the balance may go.
    pub credit_limit: Nanos,
    /// Whether nothing of it may be used.
    pub frozen: bool,
    /// Since when, RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen_at: Option<String>,
    /// Why an operator froze it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen_reason: Option<String>,
    /// This month's free quotas, by service.
    pub free_quotas: Vec<FreeQuotaView>,
    /// The newest billing records, newest first.
    pub records: Vec<RecordView>,
}

/// One service's free quota of the current month, in units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FreeQuotaView {
    /// What is metered.
    pub service: String,
    /// The month, `YYYY-MM`.
    pub month: String,
    /// Units per month.
    pub total: u64,
    /// Units used.
    pub used: u64,
    /// Units that leases and reservations hold.
    pub held: u64,
    /// Units neither used nor held.
    pub remaining: u64,
}

/// One billing record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct RecordView {
    /// Its id.
    pub id: String,
    /// What was metered.
    pub service: String,
    /// `free`, `balance` or `mixed`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `lease`, `late`, `lost`, `journal`, `deduct`, `reserve`, `legacy`, or `package`: that one counts packages, not units.
    pub source: String,
    /// Units.
    pub count: u64,
    /// Units of the free quota.
    pub free_units: u64,
    /// Units paid with money.
    pub paid_units: u64,
    /// Price per paid unit.
    pub unit_price: Option<Nanos>,
    /// Money charged, the owed part included.
    pub amount: Nanos,
    /// The part of the amount that found no money left.
    pub owed: Nanos,
    /// Units that went back.
    pub refunded_units: u64,
    /// Money that went back.
    pub refunded_amount: Nanos,
    /// The app that a call of billing-service was for; absent on all other records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_id: Option<String>,
    /// When it was booked, RFC 3339 in UTC.
    pub created_at: String,
}

/// What a user sees of the own account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct OwnAccountView {
    /// Whose account.
    pub user_id: String,
    /// The currency of every amount, ISO 4217.
    pub currency: String,
    /// Prepaid money, held money included.
    pub balance: Nanos,
    /// Money that leases and reservations hold for calls to come.
    pub held: Nanos,
    /// What may be spent: balance and credit limit, minus held.
    pub available: Nanos,
    /// What is owed for usage that found no money left; the next money pays it first.
    pub receivable: Nanos,
    /// How far below zero the balance may go.
    pub credit_limit: Nanos,
    /// Whether an operator froze the account: nothing of it may be used, whatever there is.
    pub frozen: bool,
    /// The month of the free quotas, `YYYY-MM`, in the billing time zone.
    pub month: String,
    /// This month's free quotas, in order of the services' names.
    pub free_quotas: Vec<FreeQuotaView>,
}

/// Why something cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// No such page.
    #[error(transparent)]
    Page(#[from] PageError),
    /// No month.
    #[error("month is {month:?}; write a year and a month such as 2026-11")]
    Month {
        /// What was asked for.
        month: String,
    },
    /// The database's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How many records a view shows.
const RECORDS: u64 = 20;

/// What a user sees. Nothing is written: an account that does not exist yet has nothing, and the quotas it will begin with.
pub(super) async fn own(app: &App, account: &AccountId) -> Result<OwnAccountView, ViewError> {
    let found = view(app, account).await?;
    let mut connection = app.store.acquire().await?;
    let month = Month::at(store::now(&mut connection).await?, app.settings.time_zone).text;
    let view = found.unwrap_or_else(|| AccountView {
        account: account.to_string(),
        currency: app.settings.currency.clone(),
        balance: Nanos::ZERO,
        held: Nanos::ZERO,
        available: Nanos::ZERO,
        receivable: Nanos::ZERO,
        credit_limit: Nanos::ZERO,
        frozen: false,
        frozen_at: None,
        frozen_reason: None,
        free_quotas: quota_views(app, Vec::new(), &month),
        records: Vec::new(),
    });
    let AccountView {
        account,
        currency,
        balance,
        held,
        available,
        receivable,
        credit_limit,
        frozen,
        free_quotas,
        ..
    } = view;
    let month = free_quotas.first().map_or(month, |quota| quota.month.clone());
    Ok(OwnAccountView {
        user_id: account,
        currency,
        balance,
        held,
        available,
        receivable,
        credit_limit,
        frozen,
        month,
        free_quotas,
    })
}

pub(super) async fn view(
    app: &App,
    account: &AccountId,
) -> Result<Option<AccountView>, StoreError> {
    let mut connection = app.store.acquire().await?;
    let mut tx = store::begin_snapshot(&mut connection).await?;
    let view = read(&mut tx, app, account).await;
    // Nothing was written: only the snapshot ends.
    tx.rollback().await?;
    view
}

async fn read(
    tx: &mut MySqlConnection,
    app: &App,
    account: &AccountId,
) -> Result<Option<AccountView>, StoreError> {
    metrics::account_told();
    let Some(balance) = user_balance::find(tx, account).await? else { return Ok(None) };
    let month = Month::at(store::now(tx).await?, app.settings.time_zone).text;
    let quotas = free_quota::find_month(tx, account, &month).await?;
    let records = billing_record::newest(tx, account, RECORDS).await?;
    let available = balance.available().ok_or_else(|| StoreError::Corrupt {
        table: "user_balance",
        column: "held",
        key: account.to_string(),
    })?;
    Ok(Some(AccountView {
        account: account.to_string(),
        currency: balance.currency,
        balance: balance.balance,
        held: balance.held,
        available,
        receivable: balance.receivable,
        credit_limit: balance.credit_limit,
        frozen: balance.frozen.is_some(),
        frozen_at: balance.frozen.as_ref().map(|frozen| rfc3339(frozen.since)),
        frozen_reason: balance.frozen.map(|frozen| frozen.reason),
        free_quotas: quota_views(app, quotas, &month),
        records: records.into_iter().map(record_view).collect(),
    }))
}

/// The month's rows, and what the services without a row would start with: a view creates nothing.
fn quota_views(app: &App, quotas: Vec<Quota>, month: &str) -> Vec<FreeQuotaView> {
    let untouched = app.settings.free_quotas.iter().map(|(service, &total)| FreeQuotaView {
        service: service.to_string(),
        month: month.to_owned(),
        total,
        used: 0,
        held: 0,
        remaining: total,
    });
    let mut views: BTreeMap<String, FreeQuotaView> =
        untouched.map(|view| (view.service.clone(), view)).collect();
    // A row that was made ahead and is not used yet counts as none.
    for quota in quotas.into_iter().filter(|quota| !quota.is_prepared()) {
        let view = FreeQuotaView {
            service: quota.key.service.to_string(),
            month: month.to_owned(),
            total: quota.total,
            used: quota.used,
            held: quota.held,
            remaining: quota.remaining(),
        };
        views.insert(view.service.clone(), view);
    }
    views.into_values().collect()
}

fn record_view(record: Record) -> RecordView {
    RecordView {
        id: record.id,
        service: record.service,
        kind: record.payment,
        source: record.source,
        count: record.count,
        free_units: record.free_units,
        paid_units: record.paid_units,
        unit_price: record.unit_price,
        amount: record.amount,
        owed: record.owed,
        refunded_units: record.refunded.total(),
        // A part of the amount, so it does not overflow.
        refunded_amount: record
            .unit_price
            .and_then(|price| price.checked_mul(record.refunded.paid))
            .unwrap_or(Nanos::ZERO),
        app_id: record.legacy_app,
        created_at: rfc3339(record.created_at),
    }
}

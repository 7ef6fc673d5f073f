//! Many accounts at one moment, with a few statements in all.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use sqlx::mysql::MySqlConnection;

use farebox_core::id::AccountId;
use farebox_core::money::Nanos;

use super::{FreeQuotaView, OwnAccountView, quota_views};
use crate::app::App;
use crate::calendar::Month;
use crate::metrics;
use crate::store::column::OnCorrupt;
use crate::store::free_quota::{self, Quota};
use crate::store::user_balance::{self, Balance};
use crate::store::{self, StoreError};

/// What an account has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccountStanding {
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
    /// Whether an operator froze the account.
    pub frozen: bool,
    /// The month of the free quotas, `YYYY-MM`.
    pub month: String,
    /// This month's free quotas, in order of the services' names.
    pub free_quotas: Vec<FreeQuotaView>,
}

impl From<AccountStanding> for OwnAccountView {
    fn from(standing: AccountStanding) -> Self {
        let AccountStanding {
            account,
            currency,
            balance,
            held,
            available,
            receivable,
            credit_limit,
            frozen,
            month,
            free_quotas,
        } = standing;
        Self {
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
        }
    }
}

/// What was found under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// An account.
    Account(Box<AccountStanding>),
    /// None.
    Nothing,
    /// Rows that cannot be read; the log says more.
    Unreadable,
}

/// What each of the names stands for, in order.
pub(in crate::app) async fn find(
    app: &App,
    accounts: &[AccountId],
) -> Result<Vec<Found>, StoreError> {
    // Waited for without a connection, as by checks: gateways' messages find connections all the same.
    let turn = app.turns.checks.acquire().await;
    let mut connection = app.store.acquire().await?;
    let mut tx = store::begin_snapshot(&mut connection).await?;
    let found = read(&mut tx, app, accounts).await;
    // Nothing was written: only the snapshot ends.
    tx.rollback().await?;
    drop(turn);
    found
}

async fn read(
    tx: &mut MySqlConnection,
    app: &App,
    accounts: &[AccountId],
) -> Result<Vec<Found>, StoreError> {
    let names: BTreeSet<&AccountId> = accounts.iter().collect();
    let names: Vec<&AccountId> = names.into_iter().collect();
    let month = Month::at(store::now(tx).await?, app.settings.time_zone).text;
    let balances = user_balance::find_all(tx, &names, OnCorrupt::Skip).await?;
    let mut quotas: BTreeMap<AccountId, Vec<Quota>> = BTreeMap::new();
    for quota in free_quota::find_month_of(tx, &names, &month).await? {
        quotas.entry(quota.key.account.clone()).or_default().push(quota);
    }
    let mut found: BTreeMap<AccountId, Found> = balances
        .into_iter()
        .map(|balance| {
            metrics::account_told();
            let quotas = quotas.remove(&balance.account).unwrap_or_default();
            let account = balance.account.clone();
            (account, standing(app, balance, quotas, &month))
        })
        .collect();
    if found.len() < names.len() {
        for account in user_balance::existing(tx, &names).await? {
            found.entry(account).or_insert(Found::Unreadable);
        }
    }
    let one = |account| found.get(account).cloned().unwrap_or(Found::Nothing);
    Ok(accounts.iter().map(one).collect())
}

fn standing(app: &App, balance: Balance, quotas: Vec<Quota>, month: &str) -> Found {
    let Some(available) = balance.available() else { return Found::Unreadable };
    let Balance { account, balance, held, receivable, credit_limit, currency, frozen, .. } =
        balance;
    Found::Account(Box::new(AccountStanding {
        account: account.to_string(),
        currency,
        balance,
        held,
        available,
        receivable,
        credit_limit,
        frozen: frozen.is_some(),
        month: month.to_owned(),
        free_quotas: quota_views(app, quotas, month),
    }))
}

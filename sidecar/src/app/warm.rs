//! A database that has just been started, or has just become the primary, has nothing in memory: each first call of an account
//! then waits for pages of the disk, under the account's lock. This reads them before, by the statements that calls read by.
//!
//! Nothing is written, and nothing is kept anywhere else: hints in Redis live for a second, so none made now would be there
//! when the traffic comes, and a sidecar keeps no account in memory.

use std::collections::BTreeSet;

use serde::Serialize;
use tokio::time::Instant;

use farebox_core::id::AccountId;

use crate::app::App;
use crate::calendar::Month;
use crate::store::column::OnCorrupt;
use crate::store::free_quota::QuotaKey;
use crate::store::user_balance::list;
use crate::store::{self, StoreError, free_quota, lease, user_balance};

/// The most accounts that one statement reads.
const ACCOUNTS_PER_ROUND: usize = 1_000;

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Warmed {
    /// Accounts.
    pub accounts: u64,
    /// Their free quotas of this month.
    pub free_quotas: u64,
    /// Their open leases.
    pub leases: u64,
    /// How long it took.
    pub took_ms: u64,
}

/// Reads the rows of the accounts that changed most recently, so many at most.
pub(super) async fn run(app: &App, accounts: u32) -> Result<Warmed, StoreError> {
    let started = Instant::now();
    let mut connection = app.store.acquire().await?;
    let month = Month::at(store::now(&mut connection).await?, app.settings.time_zone).text;
    let services: BTreeSet<_> =
        app.settings.free_quotas.keys().chain(app.settings.prices.keys()).collect();
    let names = list::newest(&mut connection, accounts).await?;
    let mut warmed = Warmed::default();
    for page in names.chunks(ACCOUNTS_PER_ROUND) {
        let page: Vec<&AccountId> = page.iter().collect();
        let keys: Vec<QuotaKey> = page
            .iter()
            .flat_map(|&account| services.iter().map(move |&service| (account, service)))
            .map(|(account, service)| QuotaKey {
                account: account.clone(),
                service: service.clone(),
                month: month.clone(),
            })
            .collect();
        let keys: Vec<&QuotaKey> = keys.iter().collect();
        let balances = user_balance::find_all(&mut connection, &page, OnCorrupt::Skip).await?;
        let quotas = free_quota::find(&mut connection, &keys, OnCorrupt::Skip).await?;
        let leases = lease::find_open(&mut connection, &page, OnCorrupt::Skip).await?;
        warmed.accounts += balances.len() as u64;
        warmed.free_quotas += quotas.len() as u64;
        warmed.leases += leases.len() as u64;
    }
    warmed.took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(warmed)
}

//! Accounts in pages, for operators.

use farebox_core::id::AccountId;
use farebox_core::money::Nanos;
use serde::Serialize;

use crate::app::App;
use crate::app::page::{self, PageError, Place as _};
use crate::store::StoreError;
use crate::store::user_balance::Balance;
use crate::store::user_balance::list;

/// Which accounts a page has.
#[derive(Debug, Clone, Default)]
pub struct AccountFilter {
    /// Those whose names begin so; all of them when it is not said. It is a name as far as it goes.
    pub prefix: Option<AccountId>,
    /// How many at most, 1 to 200; 20 when it is not said.
    pub limit: Option<u32>,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

/// One account of a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct AccountLine {
    /// Whose account.
    pub account: String,
    /// The currency of every amount.
    pub currency: String,
    /// Prepaid money, held money included.
    pub balance: Nanos,
    /// Money that leases and reservations hold.
    pub held: Nanos,
    /// What the account owes for usage that found no money left.
    pub receivable: Nanos,
    /// How far below zero the balance may go.
    pub credit_limit: Nanos,
    /// Whether nothing of it may be used.
    pub frozen: bool,
}

/// Accounts, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct AccountPage {
    /// The accounts.
    pub accounts: Vec<AccountLine>,
    /// What to ask for to see the next ones; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Why accounts cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    /// No such page.
    #[error(transparent)]
    Page(#[from] PageError),
    /// The database's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(super) async fn page(app: &App, filter: &AccountFilter) -> Result<AccountPage, AccountsError> {
    let limit = page::limit(filter.limit)?;
    let after: String = page::after(filter.cursor.as_deref())?.unwrap_or_default();
    let prefix = filter.prefix.as_ref().map_or("", AccountId::as_str);
    let mut connection = app.store.acquire().await?;
    let listed = list::list(&mut connection, prefix, &after, limit).await?;
    let next_cursor = listed.end.map(|account| account.to_text());
    Ok(AccountPage { accounts: listed.rows.into_iter().map(line).collect(), next_cursor })
}

fn line(balance: Balance) -> AccountLine {
    AccountLine {
        account: balance.account.to_string(),
        currency: balance.currency,
        balance: balance.balance,
        held: balance.held,
        receivable: balance.receivable,
        credit_limit: balance.credit_limit,
        frozen: balance.frozen.is_some(),
    }
}

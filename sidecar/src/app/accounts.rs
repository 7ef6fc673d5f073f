//! Accounts in pages, for operators.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use farebox_core::id::AccountId;
use farebox_core::money::Nanos;
use serde::Serialize;

use crate::app::App;
use crate::store::StoreError;
use crate::store::user_balance::Balance;
use crate::store::user_balance::list::{self, Listed};

/// Which accounts a page has.
#[derive(Debug, Clone, Default)]
pub struct AccountFilter {
    /// Those whose names begin so; all of them when it is not said. It is a name as far as it goes.
    pub prefix: Option<AccountId>,
    /// How many at most, 1 to [`LIMIT_MAX`]; 20 when it is not said.
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
    /// A page size out of bounds.
    #[error("limit is {limit}; write 1 to {LIMIT_MAX}")]
    Limit {
        /// What was asked for.
        limit: u32,
    },
    /// A cursor that no page gave.
    #[error(
        "cursor cannot be read; write the next_cursor of the page before, or none for the first page"
    )]
    Cursor,
    /// The database's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The most accounts of one page, and how many there are when nothing is said.
const LIMIT_MAX: u32 = 200;
const LIMIT: u32 = 20;

pub(super) async fn page(app: &App, filter: &AccountFilter) -> Result<AccountPage, AccountsError> {
    let limit = filter.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(AccountsError::Limit { limit });
    }
    let after = filter.cursor.as_deref().map(read_cursor).transpose()?.unwrap_or_default();
    let prefix = filter.prefix.as_ref().map_or("", AccountId::as_str);
    let mut connection = app.store.acquire().await?;
    let Listed { balances, end } = list::list(&mut connection, prefix, &after, limit).await?;
    let next_cursor = end.map(|account| URL_SAFE_NO_PAD.encode(account));
    Ok(AccountPage { accounts: balances.into_iter().map(line).collect(), next_cursor })
}

fn read_cursor(text: &str) -> Result<String, AccountsError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| AccountsError::Cursor)?;
    let account = String::from_utf8(bytes).map_err(|_| AccountsError::Cursor)?;
    if account.is_empty() { Err(AccountsError::Cursor) } else { Ok(account) }
}

fn line(balance: Balance) -> AccountLine {
    AccountLine {
        account: balance.account.to_string(),
        currency: balance.currency,
        balance: balance.balance,
        held: balance.held,
        receivable: balance.receivable,
    }
}

//! Accounts that operators freeze: nothing of them can be used, neither money nor free units, until they are thawed. Money may
//! come in, what is set aside may be charged or given back, and what was used is charged.
//!
//! What decides about usage reads the account's row under its lock. So once the freeze is committed nothing new is granted or
//! charged; what gateways hold by then is recalled in the same transaction.

use std::collections::BTreeSet;

use serde::Serialize;
use sqlx::mysql::MySqlConnection;

use farebox_core::id::AccountId;

use crate::app::books::{Books, Create, LeaseSelection};
use crate::app::texts::{self, LengthError};
use crate::app::{App, rfc3339};
use crate::store::audit_log::{self, AuditLine};
use crate::store::column::OnCorrupt;
use crate::store::retry::{MayBeStore, retry};
use crate::store::user_balance::Frozen;
use crate::store::{self, StoreError};

/// Where an account stands after it was frozen or thawed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FreezeOutcome {
    /// Which account.
    pub account: String,
    /// Whether nothing of it can be used.
    pub frozen: bool,
    /// Since when, RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen_at: Option<String>,
    /// Why, as whoever froze it said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen_reason: Option<String>,
    /// Whether this was done now; it stood like this before otherwise.
    pub changed: bool,
    /// Leases of gateways that were recalled.
    pub recalled_leases: usize,
}

/// Why an account was neither frozen nor thawed.
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    /// A typing error must not look like a frozen account.
    #[error("there is no account {account}; it begins with its first call or credit")]
    NoAccount {
        /// What was named.
        account: AccountId,
    },
    /// A text beyond its column.
    #[error(transparent)]
    Length(#[from] LengthError),
    /// The database's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MayBeStore for FreezeError {
    fn into_store(self) -> Result<StoreError, Self> {
        match self {
            Self::Store(err) => Ok(err),
            other => Err(other),
        }
    }
}

/// What an operator orders.
struct Order<'a> {
    account: &'a AccountId,
    reason: &'a str,
    actor: &'a str,
}

pub(super) async fn freeze(
    app: &App,
    account: &AccountId,
    reason: &str,
    actor: &str,
) -> Result<FreezeOutcome, FreezeError> {
    texts::check_why(reason, actor)?;
    let order = Order { account, reason, actor };
    let outcome = retry("freeze", || async {
        let mut tx = app.store.begin().await?;
        let outcome = freeze_once(&mut tx, app, &order).await;
        store::finish(tx, outcome).await
    })
    .await?;
    // A check that was told a moment ago what there is would go on saying yes.
    app.cache.drop_hints(std::slice::from_ref(account)).await;
    Ok(outcome)
}

pub(super) async fn thaw(
    app: &App,
    account: &AccountId,
    reason: &str,
    actor: &str,
) -> Result<FreezeOutcome, FreezeError> {
    texts::check_why(reason, actor)?;
    let order = Order { account, reason, actor };
    retry("thaw", || async {
        let mut tx = app.store.begin().await?;
        let outcome = thaw_once(&mut tx, app, &order).await;
        store::finish(tx, outcome).await
    })
    .await
}

async fn freeze_once(
    tx: &mut MySqlConnection,
    app: &App,
    order: &Order<'_>,
) -> Result<FreezeOutcome, FreezeError> {
    let mut books = lock(tx, app, order.account).await?;
    if books.is_frozen(order.account)? {
        return Ok(outcome(&books, order.account, false, 0)?);
    }
    let open_of = BTreeSet::from([order.account.clone()]);
    books.load_leases(tx, &LeaseSelection { ids: Vec::new(), open_of }).await?;
    let recalled = books.recall_leases(order.account)?;
    let frozen = Frozen { since: books.now, reason: order.reason.to_owned() };
    change(tx, &mut books, order, Some(frozen)).await?;
    Ok(outcome(&books, order.account, true, recalled)?)
}

async fn thaw_once(
    tx: &mut MySqlConnection,
    app: &App,
    order: &Order<'_>,
) -> Result<FreezeOutcome, FreezeError> {
    let mut books = lock(tx, app, order.account).await?;
    let is_frozen = books.is_frozen(order.account)?;
    if is_frozen {
        change(tx, &mut books, order, None).await?;
    }
    Ok(outcome(&books, order.account, is_frozen, 0)?)
}

async fn lock(
    tx: &mut MySqlConnection,
    app: &App,
    account: &AccountId,
) -> Result<Books, FreezeError> {
    let accounts = BTreeSet::from([account.clone()]);
    let books = Books::lock(tx, &accounts, &app.settings, Create::No, OnCorrupt::Fail).await?;
    if !books.has(account) {
        return Err(FreezeError::NoAccount { account: account.clone() });
    }
    Ok(books)
}

/// Writes it, with its line in the audit log.
async fn change(
    tx: &mut MySqlConnection,
    books: &mut Books,
    order: &Order<'_>,
    frozen: Option<Frozen>,
) -> Result<(), StoreError> {
    let before = json(books, order.account)?;
    let action = if frozen.is_some() { "account.freeze" } else { "account.thaw" };
    books.set_frozen(tx, order.account, frozen).await?;
    books.store(tx).await?;
    let line = AuditLine {
        actor: order.actor,
        action,
        subject: order.account.as_str(),
        reason: order.reason,
        before_json: before,
        after_json: json(books, order.account)?,
    };
    audit_log::insert(tx, line).await
}

fn outcome(
    books: &Books,
    account: &AccountId,
    changed: bool,
    recalled_leases: usize,
) -> Result<FreezeOutcome, StoreError> {
    let frozen = books.balance(account)?.frozen.clone();
    Ok(FreezeOutcome {
        account: account.to_string(),
        frozen: frozen.is_some(),
        frozen_at: frozen.as_ref().map(|frozen| rfc3339(frozen.since)),
        frozen_reason: frozen.map(|frozen| frozen.reason),
        changed,
        recalled_leases,
    })
}

fn json(books: &Books, account: &AccountId) -> Result<String, StoreError> {
    let balance = books.balance(account)?;
    let frozen_at = balance.frozen.as_ref().map(|frozen| rfc3339(frozen.since));
    let frozen_reason = balance.frozen.as_ref().map(|frozen| &frozen.reason);
    Ok(serde_json::json!({
        "frozen": balance.frozen.is_some(),
        "frozen_at": frozen_at,
        "frozen_reason": frozen_reason,
        "balance": balance.balance,
        "held": balance.held,
    })
    .to_string())
}

//! How far below zero an account's balance may go: for users who pay afterwards.

use std::collections::BTreeSet;

use serde::Serialize;
use sqlx::mysql::MySqlConnection;

use farebox_core::id::AccountId;
use farebox_core::money::Nanos;

use crate::app::App;
use crate::app::books::{Books, Create, new_id};
use crate::app::texts::{self, LengthError};
use crate::store::audit_log::{self, AuditLine};
use crate::store::column::OnCorrupt;
use crate::store::retry::{MayBeStore, retry};
use crate::store::{self, StoreError};

/// An operator's change of a credit limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreditLimit {
    /// Whose.
    pub account: AccountId,
    /// How far below zero the balance may go from now on; 0 for not at all.
    pub limit: Nanos,
    /// Why, for the audit log.
    pub reason: String,
    /// Who ordered it, for the audit log.
    pub actor: String,
}

/// Where an account stands after its limit was set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct CreditLimitOutcome {
    /// Which account.
    pub account: String,
    /// The currency of every amount.
    pub currency: String,
    /// How far below zero the balance may go.
    pub credit_limit: Nanos,
    /// The balance, held money included.
    pub balance: Nanos,
    /// What may be spent: balance and credit limit, minus held.
    pub available: Nanos,
    /// What went to the account's receivable.
    pub collected: Nanos,
    /// Whether this was done now; it stood like this before otherwise.
    pub changed: bool,
    /// Whether the account began with this.
    pub new_account: bool,
}

/// Why a limit was not set.
#[derive(Debug, thiserror::Error)]
pub enum CreditLimitError {
    /// A balance that must stay above zero is none that this can say.
    #[error("the credit limit is {limit}; give 0 or more")]
    Negative {
        /// What was asked for.
        limit: Nanos,
    },
    /// Less than the account uses or holds of it.
    #[error(
        "{account} uses {in_use} {currency} of its credit limit, {held} of its money are held by leases and reservations; \
         set {in_use} or more, or less once money has come in or what is held has come back: freeze the account to have \
         gateways give it back"
    )]
    InUse {
        /// Whose limit.
        account: AccountId,
        /// The lowest limit that it can have now.
        in_use: Nanos,
        /// What leases and reservations hold.
        held: Nanos,
        /// Of all amounts.
        currency: String,
    },
    /// A text beyond its column.
    #[error(transparent)]
    Length(#[from] LengthError),
    /// The database's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MayBeStore for CreditLimitError {
    fn into_store(self) -> Result<StoreError, Self> {
        match self {
            Self::Store(err) => Ok(err),
            other => Err(other),
        }
    }
}

pub(super) async fn run(
    app: &App,
    new: &CreditLimit,
) -> Result<CreditLimitOutcome, CreditLimitError> {
    texts::check_why(&new.reason, &new.actor)?;
    if new.limit.is_negative() {
        return Err(CreditLimitError::Negative { limit: new.limit });
    }
    let outcome = retry("credit limit", || async {
        let mut tx = app.store.begin().await?;
        let outcome = once(&mut tx, app, new).await;
        store::finish(tx, outcome).await
    })
    .await?;
    // A check that was told a moment ago what there is would go on saying yes.
    app.cache.drop_hints(std::slice::from_ref(&new.account)).await;
    Ok(outcome)
}

async fn once(
    tx: &mut MySqlConnection,
    app: &App,
    new: &CreditLimit,
) -> Result<CreditLimitOutcome, CreditLimitError> {
    let account = &new.account;
    let accounts = BTreeSet::from([account.clone()]);
    let mut books = Books::lock(tx, &accounts, &app.settings, Create::Yes, OnCorrupt::Fail).await?;
    if books.balance(account)?.credit_limit == new.limit {
        return Ok(outcome(&books, account, Nanos::ZERO, false)?);
    }
    let in_use = books.limit_in_use(account)?;
    if new.limit < in_use {
        let balance = books.balance(account)?;
        return Err(CreditLimitError::InUse {
            account: account.clone(),
            in_use,
            held: balance.held,
            currency: balance.currency.clone(),
        });
    }
    let before = json(&books, account)?;
    books.set_credit_limit(tx, account, new.limit).await?;
    // What is owed counts against the limit, as what is below zero does: it moves there.
    let collected = books.collect(account, "credit_limit", &new_id())?;
    books.store(tx).await?;
    let line = AuditLine {
        actor: &new.actor,
        action: "account.credit_limit",
        subject: account.as_str(),
        reason: &new.reason,
        before_json: before,
        after_json: json(&books, account)?,
    };
    audit_log::insert(tx, line).await?;
    Ok(outcome(&books, account, collected, true)?)
}

fn outcome(
    books: &Books,
    account: &AccountId,
    collected: Nanos,
    changed: bool,
) -> Result<CreditLimitOutcome, StoreError> {
    let balance = books.balance(account)?;
    Ok(CreditLimitOutcome {
        account: account.to_string(),
        currency: balance.currency.clone(),
        credit_limit: balance.credit_limit,
        balance: balance.balance,
        available: books.available(account)?,
        collected,
        changed,
        new_account: books.is_new(account),
    })
}

fn json(books: &Books, account: &AccountId) -> Result<String, StoreError> {
    let balance = books.balance(account)?;
    Ok(serde_json::json!({
        "credit_limit": balance.credit_limit,
        "balance": balance.balance,
        "held": balance.held,
        "receivable": balance.receivable,
    })
    .to_string())
}

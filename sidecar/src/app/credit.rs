//! Money that operators add to an account or take from it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::mysql::MySqlConnection;

use farebox_core::id::AccountId;
use farebox_core::money::Nanos;

use crate::app::App;
use crate::app::books::{Books, Create};
use crate::app::texts::{self, LengthError};
use crate::metrics::{self, BalanceUpdate};
use crate::store::audit_log::{self, AuditLine};
use crate::store::column::OnCorrupt;
use crate::store::retry::{MayBeStore, retry};
use crate::store::user_balance::Balance;
use crate::store::{self, StoreError, idempotency_key};

/// An operator's change of a balance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credit {
    /// Whose balance.
    pub account: AccountId,
    /// Added; negative when taken.
    pub amount: Nanos,
    /// Why, for the audit log.
    pub reason: String,
    /// The caller's name for this change: repeated with the same content, it changes nothing more.
    pub key: String,
    /// Who ordered it, for the audit log.
    pub actor: String,
}

/// What a credit led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CreditOutcome {
    /// The balance after it.
    pub balance: Nanos,
    /// What went to the account's receivable.
    pub collected: Nanos,
    /// Whether the key was used before, so that nothing changed this time.
    #[serde(skip)]
    pub replayed: bool,
    /// Whether the account began with this credit.
    #[serde(skip)]
    pub new_account: bool,
}

/// Why a credit was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreditError {
    /// Nothing to add or take.
    #[error("the amount is 0; give an amount above or below it")]
    Zero,
    /// A text beyond its column.
    #[error(transparent)]
    Length(#[from] LengthError),
    /// The key was used for another account, amount or reason.
    #[error("key {key:?} was used for another credit; give this one a key of its own")]
    Conflict {
        /// The key.
        key: String,
    },
    /// A debit of more than the account may spend.
    #[error(
        "{account} has {available} {currency} available, less than {amount} {currency}; take at most what is available, \
         or wait until its leases give back what they hold"
    )]
    Insufficient {
        /// Whose balance.
        account: AccountId,
        /// What could be taken.
        available: Nanos,
        /// What was to be taken.
        amount: Nanos,
        /// Of both.
        currency: String,
    },
    /// A balance beyond what the column holds.
    #[error("a balance of {balance} and a credit of {amount} are more than 9223372036.854775807")]
    OutOfRange {
        /// The balance before.
        balance: Nanos,
        /// What was to be added.
        amount: Nanos,
    },
    /// The database's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MayBeStore for CreditError {
    fn into_store(self) -> Result<StoreError, Self> {
        match self {
            Self::Store(err) => Ok(err),
            other => Err(other),
        }
    }
}

/// What the keys of credits are kept apart by from those of other requests.
const SCOPE: &str = "account.credit";

pub(super) async fn run(app: &App, credit: &Credit) -> Result<CreditOutcome, CreditError> {
    validate(credit)?;
    retry("credit", || attempt(app, credit)).await
}

fn validate(credit: &Credit) -> Result<(), CreditError> {
    if credit.amount == Nanos::ZERO {
        return Err(CreditError::Zero);
    }
    Ok(texts::check(&credit.key, &credit.reason, &credit.actor)?)
}

async fn attempt(app: &App, credit: &Credit) -> Result<CreditOutcome, CreditError> {
    let mut tx = app.store.begin().await?;
    let outcome = once(&mut tx, app, credit).await;
    let outcome = store::finish(tx, outcome).await?;
    metrics::balance_updated(BalanceUpdate::Adjustment, u64::from(!outcome.replayed));
    Ok(outcome)
}

/// Makes a credit within a transaction of others.
pub(super) async fn once(
    tx: &mut MySqlConnection,
    app: &App,
    credit: &Credit,
) -> Result<CreditOutcome, CreditError> {
    let hash = body_hash(credit);
    if !idempotency_key::claim(tx, SCOPE, &credit.key, &hash).await? {
        return answer_again(tx, credit, &hash).await;
    }
    let account = &credit.account;
    let accounts = BTreeSet::from([account.clone()]);
    let mut books = Books::lock(tx, &accounts, &app.settings, Create::Yes, OnCorrupt::Fail).await?;
    let before = balance_json(books.balance(account)?);
    let collected = change_balance(&mut books, credit)?;
    books.store(tx).await?;

    let after = books.balance(account)?;
    let line = AuditLine {
        actor: &credit.actor,
        action: SCOPE,
        subject: account.as_str(),
        reason: &credit.reason,
        before_json: before,
        after_json: balance_json(after),
    };
    audit_log::insert(tx, line).await?;
    let outcome = CreditOutcome {
        balance: after.balance,
        collected,
        replayed: false,
        new_account: books.is_new(account),
    };
    let response = serde_json::to_string(&outcome).unwrap_or_default();
    idempotency_key::complete(tx, SCOPE, &credit.key, &response).await?;
    Ok(outcome)
}

/// Moves the money; what of it went to the receivable.
fn change_balance(books: &mut Books, credit: &Credit) -> Result<Nanos, CreditError> {
    let Credit { account, amount, key, .. } = credit;
    let available = books.available(account)?;
    let Balance { balance, currency, .. } = books.balance(account)?.clone();
    if balance.checked_add(*amount).is_none() {
        return Err(CreditError::OutOfRange { balance, amount: *amount });
    }
    if amount.is_negative() {
        let taken = amount.checked_neg().unwrap_or(Nanos::MAX);
        if available < taken {
            return Err(CreditError::Insufficient {
                account: account.clone(),
                available,
                amount: taken,
                currency,
            });
        }
        books.adjust(account, *amount, key)?;
        return Ok(Nanos::ZERO);
    }
    books.adjust(account, *amount, key)?;
    Ok(books.collect(account, "credit", key)?)
}

/// The stored answer to a repeated credit.
async fn answer_again(
    tx: &mut MySqlConnection,
    credit: &Credit,
    hash: &[u8],
) -> Result<CreditOutcome, CreditError> {
    let stored = idempotency_key::find(tx, SCOPE, &credit.key).await?;
    if stored.body_hash != hash {
        return Err(CreditError::Conflict { key: credit.key.clone() });
    }
    let outcome: CreditOutcome = serde_json::from_str(&stored.response).map_err(|_| {
        let (table, column) = ("idempotency_key", "response");
        StoreError::Corrupt { table, column, key: credit.key.clone() }
    })?;
    Ok(CreditOutcome { replayed: true, ..outcome })
}

/// What makes two credits the same.
fn body_hash(credit: &Credit) -> [u8; 32] {
    // Texts always have a JSON text; it keeps their ends apart.
    let content = serde_json::to_vec(&(&credit.account, &credit.amount, &credit.reason));
    Sha256::digest(content.unwrap_or_default()).into()
}

fn balance_json(balance: &Balance) -> String {
    serde_json::json!({
        "balance": balance.balance,
        "held": balance.held,
        "receivable": balance.receivable,
    })
    .to_string()
}

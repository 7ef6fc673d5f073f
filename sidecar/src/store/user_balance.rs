//! `user_balance`: one row per account. Its row lock orders everything that changes the account.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::AssertSqlSafe;
use sqlx::mysql::{MySqlConnection, MySqlRow};

use farebox_core::id::AccountId;
use farebox_core::money::Nanos;

use crate::store::StoreError;
use crate::store::column::{Columns, OnCorrupt, json, read_all, read_one, require_changed};

pub(crate) mod control;
pub(crate) mod due;
pub(crate) mod list;

const TABLE: &str = "user_balance";

/// An account's money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Balance {
    pub(crate) account: AccountId,
    pub(crate) balance: Nanos,
    pub(crate) held: Nanos,
    pub(crate) receivable: Nanos,
    /// How far below zero the balance may go.
    pub(crate) credit_limit: Nanos,
    pub(crate) currency: String,
    /// `user_seq` of the newest ledger entry.
    pub(crate) entry_seq: i64,
    /// Set while nothing of the account may be used.
    pub(crate) frozen: Option<Frozen>,
}

/// Since when an account is frozen, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frozen {
    pub(crate) since: DateTime<Utc>,
    pub(crate) reason: String,
}

impl Balance {
    /// What may be spent: the balance that nothing holds, and the credit limit; `None` when that cannot be said.
    pub(crate) fn available(&self) -> Option<Nanos> {
        let own = self.balance.checked_sub(self.held)?;
        Some(own.checked_add(self.credit_limit).unwrap_or(Nanos::MAX))
    }
}

/// What a transaction adds to an account's columns.
#[derive(Debug, Serialize)]
pub(crate) struct BalanceChange<'a> {
    pub(crate) account: &'a AccountId,
    pub(crate) balance: Nanos,
    pub(crate) held: Nanos,
    pub(crate) receivable: Nanos,
    pub(crate) entries: i64,
    /// The `entry_seq` that the change was computed on.
    pub(crate) entry_seq: i64,
}

const COLUMNS: &str = "user_id, balance, held, receivable, credit_limit, currency, entry_seq, frozen_at, frozen_reason";

fn read(row: &MySqlRow) -> Result<Balance, StoreError> {
    let columns = Columns::new(row, TABLE, "user_id");
    let frozen = match columns.time_or_null("frozen_at")? {
        Some(since) => {
            let reason = columns.text_or_null("frozen_reason")?.unwrap_or_default();
            Some(Frozen { since, reason })
        }
        None => None,
    };
    Ok(Balance {
        account: columns.name("user_id")?,
        balance: columns.nanos("balance")?,
        held: columns.nanos("held")?,
        receivable: columns.nanos("receivable")?,
        credit_limit: columns.nanos("credit_limit")?,
        currency: columns.text("currency")?,
        entry_seq: columns.integer("entry_seq")?,
        frozen,
    })
}

/// Reads one account without locking it.
pub(crate) async fn find(
    connection: &mut MySqlConnection,
    account: &AccountId,
) -> Result<Option<Balance>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM user_balance WHERE user_id = ?");
    let row =
        sqlx::query(AssertSqlSafe(sql)).bind(account.as_str()).fetch_optional(connection).await?;
    row.as_ref().map(read).transpose()
}

/// What becomes of rows that others have locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// They are waited for, as long as the session's lock wait timeout.
    Yes,
    /// They are left out.
    No,
    /// The first of them is an error at once; the rows before it stay locked.
    Refuse,
}

/// Reads those accounts that exist without locking them.
pub(crate) async fn find_all(
    connection: &mut MySqlConnection,
    accounts: &[&AccountId],
    on_corrupt: OnCorrupt,
) -> Result<Vec<Balance>, StoreError> {
    if accounts.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM JSON_TABLE(?, '$[*]' COLUMNS (
           account VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$'
         )) AS wanted
         STRAIGHT_JOIN user_balance FORCE INDEX (uk_user_id) ON user_balance.user_id = wanted.account"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(json(&accounts)).fetch_all(connection).await?;
    read_all(&rows, on_corrupt, read)
}

/// Those of the accounts that exist, also ones that others have locked or that cannot be read.
pub(crate) async fn existing(
    connection: &mut MySqlConnection,
    accounts: &[&AccountId],
) -> Result<Vec<AccountId>, StoreError> {
    if accounts.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "SELECT user_balance.user_id FROM JSON_TABLE(?, '$[*]' COLUMNS (
           account VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$'
         )) AS wanted
         STRAIGHT_JOIN user_balance FORCE INDEX (uk_user_id) ON user_balance.user_id = wanted.account",
    )
    .bind(json(&accounts))
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Columns::new(row, TABLE, "user_id").name("user_id")).collect()
}

/// Locks the rows of those accounts that exist and reads them; one that cannot be read is locked without its money.
/// `accounts` must be sorted, so that two transactions never wait for each other here.
pub(crate) async fn lock(
    connection: &mut MySqlConnection,
    accounts: &[&AccountId],
    wait: Wait,
    on_corrupt: OnCorrupt,
) -> Result<Vec<(AccountId, Option<Balance>)>, StoreError> {
    let Some(last) = accounts.last() else { return Ok(Vec::new()) };
    // MySQL does not lock through JSON_TABLE. The list is filled up to a power of two, so that few statement texts occur.
    let places = accounts.len().next_power_of_two();
    let wait = match wait {
        Wait::Yes => "",
        Wait::No => " SKIP LOCKED",
        Wait::Refuse => " NOWAIT",
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM user_balance FORCE INDEX (uk_user_id) WHERE user_id IN (?{}) \
         ORDER BY user_id FOR UPDATE{wait}",
        ", ?".repeat(places - 1),
    );
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for account in accounts {
        query = query.bind(account.as_str());
    }
    for _ in accounts.len()..places {
        query = query.bind(last.as_str());
    }
    let rows = query.fetch_all(connection).await?;
    let account = |row| Columns::new(row, TABLE, "user_id").name("user_id");
    rows.iter().map(|row| Ok((account(row)?, read_one(row, on_corrupt, read)?))).collect()
}

/// Creates the rows that are missing; a row that another transaction creates at the same moment is as good.
pub(crate) async fn create(
    connection: &mut MySqlConnection,
    accounts: &[(String, &AccountId)],
    currency: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO user_balance
           (user_balance_id, user_id, balance, held, receivable, currency, entry_seq, check_at, created_at, updated_at)
         SELECT new.id, new.account, 0, 0, 0, ?, 0, UTC_TIMESTAMP(3), UTC_TIMESTAMP(3), UTC_TIMESTAMP(3)
         FROM JSON_TABLE(?, '$[*]' COLUMNS (
           id VARCHAR(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$[0]',
           account VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$[1]'
         )) AS new
         ON DUPLICATE KEY UPDATE entry_seq = user_balance.entry_seq",
    )
    .bind(currency)
    .bind(json(&accounts))
    .execute(connection)
    .await?;
    Ok(())
}

/// Adds the changes, guarded: never held beyond the balance and the credit limit, and never on another state than the one they were computed on.
///
/// A change of nothing changes the row as well. It says that other rows of the account changed, so its invariants are due;
/// and it makes nodes of a cluster, whose row locks do not reach each other, notice that two of them changed the account.
pub(crate) async fn update(
    connection: &mut MySqlConnection,
    changes: &[BalanceChange<'_>],
) -> Result<(), StoreError> {
    if changes.is_empty() {
        return Ok(());
    }
    let changed = sqlx::query(
        "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (
           account VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.account',
           balance DECIMAL(19,9) PATH '$.balance',
           held DECIMAL(19,9) PATH '$.held',
           receivable DECIMAL(19,9) PATH '$.receivable',
           entries BIGINT PATH '$.entries',
           entry_seq BIGINT PATH '$.entry_seq'
         )) AS more
         STRAIGHT_JOIN user_balance FORCE INDEX (uk_user_id) ON user_balance.user_id = more.account
         SET user_balance.balance = user_balance.balance + more.balance,
             user_balance.held = user_balance.held + more.held,
             user_balance.receivable = user_balance.receivable + more.receivable,
             user_balance.entry_seq = user_balance.entry_seq + more.entries,
             user_balance.change_seq = user_balance.change_seq + 1,
             user_balance.check_at = COALESCE(user_balance.check_at, UTC_TIMESTAMP(3)),
             user_balance.updated_at = UTC_TIMESTAMP(3)
         WHERE user_balance.entry_seq = more.entry_seq
           AND user_balance.held + more.held >= 0
           AND user_balance.balance + more.balance + user_balance.credit_limit >= user_balance.held + more.held
           AND user_balance.receivable + more.receivable >= 0",
    )
    .bind(json(&changes))
    .execute(connection)
    .await?
    .rows_affected();
    require_changed(TABLE, changes.len(), changed)
}

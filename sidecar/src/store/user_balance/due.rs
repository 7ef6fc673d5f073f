//! Which accounts changed since their invariants were checked.
//!
//! Whoever changes an account's rows counts it up and makes it due, in the same transaction and under the account's lock.
//! A check takes the mark away only from an account whose count is the one that it saw: a transaction that commits late
//! makes its account due again, and none is skipped.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::Row;
use sqlx::mysql::MySqlConnection;

use crate::store::StoreError;
use crate::store::column::{json, micros};

/// An account whose invariants are due.
#[derive(Debug, Clone)]
pub(crate) struct Due {
    pub(crate) account: String,
    /// The transactions that have changed it.
    pub(crate) change_seq: i64,
    /// Its entries in the ledger.
    pub(crate) entry_seq: i64,
}

/// What a check found out about an account.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Checked {
    pub(crate) account: String,
    /// As the check saw it.
    pub(crate) change_seq: i64,
    /// It stays due until it is repaired.
    pub(crate) is_broken: u8,
}

/// The accounts that were due at a moment, the longest due first, and only so many.
pub const DUE: &str =
    "SELECT user_id, change_seq, entry_seq FROM user_balance FORCE INDEX (idx_user_balance_check)
    WHERE check_at <= ? ORDER BY check_at LIMIT ?";

/// The accounts that were due at `moment`, the longest due first.
pub(crate) async fn find(
    connection: &mut MySqlConnection,
    moment: DateTime<Utc>,
    limit: usize,
) -> Result<Vec<Due>, StoreError> {
    let rows = sqlx::query(DUE).bind(moment).bind(limit as u64).fetch_all(connection).await?;
    let read = |row: &sqlx::mysql::MySqlRow| {
        let (account, change_seq, entry_seq) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok(Due { account, change_seq, entry_seq })
    };
    rows.iter().map(read).collect()
}

/// How long the account that is due for the longest time is; `None` when none is.
pub(crate) async fn longest(
    connection: &mut MySqlConnection,
) -> Result<Option<Duration>, StoreError> {
    let row = sqlx::query(
        "SELECT CAST(GREATEST(TIMESTAMPDIFF(MICROSECOND, MIN(check_at), UTC_TIMESTAMP(3)), 0) AS UNSIGNED)
         FROM user_balance FORCE INDEX (idx_user_balance_check) WHERE check_at IS NOT NULL",
    )
    .fetch_one(connection)
    .await?;
    Ok(row.try_get::<Option<u64>, _>(0)?.map(Duration::from_micros))
}

/// Takes the mark away from accounts that are as the check saw them. What has changed since is due again after `pause`, what
/// is broken in the next run. Accounts that somebody has locked are left as they are: they are about to change. Those that were
/// left.
pub(crate) async fn note_checked(
    connection: &mut MySqlConnection,
    checked: &[Checked],
    pause: Duration,
) -> Result<Vec<String>, StoreError> {
    let accounts: Vec<&str> = checked.iter().map(|row| row.account.as_str()).collect();
    let free = lock_free(&mut *connection, &accounts).await?;
    let (rows, left): (Vec<_>, Vec<_>) =
        checked.iter().partition(|row| free.contains(&row.account));
    sqlx::query(
        "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (
           account VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.account',
           change_seq BIGINT PATH '$.change_seq',
           is_broken TINYINT PATH '$.is_broken'
         )) AS checked
         STRAIGHT_JOIN user_balance FORCE INDEX (uk_user_id) ON user_balance.user_id = checked.account
         SET user_balance.check_at = CASE
             WHEN user_balance.change_seq <> checked.change_seq THEN UTC_TIMESTAMP(3) + INTERVAL ? MICROSECOND
             WHEN checked.is_broken = 1 THEN UTC_TIMESTAMP(3)
             ELSE NULL
           END",
    )
    .bind(json(&rows))
    .bind(micros(pause))
    .execute(connection)
    .await?;
    Ok(left.into_iter().map(|row| row.account.clone()).collect())
}

/// Locks the rows that nobody else has locked; whose they are.
async fn lock_free(
    connection: &mut MySqlConnection,
    accounts: &[&str],
) -> Result<Vec<String>, StoreError> {
    let Some(last) = accounts.last() else { return Ok(Vec::new()) };
    let places = accounts.len().next_power_of_two();
    let sql = format!(
        "SELECT user_id FROM user_balance FORCE INDEX (uk_user_id) WHERE user_id IN (?{}) \
         ORDER BY user_id FOR UPDATE SKIP LOCKED",
        ", ?".repeat(places - 1)
    );
    let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
    for place in 0..places {
        query = query.bind(*accounts.get(place).unwrap_or(last));
    }
    let rows = query.fetch_all(connection).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Makes accounts due, as far as they exist: a check of everything found rows of them broken.
pub(crate) async fn mark(
    connection: &mut MySqlConnection,
    accounts: &[&str],
) -> Result<(), StoreError> {
    if accounts.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (
           account VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$'
         )) AS broken
         STRAIGHT_JOIN user_balance FORCE INDEX (uk_user_id) ON user_balance.user_id = broken.account
         SET user_balance.check_at = COALESCE(user_balance.check_at, UTC_TIMESTAMP(3))",
    )
    .bind(json(&accounts))
    .execute(connection)
    .await?;
    Ok(())
}

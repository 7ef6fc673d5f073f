//! Accounts in pages, in the order of their names.

use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Row};

use farebox_core::id::AccountId;

use super::{Balance, COLUMNS, TABLE, read};
use crate::store::StoreError;
use crate::store::column::{Columns, OnCorrupt, read_all};
use crate::store::page::{Listed, listed, one_more};

/// Reads the accounts whose names begin with `prefix` and stand behind `after`.
pub(crate) async fn list(
    connection: &mut MySqlConnection,
    prefix: &str,
    after: &str,
    limit: u32,
) -> Result<Listed<Balance, String>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM user_balance FORCE INDEX (uk_user_id)
         WHERE user_id LIKE ? ESCAPE '|' AND user_id > ? ORDER BY user_id LIMIT ?"
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(begins_with(prefix)).bind(after);
    let rows = query.bind(one_more(limit)).fetch_all(connection).await?;
    listed(rows, limit, read, |row| Columns::new(row, TABLE, "user_id").text("user_id"))
}

/// The pattern of the texts that begin so, whatever characters that has.
fn begins_with(prefix: &str) -> String {
    let escaped = prefix.replace('|', "||").replace('%', "|%").replace('_', "|_");
    format!("{escaped}%")
}

/// The names that stand behind `after`, in order, as they are stored.
pub(crate) async fn names(
    connection: &mut MySqlConnection,
    after: &str,
    limit: usize,
) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query(
        "SELECT user_id FROM user_balance FORCE INDEX (uk_user_id) WHERE user_id > ? ORDER BY user_id LIMIT ?",
    )
    .bind(after)
    .bind(limit as u64)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// The names of the accounts that changed most recently, as far as they can be read. It reads the whole table once.
pub(crate) async fn newest(
    connection: &mut MySqlConnection,
    limit: u32,
) -> Result<Vec<AccountId>, StoreError> {
    let rows = sqlx::query("SELECT user_id FROM user_balance ORDER BY updated_at DESC LIMIT ?")
        .bind(limit)
        .fetch_all(connection)
        .await?;
    read_all(&rows, OnCorrupt::Skip, |row| Columns::new(row, TABLE, "user_id").name("user_id"))
}

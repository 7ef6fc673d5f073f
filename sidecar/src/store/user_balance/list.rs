//! Accounts in pages, in the order of their names.

use sqlx::AssertSqlSafe;
use sqlx::mysql::MySqlConnection;

use super::{Balance, COLUMNS, TABLE, read};
use crate::store::StoreError;
use crate::store::column::Columns;
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

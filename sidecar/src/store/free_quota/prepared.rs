//! Rows that are made ahead of their month. They count as none until somebody uses them.

use serde::Serialize;
use sqlx::Row;
use sqlx::mysql::MySqlConnection;

use crate::store::StoreError;
use crate::store::column::json;

/// A row to be made ahead.
#[derive(Debug, Serialize)]
pub(crate) struct Prepared<'a> {
    pub(crate) id: String,
    pub(crate) account: &'a str,
    pub(crate) service: &'a str,
    pub(crate) total: u64,
}

/// The accounts and services, of these, that have used rows of one month and no row of another; nothing is locked.
pub(crate) async fn missing(
    connection: &mut MySqlConnection,
    accounts: &[String],
    services: &[&str],
    (used_in, missing_in): (&str, &str),
) -> Result<Vec<(String, String)>, StoreError> {
    let rows = sqlx::query(
        "SELECT used.user_id, used.service_name
         FROM JSON_TABLE(?, '$[*]' COLUMNS (
           name VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$'
         )) AS account
         STRAIGHT_JOIN JSON_TABLE(?, '$[*]' COLUMNS (
           name VARCHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$'
         )) AS service
         STRAIGHT_JOIN free_quota AS used FORCE INDEX (uk_user_service_month)
           ON used.user_id = account.name AND used.service_name = service.name AND used.reset_month = ?
         LEFT JOIN free_quota AS next FORCE INDEX (uk_user_service_month)
           ON next.user_id = account.name AND next.service_name = service.name AND next.reset_month = ?
         WHERE (used.prepared = 0 OR 0 < used.used_quota + used.held_quota) AND next.user_id IS NULL",
    )
    .bind(json(&accounts))
    .bind(json(&services))
    .bind(used_in)
    .bind(missing_in)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Makes rows ahead of their month, but for those that somebody has made in the meantime; how many. Their accounts are not
/// locked and not written: no decision reads such a row but the one that puts it into use, and that one writes the row itself.
pub(crate) async fn insert(
    connection: &mut MySqlConnection,
    rows: &[Prepared<'_>],
    month: &str,
) -> Result<u64, StoreError> {
    if rows.is_empty() {
        return Ok(0);
    }
    // IGNORE is for rows that are there by now; no other rule can be broken by what stands here.
    let inserted = sqlx::query(
        "INSERT IGNORE INTO free_quota
           (free_quota_id, user_id, service_name, reset_month, total_quota, used_quota, held_quota, prepared, created_at, updated_at)
         SELECT new.id, new.account, new.service, ?, new.total, 0, 0, 1, UTC_TIMESTAMP(3), UTC_TIMESTAMP(3)
         FROM JSON_TABLE(?, '$[*]' COLUMNS (
           id VARCHAR(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.id',
           account VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.account',
           service VARCHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.service',
           total BIGINT PATH '$.total'
         )) AS new",
    )
    .bind(month)
    .bind(json(&rows))
    .execute(connection)
    .await?;
    Ok(inserted.rows_affected())
}

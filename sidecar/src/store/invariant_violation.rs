//! `invariant_violation`: rows that are known to break an invariant.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::Row;
use sqlx::mysql::MySqlConnection;

use crate::store::StoreError;
use crate::store::column::{json, time_text};

/// A row to write.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct NewViolation<'a> {
    pub(crate) invariant: &'static str,
    pub(crate) account: &'a str,
    pub(crate) text: &'a str,
}

/// Forgets what was known of these accounts: they have been checked anew.
pub(crate) async fn forget(
    connection: &mut MySqlConnection,
    accounts: &[String],
) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE invariant_violation
         FROM JSON_TABLE(?, '$[*]' COLUMNS (
           account VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$'
         )) AS checked
         STRAIGHT_JOIN invariant_violation FORCE INDEX (idx_invariant_violation_user)
           ON invariant_violation.user_id = checked.account",
    )
    .bind(json(&accounts))
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets what was known up to this moment: everything as it was then has been checked.
pub(crate) async fn forget_until(
    connection: &mut MySqlConnection,
    moment: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM invariant_violation WHERE seen_at <= ?")
        .bind(moment)
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes violations that were found, as long as fewer than `most` of their invariant are known.
pub(crate) async fn insert(
    connection: &mut MySqlConnection,
    seen_at: DateTime<Utc>,
    violations: &[NewViolation<'_>],
    most: u64,
) -> Result<(), StoreError> {
    if violations.is_empty() {
        return Ok(());
    }
    let known = count(&mut *connection).await?;
    let room = |invariant: &str| {
        let known = known.iter().find(|(name, _)| name == invariant).map_or(0, |(_, count)| *count);
        known < most
    };
    let kept: Vec<_> = violations.iter().filter(|row| room(row.invariant)).collect();
    sqlx::query(
        "INSERT INTO invariant_violation (invariant, user_id, violation, seen_at)
         SELECT new.invariant, new.account, new.violation, ?
         FROM JSON_TABLE(?, '$[*]' COLUMNS (
           invariant VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.invariant',
           account VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.account',
           violation TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.text'
         )) AS new",
    )
    .bind(time_text(seen_at))
    .bind(json(&kept))
    .execute(connection)
    .await?;
    Ok(())
}

/// How many rows are known to break each invariant that any row breaks.
pub(crate) async fn count(
    connection: &mut MySqlConnection,
) -> Result<Vec<(String, u64)>, StoreError> {
    let rows = sqlx::query(
        "SELECT invariant, CAST(COUNT(*) AS UNSIGNED) FROM invariant_violation GROUP BY invariant",
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// The first rows that are known to break an invariant.
pub(crate) async fn first(
    connection: &mut MySqlConnection,
    invariant: &str,
    limit: u64,
) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query(
        "SELECT violation FROM invariant_violation WHERE invariant = ? ORDER BY invariant_violation_id LIMIT ?",
    )
    .bind(invariant)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

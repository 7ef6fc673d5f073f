//! `journal_line`: usage without a lease, as far as it is charged.

use serde::Serialize;
use sqlx::Row;
use sqlx::mysql::{MySqlConnection, MySqlRow};

use farebox_core::id::{AccountId, GatewayId, ServiceName};
use farebox_core::money::Nanos;
use farebox_core::wire::JournalReport;

use crate::store::StoreError;
use crate::store::column::json;

/// A line to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct JournalLine {
    pub(crate) gateway: GatewayId,
    pub(crate) instance: String,
    pub(crate) line: u64,
    pub(crate) account: AccountId,
    pub(crate) service: ServiceName,
    pub(crate) route_price: Option<Nanos>,
    pub(crate) used: u64,
}

/// What is charged on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Booked {
    /// Units.
    pub(crate) used: u64,
    /// Whether to the key that the report names: a line is one key's for good.
    pub(crate) is_of_key: bool,
}

/// Reads what is charged on these lines of one instance.
pub(crate) async fn find(
    connection: &mut MySqlConnection,
    gateway: &GatewayId,
    instance: &str,
    reports: &[JournalReport],
) -> Result<Vec<(u64, Booked)>, StoreError> {
    if reports.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "SELECT journal_line.line, CAST(journal_line.used AS UNSIGNED),
           CAST(journal_line.user_id = wanted.account AND journal_line.service_name = wanted.service
             AND journal_line.route_price <=> wanted.price AS UNSIGNED)
         FROM JSON_TABLE(?, '$[*]' COLUMNS (
           line BIGINT UNSIGNED PATH '$.line',
           account VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.key.account',
           service VARCHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.key.service',
           price DECIMAL(19,9) PATH '$.key.price'
         )) AS wanted
         STRAIGHT_JOIN journal_line
           ON journal_line.gateway_id = ? AND journal_line.instance = ? AND journal_line.line = wanted.line",
    )
    .bind(json(&reports))
    .bind(gateway.as_str())
    .bind(instance)
    .fetch_all(connection)
    .await?;
    let booked = |row: &MySqlRow| {
        let is_of_key = row.try_get::<u64, _>(2)? != 0;
        Ok((row.try_get(0)?, Booked { used: row.try_get(1)?, is_of_key }))
    };
    rows.iter().map(booked).collect()
}

/// Writes the lines; the larger total wins.
pub(crate) async fn upsert(
    connection: &mut MySqlConnection,
    lines: &[JournalLine],
) -> Result<(), StoreError> {
    if lines.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO journal_line
           (gateway_id, instance, line, user_id, service_name, route_price, used, updated_at)
         SELECT new.gateway, new.instance, new.line, new.account, new.service, new.route_price, new.total, UTC_TIMESTAMP(3)
         FROM JSON_TABLE(?, '$[*]' COLUMNS (
           gateway VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.gateway',
           instance CHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.instance',
           line BIGINT UNSIGNED PATH '$.line',
           account VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.account',
           service VARCHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.service',
           route_price DECIMAL(19,9) PATH '$.route_price',
           total BIGINT PATH '$.used'
         )) AS new
         ON DUPLICATE KEY UPDATE
           journal_line.used = GREATEST(journal_line.used, VALUES(used)),
           journal_line.updated_at = VALUES(updated_at)",
    )
    .bind(json(&lines))
    .execute(connection)
    .await?;
    Ok(())
}

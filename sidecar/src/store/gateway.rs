//! `gateway`: which number each process of a gateway has.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::mysql::{MySqlConnection, MySqlRow};

use farebox_core::id::GatewayId;

use crate::store::StoreError;
use crate::store::column::{Columns, OnCorrupt, json, micros, read_all};
use crate::store::page::{Listed, listed, one_more};

/// The number of this instance; `None` when it is new.
pub(crate) async fn find_epoch(
    connection: &mut MySqlConnection,
    gateway: &GatewayId,
    instance: &str,
) -> Result<Option<u64>, StoreError> {
    let row = sqlx::query(
        "SELECT CAST(epoch AS UNSIGNED) FROM gateway WHERE gateway_id = ? AND instance = ?",
    )
    .bind(gateway.as_str())
    .bind(instance)
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// Gives a new instance the next number. [`StoreError::Raced`] when another transaction does the same.
pub(crate) async fn create_epoch(
    connection: &mut MySqlConnection,
    gateway: &GatewayId,
    instance: &str,
) -> Result<u64, StoreError> {
    let row = sqlx::query(
        "SELECT CAST(COALESCE(MAX(epoch), 0) + 1 AS UNSIGNED) FROM gateway WHERE gateway_id = ?",
    )
    .bind(gateway.as_str())
    .fetch_one(&mut *connection)
    .await?;
    let epoch: u64 = row.try_get(0)?;
    let inserted = sqlx::query(
        "INSERT INTO gateway (gateway_id, epoch, instance, first_seen_at, last_seen_at)
         VALUES (?, ?, ?, UTC_TIMESTAMP(3), UTC_TIMESTAMP(3))",
    )
    .bind(gateway.as_str())
    .bind(epoch)
    .bind(instance)
    .execute(connection)
    .await
    .map_err(StoreError::from);
    match inserted {
        Ok(_) => Ok(epoch),
        Err(err) if err.is_duplicate() => Err(StoreError::Raced { table: "gateway" }),
        Err(err) => Err(err),
    }
}

/// When these processes were last heard of.
pub(crate) async fn last_seen(
    connection: &mut MySqlConnection,
    processes: &[(&GatewayId, u64)],
) -> Result<Vec<(GatewayId, u64, DateTime<Utc>)>, StoreError> {
    if processes.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "SELECT gateway.gateway_id, CAST(gateway.epoch AS UNSIGNED) AS epoch, gateway.last_seen_at
         FROM JSON_TABLE(?, '$[*]' COLUMNS (
           gateway VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$[0]',
           epoch BIGINT PATH '$[1]'
         )) AS wanted
         STRAIGHT_JOIN gateway ON gateway.gateway_id = wanted.gateway AND gateway.epoch = wanted.epoch",
    )
    .bind(json(&processes))
    .fetch_all(connection)
    .await?;
    read_all(&rows, OnCorrupt::Fail, |row| {
        let columns = Columns::new(row, "gateway", "gateway_id");
        Ok((columns.name("gateway_id")?, row.try_get("epoch")?, columns.time("last_seen_at")?))
    })
}

/// Notes that the instance is alive.
pub(crate) async fn touch(
    connection: &mut MySqlConnection,
    gateway: &GatewayId,
    epoch: u64,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE gateway SET last_seen_at = UTC_TIMESTAMP(3) WHERE gateway_id = ? AND epoch = ?",
    )
    .bind(gateway.as_str())
    .bind(epoch)
    .execute(connection)
    .await?;
    Ok(())
}

/// A process of a gateway as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) gateway: String,
    pub(crate) epoch: i64,
    pub(crate) instance: String,
    pub(crate) first_seen_at: DateTime<Utc>,
    pub(crate) last_seen_at: DateTime<Utc>,
    /// Whether it has not been heard of for longer than was asked about.
    pub(crate) is_silent: bool,
}

/// Reads the newest process of each name, and older ones that hold open leases, in the order of names and epochs. A name whose
/// place is behind `after` that comes meanwhile is read.
pub(crate) async fn list(
    connection: &mut MySqlConnection,
    after: Option<&(String, i64)>,
    silence: Duration,
    limit: u32,
) -> Result<Listed<Process, (String, i64)>, StoreError> {
    let (gateway, epoch) = after.map_or(("", 0), |(gateway, epoch)| (gateway.as_str(), *epoch));
    let rows = sqlx::query(
        "SELECT gateway.gateway_id, gateway.epoch, gateway.instance, gateway.first_seen_at, gateway.last_seen_at,
           CAST(gateway.last_seen_at < UTC_TIMESTAMP(3) - INTERVAL ? MICROSECOND AS SIGNED) AS is_silent
         FROM gateway
         WHERE gateway.gateway_id >= ? AND (gateway.gateway_id > ? OR gateway.epoch > ?) AND (
           NOT EXISTS (SELECT 1 FROM gateway AS newer
             WHERE newer.gateway_id = gateway.gateway_id AND newer.epoch > gateway.epoch)
           OR EXISTS (SELECT 1 FROM lease
             WHERE lease.gateway_id = gateway.gateway_id AND lease.epoch = gateway.epoch AND lease.open_key IS NOT NULL))
         ORDER BY gateway.gateway_id, gateway.epoch LIMIT ?",
    )
    .bind(micros(silence))
    .bind(gateway)
    .bind(gateway)
    .bind(epoch)
    .bind(one_more(limit))
    .fetch_all(connection)
    .await?;
    listed(rows, limit, read_process, |row| {
        let columns = Columns::new(row, "gateway", "gateway_id");
        Ok((columns.text("gateway_id")?, columns.integer("epoch")?))
    })
}

fn read_process(row: &MySqlRow) -> Result<Process, StoreError> {
    let columns = Columns::new(row, "gateway", "gateway_id");
    Ok(Process {
        gateway: columns.text("gateway_id")?,
        epoch: columns.integer("epoch")?,
        instance: columns.text("instance")?,
        first_seen_at: columns.time("first_seen_at")?,
        last_seen_at: columns.time("last_seen_at")?,
        is_silent: columns.integer("is_silent")? != 0,
    })
}

//! `outbox`: events for other systems, written with what they tell about and delivered afterwards.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::mysql::{MySqlConnection, MySqlRow};

use farebox_core::id::AccountId;

use crate::store::StoreError;
use crate::store::column::micros;

/// An event to write.
#[derive(Debug)]
pub(crate) struct NewEvent<'a> {
    pub(crate) event_id: &'a str,
    pub(crate) event_type: &'static str,
    pub(crate) account: &'a AccountId,
    pub(crate) payload_json: String,
}

/// Writes an event.
pub(crate) async fn insert(
    connection: &mut MySqlConnection,
    new: &NewEvent<'_>,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO outbox (event_id, event_type, user_id, payload_json, send_at, created_at)
         VALUES (?, ?, ?, ?, UTC_TIMESTAMP(3), UTC_TIMESTAMP(3))",
    )
    .bind(new.event_id)
    .bind(new.event_type)
    .bind(new.account.as_str())
    .bind(&new.payload_json)
    .execute(connection)
    .await?;
    Ok(())
}

/// An event whose time has come.
#[derive(Debug)]
pub(crate) struct DueEvent {
    pub(crate) outbox_id: i64,
    pub(crate) event_id: String,
    pub(crate) event_type: String,
    pub(crate) payload_json: String,
    /// Deliveries that failed.
    pub(crate) attempts: u32,
}

/// Reads events that are due, the longest due first.
pub(crate) async fn due(
    connection: &mut MySqlConnection,
    limit: u32,
) -> Result<Vec<DueEvent>, StoreError> {
    let rows = sqlx::query(
        "SELECT outbox_id, event_id, event_type, payload_json, attempts FROM outbox
         WHERE send_at <= UTC_TIMESTAMP(3) ORDER BY send_at, outbox_id LIMIT ?",
    )
    .bind(limit)
    .fetch_all(connection)
    .await?;
    let event = |row: &MySqlRow| {
        Ok(DueEvent {
            outbox_id: row.try_get(0)?,
            event_id: row.try_get(1)?,
            event_type: row.try_get(2)?,
            payload_json: row.try_get(3)?,
            attempts: u32::try_from(row.try_get::<i32, _>(4)?).unwrap_or(0),
        })
    };
    rows.iter().map(event).collect()
}

/// Notes that an event was delivered, also one that somebody else gave up meanwhile, or that an operator sends again.
pub(crate) async fn delivered(
    connection: &mut MySqlConnection,
    outbox_id: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE outbox SET delivered_at = UTC_TIMESTAMP(3), send_at = NULL WHERE outbox_id = ?",
    )
    .bind(outbox_id)
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes that a delivery failed: the event is due again after `wait`, or never. A row that has changed meanwhile stays as
/// it is.
pub(crate) async fn failed(
    connection: &mut MySqlConnection,
    event: &DueEvent,
    wait: Option<Duration>,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE outbox SET attempts = attempts + 1, send_at = UTC_TIMESTAMP(3) + INTERVAL ? MICROSECOND
         WHERE outbox_id = ? AND attempts = ? AND send_at IS NOT NULL",
    )
    .bind(wait.map(micros))
    .bind(event.outbox_id)
    .bind(event.attempts)
    .execute(connection)
    .await?;
    Ok(())
}

/// How many events are still to be delivered.
pub(crate) async fn pending(connection: &mut MySqlConnection) -> Result<u32, StoreError> {
    let row = sqlx::query("SELECT COUNT(*) FROM outbox WHERE send_at IS NOT NULL");
    let count: i64 = row.fetch_one(connection).await?.try_get(0)?;
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Deletes up to `limit` events older than `before`, those that are still to be delivered only if told; their number.
pub(crate) async fn purge(
    connection: &mut MySqlConnection,
    before: DateTime<Utc>,
    with_pending: bool,
    limit: u64,
) -> Result<u64, StoreError> {
    let deleted = sqlx::query(
        "DELETE FROM outbox WHERE created_at < ? AND (? OR send_at IS NULL) ORDER BY created_at LIMIT ?",
    )
    .bind(before)
    .bind(with_pending)
    .bind(limit)
    .execute(connection)
    .await?;
    Ok(deleted.rows_affected())
}

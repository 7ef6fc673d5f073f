//! `payment_anomaly`: news of payments that did not fit.

use chrono::{DateTime, Utc};
use sqlx::mysql::{MySqlConnection, MySqlRow};

use crate::store::StoreError;
use crate::store::column::{Columns, OnCorrupt, read_all};

/// What did not fit.
#[derive(Debug)]
pub(crate) struct NewAnomaly<'a> {
    pub(crate) fingerprint: [u8; 32],
    pub(crate) kind: &'static str,
    pub(crate) order_id: &'a str,
    pub(crate) payment_id: &'a str,
    pub(crate) expected_json: String,
    pub(crate) found_json: String,
}

/// An anomaly as it is stored.
#[derive(Debug)]
pub(crate) struct Anomaly {
    pub(crate) id: i64,
    pub(crate) kind: String,
    pub(crate) order_id: String,
    pub(crate) payment_id: String,
    pub(crate) expected_json: String,
    pub(crate) found_json: String,
    pub(crate) times_seen: i64,
    pub(crate) first_seen_at: DateTime<Utc>,
    pub(crate) last_seen_at: DateTime<Utc>,
}

/// Keeps what did not fit; the same again is counted.
pub(crate) async fn record(
    connection: &mut MySqlConnection,
    new: &NewAnomaly<'_>,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO payment_anomaly
           (fingerprint, kind, order_id, payment_order_id, expected_json, found_json, times_seen, first_seen_at, last_seen_at)
         VALUES (?, ?, ?, ?, ?, ?, 1, UTC_TIMESTAMP(3), UTC_TIMESTAMP(3))
         ON DUPLICATE KEY UPDATE times_seen = payment_anomaly.times_seen + 1, last_seen_at = UTC_TIMESTAMP(3)",
    )
    .bind(&new.fingerprint[..])
    .bind(new.kind)
    .bind(new.order_id)
    .bind(new.payment_id)
    .bind(&new.expected_json)
    .bind(&new.found_json)
    .execute(connection)
    .await?;
    Ok(())
}

fn read(row: &MySqlRow) -> Result<Anomaly, StoreError> {
    let columns = Columns::new(row, "payment_anomaly", "payment_anomaly_id");
    Ok(Anomaly {
        id: columns.integer("payment_anomaly_id")?,
        kind: columns.text("kind")?,
        order_id: columns.text("order_id")?,
        payment_id: columns.text("payment_order_id")?,
        expected_json: columns.text("expected_json")?,
        found_json: columns.text("found_json")?,
        times_seen: columns.integer("times_seen")?,
        first_seen_at: columns.time("first_seen_at")?,
        last_seen_at: columns.time("last_seen_at")?,
    })
}

/// The newest anomalies.
pub(crate) async fn newest(
    connection: &mut MySqlConnection,
    limit: u32,
) -> Result<Vec<Anomaly>, StoreError> {
    let rows = sqlx::query(
        "SELECT payment_anomaly_id, kind, order_id, payment_order_id, expected_json, found_json, times_seen, first_seen_at,
            last_seen_at
         FROM payment_anomaly ORDER BY payment_anomaly_id DESC LIMIT ?",
    )
    .bind(limit)
    .fetch_all(connection)
    .await?;
    read_all(&rows, OnCorrupt::Skip, read)
}

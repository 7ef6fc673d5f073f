//! `payment_anomaly`: news of payments that did not fit.

use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;
use sqlx::mysql::{MySqlConnection, MySqlRow};

use farebox_core::id::AccountId;

use crate::store::column::Columns;
use crate::store::page::{Listed, listed, one_more};
use crate::store::{StoreError, is_new};

const TABLE: &str = "payment_anomaly";

const COLUMNS: &str = "payment_anomaly_id, kind, order_id, payment_order_id, expected_json, found_json, times_seen, \
     first_seen_at, last_seen_at, state, action, reason, resolved_by, resolved_at, credited_user_id";

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
#[derive(Debug, Clone)]
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
    pub(crate) resolved: Option<Resolved>,
}

/// What people decided.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub(crate) action: String,
    /// Whose account was credited.
    pub(crate) account: Option<String>,
    pub(crate) reason: String,
    pub(crate) by: String,
    pub(crate) at: DateTime<Utc>,
}

/// A decision to write.
#[derive(Debug)]
pub(crate) struct NewResolution<'a> {
    pub(crate) action: &'static str,
    pub(crate) reason: &'a str,
    pub(crate) actor: &'a str,
    pub(crate) account: Option<&'a AccountId>,
    pub(crate) credited_payment: Option<&'a str>,
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
    let columns = Columns::new(row, TABLE, "payment_anomaly_id");
    let resolved = || -> Result<Resolved, StoreError> {
        Ok(Resolved {
            action: columns.text("action")?,
            account: columns.text_or_null("credited_user_id")?,
            reason: columns.text("reason")?,
            by: columns.text("resolved_by")?,
            at: columns.time("resolved_at")?,
        })
    };
    let is_open = columns.text("state")? == "open";
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
        resolved: if is_open { None } else { Some(resolved()?) },
    })
}

/// Reads an anomaly.
pub(crate) async fn find(
    connection: &mut MySqlConnection,
    id: i64,
) -> Result<Option<Anomaly>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM payment_anomaly WHERE payment_anomaly_id = ?");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(id).fetch_optional(connection).await?;
    row.as_ref().map(read).transpose()
}

/// Reads an anomaly and locks it.
pub(crate) async fn lock(
    connection: &mut MySqlConnection,
    id: i64,
) -> Result<Option<Anomaly>, StoreError> {
    let sql =
        format!("SELECT {COLUMNS} FROM payment_anomaly WHERE payment_anomaly_id = ? FOR UPDATE");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(id).fetch_optional(connection).await?;
    row.as_ref().map(read).transpose()
}

/// Writes what was decided about an open anomaly that is locked; `false` when its payment was credited for another one.
pub(crate) async fn resolve(
    connection: &mut MySqlConnection,
    id: i64,
    new: &NewResolution<'_>,
) -> Result<bool, StoreError> {
    let updated = sqlx::query(
        "UPDATE payment_anomaly
         SET state = 'resolved', action = ?, reason = ?, resolved_by = ?, resolved_at = UTC_TIMESTAMP(3), credited_user_id = ?,
             credited_payment = ?
         WHERE payment_anomaly_id = ? AND state = 'open'",
    )
    .bind(new.action)
    .bind(new.reason)
    .bind(new.actor)
    .bind(new.account.map(AccountId::as_str))
    .bind(new.credited_payment)
    .bind(id)
    .execute(connection)
    .await;
    is_new(updated)
}

/// Whether a payment was credited by hand. Whoever is about to do that is waited for.
pub(crate) async fn is_credited(
    connection: &mut MySqlConnection,
    payment_id: &str,
) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "SELECT payment_anomaly_id FROM payment_anomaly WHERE credited_payment = ? LOCK IN SHARE MODE",
    )
    .bind(payment_id)
    .fetch_optional(connection)
    .await?;
    Ok(row.is_some())
}

/// Reads anomalies, the newest first, of one state or of all. What is kept meanwhile stands before the first page.
pub(crate) async fn list(
    connection: &mut MySqlConnection,
    state: Option<&str>,
    before: Option<i64>,
    limit: u32,
) -> Result<Listed<Anomaly, i64>, StoreError> {
    let of_state = if state.is_some() { " AND state = ?" } else { "" };
    let sql = format!(
        "SELECT {COLUMNS} FROM payment_anomaly WHERE payment_anomaly_id < ?{of_state}
         ORDER BY payment_anomaly_id DESC LIMIT ?"
    );
    let mut query = sqlx::query(AssertSqlSafe(sql)).bind(before.unwrap_or(i64::MAX));
    if let Some(state) = state {
        query = query.bind(state);
    }
    let rows = query.bind(one_more(limit)).fetch_all(connection).await?;
    let place = |row: &MySqlRow| {
        Columns::new(row, TABLE, "payment_anomaly_id").integer("payment_anomaly_id")
    };
    listed(rows, limit, read, place)
}

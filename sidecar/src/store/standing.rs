//! What stands in the database at a moment, as sums for graphs. Nothing is locked.

use std::time::Duration;

use chrono::{DateTime, Utc};
use farebox_core::money::Nanos;
use rust_decimal::Decimal;
use sqlx::mysql::MySqlConnection;

use crate::store::StoreError;
use crate::store::column::{Columns, OnCorrupt, decimal, micros, read_all};

/// What gateways hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Lent {
    pub(crate) leases: u64,
    pub(crate) free_units: u64,
    pub(crate) paid_units: u64,
    /// What the paid units cost.
    pub(crate) amount: Nanos,
    /// How long ago the lease was spoken of that nobody has spoken of for longest.
    pub(crate) lag: Duration,
}

/// The sums of all open leases.
pub(crate) async fn lent(connection: &mut MySqlConnection) -> Result<Lent, StoreError> {
    let row = sqlx::query(
        "SELECT '' AS id, COUNT(*) AS leases, CAST(COALESCE(SUM(free), 0) AS SIGNED) AS free,
            CAST(COALESCE(SUM(paid), 0) AS SIGNED) AS paid, COALESCE(SUM(paid * price), 0) AS amount,
            GREATEST(0, COALESCE(TIMESTAMPDIFF(MICROSECOND, MIN(renewed_at), UTC_TIMESTAMP(3)), 0)) AS silence
         FROM (SELECT price, renewed_at, free_granted - free_used - free_returned AS free,
                 paid_granted - paid_used - paid_returned AS paid
               FROM lease WHERE state = 'open') AS open_lease",
    )
    .fetch_one(connection)
    .await?;
    let columns = Columns::new(&row, "lease", "id");
    Ok(Lent {
        leases: columns.units("leases")?,
        free_units: columns.units("free")?,
        paid_units: columns.units("paid")?,
        amount: columns.nanos("amount")?,
        lag: Duration::from_micros(columns.units("silence")?),
    })
}

/// How many processes hold leases and have not been heard of for so long.
pub(crate) async fn silent_gateways(
    connection: &mut MySqlConnection,
    silence: Duration,
) -> Result<u64, StoreError> {
    let query = sqlx::query(
        "SELECT '' AS id, COUNT(*) AS count FROM gateway
         WHERE last_seen_at < UTC_TIMESTAMP(3) - INTERVAL ? MICROSECOND AND EXISTS (
           SELECT 1 FROM lease WHERE lease.gateway_id = gateway.gateway_id
             AND lease.epoch = gateway.epoch AND lease.state = 'open')",
    );
    count(&query.bind(micros(silence)).fetch_one(connection).await?, "gateway")
}

/// Accounts that somebody should know of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watched {
    /// They have had money, and with their credit limit they have little left.
    pub(crate) low: u64,
    pub(crate) frozen: u64,
}

/// How many accounts have less than this left, and how many are frozen.
pub(crate) async fn watched(
    connection: &mut MySqlConnection,
    below: Nanos,
) -> Result<Watched, StoreError> {
    let row = sqlx::query(
        "SELECT '' AS id, COUNT(IF(0 < entry_seq AND balance + credit_limit < ?, 1, NULL)) AS low,
           COUNT(frozen_at) AS frozen
         FROM user_balance",
    )
    .bind(decimal(below))
    .fetch_one(connection)
    .await?;
    let columns = Columns::new(&row, "user_balance", "id");
    Ok(Watched { low: columns.units("low")?, frozen: columns.units("frozen")? })
}

/// By service, how many accounts have used or hold so much of the month's free quota that less than so many per cent is left.
pub(crate) async fn low_quotas(
    connection: &mut MySqlConnection,
    month: &str,
    percent: Decimal,
) -> Result<Vec<(String, u64)>, StoreError> {
    let rows = sqlx::query(
        "SELECT service_name, COUNT(*) AS count FROM free_quota
         WHERE reset_month = ? AND 0 < total_quota
           AND (total_quota - used_quota - held_quota) * 100 < total_quota * ?
         GROUP BY service_name",
    )
    .bind(month)
    .bind(percent)
    .fetch_all(connection)
    .await?;
    read_all(&rows, OnCorrupt::Fail, |row| {
        let columns = Columns::new(row, "free_quota", "service_name");
        Ok((columns.text("service_name")?, columns.units("count")?))
    })
}

/// How long the event is due that waits longest to be delivered.
pub(crate) async fn outbox_lag(connection: &mut MySqlConnection) -> Result<Duration, StoreError> {
    let row = sqlx::query(
        "SELECT '' AS id, GREATEST(0, COALESCE(TIMESTAMPDIFF(MICROSECOND, MIN(created_at), UTC_TIMESTAMP(3)), 0)) AS silence
         FROM outbox WHERE send_at IS NOT NULL",
    )
    .fetch_one(connection)
    .await?;
    Ok(Duration::from_micros(Columns::new(&row, "outbox", "id").units("silence")?))
}

/// How many kinds of news did not fit and wait for a decision.
pub(crate) async fn anomalies(connection: &mut MySqlConnection) -> Result<u64, StoreError> {
    let query =
        sqlx::query("SELECT '' AS id, COUNT(*) AS count FROM payment_anomaly WHERE state = 'open'");
    count(&query.fetch_one(connection).await?, "payment_anomaly")
}

/// Until when each job is or was somebody's.
pub(crate) async fn jobs(
    connection: &mut MySqlConnection,
) -> Result<Vec<(String, DateTime<Utc>)>, StoreError> {
    let rows = sqlx::query("SELECT name, until FROM job_lease WHERE owner <> ''")
        .fetch_all(connection)
        .await?;
    read_all(&rows, OnCorrupt::Fail, |row| {
        let columns = Columns::new(row, "job_lease", "name");
        Ok((columns.text("name")?, columns.time("until")?))
    })
}

fn count(row: &sqlx::mysql::MySqlRow, table: &'static str) -> Result<u64, StoreError> {
    Columns::new(row, table, "id").units("count")
}

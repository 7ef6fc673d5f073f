//! `job_lease`: which sidecar runs a job. The token fences off a holder that was paused too long.

use std::time::Duration;

use sqlx::Row;
use sqlx::mysql::{MySqlConnection, MySqlRow};

use crate::store::StoreError;
use crate::store::column::micros;

/// Locks the job's row until the transaction ends; it is created when it is missing.
async fn lock(connection: &mut MySqlConnection, job: &'static str) -> Result<MySqlRow, StoreError> {
    sqlx::query(
        "INSERT INTO job_lease (name, owner, token, until) VALUES (?, '', 0, UTC_TIMESTAMP(3))
         ON DUPLICATE KEY UPDATE name = job_lease.name",
    )
    .bind(job)
    .execute(&mut *connection)
    .await?;
    let row = sqlx::query(
        "SELECT owner, token, until <= UTC_TIMESTAMP(3) AS is_over FROM job_lease WHERE name = ? FOR UPDATE",
    )
    .bind(job)
    .fetch_one(connection)
    .await?;
    Ok(row)
}

/// Waits until nobody else has this turn, and keeps it until the transaction ends. The row changes, which nodes of a
/// cluster notice where their locks do not reach each other.
pub(crate) async fn take_turn(
    connection: &mut MySqlConnection,
    job: &'static str,
) -> Result<(), StoreError> {
    lock(connection, job).await?;
    sqlx::query("UPDATE job_lease SET token = token + 1 WHERE name = ?")
        .bind(job)
        .execute(connection)
        .await?;
    Ok(())
}

/// Takes the job or keeps it for `ttl`; its token, or `None` while another sidecar has it.
pub(crate) async fn acquire(
    connection: &mut MySqlConnection,
    job: &'static str,
    owner: &str,
    ttl: Duration,
) -> Result<Option<i64>, StoreError> {
    let row = lock(connection, job).await?;
    let (holder, token, is_over): (String, i64, bool) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    if holder != owner && !is_over {
        return Ok(None);
    }
    let token = if holder == owner { token } else { token.saturating_add(1) };
    sqlx::query(
        "UPDATE job_lease SET owner = ?, token = ?, until = UTC_TIMESTAMP(3) + INTERVAL ? MICROSECOND WHERE name = ?",
    )
    .bind(owner)
    .bind(token)
    .bind(micros(ttl))
    .bind(job)
    .execute(connection)
    .await?;
    Ok(Some(token))
}

/// Leaves the jobs of a process that ends to the others.
pub(crate) async fn release_all(
    connection: &mut MySqlConnection,
    owner: &str,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE job_lease SET owner = '', until = UTC_TIMESTAMP(3) WHERE owner = ?")
        .bind(owner)
        .execute(connection)
        .await?;
    Ok(())
}

/// Requires that the job still has this token, and keeps it so until the transaction ends.
pub(crate) async fn require(
    connection: &mut MySqlConnection,
    job: &'static str,
    token: i64,
) -> Result<(), StoreError> {
    let row = sqlx::query("SELECT token FROM job_lease WHERE name = ? AND token = ? FOR UPDATE")
        .bind(job)
        .bind(token)
        .fetch_optional(connection)
        .await?;
    match row {
        Some(_) => Ok(()),
        None => Err(StoreError::Fenced { job }),
    }
}

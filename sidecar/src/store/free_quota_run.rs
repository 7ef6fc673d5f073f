//! `free_quota_run`: how far the free quotas of a month are prepared.

use chrono::{DateTime, Utc};
use sqlx::mysql::MySqlConnection;

use crate::store::StoreError;
use crate::store::column::{Columns, time_text};

const TABLE: &str = "free_quota_run";

/// How far a month is prepared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Run {
    /// The last account that the pass came to; `None` when no pass is under way.
    pub(crate) after: Option<String>,
    /// When the last pass came to its end.
    pub(crate) finished_at: Option<DateTime<Utc>>,
}

/// Reads how far a month is prepared; nothing was done when there is no row.
pub(crate) async fn find(connection: &mut MySqlConnection, month: &str) -> Result<Run, StoreError> {
    let row = sqlx::query(
        "SELECT reset_month, after_user, finished_at FROM free_quota_run WHERE reset_month = ?",
    )
    .bind(month)
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(Run::default()) };
    let columns = Columns::new(&row, TABLE, "reset_month");
    Ok(Run {
        after: columns.text_or_null("after_user")?,
        finished_at: columns.time_or_null("finished_at")?,
    })
}

/// Stores how far a month is prepared, and counts rows that were made.
pub(crate) async fn note(
    connection: &mut MySqlConnection,
    month: &str,
    run: &Run,
    rows: u64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO free_quota_run (reset_month, after_user, row_count, finished_at) VALUES (?, ?, ?, ?)
         ON DUPLICATE KEY UPDATE after_user = VALUES(after_user), row_count = row_count + VALUES(row_count),
           finished_at = VALUES(finished_at)",
    )
    .bind(month)
    .bind(&run.after)
    .bind(rows)
    .bind(run.finished_at.map(time_text))
    .execute(connection)
    .await?;
    Ok(())
}

/// When the last pass of any month came to its end; `None` before the first one.
pub(crate) async fn last_finished(
    connection: &mut MySqlConnection,
) -> Result<Option<DateTime<Utc>>, StoreError> {
    let row = sqlx::query("SELECT '' AS id, MAX(finished_at) AS finished_at FROM free_quota_run")
        .fetch_one(connection)
        .await?;
    Columns::new(&row, TABLE, "id").time_or_null("finished_at")
}

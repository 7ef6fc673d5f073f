//! `invariant_run`: when each invariant was last checked.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::mysql::MySqlConnection;

use crate::store::StoreError;
use crate::store::column::{Columns, OnCorrupt, json, read_all};

/// What a check covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Covered {
    /// Accounts that had changed.
    Touched,
    /// Everything.
    All,
}

impl Covered {
    /// Every one.
    pub(crate) const EACH: [Self; 2] = [Self::Touched, Self::All];

    pub(crate) fn as_text(self) -> &'static str {
        match self {
            Self::Touched => "touched",
            Self::All => "all",
        }
    }
}

/// A check of one invariant.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) invariant: String,
    pub(crate) covered: Covered,
    /// Rows.
    pub(crate) checked: u64,
    /// The moment that it saw.
    pub(crate) checked_at: DateTime<Utc>,
}

/// Notes a check; the counts are by invariant. An older check that ends later changes nothing.
pub(crate) async fn note(
    connection: &mut MySqlConnection,
    covered: Covered,
    checked_at: DateTime<Utc>,
    counts: &[(&str, u64)],
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO invariant_run (invariant, scope, checked, checked_at)
         SELECT new.invariant, ?, new.checked, ?
         FROM JSON_TABLE(?, '$[*]' COLUMNS (
           invariant VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$[0]',
           checked BIGINT PATH '$[1]'
         )) AS new
         ON DUPLICATE KEY UPDATE
           invariant_run.checked = IF(invariant_run.checked_at <= VALUES(checked_at), VALUES(checked), invariant_run.checked),
           invariant_run.checked_at = GREATEST(invariant_run.checked_at, VALUES(checked_at))",
    )
    .bind(covered.as_text())
    .bind(checked_at)
    .bind(json(&counts))
    .execute(connection)
    .await?;
    Ok(())
}

/// The last checks of every invariant.
pub(crate) async fn all(connection: &mut MySqlConnection) -> Result<Vec<Run>, StoreError> {
    let rows = sqlx::query("SELECT invariant, scope, checked, checked_at FROM invariant_run")
        .fetch_all(connection)
        .await?;
    read_all(&rows, OnCorrupt::Fail, |row| {
        let columns = Columns::new(row, "invariant_run", "invariant");
        let covered = match columns.text("scope")?.as_str() {
            "touched" => Covered::Touched,
            "all" => Covered::All,
            _ => return Err(columns.corrupt("scope")),
        };
        Ok(Run {
            invariant: columns.text("invariant")?,
            covered,
            checked: columns.units("checked")?,
            checked_at: columns.time("checked_at")?,
        })
    })
}

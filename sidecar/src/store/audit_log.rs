//! `audit_log`: who changed what by hand.

use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;
use sqlx::mysql::{MySqlConnection, MySqlRow};

use farebox_core::id::AccountId;

use crate::store::StoreError;
use crate::store::column::{Columns, time_text};
use crate::store::page::{Listed, listed, one_more};

const TABLE: &str = "audit_log";

/// A line to write, in the transaction that does what it tells.
#[derive(Debug)]
pub(crate) struct AuditLine<'a> {
    pub(crate) actor: &'a str,
    pub(crate) action: &'a str,
    pub(crate) subject: &'a str,
    pub(crate) reason: &'a str,
    pub(crate) before_json: String,
    pub(crate) after_json: String,
}

/// Writes a line.
pub(crate) async fn insert(
    connection: &mut MySqlConnection,
    line: AuditLine<'_>,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO audit_log (actor, action, subject, reason, before_json, after_json, created_at)
         VALUES (?, ?, ?, ?, ?, ?, UTC_TIMESTAMP(3))",
    )
    .bind(line.actor)
    .bind(line.action)
    .bind(line.subject)
    .bind(line.reason)
    .bind(line.before_json)
    .bind(line.after_json)
    .execute(connection)
    .await?;
    Ok(())
}

/// A line as it is stored.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) id: i64,
    pub(crate) actor: String,
    pub(crate) action: String,
    pub(crate) subject: String,
    pub(crate) reason: String,
    pub(crate) before_json: String,
    pub(crate) after_json: String,
    pub(crate) created_at: DateTime<Utc>,
}

/// Which lines are read.
#[derive(Debug)]
pub(crate) struct Selection<'a> {
    /// About this account or one of its orders.
    pub(crate) account: Option<&'a AccountId>,
    pub(crate) actor: Option<&'a str>,
    pub(crate) since: Option<DateTime<Utc>>,
    /// Older than this line.
    pub(crate) before: Option<i64>,
}

fn read(row: &MySqlRow) -> Result<Line, StoreError> {
    let columns = Columns::new(row, TABLE, "audit_log_id");
    Ok(Line {
        id: columns.integer("audit_log_id")?,
        actor: columns.text("actor")?,
        action: columns.text("action")?,
        subject: columns.text("subject")?,
        reason: columns.text("reason")?,
        before_json: columns.text("before_json")?,
        after_json: columns.text("after_json")?,
        created_at: columns.time("created_at")?,
    })
}

/// Reads lines, newest first. Lines that are written meanwhile stand before the first page, so no page shifts.
pub(crate) async fn list(
    connection: &mut MySqlConnection,
    selection: &Selection<'_>,
    limit: u32,
) -> Result<Listed<Line, i64>, StoreError> {
    let mut sql =
        "SELECT audit_log_id, actor, action, subject, reason, before_json, after_json, created_at
         FROM audit_log WHERE TRUE"
            .to_owned();
    if selection.account.is_some() {
        sql.push_str(
            " AND (subject = ? OR subject IN (SELECT order_id FROM recharge_order WHERE user_id = ?))",
        );
    }
    if selection.actor.is_some() {
        sql.push_str(" AND actor = ?");
    }
    if selection.since.is_some() {
        sql.push_str(" AND created_at >= ?");
    }
    if selection.before.is_some() {
        sql.push_str(" AND audit_log_id < ?");
    }
    sql.push_str(" ORDER BY audit_log_id DESC LIMIT ?");
    let mut query = sqlx::query(AssertSqlSafe(sql));
    if let Some(account) = selection.account {
        query = query.bind(account.as_str()).bind(account.as_str());
    }
    if let Some(actor) = selection.actor {
        query = query.bind(actor);
    }
    if let Some(since) = selection.since {
        query = query.bind(time_text(since));
    }
    if let Some(before) = selection.before {
        query = query.bind(before);
    }
    let rows = query.bind(one_more(limit)).fetch_all(connection).await?;
    listed(rows, limit, read, |row| {
        Columns::new(row, TABLE, "audit_log_id").integer("audit_log_id")
    })
}

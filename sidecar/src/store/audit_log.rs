//! `audit_log`: who changed what by hand.

use sqlx::mysql::MySqlConnection;

use crate::store::StoreError;

/// A line to write.
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

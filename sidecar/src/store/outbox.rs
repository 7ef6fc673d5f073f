//! `outbox`: events for other systems, written with what they tell about and delivered afterwards.

use sqlx::mysql::MySqlConnection;

use farebox_core::id::AccountId;

use crate::store::StoreError;

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

//! `sync_reply`: what was answered to each message.

use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::mysql::MySqlConnection;

use farebox_core::id::GatewayId;

use crate::store::{StoreError, is_new};

/// Which message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MessageKey<'a> {
    pub(crate) gateway: &'a GatewayId,
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
}

/// The answer to an earlier copy of a message.
#[derive(Debug)]
pub(crate) struct StoredReply {
    pub(crate) body_hash: Vec<u8>,
    pub(crate) reply: String,
}

/// Claims the message for this transaction; `false` when its answer is stored already.
///
/// The row's lock makes a second copy of the message wait until the first one is answered.
pub(crate) async fn claim(
    connection: &mut MySqlConnection,
    key: MessageKey<'_>,
    body_hash: &[u8],
) -> Result<bool, StoreError> {
    let inserted = sqlx::query(
        "INSERT INTO sync_reply (gateway_id, epoch, seq, body_hash, reply, created_at)
         VALUES (?, ?, ?, ?, '', UTC_TIMESTAMP(3))",
    )
    .bind(key.gateway.as_str())
    .bind(key.epoch)
    .bind(key.seq)
    .bind(body_hash)
    .execute(connection)
    .await;
    is_new(inserted)
}

/// Reads the stored answer; `None` when it was purged a moment ago.
pub(crate) async fn find(
    connection: &mut MySqlConnection,
    key: MessageKey<'_>,
) -> Result<Option<StoredReply>, StoreError> {
    let row = sqlx::query(
        "SELECT body_hash, reply FROM sync_reply WHERE gateway_id = ? AND epoch = ? AND seq = ?",
    )
    .bind(key.gateway.as_str())
    .bind(key.epoch)
    .bind(key.seq)
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(StoredReply { body_hash: row.try_get(0)?, reply: row.try_get(1)? }))
}

/// Stores the answer.
pub(crate) async fn complete(
    connection: &mut MySqlConnection,
    key: MessageKey<'_>,
    reply: &str,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE sync_reply SET reply = ? WHERE gateway_id = ? AND epoch = ? AND seq = ?")
        .bind(reply)
        .bind(key.gateway.as_str())
        .bind(key.epoch)
        .bind(key.seq)
        .execute(connection)
        .await?;
    Ok(())
}

/// Deletes up to `limit` answers older than `before`; their number.
pub(crate) async fn purge(
    connection: &mut MySqlConnection,
    before: DateTime<Utc>,
    limit: u64,
) -> Result<u64, StoreError> {
    let deleted =
        sqlx::query("DELETE FROM sync_reply WHERE created_at < ? ORDER BY created_at LIMIT ?")
            .bind(before)
            .bind(limit)
            .execute(connection)
            .await?;
    Ok(deleted.rows_affected())
}

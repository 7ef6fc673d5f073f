//! `idempotency_key`: what was answered to a keyed request.

use sqlx::Row;
use sqlx::mysql::MySqlConnection;

use crate::store::{StoreError, is_new};

/// The answer to an earlier request with the same key.
#[derive(Debug)]
pub(crate) struct StoredResponse {
    pub(crate) body_hash: Vec<u8>,
    pub(crate) response: String,
}

/// Claims the key for this transaction; `false` when it was used before.
pub(crate) async fn claim(
    connection: &mut MySqlConnection,
    scope: &str,
    key: &str,
    body_hash: &[u8],
) -> Result<bool, StoreError> {
    let inserted = sqlx::query(
        "INSERT INTO idempotency_key (scope, idempotency_key, body_hash, response, created_at)
         VALUES (?, ?, ?, '', UTC_TIMESTAMP(3))",
    )
    .bind(scope)
    .bind(key)
    .bind(body_hash)
    .execute(connection)
    .await;
    is_new(inserted)
}

/// Reads the stored answer.
pub(crate) async fn find(
    connection: &mut MySqlConnection,
    scope: &str,
    key: &str,
) -> Result<StoredResponse, StoreError> {
    let row = sqlx::query(
        "SELECT body_hash, response FROM idempotency_key WHERE scope = ? AND idempotency_key = ?",
    )
    .bind(scope)
    .bind(key)
    .fetch_one(connection)
    .await?;
    Ok(StoredResponse { body_hash: row.try_get(0)?, response: row.try_get(1)? })
}

/// Stores the answer.
pub(crate) async fn complete(
    connection: &mut MySqlConnection,
    scope: &str,
    key: &str,
    response: &str,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE idempotency_key SET response = ? WHERE scope = ? AND idempotency_key = ?")
        .bind(response)
        .bind(scope)
        .bind(key)
        .execute(connection)
        .await?;
    Ok(())
}

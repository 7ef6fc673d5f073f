//! `idempotency_key`: what was answered to a keyed request.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::Row;
use sqlx::mysql::MySqlConnection;

use crate::store::column::{bytes_text, json};
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

/// Which answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct RequestKey {
    pub(crate) scope: &'static str,
    pub(crate) key: String,
}

/// An answer to write.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct NewAnswer {
    #[serde(flatten)]
    pub(crate) key: RequestKey,
    /// In hexadecimal digits.
    pub(crate) body_hash: String,
    pub(crate) response: String,
}

impl NewAnswer {
    /// An answer to the request with this content.
    pub(crate) fn new(key: RequestKey, body_hash: &[u8; 32], response: String) -> Self {
        Self { key, body_hash: bytes_text(body_hash), response }
    }
}

/// Reads the answers that exist.
pub(crate) async fn find_all(
    connection: &mut MySqlConnection,
    keys: &[&RequestKey],
) -> Result<Vec<(RequestKey, StoredResponse)>, StoreError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "SELECT known.scope, known.idempotency_key, known.body_hash, known.response
         FROM JSON_TABLE(?, '$[*]' COLUMNS (
           scope VARCHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.scope',
           request_key VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.key'
         )) AS wanted
         STRAIGHT_JOIN idempotency_key AS known FORCE INDEX (PRIMARY)
           ON known.scope = wanted.scope AND known.idempotency_key = wanted.request_key",
    )
    .bind(json(&keys))
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let (scope, key): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let scope =
                keys.iter().find(|wanted| wanted.scope == scope).map_or("", |key| key.scope);
            let stored = StoredResponse { body_hash: row.try_get(2)?, response: row.try_get(3)? };
            Ok((RequestKey { scope, key }, stored))
        })
        .collect()
}

/// Writes answers. Who finds that somebody else used a key meanwhile begins anew, and finds the answer.
pub(crate) async fn insert_all(
    connection: &mut MySqlConnection,
    answers: &[NewAnswer],
) -> Result<(), StoreError> {
    if answers.is_empty() {
        return Ok(());
    }
    let inserted = sqlx::query(
        "INSERT INTO idempotency_key (scope, idempotency_key, body_hash, response, created_at)
         SELECT new.scope, new.request_key, UNHEX(new.body_hash), new.response, UTC_TIMESTAMP(3)
         FROM JSON_TABLE(?, '$[*]' COLUMNS (
           scope VARCHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.scope',
           request_key VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.key',
           body_hash CHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.body_hash',
           response VARCHAR(4000) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.response'
         )) AS new",
    )
    .bind(json(&answers))
    .execute(connection)
    .await;
    if is_new(inserted)? { Ok(()) } else { Err(StoreError::Raced { table: "idempotency_key" }) }
}

/// Deletes up to `limit` answers of a scope that are older than `before`; their number.
pub(crate) async fn purge(
    connection: &mut MySqlConnection,
    scope: &str,
    before: DateTime<Utc>,
    limit: u64,
) -> Result<u64, StoreError> {
    let deleted = sqlx::query(
        "DELETE FROM idempotency_key WHERE scope = ? AND created_at < ? ORDER BY created_at LIMIT ?",
    )
    .bind(scope)
    .bind(before)
    .bind(limit)
    .execute(connection)
    .await?;
    Ok(deleted.rows_affected())
}

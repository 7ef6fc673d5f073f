//! `ledger_entry`: double entry, append only.

use serde::Serialize;
use sqlx::mysql::MySqlConnection;

use farebox_core::id::AccountId;
use farebox_core::money::Nanos;

use crate::store::StoreError;
use crate::store::column::json;

/// One leg of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct NewLeg {
    pub(crate) entry_id: String,
    pub(crate) account: AccountId,
    pub(crate) book: String,
    pub(crate) amount: Nanos,
    pub(crate) currency: String,
    pub(crate) kind: &'static str,
    pub(crate) ref_type: &'static str,
    pub(crate) ref_id: String,
    /// On legs of the book `user` only.
    pub(crate) user_seq: Option<i64>,
    /// On legs of the book `user` only.
    pub(crate) balance_after: Option<Nanos>,
    /// Text for [`JSON_TABLE`](crate::store).
    pub(crate) created_at: String,
}

/// Writes legs.
pub(crate) async fn insert(
    connection: &mut MySqlConnection,
    legs: &[NewLeg],
) -> Result<(), StoreError> {
    if legs.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO ledger_entry
           (entry_id, user_id, book, amount, currency, kind, ref_type, ref_id, user_seq, balance_after, created_at)
         SELECT new.entry_id, new.account, new.book, new.amount, new.currency, new.kind, new.ref_type, new.ref_id,
                new.user_seq, new.balance_after, new.created_at
         FROM JSON_TABLE(?, '$[*]' COLUMNS (
           entry_id VARCHAR(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.entry_id',
           account VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.account',
           book VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.book',
           amount DECIMAL(19,9) PATH '$.amount',
           currency CHAR(3) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.currency',
           kind VARCHAR(16) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.kind',
           ref_type VARCHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.ref_type',
           ref_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.ref_id',
           user_seq BIGINT PATH '$.user_seq',
           balance_after DECIMAL(19,9) PATH '$.balance_after',
           created_at DATETIME(3) PATH '$.created_at'
         )) AS new",
    )
    .bind(json(&legs))
    .execute(connection)
    .await?;
    Ok(())
}

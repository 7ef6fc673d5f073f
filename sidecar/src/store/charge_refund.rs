//! `charge_refund`: units of a charge that went back. Append only.

use serde::Serialize;
use sqlx::mysql::MySqlConnection;

use farebox_core::id::AccountId;
use farebox_core::money::Nanos;

use crate::store::StoreError;
use crate::store::column::json;

/// A refund to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct NewChargeRefund {
    pub(crate) id: String,
    pub(crate) record: String,
    pub(crate) account: AccountId,
    pub(crate) free_units: u64,
    pub(crate) paid_units: u64,
    pub(crate) amount: Nanos,
    /// Text for [`JSON_TABLE`](crate::store).
    pub(crate) created_at: String,
}

/// Writes refunds.
pub(crate) async fn insert(
    connection: &mut MySqlConnection,
    refunds: &[NewChargeRefund],
) -> Result<(), StoreError> {
    if refunds.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO charge_refund
           (charge_refund_id, billing_record_id, user_id, free_units, paid_units, amount, created_at)
         SELECT new.id, new.record, new.account, new.free_units, new.paid_units, new.amount, new.created_at
         FROM JSON_TABLE(?, '$[*]' COLUMNS (
           id VARCHAR(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.id',
           record VARCHAR(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.record',
           account VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.account',
           free_units BIGINT PATH '$.free_units',
           paid_units BIGINT PATH '$.paid_units',
           amount DECIMAL(19,9) PATH '$.amount',
           created_at DATETIME(3) PATH '$.created_at'
         )) AS new",
    )
    .bind(json(&refunds))
    .execute(connection)
    .await?;
    Ok(())
}

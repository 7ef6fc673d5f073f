//! What operators decide about an account: whether it is frozen, and its credit limit. Whoever writes it has the account locked.

use sqlx::mysql::MySqlConnection;

use farebox_core::id::AccountId;
use farebox_core::money::Nanos;

use super::{Frozen, TABLE};
use crate::store::StoreError;
use crate::store::column::{decimal, require_changed, time_text};

/// Freezes an account, or thaws it.
pub(crate) async fn set_frozen(
    connection: &mut MySqlConnection,
    account: &AccountId,
    frozen: Option<&Frozen>,
) -> Result<(), StoreError> {
    let changed = sqlx::query(
        "UPDATE user_balance SET frozen_at = ?, frozen_reason = ?, change_seq = change_seq + 1,
           check_at = COALESCE(check_at, UTC_TIMESTAMP(3)), updated_at = UTC_TIMESTAMP(3)
         WHERE user_id = ?",
    )
    .bind(frozen.map(|frozen| time_text(frozen.since)))
    .bind(frozen.map(|frozen| frozen.reason.as_str()))
    .bind(account.as_str())
    .execute(connection)
    .await?
    .rows_affected();
    require_changed(TABLE, 1, changed)
}

/// Sets how far below zero the balance may go. The schema refuses less than what is in use.
pub(crate) async fn set_credit_limit(
    connection: &mut MySqlConnection,
    account: &AccountId,
    limit: Nanos,
) -> Result<(), StoreError> {
    let changed = sqlx::query(
        "UPDATE user_balance SET credit_limit = ?, change_seq = change_seq + 1,
           check_at = COALESCE(check_at, UTC_TIMESTAMP(3)), updated_at = UTC_TIMESTAMP(3)
         WHERE user_id = ?",
    )
    .bind(decimal(limit))
    .bind(account.as_str())
    .execute(connection)
    .await?
    .rows_affected();
    require_changed(TABLE, 1, changed)
}

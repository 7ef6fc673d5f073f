//! What statements are made of: an account's balance before and after a time, and what moved it meanwhile.

use chrono::{DateTime, Utc};
use farebox_core::id::AccountId;
use farebox_core::money::Nanos;
use sqlx::Row as _;
use sqlx::mysql::MySqlConnection;

use crate::store::StoreError;
use crate::store::column::{Columns, OnCorrupt, read_all};

const TABLE: &str = "ledger_entry";

/// Movements of one kind within a quarter of an hour: time zones differ by such.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Movement {
    pub(crate) begins_at: DateTime<Utc>,
    pub(crate) kind: String,
    /// What was charged, or given back.
    pub(crate) service: Option<String>,
    pub(crate) count: u64,
    /// Positive for money that came.
    pub(crate) amount: Nanos,
}

/// The number of the account's first movement at or after a moment; one more than the newest when there is none. Movements
/// of an account are numbered in the order of their times.
pub(crate) async fn first_at(
    connection: &mut MySqlConnection,
    account: &AccountId,
    newest: i64,
    moment: DateTime<Utc>,
) -> Result<i64, StoreError> {
    let (mut low, mut high) = (1, newest.saturating_add(1));
    while low < high {
        let middle = low.midpoint(high);
        let row = sqlx::query(
            "SELECT created_at < ? FROM ledger_entry WHERE user_id = ? AND user_seq = ?",
        )
        .bind(moment.naive_utc())
        .bind(account.as_str())
        .bind(middle)
        .fetch_optional(&mut *connection)
        .await?;
        let is_before: bool = row.map(|row| row.try_get(0)).transpose()?.unwrap_or(true);
        (low, high) = if is_before { (middle.saturating_add(1), high) } else { (low, middle) };
    }
    Ok(low)
}

/// The balance after the account's movement of this number; nothing before the first one.
pub(crate) async fn balance_after(
    connection: &mut MySqlConnection,
    account: &AccountId,
    number: i64,
) -> Result<Nanos, StoreError> {
    let row = sqlx::query(
        "SELECT entry_id, balance_after FROM ledger_entry WHERE user_id = ? AND user_seq = ?",
    )
    .bind(account.as_str())
    .bind(number)
    .fetch_optional(connection)
    .await?;
    let balance = |row| Columns::new(row, TABLE, "entry_id").nanos("balance_after");
    row.as_ref().map_or(Ok(Nanos::ZERO), balance)
}

/// What moved the balance, from the movement `first` up to but not including `end`.
pub(crate) async fn movements(
    connection: &mut MySqlConnection,
    account: &AccountId,
    first: i64,
    end: i64,
) -> Result<Vec<Movement>, StoreError> {
    let rows = sqlx::query(
        "SELECT CAST('1970-01-01' AS DATETIME(3)) + INTERVAL quarter * 15 MINUTE AS begins_at, kind, service_name, COUNT(*) AS count,
                SUM(amount) AS amount
         FROM (SELECT TIMESTAMPDIFF(MINUTE, '1970-01-01', entry.created_at) DIV 15 AS quarter, entry.kind, entry.amount,
                 COALESCE(charge.service_name, refunded.service_name) AS service_name
               FROM ledger_entry AS entry
               LEFT JOIN billing_record AS charge
                 ON entry.ref_type = 'billing_record' AND charge.billing_record_id = entry.ref_id
               LEFT JOIN charge_refund
                 ON entry.ref_type = 'charge_refund' AND charge_refund.charge_refund_id = entry.ref_id
               LEFT JOIN billing_record AS refunded
                 ON refunded.billing_record_id = charge_refund.billing_record_id
               WHERE entry.user_id = ? AND ? <= entry.user_seq AND entry.user_seq < ?) AS movement
         GROUP BY quarter, kind, service_name",
    )
    .bind(account.as_str())
    .bind(first)
    .bind(end)
    .fetch_all(connection)
    .await?;
    read_all(&rows, OnCorrupt::Fail, |row| {
        let columns = Columns::new(row, TABLE, "kind");
        Ok(Movement {
            begins_at: columns.time("begins_at")?,
            kind: columns.text("kind")?,
            service: columns.text_or_null("service_name")?,
            count: columns.units("count")?,
            amount: columns.nanos("amount")?,
        })
    })
}

//! `recharge_refund`: money of paid orders on its way back. Rows are written and changed under their order's lock.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use sqlx::mysql::{MySqlConnection, MySqlRow};

use farebox_core::id::AccountId;
use farebox_core::money::Nanos;

use crate::store::StoreError;
use crate::store::column::{Columns, OnCorrupt, decimal, micros, read_all, require_changed};

const TABLE: &str = "recharge_refund";

/// A refund to write.
#[derive(Debug, Clone)]
pub(crate) struct NewRefund<'a> {
    pub(crate) refund_id: &'a str,
    pub(crate) order_id: &'a str,
    pub(crate) account: &'a AccountId,
    pub(crate) amount: Nanos,
    pub(crate) owed: Nanos,
    pub(crate) currency: &'a str,
    /// `pending` when the payment service still has to be asked, `done` when it began the refund itself.
    pub(crate) state: &'static str,
    pub(crate) origin: &'static str,
    pub(crate) key: Option<(&'a str, &'a [u8])>,
    pub(crate) reason: &'a str,
    pub(crate) actor: &'a str,
    /// When another sidecar takes the refund over, should this one die.
    pub(crate) ask_after: Option<Duration>,
}

/// A refund as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refund {
    pub(crate) refund_id: String,
    pub(crate) order_id: String,
    pub(crate) account: AccountId,
    pub(crate) amount: Nanos,
    pub(crate) owed: Nanos,
    pub(crate) currency: String,
    pub(crate) state: String,
    pub(crate) body_hash: Option<Vec<u8>>,
    pub(crate) reason: String,
    pub(crate) failure: Option<String>,
    pub(crate) attempts: i64,
}

impl Refund {
    pub(crate) fn is_pending(&self) -> bool {
        self.state == "pending"
    }
}

const COLUMNS: &str = "refund_id, order_id, user_id, amount, owed, currency, state, body_hash, reason, failure, \
     CAST(attempts AS SIGNED) AS attempts";

fn read(row: &MySqlRow) -> Result<Refund, StoreError> {
    let columns = Columns::new(row, TABLE, "refund_id");
    Ok(Refund {
        refund_id: columns.text("refund_id")?,
        order_id: columns.text("order_id")?,
        account: columns.name("user_id")?,
        amount: columns.nanos("amount")?,
        owed: columns.nanos("owed")?,
        currency: columns.text("currency")?,
        state: columns.text("state")?,
        body_hash: columns.bytes_or_null("body_hash")?,
        reason: columns.text("reason")?,
        failure: columns.text_or_null("failure")?,
        attempts: columns.integer("attempts")?,
    })
}

/// Writes a refund.
pub(crate) async fn insert(
    connection: &mut MySqlConnection,
    new: &NewRefund<'_>,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO recharge_refund
           (refund_id, order_id, user_id, amount, owed, currency, state, origin, idempotency_key, body_hash, reason, actor,
            ask_at, created_at, updated_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, UTC_TIMESTAMP(3) + INTERVAL ? MICROSECOND, UTC_TIMESTAMP(3),
            UTC_TIMESTAMP(3))",
    )
    .bind(new.refund_id)
    .bind(new.order_id)
    .bind(new.account.as_str())
    .bind(decimal(new.amount))
    .bind(decimal(new.owed))
    .bind(new.currency)
    .bind(new.state)
    .bind(new.origin)
    .bind(new.key.map(|(key, _)| key))
    .bind(new.key.map(|(_, hash)| hash))
    .bind(new.reason)
    .bind(new.actor)
    .bind(new.ask_after.map(micros))
    .execute(connection)
    .await?;
    Ok(())
}

/// Reads the refund that was made under a key.
pub(crate) async fn find_by_key(
    connection: &mut MySqlConnection,
    order_id: &str,
    key: &str,
) -> Result<Option<Refund>, StoreError> {
    let sql =
        format!("SELECT {COLUMNS} FROM recharge_refund WHERE order_id = ? AND idempotency_key = ?");
    let row =
        sqlx::query(AssertSqlSafe(sql)).bind(order_id).bind(key).fetch_optional(connection).await?;
    row.as_ref().map(read).transpose()
}

/// Reads one refund.
pub(crate) async fn find(
    connection: &mut MySqlConnection,
    refund_id: &str,
) -> Result<Option<Refund>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM recharge_refund WHERE refund_id = ?");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(refund_id).fetch_optional(connection).await?;
    row.as_ref().map(read).transpose()
}

/// Every refund of a locked order.
pub(crate) async fn of_order(
    connection: &mut MySqlConnection,
    order_id: &str,
) -> Result<Vec<Refund>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM recharge_refund WHERE order_id = ? ORDER BY created_at, refund_id"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(order_id).fetch_all(connection).await?;
    read_all(&rows, OnCorrupt::Fail, read)
}

/// Pending refunds that are due to be asked for again.
pub(crate) async fn due(
    connection: &mut MySqlConnection,
    limit: u32,
) -> Result<Vec<Refund>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM recharge_refund WHERE ask_at <= UTC_TIMESTAMP(3) ORDER BY ask_at LIMIT ?"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(limit).fetch_all(connection).await?;
    read_all(&rows, OnCorrupt::Skip, read)
}

/// Puts the next question off, unless the refund has ended meanwhile.
pub(crate) async fn ask_again(
    connection: &mut MySqlConnection,
    refund_id: &str,
    pause: Duration,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE recharge_refund
         SET ask_at = UTC_TIMESTAMP(3) + INTERVAL ? MICROSECOND, attempts = attempts + 1, updated_at = UTC_TIMESTAMP(3)
         WHERE refund_id = ? AND state = 'pending'",
    )
    .bind(micros(pause))
    .bind(refund_id)
    .execute(connection)
    .await?;
    Ok(())
}

/// Has the pending refunds of a locked order asked for at once. Whoever asks for one at this moment finds that it was asked
/// for once more since, and that the answer may be older than the news.
pub(crate) async fn hurry(
    connection: &mut MySqlConnection,
    order_id: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE recharge_refund SET attempts = attempts + 1, ask_at = UTC_TIMESTAMP(3), updated_at = UTC_TIMESTAMP(3)
         WHERE order_id = ? AND state = 'pending'",
    )
    .bind(order_id)
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends a pending refund: `done`, or `failed` for a reason.
pub(crate) async fn end(
    connection: &mut MySqlConnection,
    refund_id: &str,
    state: &'static str,
    failure: Option<&str>,
) -> Result<(), StoreError> {
    let changed = sqlx::query(
        "UPDATE recharge_refund SET state = ?, failure = ?, ask_at = NULL, updated_at = UTC_TIMESTAMP(3)
         WHERE refund_id = ? AND state = 'pending'",
    )
    .bind(state)
    .bind(failure)
    .bind(refund_id)
    .execute(connection)
    .await?
    .rows_affected();
    require_changed(TABLE, 1, changed)
}

//! `recharge_order`: orders to add money. A row's lock orders everything that changes the order; the account is locked after it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;
use sqlx::mysql::{MySqlConnection, MySqlRow};

use farebox_core::id::AccountId;
use farebox_core::money::Nanos;
use farebox_core::order::{Method, State};

use crate::store::column::{Columns, OnCorrupt, decimal, micros, read_all, require_changed};
use crate::store::page::{Listed, listed, one_more};
use crate::store::{StoreError, is_new};

const TABLE: &str = "recharge_order";

/// Who made an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Farebox,
    Redis,
}

impl Source {
    fn as_str(self) -> &'static str {
        match self {
            Self::Farebox => "farebox",
            Self::Redis => "redis",
        }
    }
}

/// An order to write.
#[derive(Debug, Clone)]
pub(crate) struct NewOrder<'a> {
    pub(crate) order_id: &'a str,
    pub(crate) account: &'a AccountId,
    pub(crate) amount: Nanos,
    pub(crate) currency: &'a str,
    pub(crate) method: Option<Method>,
    pub(crate) source: Source,
    /// The key and the hash of what it is used for.
    pub(crate) key: Option<(&'a str, &'a [u8])>,
    /// When to ask the payment service for the first time.
    pub(crate) ask_after: Duration,
}

/// An order as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) order_id: String,
    pub(crate) account: AccountId,
    pub(crate) amount: Nanos,
    pub(crate) refunded: Nanos,
    pub(crate) currency: String,
    pub(crate) method: Option<String>,
    pub(crate) payment_id: Option<String>,
    pub(crate) payment_url: Option<String>,
    pub(crate) state: State,
    pub(crate) failure: Option<String>,
    /// Whether the predecessor made it.
    pub(crate) is_inherited: bool,
    pub(crate) body_hash: Option<Vec<u8>>,
    pub(crate) paid_at: Option<DateTime<Utc>>,
    pub(crate) credited_at: Option<DateTime<Utc>>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

/// A place in a list of orders, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) order_id: String,
}

/// Which orders a list has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection<'a> {
    pub(crate) account: Option<&'a AccountId>,
    pub(crate) state: Option<State>,
    /// Only those after this place.
    pub(crate) after: Option<Place>,
}

const COLUMNS: &str = "order_id, user_id, amount, refunded_amount, currency, payment_method, payment_order_id, payment_url, \
     status, failure, source, body_hash, paid_at, credited_at, created_at, updated_at";

fn read(row: &MySqlRow) -> Result<Order, StoreError> {
    let columns = Columns::new(row, TABLE, "order_id");
    Ok(Order {
        order_id: columns.text("order_id")?,
        account: columns.name("user_id")?,
        amount: columns.nanos("amount")?,
        refunded: columns.nanos("refunded_amount")?,
        currency: columns.text("currency")?,
        method: columns.text_or_null("payment_method")?,
        payment_id: columns.text_or_null("payment_order_id")?,
        payment_url: columns.text_or_null("payment_url")?,
        state: columns.name("status")?,
        failure: columns.text_or_null("failure")?,
        is_inherited: columns.text("source")? != Source::Farebox.as_str(),
        body_hash: columns.bytes_or_null("body_hash")?,
        paid_at: columns.time_or_null("paid_at")?,
        credited_at: columns.time_or_null("credited_at")?,
        created_at: columns.time("created_at")?,
        updated_at: columns.time("updated_at")?,
    })
}

/// Writes a pending order; `false` when the order or the user's key is there already.
pub(crate) async fn insert(
    connection: &mut MySqlConnection,
    new: &NewOrder<'_>,
) -> Result<bool, StoreError> {
    let inserted = sqlx::query(
        "INSERT INTO recharge_order
           (order_id, user_id, amount, currency, payment_method, status, source, idempotency_key, body_hash, ask_at,
            created_at, updated_at)
         VALUES (?, ?, ?, ?, ?, 'pending', ?, ?, ?, UTC_TIMESTAMP(3) + INTERVAL ? MICROSECOND, UTC_TIMESTAMP(3),
            UTC_TIMESTAMP(3))",
    )
    .bind(new.order_id)
    .bind(new.account.as_str())
    .bind(decimal(new.amount))
    .bind(new.currency)
    .bind(new.method.map(Method::as_str))
    .bind(new.source.as_str())
    .bind(new.key.map(|(key, _)| key))
    .bind(new.key.map(|(_, hash)| hash))
    .bind(micros(new.ask_after))
    .execute(connection)
    .await;
    is_new(inserted)
}

/// Reads one order.
pub(crate) async fn find(
    connection: &mut MySqlConnection,
    order_id: &str,
) -> Result<Option<Order>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM recharge_order WHERE order_id = ?");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(order_id).fetch_optional(connection).await?;
    row.as_ref().map(read).transpose()
}

/// Reads the order that a user made under a key.
pub(crate) async fn find_by_key(
    connection: &mut MySqlConnection,
    account: &AccountId,
    key: &str,
) -> Result<Option<Order>, StoreError> {
    let sql =
        format!("SELECT {COLUMNS} FROM recharge_order WHERE user_id = ? AND idempotency_key = ?");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(account.as_str())
        .bind(key)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(read).transpose()
}

/// Locks an order until the transaction ends.
pub(crate) async fn lock(
    connection: &mut MySqlConnection,
    order_id: &str,
) -> Result<Option<Order>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM recharge_order WHERE order_id = ? FOR UPDATE");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(order_id).fetch_optional(connection).await?;
    row.as_ref().map(read).transpose()
}

/// Reads the order that has this payment and locks it.
pub(crate) async fn lock_by_payment(
    connection: &mut MySqlConnection,
    payment_id: &str,
) -> Result<Option<Order>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM recharge_order WHERE payment_order_id = ? FOR UPDATE");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(payment_id).fetch_optional(connection).await?;
    row.as_ref().map(read).transpose()
}

/// Reads orders, newest first. Orders that are made meanwhile stand before the first page, so no page shifts. Rows that
/// cannot be read are left out, and count: what stands behind them is not lost.
pub(crate) async fn list(
    connection: &mut MySqlConnection,
    selection: &Selection<'_>,
    limit: u32,
) -> Result<Listed<Order, Place>, StoreError> {
    let mut sql = format!("SELECT {COLUMNS} FROM recharge_order WHERE TRUE");
    if selection.account.is_some() {
        sql.push_str(" AND user_id = ?");
    }
    if selection.state.is_some() {
        sql.push_str(" AND status = ?");
    }
    if selection.after.is_some() {
        sql.push_str(" AND (created_at < ? OR (created_at = ? AND order_id < ?))");
    }
    sql.push_str(" ORDER BY created_at DESC, order_id DESC LIMIT ?");
    let mut query = sqlx::query(AssertSqlSafe(sql));
    if let Some(account) = selection.account {
        query = query.bind(account.as_str());
    }
    if let Some(state) = selection.state {
        query = query.bind(state.as_str());
    }
    if let Some(Place { created_at, order_id }) = &selection.after {
        let created_at = created_at.naive_utc();
        query = query.bind(created_at).bind(created_at).bind(order_id);
    }
    let rows = query.bind(one_more(limit)).fetch_all(connection).await?;
    listed(rows, limit, read, place)
}

fn place(row: &MySqlRow) -> Result<Place, StoreError> {
    let columns = Columns::new(row, TABLE, "order_id");
    Ok(Place { created_at: columns.time("created_at")?, order_id: columns.text("order_id")? })
}

/// How many of a user's orders are pending, counted up to `limit`.
pub(crate) async fn count_pending(
    connection: &mut MySqlConnection,
    account: &AccountId,
    limit: u32,
) -> Result<u32, StoreError> {
    let rows = sqlx::query(
        "SELECT 1 FROM recharge_order WHERE user_id = ? AND status = 'pending' LIMIT ?",
    )
    .bind(account.as_str())
    .bind(limit)
    .fetch_all(connection)
    .await?;
    Ok(u32::try_from(rows.len()).unwrap_or(u32::MAX))
}

/// What became of naming an order's payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// The order has this payment, now or since earlier.
    Yes,
    /// The order has another payment.
    HasAnother,
    /// Another order has this payment.
    Taken,
}

/// Stores which payment an order has, and where it can be paid if that is known. A payment is never changed.
pub(crate) async fn name_payment(
    connection: &mut MySqlConnection,
    order_id: &str,
    payment_id: &str,
    payment_url: Option<&str>,
) -> Result<Named, StoreError> {
    let updated = sqlx::query(
        "UPDATE recharge_order
         SET payment_order_id = ?, payment_url = COALESCE(?, payment_url), updated_at = UTC_TIMESTAMP(3)
         WHERE order_id = ? AND (payment_order_id IS NULL OR payment_order_id = ?)",
    )
    .bind(payment_id)
    .bind(payment_url)
    .bind(order_id)
    .bind(payment_id)
    .execute(connection)
    .await
    .map_err(StoreError::from);
    match updated {
        Ok(done) if done.rows_affected() == 0 => Ok(Named::HasAnother),
        Ok(_) => Ok(Named::Yes),
        Err(err) if err.is_duplicate() => Ok(Named::Taken),
        Err(err) => Err(err),
    }
}

/// Ends a locked order that was not paid. One whose payment failed is asked for further on: a payer may try again.
pub(crate) async fn end(
    connection: &mut MySqlConnection,
    order_id: &str,
    state: State,
    failure: Option<&str>,
) -> Result<(), StoreError> {
    let changed = sqlx::query(
        "UPDATE recharge_order
         SET status = ?, failure = ?, ask_at = IF(? = 'failed' AND payment_order_id IS NOT NULL, ask_at, NULL),
             updated_at = UTC_TIMESTAMP(3)
         WHERE order_id = ? AND status = 'pending'",
    )
    .bind(state.as_str())
    .bind(failure)
    .bind(state.as_str())
    .bind(order_id)
    .execute(connection)
    .await?
    .rows_affected();
    require_changed(TABLE, 1, changed)
}

/// Notes that a locked order was credited. `paid_at` is what the payment service says, else the moment of the credit.
pub(crate) async fn mark_paid(
    connection: &mut MySqlConnection,
    order_id: &str,
    paid_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let changed = sqlx::query(
        "UPDATE recharge_order
         SET status = 'paid', failure = NULL, ask_at = NULL, paid_at = ?, credited_at = ?, updated_at = ?
         WHERE order_id = ? AND status IN ('pending', 'failed') AND credited_at IS NULL",
    )
    .bind(paid_at.unwrap_or(now).naive_utc())
    .bind(now.naive_utc())
    .bind(now.naive_utc())
    .bind(order_id)
    .execute(connection)
    .await?
    .rows_affected();
    require_changed(TABLE, 1, changed)
}

/// Changes nothing of a locked order but its time: nodes of a cluster, whose locks do not reach each other, notice by it
/// that two of them have acted on the same order.
pub(crate) async fn touch(
    connection: &mut MySqlConnection,
    order_id: &str,
) -> Result<(), StoreError> {
    let changed = sqlx::query(
        "UPDATE recharge_order SET updated_at = IF(updated_at = UTC_TIMESTAMP(3),
           UTC_TIMESTAMP(3) + INTERVAL 1000 MICROSECOND, UTC_TIMESTAMP(3))
         WHERE order_id = ?",
    )
    .bind(order_id)
    .execute(connection)
    .await?
    .rows_affected();
    require_changed(TABLE, 1, changed)
}

/// Notes how much of a locked, paid order has gone back.
pub(crate) async fn mark_refunded(
    connection: &mut MySqlConnection,
    order_id: &str,
    refunded: Nanos,
    state: State,
) -> Result<(), StoreError> {
    let changed = sqlx::query(
        "UPDATE recharge_order SET status = ?, refunded_amount = ?, updated_at = UTC_TIMESTAMP(3)
         WHERE order_id = ? AND status IN ('paid', 'partly_refunded', 'refunded')",
    )
    .bind(state.as_str())
    .bind(decimal(refunded))
    .bind(order_id)
    .execute(connection)
    .await?
    .rows_affected();
    require_changed(TABLE, 1, changed)
}

/// Orders that are due to be asked for, the longest overdue first.
pub(crate) async fn due(
    connection: &mut MySqlConnection,
    limit: u32,
) -> Result<Vec<Order>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM recharge_order WHERE ask_at <= UTC_TIMESTAMP(3) ORDER BY ask_at LIMIT ?"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(limit).fetch_all(connection).await?;
    read_all(&rows, OnCorrupt::Skip, read)
}

/// Puts the next question off, unless nothing is to be asked any more.
pub(crate) async fn ask_again(
    connection: &mut MySqlConnection,
    order_id: &str,
    pause: Duration,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE recharge_order SET ask_at = UTC_TIMESTAMP(3) + INTERVAL ? MICROSECOND
         WHERE order_id = ? AND ask_at IS NOT NULL",
    )
    .bind(micros(pause))
    .bind(order_id)
    .execute(connection)
    .await?;
    Ok(())
}

/// Asks no more about an order that has ended.
pub(crate) async fn stop_asking(
    connection: &mut MySqlConnection,
    order_id: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE recharge_order SET ask_at = NULL WHERE order_id = ? AND status <> 'pending'",
    )
    .bind(order_id)
    .execute(connection)
    .await?;
    Ok(())
}

//! The predecessor's rows into our tables, a transaction each kind, and the records bit by bit.

use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Row};

use super::Place;
use crate::store::StoreError;

/// How many records are copied in one transaction.
const RECORDS: u32 = 20_000;

/// The books begin with what every account has: as in a database that was migrated.
const OPEN: &str = include_str!("../../../../migrations/20261122000022_ledger_entry_opening.sql");
const NUMBER: &str =
    include_str!("../../../../migrations/20261122000023_user_balance_entry_seq.sql");

/// Every spelling of every user. The one in `user_balance` is the account's, where there is one.
const NAME_ACCOUNTS: &str = "INSERT INTO predecessor_user (name, account, has_account)
    SELECT [key user], TRIM(TRAILING ' ' FROM [exact user]), TRUE FROM [user_balance]";

const NAME_USERS: &str = "INSERT INTO predecessor_user (name, account, has_account)
    SELECT others.name, TRIM(TRAILING ' ' FROM CONVERT(MIN(others.bytes) USING utf8mb4)), TRUE
    FROM (
      SELECT [key user] AS name, CAST([user] AS BINARY) AS bytes FROM [free_quota] WHERE NOT [unlimited]
      UNION SELECT [key user], CAST([user] AS BINARY) FROM [billing_record]
    ) AS others
    LEFT JOIN predecessor_user AS known ON known.name = others.name
    WHERE known.name IS NULL GROUP BY others.name";

const NAME_PAYERS: &str = "INSERT INTO predecessor_user (name, account, has_account)
    SELECT others.name, TRIM(TRAILING ' ' FROM CONVERT(MIN(others.bytes) USING utf8mb4)), FALSE
    FROM (SELECT [key user] AS name, CAST([user] AS BINARY) AS bytes FROM [recharge_order]) AS others
    LEFT JOIN predecessor_user AS known ON known.name = others.name
    WHERE known.name IS NULL GROUP BY others.name";

/// What is below zero is owed.
const ACCOUNTS: &str = "INSERT INTO user_balance
      (user_balance_id, user_id, balance, held, receivable, currency, entry_seq, created_at, updated_at)
    SELECT theirs.user_balance_id, known.account, GREATEST(COALESCE(theirs.balance, 0), 0), 0,
           GREATEST(-COALESCE(theirs.balance, 0), 0), ?, 0,
           COALESCE(theirs.created_at, UTC_TIMESTAMP(3)), COALESCE(theirs.updated_at, UTC_TIMESTAMP(3))
    FROM [user_balance] AS theirs JOIN predecessor_user AS known ON known.name = [key theirs.user]";

/// Users with quotas or records alone. Their row's name is made of theirs, so that it is the same however often it is made.
const OTHER_ACCOUNTS: &str = "INSERT INTO user_balance
      (user_balance_id, user_id, balance, held, receivable, currency, entry_seq, created_at, updated_at)
    SELECT CONCAT('acc-', LEFT(SHA2(known.account, 256), 32)), known.account, 0, 0, 0, ?, 0, UTC_TIMESTAMP(3), UTC_TIMESTAMP(3)
    FROM predecessor_user AS known LEFT JOIN user_balance AS account ON account.user_id = known.account
    WHERE known.has_account AND account.user_id IS NULL";

/// One quota per user, service and month. Apps had one each: the largest total is the quota, and all that was used counts,
/// up to that total.
const QUOTAS: &str = "INSERT INTO free_quota
      (free_quota_id, user_id, service_name, total_quota, used_quota, held_quota, reset_month, created_at, updated_at)
    SELECT MIN(theirs.free_quota_id), known.account, theirs.service, MAX(theirs.total),
           LEAST(SUM(theirs.used), MAX(theirs.total)), 0, theirs.month,
           COALESCE(MIN(theirs.created_at), UTC_TIMESTAMP(3)), COALESCE(MAX(theirs.updated_at), UTC_TIMESTAMP(3))
    FROM (
      SELECT free_quota_id, [key user] AS name, [exact service_name] AS service, CONVERT(reset_month USING utf8mb4) COLLATE utf8mb4_bin AS month,
             GREATEST(COALESCE(total_quota, 0), 0) AS total, GREATEST(COALESCE(used_quota, 0), 0) AS used, created_at, updated_at
      FROM [free_quota] WHERE NOT [unlimited]
    ) AS theirs JOIN predecessor_user AS known ON known.name = theirs.name
    GROUP BY known.account, theirs.service, theirs.month";

/// An empty payment, or the order's own name, stood where no payment was known. Pending orders are asked for at once.
const ORDERS: &str = "INSERT INTO recharge_order
      (order_id, user_id, amount, currency, payment_order_id, status, source, ask_at, created_at, updated_at)
    SELECT theirs.[order], known.account, theirs.amount, ?,
           IF(theirs.[payment] IN ('', theirs.[order]), NULL, theirs.[payment]),
           CASE CAST(theirs.status AS CHAR) WHEN 'success' THEN 'paid' WHEN 'failed' THEN 'failed' ELSE 'pending' END, 'predecessor',
           IF(COALESCE(CAST(theirs.status AS CHAR), 'pending') = 'pending', UTC_TIMESTAMP(3), NULL),
           COALESCE(theirs.created_at, UTC_TIMESTAMP(3)), COALESCE(theirs.updated_at, UTC_TIMESTAMP(3))
    FROM [recharge_order] AS theirs JOIN predecessor_user AS known ON known.name = [key theirs.user]";

/// A record was paid from one source only.
const SOME_RECORDS: &str = "INSERT INTO billing_record
      (billing_record_id, user_id, service_name, type, amount, count, free_units, paid_units, source, legacy_app_id, created_at)
    SELECT theirs.billing_record_id, known.account, theirs.service_name, theirs.word, theirs.amount, theirs.units,
           IF(theirs.word = 'free', theirs.units, 0), IF(theirs.word = 'free', 0, theirs.units), 'legacy', theirs.app, theirs.created_at
    FROM (
      SELECT billing_record_id, [key user] AS name, service_name, [type] AS word, COALESCE(amount, 0) AS amount,
             GREATEST(COALESCE(count, 1), 0) AS units, NULLIF([app], '') AS app, COALESCE(created_at, UTC_TIMESTAMP(3)) AS created_at
      FROM [billing_record] WHERE [from] AND billing_record_id <= ?
    ) AS theirs JOIN predecessor_user AS known ON known.name = theirs.name";

/// Makes the accounts, and opens their books.
pub(crate) async fn accounts(
    connection: &mut MySqlConnection,
    place: Place,
    currency: &str,
) -> Result<(), StoreError> {
    run(connection, place, NAME_ACCOUNTS, &[]).await?;
    run(connection, place, NAME_USERS, &[]).await?;
    if place.shape.has_orders {
        run(connection, place, NAME_PAYERS, &[]).await?;
    }
    run(connection, place, ACCOUNTS, &[currency]).await?;
    run(connection, place, OTHER_ACCOUNTS, &[currency]).await?;
    sqlx::raw_sql(OPEN).execute(&mut *connection).await?;
    sqlx::raw_sql(NUMBER).execute(connection).await?;
    Ok(())
}

/// Makes the free quotas.
pub(crate) async fn quotas(
    connection: &mut MySqlConnection,
    place: Place,
) -> Result<(), StoreError> {
    run(connection, place, QUOTAS, &[]).await
}

/// Makes the orders.
pub(crate) async fn orders(
    connection: &mut MySqlConnection,
    place: Place,
    currency: &str,
) -> Result<(), StoreError> {
    if place.shape.has_orders { run(connection, place, ORDERS, &[currency]).await } else { Ok(()) }
}

/// Makes the next records after this one; the last of them, or `None` when there are no more.
pub(crate) async fn records(
    connection: &mut MySqlConnection,
    place: Place,
    after: Option<&str>,
) -> Result<Option<String>, StoreError> {
    let from = if after.is_some() { "? < billing_record_id" } else { "TRUE" };
    let last = format!(
        "SELECT billing_record_id FROM (
           SELECT billing_record_id FROM [billing_record] WHERE {from} ORDER BY billing_record_id LIMIT {RECORDS}
         ) AS next ORDER BY billing_record_id DESC LIMIT 1"
    );
    let mut query = sqlx::query(AssertSqlSafe(place.sql(&last)));
    if let Some(after) = after {
        query = query.bind(after);
    }
    let Some(last) = query.fetch_optional(&mut *connection).await? else { return Ok(None) };
    let last: String = last.try_get(0)?;
    let values: Vec<&str> = after.into_iter().chain([last.as_str()]).collect();
    run(connection, place, &SOME_RECORDS.replace("[from]", from), &values).await?;
    Ok(Some(last))
}

async fn run(
    connection: &mut MySqlConnection,
    place: Place,
    text: &str,
    values: &[&str],
) -> Result<(), StoreError> {
    let mut query = sqlx::query(AssertSqlSafe(place.sql(text)));
    for value in values {
        query = query.bind(*value);
    }
    query.execute(connection).await?;
    Ok(())
}

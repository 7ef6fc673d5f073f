//! Sums: what stands in the predecessor's tables, what that must become, and what stands in ours.
//!
//! What must come of it is summed up from the predecessor's rows by statements of their own, not by those that copy.

use std::fmt;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, Row};

use super::Place;
use crate::store::StoreError;

/// A sum of money, without zeros at its end; text in JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sum(pub(crate) Decimal);

impl TryFrom<String> for Sum {
    type Error = rust_decimal::Error;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

impl From<Sum> for String {
    fn from(sum: Sum) -> Self {
        sum.to_string()
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What stands in the predecessor's tables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Users that any table names.
    pub users: u64,
    /// `user_balance`.
    pub accounts: Accounts,
    /// `free_quota`, by month and service; without the rows of apps that were free.
    pub quotas: Vec<QuotaSum>,
    /// Rows of apps that were free, and what they had used.
    pub unlimited: UnlimitedSum,
    /// `billing_record`, by type.
    pub records: Vec<RecordSum>,
    /// `recharge_order`, by status.
    pub orders: Vec<OrderSum>,
}

/// The predecessor's balances.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounts {
    /// Rows.
    pub rows: u64,
    /// Rows above zero.
    pub positive_rows: u64,
    /// Their sum.
    pub positive: Sum,
    /// Rows below zero.
    pub negative_rows: u64,
    /// Their sum, below zero.
    pub negative: Sum,
}

/// The free quotas of a month and service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaSum {
    /// `YYYY-MM`.
    pub month: String,
    /// The service.
    pub service: String,
    /// Rows.
    pub rows: u64,
    /// Units in all.
    pub total: i64,
    /// Units used.
    pub used: i64,
}

/// Quotas of apps that were free.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnlimitedSum {
    /// Rows.
    pub rows: u64,
    /// Units used.
    pub used: i64,
}

/// The billing records of a type.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordSum {
    /// `free` or `balance`.
    pub kind: String,
    /// Rows.
    pub rows: u64,
    /// Units.
    pub units: i64,
    /// Money.
    pub amount: Sum,
}

/// The orders of a status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderSum {
    /// The status, in the predecessor's words before and in ours after.
    pub status: String,
    /// Rows.
    pub rows: u64,
    /// Money.
    pub amount: Sum,
}

/// What stands in our tables, or must.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Accounts.
    pub accounts: u64,
    /// Sum of all balances.
    pub balance: Sum,
    /// Sum of all receivables.
    pub receivable: Sum,
    /// Sum of the opening entries of balances.
    pub opened: Sum,
    /// Sum of the opening entries of receivables.
    pub opened_receivable: Sum,
    /// Free quotas, by month and service.
    pub quotas: Vec<QuotaSum>,
    /// Billing records, by type.
    pub records: Vec<RecordSum>,
    /// Orders, by state.
    pub orders: Vec<OrderSum>,
}

impl Totals {
    /// What differs first, in words; `None` when nothing does.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        let tell = |what: &str, these: &dyn std::fmt::Display, those: &dyn std::fmt::Display| {
            Some(format!("{what}: {these} was planned, {those} is there"))
        };
        if self.accounts != other.accounts {
            return tell("accounts", &self.accounts, &other.accounts);
        }
        for (what, these, those) in [
            ("sum of the balances", self.balance, other.balance),
            ("sum of the receivables", self.receivable, other.receivable),
            ("opening entries of balances", self.opened, other.opened),
            ("opening entries of receivables", self.opened_receivable, other.opened_receivable),
        ] {
            if these != those {
                return tell(what, &these, &those);
            }
        }
        let part = |what: &str, these: String, those: String| {
            if these == those { None } else { tell(what, &these, &those) }
        };
        part("free quotas", format!("{:?}", self.quotas), format!("{:?}", other.quotas))
            .or_else(|| {
                part("records", format!("{:?}", self.records), format!("{:?}", other.records))
            })
            .or_else(|| part("orders", format!("{:?}", self.orders), format!("{:?}", other.orders)))
    }
}

/// Every user that any table names, once; accounts are made for those outside of orders.
const NAMES: &str = "SELECT [key user] AS name FROM [user_balance]
    UNION SELECT [key user] FROM [free_quota] WHERE NOT [unlimited]
    UNION SELECT [key user] FROM [billing_record]";

/// A user's quotas of a service and month as one, in its bounds.
const MERGED: &str = "SELECT reset_month AS month, [exact service_name] AS service,
           GREATEST(MAX(COALESCE(total_quota, 0)), 0) AS total,
           LEAST(SUM(GREATEST(COALESCE(used_quota, 0), 0)), GREATEST(MAX(COALESCE(total_quota, 0)), 0)) AS used
    FROM [free_quota] WHERE NOT [unlimited]
    GROUP BY [key user], [exact service_name], reset_month";

/// Sums up the predecessor's tables.
pub(crate) async fn found(
    connection: &mut MySqlConnection,
    place: Place,
) -> Result<Found, StoreError> {
    let names = format!("{NAMES} UNION SELECT [key user] FROM [free_quota]");
    let names = if place.shape.has_orders {
        format!("{names} UNION SELECT [key user] FROM [recharge_order]")
    } else {
        names
    };
    let users = one(connection, place, &format!("SELECT COUNT(*) FROM ({names}) AS names")).await?;
    let accounts = one(
        connection,
        place,
        "SELECT COUNT(*), CAST(COALESCE(SUM(0 < balance), 0) AS SIGNED), COALESCE(SUM(IF(0 < balance, balance, 0)), 0),
                CAST(COALESCE(SUM(balance < 0), 0) AS SIGNED), COALESCE(SUM(IF(balance < 0, balance, 0)), 0)
         FROM [user_balance]",
    )
    .await?;
    let unlimited = one(
        connection,
        place,
        "SELECT COUNT(*), CAST(COALESCE(SUM(used_quota), 0) AS SIGNED) FROM [free_quota] WHERE [unlimited]",
    )
    .await?;
    Ok(Found {
        users: count(&users, 0)?,
        accounts: Accounts {
            rows: count(&accounts, 0)?,
            positive_rows: count(&accounts, 1)?,
            positive: money(&accounts, 2)?,
            negative_rows: count(&accounts, 3)?,
            negative: money(&accounts, 4)?,
        },
        quotas: quotas(
            connection,
            place,
            "SELECT CAST(reset_month AS CHAR), [exact service_name] AS service, COUNT(*),
                    CAST(COALESCE(SUM(total_quota), 0) AS SIGNED), CAST(COALESCE(SUM(used_quota), 0) AS SIGNED)
             FROM [free_quota] WHERE NOT [unlimited] GROUP BY reset_month, service ORDER BY reset_month, service",
        )
        .await?,
        unlimited: UnlimitedSum { rows: count(&unlimited, 0)?, used: unlimited.try_get(1)? },
        records: records(
            connection,
            place,
            "SELECT COALESCE([type], '?') AS kind, COUNT(*), CAST(COALESCE(SUM(count), 0) AS SIGNED), COALESCE(SUM(amount), 0)
             FROM [billing_record] GROUP BY kind ORDER BY kind",
        )
        .await?,
        orders: orders(
            connection,
            place,
            "SELECT COALESCE(CAST(status AS CHAR), 'pending') AS word, COUNT(*), COALESCE(SUM(amount), 0)
             FROM [recharge_order] GROUP BY word ORDER BY word",
        )
        .await?,
    })
}

/// What the predecessor's rows must become.
pub(crate) async fn expected(
    connection: &mut MySqlConnection,
    place: Place,
) -> Result<Totals, StoreError> {
    let accounts =
        one(connection, place, &format!("SELECT COUNT(*) FROM ({NAMES}) AS names")).await?;
    let money_row = one(
        connection,
        place,
        "SELECT COALESCE(SUM(GREATEST(COALESCE(balance, 0), 0)), 0), COALESCE(SUM(GREATEST(-COALESCE(balance, 0), 0)), 0)
         FROM [user_balance]",
    )
    .await?;
    let (balance, receivable) = (money(&money_row, 0)?, money(&money_row, 1)?);
    let merged = format!(
        "SELECT CAST(month AS CHAR), service, COUNT(*), CAST(SUM(total) AS SIGNED), CAST(SUM(used) AS SIGNED)
         FROM ({MERGED}) AS merged GROUP BY month, service ORDER BY month, service"
    );
    Ok(Totals {
        accounts: count(&accounts, 0)?,
        balance,
        receivable,
        opened: balance,
        opened_receivable: receivable,
        quotas: quotas(connection, place, &merged).await?,
        records: records(
            connection,
            place,
            "SELECT COALESCE([type], '?') AS kind, COUNT(*),
                    CAST(COALESCE(SUM(GREATEST(COALESCE(count, 1), 0)), 0) AS SIGNED), COALESCE(SUM(amount), 0)
             FROM [billing_record] GROUP BY kind ORDER BY kind",
        )
        .await?,
        orders: orders(
            connection,
            place,
            "SELECT CASE CAST(status AS CHAR) WHEN 'success' THEN 'paid' WHEN 'failed' THEN 'failed' ELSE 'pending' END AS word,
                    COUNT(*), COALESCE(SUM(amount), 0)
             FROM [recharge_order] GROUP BY word ORDER BY word",
        )
        .await?,
    })
}

/// What stands in our tables.
pub(crate) async fn ours(connection: &mut MySqlConnection) -> Result<Totals, StoreError> {
    let accounts = sqlx::query(
        "SELECT COUNT(*), COALESCE(SUM(balance), 0), COALESCE(SUM(receivable), 0) FROM user_balance",
    )
    .fetch_one(&mut *connection)
    .await?;
    let opened = sqlx::query(
        "SELECT COALESCE(SUM(IF(book = 'user', amount, 0)), 0), COALESCE(-SUM(IF(book = 'receivable', amount, 0)), 0)
         FROM ledger_entry WHERE kind = 'opening'",
    )
    .fetch_one(&mut *connection)
    .await?;
    let quotas = sqlx::query(
        "SELECT reset_month, service_name, COUNT(*), CAST(SUM(total_quota) AS SIGNED), CAST(SUM(used_quota) AS SIGNED)
         FROM free_quota GROUP BY reset_month, service_name ORDER BY reset_month, service_name",
    )
    .fetch_all(&mut *connection)
    .await?;
    let records = sqlx::query(
        "SELECT CAST(type AS CHAR) AS kind, COUNT(*), CAST(SUM(IF(type = 'free', free_units, paid_units)) AS SIGNED), SUM(amount)
         FROM billing_record WHERE count = free_units + paid_units GROUP BY kind ORDER BY kind",
    )
    .fetch_all(&mut *connection)
    .await?;
    let orders = sqlx::query(
        "SELECT CAST(status AS CHAR) AS word, COUNT(*), SUM(amount) FROM recharge_order GROUP BY word ORDER BY word",
    )
    .fetch_all(&mut *connection)
    .await?;
    Ok(Totals {
        accounts: count(&accounts, 0)?,
        balance: money(&accounts, 1)?,
        receivable: money(&accounts, 2)?,
        opened: money(&opened, 0)?,
        opened_receivable: money(&opened, 1)?,
        quotas: quotas.iter().map(quota_sum).collect::<Result<_, _>>()?,
        records: records.iter().map(record_sum).collect::<Result<_, _>>()?,
        orders: orders.iter().map(order_sum).collect::<Result<_, _>>()?,
    })
}

async fn one(
    connection: &mut MySqlConnection,
    place: Place,
    text: &str,
) -> Result<MySqlRow, StoreError> {
    Ok(sqlx::query(AssertSqlSafe(place.sql(text))).fetch_one(connection).await?)
}

async fn all(
    connection: &mut MySqlConnection,
    place: Place,
    text: &str,
) -> Result<Vec<MySqlRow>, StoreError> {
    Ok(sqlx::query(AssertSqlSafe(place.sql(text))).fetch_all(connection).await?)
}

async fn quotas(
    connection: &mut MySqlConnection,
    place: Place,
    text: &str,
) -> Result<Vec<QuotaSum>, StoreError> {
    all(connection, place, text).await?.iter().map(quota_sum).collect()
}

async fn records(
    connection: &mut MySqlConnection,
    place: Place,
    text: &str,
) -> Result<Vec<RecordSum>, StoreError> {
    all(connection, place, text).await?.iter().map(record_sum).collect()
}

async fn orders(
    connection: &mut MySqlConnection,
    place: Place,
    text: &str,
) -> Result<Vec<OrderSum>, StoreError> {
    if !place.shape.has_orders {
        return Ok(Vec::new());
    }
    all(connection, place, text).await?.iter().map(order_sum).collect()
}

fn quota_sum(row: &MySqlRow) -> Result<QuotaSum, StoreError> {
    let (month, service) = (row.try_get(0)?, row.try_get(1)?);
    let (total, used) = (row.try_get(3)?, row.try_get(4)?);
    Ok(QuotaSum { month, service, rows: count(row, 2)?, total, used })
}

fn record_sum(row: &MySqlRow) -> Result<RecordSum, StoreError> {
    let (kind, units) = (row.try_get(0)?, row.try_get(2)?);
    Ok(RecordSum { kind, rows: count(row, 1)?, units, amount: money(row, 3)? })
}

fn order_sum(row: &MySqlRow) -> Result<OrderSum, StoreError> {
    Ok(OrderSum { status: row.try_get(0)?, rows: count(row, 1)?, amount: money(row, 2)? })
}

fn count(row: &MySqlRow, column: usize) -> Result<u64, StoreError> {
    Ok(row.try_get::<i64, _>(column)?.unsigned_abs())
}

fn money(row: &MySqlRow, column: usize) -> Result<Sum, StoreError> {
    Ok(Sum(row.try_get::<Decimal, _>(column)?.normalize()))
}

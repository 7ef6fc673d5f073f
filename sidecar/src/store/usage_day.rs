//! `usage_day`: what each account used, by service and day.

use chrono::NaiveDate;
use farebox_core::grant::Split;
use farebox_core::id::{AccountId, ServiceName};
use farebox_core::money::Nanos;
use serde::Serialize;
use sqlx::mysql::MySqlConnection;

use crate::store::StoreError;
use crate::store::column::{Columns, OnCorrupt, json, read_all};

/// Usage of one service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Units that were charged.
    pub(crate) units: Split,
    /// Money that was charged, the owed part included.
    pub(crate) amount: Nanos,
    /// The part that found no money.
    pub(crate) owed: Nanos,
    /// Units that went back.
    pub(crate) refunded_units: Split,
    /// Money that went back.
    pub(crate) refunded: Nanos,
}

/// Usage to add to a day.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Added<'a> {
    pub(crate) account: &'a AccountId,
    pub(crate) service: &'a ServiceName,
    pub(crate) usage: Usage,
}

#[derive(Serialize)]
struct Row<'a> {
    account: &'a AccountId,
    service: &'a ServiceName,
    free: u64,
    paid: u64,
    amount: Nanos,
    owed: Nanos,
    free_refunded: u64,
    paid_refunded: u64,
    refunded: Nanos,
}

impl<'a> From<&Added<'a>> for Row<'a> {
    fn from(added: &Added<'a>) -> Self {
        let Usage { units, amount, owed, refunded_units, refunded } = added.usage;
        Self {
            account: added.account,
            service: added.service,
            free: units.free,
            paid: units.paid,
            amount,
            owed,
            free_refunded: refunded_units.free,
            paid_refunded: refunded_units.paid,
            refunded,
        }
    }
}

/// Adds usage to a day. The accounts are locked, so nobody else writes these rows.
pub(crate) async fn add(
    connection: &mut MySqlConnection,
    day: NaiveDate,
    added: &[Added<'_>],
) -> Result<(), StoreError> {
    if added.is_empty() {
        return Ok(());
    }
    let rows: Vec<Row<'_>> = added.iter().map(Row::from).collect();
    sqlx::query(
        "INSERT INTO usage_day
           (user_id, day, service_name, free_units, paid_units, amount, owed, free_refunded, paid_refunded, refunded)
         SELECT new.account, ?, new.service, new.free, new.paid, new.amount, new.owed, new.free_refunded,
                new.paid_refunded, new.refunded
         FROM JSON_TABLE(?, '$[*]' COLUMNS (
           account VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.account',
           service VARCHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.service',
           free BIGINT PATH '$.free',
           paid BIGINT PATH '$.paid',
           amount DECIMAL(19,9) PATH '$.amount',
           owed DECIMAL(19,9) PATH '$.owed',
           free_refunded BIGINT PATH '$.free_refunded',
           paid_refunded BIGINT PATH '$.paid_refunded',
           refunded DECIMAL(19,9) PATH '$.refunded'
         )) AS new
         ON DUPLICATE KEY UPDATE
           usage_day.free_units = usage_day.free_units + VALUES(free_units),
           usage_day.paid_units = usage_day.paid_units + VALUES(paid_units),
           usage_day.amount = usage_day.amount + VALUES(amount),
           usage_day.owed = usage_day.owed + VALUES(owed),
           usage_day.free_refunded = usage_day.free_refunded + VALUES(free_refunded),
           usage_day.paid_refunded = usage_day.paid_refunded + VALUES(paid_refunded),
           usage_day.refunded = usage_day.refunded + VALUES(refunded)",
    )
    .bind(day)
    .bind(json(&rows))
    .execute(connection)
    .await?;
    Ok(())
}

/// What an account used on the days from `from` up to but not including `to`, by service, in order of their names.
pub(crate) async fn sums(
    connection: &mut MySqlConnection,
    account: &AccountId,
    from: NaiveDate,
    to: NaiveDate,
) -> Result<Vec<(String, Usage)>, StoreError> {
    let rows = sqlx::query(
        "SELECT service_name, CAST(SUM(free_units) AS SIGNED) AS free_units, CAST(SUM(paid_units) AS SIGNED) AS paid_units,
                SUM(amount) AS amount, SUM(owed) AS owed, CAST(SUM(free_refunded) AS SIGNED) AS free_refunded,
                CAST(SUM(paid_refunded) AS SIGNED) AS paid_refunded, SUM(refunded) AS refunded
         FROM usage_day WHERE user_id = ? AND ? <= day AND day < ?
         GROUP BY service_name ORDER BY service_name",
    )
    .bind(account.as_str())
    .bind(from)
    .bind(to)
    .fetch_all(connection)
    .await?;
    read_all(&rows, OnCorrupt::Fail, |row| {
        let columns = Columns::new(row, "usage_day", "service_name");
        let usage = Usage {
            units: Split { free: columns.units("free_units")?, paid: columns.units("paid_units")? },
            amount: columns.nanos("amount")?,
            owed: columns.nanos("owed")?,
            refunded_units: Split {
                free: columns.units("free_refunded")?,
                paid: columns.units("paid_refunded")?,
            },
            refunded: columns.nanos("refunded")?,
        };
        Ok((columns.text("service_name")?, usage))
    })
}

/// A day and the moments at which it begins and ends, for [`backfill`].
#[derive(Debug, Serialize)]
pub(crate) struct Day {
    /// Texts for [`JSON_TABLE`](crate::store).
    pub(crate) day: String,
    pub(crate) from: String,
    pub(crate) to: String,
}

/// Sums up the records of these days, unless there is a sum already; how many sums were made.
pub(crate) async fn backfill(
    connection: &mut MySqlConnection,
    days: &[Day],
) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "INSERT INTO usage_day
           (user_id, day, service_name, free_units, paid_units, amount, owed, free_refunded, paid_refunded, refunded)
         SELECT record.user_id, days.day, record.service_name, SUM(record.free_units),
                SUM(IF(record.source = 'package', 0, record.paid_units)),
                SUM(record.amount), SUM(record.owed), 0, 0, 0
         FROM JSON_TABLE(?, '$[*]' COLUMNS (
           day DATE PATH '$.day',
           since DATETIME(3) PATH '$.from',
           until DATETIME(3) PATH '$.to'
         )) AS days
         JOIN billing_record AS record ON days.since <= record.created_at AND record.created_at < days.until
         WHERE NOT EXISTS (SELECT 1 FROM usage_day)
         GROUP BY record.user_id, days.day, record.service_name",
    )
    .bind(json(&days))
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

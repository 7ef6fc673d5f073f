//! What a month's usage at the price book's prices earned, and would have earned at others.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::Serialize;
use sqlx::mysql::MySqlConnection;

use farebox_core::id::ServiceName;
use farebox_core::money::Nanos;

use crate::store::StoreError;
use crate::store::column::{Columns, OnCorrupt, json, read_all};

/// Usage of one service, or of one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Usage {
    /// The service or the account.
    pub(crate) name: String,
    pub(crate) earned: Decimal,
    pub(crate) would_have_earned: Decimal,
}

#[derive(Debug, Serialize)]
struct Wanted<'p> {
    service: &'p ServiceName,
    price: Nanos,
}

/// Paid units that were not given back, by service.
pub(crate) async fn by_service(
    connection: &mut MySqlConnection,
    month: &str,
    prices: &BTreeMap<ServiceName, Nanos>,
) -> Result<Vec<Usage>, StoreError> {
    usage(connection, month, prices, "record.service_name", "name", u32::MAX).await
}

/// The accounts that would have paid most more or less.
pub(crate) async fn most_affected(
    connection: &mut MySqlConnection,
    month: &str,
    prices: &BTreeMap<ServiceName, Nanos>,
    limit: u32,
) -> Result<Vec<Usage>, StoreError> {
    let order = "ABS(would_have_earned - earned) DESC, name";
    usage(connection, month, prices, "record.user_id", order, limit).await
}

async fn usage(
    connection: &mut MySqlConnection,
    month: &str,
    prices: &BTreeMap<ServiceName, Nanos>,
    name: &'static str,
    order: &'static str,
    limit: u32,
) -> Result<Vec<Usage>, StoreError> {
    let wanted: Vec<Wanted<'_>> =
        prices.iter().map(|(service, &price)| Wanted { service, price }).collect();
    let sql = format!(
        "SELECT * FROM (
           SELECT {name} AS name,
                  SUM(record.unit_price * (record.paid_units - record.paid_refunded)) AS earned,
                  SUM(wanted.price * (record.paid_units - record.paid_refunded)) AS would_have_earned
           FROM billing_record AS record
           JOIN price_version USING (price_version_id)
           JOIN JSON_TABLE(?, '$[*]' COLUMNS (
             service VARCHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.service',
             price DECIMAL(19,9) PATH '$.price'
           )) AS wanted ON wanted.service = record.service_name
           WHERE record.reset_month = ? AND price_version.source = 'book'
           GROUP BY {name}
         ) AS total ORDER BY {order} LIMIT ?"
    );
    // Two fixed texts are put in, and nothing of a user's.
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(json(&wanted))
        .bind(month)
        .bind(limit)
        .fetch_all(connection)
        .await?;
    read_all(&rows, OnCorrupt::Fail, |row| {
        let columns = Columns::new(row, "billing_record", "name");
        Ok(Usage {
            name: columns.text("name")?,
            earned: columns.sum("earned")?,
            would_have_earned: columns.sum("would_have_earned")?,
        })
    })
}

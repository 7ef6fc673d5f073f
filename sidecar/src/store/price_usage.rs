//! What a month's usage at the price book's prices was, account by account.

use std::collections::BTreeSet;

use futures_util::TryStreamExt;
use rust_decimal::Decimal;
use sqlx::mysql::{MySqlConnection, MySqlRow};

use farebox_core::id::{AccountId, ServiceName};

use crate::store::StoreError;
use crate::store::column::{Columns, json};

/// Usage of one account and service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) account: AccountId,
    pub(crate) service: ServiceName,
    /// Paid units that were not given back.
    pub(crate) units: u64,
    /// What they were charged.
    pub(crate) earned: Decimal,
}

/// Tells the month's usage of these services, in order of the accounts' names. There may be more accounts than memory holds.
pub(crate) async fn each(
    connection: &mut MySqlConnection,
    month: &str,
    services: &BTreeSet<&ServiceName>,
    mut tell: impl FnMut(Usage),
) -> Result<(), StoreError> {
    let mut rows = sqlx::query(
        "SELECT record.user_id, record.service_name,
                CAST(SUM(IF(record.source = 'package', 0, record.paid_units - record.paid_refunded)) AS SIGNED) AS units,
                SUM(record.unit_price * (record.paid_units - record.paid_refunded)) AS earned
         FROM billing_record AS record
         JOIN price_version USING (price_version_id)
         JOIN JSON_TABLE(?, '$[*]' COLUMNS (
           service VARCHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$'
         )) AS wanted ON wanted.service = record.service_name
         WHERE record.reset_month = ? AND price_version.source = 'book'
         GROUP BY record.user_id, record.service_name
         ORDER BY record.user_id, record.service_name",
    )
    .bind(json(services))
    .bind(month)
    .fetch(connection);
    while let Some(row) = rows.try_next().await? {
        tell(read(&row)?);
    }
    Ok(())
}

fn read(row: &MySqlRow) -> Result<Usage, StoreError> {
    let columns = Columns::new(row, "billing_record", "user_id");
    Ok(Usage {
        account: columns.name("user_id")?,
        service: columns.name("service_name")?,
        units: columns.units("units")?,
        earned: columns.sum("earned")?,
    })
}

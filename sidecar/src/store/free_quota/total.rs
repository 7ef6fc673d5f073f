//! Rows whose total is not what the configuration gives.

use serde::Serialize;
use sqlx::mysql::MySqlConnection;

use farebox_core::id::ServiceName;

use super::{Quota, read};
use crate::store::StoreError;
use crate::store::column::{OnCorrupt, json, read_all};

/// What a service gives.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Given<'a> {
    pub(crate) service: &'a ServiceName,
    pub(crate) total: u64,
}

/// The rows of these accounts and a month whose total is another one than is given; nothing is locked.
pub(crate) async fn differing(
    connection: &mut MySqlConnection,
    accounts: &[String],
    given: &[Given<'_>],
    month: &str,
) -> Result<Vec<Quota>, StoreError> {
    let rows = sqlx::query(
        "SELECT quota.free_quota_id, quota.user_id, quota.service_name, quota.reset_month, quota.total_quota,
                quota.used_quota, quota.held_quota, quota.fence, quota.prepared
         FROM JSON_TABLE(?, '$[*]' COLUMNS (
           name VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$'
         )) AS account
         STRAIGHT_JOIN JSON_TABLE(?, '$[*]' COLUMNS (
           service VARCHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.service',
           total BIGINT PATH '$.total'
         )) AS given
         STRAIGHT_JOIN free_quota AS quota FORCE INDEX (uk_user_service_month)
           ON quota.user_id = account.name AND quota.service_name = given.service AND quota.reset_month = ?
         WHERE quota.total_quota <> given.total",
    )
    .bind(json(&accounts))
    .bind(json(&given))
    .bind(month)
    .fetch_all(connection)
    .await?;
    read_all(&rows, OnCorrupt::Skip, read)
}

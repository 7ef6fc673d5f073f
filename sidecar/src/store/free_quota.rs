//! `free_quota`: units per account, service and month that cost nothing.

use serde::Serialize;
use sqlx::mysql::{MySqlConnection, MySqlRow};

use farebox_core::id::{AccountId, ServiceName};

use crate::store::column::{Columns, OnCorrupt, json, read_all, require_changed};
use crate::store::{StoreError, is_new};

pub(crate) mod prepared;
pub(crate) mod total;

const TABLE: &str = "free_quota";

/// Which quota.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct QuotaKey {
    pub(crate) account: AccountId,
    pub(crate) service: ServiceName,
    /// `YYYY-MM`.
    pub(crate) month: String,
}

/// A month's free quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) key: QuotaKey,
    pub(crate) total: u64,
    pub(crate) used: u64,
    pub(crate) held: u64,
    /// The fencing number of the newest holder of the lock that wrote the row.
    pub(crate) fence: u64,
    /// Made ahead of its month.
    pub(crate) prepared: bool,
}

impl Quota {
    /// Whether the row was made ahead and nobody has used it: then it counts as none, and its total is not in force. (A
    /// sidecar of a version that does not know the mark uses the row and leaves it.)
    pub(crate) fn is_prepared(&self) -> bool {
        self.prepared && self.used == 0 && self.held == 0
    }

    /// Units neither used nor held.
    pub(crate) fn remaining(&self) -> u64 {
        self.total.saturating_sub(self.used).saturating_sub(self.held)
    }
}

/// A row to create.
#[derive(Debug, Serialize)]
pub(crate) struct NewQuota<'a> {
    pub(crate) id: String,
    #[serde(flatten)]
    pub(crate) key: &'a QuotaKey,
    pub(crate) total: u64,
}

/// What a transaction adds to a quota's columns.
#[derive(Debug, Serialize)]
pub(crate) struct QuotaChange<'a> {
    #[serde(flatten)]
    pub(crate) key: &'a QuotaKey,
    pub(crate) total: i64,
    pub(crate) used: i64,
    pub(crate) held: i64,
    pub(crate) fence: u64,
}

fn read(row: &MySqlRow) -> Result<Quota, StoreError> {
    let columns = Columns::new(row, TABLE, "free_quota_id");
    Ok(Quota {
        key: QuotaKey {
            account: columns.name("user_id")?,
            service: columns.name("service_name")?,
            month: columns.text("reset_month")?,
        },
        total: columns.units("total_quota")?,
        used: columns.units("used_quota")?,
        held: columns.units("held_quota")?,
        fence: columns.units("fence")?,
        prepared: columns.flag("prepared")?,
    })
}

/// Reads the rows that exist.
pub(crate) async fn find(
    connection: &mut MySqlConnection,
    keys: &[&QuotaKey],
    on_corrupt: OnCorrupt,
) -> Result<Vec<Quota>, StoreError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "SELECT free_quota.free_quota_id, free_quota.user_id, free_quota.service_name, free_quota.reset_month,
                free_quota.total_quota, free_quota.used_quota, free_quota.held_quota, free_quota.fence, free_quota.prepared
         FROM JSON_TABLE(?, '$[*]' COLUMNS (
           account VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.account',
           service VARCHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.service',
           month CHAR(7) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.month'
         )) AS wanted
         STRAIGHT_JOIN free_quota FORCE INDEX (uk_user_service_month)
           ON free_quota.user_id = wanted.account AND free_quota.service_name = wanted.service
          AND free_quota.reset_month = wanted.month",
    )
    .bind(json(&keys))
    .fetch_all(connection)
    .await?;
    read_all(&rows, on_corrupt, read)
}

/// Reads the rows of one account and month, by service.
pub(crate) async fn find_month(
    connection: &mut MySqlConnection,
    account: &AccountId,
    month: &str,
) -> Result<Vec<Quota>, StoreError> {
    let rows = sqlx::query(
        "SELECT free_quota_id, user_id, service_name, reset_month, total_quota, used_quota, held_quota, fence, prepared
         FROM free_quota WHERE user_id = ? AND reset_month = ? ORDER BY service_name",
    )
    .bind(account.as_str())
    .bind(month)
    .fetch_all(connection)
    .await?;
    read_all(&rows, OnCorrupt::Fail, read)
}

/// Reads the rows of accounts and a month, by account and service.
pub(crate) async fn find_month_of(
    connection: &mut MySqlConnection,
    accounts: &[&AccountId],
    month: &str,
) -> Result<Vec<Quota>, StoreError> {
    let rows = sqlx::query(
        "SELECT free_quota.free_quota_id, free_quota.user_id, free_quota.service_name, free_quota.reset_month,
                free_quota.total_quota, free_quota.used_quota, free_quota.held_quota, free_quota.fence, free_quota.prepared
         FROM JSON_TABLE(?, '$[*]' COLUMNS (
           account VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$'
         )) AS wanted
         STRAIGHT_JOIN free_quota FORCE INDEX (uk_user_service_month)
           ON free_quota.user_id = wanted.account AND free_quota.reset_month = ?",
    )
    .bind(json(&accounts))
    .bind(month)
    .fetch_all(connection)
    .await?;
    read_all(&rows, OnCorrupt::Skip, read)
}

/// Creates rows. The account is locked, so nobody else creates the same ones, unless through another node of a cluster.
pub(crate) async fn create(
    connection: &mut MySqlConnection,
    quotas: &[NewQuota<'_>],
) -> Result<(), StoreError> {
    if quotas.is_empty() {
        return Ok(());
    }
    let inserted = sqlx::query(
        "INSERT INTO free_quota
           (free_quota_id, user_id, service_name, reset_month, total_quota, used_quota, held_quota, created_at, updated_at)
         SELECT new.id, new.account, new.service, new.month, new.total, 0, 0, UTC_TIMESTAMP(3), UTC_TIMESTAMP(3)
         FROM JSON_TABLE(?, '$[*]' COLUMNS (
           id VARCHAR(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.id',
           account VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.account',
           service VARCHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.service',
           month CHAR(7) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.month',
           total BIGINT PATH '$.total'
         )) AS new",
    )
    .bind(json(&quotas))
    .execute(connection)
    .await;
    if is_new(inserted)? { Ok(()) } else { Err(StoreError::Raced { table: TABLE }) }
}

/// Adds the changes, guarded: used and held never beyond the total, and never by a holder of the lock that was replaced. A
/// row that was made ahead is in use from then on.
pub(crate) async fn update(
    connection: &mut MySqlConnection,
    changes: &[QuotaChange<'_>],
) -> Result<(), StoreError> {
    if changes.is_empty() {
        return Ok(());
    }
    let changed = sqlx::query(
        "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (
           account VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.account',
           service VARCHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.service',
           month CHAR(7) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.month',
           total BIGINT PATH '$.total',
           used BIGINT PATH '$.used',
           held BIGINT PATH '$.held',
           fence BIGINT PATH '$.fence'
         )) AS more
         STRAIGHT_JOIN free_quota FORCE INDEX (uk_user_service_month)
           ON free_quota.user_id = more.account AND free_quota.service_name = more.service
          AND free_quota.reset_month = more.month
         SET free_quota.total_quota = free_quota.total_quota + more.total,
             free_quota.used_quota = free_quota.used_quota + more.used,
             free_quota.held_quota = free_quota.held_quota + more.held,
             free_quota.fence = more.fence,
             free_quota.prepared = 0,
             free_quota.updated_at = UTC_TIMESTAMP(3)
         WHERE free_quota.fence <= more.fence
           AND free_quota.used_quota + more.used >= 0
           AND free_quota.held_quota + more.held >= 0
           AND free_quota.used_quota + more.used + free_quota.held_quota + more.held
               <= free_quota.total_quota + more.total",
    )
    .bind(json(&changes))
    .execute(connection)
    .await?
    .rows_affected();
    require_changed(TABLE, changes.len(), changed)
}

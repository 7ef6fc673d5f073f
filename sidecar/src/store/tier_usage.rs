//! `tier_usage`: paid units of an account in each tier of a price that has an end, and in packages, by month.

use serde::Serialize;
use sqlx::mysql::{MySqlConnection, MySqlRow};

use farebox_core::id::AccountId;
use farebox_core::package::Package;
use farebox_core::tier::TierUsage;

use crate::store::column::{Columns, OnCorrupt, json, read_all, require_changed};
use crate::store::{StoreError, is_new};

const TABLE: &str = "tier_usage";

/// Whose units of which tier.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct TierKey {
    pub(crate) account: AccountId,
    /// The price version that is the tier.
    pub(crate) version: i64,
    /// `YYYY-MM`.
    pub(crate) month: String,
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredTier {
    pub(crate) key: TierKey,
    pub(crate) units: TierUsage,
    /// What its units are bought by; the total is that of the packages that were bought.
    pub(crate) package: Option<Package>,
}

/// A row to create.
#[derive(Debug, Serialize)]
pub(crate) struct NewTier<'a> {
    #[serde(flatten)]
    pub(crate) key: &'a TierKey,
    pub(crate) total: u64,
}

/// What a transaction adds to a row's columns.
#[derive(Debug, Serialize)]
pub(crate) struct TierChange<'a> {
    #[serde(flatten)]
    pub(crate) key: &'a TierKey,
    pub(crate) total: i64,
    pub(crate) used: i64,
    pub(crate) held: i64,
    pub(crate) late: i64,
}

fn read(row: &MySqlRow) -> Result<StoredTier, StoreError> {
    let columns = Columns::new(row, TABLE, "user_id");
    let package = match columns.integer_or_null("package_units")?.map(u64::try_from) {
        Some(Ok(units)) => Some(Package { units, price: columns.nanos("price")? }),
        Some(Err(_)) => return Err(columns.corrupt("package_units")),
        None => None,
    };
    Ok(StoredTier {
        key: TierKey {
            account: columns.name("user_id")?,
            version: columns.integer("price_version_id")?,
            month: columns.text("reset_month")?,
        },
        units: TierUsage {
            total: columns.units("total")?,
            used: columns.units("used")?,
            held: columns.units("held")?,
            late: columns.units("late")?,
        },
        package,
    })
}

/// Reads the rows that exist.
pub(crate) async fn find(
    connection: &mut MySqlConnection,
    keys: &[&TierKey],
    on_corrupt: OnCorrupt,
) -> Result<Vec<StoredTier>, StoreError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "SELECT tier_usage.user_id, tier_usage.price_version_id, tier_usage.reset_month, tier_usage.total,
                tier_usage.used, tier_usage.held, tier_usage.late, price_version.package_units, price_version.price
         FROM JSON_TABLE(?, '$[*]' COLUMNS (
           account VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.account',
           version BIGINT PATH '$.version',
           month CHAR(7) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.month'
         )) AS wanted
         STRAIGHT_JOIN tier_usage FORCE INDEX (PRIMARY)
           ON tier_usage.user_id = wanted.account AND tier_usage.price_version_id = wanted.version
          AND tier_usage.reset_month = wanted.month
         LEFT JOIN price_version ON price_version.price_version_id = tier_usage.price_version_id",
    )
    .bind(json(&keys))
    .fetch_all(connection)
    .await?;
    read_all(&rows, on_corrupt, read)
}

/// Creates rows. The account is locked, so nobody else creates the same ones, unless through another node of a cluster.
pub(crate) async fn create(
    connection: &mut MySqlConnection,
    tiers: &[NewTier<'_>],
) -> Result<(), StoreError> {
    if tiers.is_empty() {
        return Ok(());
    }
    let inserted = sqlx::query(
        "INSERT INTO tier_usage (user_id, price_version_id, reset_month, total, used, held, late)
         SELECT new.account, new.version, new.month, new.total, 0, 0, 0
         FROM JSON_TABLE(?, '$[*]' COLUMNS (
           account VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.account',
           version BIGINT PATH '$.version',
           month CHAR(7) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.month',
           total BIGINT PATH '$.total'
         )) AS new",
    )
    .bind(json(&tiers))
    .execute(connection)
    .await;
    if is_new(inserted)? { Ok(()) } else { Err(StoreError::Raced { table: TABLE }) }
}

/// Adds the changes, guarded: used and held never beyond the tier, or the packages.
pub(crate) async fn update(
    connection: &mut MySqlConnection,
    changes: &[TierChange<'_>],
) -> Result<(), StoreError> {
    if changes.is_empty() {
        return Ok(());
    }
    let changed = sqlx::query(
        "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (
           account VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.account',
           version BIGINT PATH '$.version',
           month CHAR(7) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.month',
           total BIGINT PATH '$.total',
           used BIGINT PATH '$.used',
           held BIGINT PATH '$.held',
           late BIGINT PATH '$.late'
         )) AS more
         STRAIGHT_JOIN tier_usage FORCE INDEX (PRIMARY)
           ON tier_usage.user_id = more.account AND tier_usage.price_version_id = more.version
          AND tier_usage.reset_month = more.month
         SET tier_usage.total = tier_usage.total + more.total,
             tier_usage.used = tier_usage.used + more.used, tier_usage.held = tier_usage.held + more.held,
             tier_usage.late = tier_usage.late + more.late
         WHERE tier_usage.used + more.used >= 0 AND tier_usage.held + more.held >= 0 AND tier_usage.late + more.late >= 0
           AND tier_usage.used + more.used + tier_usage.held + more.held <= tier_usage.total + more.total",
    )
    .bind(json(&changes))
    .execute(connection)
    .await?
    .rows_affected();
    require_changed(TABLE, changes.len(), changed)
}

//! `billing_record`: one row per charge.

use serde::Serialize;
use sqlx::AssertSqlSafe;
use sqlx::mysql::{MySqlConnection, MySqlRow};

use chrono::{DateTime, Utc};
use farebox_core::charge::PaidBy;
use farebox_core::grant::Split;
use farebox_core::id::{AccountId, GatewayId, ServiceName};
use farebox_core::money::Nanos;

use crate::store::StoreError;
use crate::store::column::{Columns, OnCorrupt, json, read_all, require_changed};
use crate::store::owner::{self, Owned};
use crate::store::tier_usage::TierKey;

const TABLE: &str = "billing_record";

/// What reported the usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    /// From what a lease held.
    Lease,
    /// By a lease that had given the units back.
    Late,
    /// Held by a lease that was taken back from a silent gateway, and reported by nobody.
    Lost,
    /// Without a lease.
    Journal,
    /// By a request of its own.
    Deduct,
    /// From a reservation.
    Reserve,
    /// Packages: their record counts packages, and units of them are charged at nothing.
    Package,
}

/// A record to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct NewRecord {
    pub(crate) id: String,
    pub(crate) account: AccountId,
    pub(crate) service: ServiceName,
    pub(crate) payment: PaidBy,
    pub(crate) amount: Nanos,
    pub(crate) owed: Nanos,
    pub(crate) count: u64,
    pub(crate) free_units: u64,
    pub(crate) paid_units: u64,
    pub(crate) unit_price: Option<Nanos>,
    pub(crate) price_version: Option<i64>,
    pub(crate) source: Source,
    pub(crate) lease: Option<u64>,
    pub(crate) journal_line: Option<u64>,
    pub(crate) gateway: Option<GatewayId>,
    pub(crate) epoch: Option<u64>,
    pub(crate) seq: Option<u64>,
    pub(crate) month: String,
    /// The first record of the call, where its units have several prices.
    pub(crate) part_of: Option<String>,
    /// Text for [`JSON_TABLE`](crate::store).
    pub(crate) created_at: String,
}

/// A record as it is read.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) service: String,
    pub(crate) payment: String,
    pub(crate) source: String,
    pub(crate) count: u64,
    pub(crate) free_units: u64,
    pub(crate) paid_units: u64,
    pub(crate) unit_price: Option<Nanos>,
    pub(crate) amount: Nanos,
    pub(crate) owed: Nanos,
    pub(crate) refunded: Split,
    /// The app that a call of the predecessor was for.
    pub(crate) legacy_app: Option<String>,
    pub(crate) created_at: DateTime<Utc>,
}

fn read(row: &MySqlRow) -> Result<Record, StoreError> {
    let columns = Columns::new(row, TABLE, "billing_record_id");
    Ok(Record {
        id: columns.text("billing_record_id")?,
        service: columns.text("service_name")?,
        payment: columns.text("type")?,
        source: columns.text("source")?,
        count: columns.units("count")?,
        free_units: columns.units("free_units")?,
        paid_units: columns.units("paid_units")?,
        unit_price: columns.nanos_or_null("unit_price")?,
        amount: columns.nanos("amount")?,
        owed: columns.nanos("owed")?,
        refunded: Split {
            free: columns.units("free_refunded")?,
            paid: columns.units("paid_refunded")?,
        },
        legacy_app: columns.text_or_null("legacy_app_id")?,
        created_at: columns.time("created_at")?,
    })
}

/// The newest records of an account, newest first.
pub(crate) async fn newest(
    connection: &mut MySqlConnection,
    account: &AccountId,
    limit: u64,
) -> Result<Vec<Record>, StoreError> {
    let rows = sqlx::query(
        "SELECT billing_record_id, service_name, type, source, count, free_units, paid_units, unit_price, amount, owed,
                free_refunded, paid_refunded, legacy_app_id, created_at
         FROM billing_record WHERE user_id = ? ORDER BY created_at DESC, billing_record_id DESC LIMIT ?",
    )
    .bind(account.as_str())
    .bind(limit)
    .fetch_all(connection)
    .await?;
    read_all(&rows, OnCorrupt::Fail, read)
}

/// Which records of an account a page has.
#[derive(Debug, Default)]
pub(crate) struct Selection<'a> {
    pub(crate) service: Option<&'a ServiceName>,
    /// Since this moment.
    pub(crate) from: Option<DateTime<Utc>>,
    /// Before this moment.
    pub(crate) to: Option<DateTime<Utc>>,
    /// After this row: time and id.
    pub(crate) after: Option<(DateTime<Utc>, &'a str)>,
}

/// Up to `limit` records of an account, newest first.
pub(crate) async fn list(
    connection: &mut MySqlConnection,
    account: &AccountId,
    selection: &Selection<'_>,
    limit: u32,
) -> Result<Vec<Record>, StoreError> {
    let mut sql = "SELECT billing_record_id, service_name, type, source, count, free_units, paid_units, unit_price, amount,
                owed, free_refunded, paid_refunded, legacy_app_id, created_at
         FROM billing_record WHERE user_id = ?"
        .to_owned();
    let Selection { service, from, to, after } = selection;
    for (is_asked, condition) in [
        (service.is_some(), " AND service_name = ?"),
        (from.is_some(), " AND ? <= created_at"),
        (to.is_some(), " AND created_at < ?"),
        (after.is_some(), " AND (created_at < ? OR (created_at = ? AND billing_record_id < ?))"),
    ] {
        if is_asked {
            sql.push_str(condition);
        }
    }
    sql.push_str(" ORDER BY created_at DESC, billing_record_id DESC LIMIT ?");
    let mut query = sqlx::query(AssertSqlSafe(sql)).bind(account.as_str());
    if let Some(service) = service {
        query = query.bind(service.as_str());
    }
    for moment in [from, to].into_iter().flatten() {
        query = query.bind(moment.naive_utc());
    }
    if let Some((created_at, id)) = after {
        query = query.bind(created_at.naive_utc()).bind(created_at.naive_utc()).bind(*id);
    }
    let rows = query.bind(limit).fetch_all(connection).await?;
    read_all(&rows, OnCorrupt::Fail, read)
}

/// Writes records.
pub(crate) async fn insert(
    connection: &mut MySqlConnection,
    records: &[NewRecord],
) -> Result<(), StoreError> {
    if records.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO billing_record
           (billing_record_id, user_id, service_name, type, amount, owed, count, free_units, paid_units, unit_price,
            price_version_id, source, lease_id, journal_line, gateway_id, epoch, seq, reset_month, part_of, created_at)
         SELECT new.id, new.account, new.service, new.payment, new.amount, new.owed, new.count, new.free_units,
                new.paid_units, new.unit_price, new.price_version, new.source, new.lease, new.journal_line, new.gateway,
                new.epoch, new.seq, new.month, new.part_of, new.created_at
         FROM JSON_TABLE(?, '$[*]' COLUMNS (
           id VARCHAR(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.id',
           account VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.account',
           service VARCHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.service',
           payment VARCHAR(8) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.payment',
           amount DECIMAL(19,9) PATH '$.amount',
           owed DECIMAL(19,9) PATH '$.owed',
           count BIGINT PATH '$.count',
           free_units BIGINT PATH '$.free_units',
           paid_units BIGINT PATH '$.paid_units',
           unit_price DECIMAL(19,9) PATH '$.unit_price',
           price_version BIGINT PATH '$.price_version',
           source VARCHAR(8) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.source',
           lease BIGINT PATH '$.lease',
           journal_line BIGINT UNSIGNED PATH '$.journal_line',
           gateway VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.gateway',
           epoch BIGINT PATH '$.epoch',
           seq BIGINT UNSIGNED PATH '$.seq',
           month CHAR(7) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.month',
           part_of VARCHAR(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.part_of',
           created_at DATETIME(3) PATH '$.created_at'
         )) AS new",
    )
    .bind(json(&records))
    .execute(connection)
    .await?;
    Ok(())
}

/// A charge as a refund needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Charged {
    pub(crate) id: String,
    pub(crate) account: AccountId,
    pub(crate) service: ServiceName,
    /// `None` on records of the predecessor.
    pub(crate) month: Option<String>,
    pub(crate) units: Split,
    pub(crate) refunded: Split,
    pub(crate) unit_price: Option<Nanos>,
    pub(crate) price_version: Option<i64>,
    /// The first record of the call, where its units have several prices.
    pub(crate) part_of: Option<String>,
    /// Whether its paid units are packages that were bought.
    pub(crate) is_package: bool,
}

/// Whose records these are, as far as they exist.
pub(crate) async fn accounts(
    connection: &mut MySqlConnection,
    ids: &[&str],
) -> Result<Vec<(String, AccountId)>, StoreError> {
    const OWNED: Owned = Owned {
        table: TABLE,
        id: "billing_record_id",
        find: "SELECT billing_record.billing_record_id, billing_record.user_id
         FROM JSON_TABLE(?, '$[*]' COLUMNS (
           id VARCHAR(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$'
         )) AS wanted
         STRAIGHT_JOIN billing_record ON billing_record.billing_record_id = wanted.id",
    };
    owner::find(connection, &OWNED, ids).await
}

/// Reads charges of locked accounts.
pub(crate) async fn find(
    connection: &mut MySqlConnection,
    ids: &[&str],
    on_corrupt: OnCorrupt,
) -> Result<Vec<Charged>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT {CHARGED} FROM JSON_TABLE(?, '$[*]' COLUMNS (
           id VARCHAR(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$'
         )) AS wanted
         STRAIGHT_JOIN billing_record ON billing_record.billing_record_id = wanted.id"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(json(&ids)).fetch_all(connection).await?;
    read_all(&rows, on_corrupt, read_charged)
}

/// Reads the other charges of the calls that these are the first records of. They were written in the same moment.
pub(crate) async fn find_parts(
    connection: &mut MySqlConnection,
    first: &[&str],
    on_corrupt: OnCorrupt,
) -> Result<Vec<Charged>, StoreError> {
    if first.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT {CHARGED} FROM JSON_TABLE(?, '$[*]' COLUMNS (
           id VARCHAR(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$'
         )) AS wanted
         STRAIGHT_JOIN billing_record AS first ON first.billing_record_id = wanted.id
         STRAIGHT_JOIN billing_record
           ON billing_record.user_id = first.user_id AND billing_record.created_at = first.created_at
          AND billing_record.part_of = first.billing_record_id
         WHERE billing_record.billing_record_id <> first.billing_record_id"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(json(&first)).fetch_all(connection).await?;
    read_all(&rows, on_corrupt, read_charged)
}

/// Reads the newest records of packages bought in this month by this version that did not go back whole: enough for so many
/// packages. What was bought after them is read along the way.
pub(crate) async fn newest_packages(
    connection: &mut MySqlConnection,
    key: &TierKey,
    packages: u64,
) -> Result<Vec<Charged>, StoreError> {
    let sql = format!(
        "SELECT {CHARGED} FROM billing_record FORCE INDEX (idx_billing_record_newest)
         WHERE user_id = ? AND source = 'package' AND price_version_id = ? AND reset_month = ? AND paid_refunded < paid_units
         ORDER BY created_at DESC, billing_record_id DESC LIMIT ?"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(key.account.as_str())
        .bind(key.version)
        .bind(key.month.as_str())
        .bind(packages)
        .fetch_all(connection)
        .await?;
    read_all(&rows, OnCorrupt::Fail, read_charged)
}

const CHARGED: &str = "billing_record.billing_record_id, billing_record.user_id, billing_record.service_name, \
     billing_record.reset_month, billing_record.free_units, billing_record.paid_units, billing_record.free_refunded, \
     billing_record.paid_refunded, billing_record.unit_price, billing_record.price_version_id, billing_record.part_of, \
     billing_record.source";

fn read_charged(row: &MySqlRow) -> Result<Charged, StoreError> {
    let columns = Columns::new(row, TABLE, "billing_record_id");
    let split = |free, paid| -> Result<Split, StoreError> {
        Ok(Split { free: columns.units(free)?, paid: columns.units(paid)? })
    };
    Ok(Charged {
        id: columns.text("billing_record_id")?,
        account: columns.name("user_id")?,
        service: columns.name("service_name")?,
        month: columns.text_or_null("reset_month")?,
        units: split("free_units", "paid_units")?,
        refunded: split("free_refunded", "paid_refunded")?,
        unit_price: columns.nanos_or_null("unit_price")?,
        price_version: columns.integer_or_null("price_version_id")?,
        part_of: columns.text_or_null("part_of")?,
        is_package: columns.text("source")? == "package",
    })
}

/// What went back of a charge now, and had gone back before.
#[derive(Debug, Serialize)]
pub(crate) struct RecordRefund<'a> {
    pub(crate) id: &'a str,
    pub(crate) free: u64,
    pub(crate) paid: u64,
    pub(crate) free_before: u64,
    pub(crate) paid_before: u64,
}

/// Notes what went back of charges, guarded: never more than was charged, and never on another state than the one that it
/// was decided on.
pub(crate) async fn note_refunds(
    connection: &mut MySqlConnection,
    refunds: &[RecordRefund<'_>],
) -> Result<(), StoreError> {
    if refunds.is_empty() {
        return Ok(());
    }
    let changed = sqlx::query(
        "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (
           id VARCHAR(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.id',
           free BIGINT PATH '$.free',
           paid BIGINT PATH '$.paid',
           free_before BIGINT PATH '$.free_before',
           paid_before BIGINT PATH '$.paid_before'
         )) AS more
         STRAIGHT_JOIN billing_record ON billing_record.billing_record_id = more.id
         SET billing_record.free_refunded = billing_record.free_refunded + more.free,
             billing_record.paid_refunded = billing_record.paid_refunded + more.paid
         WHERE billing_record.free_refunded = more.free_before AND billing_record.paid_refunded = more.paid_before
           AND billing_record.free_refunded + more.free <= billing_record.free_units
           AND billing_record.paid_refunded + more.paid <= billing_record.paid_units",
    )
    .bind(json(&refunds))
    .execute(connection)
    .await?
    .rows_affected();
    require_changed(TABLE, refunds.len(), changed)
}

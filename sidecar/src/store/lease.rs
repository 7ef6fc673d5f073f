//! `lease`: units of one account set aside for one gateway process.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, Row};

use farebox_core::grant::Split;
use farebox_core::id::{AccountId, GatewayId, ServiceName};
use farebox_core::lease::Lease;
use farebox_core::money::Nanos;
use farebox_core::wire::{LeaseKey, Recall};

use crate::store::StoreError;
use crate::store::column::{
    Columns, OnCorrupt, bigint, decimal, json, read_all, require_changed, time_text,
};

pub(crate) mod list;

const TABLE: &str = "lease";

/// Where a lease is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// The gateway may spend from it.
    Open,
    /// The gateway or a newer lease ended it.
    Closed,
    /// The gateway fell silent.
    Expired,
}

impl State {
    fn as_text(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Expired => "expired",
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        [Self::Open, Self::Closed, Self::Expired].into_iter().find(|state| state.as_text() == text)
    }
}

/// A lease that is not written yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewLease {
    pub(crate) gateway: GatewayId,
    pub(crate) epoch: u64,
    pub(crate) key: LeaseKey,
    /// SHA-256 of the key.
    pub(crate) open_key: [u8; 32],
    pub(crate) price: Nanos,
    pub(crate) price_version: Option<i64>,
    /// Whether its paid units count in a tier.
    pub(crate) is_counted: bool,
    pub(crate) month: String,
    pub(crate) granted: Split,
    pub(crate) not_after: Option<DateTime<Utc>>,
    pub(crate) reclaim_at: DateTime<Utc>,
    pub(crate) renewed_at: DateTime<Utc>,
}

/// A lease as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredLease {
    pub(crate) id: u64,
    pub(crate) gateway: GatewayId,
    pub(crate) epoch: u64,
    pub(crate) key: LeaseKey,
    pub(crate) price: Nanos,
    pub(crate) price_version: Option<i64>,
    /// Whether its paid units count in a tier.
    pub(crate) is_counted: bool,
    pub(crate) month: String,
    pub(crate) units: Lease,
    /// The billing record that charged what was lost.
    pub(crate) lost_record: Option<String>,
    pub(crate) in_flight: u64,
    pub(crate) state: State,
    pub(crate) recall: bool,
    pub(crate) not_after: Option<DateTime<Utc>>,
    pub(crate) reclaim_at: DateTime<Utc>,
    /// When its gateway last named it, or was lent units of it.
    pub(crate) renewed_at: DateTime<Utc>,
    /// Whether its gateway has ever named it.
    pub(crate) is_named: bool,
    /// Whether another lease of the key follows it, at another price. It holds what it has until its gateway reports.
    pub(crate) is_followed: bool,
}

const COLUMNS: &str = "lease.lease_id, lease.gateway_id, CAST(lease.epoch AS UNSIGNED) AS epoch, lease.user_id, \
     lease.service_name, lease.route_price, lease.price, lease.price_version_id, lease.reset_month, lease.free_granted, \
     lease.paid_granted, lease.free_used, lease.paid_used, lease.free_returned, lease.paid_returned, lease.free_lost, \
     lease.paid_lost, lease.untold_lost, lease.lost_record_id, lease.late_used, \
     lease.in_flight, lease.state, lease.recall, lease.not_after, lease.reclaim_at, \
     lease.renewed_at, lease.is_named, (lease.state = 'open' AND lease.open_key IS NULL) AS is_followed, \
     EXISTS (SELECT 1 FROM tier_usage WHERE tier_usage.user_id = lease.user_id \
       AND tier_usage.price_version_id = lease.price_version_id AND tier_usage.reset_month = lease.reset_month) AS is_counted";

fn read(row: &MySqlRow) -> Result<StoredLease, StoreError> {
    let columns = Columns::new(row, TABLE, "lease_id");
    let split = |free, paid| -> Result<Split, StoreError> {
        Ok(Split { free: columns.units(free)?, paid: columns.units(paid)? })
    };
    let state =
        State::from_text(&columns.text("state")?).ok_or_else(|| columns.corrupt("state"))?;
    Ok(StoredLease {
        id: columns.units("lease_id")?,
        gateway: columns.name("gateway_id")?,
        epoch: row.try_get("epoch").map_err(|_| columns.corrupt("epoch"))?,
        key: read_key(&columns)?,
        price: columns.nanos("price")?,
        price_version: columns.integer_or_null("price_version_id")?,
        is_counted: columns.integer("is_counted")? != 0,
        month: columns.text("reset_month")?,
        units: Lease {
            granted: split("free_granted", "paid_granted")?,
            used: split("free_used", "paid_used")?,
            returned: split("free_returned", "paid_returned")?,
            lost: split("free_lost", "paid_lost")?,
            untold: columns.units("untold_lost")?,
            late: columns.units("late_used")?,
            open: state == State::Open,
        },
        lost_record: columns.text_or_null("lost_record_id")?,
        in_flight: columns.units("in_flight")?,
        state,
        recall: columns.flag("recall")?,
        not_after: columns.time_or_null("not_after")?,
        reclaim_at: columns.time("reclaim_at")?,
        renewed_at: columns.time("renewed_at")?,
        is_named: columns.flag("is_named")?,
        is_followed: columns.integer("is_followed")? != 0,
    })
}

fn read_key(columns: &Columns<'_>) -> Result<LeaseKey, StoreError> {
    Ok(LeaseKey {
        account: columns.name("user_id")?,
        service: columns.name("service_name")?,
        price: columns.nanos_or_null("route_price")?,
    })
}

/// The leases that exist, of those given, and whose they are; an account that cannot be read is `None` where such rows
/// are skipped. A lease's account never changes, so no lock is needed.
pub(crate) async fn accounts(
    connection: &mut MySqlConnection,
    leases: &[u64],
    on_corrupt: OnCorrupt,
) -> Result<Vec<(u64, Option<AccountId>)>, StoreError> {
    if leases.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "SELECT lease.lease_id, lease.user_id
         FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) AS wanted
         STRAIGHT_JOIN lease ON lease.lease_id = wanted.id",
    )
    .bind(json(&leases))
    .fetch_all(connection)
    .await?;
    read_all(&rows, OnCorrupt::Fail, |row| {
        let columns = Columns::new(row, TABLE, "lease_id");
        let account = match (columns.name("user_id"), on_corrupt) {
            (Ok(account), _) => Some(account),
            (Err(err), OnCorrupt::Fail) => return Err(err),
            (Err(_), OnCorrupt::Skip) => None,
        };
        Ok((columns.units("lease_id")?, account))
    })
}

/// Reads leases by id. Their accounts are locked, so nobody else settles them.
pub(crate) async fn find(
    connection: &mut MySqlConnection,
    leases: &[u64],
    on_corrupt: OnCorrupt,
) -> Result<Vec<StoredLease>, StoreError> {
    if leases.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) AS wanted
         STRAIGHT_JOIN lease ON lease.lease_id = wanted.id"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(json(&leases)).fetch_all(connection).await?;
    read_all(&rows, on_corrupt, read)
}

/// Reads the open leases of accounts.
pub(crate) async fn find_open(
    connection: &mut MySqlConnection,
    accounts: &[&AccountId],
    on_corrupt: OnCorrupt,
) -> Result<Vec<StoredLease>, StoreError> {
    if accounts.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM JSON_TABLE(?, '$[*]' COLUMNS (
           account VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$'
         )) AS wanted
         STRAIGHT_JOIN lease FORCE INDEX (idx_lease_user)
           ON lease.user_id = wanted.account AND lease.state = 'open'"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(json(&accounts)).fetch_all(connection).await?;
    read_all(&rows, on_corrupt, read)
}

/// Writes a new lease; its id.
pub(crate) async fn insert(
    connection: &mut MySqlConnection,
    lease: &NewLease,
) -> Result<u64, StoreError> {
    let account = lease.key.account.as_str();
    let inserted = sqlx::query(
        "INSERT INTO lease
           (gateway_id, epoch, user_id, service_name, route_price, price, price_version_id, reset_month, free_granted,
            paid_granted, state, open_key, not_after, reclaim_at, renewed_at, is_named, created_at, updated_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'open', ?, ?, ?, ?, 0, UTC_TIMESTAMP(3), UTC_TIMESTAMP(3))",
    )
    .bind(lease.gateway.as_str())
    .bind(lease.epoch)
    .bind(account)
    .bind(lease.key.service.as_str())
    .bind(lease.key.price.map(decimal))
    .bind(decimal(lease.price))
    .bind(lease.price_version)
    .bind(&lease.month)
    .bind(bigint(lease.granted.free, "granted free units", account)?)
    .bind(bigint(lease.granted.paid, "granted paid units", account)?)
    .bind(&lease.open_key[..])
    .bind(lease.not_after)
    .bind(lease.reclaim_at)
    .bind(lease.renewed_at)
    .execute(connection)
    .await?;
    Ok(inserted.last_insert_id())
}

/// What a lease's row becomes, in the form that `JSON_TABLE` unfolds.
#[derive(Serialize)]
struct LeaseUpdate<'a> {
    id: u64,
    free_granted: u64,
    paid_granted: u64,
    free_used: u64,
    paid_used: u64,
    free_returned: u64,
    paid_returned: u64,
    free_lost: u64,
    paid_lost: u64,
    untold_lost: u64,
    lost_record: Option<&'a str>,
    late_used: u64,
    in_flight: u64,
    state: State,
    recall: u8,
    reclaim_at: String,
    renewed_at: String,
    is_named: u8,
    is_followed: u8,
}

/// Writes what changed on leases whose accounts are locked.
pub(crate) async fn update(
    connection: &mut MySqlConnection,
    leases: &[&StoredLease],
) -> Result<(), StoreError> {
    if leases.is_empty() {
        return Ok(());
    }
    let updates: Vec<LeaseUpdate<'_>> = leases
        .iter()
        .map(|lease| LeaseUpdate {
            id: lease.id,
            free_granted: lease.units.granted.free,
            paid_granted: lease.units.granted.paid,
            free_used: lease.units.used.free,
            paid_used: lease.units.used.paid,
            free_returned: lease.units.returned.free,
            paid_returned: lease.units.returned.paid,
            free_lost: lease.units.lost.free,
            paid_lost: lease.units.lost.paid,
            untold_lost: lease.units.untold,
            lost_record: lease.lost_record.as_deref(),
            late_used: lease.units.late,
            in_flight: lease.in_flight,
            state: lease.state,
            recall: lease.recall.into(),
            reclaim_at: time_text(lease.reclaim_at),
            renewed_at: time_text(lease.renewed_at),
            is_named: lease.is_named.into(),
            is_followed: lease.is_followed.into(),
        })
        .collect();
    let changed = sqlx::query(
        "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (
           id BIGINT PATH '$.id',
           free_granted BIGINT PATH '$.free_granted',
           paid_granted BIGINT PATH '$.paid_granted',
           free_used BIGINT PATH '$.free_used',
           paid_used BIGINT PATH '$.paid_used',
           free_returned BIGINT PATH '$.free_returned',
           paid_returned BIGINT PATH '$.paid_returned',
           free_lost BIGINT PATH '$.free_lost',
           paid_lost BIGINT PATH '$.paid_lost',
           untold_lost BIGINT PATH '$.untold_lost',
           lost_record VARCHAR(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.lost_record',
           late_used BIGINT PATH '$.late_used',
           in_flight BIGINT PATH '$.in_flight',
           state VARCHAR(8) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.state',
           recall TINYINT PATH '$.recall',
           reclaim_at DATETIME(3) PATH '$.reclaim_at',
           renewed_at DATETIME(3) PATH '$.renewed_at',
           is_named TINYINT PATH '$.is_named',
           is_followed TINYINT PATH '$.is_followed'
         )) AS new
         STRAIGHT_JOIN lease ON lease.lease_id = new.id
         SET lease.free_granted = new.free_granted, lease.paid_granted = new.paid_granted,
             lease.free_used = new.free_used, lease.paid_used = new.paid_used,
             lease.free_returned = new.free_returned, lease.paid_returned = new.paid_returned,
             lease.free_lost = new.free_lost, lease.paid_lost = new.paid_lost,
             lease.untold_lost = new.untold_lost, lease.lost_record_id = new.lost_record, lease.late_used = new.late_used, lease.in_flight = new.in_flight,
             lease.open_key = IF(new.state = 'open' AND new.is_followed = 0, lease.open_key, NULL),
             lease.state = new.state, lease.recall = new.recall, lease.reclaim_at = new.reclaim_at,
             lease.renewed_at = new.renewed_at, lease.is_named = GREATEST(lease.is_named, new.is_named),
             lease.updated_at = UTC_TIMESTAMP(3)",
    )
    .bind(json(&updates))
    .execute(connection)
    .await?
    .rows_affected();
    require_changed(TABLE, leases.len(), changed)
}

/// Notes that this gateway knows these leases of its, although their accounts could not be locked. Rows that somebody has
/// locked are left as they are.
pub(crate) async fn note_named(
    connection: &mut MySqlConnection,
    gateway: &GatewayId,
    leases: &[u64],
) -> Result<(), StoreError> {
    for lease in leases {
        let free = sqlx::query(
            "SELECT lease_id FROM lease WHERE lease_id = ? AND gateway_id = ? AND is_named = 0
             FOR UPDATE SKIP LOCKED",
        )
        .bind(lease)
        .bind(gateway.as_str())
        .fetch_optional(&mut *connection)
        .await?;
        if free.is_some() {
            sqlx::query("UPDATE lease SET is_named = 1 WHERE lease_id = ?")
                .bind(lease)
                .execute(&mut *connection)
                .await?;
        }
    }
    Ok(())
}

/// Recalls the open leases of a gateway's earlier processes and lets them run out after `grace`, unless they are renewed.
pub(crate) async fn recall_older_epochs(
    connection: &mut MySqlConnection,
    gateway: &GatewayId,
    epoch: u64,
    grace: Duration,
) -> Result<(), StoreError> {
    let micros = i64::try_from(grace.as_micros()).unwrap_or(i64::MAX);
    sqlx::query(
        "UPDATE lease
         SET recall = 1, reclaim_at = LEAST(reclaim_at, UTC_TIMESTAMP(3) + INTERVAL ? MICROSECOND)
         WHERE gateway_id = ? AND state = 'open' AND epoch < ?",
    )
    .bind(micros)
    .bind(gateway.as_str())
    .bind(epoch)
    .execute(connection)
    .await?;
    Ok(())
}

/// Leases that a change of prices is about: all of them at a price of the book.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Priced<'a> {
    /// Those at this price version, one of its tiers.
    At(&'a [i64]),
    /// Those of one account for one service, whatever price they are at.
    Of(&'a AccountId, &'a ServiceName),
}

/// Ends the time of open leases, and recalls them.
pub(crate) async fn end_price(
    connection: &mut MySqlConnection,
    priced: Priced<'_>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    bound(connection, "recall = 1, ", priced, now).await
}

/// Bounds the time of open leases by a moment to come. They are used until then.
pub(crate) async fn bound_price(
    connection: &mut MySqlConnection,
    priced: Priced<'_>,
    until: DateTime<Utc>,
) -> Result<(), StoreError> {
    bound(connection, "", priced, until).await
}

async fn bound(
    connection: &mut MySqlConnection,
    besides: &'static str,
    priced: Priced<'_>,
    until: DateTime<Utc>,
) -> Result<(), StoreError> {
    let of = match priced {
        Priced::At(_) => {
            "price_version_id IN (SELECT id FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) AS tier)"
        }
        Priced::Of(..) => "user_id = ? AND service_name = ? AND route_price IS NULL",
    };
    let sql = format!(
        "UPDATE lease SET {besides}not_after = LEAST(COALESCE(not_after, ?), ?) WHERE state = 'open' AND {of}"
    );
    // Fixed texts are put in, and nothing of a user's.
    let until = until.naive_utc();
    let query = sqlx::query(AssertSqlSafe(sql)).bind(until).bind(until);
    let query = match priced {
        Priced::At(versions) => query.bind(json(&versions)),
        Priced::Of(account, service) => query.bind(account.as_str()).bind(service.as_str()),
    };
    query.execute(connection).await?;
    Ok(())
}

/// The recalled leases of one gateway process.
pub(crate) async fn recalled(
    connection: &mut MySqlConnection,
    gateway: &GatewayId,
    epoch: u64,
    limit: usize,
    on_corrupt: OnCorrupt,
) -> Result<Vec<Recall>, StoreError> {
    let rows = sqlx::query(
        "SELECT lease_id, user_id, service_name, route_price FROM lease
         WHERE gateway_id = ? AND state = 'open' AND recall = 1 AND epoch = ? ORDER BY lease_id LIMIT ?",
    )
    .bind(gateway.as_str())
    .bind(epoch)
    .bind(limit as u64)
    .fetch_all(connection)
    .await?;
    read_all(&rows, on_corrupt, |row| {
        let columns = Columns::new(row, TABLE, "lease_id");
        Ok(Recall { lease: columns.units("lease_id")?, key: read_key(&columns)? })
    })
}

/// Ids of open leases whose gateway fell silent, the longest silent first.
pub(crate) async fn overdue(
    connection: &mut MySqlConnection,
    now: DateTime<Utc>,
    limit: u64,
) -> Result<Vec<u64>, StoreError> {
    let rows = sqlx::query(
        "SELECT CAST(lease_id AS UNSIGNED) FROM lease WHERE state = 'open' AND reclaim_at <= ?
         ORDER BY reclaim_at LIMIT ?",
    )
    .bind(now)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

//! `price_version`: prices, none of which ever changes.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sqlx::mysql::{MySqlConnection, MySqlRow};

use farebox_core::id::{AccountId, ServiceName};
use farebox_core::money::Nanos;
use farebox_core::package::Package;
use farebox_core::tariff::{Tariff, Tier};
use serde::Serialize;
use sqlx::AssertSqlSafe;

use crate::store::StoreError;
use crate::store::column::{Columns, OnCorrupt, decimal, json, read_all};

const TABLE: &str = "price_version";

/// A price of a service and its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PriceVersion {
    /// A row for each tier, in order.
    pub(crate) ids: Vec<i64>,
    pub(crate) service: ServiceName,
    /// `book` or `route`.
    pub(crate) source: String,
    /// Whose price; `None` for everybody's.
    pub(crate) account: Option<AccountId>,
    pub(crate) tariff: Tariff,
    /// `configuration` or `operator`.
    pub(crate) set_by: String,
    pub(crate) effective_from: DateTime<Utc>,
    pub(crate) effective_to: Option<DateTime<Utc>>,
}

impl PriceVersion {
    /// Whether it holds at `at`: it begins then or before, and ends later.
    pub(crate) fn holds(&self, at: DateTime<Utc>) -> bool {
        self.effective_from <= at && self.effective_to.is_none_or(|end| at < end)
    }

    /// Whether it holds at any moment at all. One that was withdrawn before it began does not.
    pub(crate) fn ever_holds(&self) -> bool {
        self.effective_to != Some(self.effective_from)
    }
}

const COLUMNS: &str = "price_version.price_version_id, price_version.service_name, price_version.source, price_version.user_id, \
     price_version.price, price_version.rate_id, price_version.units_from, price_version.units_to, \
     price_version.package_units, price_version.set_by, price_version.effective_from, price_version.effective_to";

/// A row: one tier, or a package.
struct Row {
    version: PriceVersion,
    rate: String,
    id: i64,
    from: u64,
    tier: Tier,
    package: Option<Package>,
}

fn read(row: &MySqlRow) -> Result<Row, StoreError> {
    let columns = Columns::new(row, TABLE, "price_version_id");
    let everybody = columns.text("user_id")?.is_empty();
    let up_to = columns.integer_or_null("units_to")?.map(u64::try_from).transpose();
    let price = columns.nanos("price")?;
    let units = columns.integer_or_null("package_units")?.map(u64::try_from).transpose();
    let units = units.map_err(|_| columns.corrupt("package_units"))?;
    Ok(Row {
        version: PriceVersion {
            ids: Vec::new(),
            service: columns.name("service_name")?,
            source: columns.text("source")?,
            account: if everybody { None } else { Some(columns.name("user_id")?) },
            tariff: Tariff::flat(price),
            set_by: columns.text("set_by")?,
            effective_from: columns.time("effective_from")?,
            effective_to: columns.time_or_null("effective_to")?,
        },
        rate: columns.text("rate_id")?,
        id: columns.integer("price_version_id")?,
        from: columns.units("units_from")?,
        tier: Tier { up_to: up_to.map_err(|_| columns.corrupt("units_to"))?, price },
        package: units.map(|units| Package { units, price }),
    })
}

/// The versions that rows are of. Rows of one price follow each other: they were written together, and a timeline is written
/// by one transaction at a time.
fn read_versions(
    rows: &[MySqlRow],
    on_corrupt: OnCorrupt,
) -> Result<Vec<PriceVersion>, StoreError> {
    let rows = read_all(rows, on_corrupt, read)?;
    let is_together = |one: &Row, other: &Row| !one.rate.is_empty() && one.rate == other.rate;
    let versions = rows.chunk_by(is_together).map(|rows| {
        let mut tiers: Vec<&Row> = rows.iter().collect();
        tiers.sort_by_key(|row| row.from);
        version_of(&tiers)
    });
    let readable = versions.filter(|read| on_corrupt == OnCorrupt::Fail || read.is_ok());
    readable.collect()
}

fn version_of(tiers: &[&Row]) -> Result<PriceVersion, StoreError> {
    let corrupt = |id: i64| {
        let (table, column) = (TABLE, "units_to");
        StoreError::Corrupt { table, column, key: id.to_string() }
    };
    let [first, ..] = tiers else { return Err(corrupt(0)) };
    if let ([row], Some(package)) = (tiers, first.package) {
        let tariff = Tariff::packaged(package).map_err(|_| corrupt(row.id))?;
        return Ok(PriceVersion { ids: vec![row.id], tariff, ..row.version.clone() });
    }
    let begins = [0].into_iter().chain(tiers.iter().filter_map(|row| row.tier.up_to));
    let is_whole = tiers.iter().map(|row| row.from).eq(begins);
    let tariff = Tariff::graduated(tiers.iter().map(|row| row.tier).collect());
    let tariff = tariff.ok().filter(|_| is_whole).ok_or_else(|| corrupt(first.id))?;
    Ok(PriceVersion {
        ids: tiers.iter().map(|row| row.id).collect(),
        tariff,
        ..first.version.clone()
    })
}

/// Every version, by service, everybody's before those of single accounts, the newest first.
pub(crate) async fn all(connection: &mut MySqlConnection) -> Result<Vec<PriceVersion>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM price_version
         ORDER BY service_name, source, user_id, effective_from DESC, price_version_id DESC"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(connection).await?;
    read_versions(&rows, OnCorrupt::Fail)
}

/// Whose price of which service is looked for; no account for everybody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Wanted<'a> {
    pub(crate) service: &'a ServiceName,
    pub(crate) account: &'a str,
}

/// What the price book says from `now` on about these: what holds and what is to come. A row of another service or account
/// disturbs nobody.
pub(crate) async fn book_of(
    connection: &mut MySqlConnection,
    wanted: &BTreeSet<Wanted<'_>>,
    now: DateTime<Utc>,
    on_corrupt: OnCorrupt,
) -> Result<Vec<PriceVersion>, StoreError> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM JSON_TABLE(?, '$[*]' COLUMNS (
           service VARCHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.service',
           account VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.account'
         )) AS wanted
         STRAIGHT_JOIN price_version FORCE INDEX (uk_price_version)
           ON price_version.service_name = wanted.service AND price_version.source = 'book'
          AND price_version.user_id = wanted.account
         WHERE price_version.effective_to IS NULL OR ? < price_version.effective_to
         ORDER BY price_version.effective_from, price_version.price_version_id"
    );
    let rows =
        sqlx::query(AssertSqlSafe(sql)).bind(json(wanted)).bind(now).fetch_all(connection).await?;
    read_versions(&rows, on_corrupt)
}

/// How the versions of a service are locked: those of everybody and of one account that hold or are to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lock {
    /// Nobody changes them until the transaction ends.
    Share,
    /// Nobody makes a lease by them either.
    Change,
}

/// Reads what the book says from `now` on about a service, for everybody and for one account, and locks it.
pub(crate) async fn lock(
    connection: &mut MySqlConnection,
    account: &AccountId,
    service: &ServiceName,
    now: DateTime<Utc>,
    lock: Lock,
) -> Result<Vec<PriceVersion>, StoreError> {
    let lock = match lock {
        Lock::Share => "LOCK IN SHARE MODE",
        Lock::Change => "FOR UPDATE",
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM price_version FORCE INDEX (uk_price_version)
         WHERE service_name = ? AND source = 'book' AND user_id IN ('', ?)
           AND (effective_to IS NULL OR ? < effective_to)
         ORDER BY effective_from, price_version_id {lock}"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(service.as_str())
        .bind(account.as_str())
        .bind(now)
        .fetch_all(connection)
        .await?;
    read_versions(&rows, OnCorrupt::Fail)
}

/// The services whose price for everybody an operator has ever set.
pub(crate) async fn set_by_operators(
    connection: &mut MySqlConnection,
) -> Result<BTreeSet<ServiceName>, StoreError> {
    let rows = sqlx::query(
        "SELECT DISTINCT service_name FROM price_version
         WHERE source = 'book' AND user_id = '' AND set_by = 'operator'",
    )
    .fetch_all(connection)
    .await?;
    let service = |row: &MySqlRow| Columns::new(row, TABLE, "service_name").name("service_name");
    Ok(read_all(&rows, OnCorrupt::Fail, service)?.into_iter().collect())
}

/// A version to add to the book.
#[derive(Debug)]
pub(crate) struct NewVersion<'a> {
    pub(crate) service: &'a ServiceName,
    /// Whose price; `None` for everybody's.
    pub(crate) account: Option<&'a AccountId>,
    pub(crate) tariff: &'a Tariff,
    /// What the rows of several tiers share.
    pub(crate) rate: String,
    pub(crate) set_by: &'static str,
    pub(crate) from: DateTime<Utc>,
    pub(crate) until: Option<DateTime<Utc>>,
}

/// Adds a version to the book. One of a single tier that was withdrawn before it began comes back.
pub(crate) async fn open_book(
    connection: &mut MySqlConnection,
    new: &NewVersion<'_>,
) -> Result<(), StoreError> {
    let package = new.tariff.package();
    // The end of a package keeps a previous version of the program from reading its price as that of one unit.
    let packaged = package.map(|package| Tier { up_to: Some(package.units), price: package.price });
    let tiers = new.tariff.tiers().iter().copied().chain(packaged);
    let rate = if new.tariff.tiers().len() == 1 { "" } else { new.rate.as_str() };
    let mut units_from = 0;
    for Tier { up_to, price } in tiers {
        sqlx::query(
            "INSERT INTO price_version
               (service_name, source, user_id, price, rate_id, units_from, units_to, package_units, set_by,
                effective_from, effective_to)
             VALUES (?, 'book', ?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON DUPLICATE KEY UPDATE set_by = ?, effective_to = ?",
        )
        .bind(new.service.as_str())
        .bind(new.account.map_or("", AccountId::as_str))
        .bind(decimal(price))
        .bind(rate)
        .bind(units_from)
        .bind(up_to)
        .bind(package.map(|package| package.units))
        .bind(new.set_by)
        .bind(new.from.naive_utc())
        .bind(new.until.map(|moment| moment.naive_utc()))
        .bind(new.set_by)
        .bind(new.until.map(|moment| moment.naive_utc()))
        .execute(&mut *connection)
        .await?;
        units_from = up_to.unwrap_or(units_from);
    }
    Ok(())
}

/// Ends a version. One that ends as it begins never holds.
pub(crate) async fn close(
    connection: &mut MySqlConnection,
    version: &PriceVersion,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    for id in &version.ids {
        sqlx::query("UPDATE price_version SET effective_to = ? WHERE price_version_id = ?")
            .bind(at.naive_utc())
            .bind(id)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// The version of a price that a route names; it is created when it is new.
pub(crate) async fn route(
    connection: &mut MySqlConnection,
    service: &ServiceName,
    price: Nanos,
) -> Result<i64, StoreError> {
    if let Some(id) = find_route(connection, service, price).await? {
        return Ok(id);
    }
    sqlx::query(
        "INSERT INTO price_version (service_name, source, price, effective_from)
         VALUES (?, 'route', ?, '1970-01-01 00:00:00')
         ON DUPLICATE KEY UPDATE price = price_version.price",
    )
    .bind(service.as_str())
    .bind(decimal(price))
    .execute(&mut *connection)
    .await?;
    find_route(connection, service, price).await?.ok_or_else(|| StoreError::Missing {
        table: "price_version",
        key: format!("{service} at {price}"),
    })
}

async fn find_route(
    connection: &mut MySqlConnection,
    service: &ServiceName,
    price: Nanos,
) -> Result<Option<i64>, StoreError> {
    let row = sqlx::query(
        "SELECT price_version_id FROM price_version
         WHERE service_name = ? AND source = 'route' AND user_id = '' AND price = ?",
    )
    .bind(service.as_str())
    .bind(decimal(price))
    .fetch_optional(connection)
    .await?;
    row.map(|row| Columns::new(&row, TABLE, "price_version_id").integer("price_version_id"))
        .transpose()
}

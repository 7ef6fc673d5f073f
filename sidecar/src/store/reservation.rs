//! `reservation`: units or money of one account set aside for one call.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::AssertSqlSafe;
use sqlx::mysql::{MySqlConnection, MySqlRow};

use farebox_core::grant::Split;
use farebox_core::id::{AccountId, ServiceName};
use farebox_core::money::Nanos;

use crate::store::StoreError;
use crate::store::column::{Columns, OnCorrupt, json, read_all, require_changed};
use crate::store::owner::{self, Owned};

const TABLE: &str = "reservation";

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Basis {
    Units,
    Amount,
}

/// Where a reservation is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    Committed,
    Released,
    Expired,
}

impl State {
    pub(crate) fn as_text(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Committed => "committed",
            Self::Released => "released",
            Self::Expired => "expired",
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        [Self::Open, Self::Committed, Self::Released, Self::Expired]
            .into_iter()
            .find(|state| state.as_text() == text)
    }
}

/// A reservation as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reservation {
    pub(crate) id: String,
    pub(crate) account: AccountId,
    pub(crate) service: ServiceName,
    pub(crate) month: String,
    pub(crate) basis: Basis,
    pub(crate) price: Option<Nanos>,
    pub(crate) price_version: Option<i64>,
    pub(crate) units: Split,
    /// Money set aside.
    pub(crate) amount: Nanos,
    pub(crate) state: State,
    pub(crate) record: Option<String>,
    pub(crate) expires_at: DateTime<Utc>,
}

impl Reservation {
    /// Whether it still holds what its time has run out for.
    pub(crate) fn is_overdue(&self, now: DateTime<Utc>) -> bool {
        self.state == State::Open && self.expires_at <= now
    }
}

/// A row to write, in the form that `JSON_TABLE` unfolds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct NewReservation {
    pub(crate) id: String,
    pub(crate) account: AccountId,
    pub(crate) service: ServiceName,
    pub(crate) month: String,
    pub(crate) basis: Basis,
    pub(crate) price: Option<Nanos>,
    pub(crate) price_version: Option<i64>,
    pub(crate) free_units: u64,
    pub(crate) paid_units: u64,
    pub(crate) amount: Nanos,
    pub(crate) expires_at: String,
}

const COLUMNS: &str = "reservation.reservation_id, reservation.user_id, reservation.service_name, reservation.reset_month, \
     reservation.basis, reservation.price, reservation.price_version_id, reservation.free_units, reservation.paid_units, \
     reservation.amount, reservation.state, reservation.billing_record_id, reservation.expires_at";

fn read(row: &MySqlRow) -> Result<Reservation, StoreError> {
    let columns = Columns::new(row, TABLE, "reservation_id");
    let basis = match columns.text("basis")?.as_str() {
        "units" => Basis::Units,
        "amount" => Basis::Amount,
        _ => return Err(columns.corrupt("basis")),
    };
    let state =
        State::from_text(&columns.text("state")?).ok_or_else(|| columns.corrupt("state"))?;
    Ok(Reservation {
        id: columns.text("reservation_id")?,
        account: columns.name("user_id")?,
        service: columns.name("service_name")?,
        month: columns.text("reset_month")?,
        basis,
        price: columns.nanos_or_null("price")?,
        price_version: columns.integer_or_null("price_version_id")?,
        units: Split { free: columns.units("free_units")?, paid: columns.units("paid_units")? },
        amount: columns.nanos("amount")?,
        state,
        record: columns.text_or_null("billing_record_id")?,
        expires_at: columns.time("expires_at")?,
    })
}

/// Whose reservations these are, as far as they exist.
pub(crate) async fn accounts(
    connection: &mut MySqlConnection,
    ids: &[&str],
) -> Result<Vec<(String, AccountId)>, StoreError> {
    const OWNED: Owned = Owned {
        table: TABLE,
        id: "reservation_id",
        find: "SELECT reservation.reservation_id, reservation.user_id
         FROM JSON_TABLE(?, '$[*]' COLUMNS (
           id VARCHAR(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$'
         )) AS wanted
         STRAIGHT_JOIN reservation ON reservation.reservation_id = wanted.id",
    };
    owner::find(connection, &OWNED, ids).await
}

/// Reads reservations of locked accounts.
pub(crate) async fn find(
    connection: &mut MySqlConnection,
    ids: &[&str],
    on_corrupt: OnCorrupt,
) -> Result<Vec<Reservation>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM JSON_TABLE(?, '$[*]' COLUMNS (
           id VARCHAR(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$'
         )) AS wanted
         STRAIGHT_JOIN reservation ON reservation.reservation_id = wanted.id"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(json(&ids)).fetch_all(connection).await?;
    read_all(&rows, on_corrupt, read)
}

/// Reads the open reservations of locked accounts whose time is over.
pub(crate) async fn find_overdue(
    connection: &mut MySqlConnection,
    accounts: &[&AccountId],
    now: DateTime<Utc>,
    on_corrupt: OnCorrupt,
) -> Result<Vec<Reservation>, StoreError> {
    if accounts.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM JSON_TABLE(?, '$[*]' COLUMNS (
           account VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$'
         )) AS wanted
         STRAIGHT_JOIN reservation FORCE INDEX (idx_reservation_user)
           ON reservation.user_id = wanted.account AND reservation.state = 'open' AND reservation.expires_at <= ?"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(json(&accounts))
        .bind(now)
        .fetch_all(connection)
        .await?;
    read_all(&rows, on_corrupt, read)
}

/// Ids and accounts of open reservations whose time is over, the longest overdue first.
pub(crate) async fn overdue(
    connection: &mut MySqlConnection,
    now: DateTime<Utc>,
    limit: u64,
) -> Result<Vec<(String, AccountId)>, StoreError> {
    let rows = sqlx::query(
        "SELECT reservation_id, user_id FROM reservation WHERE state = 'open' AND expires_at <= ?
         ORDER BY expires_at LIMIT ?",
    )
    .bind(now)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    read_all(&rows, OnCorrupt::Skip, |row| {
        let columns = Columns::new(row, TABLE, "reservation_id");
        Ok((columns.text("reservation_id")?, columns.name("user_id")?))
    })
}

/// Writes reservations that begin.
pub(crate) async fn insert(
    connection: &mut MySqlConnection,
    reservations: &[NewReservation],
) -> Result<(), StoreError> {
    if reservations.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO reservation
           (reservation_id, user_id, service_name, reset_month, basis, price, price_version_id, free_units, paid_units,
            amount, state, expires_at, created_at, updated_at)
         SELECT new.id, new.account, new.service, new.month, new.basis, new.price, new.price_version, new.free_units,
                new.paid_units, new.amount, 'open', new.expires_at, UTC_TIMESTAMP(3), UTC_TIMESTAMP(3)
         FROM JSON_TABLE(?, '$[*]' COLUMNS (
           id VARCHAR(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.id',
           account VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.account',
           service VARCHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.service',
           month CHAR(7) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.month',
           basis VARCHAR(8) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.basis',
           price DECIMAL(19,9) PATH '$.price',
           price_version BIGINT PATH '$.price_version',
           free_units BIGINT PATH '$.free_units',
           paid_units BIGINT PATH '$.paid_units',
           amount DECIMAL(19,9) PATH '$.amount',
           expires_at DATETIME(3) PATH '$.expires_at'
         )) AS new",
    )
    .bind(json(&reservations))
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends open reservations.
pub(crate) async fn end(
    connection: &mut MySqlConnection,
    reservations: &[&Reservation],
) -> Result<(), StoreError> {
    if reservations.is_empty() {
        return Ok(());
    }
    let endings: Vec<_> =
        reservations.iter().map(|row| (&row.id, row.state.as_text(), &row.record)).collect();
    let changed = sqlx::query(
        "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (
           id VARCHAR(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$[0]',
           state VARCHAR(16) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$[1]',
           record VARCHAR(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$[2]'
         )) AS new
         STRAIGHT_JOIN reservation ON reservation.reservation_id = new.id
         SET reservation.state = new.state, reservation.billing_record_id = new.record,
             reservation.updated_at = UTC_TIMESTAMP(3)
         WHERE reservation.state = 'open'",
    )
    .bind(json(&endings))
    .execute(connection)
    .await?
    .rows_affected();
    require_changed(TABLE, reservations.len(), changed)
}

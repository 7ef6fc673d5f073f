//! `operator_token`: who may act over HTTP, and as what. Of a token its hash alone is kept.

use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;
use sqlx::mysql::{MySqlConnection, MySqlRow};

use crate::store::column::{Columns, OnCorrupt, read_all, require_changed};
use crate::store::page::{Listed, listed, one_more};
use crate::store::{StoreError, is_new};

const TABLE: &str = "operator_token";

const COLUMNS: &str = "operator_token_id, token_id, name, role, created_by, created_at, expires_at, last_used_at, revoked_by, \
     revoked_at, expires_at <= UTC_TIMESTAMP(3) AS is_expired";

/// A token to write.
#[derive(Debug)]
pub(crate) struct NewToken<'a> {
    pub(crate) id: &'a str,
    pub(crate) name: &'a str,
    pub(crate) role: &'static str,
    pub(crate) hash: [u8; 32],
    pub(crate) created_by: &'a str,
    pub(crate) expires_at: Option<DateTime<Utc>>,
}

/// A token as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// Its row: later tokens have larger numbers.
    pub(crate) number: i64,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) created_by: String,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) expires_at: Option<DateTime<Utc>>,
    pub(crate) is_expired: bool,
    pub(crate) last_used_at: Option<DateTime<Utc>>,
    pub(crate) revoked_by: Option<String>,
    pub(crate) revoked_at: Option<DateTime<Utc>>,
}

/// A token that lets somebody in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LiveToken {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) hash: Vec<u8>,
}

fn read(row: &MySqlRow) -> Result<Token, StoreError> {
    let columns = Columns::new(row, TABLE, "token_id");
    Ok(Token {
        number: columns.integer("operator_token_id")?,
        id: columns.text("token_id")?,
        name: columns.text("name")?,
        role: columns.text("role")?,
        created_by: columns.text("created_by")?,
        created_at: columns.time("created_at")?,
        expires_at: columns.time_or_null("expires_at")?,
        is_expired: columns.integer_or_null("is_expired")? == Some(1),
        last_used_at: columns.time_or_null("last_used_at")?,
        revoked_by: columns.text_or_null("revoked_by")?,
        revoked_at: columns.time_or_null("revoked_at")?,
    })
}

/// Writes a token; `false` when one that is not revoked has its name.
pub(crate) async fn insert(
    connection: &mut MySqlConnection,
    new: &NewToken<'_>,
) -> Result<bool, StoreError> {
    let inserted = sqlx::query(
        "INSERT INTO operator_token (token_id, name, live_name, role, token_hash, created_by, created_at, expires_at)
         VALUES (?, ?, ?, ?, ?, ?, UTC_TIMESTAMP(3), ?)",
    )
    .bind(new.id)
    .bind(new.name)
    .bind(new.name)
    .bind(new.role)
    .bind(&new.hash[..])
    .bind(new.created_by)
    // As a TIMESTAMP, MariaDB takes a moment after 2038 for none.
    .bind(new.expires_at.map(|moment| moment.naive_utc()))
    .execute(connection)
    .await;
    is_new(inserted)
}

/// How many tokens are not revoked.
pub(crate) async fn count_unrevoked(connection: &mut MySqlConnection) -> Result<u64, StoreError> {
    let row = sqlx::query(
        "SELECT '' AS token_id, COUNT(*) AS count FROM operator_token WHERE live_name IS NOT NULL",
    )
    .fetch_one(connection)
    .await?;
    Columns::new(&row, TABLE, "token_id").units("count")
}

/// Locks the token that has this id or, else, this name: the one that is not revoked, or the newest.
pub(crate) async fn lock(
    connection: &mut MySqlConnection,
    name_or_id: &str,
) -> Result<Option<Token>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM operator_token WHERE token_id = ? OR name = ?
         ORDER BY token_id = ? DESC, live_name IS NULL, operator_token_id DESC LIMIT 1 FOR UPDATE"
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(name_or_id).bind(name_or_id).bind(name_or_id);
    query.fetch_optional(connection).await?.as_ref().map(read).transpose()
}

/// Ends a token that is locked and not revoked yet.
pub(crate) async fn revoke(
    connection: &mut MySqlConnection,
    id: &str,
    actor: &str,
) -> Result<(), StoreError> {
    let changed = sqlx::query(
        "UPDATE operator_token SET live_name = NULL, revoked_by = ?, revoked_at = UTC_TIMESTAMP(3)
         WHERE token_id = ? AND revoked_at IS NULL",
    )
    .bind(actor)
    .bind(id)
    .execute(connection)
    .await?
    .rows_affected();
    require_changed(TABLE, 1, changed)
}

/// Notes that a token was used, to the minute.
pub(crate) async fn touch(connection: &mut MySqlConnection, id: &str) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE operator_token SET last_used_at = UTC_TIMESTAMP(3)
         WHERE token_id = ? AND (last_used_at IS NULL OR last_used_at < UTC_TIMESTAMP(3) - INTERVAL 1 MINUTE)",
    )
    .bind(id)
    .execute(connection)
    .await?;
    Ok(())
}

/// The tokens that let somebody in at this moment. One that cannot be read lets nobody in.
pub(crate) async fn live(
    connection: &mut MySqlConnection,
    limit: u32,
) -> Result<Vec<LiveToken>, StoreError> {
    let rows = sqlx::query(
        "SELECT token_id, name, role, token_hash FROM operator_token
         WHERE live_name IS NOT NULL AND (expires_at IS NULL OR UTC_TIMESTAMP(3) < expires_at)
         ORDER BY operator_token_id LIMIT ?",
    )
    .bind(limit)
    .fetch_all(connection)
    .await?;
    read_all(&rows, OnCorrupt::Skip, |row| {
        let columns = Columns::new(row, TABLE, "token_id");
        Ok(LiveToken {
            id: columns.text("token_id")?,
            name: columns.text("name")?,
            role: columns.text("role")?,
            hash: columns
                .bytes_or_null("token_hash")?
                .ok_or_else(|| columns.corrupt("token_hash"))?,
        })
    })
}

/// Reads tokens, the newest first; revoked ones if told. Tokens that are made meanwhile stand before the first page.
pub(crate) async fn list(
    connection: &mut MySqlConnection,
    revoked_too: bool,
    before: Option<i64>,
    limit: u32,
) -> Result<Listed<Token, i64>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM operator_token
         WHERE (? OR live_name IS NOT NULL) AND operator_token_id < ?
         ORDER BY operator_token_id DESC LIMIT ?"
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(revoked_too).bind(before.unwrap_or(i64::MAX));
    let rows = query.bind(one_more(limit)).fetch_all(connection).await?;
    let place = |row: &MySqlRow| Columns::new(row, TABLE, "token_id").integer("operator_token_id");
    listed(rows, limit, read, place)
}

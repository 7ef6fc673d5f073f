//! Whose rows these are: rows that requests name by id. An owner never changes, so no lock is needed.

use sqlx::mysql::MySqlConnection;

use farebox_core::id::AccountId;

use crate::store::StoreError;
use crate::store::column::{Columns, OnCorrupt, json, read_all};

/// Where rows with an owner stand, and the statement that finds those of a JSON list of ids, by id and `user_id`.
pub(super) struct Owned {
    pub(super) table: &'static str,
    pub(super) id: &'static str,
    pub(super) find: &'static str,
}

/// The ids that exist, with their owners.
pub(super) async fn find(
    connection: &mut MySqlConnection,
    owned: &Owned,
    ids: &[&str],
) -> Result<Vec<(String, AccountId)>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(owned.find).bind(json(&ids)).fetch_all(connection).await?;
    read_all(&rows, OnCorrupt::Skip, |row| {
        let columns = Columns::new(row, owned.table, owned.id);
        Ok((columns.text(owned.id)?, columns.name("user_id")?))
    })
}

//! The predecessor's tables set aside, ours made anew, and what takes both back.
//!
//! The server commits each of these statements by itself, so each can be repeated.

use std::collections::BTreeSet;

use sqlx::AssertSqlSafe;
use sqlx::mysql::MySqlConnection;

use super::{ASIDE, TABLES};
use crate::store::StoreError;
use crate::store::predecessor::shape::Column;

/// The spellings of users, and the account of each. It is there while rows are copied.
pub(crate) const NAMES: &str = "predecessor_user";

/// How long a table may be in use by others before it cannot be set aside.
const SET_PATIENCE: &str = "SET SESSION lock_wait_timeout = 20";

/// The tables that migrations make, but for the one that says how far a takeover is.
pub(crate) fn made_by<'m>(migrations: impl Iterator<Item = &'m str>) -> BTreeSet<String> {
    let mut tables = BTreeSet::from(["_sqlx_migrations".to_owned()]);
    for sql in migrations {
        for after in sql.split("CREATE TABLE ").skip(1) {
            let after = after.strip_prefix("IF NOT EXISTS ").unwrap_or(after);
            let name = after.split(|character: char| !is_of_name(character)).next();
            tables.extend(name.filter(|name| *name != "predecessor_takeover").map(str::to_owned));
        }
    }
    tables
}

fn is_of_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// Which of the predecessor's tables stand under their own names, and which aside.
fn standing(columns: &[Column]) -> (Vec<&'static str>, Vec<&'static str>) {
    let has = |name: &str| columns.iter().any(|column| column.table == name);
    let aside = TABLES.into_iter().filter(|table| has(&format!("{ASIDE}{table}"))).collect();
    (TABLES.into_iter().filter(|table| has(table)).collect(), aside)
}

/// Sets the tables aside that are not yet. Waits until nobody is within a transaction on them.
pub(crate) async fn set_aside(
    connection: &mut MySqlConnection,
    columns: &[Column],
) -> Result<(), StoreError> {
    let (own, aside) = standing(columns);
    let left = own.into_iter().filter(|table| !aside.contains(table));
    rename(connection, left.map(|table| (table.to_owned(), format!("{ASIDE}{table}")))).await
}

/// Gives the tables their own names back.
pub(crate) async fn put_back(
    connection: &mut MySqlConnection,
    columns: &[Column],
) -> Result<(), StoreError> {
    let (_, aside) = standing(columns);
    let back = aside.into_iter().map(|table| (format!("{ASIDE}{table}"), table.to_owned()));
    rename(connection, back).await
}

async fn rename(
    connection: &mut MySqlConnection,
    tables: impl Iterator<Item = (String, String)>,
) -> Result<(), StoreError> {
    let renames: Vec<String> = tables.map(|(from, to)| format!("{from} TO {to}")).collect();
    if renames.is_empty() {
        return Ok(());
    }
    sqlx::raw_sql(SET_PATIENCE).execute(&mut *connection).await?;
    let sql = format!("RENAME TABLE {}", renames.join(", "));
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}

/// Removes our tables, which hold nothing yet: a migration may have broken off half done.
pub(crate) async fn remove_ours(
    connection: &mut MySqlConnection,
    ours: &BTreeSet<String>,
) -> Result<(), StoreError> {
    let names: Vec<&str> = ours.iter().map(String::as_str).collect();
    let sql = format!("DROP TABLE IF EXISTS {}", names.join(", "));
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}

/// Makes the table of spellings.
pub(crate) async fn make_names(connection: &mut MySqlConnection) -> Result<(), StoreError> {
    sqlx::raw_sql(
        "CREATE TABLE IF NOT EXISTS predecessor_user (
           name VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci NOT NULL COMMENT 'any spelling',
           account VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'the account of all spellings',
           has_account BOOLEAN NOT NULL COMMENT 'whether an order is not all that names it',
           PRIMARY KEY (name)
         ) ENGINE=InnoDB",
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes the table of spellings.
pub(crate) async fn remove_names(connection: &mut MySqlConnection) -> Result<(), StoreError> {
    sqlx::raw_sql("DROP TABLE IF EXISTS predecessor_user").execute(connection).await?;
    Ok(())
}

/// The statements that give billing-service its tables back as they were, for a person to run.
pub(crate) fn way_back(ours: &BTreeSet<String>, has_orders: bool) -> Vec<String> {
    let mut gone: Vec<&str> = ours.iter().map(String::as_str).collect();
    gone.extend(["predecessor_takeover", NAMES]);
    let tables = TABLES.into_iter().filter(|table| has_orders || *table != "recharge_order");
    let back: Vec<String> = tables.map(|table| format!("{ASIDE}{table} TO {table}")).collect();
    vec![
        format!("DROP TABLE IF EXISTS {};", gone.join(", ")),
        format!("RENAME TABLE {};", back.join(", ")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_known_from_the_migrations_that_make_them() {
        let tables = made_by(
            [
                "-- One.\nCREATE TABLE IF NOT EXISTS user_balance (\n a INT)",
                "ALTER TABLE lease ADD COLUMN a INT",
                "CREATE TABLE usage_day(a INT)",
                "CREATE TABLE IF NOT EXISTS predecessor_takeover (a INT)",
            ]
            .into_iter(),
        );
        assert_eq!(
            tables.into_iter().collect::<Vec<_>>(),
            ["_sqlx_migrations", "usage_day", "user_balance"]
        );
    }
}

//! `predecessor_takeover`: how far the tables of billing-service have been taken over.

use sqlx::Row;
use sqlx::mysql::MySqlConnection;

use crate::store::StoreError;
use crate::store::column::require_changed;

const TABLE: &str = "predecessor_takeover";

/// The migration that makes the table, which the takeover needs before all others.
const CREATE: &str = include_str!("../../../../migrations/20261129000041_predecessor_takeover.sql");

/// What a takeover has done. Each step is done once: the number goes up in the step's own transaction, or after a step
/// that can be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// The plan is written down.
    Begun = 0,
    /// The predecessor's tables are set aside, and are what the plan says.
    SetAside = 1,
    /// Our tables are there, empty.
    Made = 2,
    Accounts = 3,
    Quotas = 4,
    Orders = 5,
    /// All records; within this step, `copied_to` says how far it is.
    Records = 6,
}

impl Step {
    fn of(number: i32) -> Option<Self> {
        [
            Self::Begun,
            Self::SetAside,
            Self::Made,
            Self::Accounts,
            Self::Quotas,
            Self::Orders,
            Self::Records,
        ]
        .into_iter()
        .find(|step| *step as i32 == number)
    }
}

/// The row.
#[derive(Debug, Clone)]
pub(crate) struct Takeover {
    pub(crate) plan: String,
    pub(crate) step: Step,
    pub(crate) copied_to: Option<String>,
    pub(crate) report_json: String,
    pub(crate) is_finished: bool,
}

/// Makes the table, unless it is there.
pub(crate) async fn create(connection: &mut MySqlConnection) -> Result<(), StoreError> {
    sqlx::raw_sql(CREATE).execute(connection).await?;
    Ok(())
}

/// Reads the row; the table must be there.
pub(crate) async fn find(connection: &mut MySqlConnection) -> Result<Option<Takeover>, StoreError> {
    let row = sqlx::query(
        "SELECT plan, step, copied_to, report_json, finished_at IS NOT NULL AS is_finished FROM predecessor_takeover",
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let step = Step::of(row.try_get(1)?).ok_or_else(|| StoreError::Corrupt {
        table: TABLE,
        column: "step",
        key: "1".to_owned(),
    })?;
    Ok(Some(Takeover {
        plan: row.try_get(0)?,
        step,
        copied_to: row.try_get(2)?,
        report_json: row.try_get(3)?,
        is_finished: row.try_get::<i64, _>(4)? != 0,
    }))
}

/// The plan of a takeover that broke off; the table must be there.
pub(crate) async fn unfinished(
    connection: &mut MySqlConnection,
) -> Result<Option<String>, StoreError> {
    let row = sqlx::query("SELECT plan FROM predecessor_takeover WHERE finished_at IS NULL")
        .fetch_optional(connection)
        .await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// Writes the plan down.
pub(crate) async fn begin(
    connection: &mut MySqlConnection,
    plan: &str,
    report_json: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO predecessor_takeover (takeover_id, plan, step, report_json, begun_at) VALUES (1, ?, 0, ?, UTC_TIMESTAMP(3))",
    )
    .bind(plan)
    .bind(report_json)
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes that the next step is done.
pub(crate) async fn advance(connection: &mut MySqlConnection, to: Step) -> Result<(), StoreError> {
    let to = to as i32;
    let changed = sqlx::query(
        "UPDATE predecessor_takeover SET step = ? WHERE step = ? - 1 AND finished_at IS NULL",
    )
    .bind(to)
    .bind(to)
    .execute(connection)
    .await?
    .rows_affected();
    require_changed(TABLE, 1, changed)
}

/// Notes how far the records are copied.
pub(crate) async fn copied(
    connection: &mut MySqlConnection,
    from: Option<&str>,
    to: &str,
) -> Result<(), StoreError> {
    let changed = sqlx::query(
        "UPDATE predecessor_takeover SET copied_to = ? WHERE copied_to <=> ? AND step = ?",
    )
    .bind(to)
    .bind(from)
    .bind(Step::Orders as i32)
    .execute(connection)
    .await?
    .rows_affected();
    require_changed(TABLE, 1, changed)
}

/// Forgets a takeover that has changed nothing.
pub(crate) async fn forget(connection: &mut MySqlConnection) -> Result<(), StoreError> {
    sqlx::raw_sql("DROP TABLE predecessor_takeover").execute(connection).await?;
    Ok(())
}

/// Notes that it is over, and what came of it.
pub(crate) async fn finish(
    connection: &mut MySqlConnection,
    report_json: &str,
) -> Result<(), StoreError> {
    let changed = sqlx::query(
        "UPDATE predecessor_takeover SET report_json = ?, finished_at = UTC_TIMESTAMP(3) WHERE step = ? AND finished_at IS NULL",
    )
    .bind(report_json)
    .bind(Step::Records as i32)
    .execute(connection)
    .await?
    .rows_affected();
    require_changed(TABLE, 1, changed)
}

/// Whether this connection alone takes the database over, until it ends.
pub(crate) async fn lock(connection: &mut MySqlConnection) -> Result<bool, StoreError> {
    // The lock of a process that was killed goes a moment after it.
    let row =
        sqlx::query("SELECT GET_LOCK(CONCAT('farebox ', LEFT(SHA2(DATABASE(), 256), 32)), 5)")
            .fetch_one(connection)
            .await?;
    Ok(row.try_get::<Option<i64>, _>(0)? == Some(1))
}

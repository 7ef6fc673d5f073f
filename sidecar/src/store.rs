//! The database: SQL and nothing else.
//!
//! A file per table. Many rows travel as one JSON parameter, unfolded by `JSON_TABLE`: the text of a statement never
//! depends on how many rows it writes, and MySQL and MariaDB both take it.

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::migrate::Migrator;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlPool, MySqlPoolOptions};
use sqlx::pool::PoolConnection;
use sqlx::{Connection, Executor, MySql, Row, Transaction};

pub(crate) use crate::store::error::is_new;
pub use crate::store::error::{NotReady, StoreError};
pub use crate::store::lease::list::plans as lease_plans;

pub(crate) mod audit_log;
pub(crate) mod billing_record;
pub(crate) mod charge_refund;
pub(crate) mod column;
mod error;
pub(crate) mod explain;
pub(crate) mod free_quota;
pub(crate) mod free_quota_run;
pub(crate) mod gateway;
pub(crate) mod idempotency_key;
pub mod invariant;
pub(crate) mod invariant_run;
pub(crate) mod invariant_violation;
pub(crate) mod job_lease;
pub(crate) mod journal_line;
pub(crate) mod lease;
pub(crate) mod ledger_entry;
pub(crate) mod operator_token;
pub(crate) mod outbox;
mod owner;
mod page;
pub(crate) mod payment_anomaly;
pub(crate) mod predecessor;
pub(crate) mod price_usage;
pub(crate) mod price_version;
pub(crate) mod recharge_order;
pub(crate) mod recharge_refund;
pub(crate) mod reservation;
pub(crate) mod retry;
pub(crate) mod standing;
pub(crate) mod statement;
pub(crate) mod sync_reply;
pub(crate) mod tier_usage;
pub(crate) mod trace;
pub(crate) mod usage_day;
pub(crate) mod user_balance;

/// The schema, compiled in.
static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// What a server says that does not know a table.
pub(crate) const NO_SUCH_TABLE: u16 = 1146;

/// How long a request waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// What every connection is set to. READ COMMITTED: a statement after a lock sees what the lock's holder before wrote.
/// READ ONLY: nothing is written but inside a transaction of [`Store::begin`]. A Galera node may roll a transaction back and
/// not say so ([`Tx`]): what follows would be written statement by statement, as if each were a transaction.
/// The lock wait is short, because a transaction that waited in vain is tried again as a whole.
const SESSION: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY";
const BEGIN: &str = "START TRANSACTION READ WRITE";
const SESSION_VARIABLES: &str = "SET SESSION sql_mode = 'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION', \
     innodb_lock_wait_timeout = 2";

/// On a node of a Galera cluster, BEGIN waits until the node has everything that any node has committed: what was told to
/// somebody through another node is seen. Servers that cannot be such a node do not know the variable, or ignore it.
const SEE_ALL_NODES: &str = "SET SESSION wsrep_sync_wait = 1";

/// Whether this is a node of a Galera cluster. Servers that cannot be one do not know the variable.
const IS_CLUSTERED: &str = "SHOW VARIABLES WHERE variable_name = 'wsrep_on' AND value = 'ON'";

/// A transaction that may write.
///
/// Another node's transaction may make this one give way while the client prepares a statement. MariaDB 10.11 rolls it back
/// then and loses the error: the client goes on in a transaction that is no more. On a cluster a savepoint marks the
/// transaction that was begun. It goes with it, so that [`finish`] notices; a write notices before, for it would be
/// outside of a transaction. Either is an error by which the transaction is tried again.
#[derive(Debug)]
pub(crate) struct Tx {
    inner: Transaction<'static, MySql>,
    is_marked: bool,
}

impl Deref for Tx {
    type Target = MySqlConnection;

    fn deref(&self) -> &MySqlConnection {
        &self.inner
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        &mut self.inner
    }
}

impl Tx {
    async fn commit(mut self) -> Result<(), StoreError> {
        if self.is_marked {
            self.inner.execute("RELEASE SAVEPOINT begun").await?;
        }
        self.inner.commit().await.map_err(StoreError::from_commit)
    }
}

/// A pool of connections to MySQL or MariaDB.
#[derive(Debug, Clone)]
pub struct Store {
    pool: MySqlPool,
    /// Whether a connection was to a node of a Galera cluster.
    is_clustered: Arc<AtomicBool>,
}

impl Store {
    /// Connects at once, so that a wrong address or password shows at the start.
    pub async fn connect(
        options: &MySqlConnectOptions,
        max_connections: u32,
    ) -> Result<Self, StoreError> {
        let options = options.clone().charset("utf8mb4").pipes_as_concat(false);
        knock(&options).await?;
        let is_clustered = Arc::new(AtomicBool::new(false));
        let found = Arc::clone(&is_clustered);
        let pool = MySqlPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_connect(move |connection, _| {
                let found = Arc::clone(&found);
                Box::pin(async move {
                    set_session(connection).await?;
                    if connection.fetch_optional(IS_CLUSTERED).await?.is_some() {
                        found.store(true, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .connect_with(options)
            .await?;
        Ok(Self { pool, is_clustered })
    }

    /// A pool that has not connected yet, for tests of what stands above the database.
    #[cfg(test)]
    pub(crate) fn unconnected(options: &MySqlConnectOptions) -> Self {
        let pool = MySqlPoolOptions::new().acquire_timeout(Duration::from_millis(500));
        Self { pool: pool.connect_lazy_with(options.clone()), is_clustered: Arc::default() }
    }

    /// How many connections the pool may have.
    pub(crate) fn connections(&self) -> u32 {
        self.pool.options().get_max_connections()
    }

    /// How many connections are open now, and how many of these nobody uses.
    pub(crate) fn open_connections(&self) -> (u32, u32) {
        (self.pool.size(), u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX))
    }

    /// Waits for the transactions in progress and closes every connection.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Applies the migrations that are missing; their number.
    pub async fn migrate(&self) -> Result<usize, StoreError> {
        self.refuse_later_generations().await?;
        self.apply_migrations().await
    }

    /// Applies the migrations that are missing, whatever tables are there; their number.
    pub(crate) async fn apply_migrations(&self) -> Result<usize, StoreError> {
        let before = self.applied_migrations().await?;
        let mut migrator = Migrator::with_migrations(MIGRATOR.iter().cloned().collect());
        // A newer sidecar may have migrated the database already: the older ones beside it go on.
        migrator.set_ignore_missing(true);
        let mut connection = self.schema_connection().await?;
        migrator.run(&mut connection).await.map_err(StoreError::Migrate)?;
        let after = self.applied_migrations().await?;
        Ok(after.len().saturating_sub(before.len()))
    }

    /// A connection of its own, outside of the pool, which may change tables.
    pub(crate) async fn schema_connection(&self) -> Result<MySqlConnection, StoreError> {
        let mut connection = self.pool.acquire().await?.detach();
        connection.execute("SET SESSION TRANSACTION READ WRITE").await?;
        Ok(connection)
    }

    /// The names of the tables that migrations make.
    pub(crate) fn own_tables() -> BTreeSet<String> {
        predecessor::tables::made_by(MIGRATOR.iter().map(|migration| migration.sql.as_str()))
    }

    /// Whether the database is reachable, has every migration, and is not in the middle of being taken over.
    pub async fn ready(&self) -> Result<(), NotReady> {
        let applied = self.applied_migrations().await?;
        for migration in MIGRATOR.iter() {
            match applied.iter().find(|(version, _)| *version == migration.version) {
                Some((_, true)) => {}
                Some((version, false)) => return Err(NotReady::Broken { version: *version }),
                None => return Err(NotReady::Pending { version: migration.version }),
            }
        }
        match predecessor::takeover::unfinished(
            &mut *self.pool.acquire().await.map_err(StoreError::from)?,
        )
        .await?
        {
            Some(plan) => Err(NotReady::Unfinished { plan }),
            None => Ok(()),
        }
    }

    /// The migrations begin from the predecessor's tables with a `user_id` and one quota per user. Others they would change
    /// without an error into something that serves nobody, and what a takeover has begun only it can finish.
    async fn refuse_later_generations(&self) -> Result<(), StoreError> {
        let unfinished = predecessor::takeover::unfinished(&mut *self.pool.acquire().await?).await;
        match unfinished {
            Ok(Some(plan)) => return Err(StoreError::Unfinished { plan }),
            Ok(None) => {}
            Err(err) if err.number() == Some(NO_SUCH_TABLE) => {}
            Err(err) => return Err(err),
        }
        let found = sqlx::query(
            "SELECT CAST(table_name AS CHAR), CAST(column_name AS CHAR) FROM information_schema.columns
             WHERE table_schema = DATABASE()
               AND ((table_name IN ('user_balance', 'free_quota', 'billing_record', 'recharge_order') AND column_name = 'uid')
                 OR (table_name IN ('free_quota', 'billing_record') AND column_name = 'app_id')
                 OR (table_name = 'recharge_order' AND column_name = 'payment_id'))
             ORDER BY table_name DESC, column_name LIMIT 1",
        )
        .fetch_optional(&self.pool)
        .await?;
        match found {
            Some(row) => {
                Err(StoreError::LaterGeneration { table: row.try_get(0)?, column: row.try_get(1)? })
            }
            None => Ok(()),
        }
    }

    /// Every migration that was begun, and whether it was finished.
    async fn applied_migrations(&self) -> Result<Vec<(i64, bool)>, StoreError> {
        let rows = sqlx::query("SELECT version, success FROM _sqlx_migrations ORDER BY version")
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::from);
        match rows {
            Ok(rows) => Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect()),
            Err(err) if err.number() == Some(NO_SUCH_TABLE) => Ok(Vec::new()),
            Err(err) => Err(err),
        }
    }

    /// Begins a transaction; it ends in [`finish`].
    pub(crate) async fn begin(&self) -> Result<Tx, StoreError> {
        let mut inner = self.pool.begin_with(BEGIN).await?;
        let is_marked = self.is_clustered.load(Ordering::Relaxed);
        if is_marked {
            inner.execute("SAVEPOINT begun").await?;
        }
        Ok(Tx { inner, is_marked })
    }

    /// A connection that only reads, statement by statement or for [`begin_snapshot`].
    pub(crate) async fn acquire(&self) -> Result<PoolConnection<MySql>, StoreError> {
        Ok(self.pool.acquire().await?)
    }
}

/// Begins a transaction that only reads, and sees the database as it is at this moment.
pub(crate) async fn begin_snapshot(
    connection: &mut PoolConnection<MySql>,
) -> Result<Transaction<'_, MySql>, StoreError> {
    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
    Ok(connection.begin_with("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY").await?)
}

/// Connects once without the pool, which tries a refused connection again until its time is up and then names the timeout
/// instead of the reason.
async fn knock(options: &MySqlConnectOptions) -> Result<(), StoreError> {
    let connect = MySqlConnection::connect_with(options);
    let connection = tokio::time::timeout(ACQUIRE_TIMEOUT, connect).await;
    Ok(connection.map_err(|_| sqlx::Error::PoolTimedOut)??.close().await?)
}

async fn set_session(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    connection.execute(SESSION).await?;
    connection.execute(SESSION_VARIABLES).await?;
    match connection.execute(SEE_ALL_NODES).await {
        Err(err) if error::is_unknown_variable(&err) => Ok(()),
        outcome => outcome.map(drop),
    }
}

/// Ends a transaction: COMMIT for a value, ROLLBACK for an error.
///
/// After a lock wait timeout the server has undone the last statement only: without the ROLLBACK the rest would stay.
pub(crate) async fn finish<T, E: From<StoreError>>(tx: Tx, outcome: Result<T, E>) -> Result<T, E> {
    match outcome {
        Ok(value) => {
            tx.commit().await?;
            Ok(value)
        }
        Err(err) => {
            if let Err(rollback) = tx.inner.rollback().await {
                // The server rolls back by itself when the connection ends, and a broken one leaves the pool.
                tracing::warn!(error = %rollback, "a ROLLBACK did not reach the database");
            }
            Err(err)
        }
    }
}

/// The database's clock, to the millisecond that the columns hold.
pub(crate) async fn now(connection: &mut MySqlConnection) -> Result<DateTime<Utc>, StoreError> {
    let row = sqlx::query("SELECT UTC_TIMESTAMP(3)").fetch_one(connection).await?;
    Ok(row.try_get::<chrono::NaiveDateTime, _>(0)?.and_utc())
}

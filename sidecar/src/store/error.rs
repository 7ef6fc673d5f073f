//! What can go wrong between this process and its database.

use sqlx::migrate::MigrateError;
use sqlx::mysql::MySqlDatabaseError;

use crate::metrics::GaveWay;

/// A failure of the database side.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection within the time limit, or the connection broke before anything was committed.
    #[error("the database cannot be reached: {0}")]
    Unreachable(#[source] sqlx::Error),
    /// The connection broke during COMMIT: repeating with the same key tells.
    #[error("the database did not say whether it committed: {0}")]
    CommitUnknown(#[source] sqlx::Error),
    /// Other transactions were in the way every time.
    #[error("gave up after {attempts} attempts: {source}")]
    Exhausted {
        /// How often it was tried.
        attempts: u32,
        /// The last failure.
        source: Box<StoreError>,
    },
    /// Two sidecars created the same row at the same moment; the next attempt finds it.
    #[error("another transaction created the same {table} row")]
    Raced {
        /// Where.
        table: &'static str,
    },
    /// A value that the code cannot read.
    #[error("{table}.{column} of {key} cannot be read")]
    Corrupt {
        /// Where.
        table: &'static str,
        /// Where in the row.
        column: &'static str,
        /// Which row.
        key: String,
    },
    /// A row that must exist does not, or cannot be read.
    #[error("{table} has no readable row for {key}")]
    Missing {
        /// Where.
        table: &'static str,
        /// Which row.
        key: String,
    },
    /// Rows were not as a guarded statement needs them.
    #[error("{table}: {changed} of {expected} rows changed")]
    Guard {
        /// Where.
        table: &'static str,
        /// Rows that were to change.
        expected: u64,
        /// Rows that did.
        changed: u64,
    },
    /// A quantity beyond what a column holds.
    #[error("{what} of {key} is out of range")]
    OutOfRange {
        /// Which quantity.
        what: &'static str,
        /// Whose.
        key: String,
    },
    /// This process lost a job to another one.
    #[error("job {job} belongs to another sidecar now")]
    Fenced {
        /// Which job.
        job: &'static str,
    },
    /// This process held a lock while it stood still, and a later holder has written since.
    #[error("the lock of {key} went to another sidecar (fencing number {newest})")]
    LockLost {
        /// Which lock.
        key: String,
        /// The fencing number of that holder.
        newest: u64,
    },
    /// A table of the predecessor in a shape that no migration begins from.
    #[error(
        "{table}.{column}: this database is of a later generation of billing-service; nothing was changed; see what taking \
         it over would do with `farebox migrate --from-predecessor`"
    )]
    LaterGeneration {
        /// Where.
        table: String,
        /// What tells.
        column: String,
    },
    /// The predecessor's tables are half taken over.
    #[error("{}", unfinished(.plan))]
    Unfinished {
        /// The plan.
        plan: String,
    },
    /// A migration failed.
    #[error("migration failed: {0}")]
    Migrate(#[source] MigrateError),
    /// Any other failure that the driver reports.
    #[error("the database refused a statement: {0}")]
    Driver(#[source] sqlx::Error),
}

/// What a server says to a transaction that has to give way.
///
/// In a cluster that certifies transactions, another node's may be the one: Galera says 1213, also to a COMMIT; Group
/// Replication says 3101. Galera may also say nothing: then the next write is outside of a transaction (1792), or the
/// transaction's savepoint is missing (1305).
const GIVES_WAY: [(u16, GaveWay); 7] = [
    (1213, GaveWay::Deadlock),
    (1792, GaveWay::Lost),
    (1305, GaveWay::Lost),
    (3101, GaveWay::Certification),
    (1205, GaveWay::LockWait),
    (1020, GaveWay::SnapshotConflict),
    (3572, GaveWay::NoWait),
];

/// What a server says that shuts down, is full, became a replica, or is cut off from its cluster (1047, 3100).
const UNREACHABLE: [u16; 8] = [1040, 1047, 1053, 1290, 1836, 1927, 3100, 3169];

/// What a node says whose COMMIT failed, or was interrupted, after the cluster may have heard of it.
const COMMIT_UNKNOWN: [u16; 2] = [1180, 1317];

/// CHECK (MySQL, MariaDB), range, NULL, length, value, duplicate, division by zero.
const ROW_FAULTS: [u16; 10] = [3819, 4025, 1690, 1264, 1048, 1406, 1366, 1292, 1062, 1365];

const DUPLICATE: u16 = 1062;
const UNKNOWN_VARIABLE: u16 = 1193;

impl From<sqlx::Error> for StoreError {
    fn from(err: sqlx::Error) -> Self {
        match &err {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unreachable(err),
            _ if error_number(&err).is_some_and(|number| UNREACHABLE.contains(&number)) => {
                Self::Unreachable(err)
            }
            _ => Self::Driver(err),
        }
    }
}

impl StoreError {
    /// A failed COMMIT: an answer of the server is an answer, silence is not.
    pub(crate) fn from_commit(err: sqlx::Error) -> Self {
        let is_unknown = error_number(&err).is_some_and(|number| COMMIT_UNKNOWN.contains(&number));
        match Self::from(err) {
            Self::Unreachable(err) => Self::CommitUnknown(err),
            Self::Driver(err) if is_unknown => Self::CommitUnknown(err),
            other => other,
        }
    }

    /// The server's error number.
    pub(crate) fn number(&self) -> Option<u16> {
        match self {
            Self::Driver(err) => error_number(err),
            _ => None,
        }
    }

    /// This error, after so many attempts were in vain.
    pub(crate) fn exhausted(self, attempts: u32) -> Self {
        Self::Exhausted { attempts, source: Box::new(self) }
    }

    /// What the transaction gave way to, if it did: then the whole of it may be tried again at once.
    pub(crate) fn gave_way(&self) -> Option<GaveWay> {
        if matches!(self, Self::Raced { .. }) {
            return Some(GaveWay::Raced);
        }
        let number = self.number()?;
        GIVES_WAY.iter().find(|(known, _)| *known == number).map(|&(_, why)| why)
    }

    /// Whether somebody else has locked what this needs. MariaDB says 1205 also to who does not wait.
    pub(crate) fn is_locked(&self) -> bool {
        matches!(self.gave_way(), Some(GaveWay::LockWait | GaveWay::NoWait))
    }

    /// Whether the cause is in the rows or in the message, so that trying again gives the same.
    pub(crate) fn is_row_fault(&self) -> bool {
        matches!(
            self,
            Self::Corrupt { .. }
                | Self::Missing { .. }
                | Self::Guard { .. }
                | Self::OutOfRange { .. }
        ) || self.number().is_some_and(|number| ROW_FAULTS.contains(&number))
    }

    /// Whether the database could not serve this now: the same request can be sent again later.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Unreachable(_)
            | Self::CommitUnknown(_)
            | Self::Exhausted { .. }
            | Self::Raced { .. } => true,
            Self::Corrupt { .. }
            | Self::Missing { .. }
            | Self::Guard { .. }
            | Self::OutOfRange { .. }
            | Self::Fenced { .. }
            | Self::LockLost { .. }
            | Self::LaterGeneration { .. }
            | Self::Unfinished { .. }
            | Self::Migrate(_)
            | Self::Driver(_) => false,
        }
    }

    /// Whether a row with the same key was there before.
    pub(crate) fn is_duplicate(&self) -> bool {
        self.number() == Some(DUPLICATE)
    }
}

/// Whether an INSERT wrote its row; `false` when a row with one of its keys was there before.
pub(crate) fn is_new<T>(inserted: Result<T, sqlx::Error>) -> Result<bool, StoreError> {
    match inserted.map_err(StoreError::from) {
        Ok(_) => Ok(true),
        Err(err) if err.is_duplicate() => Ok(false),
        Err(err) => Err(err),
    }
}

/// Whether a server does not know a variable of its session.
pub(super) fn is_unknown_variable(err: &sqlx::Error) -> bool {
    error_number(err) == Some(UNKNOWN_VARIABLE)
}

fn error_number(err: &sqlx::Error) -> Option<u16> {
    err.as_database_error()
        .and_then(|err| err.try_downcast_ref::<MySqlDatabaseError>())
        .map(MySqlDatabaseError::number)
}

/// Why the database cannot serve requests.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// It does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its schema is older than this program.
    #[error("migration {version} is not applied: run `farebox migrate`")]
    Pending {
        /// The first one missing.
        version: i64,
    },
    /// A migration broke off.
    #[error("migration {version} broke off: repair the schema by hand and run `farebox migrate`")]
    Broken {
        /// Which.
        version: i64,
    },
    /// The predecessor's tables are half taken over.
    #[error("{}", unfinished(.plan))]
    Unfinished {
        /// The plan.
        plan: String,
    },
}

fn unfinished(plan: &str) -> String {
    format!(
        "billing-service's tables are half taken over: finish it with `farebox migrate --from-predecessor --apply {plan}`"
    )
}

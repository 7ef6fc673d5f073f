//! Transactions that lost a race are tried again, whole.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::store::StoreError;

/// The most attempts of one transaction.
const ATTEMPTS_MAX: u32 = 8;

/// No attempt begins later than this after the first: the caller of the request waits no longer than a few seconds.
const LAST_START: Duration = Duration::from_secs(4);

/// The longest pause before the second attempt; it doubles with each further one.
const FIRST_PAUSE_MS: u64 = 5;

/// The longest pause.
const PAUSE_MAX_MS: u64 = 250;

/// An error that may come from the database, which may have made its transaction give way.
pub(crate) trait MayBeStore: From<StoreError> {
    /// The database's error; any other one as it is.
    fn into_store(self) -> Result<StoreError, Self>;
}

impl MayBeStore for StoreError {
    fn into_store(self) -> Result<StoreError, Self> {
        Ok(self)
    }
}

/// Runs `transaction`, again from its start when the database made it give way to another one.
///
/// `name` stands in the log. Each attempt begins its own transaction and has ended it when it returns.
pub(crate) async fn retry<T, E, F>(name: &'static str, transaction: impl Fn() -> F) -> Result<T, E>
where
    E: MayBeStore,
    F: Future<Output = Result<T, E>>,
{
    let start = Instant::now();
    let mut attempt = 1;
    loop {
        let err = match transaction().await {
            Ok(value) => return Ok(value),
            Err(err) => err.into_store()?,
        };
        if !err.is_transient() {
            return Err(err.into());
        }
        if ATTEMPTS_MAX <= attempt || LAST_START <= start.elapsed() {
            return Err(err.exhausted(attempt).into());
        }
        tracing::debug!(tx.name = name, attempt, error = %err, "`{name}` gives way and tries again");
        let pause = (FIRST_PAUSE_MS << attempt).min(PAUSE_MAX_MS);
        sleep(Duration::from_millis(rand::random_range(0..=pause))).await;
        attempt += 1;
    }
}

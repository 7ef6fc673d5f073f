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

/// An error that may be a lost race.
pub(crate) trait LostRace: Sized {
    /// Whether another attempt makes sense.
    fn is_transient(&self) -> bool;
    /// The error to give when no attempt is left.
    fn exhausted(self, attempts: u32) -> Self;
}

impl LostRace for StoreError {
    fn is_transient(&self) -> bool {
        Self::is_transient(self)
    }

    fn exhausted(self, attempts: u32) -> Self {
        Self::Exhausted { attempts, source: Box::new(self) }
    }
}

/// Runs `transaction`, again from its start when the database made it give way to another one.
///
/// `name` stands in the log. Each attempt begins its own transaction and has ended it when it returns.
pub(crate) async fn retry<T, E, F>(name: &'static str, transaction: impl Fn() -> F) -> Result<T, E>
where
    E: LostRace + std::fmt::Display,
    F: Future<Output = Result<T, E>>,
{
    let start = Instant::now();
    let mut attempt = 1;
    loop {
        match transaction().await {
            Err(err) if err.is_transient() => {
                if ATTEMPTS_MAX <= attempt || LAST_START <= start.elapsed() {
                    return Err(err.exhausted(attempt));
                }
                tracing::debug!(tx.name = name, attempt, error = %err, "`{name}` gives way and tries again");
            }
            outcome => return outcome,
        }
        let pause = (FIRST_PAUSE_MS << attempt).min(PAUSE_MAX_MS);
        sleep(Duration::from_millis(rand::random_range(0..=pause))).await;
        attempt += 1;
    }
}

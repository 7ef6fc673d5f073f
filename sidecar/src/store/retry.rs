//! Transactions that lost a race are tried again, whole.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{Instrument as _, Span};

use crate::metrics;
use crate::store::StoreError;
use crate::trace;

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
/// `name` stands in the log and in traces. Each attempt begins its own transaction and has ended it when it returns.
pub(crate) async fn retry<T, E, F>(name: &'static str, transaction: impl Fn() -> F) -> Result<T, E>
where
    E: MayBeStore,
    F: Future<Output = Result<T, E>>,
{
    let span = trace::transaction(name);
    repeat(name, transaction, &span).instrument(span.clone()).await
}

async fn repeat<T, E, F>(
    name: &'static str,
    transaction: impl Fn() -> F,
    span: &Span,
) -> Result<T, E>
where
    E: MayBeStore,
    F: Future<Output = Result<T, E>>,
{
    let start = Instant::now();
    let mut attempt = 1;
    loop {
        let err = match transaction().await.map_err(E::into_store) {
            Err(Ok(err)) => err,
            // Done, or refused by a rule.
            Ok(value) => return conclude(span, attempt, Ok(value)),
            Err(Err(err)) => return conclude(span, attempt, Err(err)),
        };
        let Some(why) = err.gave_way() else { return fail(span, attempt, err) };
        metrics::transaction_gave_way(why);
        if ATTEMPTS_MAX <= attempt || LAST_START <= start.elapsed() {
            metrics::transaction_exhausted();
            return fail(span, attempt, err.exhausted(attempt));
        }
        tracing::debug!(tx.name = name, attempt, error = %err, "`{name}` gives way and tries again");
        let pause = (FIRST_PAUSE_MS << attempt).min(PAUSE_MAX_MS);
        sleep(Duration::from_millis(rand::random_range(0..=pause))).await;
        attempt += 1;
    }
}

fn fail<T, E: MayBeStore>(span: &Span, attempts: u32, err: StoreError) -> Result<T, E> {
    span.record("otel.status_code", "ERROR");
    conclude(span, attempts, Err(err.into()))
}

fn conclude<T, E>(span: &Span, attempts: u32, outcome: Result<T, E>) -> Result<T, E> {
    span.record("farebox.transaction.attempts", attempts);
    outcome
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::metrics::recorded;

    /// A transaction that gives way so many times before it is done; in how many attempts.
    async fn attempts(gives_way: u32) -> Result<u32, StoreError> {
        let count = Cell::new(0);
        retry("test", || async {
            count.set(count.get() + 1);
            if gives_way < count.get() {
                return Ok(count.get());
            }
            Err(StoreError::Raced { table: "test" })
        })
        .await
    }

    #[tokio::test]
    async fn what_gives_way_is_tried_again_and_counted() {
        let (done, text) = recorded(attempts(2)).await;
        assert_eq!(done.unwrap(), 3);
        assert!(text.contains("billing_transaction_retry_total{code=\"raced\"} 2\n"), "{text}");
        assert!(text.contains("billing_transaction_exhausted_total 0\n"), "{text}");
    }

    #[tokio::test]
    async fn attempts_are_bounded_and_their_end_is_counted() {
        let (done, text) = recorded(attempts(u32::MAX)).await;
        assert!(matches!(done, Err(StoreError::Exhausted { attempts: ATTEMPTS_MAX, .. })));
        let line = format!("billing_transaction_retry_total{{code=\"raced\"}} {ATTEMPTS_MAX}\n");
        assert!(text.contains(&line), "{text}");
        assert!(text.contains("billing_transaction_exhausted_total 1\n"), "{text}");
    }

    #[tokio::test]
    async fn any_other_failure_is_final_and_not_counted() {
        let failing = retry("test", || async {
            Err::<(), _>(StoreError::Missing { table: "test", key: "u".to_owned() })
        });
        let (done, text) = recorded(failing).await;
        assert!(matches!(done, Err(StoreError::Missing { .. })));
        assert!(text.contains("billing_transaction_exhausted_total 0\n"), "{text}");
    }
}

//! Delivers events to their receiver, each at least once, and forgets them after a while.
//!
//! An event is marked only after the receiver's answer: whoever dies in between, or loses the job, leaves it to be
//! delivered again, under the same id. The order of events is not kept, so that one that is refused holds no other up.

use std::time::Duration;

use chrono::TimeDelta;
use tokio::task::{JoinError, JoinSet};
use tracing::Instrument as _;

use crate::app::App;
use crate::events::EventSender;
use crate::metrics;
use crate::store::outbox::{self, DueEvent};
use crate::store::retry::retry;
use crate::store::{self, StoreError};
use crate::trace;

const JOB: &str = "deliver_events";

/// How much longer than a delivery the job stays with a sidecar that stopped doing it: enough to write the outcome down.
const JOB_SLACK: Duration = Duration::from_secs(15);

/// Events of one round, and deliveries at the same time.
const EVENTS_PER_ROUND: u32 = 50;
const AT_ONCE_MAX: usize = 8;

const MINUTE_S: u64 = 60;
const HOUR_S: u64 = 3_600;

/// How long to wait after each failure, as Standard Webhooks recommends: three days in all.
const WAITS_S: [u64; 9] = [
    5,
    5 * MINUTE_S,
    30 * MINUTE_S,
    2 * HOUR_S,
    5 * HOUR_S,
    10 * HOUR_S,
    14 * HOUR_S,
    20 * HOUR_S,
    24 * HOUR_S,
];

/// How long events are kept.
const KEPT_DAYS: i64 = 30;

/// The most events that one statement deletes.
const PURGED_PER_ROUND: u64 = 1_000;

/// What a round of deliveries came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deliveries {
    /// Events that the receiver has.
    pub delivered: u64,
    /// Events that it does not have yet, or never will.
    pub failed: u64,
    /// Whether more events may be due.
    pub is_full: bool,
}

/// Delivers a round of due events. No delivery begins once `go_on` says no.
pub(super) async fn deliver(app: &App, go_on: impl Fn() -> bool) -> Result<Deliveries, StoreError> {
    let Some(sender) = &app.events else { return Ok(Deliveries::default()) };
    // Counted by every sidecar: the number of one that has not got the job would grow old.
    count(app).await?;
    if app.acquire_job(JOB, ttl(sender)).await?.is_none() {
        return Ok(Deliveries::default());
    }
    let mut connection = app.store.acquire().await?;
    let due = outbox::due(&mut connection, EVENTS_PER_ROUND).await?;
    drop(connection);
    if due.is_empty() {
        return Ok(Deliveries::default());
    }
    let is_full = due.len() == EVENTS_PER_ROUND as usize;
    let mut round = Round::default();
    for event in due {
        if round.running.len() == AT_ONCE_MAX {
            round.wait().await;
        }
        // The job is taken anew for each delivery: nobody else begins one before this one is over.
        if !go_on() || !round.may_go_on() || app.acquire_job(JOB, ttl(sender)).await?.is_none() {
            break;
        }
        let deliver = one(app.clone(), sender.clone(), event);
        round.running.spawn(deliver.instrument(trace::job("deliver an event")));
    }
    while !round.running.is_empty() {
        round.wait().await;
    }
    count(app).await?;
    let (delivered, failed) = (round.delivered, round.failed);
    round.error.map_or(Ok(Deliveries { delivered, failed, is_full }), Err)
}

/// Deliveries that are on their way, and how the others ended.
#[derive(Default)]
struct Round {
    running: JoinSet<Result<bool, StoreError>>,
    delivered: u64,
    failed: u64,
    error: Option<StoreError>,
}

impl Round {
    /// Waits for one of the deliveries.
    async fn wait(&mut self) {
        let ended: Option<Result<_, JoinError>> = self.running.join_next().await;
        match ended {
            Some(Ok(Ok(true))) => self.delivered += 1,
            Some(Ok(Ok(false))) => self.failed += 1,
            Some(Ok(Err(err))) => self.error = Some(err),
            Some(Err(err)) => {
                tracing::error!(error = %err, "an event was not delivered to the end");
            }
            None => {}
        }
    }

    /// Whether outcomes can be written down: what cannot be marked would only be delivered twice.
    fn may_go_on(&self) -> bool {
        self.error.is_none()
    }
}

fn ttl(sender: &EventSender) -> Duration {
    sender.timeout() + JOB_SLACK
}

/// Delivers one event and marks it; whether the receiver has it.
async fn one(app: App, sender: EventSender, event: DueEvent) -> Result<bool, StoreError> {
    let Err(failure) = sender.send(&event.event_id, &event.payload_json).await else {
        let outbox_id = event.outbox_id;
        retry(JOB, || async {
            let mut tx = app.store.begin().await?;
            let outcome = outbox::delivered(&mut tx, outbox_id).await;
            store::finish(tx, outcome).await
        })
        .await?;
        return Ok(true);
    };
    let wait = wait_after(event.attempts);
    let DueEvent { event_id, event_type, attempts, .. } = &event;
    let attempt = attempts.saturating_add(1);
    match wait {
        Some(wait) => {
            tracing::warn!(event.id = event_id, event.r#type = event_type, attempt, error = %failure,
                "an event was not delivered; again in {wait:?}");
        }
        None => {
            tracing::error!(event.id = event_id, event.r#type = event_type, attempt, error = %failure,
                "alert: an event was never delivered, and is given up");
        }
    }
    retry(JOB, || async {
        let mut tx = app.store.begin().await?;
        let outcome = outbox::failed(&mut tx, &event, wait).await;
        store::finish(tx, outcome).await
    })
    .await?;
    Ok(false)
}

/// How long to wait after one more failure; `None` when that was the last attempt.
fn wait_after(failures_before: u32) -> Option<Duration> {
    let wait = WAITS_S.get(usize::try_from(failures_before).unwrap_or(usize::MAX));
    wait.copied().map(Duration::from_secs)
}

async fn count(app: &App) -> Result<(), StoreError> {
    let mut connection = app.store.acquire().await?;
    metrics::outbox_pending(outbox::pending(&mut connection).await?);
    Ok(())
}

/// Deletes old events; how many. Without a receiver also those that wait for one: the table must not grow for ever.
pub(super) async fn purge(app: &App) -> Result<u64, StoreError> {
    let mut purged = 0;
    loop {
        let with_pending = app.events.is_none();
        let in_round = retry("purge", || async {
            let mut tx = app.store.begin().await?;
            let outcome = async {
                let before = store::now(&mut tx).await? - TimeDelta::days(KEPT_DAYS);
                outbox::purge(&mut tx, before, with_pending, PURGED_PER_ROUND).await
            }
            .await;
            store::finish(tx, outcome).await
        })
        .await?;
        purged += in_round;
        if in_round < PURGED_PER_ROUND {
            return Ok(purged);
        }
    }
}

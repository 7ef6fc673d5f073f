//! The turn of one account that other sidecars charge too.
//!
//! The lock in Redis keeps sidecars from waiting for each other inside the database. It is waited for a while, and then
//! the account's row decides, as it does without a Redis: nobody is refused for want of the lock.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::Utc;
use tokio::time::Instant;

use farebox_core::id::{AccountId, ServiceName};

use super::Request;
use super::round::{Decided, Locking};
use super::transaction::{self, Concluded, Fences};
use super::turns::{Item, in_time};
use crate::app::App;
use crate::cache::{Guard, Lock, LockName};
use crate::calendar::Month;

/// The longest wait for the lock.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(1);

/// How often a turn whose lock went to somebody else is tried with a new one. After that it goes without.
const ATTEMPTS_MAX: u32 = 2;

/// Locks that are had, with the numbers that the rows must not have outgrown.
#[derive(Debug, Default)]
struct Locks {
    guards: Vec<Guard>,
    fences: Fences,
}

/// Decides the requests of one account.
pub(super) async fn run(app: &App, account: &AccountId, items: Vec<Item>) -> Concluded {
    let (mut concluded, mut items, mut floor) = (Vec::new(), items, 0);
    for attempt in 0..=ATTEMPTS_MAX {
        let locks = if attempt < ATTEMPTS_MAX {
            acquire(app, account, &items, floor).await
        } else {
            Locks::default()
        };
        // Whoever waited for the lock has waited without a connection.
        let _permit = app.turns.alone.acquire().await;
        let (told, outrun) = decide(app, in_time(items), &locks.fences).await;
        locks.guards.into_iter().for_each(|guard| app.cache.unlock(guard));
        concluded.extend(told);
        let Some((newest, rest)) = outrun else { break };
        tracing::warn!(account.id = %account, "a lock went to another sidecar before it was used; the turn is decided anew");
        (items, floor) = (rest, newest);
    }
    concluded
}

/// What was decided, and the requests that were not because a later holder of the lock has written, with its number.
async fn decide(
    app: &App,
    items: Vec<Item>,
    fences: &Fences,
) -> (Concluded, Option<(u64, Vec<Item>)>) {
    let (mut told, mut rest, mut newest) = (Vec::new(), Vec::new(), 0);
    for (item, decided) in transaction::conclude(app, items, Locking::Wait, fences).await {
        match decided {
            Ok(Decided::Outrun { by }) => {
                newest = newest.max(by);
                rest.push(item);
            }
            decided => told.push((item, decided)),
        }
    }
    (told, (!rest.is_empty()).then_some((newest, rest)))
}

/// Takes the locks of all services that the requests charge, in order. Those that are not had in time are gone without.
async fn acquire(app: &App, account: &AccountId, items: &[Item], floor: u64) -> Locks {
    let services: BTreeSet<&ServiceName> = items.iter().filter_map(service).collect();
    // The month is part of the lock's name only; which month a call belongs to, the database decides.
    let month = Month::at(Utc::now(), app.settings.time_zone).text;
    let last = items.iter().map(|item| item.deadline).min();
    let patient = Instant::now() + LOCK_WAIT_MAX;
    let wait_until = last.map_or(patient, |last| last.min(patient));
    let mut locks = Locks::default();
    for service in services {
        let name = LockName::new(account, service, &month);
        match app.cache.lock(&name, floor, wait_until).await {
            Lock::Held(guard) => {
                locks.fences.insert(service.clone(), guard.fencing());
                locks.guards.push(guard);
            }
            Lock::Busy => {}
            Lock::Away => break,
        }
    }
    locks
}

fn service(item: &Item) -> Option<&ServiceName> {
    match &item.request {
        Request::Deduct(request) => Some(&request.service),
        Request::Reserve(request) => Some(&request.service),
        Request::Commit(_) | Request::Release(_) | Request::Refund(_) => None,
    }
}

//! One round, one transaction: tried again whole when it lost a race, and in halves when a row in it is broken.

use std::collections::BTreeMap;
use std::sync::Arc;

use farebox_core::id::ServiceName;

use super::CallError;
use super::round::{Decided, Locking, Round};
use super::turns::Item;
use crate::app::App;
use crate::app::books::Tally;
use crate::metrics;
use crate::store::retry::retry;
use crate::store::{self, StoreError, Tx};

/// The fencing numbers of the locks that one account's requests are decided under, by service.
pub(super) type Fences = BTreeMap<ServiceName, u64>;

/// Requests and what came of them, in order.
pub(super) type Concluded = Vec<(Item, Result<Decided, CallError>)>;

/// Decides requests together. One that cannot be written, or read, fails alone.
pub(super) async fn conclude(
    app: &App,
    items: Vec<Item>,
    locking: Locking,
    fences: &Fences,
) -> Concluded {
    if items.is_empty() {
        return Vec::new();
    }
    match retry("charge", || attempt(app, &items, locking, fences)).await {
        Ok(decided) => items.into_iter().zip(decided.into_iter().map(Ok)).collect(),
        Err(err) if err.is_row_fault() && 1 < items.len() => {
            tracing::warn!(error = %err, requests = items.len(), "a request among others failed; they are decided in parts");
            let (first, second) = halves(items);
            let mut concluded = Box::pin(conclude(app, first, locking, fences)).await;
            concluded.extend(Box::pin(conclude(app, second, locking, fences)).await);
            concluded
        }
        Err(StoreError::LockLost { newest, .. }) => {
            items.into_iter().map(|item| (item, Ok(Decided::Outrun { by: newest }))).collect()
        }
        Err(err) => {
            let failure = failure(err);
            items.into_iter().map(|item| (item, Err(failure.clone()))).collect()
        }
    }
}

async fn attempt(
    app: &App,
    items: &[Item],
    locking: Locking,
    fences: &Fences,
) -> Result<Vec<Decided>, StoreError> {
    let outcome = match app.store.begin().await {
        Ok(mut tx) => {
            let outcome = decide(&mut tx, app, items, locking, fences).await;
            let outcome = store::finish(tx, outcome).await;
            outcome.map(|(decided, tally)| {
                tally.count(app);
                decided
            })
        }
        Err(err) => Err(err),
    };
    put_off(items, &outcome);
    if let Ok(decided) = &outcome {
        let is_new = |decided: &&Decided| matches!(decided, Decided::Answer(_));
        metrics::deduct_batch(decided.iter().filter(is_new).count());
    }
    outcome
}

/// Requests without an outcome can be given up again.
fn put_off(items: &[Item], outcome: &Result<Vec<Decided>, StoreError>) {
    match outcome {
        Ok(decided) => {
            let open = items.iter().zip(decided).filter(|(_, decided)| !decided.is_final());
            open.for_each(|(item, _)| item.ticket.put_off());
        }
        // They may have been written.
        Err(StoreError::CommitUnknown(_)) => {}
        Err(_) => items.iter().for_each(|item| item.ticket.put_off()),
    }
}

async fn decide(
    tx: &mut Tx,
    app: &App,
    items: &[Item],
    locking: Locking,
    fences: &Fences,
) -> Result<(Vec<Decided>, Tally), StoreError> {
    let requests: Vec<_> = items.iter().map(|item| (&item.request, &item.account)).collect();
    let mut round = Round::load(tx, &app.settings, &requests, locking).await?;
    if let [(_, account), ..] = requests.as_slice() {
        round.fence(account, fences)?;
    }
    // From here on nobody waits for anybody; who has waited for too long is not charged any more.
    let waits = |item: &&Item| !round.has(&item.account) || item.ticket.begin();
    let begun: Vec<bool> = items.iter().map(|item| waits(&item)).collect();
    let waiting = requests.into_iter().zip(&begun).filter(|(_, begun)| **begun);
    let requests: Vec<_> = waiting.map(|(request, _)| request).collect();
    let mut decided = round.decide_all(tx, &requests).await?.into_iter();
    round.store(tx).await?;
    let in_place = |begun: bool| if begun { decided.next() } else { Some(Decided::GivenUp) };
    Ok((begun.into_iter().filter_map(in_place).collect(), round.tally()))
}

/// Two parts; no account is in both, unless there is only one account.
fn halves(mut items: Vec<Item>) -> (Vec<Item>, Vec<Item>) {
    let middle = items.len() / 2;
    let begins = |place: &usize| match (items.get(place - 1), items.get(*place)) {
        (Some(before), Some(item)) => before.account != item.account,
        _ => false,
    };
    let border = (middle.max(1)..items.len()).find(begins);
    let border = border.or_else(|| (1..middle).rev().find(begins)).unwrap_or(middle);
    let second = items.split_off(border);
    (items, second)
}

/// What the requests are told. Nothing of them was written, unless the database did not say.
fn failure(err: StoreError) -> CallError {
    match err {
        StoreError::Exhausted { .. } => {
            tracing::warn!(error = %err, "accounts were locked for too long");
            CallError::Busy
        }
        err => CallError::Store(Arc::new(err)),
    }
}

//! What no request starts: leases of silent gateways are taken back, old replies and events deleted.

use std::time::Duration;

use chrono::TimeDelta;
use sqlx::mysql::MySqlConnection;

use crate::app::books::{Books, LeaseSelection};
use crate::app::{App, outbox};
use crate::store::column::OnCorrupt;
use crate::store::lease::State;
use crate::store::retry::retry;
use crate::store::{self, StoreError, job_lease, lease, sync_reply};

const RECLAIM: &str = "reclaim";
const PURGE: &str = "purge";

/// How long a job stays with a sidecar that stopped doing it: a few of its rounds. A holder that was only slow is fenced
/// off by its token.
const RECLAIM_TTL: Duration = Duration::from_secs(5);
const PURGE_TTL: Duration = Duration::from_secs(180);

/// The most leases that one transaction takes back.
const LEASES_PER_ROUND: u64 = 200;

/// The most replies that one statement deletes.
const REPLIES_PER_ROUND: u64 = 1_000;

/// A gateway that got no answer for this long has given the message up.
const REPLY_AGE_HOURS: i64 = 1;

/// Takes back the leases of gateways that fell silent; how many.
pub(super) async fn leases(app: &App) -> Result<u64, StoreError> {
    let Some(token) = app.acquire_job(RECLAIM, RECLAIM_TTL).await? else { return Ok(0) };
    let mut reclaimed = 0;
    loop {
        let mut connection = app.store.acquire().await?;
        let now = store::now(&mut connection).await?;
        let overdue = lease::overdue(&mut connection, now, LEASES_PER_ROUND).await?;
        drop(connection);
        let in_round = reclaim(app, token, &overdue).await?;
        reclaimed += in_round;
        // A short round was the last one; a round that took nothing back met leases that need repair.
        if (overdue.len() as u64) < LEASES_PER_ROUND || in_round == 0 {
            return Ok(reclaimed);
        }
    }
}

/// Takes these leases back together, or one by one when a row among them is broken.
async fn reclaim(app: &App, token: i64, overdue: &[u64]) -> Result<u64, StoreError> {
    if overdue.is_empty() {
        return Ok(0);
    }
    match retry(RECLAIM, || attempt(app, token, overdue)).await {
        Err(err) if err.is_row_fault() => {
            tracing::warn!(error = %err, "a lease cannot be taken back; the others are, one by one");
        }
        outcome => return outcome,
    }
    let mut reclaimed = 0;
    for &id in overdue {
        let alone = [id];
        match retry(RECLAIM, || attempt(app, token, &alone)).await {
            Ok(count) => reclaimed += count,
            Err(err) if err.is_row_fault() => {
                tracing::error!(lease.id = id, error = %err, "lease {id} cannot be taken back: repair its rows");
            }
            Err(err) => return Err(err),
        }
    }
    Ok(reclaimed)
}

async fn attempt(app: &App, token: i64, overdue: &[u64]) -> Result<u64, StoreError> {
    let mut tx = app.store.begin().await?;
    let outcome = expire(&mut tx, token, overdue).await;
    store::finish(tx, outcome).await
}

async fn expire(tx: &mut MySqlConnection, token: i64, overdue: &[u64]) -> Result<u64, StoreError> {
    job_lease::require(tx, RECLAIM, token).await?;
    let owners = lease::accounts(tx, overdue, OnCorrupt::Fail).await?;
    let accounts = owners.into_iter().filter_map(|(_, account)| account).collect();
    let mut books = Books::lock(tx, &accounts, None, OnCorrupt::Fail).await?;
    let selection = LeaseSelection { ids: overdue.to_vec(), ..LeaseSelection::default() };
    books.load_leases(tx, &selection).await?;
    let mut expired = 0;
    for &id in overdue {
        // A report may have renewed the lease before its account was locked.
        let is_overdue =
            books.lease(id).is_some_and(|lease| lease.units.open && lease.reclaim_at <= books.now);
        if is_overdue {
            books.end_lease(id, State::Expired)?;
            expired += 1;
        }
    }
    books.store(tx).await?;
    Ok(expired)
}

/// Deletes what nobody asks for any more; how many rows. Deleting an old row twice does no harm: the job's token needs no
/// check.
pub(super) async fn purge(app: &App) -> Result<u64, StoreError> {
    let Some(_) = app.acquire_job(PURGE, PURGE_TTL).await? else { return Ok(0) };
    Ok(replies(app).await? + outbox::purge(app).await?)
}

/// Deletes replies that no gateway asks for any more; how many.
async fn replies(app: &App) -> Result<u64, StoreError> {
    let mut purged = 0;
    loop {
        let mut connection = app.store.acquire().await?;
        let before = store::now(&mut connection).await? - TimeDelta::hours(REPLY_AGE_HOURS);
        let in_round = sync_reply::purge(&mut connection, before, REPLIES_PER_ROUND).await?;
        purged += in_round;
        if in_round < REPLIES_PER_ROUND {
            return Ok(purged);
        }
    }
}

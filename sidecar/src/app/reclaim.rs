//! What no request starts: leases of silent gateways and old reservations are taken back, old answers and events deleted.

use std::time::Duration;

use chrono::TimeDelta;
use sqlx::mysql::MySqlConnection;
use tracing::Instrument as _;

use farebox_core::call::KEY_KEPT_H;
use farebox_core::id::AccountId;

use crate::app::books::{Books, Create, LeaseSelection, Tally};
use crate::app::charging::SCOPES;
use crate::app::{App, Settings, outbox};
use crate::store::column::OnCorrupt;
use crate::store::retry::retry;
use crate::store::{self, StoreError, idempotency_key, job_lease, lease, reservation, sync_reply};
use crate::trace;

const RECLAIM: &str = "reclaim";
const PURGE: &str = "purge";

/// How long a job stays with a sidecar that stopped doing it: a few of its rounds. A holder that was only slow is fenced
/// off by its token.
const RECLAIM_TTL: Duration = Duration::from_secs(5);
const PURGE_TTL: Duration = Duration::from_secs(180);

/// The most leases, and the most reservations, that one transaction takes back.
const CLAIMS_PER_ROUND: u64 = 200;

/// The most replies that one statement deletes.
const REPLIES_PER_ROUND: u64 = 1_000;

/// A gateway that got no answer for this long has given the message up.
const REPLY_AGE_HOURS: i64 = 1;

/// What is to be given back: leases of gateways that fell silent, and reservations whose time is over.
#[derive(Debug, Default)]
struct Overdue {
    leases: Vec<u64>,
    reservations: Vec<(String, AccountId)>,
}

impl Overdue {
    async fn find(app: &App) -> Result<Self, StoreError> {
        let mut connection = app.store.acquire().await?;
        let now = store::now(&mut connection).await?;
        Ok(Self {
            leases: lease::overdue(&mut connection, now, CLAIMS_PER_ROUND).await?,
            reservations: reservation::overdue(&mut connection, now, CLAIMS_PER_ROUND).await?,
        })
    }

    fn is_empty(&self) -> bool {
        self.leases.is_empty() && self.reservations.is_empty()
    }

    /// Whether there may be more of them.
    fn is_full(&self) -> bool {
        CLAIMS_PER_ROUND <= self.leases.len().max(self.reservations.len()) as u64
    }

    fn one_by_one(self) -> impl Iterator<Item = Self> {
        let lease = |id| Self { leases: vec![id], ..Self::default() };
        let reservation = |row| Self { reservations: vec![row], ..Self::default() };
        self.leases.into_iter().map(lease).chain(self.reservations.into_iter().map(reservation))
    }
}

/// Takes back what ran out; how many leases and reservations.
pub(super) async fn claims(app: &App) -> Result<u64, StoreError> {
    let Some(token) = app.acquire_job(RECLAIM, RECLAIM_TTL).await? else { return Ok(0) };
    let mut reclaimed = 0;
    loop {
        let overdue = Overdue::find(app).await?;
        let is_full = overdue.is_full();
        if overdue.is_empty() {
            return Ok(reclaimed);
        }
        let in_round = reclaim(app, token, overdue).instrument(trace::job(RECLAIM)).await?;
        reclaimed += in_round;
        // A short round was the last one; a round that took nothing back met rows that need repair.
        if !is_full || in_round == 0 {
            return Ok(reclaimed);
        }
    }
}

/// Takes these back together, or one by one when a row among them is broken.
async fn reclaim(app: &App, token: i64, overdue: Overdue) -> Result<u64, StoreError> {
    match retry(RECLAIM, || attempt(app, token, &overdue)).await {
        Err(err) if err.is_row_fault() => {
            tracing::warn!(error = %err, "a lease or reservation cannot be taken back; the others are, one by one");
        }
        outcome => return outcome,
    }
    let mut reclaimed = 0;
    for alone in overdue.one_by_one() {
        match retry(RECLAIM, || attempt(app, token, &alone)).await {
            Ok(count) => reclaimed += count,
            Err(err) if err.is_row_fault() => {
                tracing::error!(?alone, error = %err, "this cannot be taken back: repair its rows");
            }
            Err(err) => return Err(err),
        }
    }
    Ok(reclaimed)
}

async fn attempt(app: &App, token: i64, overdue: &Overdue) -> Result<u64, StoreError> {
    let mut tx = app.store.begin().await?;
    let outcome = expire(&mut tx, token, overdue, &app.settings).await;
    let (expired, tally) = store::finish(tx, outcome).await?;
    tally.count(app);
    Ok(expired)
}

async fn expire(
    tx: &mut MySqlConnection,
    token: i64,
    overdue: &Overdue,
    settings: &Settings,
) -> Result<(u64, Tally), StoreError> {
    job_lease::require(tx, RECLAIM, token).await?;
    let owners = lease::accounts(tx, &overdue.leases, OnCorrupt::Fail).await?;
    let of_leases = owners.into_iter().filter_map(|(_, account)| account);
    let of_reservations = overdue.reservations.iter().map(|(_, account)| account.clone());
    let accounts = of_leases.chain(of_reservations).collect();
    let mut books = Books::lock(tx, &accounts, settings, Create::No, OnCorrupt::Fail).await?;
    let selection = LeaseSelection { ids: overdue.leases.clone(), ..LeaseSelection::default() };
    books.load_leases(tx, &selection).await?;
    let ids: Vec<&str> = overdue.reservations.iter().map(|(id, _)| id.as_str()).collect();
    books.load_calls(tx, &ids, &[]).await?;
    books.load_last_seen(tx).await?;
    let mut expired = 0;
    for &id in &overdue.leases {
        // A report may have renewed the lease before its account was locked.
        let is_overdue =
            books.lease(id).is_some_and(|lease| lease.units.open && lease.reclaim_at <= books.now);
        if is_overdue {
            books.reclaim_lease(id, settings)?;
            expired += 1;
        }
    }
    for id in ids {
        // It may have been committed before its account was locked.
        if books.reservation(id).is_some_and(|row| row.is_overdue(books.now)) {
            books.end_reservation(id, reservation::State::Expired)?;
            expired += 1;
        }
    }
    books.store(tx).await?;
    Ok((expired, books.tally()))
}

/// Deletes what nobody asks for any more; how many rows. Deleting an old row twice does no harm: the job's token needs no
/// check.
pub(super) async fn purge(app: &App) -> Result<u64, StoreError> {
    let Some(_) = app.acquire_job(PURGE, PURGE_TTL).await? else { return Ok(0) };
    Ok(replies(app).await? + answers(app).await? + outbox::purge(app).await?)
}

/// Deletes replies that no gateway asks for any more; how many.
async fn replies(app: &App) -> Result<u64, StoreError> {
    let mut purged = 0;
    loop {
        let in_round = retry(PURGE, || async {
            let mut tx = app.store.begin().await?;
            let outcome = async {
                let before = store::now(&mut tx).await? - TimeDelta::hours(REPLY_AGE_HOURS);
                sync_reply::purge(&mut tx, before, REPLIES_PER_ROUND).await
            }
            .await;
            store::finish(tx, outcome).await
        })
        .await?;
        purged += in_round;
        if in_round < REPLIES_PER_ROUND {
            return Ok(purged);
        }
    }
}

/// Deletes answers to requests that were asked so long ago that nobody repeats them; how many.
async fn answers(app: &App) -> Result<u64, StoreError> {
    let mut purged = 0;
    for scope in SCOPES {
        loop {
            let in_round = retry(PURGE, || async {
                let mut tx = app.store.begin().await?;
                let outcome = async {
                    let before = store::now(&mut tx).await? - TimeDelta::hours(KEY_KEPT_H);
                    idempotency_key::purge(&mut tx, scope, before, REPLIES_PER_ROUND).await
                }
                .await;
                store::finish(tx, outcome).await
            })
            .await?;
            purged += in_round;
            if in_round < REPLIES_PER_ROUND {
                break;
            }
        }
    }
    Ok(purged)
}

//! Checks: what deducts would come to, decided by the same code on books that nobody locks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use sqlx::mysql::MySqlConnection;

use farebox_core::call::{CheckReply, CheckRequest};
use farebox_core::id::AccountId;
use farebox_core::wire::LeaseKey;

use super::CallError;
use super::hint::Hint;
use super::round::Round;
use crate::app::App;
use crate::app::books::{Books, Create};
use crate::calendar::Month;
use crate::metrics::{self, CheckResult};
use crate::store::column::OnCorrupt;
use crate::store::free_quota::QuotaKey;
use crate::store::retry::retry;
use crate::store::{self, StoreError};

/// What each of the deducts would come to.
pub(in crate::app) async fn run(
    app: &App,
    requests: &[CheckRequest],
) -> Vec<Result<CheckReply, CallError>> {
    let started = Instant::now();
    let told = match requests {
        [request] => vec![one(app, request).await],
        requests => from_database(app, requests).await,
    };
    for (request, reply) in requests.iter().zip(&told) {
        let result = match reply {
            Ok(reply) if reply.allowed => CheckResult::Allowed,
            Ok(_) => CheckResult::Denied,
            Err(_) => CheckResult::Error,
        };
        metrics::quota_check(&app.services.label(&request.service), result, started.elapsed());
    }
    told
}

/// A single check may say yes from what the last one was told within a second.
async fn one(app: &App, request: &CheckRequest) -> Result<CheckReply, CallError> {
    let account = &request.user_id;
    let hint = app.cache.hint::<Hint>(account).await;
    if let Some(reply) = hint.and_then(|hint| hint.tell(request)) {
        return Ok(reply);
    }
    // Taken before the database is read: from here on the hint ages.
    let clock = app.cache.hint_clock().await;
    let told = from_database(app, std::slice::from_ref(request)).await.pop();
    let told = told.unwrap_or(Err(CallError::Unfinished));
    if let (Some(clock), Ok(reply)) = (clock, &told)
        && let Some(hint) = Hint::of(request, reply)
    {
        let (cache, account) = (app.cache.clone(), account.clone());
        tokio::spawn(async move { cache.keep_hint(&account, &hint, clock).await });
    }
    told
}

/// Tells all of them; one whose rows cannot be read fails alone.
async fn from_database(app: &App, requests: &[CheckRequest]) -> Vec<Result<CheckReply, CallError>> {
    // Waited for without a connection; the caller gives up when its time is over.
    let turn = app.turns.checks.acquire().await;
    let told = together(app, requests).await;
    drop(turn);
    match told {
        Ok(told) => told,
        Err(err) if err.is_row_fault() && 1 < requests.len() => {
            tracing::warn!(error = %err, requests = requests.len(), "a check among others failed; they are told in parts");
            let (first, second) = requests.split_at(requests.len() / 2);
            let mut told = Box::pin(from_database(app, first)).await;
            told.extend(Box::pin(from_database(app, second)).await);
            told
        }
        Err(err) => {
            let err = CallError::Store(Arc::new(err));
            requests.iter().map(|_| Err(err.clone())).collect()
        }
    }
}

async fn together(
    app: &App,
    requests: &[CheckRequest],
) -> Result<Vec<Result<CheckReply, CallError>>, StoreError> {
    let keys: Vec<LeaseKey> = requests.iter().map(key).collect();
    let metered: Vec<&LeaseKey> =
        keys.iter().filter(|key| app.settings.is_metered(&key.service)).collect();
    create_missing(app, &metered).await?;
    tell_all(app, requests, &keys, &metered).await
}

fn key(request: &CheckRequest) -> LeaseKey {
    let CheckRequest { user_id, service, price, .. } = request.clone();
    LeaseKey { account: user_id, service, price }
}

async fn tell_all(
    app: &App,
    requests: &[CheckRequest],
    keys: &[LeaseKey],
    metered: &[&LeaseKey],
) -> Result<Vec<Result<CheckReply, CallError>>, StoreError> {
    let mut connection = app.store.acquire().await?;
    let mut tx = store::begin_snapshot(&mut connection).await?;
    let told = async {
        let mut round = Round::peek(&mut tx, &app.settings, metered).await?;
        let tell = |round: &Round<'_>, short: &mut BTreeSet<_>| {
            let one = |(request, key): (&CheckRequest, &LeaseKey)| {
                if !app.settings.is_metered(&key.service) {
                    return Err(CallError::UnknownService { service: key.service.clone() });
                }
                if let Some(reply) = round.tell_own(key, request.count).map_err(Arc::new)? {
                    return Ok(reply);
                }
                // Each check is about the books as they are, whatever the others come to.
                let mut trial = round.clone();
                let reply = trial.tell(key, request.count).map_err(Arc::new)?;
                short.extend(trial.short().iter().cloned());
                Ok(reply)
            };
            requests.iter().zip(keys).map(one).collect::<Vec<_>>()
        };
        let mut short = BTreeSet::new();
        let told = tell(&round, &mut short);
        if short.is_empty() {
            return Ok(told);
        }
        round.load_claims(&mut tx, short).await?;
        Ok(tell(&round, &mut BTreeSet::new()))
    }
    .await;
    // Nothing was written: only the snapshot ends.
    tx.rollback().await?;
    told
}

/// What a deduct would come to, for the user's own eyes: nothing is created, and nothing that was told before is believed.
pub(in crate::app) async fn quote(
    app: &App,
    request: &CheckRequest,
) -> Result<CheckReply, CallError> {
    let keys = [key(request)];
    let metered: Vec<&LeaseKey> =
        keys.iter().filter(|key| app.settings.is_metered(&key.service)).collect();
    let turn = app.turns.checks.acquire().await;
    let told = tell_all(app, std::slice::from_ref(request), &keys, &metered).await;
    drop(turn);
    let told = told.map_err(|err| CallError::Store(Arc::new(err)))?.pop();
    told.unwrap_or(Err(CallError::Unfinished))
}

/// Creates the rows of users, services and months that are new.
async fn create_missing(app: &App, keys: &[&LeaseKey]) -> Result<(), StoreError> {
    let mut connection = app.store.acquire().await?;
    let missing = missing(app, &mut connection, keys).await?;
    drop(connection);
    if missing.is_empty() {
        return Ok(());
    }
    retry("check", || async {
        let mut tx = app.store.begin().await?;
        let outcome = create(app, &mut tx, &missing).await;
        store::finish(tx, outcome).await
    })
    .await
}

/// The keys that have no quota row this month, or no balance row.
async fn missing(
    app: &App,
    connection: &mut MySqlConnection,
    keys: &[&LeaseKey],
) -> Result<Vec<LeaseKey>, StoreError> {
    let now = store::now(connection).await?;
    let month = Month::at(now, app.settings.time_zone);
    let wanted: Vec<QuotaKey> = keys.iter().map(|key| quota(key, &month)).collect();
    let found =
        store::free_quota::find(connection, &wanted.iter().collect::<Vec<_>>(), OnCorrupt::Fail)
            .await?;
    let found: BTreeSet<&QuotaKey> = found.iter().map(|row| &row.key).collect();
    // The predecessor gave users quotas before it gave them balances.
    let accounts: Vec<&AccountId> = keys.iter().map(|key| &key.account).collect();
    let existing = store::user_balance::existing(connection, &accounts).await?;
    let existing: BTreeSet<AccountId> = existing.into_iter().collect();
    let is_missing = |(key, wanted): &(&&LeaseKey, &QuotaKey)| {
        !found.contains(wanted) || !existing.contains(&key.account)
    };
    let missing = keys.iter().zip(&wanted).filter(is_missing);
    Ok(missing.map(|(key, _)| (*key).clone()).collect())
}

async fn create(app: &App, tx: &mut MySqlConnection, keys: &[LeaseKey]) -> Result<(), StoreError> {
    let accounts = keys.iter().map(|key| key.account.clone()).collect();
    let mut books = Books::lock(tx, &accounts, &app.settings, Create::Yes, OnCorrupt::Fail).await?;
    let month = Month::at(books.now, app.settings.time_zone);
    let quotas = keys.iter().map(|key| quota(key, &month)).collect();
    books.load_or_create_quotas(tx, &quotas, &app.settings).await?;
    // The account's own row is written with them: nodes of a cluster collide on it, and it is due to be checked.
    books.store(tx).await
}

fn quota(key: &LeaseKey, month: &Month) -> QuotaKey {
    QuotaKey {
        account: key.account.clone(),
        service: key.service.clone(),
        month: month.text.clone(),
    }
}

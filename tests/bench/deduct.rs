//! Deducts by request: the naive way and ours, on one hot account and on many.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use farebox_core::call::DeductRequest;
use farebox_core::id::AccountId;
use farebox_core::tariff::Tariff;
use farebox_sidecar::app::{App, Credit, Outcome, Request, Settings};
use farebox_sidecar::store::Store;
use farebox_tests::database::Database;
use farebox_tests::redis::Redis;
use farebox_tests::scratch::Scratch;
use futures_util::future::join_all;
use uuid::Uuid;

use crate::naive::Naive;

/// Callers at once. Each asks again as soon as it is answered.
const CALLERS: usize = 128;

/// How long each way runs in one turn, and how many turns it gets.
const TURN: Duration = Duration::from_secs(3);
const TURNS: usize = 3;

/// Connections to the database, for each way.
const CONNECTIONS: u32 = 16;

/// How many accounts are many.
const MANY: usize = 10_000;

/// Deducts per second.
pub(crate) struct Measured {
    pub(crate) what: &'static str,
    pub(crate) naive: f64,
    pub(crate) farebox: f64,
}

/// Runs both ways in turns.
pub(crate) async fn measure() -> Result<Vec<Measured>> {
    let scratch = Scratch::new()?;
    let database = Database::start(scratch.path()).await?;
    let redis = Redis::start(scratch.path()).await?;
    let source =
        format!("mysql://farebox:farebox@{}/{}", database.addr(), farebox_tests::database::SCHEMA);
    let app = app(&source).await?;
    let naive = Naive::connect(&source, redis.addr(), CONNECTIONS).await?;
    let mut measured = Vec::new();
    for (what, accounts) in [("one hot account", 1), ("10,000 accounts", MANY)] {
        let accounts = prepare(&app, accounts).await?;
        let (mut by_naive, mut by_farebox) = (0.0, 0.0);
        for _ in 0..TURNS {
            by_naive += rate(&accounts, |account| naive.deduct(account)).await?;
            by_farebox += rate(&accounts, |account| deduct(&app, account)).await?;
        }
        let turns = TURNS as f64;
        measured.push(Measured { what, naive: by_naive / turns, farebox: by_farebox / turns });
    }
    for invariant in app.invariants().await? {
        // The naive way writes what we write, so the books must hold for both.
        ensure!(invariant.violations.is_empty(), "{}: {:?}", invariant.rule, invariant.violations);
    }
    Ok(measured)
}

async fn app(source: &str) -> Result<App> {
    let store = Store::connect(&source.parse()?, CONNECTIONS).await?;
    store.migrate().await?;
    let settings = Settings {
        currency: "CNY".to_owned(),
        currency_decimals: 2,
        time_zone: chrono_tz::Asia::Shanghai,
        free_quotas: [("asset".parse()?, 1_000)].into(),
        prices: [("asset".parse()?, Tariff::flat("0.001".parse()?))].into(),
        recharge_max: "1000".parse()?,
        lease_ttl: Duration::from_secs(10),
        boot_grace: Duration::from_secs(1),
        on_lost: Default::default(),
        low: Default::default(),
    };
    let app = App::new(store, settings);
    app.seed_prices().await?;
    Ok(app)
}

/// Accounts with money and rows.
async fn prepare(app: &App, count: usize) -> Result<Arc<Vec<AccountId>>> {
    let names = (0..count).map(|number| format!("{count}-{number}").parse());
    let accounts: Vec<AccountId> = names.collect::<Result<_, _>>()?;
    for part in accounts.chunks(64) {
        let credits = part.iter().map(|account| async {
            let credit = Credit {
                account: account.clone(),
                amount: "1000000".parse()?,
                reason: "bench".to_owned(),
                key: account.to_string(),
                actor: "bench".to_owned(),
            };
            app.credit(&credit).await?;
            deduct(app, account.clone()).await
        });
        join_all(credits).await.into_iter().collect::<Result<Vec<()>>>()?;
    }
    Ok(Arc::new(accounts))
}

/// Deducts per second of [`CALLERS`] callers, each for one account after the other.
async fn rate<F>(accounts: &Arc<Vec<AccountId>>, deduct: impl Fn(AccountId) -> F) -> Result<f64>
where
    F: Future<Output = Result<()>>,
{
    let done = AtomicU64::new(0);
    let started = Instant::now();
    let caller = |caller: usize| {
        let (deduct, done) = (&deduct, &done);
        async move {
            let mut next = caller * accounts.len() / CALLERS;
            while started.elapsed() < TURN {
                let account = accounts.get(next % accounts.len()).context("no account")?;
                deduct(account.clone()).await?;
                done.fetch_add(1, Ordering::Relaxed);
                next += 1;
            }
            Ok(())
        }
    };
    join_all((0..CALLERS).map(caller)).await.into_iter().collect::<Result<Vec<()>>>()?;
    Ok(done.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64())
}

async fn deduct(app: &App, account: AccountId) -> Result<()> {
    let request = Request::Deduct(DeductRequest {
        idempotency_key: Uuid::new_v4().to_string(),
        user_id: account,
        service: "asset".parse()?,
        count: 1,
        price: None,
        wait_ms: None,
    });
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let answer = app.call(vec![request], deadline).await.pop().context("no answer")??;
    ensure!(matches!(answer, Outcome::Deducted(_)), "not charged: {answer:?}");
    Ok(())
}

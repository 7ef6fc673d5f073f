//! What traces cost: three sidecars on one database, which trace nothing, 1 % and everything, asked in turns by HTTP.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use farebox_core::call::DEDUCT_PATH;
use farebox_tests::collector::Collector;
use farebox_tests::database::Database;
use farebox_tests::redis::Redis;
use farebox_tests::scratch::Scratch;
use farebox_tests::sidecar::{Addresses, Settings, Sidecar};
use farebox_tests::{Client, port};
use futures_util::future::join_all;
use serde_json::json;
use uuid::Uuid;

/// Callers at once, each with an account of its own. Each asks again as soon as it is answered.
const CALLERS: usize = 32;

/// How long each sidecar is asked in one turn, and how many turns it gets.
const TURN: Duration = Duration::from_secs(3);
const TURNS: usize = 5;

/// What each sidecar traces.
const RATIOS: [(&str, Option<&str>); 3] =
    [("nothing", None), ("1 %", Some("0.01")), ("everything", Some("1"))];

/// Deducts per second with a part of them traced.
pub(crate) struct Measured {
    pub(crate) traced: &'static str,
    pub(crate) per_second: f64,
}

/// Asks all of them in turns.
pub(crate) async fn measure() -> Result<Vec<Measured>> {
    let scratch = Scratch::new()?;
    let database = Database::start(scratch.path()).await?;
    let redis = Redis::start(scratch.path()).await?;
    let collector = Collector::start().await?;
    let endpoint = format!("http://{}", collector.addr());
    let mut sidecars = Vec::new();
    for (traced, ratio) in RATIOS {
        let variables = ratio.map(|ratio| {
            [
                ("FAREBOX_TRACING__OTLP_ENDPOINT", endpoint.as_str()),
                ("FAREBOX_TRACING__SAMPLE_RATIO", ratio),
            ]
        });
        let settings = settings(&database, &redis, variables.as_ref().map_or(&[], |all| all));
        let name = format!("sidecar-{}", sidecars.len());
        sidecars.push((traced, Sidecar::start(scratch.path(), &name, &settings).await?));
    }
    let mut deducts = [0.0; RATIOS.len()];
    for turn in 0..=TURNS {
        for ((_, sidecar), deducts) in sidecars.iter().zip(&mut deducts) {
            let rate = rate(&sidecar.internal()).await?;
            // The first turn creates the accounts.
            *deducts += if turn == 0 { 0.0 } else { rate };
        }
    }
    let turns = TURNS as f64;
    let measured = RATIOS.iter().zip(deducts);
    Ok(measured.map(|((traced, _), sum)| Measured { traced, per_second: sum / turns }).collect())
}

fn settings<'s>(
    database: &Database,
    redis: &Redis,
    variables: &'s [(&'s str, &'s str)],
) -> Settings<'s> {
    Settings {
        addresses: Addresses { http: port::free(), internal: port::free(), admin: port::free() },
        database: database.source(),
        redis: redis.addr(),
        prices: &[],
        free_quotas: &[("asset", 1_000_000_000)],
        lease_ttl: "10s",
        on_lost: "reported",
        currency: "CNY",
        payment: None,
        callback_secrets: "",
        clock: None,
        variables,
    }
}

async fn rate(client: &Client) -> Result<f64> {
    let (done, started) = (AtomicU64::new(0), Instant::now());
    let caller = |caller: usize| {
        let done = &done;
        async move {
            while started.elapsed() < TURN {
                let request = json!({
                    "idempotency_key": Uuid::new_v4().to_string(),
                    "user_id": format!("caller-{caller}"),
                    "service": "asset",
                    "count": 1,
                });
                let answer = client.ask(DEDUCT_PATH, &request).send().await;
                ensure!(answer.status == 200, "not charged: {}", answer.body);
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        }
    };
    join_all((0..CALLERS).map(caller)).await.into_iter().collect::<Result<Vec<()>>>()?;
    Ok(done.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64())
}

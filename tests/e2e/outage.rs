//! The sidecar goes away under load and comes back: each route does what it was told, and the books are right after.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use farebox_tests::{Client, Plan, Stack, Tally, eventually, run};
use serde_json::json;

use crate::{plugin_with_rules, settled};

/// How many callers keep calling.
const CALLERS: usize = 8;

/// Longer than a lease of this stack stands without a renewal, so that no live lease is left.
const OUTAGE: Duration = Duration::from_secs(4);

const USER: &str = "steady";

/// A stack with one route, and that route's answer to an outage.
async fn stack(on_unreachable: &str) -> Stack {
    let rule = json!({ "prefix": "/", "service": "coin", "on_unreachable": on_unreachable });
    let plan = Plan::reference()
        .plugin(plugin_with_rules(&[rule]))
        .prices(&[("coin", "0.001")])
        .free_quotas(&[("coin", 100)])
        .lease_ttl("2s");
    let stack = Stack::start(plan).await.unwrap_or_else(|err| panic!("{err}"));
    stack.credit(USER, "1000");
    stack
}

/// Calls that keep coming until they are told to stop.
async fn load(client: &Client, stop: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    while !stop.load(Ordering::Relaxed) {
        let calls = client.storm(2 * CALLERS, CALLERS, |client, _| client.get("/x").user(USER));
        tally = tally.plus(calls.await);
        // Some hundred calls per second, so that two seconds of traffic are a lease and not the whole balance.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tally
}

/// What an outage looked like from outside.
struct Outage {
    /// Every answer, before and after it as well.
    all: Tally,
    /// Answers while the sidecar was away.
    during: Tally,
    /// Units that the gateway had allowed without a lease when the sidecar came back.
    blind: u64,
}

/// Stops the sidecar under load, waits, starts it again.
async fn outage(stack: &Stack) -> Outage {
    let client = stack.client();
    let stop = AtomicBool::new(false);
    let happening = async {
        eventually!(200 < stack.upstream.served(USER), "traffic is steady");
        stack.sidecar.kill();
        let started = Instant::now();
        let mut during = Tally::default();
        while started.elapsed() < OUTAGE {
            during = during.plus(client.storm(1, 1, |client, _| client.get("/x").user(USER)).await);
        }
        let blind = stack.envoy.stat("wasmcustom.farebox_blind_units").await;
        stack.sidecar.start_again().await.unwrap_or_else(|err| panic!("{err}"));
        let call = async || client.get("/x").user(USER).send().await.status;
        eventually!(call().await == 200, "calls work again");
        stop.store(true, Ordering::Relaxed);
        (during, blind)
    };
    let (all, (during, blind)) = tokio::join!(load(&client, &stop), happening);
    Outage { all, during, blind }
}

/// Everything that reached the service is charged, once.
async fn charged_once(stack: &Stack) {
    settled(stack, USER, stack.upstream.served(USER)).await;
    assert_eq!(stack.account(USER).receivable, "0");
}

#[test]
fn a_restart_in_order_loses_no_call() {
    run(async {
        let stack = stack("deny").await;
        let client = stack.client();
        let stop = AtomicBool::new(false);
        let restarts = async {
            for round in 1..=3 {
                eventually!(round * 200 < stack.upstream.served(USER), "traffic is steady");
                stack.sidecar.stop();
                let log = stack.sidecar.log();
                assert_eq!(log.matches("shutting down").count() as u64, round, "{log}");
                assert_eq!(log.matches("stopped").count() as u64, round, "every part ended: {log}");
                stack.sidecar.start_again().await.unwrap_or_else(|err| panic!("{err}"));
            }
            stop.store(true, Ordering::Relaxed);
        };
        let (all, ()) = tokio::join!(load(&client, &stop), restarts);
        assert_eq!(all.of(200) + all.of(503), all.total(), "{all}");
        charged_once(&stack).await;
    });
}

#[test]
fn deny_refuses_once_no_live_lease_is_left() {
    run(async {
        let stack = stack("deny").await;
        let Outage { all, during, blind } = outage(&stack).await;
        assert_eq!(blind, 0);
        assert!(0 < during.of(503), "without a lease: {during}");
        assert_eq!(all.of(200) + all.of(503), all.total(), "nothing else: {all}");
        charged_once(&stack).await;
    });
}

#[test]
fn allow_serves_everybody_and_charges_later() {
    run(async {
        let stack = stack("allow").await;
        let Outage { all, during, blind } = outage(&stack).await;
        assert_eq!(during.of(200), during.total(), "{during}");
        assert_eq!(all.of(200), all.total(), "{all}");
        assert!(0 < blind, "without a lease: {during}");
        charged_once(&stack).await;
        let journalled = "SELECT COUNT(*) FROM billing_record WHERE source = 'journal'";
        assert_ne!(stack.sql_one(journalled), "0");
    });
}

#[test]
fn grace_serves_so_many_units_and_then_refuses() {
    run(async {
        let stack = stack("grace(25)").await;
        let Outage { all, during, blind } = outage(&stack).await;
        assert_eq!(blind, 25);
        assert!(0 < during.of(503), "more calls than grace: {during}");
        assert_eq!(all.of(200) + all.of(503), all.total(), "nothing else: {all}");
        charged_once(&stack).await;
        let journalled = stack.sql_one("SELECT COALESCE(SUM(used), 0) FROM journal_line");
        assert!(25 <= journalled.parse().unwrap(), "{journalled}");
    });
}

#[test]
fn without_redis_nothing_changes() {
    run(async {
        let stack = stack("deny").await;
        stack.redis.kill();
        let tally = stack.client().storm(300, 8, |client, _| client.get("/x").user(USER)).await;
        assert_eq!(tally.of(200), 300, "{tally}");
        stack.redis.start_again().await.unwrap_or_else(|err| panic!("{err}"));
        charged_once(&stack).await;
    });
}

#[test]
fn a_database_that_crashes_and_comes_back_loses_nothing() {
    run(async {
        let stack = stack("deny").await;
        let call = async || stack.client().get("/x").user(USER).send().await.status;
        assert_eq!(call().await, 200);
        stack.database.kill();
        stack.database.start_again().await.unwrap_or_else(|err| panic!("{err}"));
        eventually!(call().await == 200, "calls work again");
        charged_once(&stack).await;
    });
}

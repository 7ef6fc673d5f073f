//! Redis gone, empty, full or slow while three sidecars charge one account: everybody who can pay is served, exactly.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use farebox_tests::{eventually, run};

use super::{DEDUCT_PATH, Trio, deduct, started, unruly};

/// Deducts of each storm, and how many of them are under way at once, by sidecar.
const DEDUCTS: usize = 60;
const AT_ONCE: usize = 10;

/// One account under load from all sidecars, until everything is charged; `meanwhile` happens after the load has begun.
async fn storm(trio: &Trio, user: &str, name: &str, meanwhile: impl AsyncFn(&AtomicBool)) {
    let clients = trio.clients();
    let before = trio.stack.account(user).recorded_units;
    let over = AtomicBool::new(false);
    let load = async {
        let one = |sidecar: usize| {
            let client = &clients[sidecar];
            client.storm(DEDUCTS, AT_ONCE, move |client, number| {
                let key = format!("{user}-{name}-{sidecar}-{number}");
                client.ask(DEDUCT_PATH, &deduct(user, "coin", 1, &key))
            })
        };
        let (first, second, third) = tokio::join!(one(0), one(1), one(2));
        over.store(true, Ordering::Relaxed);
        first.plus(second).plus(third)
    };
    let trouble = async {
        eventually!(before < trio.stack.account(user).recorded_units, "{name}: nothing is charged");
        meanwhile(&over).await;
    };
    let (tally, ()) = tokio::join!(load, trouble);
    assert_eq!(tally.of(200), 3 * DEDUCTS, "{name}: {tally}");
}

#[test]
fn nobody_with_funds_is_refused_whatever_becomes_of_redis() {
    run(async {
        let trio = unruly().await;
        let (user, redis) = ("redis", &trio.stack.redis);
        trio.stack.credit(user, "200");
        let mut charged = 0;
        let mut exact = || {
            charged += 3 * u64::try_from(DEDUCTS).unwrap();
            let account = trio.stack.account(user);
            assert_eq!((account.recorded_units, account.held.as_str()), (charged, "0"));
        };

        storm(&trio, user, "well", async |_| {}).await;
        exact();
        storm(&trio, user, "flushed", async |over| {
            while !over.load(Ordering::Relaxed) {
                redis.command(&["FLUSHALL"]);
                tokio::task::yield_now().await;
            }
        })
        .await;
        exact();
        storm(&trio, user, "full", async |_| redis.fill()).await;
        exact();
        storm(&trio, user, "killed", async |_| redis.kill()).await;
        exact();
        storm(&trio, user, "back", async |_| started(redis.start_again().await)).await;
        exact();
        storm(&trio, user, "slow", async |over| {
            // Each command of the sidecars waits behind such a pause, some for longer than they wait.
            while !over.load(Ordering::Relaxed) {
                redis.command(&["DEBUG", "SLEEP", "0.15"]);
                tokio::task::yield_now().await;
            }
        })
        .await;
        exact();
        storm(&trio, user, "silent", async |over| {
            let _silent = redis.stand_still();
            while !over.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        exact();
        trio.stack.invariants();
    });
}

//! Somebody keeps one account locked in the database: nobody else's calls notice, and nothing of its own is lost.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use farebox_tests::{Client, Plan, Stack, Tally, eventually, run};
use serde_json::json;

use crate::{plugin_with_rules, settled};

/// The last one in the order of locks: who waits for it keeps the others locked meanwhile.
const LOCKED: &str = "the-locked";

/// Calls of the locked account: more than one lease is for, so that some wait for units.
const CALLS: usize = 40;

/// Everybody else: so many that someone new, or whose lease is spent, asks all the time.
const OTHERS: usize = 400;

fn other(number: usize) -> String {
    format!("other-{}", number % OTHERS)
}

/// Calls of the others that keep coming until they are told to stop.
async fn calls_of_others(client: &Client, stop: &AtomicBool) -> Tally {
    let (mut tally, next) = (Tally::default(), AtomicUsize::new(0));
    while !stop.load(Ordering::Relaxed) {
        let call = |client: &Client, _| {
            client.get("/x").user(&other(next.fetch_add(1, Ordering::Relaxed)))
        };
        tally = tally.plus(client.storm(40, 8, call).await);
    }
    tally
}

#[test]
fn one_locked_account_holds_up_no_other() {
    run(async {
        let rule = json!({ "prefix": "/", "service": "coin" });
        let plan = Plan::reference()
            .plugin(plugin_with_rules(&[rule]))
            .prices(&[("coin", "0.001")])
            .free_quotas(&[("coin", 10_000)])
            .workers(2);
        let stack = Stack::start(plan).await.unwrap_or_else(|err| panic!("{err}"));
        let client = stack.client();
        assert_eq!(client.get("/x").user(LOCKED).send().await.status, 200);

        // As a transaction of a sidecar does. One at another isolation level may lock where new rows would stand as well.
        let level = "ROLLBACK; SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; BEGIN";
        let row = format!("SELECT 1 FROM user_balance WHERE user_id = '{LOCKED}' FOR UPDATE");
        let held =
            stack.database.hold(&format!("{level}; {row}")).unwrap_or_else(|err| panic!("{err}"));
        let stop = AtomicBool::new(false);
        let locked = async {
            // Some are paid from the lease that is there; the others wait, for as long as a call may, twice.
            let mut tally = Tally::default();
            for _ in 0..2 {
                let call = |client: &Client, _| client.get("/x").user(LOCKED);
                tally = tally.plus(client.storm(CALLS, CALLS, call).await);
            }
            stop.store(true, Ordering::Relaxed);
            tally
        };
        let (others, locked) = tokio::join!(calls_of_others(&client, &stop), locked);
        println!("others: {others}; locked: {locked}");
        assert_eq!(others.of(200), others.total(), "others: {others}");
        assert!(0 < locked.of(200) && 0 < locked.of(503), "locked: {locked}");
        assert_eq!(locked.of(200) + locked.of(503), locked.total(), "locked: {locked}");
        for item in ["report", "want"] {
            let series = format!("billing_sync_left_out_total{{item=\"{item}\"}}");
            assert!(0 < stack.sidecar.metric(&series).await, "{item}");
        }
        let charged = stack.account(LOCKED).recorded_units;
        assert!(charged < stack.upstream.served(LOCKED), "usage is not charged yet: {charged}");

        drop(held);
        let call = async || client.get("/x").user(LOCKED).send().await.status;
        eventually!(call().await == 200, "its calls are served again");
        settled(&stack, LOCKED, stack.upstream.served(LOCKED)).await;
        let charged = "SELECT SUM(count) FROM billing_record WHERE user_id LIKE 'other-%'";
        let calls = others.total().to_string();
        eventually!(stack.sql_one(charged) == calls, "{calls} calls of others are on record");
        stack.invariants();
    });
}

//! What a killed Envoy loses is no more than its budget (`max_at_risk`), and what it had reported is charged.

use std::sync::atomic::{AtomicBool, Ordering};

use farebox_core::money::Nanos;
use farebox_tests::{Client, Plan, Stack, eventually, run};
use futures_util::future::join_all;
use serde_json::json;

use crate::plugin_with_rules;

/// What an account begins with, and what a call costs.
const FUNDS: &str = "1000";
const PRICE: &str = "0.001";

/// The most that may be lost: 20 calls, which the load makes in a small part of a sync interval.
const BUDGET: &str = "0.020";

const USERS: [&str; 3] = ["risky-1", "risky-2", "risky-3"];

/// Who call at the same time.
const CALLERS: usize = 12;

/// Usage is reported so rarely that without a budget some thousand calls would be lost.
async fn stack() -> Stack {
    // The price stands in the rule, so that the gateway knows it before its first question.
    let rule = json!({ "prefix": "/", "service": "coin", "price": PRICE });
    let mut plugin = plugin_with_rules(&[rule]);
    plugin["max_at_risk"] = json!(BUDGET);
    plugin["sync_interval"] = json!("5s");
    // On a busy machine too, no answer is given up and its units asked for again.
    plugin["sidecar"]["timeout"] = json!("30s");
    let plan = Plan::reference()
        .plugin(plugin)
        .prices(&[("coin", PRICE)])
        .free_quotas(&[])
        .lease_ttl("2s");
    let stack = Stack::start(plan).await.unwrap_or_else(|err| panic!("{err}"));
    USERS.iter().for_each(|user| stack.credit(user, FUNDS));
    stack
}

fn nanos(text: &str) -> Nanos {
    text.parse().unwrap()
}

/// The sum of a column over the accounts.
fn sum(stack: &Stack, column: &str) -> Nanos {
    let sql = format!(
        "SELECT CAST(SUM({column}) AS CHAR) FROM user_balance WHERE user_id LIKE 'risky-%'"
    );
    nanos(&stack.sql_one(&sql))
}

/// Calls that keep coming until they are told to stop, whatever becomes of them.
async fn load(client: &Client, stop: &AtomicBool) {
    let caller = async |user: &str| {
        while !stop.load(Ordering::Relaxed) {
            client.get("/x").user(user).try_send().await.ok();
        }
    };
    join_all((0..CALLERS).map(|number| caller(USERS[number % USERS.len()]))).await;
}

#[test]
fn an_envoy_that_is_killed_under_load_loses_no_more_than_its_budget() {
    run(async {
        let stack = stack().await;
        let client = stack.client();
        let budget = nanos(BUDGET);
        let served = || USERS.iter().map(|user| stack.upstream.served(user)).sum::<u64>();
        let gauge = async |name: &str| {
            let value = stack.envoy.stat(&format!("wasmcustom.farebox_{name}")).await;
            i64::try_from(value).map(Nanos::new).unwrap()
        };
        let stop = AtomicBool::new(false);
        let killing = async {
            // The budget is reached: calls are decided one by one. Until then, and for a while after, both sides agree that
            // no more is lent.
            let mut most = Nanos::ZERO;
            let mut within = async || {
                let (at_risk, lent) = (gauge("at_risk_nanos").await, gauge("lent_nanos").await);
                assert!(at_risk <= budget && lent <= budget, "{at_risk} at risk, {lent} lent");
                assert!(sum(&stack, "held") <= budget, "leases hold {}", sum(&stack, "held"));
                most = most.max(at_risk);
                stack.envoy.stat("wasmcustom.farebox_budget_strict").await
            };
            eventually!(
                0 < within().await && 500 < served(),
                "the budget is reached: {} served, {most} at risk",
                served()
            );
            assert_ne!(most, Nanos::ZERO, "something was at risk");
            stack.envoy.kill();
            assert!(sum(&stack, "held") <= budget, "leases hold {}", sum(&stack, "held"));
            stop.store(true, Ordering::Relaxed);
        };
        tokio::join!(load(&client, &stop), killing);

        // The sidecar takes back what was lent.
        eventually!(sum(&stack, "held") == Nanos::ZERO, "leases are reclaimed");
        let charged = nanos("3000").checked_sub(sum(&stack, "balance")).unwrap();
        let due = nanos(PRICE).checked_mul(served()).unwrap();
        let lost = due.checked_sub(charged).unwrap();
        println!("{due} was served, {charged} charged, {lost} lost of {budget}");
        assert!(lost <= budget, "{due} was served, {charged} charged");
        // Calls that were charged and not served were on their way when Envoy was killed.
        let underway = nanos(PRICE).checked_mul(CALLERS as u64).unwrap();
        assert!(
            charged <= due.checked_add(underway).unwrap(),
            "{due} was served, {charged} charged"
        );
        stack.invariants();
    });
}

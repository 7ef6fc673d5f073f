//! Strict routes: the sidecar decides about each call, and a call that was not served costs nothing.

use std::sync::atomic::{AtomicBool, Ordering};

use farebox_core::money::Nanos;
use farebox_tests::cut::How;
use farebox_tests::envoy::Envoy;
use farebox_tests::{Client, Stack, Tally, eventually, run};

use crate::{plan, settled, shared};

/// A path that costs 0.001 per call and nothing is free of.
const STRICT: &str = "/strict/x";

/// Waits until every charge that is to come back has come back.
async fn undone(gateway: &Envoy) {
    let stat = async |name: &str| gateway.stat(&format!("wasmcustom.farebox_undo_{name}")).await;
    eventually!(stat("queued").await == stat("done").await, "every undo is done");
    assert_eq!(stat("dropped").await, 0);
}

/// What a user has spent, of an account that began with 1.
fn spent(stack: &Stack, user: &str) -> String {
    let statement = format!("SELECT 1 - balance FROM user_balance WHERE user_id = '{user}'");
    stack.sql_one(&statement).trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[test]
fn two_gateways_serve_exactly_what_was_paid() {
    run(async {
        let stack = shared().await;
        let second = stack.another_gateway("edge-strict", 2).await.unwrap();
        stack.credit("careful", "0.200");
        let (here, there) = (stack.client(), second.client());
        let call = |client: &Client, _| client.get(STRICT).user("careful");
        let (first, second) = tokio::join!(here.storm(150, 16, call), there.storm(150, 16, call));
        let all = first.plus(second);
        assert_eq!((all.of(200), all.of(402)), (200, 100), "{all}");
        assert_eq!(stack.upstream.served("careful"), 200);
        settled(stack, "careful", 200).await;
        assert_eq!(stack.account("careful").balance, "0");
    });
}

#[test]
fn the_answer_tells_what_a_call_cost_and_a_refusal_what_is_missing() {
    run(async {
        let stack = shared().await;
        stack.credit("asking", "0.001");
        let call = async || stack.client().get(STRICT).user("asking").send().await;
        let served = call().await;
        assert_eq!((served.status.as_u16(), served.header("x-farebox-charge")), (200, "0.001"));
        assert_eq!(served.header("x-farebox-source"), "balance");
        let refused = call().await;
        assert_eq!((refused.status.as_u16(), refused.code()), (402, 190_102), "{}", refused.body);
        // Money that arrives works at once.
        stack.credit("asking", "0.001");
        assert_eq!(call().await.status, 200);
        settled(stack, "asking", 2).await;
    });
}

#[test]
fn strict_and_lease_routes_of_one_user_serve_exactly_what_was_paid() {
    run(async {
        let stack = shared().await;
        let second = stack.another_gateway("edge-both-modes", 2).await.unwrap();
        stack.credit("both-modes", "0.300");
        let (here, there) = (stack.client(), second.client());
        let (lease, strict) = tokio::join!(
            here.storm(200, 8, |client, _| client.get("/coin/x").user("both-modes")),
            there.storm(200, 8, |client, _| client.get(STRICT).user("both-modes")),
        );
        // Units that leases hold unused are recalled for strict calls.
        let rest = there.storm(100, 1, |client, _| client.get(STRICT).user("both-modes")).await;
        let all = lease.plus(strict).plus(rest);
        assert_eq!((all.of(200), all.of(402)), (300, 200), "{all}");
        settled(stack, "both-modes", 300).await;
        assert_eq!(stack.account("both-modes").balance, "0");
    });
}

#[test]
fn a_strict_call_that_the_upstream_fails_costs_nothing_where_success_is_charged() {
    run(async {
        let stack = shared().await;
        let gateway = stack.another_gateway("edge-unlucky", 2).await.unwrap();
        stack.credit("strict-unlucky", "1");
        let call = |path| gateway.client().get(path).user("strict-unlucky").send();
        for _ in 0..5 {
            assert_eq!(call("/strict-success/status/503").await.status, 503);
        }
        assert_eq!(call("/strict-success/x").await.status, 200);
        undone(&gateway.envoy).await;
        assert_eq!(gateway.envoy.stat("wasmcustom.farebox_undo_done").await, 5);
        assert_eq!(spent(stack, "strict-unlucky"), "0.001");
        stack.invariants();
    });
}

/// A stack whose sidecar reaches the database through the proxy.
async fn stack_with_cut() -> Stack {
    let stack = Stack::start(plan().with_cut()).await;
    stack.unwrap_or_else(|err| panic!("{err}"))
}

#[test]
fn a_client_who_leaves_while_the_call_waits_pays_nothing() {
    run(async {
        let stack = stack_with_cut().await;
        stack.credit("leaving", "1");
        stack.cut.arm_for(How::Hold, "billing_record");
        let client = stack.client();
        let call = tokio::spawn(async move { client.get(STRICT).user("leaving").begin().await });
        eventually!(stack.cut.caught() == 1, "the deduct is about to be committed");
        call.abort();
        let queued = async || stack.envoy.stat("wasmcustom.farebox_undo_queued").await;
        eventually!(queued().await == 1, "the gateway has noticed");
        stack.cut.release();
        undone(&stack.envoy).await;
        assert_eq!(spent(&stack, "leaving"), "0");
        assert_eq!(stack.upstream.served("leaving"), 0, "nothing is forwarded for nobody");
        stack.invariants();
        assert_eq!(stack.client().get(STRICT).user("leaving").send().await.status, 200);
        assert_eq!(spent(&stack, "leaving"), "0.001");
    });
}

/// Calls that keep coming until they are told to stop.
async fn load(client: &Client, stop: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    while !stop.load(Ordering::Relaxed) {
        let calls = client.storm(32, 8, |client, _| client.get(STRICT).user("steadfast"));
        tally = tally.plus(calls.await);
    }
    tally
}

#[test]
fn a_sidecar_that_dies_in_the_middle_loses_and_doubles_no_charge() {
    run(async {
        let stack = Stack::start(plan()).await.unwrap_or_else(|err| panic!("{err}"));
        stack.credit("steadfast", "1000");
        let (client, stop) = (stack.client(), AtomicBool::new(false));
        let happening = async {
            for round in 1..=3 {
                let before = stack.upstream.served("steadfast");
                eventually!(before + 100 < stack.upstream.served("steadfast"), "round {round}");
                stack.sidecar.kill();
                let failed = async || stack.envoy.stat("wasmcustom.farebox_deduct_failed").await;
                let seen = failed().await;
                eventually!(seen < failed().await, "calls fail");
                stack.sidecar.start_again().await.unwrap_or_else(|err| panic!("{err}"));
            }
            let before = stack.upstream.served("steadfast");
            eventually!(before + 100 < stack.upstream.served("steadfast"), "calls work again");
            stop.store(true, Ordering::Relaxed);
        };
        let (tally, ()) = tokio::join!(load(&client, &stop), happening);
        undone(&stack.envoy).await;
        let served = stack.upstream.served("steadfast");
        assert_eq!(usize::try_from(served).unwrap(), tally.of(200), "{tally}");
        assert_eq!(tally.of(200) + tally.of(503), tally.total(), "{tally}");
        let due = "0.001".parse::<Nanos>().unwrap().checked_mul(served);
        let left = "1000".parse::<Nanos>().unwrap();
        let left = left.checked_sub(due.unwrap()).unwrap();
        assert_eq!(stack.account("steadfast").balance, left.to_string(), "{served} were served");
        stack.invariants();
    });
}

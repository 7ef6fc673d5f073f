//! Writes go to one node, as they should. It is killed under load and the traffic is moved to another: what was
//! acknowledged is there, once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use farebox_tests::sidecar::Sidecar;
use farebox_tests::{Stack, Tally, eventually, run};
use serde_json::json;

use super::{cluster, decided, start_on, started};
use crate::{plan, settled};

/// Deducts of one user at a time, each under a key of its own.
const CALLERS: usize = 8;

/// Deducts that are charged before the node is killed, and after.
const ENOUGH: usize = 300;

#[test]
fn what_was_acknowledged_survives_the_loss_of_the_writing_node_once() {
    run(async {
        let cluster = cluster().await;
        let stack = start_on(plan().workers(2), cluster.routed()).await;
        let second = started(stack.another_sidecar("second").await);
        for caller in 0..CALLERS {
            stack.credit(&format!("moved-{caller}"), "100");
        }
        stack.credit("moved-leases", "100");

        let (charged, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        let deducts = futures_util::future::join_all(
            (0..CALLERS).map(|caller| keep_deducting(&stack, &second, caller, &charged, &over)),
        );
        let loss = async {
            eventually!(ENOUGH <= charged.load(Ordering::SeqCst));
            cluster.node(0).kill();
            // Deducts go on for as long as the operator needs to notice; all of them fail and are asked again.
            cluster.route_to(1);
            let before = charged.load(Ordering::SeqCst);
            eventually!(before + ENOUGH <= charged.load(Ordering::SeqCst), "service goes on");
            over.store(true, Ordering::SeqCst);
        };
        let (acknowledged, leased, credits, ()) =
            tokio::join!(deducts, keep_calling(&stack, &over), keep_crediting(&stack, &over), loss);

        for (caller, records) in acknowledged.iter().enumerate() {
            let user = format!("moved-{caller}");
            let rows = stack.sql(&format!(
                "SELECT billing_record_id FROM billing_record WHERE user_id = '{user}'
                 ORDER BY billing_record_id"
            ));
            let mut records = records.clone();
            records.sort();
            assert_eq!(rows.concat(), records, "{user} is charged for what was acknowledged, once");
        }
        assert!(0 < leased.of(200), "{leased}");
        assert_eq!(leased.of(402) + leased.of(429), 0, "{leased}");
        let served = stack.upstream.served("moved-leases");
        settled(&stack, "moved-leases", served).await;
        let sum = "SELECT COUNT(*), SUM(balance) FROM user_balance WHERE user_id = 'moved-credits'";
        assert_eq!(stack.sql(sum), [[1.to_string(), format!("{credits}.000000000")]]);
        stack.invariants();
    });
}

/// Deducts until it is over; the ids of the records that were acknowledged.
async fn keep_deducting(
    stack: &Stack,
    second: &Sidecar,
    caller: usize,
    charged: &AtomicUsize,
    over: &AtomicBool,
) -> Vec<String> {
    let clients = [stack.sidecar.internal(), second.internal()];
    let mut records = Vec::new();
    while !over.load(Ordering::SeqCst) {
        let number = records.len();
        let request = json!({
            "idempotency_key": format!("moved-{caller}-{number}"),
            "user_id": format!("moved-{caller}"), "service": "coin", "count": 1,
        });
        let answer = decided(&clients, &request).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        records.push(answer.json()["record_id"].as_str().unwrap_or_default().to_owned());
        charged.fetch_add(1, Ordering::SeqCst);
    }
    records
}

/// Calls through the gateway until it is over.
async fn keep_calling(stack: &Stack, over: &AtomicBool) -> Tally {
    let client = stack.client();
    let mut tally = Tally::default();
    while !over.load(Ordering::SeqCst) {
        let call = |client: &farebox_tests::Client, _| client.get("/coin/x").user("moved-leases");
        tally = tally.plus(client.storm(50, 4, call).await);
    }
    tally
}

/// Credits one coin after the other until it is over, each under a key of its own and until it is known; how many.
async fn keep_crediting(stack: &Stack, over: &AtomicBool) -> usize {
    let mut credits = 0;
    while !over.load(Ordering::SeqCst) {
        let key = format!("moved-credit-{credits}");
        let arguments = ["account", "credit", "moved-credits", "1", "--reason", "t", "--key", &key];
        eventually!(stack.sidecar.cli(&arguments).is_ok(), "{key} is credited");
        credits += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    credits
}

//! Two sidecars and two gateways, each pair on a node of its own, for the same accounts: Galera's row locks do not reach
//! from node to node, so conflicts show at COMMIT only.

use farebox_core::call::DEDUCT_PATH;
use farebox_tests::{Client, Stack, Tally, eventually, run};
use serde_json::json;
use tokio::sync::OnceCell;

use super::{cluster, decided, start_on};
use crate::plan;

/// A stack on the second node and one on the third.
async fn pair() -> &'static [Stack; 2] {
    static PAIR: OnceCell<[Stack; 2]> = OnceCell::const_new();
    let start = async |node: usize, name: &'static str| {
        let plan = plan().workers(2).mark("node_id", name);
        start_on(plan, cluster().await.reach(node)).await
    };
    PAIR.get_or_init(async || [start(1, "misrouted-1").await, start(2, "misrouted-2").await]).await
}

/// So many calls of a user at both gateways at once.
async fn storm(user: &str, path: &str, calls: usize) -> Tally {
    let [here, there] = pair().await;
    let (here, there) = (here.client(), there.client());
    let call = |client: &Client, _| client.get(path).user(user);
    let (first, second) = tokio::join!(here.storm(calls, 8, call), there.storm(calls, 8, call));
    first.plus(second)
}

/// Waits until so many units of a user are on record, has the invariants checked, and gives what is used and held.
async fn settled(user: &str, units: u64) -> farebox_tests::Account {
    let [stack, _] = pair().await;
    eventually!(
        units <= stack.account(user).recorded_units,
        "{units} units of {user} are on record: {:?}",
        stack.account(user)
    );
    eventually!(
        stack.account(user).free_held == 0 && stack.account(user).held == "0",
        "nothing is held for {user}: {:?}",
        stack.account(user)
    );
    stack.invariants();
    let account = stack.account(user);
    assert_eq!(account.recorded_units, units, "{user}: {account:?}");
    account
}

#[test]
fn writers_on_two_nodes_serve_exactly_what_is_free() {
    run(async {
        let tally = storm("mis-free", "/mixed/x", 150).await;
        assert_eq!(tally.of(200), 100, "{tally}");
        let account = settled("mis-free", 100).await;
        assert_eq!((account.free_used, account.recorded_paid_units), (100, 0));
    });
}

#[test]
fn writers_on_two_nodes_serve_exactly_what_was_paid() {
    run(async {
        let [stack, _] = pair().await;
        stack.credit("mis-paid", "0.300");
        let tally = storm("mis-paid", "/coin/x", 250).await;
        assert_eq!(tally.of(200), 300, "{tally}");
        let account = settled("mis-paid", 300).await;
        assert_eq!((account.balance.as_str(), account.ledger_charges.as_str()), ("0", "0.3"));
    });
}

#[test]
fn the_same_key_at_two_nodes_at_once_is_one_charge() {
    run(async {
        let stacks = pair().await;
        // 100 units are free and 0.1 pays for 50.
        stacks[0].credit("mis-keys", "0.1");
        let clients = [&stacks[0], &stacks[1]].map(|stack| stack.sidecar.internal());
        let [here, there] =
            [0, 1].map(|first| [clients[first].clone(), clients[1 - first].clone()]);
        let both = async |number: usize| {
            let request = json!({
                "idempotency_key": format!("mis-keys-{number}"),
                "user_id": "mis-keys", "service": "mixed", "count": 1,
            });
            let (one, other) = tokio::join!(decided(&here, &request), decided(&there, &request));
            assert_eq!((one.status, &one.body), (other.status, &other.body));
            one.status
        };
        let mut served = 0;
        for round in 0..18 {
            let statuses = (0..10).map(|number| both(10 * round + number));
            let statuses = futures_util::future::join_all(statuses).await;
            served += statuses.iter().filter(|status| **status == 200).count();
        }
        assert_eq!(served, 150, "{DEDUCT_PATH}");
        let account = settled("mis-keys", 150).await;
        assert_eq!((account.balance.as_str(), account.free_used), ("0", 100));
    });
}

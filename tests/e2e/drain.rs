//! A gateway is drained as `docs/operate.md` says, and stopped: nothing is lost, and it holds nothing.

use farebox_tests::envoy::Envoy;
use farebox_tests::{Gateway, Plan, Stack, eventually, run};
use serde_json::json;

use crate::load::{Calls, Load, even, flows, fund};
use crate::plugin_with_rules;

/// Every kind of charge.
const KINDS: [Calls; 3] = [
    Calls { path: "/coin/x", user: "drained", charged_on_success: false },
    Calls { path: "/success/x", user: "drained-success", charged_on_success: true },
    Calls { path: "/strict/x", user: "drained-strict", charged_on_success: true },
];

/// Leases outlive the test, so nothing comes home because it ran out.
async fn stack() -> Stack {
    let mut plugin = plugin_with_rules(&[
        json!({ "prefix": "/coin/", "service": "coin" }),
        json!({ "prefix": "/success/", "service": "coin", "charge_on": "success" }),
        json!({ "prefix": "/strict/", "service": "coin", "mode": "strict", "charge_on": "success" }),
    ]);
    plugin["idle_return"] = json!("1s");
    let plan = Plan::reference()
        .plugin(plugin)
        .prices(&[("coin", "0.001")])
        .free_quotas(&[])
        .lease_ttl("60s");
    let stack = Stack::start(plan).await.unwrap_or_else(|err| panic!("{err}"));
    fund(&stack, &KINDS);
    stack
}

/// What operators wait for before they stop Envoy.
async fn is_drained(envoy: &Envoy) -> bool {
    let filter = async |name: &str| envoy.stat(&format!("wasmcustom.farebox_{name}")).await;
    envoy.stat("http.ingress.downstream_rq_active").await == 0
        && filter("unreported_units").await == 0
        && filter("lent_units").await == 0
        && filter("undo_queued").await == filter("undo_done").await
}

/// Units that leases of a gateway hold.
fn held(stack: &Stack, gateway: &str) -> String {
    stack.sql_one(&format!(
        "SELECT COALESCE(SUM(free_granted + paid_granted - free_used - paid_used - free_returned - paid_returned), 0)
        FROM lease WHERE gateway_id = '{gateway}'"
    ))
}

/// Under load, has the second of two gateways drained by this command of its admin interface, and stops it.
async fn drained_by(command: &str) {
    let (stack, name) = (stack().await, "edge-leaving");
    let leaving: Gateway = stack.another_gateway(name, 2).await.unwrap();
    let load = Load::on(vec![stack.client(), leaving.client()]);
    let drain = async {
        for calls in KINDS {
            flows(&stack, calls.user).await;
        }
        assert_ne!(held(&stack, name), "0");
        leaving.envoy.command(command).await;
        // The load balancer takes it out, because it fails its health check or does not listen any more.
        load.move_to(vec![stack.client()]);
        eventually!(is_drained(&leaving.envoy).await);
        leaving.envoy.stop();
        assert_eq!(held(&stack, name), "0", "it gave back what it held");
        flows(&stack, KINDS[0].user).await;
        load.stop();
    };
    let (heard, ()) = tokio::join!(load.run(&KINDS), drain);
    for (calls, heard) in KINDS.into_iter().zip(&heard) {
        assert!(heard.is_flawless(), "{calls:?}: {heard:?}");
        even(&stack, calls, heard).await;
    }
}

#[test]
fn a_gateway_that_fails_its_health_check_leaves_nothing_behind() {
    run(drained_by("/healthcheck/fail"));
}

#[test]
fn a_gateway_whose_listeners_are_drained_leaves_nothing_behind() {
    run(drained_by("/drain_listeners?graceful&skip_exit"));
}

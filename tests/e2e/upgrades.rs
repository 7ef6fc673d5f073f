//! Upgrades under load: Envoy restarts hot, its configuration changes, its VMs die. What was served is charged once, and
//! no unit stays held.

mod configuration;
mod hot_restart;
mod reload;

use farebox_tests::{Plan, Stack};
use serde_json::{Value, json};

use crate::load::{Calls, fund};
use crate::plugin_with_rules;

/// Every kind of charge.
const KINDS: [Calls; 3] = [
    Calls { path: "/coin/x", user: "upgraded", charged_on_success: false },
    Calls { path: "/success/x", user: "upgraded-success", charged_on_success: true },
    Calls { path: "/strict/x", user: "upgraded-strict", charged_on_success: true },
];

/// The filter's configuration; `version` is something that changes and changes nothing.
fn configuration(version: u32) -> Value {
    let public = format!("/public-{version}/");
    let mut plugin = plugin_with_rules(&[
        json!({ "prefix": "/coin/", "service": "coin" }),
        json!({ "prefix": "/success/", "service": "coin", "charge_on": "success" }),
        json!({ "prefix": "/strict/", "service": "coin", "mode": "strict", "charge_on": "success" }),
        json!({ "prefix": public, "service": "none" }),
    ]);
    plugin["idle_return"] = json!("1s");
    plugin
}

/// A sidecar whose leases run out within a test, and users with money. The stack's own gateway has no calls.
async fn stack() -> Stack {
    let plan = Plan::reference()
        .plugin(configuration(0))
        .prices(&[("coin", "0.001")])
        .free_quotas(&[])
        .lease_ttl("4s");
    let stack = Stack::start(plan).await.unwrap_or_else(|err| panic!("{err}"));
    fund(&stack, &KINDS);
    stack
}

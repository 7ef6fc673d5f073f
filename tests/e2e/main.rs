//! End-to-end tests: real calls through real Envoy, the books checked after each.
//!
//! Stacks are shared between tests, which therefore use users of their own. What stops a part, or configures one
//! differently, starts a stack of its own.

mod account;
mod at_risk;
mod calls;
mod cold;
mod configuration;
mod contract;
mod crowd;
mod cut;
mod drain;
mod exactness;
mod explain_route;
mod freeze;
mod galera;
mod gateways;
mod graduated;
mod jwt;
mod load;
mod locked;
mod observe;
mod openapi;
mod operators;
mod outage;
mod overload;
mod packages;
mod payment_service;
mod payment_tls;
mod processes;
mod quotas;
mod readme;
mod recharge;
mod redirects;
mod routes;
mod streams;
mod strict;
mod traces;
mod transcript;
mod upgrades;

use farebox_tests::{Plan, Stack, eventually};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// The filter's configuration in most tests: one path prefix per kind of rule.
fn plugin() -> Value {
    plugin_with_rules(&[
        json!({ "prefix": "/coin/", "service": "coin" }),
        json!({ "prefix": "/duo/", "service": "duo" }),
        json!({ "prefix": "/dime/", "service": "dime" }),
        json!({ "prefix": "/mixed/", "service": "mixed" }),
        json!({ "prefix": "/gift/", "service": "gift" }),
        json!({ "prefix": "/start/", "service": "start" }),
        json!({ "prefix": "/success/", "service": "coin", "charge_on": "success" }),
        json!({ "prefix": "/own/", "service": "coin", "price": "0.004" }),
        json!({ "prefix": "/shadow/", "service": "coin", "shadow": true }),
        json!({ "prefix": "/stranger/", "service": "stranger" }),
        json!({ "prefix": "/public/", "service": "none" }),
        json!({ "prefix": "/strict/", "service": "coin", "mode": "strict" }),
        json!({ "prefix": "/strict-success/", "service": "coin", "mode": "strict", "charge_on": "success" }),
        json!({ "prefix": "/graded/", "service": "graded" }),
        json!({ "prefix": "/packed/", "service": "packed" }),
    ])
}

fn plugin_with_rules(rules: &[Value]) -> Value {
    json!({
        "sidecar": { "cluster": "farebox_sidecar", "token_env": "FAREBOX_GATEWAY_TOKEN" },
        "identity": [{ "header": "x-user-id" }],
        "rules": rules,
    })
}

/// A graduated price, as a configuration has it.
const GRADED: &str =
    "{ tiers: [ { up_to: 40, price: 0.003 }, { up_to: 100, price: 0.002 }, { price: 0.001 } ] }";

/// A price by the package, as a configuration has it.
const PACKED: &str = "{ package: { units: 40, price: 0.1 } }";

/// Prices and free quotas to go with [`plugin`]. Leases are short, so that renewals happen within a test.
fn plan() -> Plan {
    Plan::reference()
        .plugin(plugin())
        .prices(&[
            ("coin", "0.001"),
            ("duo", "0.002"),
            ("dime", "0.10"),
            ("mixed", "0.002"),
            ("graded", GRADED),
            ("packed", PACKED),
            ("start", "0.001"),
        ])
        .free_quotas(&[("mixed", 100), ("gift", 5), ("start", 3)])
        .lease_ttl("2s")
        .workers(4)
}

/// The stack that most tests share.
async fn shared() -> &'static Stack {
    static STACK: OnceCell<Stack> = OnceCell::const_new();
    let start = async || Stack::start(plan()).await.unwrap_or_else(|err| panic!("{err}"));
    STACK.get_or_init(start).await
}

/// Waits until exactly these units of a user are on record, then has every invariant checked.
async fn settled(stack: &Stack, user: &str, units: u64) {
    eventually!(
        stack.account(user).recorded_units >= units,
        "{units} units of {user} are on record: {:?}",
        stack.account(user)
    );
    let account = stack.account(user);
    assert_eq!(account.recorded_units, units, "{user}: {account:?}");
    assert_eq!(account.recorded_amount, account.ledger_charges, "{user}: {account:?}");
    stack.invariants();
}

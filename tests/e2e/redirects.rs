//! Calls that Envoy itself sends on: internal redirects run the filters again, retries do not. Either way one charge.

use farebox_tests::{Client, Gateway, Stack, run};
use serde_json::{Value, json};

use crate::{plugin_with_rules, settled, shared};

/// A further gateway of the shared stack, whose routes follow redirects and repeat failures themselves.
async fn gateway(stack: &Stack, name: &str, response_headers: bool) -> Gateway {
    let route = |prefix: &str, name: &str| {
        json!({
            "name": name,
            "match": { "prefix": prefix },
            "route": {
                "cluster": "upstream",
                "internal_redirect_policy": { "max_internal_redirects": 3 },
                "retry_policy": { "retry_on": "5xx", "num_retries": 2 },
            },
        })
    };
    let prefixes = ["/lease/", "/strict/", "/public/", "/nobody/"];
    let routes: Vec<Value> = prefixes.iter().map(|prefix| route(prefix, prefix)).collect();
    let mut plugin = plugin_with_rules(&[
        json!({ "prefix": "/lease/", "service": "coin" }),
        json!({ "prefix": "/lease/success/", "service": "coin", "charge_on": "success" }),
        json!({ "prefix": "/lease/dear/", "service": "coin", "price": "0.05" }),
        json!({ "prefix": "/strict/", "service": "coin", "mode": "strict" }),
        json!({ "prefix": "/strict/success/", "service": "coin", "mode": "strict", "charge_on": "success" }),
        json!({ "prefix": "/public/", "service": "none" }),
    ]);
    plugin["response_headers"] = json!(response_headers);
    let routes = format!("routes: {}", Value::Array(routes));
    let template = stack.template.clone().set("node_id", name);
    let template = template.and_then(|template| template.set_block("routes", &routes));
    let template = template.and_then(|template| template.set_plugin(&plugin));
    let gateway = Gateway::start(stack.folder(), name, &template.unwrap(), 2).await;
    gateway.unwrap_or_else(|err| panic!("{err}"))
}

/// A call; gives its status and what it said that it cost.
async fn call(client: &Client, user: &str, path: &str) -> (u16, String) {
    let answer = client.get(path).user(user).send().await;
    (answer.status.as_u16(), answer.header("x-farebox-charge").to_owned())
}

fn cost(status: u16, charge: &str) -> (u16, String) {
    (status, charge.to_owned())
}

#[test]
fn a_redirected_call_is_charged_once_where_it_began() {
    run(async {
        let stack = shared().await;
        let gateway = gateway(stack, "edge-redirects", true).await;
        let client = gateway.client();
        stack.credit("moved", "1");
        let to = |path: &str| format!("/lease/redirect?to={path}");
        assert_eq!(call(&client, "moved", &to("/lease/x")).await, cost(200, "0.001"));
        assert_eq!(stack.upstream.served("moved"), 2, "the redirect and what it led to");
        assert_eq!(call(&client, "moved", &to("/lease/dear/x")).await, cost(200, "0.001"));
        assert_eq!(call(&client, "moved", &to("/public/x")).await, cost(200, "0.001"));
        let twice = to("/lease/redirect?to=/lease/x");
        assert_eq!(call(&client, "moved", &twice).await, cost(200, "0.001"));
        assert_eq!(gateway.envoy.stat("wasmcustom.farebox_redirected").await, 5);
        settled(stack, "moved", 4).await;
    });
}

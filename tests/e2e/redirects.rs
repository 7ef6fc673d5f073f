//! Calls that Envoy itself sends on: internal redirects run the filters again, retries do not. Either way one charge.

use farebox_tests::{Client, Gateway, Stack, eventually, run};
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

#[test]
fn redirects_between_both_modes_are_charged_once() {
    run(async {
        let stack = shared().await;
        for response_headers in [true, false] {
            let name = format!("edge-modes-{response_headers}");
            let user = format!("moved-{response_headers}");
            let gateway = gateway(stack, &name, response_headers).await;
            let client = gateway.client();
            stack.credit(&user, "1");
            let charge = if response_headers { "0.001" } else { "" };
            for (from, to) in [
                ("/strict/", "/strict/x"),
                ("/strict/", "/lease/x"),
                ("/lease/", "/strict/x"),
                ("/strict/success/", "/lease/x"),
                ("/lease/success/", "/strict/x"),
                ("/public/", "/strict/x"),
                ("/public/", "/lease/x"),
            ] {
                let path = format!("{from}redirect?to={to}");
                assert_eq!(call(&client, &user, &path).await, cost(200, charge), "{path}");
            }
            settled(stack, &user, 7).await;
        }
    });
}

#[test]
fn a_redirected_call_that_fails_in_the_end_costs_nothing_where_success_is_charged() {
    run(async {
        let stack = shared().await;
        let gateway = gateway(stack, "edge-moved-fails", true).await;
        let client = gateway.client();
        stack.credit("moved-fails", "0.004");
        for from in ["/strict/success/", "/lease/success/"] {
            for to in ["/lease/status/503", "/nobody/x"] {
                let (status, _) =
                    call(&client, "moved-fails", &format!("{from}redirect?to={to}")).await;
                assert!(matches!(status, 503 | 403), "{from} {to}: {status}");
            }
        }
        // All four units come back, and are good for four calls.
        eventually!(stack.account("moved-fails").balance == "0.004", "all of it is back");
        let last = async || call(&client, "moved-fails", "/strict/x").await.0;
        for _ in 0..4 {
            assert_eq!(last().await, 200);
        }
        assert_eq!(last().await, 402);
        eventually!(stack.account("moved-fails").balance == "0");
        stack.invariants();
    });
}

#[test]
fn headers_of_a_redirect_that_a_client_sends_itself_change_nothing() {
    run(async {
        let stack = shared().await;
        let gateway = gateway(stack, "edge-forged", true).await;
        let client = gateway.client();
        stack.credit("forger-of-redirects", "1");
        for path in ["/lease/x", "/strict/x"] {
            for (name, value) in [
                ("x-envoy-original-url", "http://127.0.0.1/lease/x"),
                ("x-envoy-internal", "true"),
                ("x-request-id", "00000000-0000-4000-8000-000000000000"),
                ("farebox.moved", "12345678"),
            ] {
                let answer =
                    client.get(path).user("forger-of-redirects").header(name, value).send().await;
                assert_eq!(answer.status, 200, "{}", answer.body);
            }
        }
        assert_eq!(gateway.envoy.stat("wasmcustom.farebox_redirected").await, 0);
        settled(stack, "forger-of-redirects", 8).await;
    });
}

#[test]
fn a_call_that_envoy_repeats_is_charged_once() {
    run(async {
        let stack = shared().await;
        let gateway = gateway(stack, "edge-repeats", true).await;
        let client = gateway.client();
        stack.credit("repeated", "1");
        for path in ["/lease/status/503", "/strict/status/503"] {
            assert_eq!(call(&client, "repeated", path).await, cost(503, "0.001"));
        }
        assert_eq!(stack.upstream.served("repeated"), 6, "each was tried three times");
        settled(stack, "repeated", 2).await;
    });
}

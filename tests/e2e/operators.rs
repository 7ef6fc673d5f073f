//! Operators on the whole stack: who they are, what gateways hold, what does not fit; on the command line as over HTTP.

use farebox_tests::{Stack, eventually, run};
use serde_json::{Value, json};

use super::shared;

/// What a command prints with `--json`.
fn told(stack: &Stack, words: &[&str]) -> Value {
    let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
    let text = stack.sidecar.cli(&words).unwrap_or_else(|err| panic!("{err}"));
    serde_json::from_str(&text).unwrap_or_else(|err| panic!("{err}: {text}"))
}

/// What an address answers to whoever shows this token.
async fn ask(stack: &Stack, path: &str, token: &str) -> (u16, Value) {
    let call = stack.sidecar.admin().get(&format!("/admin/v1/{path}"));
    let answer = call.header("authorization", &format!("Bearer {token}")).send().await;
    (answer.status.as_u16(), answer.json())
}

#[test]
fn a_token_made_on_the_command_line_gets_in_as_far_as_its_role_until_it_is_revoked() {
    run(async {
        let stack = shared().await;
        let made = told(stack, &["token", "create", "--name", "e2e-ann", "--role", "operator"]);
        let token = made["token"].as_str().unwrap();
        assert!(token.starts_with("fbx_"), "{token}");
        for path in ["gateways", "leases", "anomalies", "audit?limit=1", "prices", "orders"] {
            let (status, body) = ask(stack, path, token).await;
            assert_eq!(status, 200, "{path}: {body}");
        }
        assert_eq!(ask(stack, "tokens", token).await.0, 403);
        let body = json!({ "account": "e2e-ann", "amount": "1", "reason": "r" });
        let call = stack.sidecar.admin().post("/admin/v1/adjustments").json(&body);
        let call = call.header("authorization", &format!("Bearer {token}"));
        let answer = call.header("idempotency-key", "e2e-ann").send().await;
        assert_eq!((answer.status.as_u16(), answer.code()), (403, 100_102), "{}", answer.body);

        let listed = told(stack, &["token", "list", "--limit", "200"]);
        assert!(listed["tokens"].to_string().contains("e2e-ann"), "{listed}");
        assert!(!listed.to_string().contains(token));
        let revoked = told(stack, &["token", "revoke", "e2e-ann", "--reason", "left"]);
        assert_eq!(revoked["state"], "revoked");
        // Without a restart, at a sidecar that knew it.
        eventually!(ask(stack, "gateways", token).await.0 == 401, "the token still lets in");
        let again = told(stack, &["token", "revoke", "e2e-ann", "--reason", "left"]);
        assert_eq!(again, revoked);
        let audit = told(stack, &["audit", "--limit", "200"]);
        let actions = audit["actions"].as_array().unwrap();
        let count = |action: &str| {
            actions
                .iter()
                .filter(|line| line["action"] == action && line["subject"] == "e2e-ann")
                .count()
        };
        assert_eq!((count("token.create"), count("token.revoke")), (1, 1));
    });
}

#[test]
fn what_a_gateway_holds_is_told_and_comes_home_when_it_is_recalled() {
    run(async {
        let stack = shared().await;
        stack.credit("e2e-held", "1.00");
        assert_eq!(stack.client().get("/coin/x").user("e2e-held").send().await.status, 200);
        let held = told(stack, &["leases", "--account", "e2e-held"]);
        let lease = &held["leases"][0];
        assert_eq!((&lease["account"], &lease["service"]), (&json!("e2e-held"), &json!("coin")));
        assert_ne!(lease["paid_held"], 0, "{lease}");
        let gateways = told(stack, &["gateways", "--limit", "200"]);
        let gateways = gateways["gateways"].as_array().unwrap();
        let holder = gateways.iter().find(|gateway| {
            gateway["gateway"] == lease["gateway"] && gateway["epoch"] == lease["epoch"]
        });
        let holder = holder.unwrap_or_else(|| panic!("{lease} is nobody's: {gateways:?}"));
        assert_eq!(holder["state"], "alive", "{holder}");
        assert_ne!(holder["at_risk"], "0", "{holder}");

        let id = lease["id"].to_string();
        let path = format!("/admin/v1/leases/{id}/recall");
        let call = stack.sidecar.admin().post(&path).operator();
        let answer = call.json(&json!({ "reason": "moves away" })).send().await;
        assert_eq!((answer.status.as_u16(), &answer.json()["recalled"]), (200, &json!(true)));
        // The Envoy hears of it and gives back what it does not use.
        eventually!(stack.account("e2e-held").held == "0", "{:?}", stack.account("e2e-held"));
        super::settled(stack, "e2e-held", 1).await;
        // It is served on.
        assert_eq!(stack.client().get("/coin/x").user("e2e-held").send().await.status, 200);
    });
}

#[test]
fn the_command_line_and_the_listener_tell_the_same() {
    run(async {
        let stack = shared().await;
        for (words, path) in [
            (&["anomalies", "list"][..], "anomalies"),
            (&["orders", "anomalies"], "anomalies"),
            (&["token", "list", "--revoked", "--limit", "2"], "tokens?revoked=true&limit=2"),
            (&["leases", "--account", "nobody"], "leases?account=nobody"),
            (&["account", "list", "--prefix", "nobody"], "accounts?prefix=nobody"),
        ] {
            let over_http = ask(stack, path, farebox_tests::sidecar::ADMIN_TOKEN).await;
            // Another test may have made a token meanwhile.
            if path.starts_with("tokens") {
                assert_eq!(over_http.0, 200);
                assert!(
                    over_http.1["tokens"].is_array() && told(stack, words)["tokens"].is_array()
                );
                continue;
            }
            assert_eq!((200, told(stack, words)), over_http, "{words:?}");
        }
        for (words, path) in [
            (&["leases"][..], "leases"),
            (&["gateways"], "gateways"),
            (&["audit", "--limit", "1"], "audit?limit=1"),
        ] {
            // What stands there changes all the time; its names do not.
            let names = |value: &Value| -> Vec<String> {
                let first =
                    value.as_object().and_then(|page| page.values().next()?.get(0)?.as_object());
                first.map(|row| row.keys().cloned().collect()).unwrap_or_default()
            };
            let (status, over_http) = ask(stack, path, farebox_tests::sidecar::ADMIN_TOKEN).await;
            assert_eq!(status, 200, "{over_http}");
            let on_command_line = told(stack, words);
            if !names(&over_http).is_empty() && !names(&on_command_line).is_empty() {
                assert_eq!(names(&on_command_line), names(&over_http), "{words:?}");
            }
        }
    });
}

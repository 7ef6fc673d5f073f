//! Operators freeze an account and thaw it: gateways stop serving it, and go on, without being touched.

use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::Method;
use farebox_tests::{Answer, Stack, eventually, run};
use serde_json::{Value, json};

use crate::{settled, shared};

/// What an operator orders over HTTP.
async fn order(stack: &Stack, user: &str, what: &str) -> Value {
    let path = format!("/admin/v1/accounts/{user}/{what}");
    let order = stack.sidecar.admin().post(&path).operator();
    let answer = order.json(&json!({ "reason": "ticket 9" })).send().await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

fn assert_frozen(answer: &Answer, language: &str, words: &str) {
    assert_eq!((answer.status.as_u16(), answer.code()), (403, 190_104), "{}", answer.body);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.header("content-language"), language);
    assert!(answer.body.contains(words), "{}", answer.body);
}

#[test]
fn a_freeze_stops_running_traffic_at_once_and_a_thaw_lets_it_go_on() {
    run(async {
        let stack = shared().await;
        stack.credit("chilled", "100");
        let client = stack.client();
        let call =
            |path: &str| client.get(path).user("chilled").header("accept-language", "en").send();
        let served = || stack.upstream.served("chilled");
        let stop = AtomicBool::new(false);
        let traffic = async {
            while !stop.load(Ordering::Relaxed) {
                let answer = call("/coin/x").await;
                if answer.status != 200 {
                    assert_frozen(&answer, "en-US", "the account is frozen");
                }
            }
        };
        let happening = async {
            eventually!(50 < served(), "calls are served");
            let frozen = order(stack, "chilled", "freeze").await;
            assert_eq!(json!([frozen["frozen"], frozen["changed"]]), json!([true, true]));
            eventually!(call("/coin/x").await.status == 403, "the gateway has heard of it");
            eventually!(stack.account("chilled").held == "0", "all that was out is back");
            // From here on nobody has a unit of it.
            let refused =
                client.storm(200, 8, |client, _| client.get("/coin/x").user("chilled")).await;
            assert_eq!(refused.of(403), 200, "{refused}");
            stop.store(true, Ordering::Relaxed);
        };
        tokio::join!(traffic, happening);
        // What was served is charged, and nothing stays held.
        settled(stack, "chilled", served()).await;

        let thawed = order(stack, "chilled", "thaw").await;
        assert_eq!(thawed["frozen"], false);
        eventually!(call("/coin/x").await.status == 200, "calls are served again");
        let all = client.storm(50, 8, |client, _| client.get("/coin/x").user("chilled")).await;
        assert_eq!(all.of(200), 50, "{all}");
        settled(stack, "chilled", served()).await;
    });
}

#[test]
fn every_kind_of_route_and_caller_hears_that_the_account_is_frozen() {
    run(async {
        let stack = shared().await;
        stack.credit("iced", "1");
        let client = stack.client();
        assert_eq!(client.get("/coin/x").user("iced").send().await.status, 200);
        let told = stack.sidecar.cli(&["account", "freeze", "iced", "--reason", "abuse"]).unwrap();
        assert!(told.contains("abuse"), "{told}");
        eventually!(client.get("/coin/x").user("iced").send().await.status == 403);
        // Free units are frozen as well, and strict calls are refused one by one.
        for path in ["/coin/x", "/mixed/x", "/strict/x", "/success/x", "/own/x"] {
            let answer = client.get(path).user("iced").header("accept-language", "en").send().await;
            assert_frozen(&answer, "en-US", "the account is frozen");
            assert_frozen(&client.get(path).user("iced").send().await, "zh-CN", "账户已被冻结");
        }
        let http2 = stack.client_http2();
        let call = http2.call(Method::POST, "/coin/grpc").user("iced").header("te", "trailers");
        let rpc = call.header("content-type", "application/grpc").body(vec![0; 5]).send().await;
        assert_eq!(
            (rpc.status.as_u16(), rpc.header("grpc-status")),
            (200, "7"),
            "PERMISSION_DENIED"
        );
        // A route that is only watched refuses nobody; others are served as ever.
        assert_eq!(client.get("/shadow/x").user("iced").send().await.status, 200);
        assert_eq!(client.get("/start/x").user("not-iced").send().await.status, 200);
        assert!(1 <= stack.envoy.stat("wasmcustom.farebox_refused_frozen").await);
        // Strict refusals are answers: the sidecar does not count as away, so nobody else suffers.
        stack.credit("warm", "1");
        assert_eq!(client.get("/strict/x").user("warm").send().await.status, 200);

        stack.sidecar.cli(&["account", "thaw", "iced", "--reason", "settled"]).unwrap();
        assert_eq!(client.get("/strict/x").user("iced").send().await.status, 200, "at once");
        eventually!(client.get("/coin/x").user("iced").send().await.status == 200);
        stack.invariants();
    });
}

#[test]
fn a_user_with_a_credit_limit_is_served_to_the_end_of_it() {
    run(async {
        let stack = shared().await;
        stack.credit("postpaid", "0.050");
        let limit = ["account", "limit", "postpaid", "0.150", "--reason", "contract 3"];
        stack.sidecar.cli(&limit).unwrap();
        let call = |client: &farebox_tests::Client, _| client.get("/coin/x").user("postpaid");
        let tally = stack.client().storm(300, 32, call).await;
        assert_eq!((tally.of(200), tally.of(402)), (200, 100), "{tally}");
        settled(stack, "postpaid", 200).await;
        assert_eq!(stack.account("postpaid").balance, "-0.15");
    });
}

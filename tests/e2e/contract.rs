//! What callers are told: statuses, problem documents, headers.

use farebox_tests::{Answer, run};

use crate::{settled, shared};

/// What a refusal must say, whatever its reason.
fn assert_refused(answer: &Answer, status: u16, code: u64) {
    assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{}", answer.body);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.json()["status"], status);
    assert_eq!(answer.header("x-farebox-charge"), "", "a refused call costs nothing");
}

#[test]
fn a_new_user_is_served_from_the_free_quota_until_it_is_used_up() {
    run(async {
        let stack = shared().await;
        for _ in 0..5 {
            let answer = stack.client().get("/gift/x").user("guest").send().await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            assert_eq!(answer.header("x-farebox-source"), "free");
            assert_eq!(answer.header("x-farebox-charge"), "0");
        }
        let refused = stack.client().get("/gift/x").user("guest").send().await;
        assert_refused(&refused, 429, 190_202);
        let seconds: u64 = refused.header("retry-after").parse().unwrap();
        assert!((1..=31 * 86_400).contains(&seconds), "until the month ends: {seconds} s");
        settled(stack, "guest", 5).await;
    });
}

#[test]
fn a_refused_user_is_served_as_soon_as_money_is_there() {
    run(async {
        let stack = shared().await;
        let call = async || stack.client().get("/coin/x").user("broke").send().await;
        assert_refused(&call().await, 402, 190_102);
        stack.credit("broke", "0.002");
        let waited = farebox_tests::eventually!(call().await.status == 200);
        assert!(
            waited.as_millis() < 1_000,
            "a refusal is remembered for half a second: {waited:?}"
        );
        assert_eq!(call().await.header("x-farebox-charge"), "0.001");
        settled(stack, "broke", 2).await;
        assert_eq!(stack.account("broke").balance, "0");
    });
}

#[test]
fn nobody_to_charge_is_401_and_two_are_400() {
    run(async {
        let stack = shared().await;
        let call = || stack.client().get("/coin/x");
        assert_refused(&call().send().await, 401, 100_101);
        assert_refused(&call().user("a").user("b").send().await, 400, 100_001);
        assert_refused(&call().user("a").user("a").send().await, 400, 100_001);
        assert_refused(&call().user("a b").send().await, 400, 100_001);
        assert_refused(&call().user(&"x".repeat(129)).send().await, 400, 100_001);
        let empty = call().user("").send().await;
        assert!(matches!(empty.status.as_u16(), 400 | 401), "{}: {}", empty.status, empty.body);
        assert_eq!(stack.upstream.served("a"), 0);
    });
}

#[test]
fn names_are_told_apart_by_every_byte() {
    run(async {
        let stack = shared().await;
        for user in ["Case", "case", "用户"] {
            let answer = stack.client().get("/gift/x").user(user).send().await;
            assert_eq!(answer.status, 200, "{user}: {}", answer.body);
            settled(stack, user, 1).await;
        }
    });
}

#[test]
fn what_callers_send_as_x_farebox_goes_nowhere() {
    run(async {
        let stack = shared().await;
        stack.credit("forger", "1.00");
        let answer = stack
            .client()
            .get("/coin/x")
            .user("forger")
            .header("x-farebox-charge", "0")
            .header("x-farebox-source", "free")
            .header("X-Farebox-Anything", "1")
            .send()
            .await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let arrived = answer.json()["headers"].as_object().unwrap().clone();
        let forged: Vec<_> = arrived.keys().filter(|name| name.starts_with("x-farebox")).collect();
        assert!(forged.is_empty(), "{forged:?}");
        assert_eq!(answer.header("x-farebox-charge"), "0.001");
        settled(stack, "forger", 1).await;
    });
}

#[test]
fn nothing_is_free_by_mistake() {
    run(async {
        let stack = shared().await;
        let call = |path| stack.client().get(path).user("curious").send();
        assert_refused(&call("/no/rule").await, 403, 190_205);
        assert_refused(&call("/stranger/x").await, 403, 190_205);
        // Ways around a prefix that Envoy straightens before the filter looks.
        assert_refused(&call("//coin/x").await, 402, 190_102);
        assert_refused(&call("/public/../coin/x").await, 402, 190_102);
        let public = stack.client().get("/public/x").send().await;
        assert_eq!(public.status, 200, "{}", public.body);
        assert_eq!(stack.upstream.served("curious"), 0);
    });
}

#[test]
fn a_shadow_route_measures_and_never_refuses() {
    run(async {
        let stack = shared().await;
        for _ in 0..3 {
            let answer = stack.client().get("/shadow/x").user("observed").send().await;
            assert_eq!(answer.status, 200, "{}", answer.body);
        }
        assert!(3 <= stack.envoy.stat("wasmcustom.farebox_shadow_refused").await);
        stack.invariants();
    });
}

#[test]
fn refusals_speak_the_callers_language() {
    run(async {
        let stack = shared().await;
        let call = |language| {
            stack.client().get("/coin/x").user("reader").header("accept-language", language).send()
        };
        let english = call("en-GB, zh;q=0.5").await;
        assert_eq!(english.json()["title"], "Insufficient balance");
        assert_eq!(english.header("content-language"), "en-US");
        let chinese = call("zh-TW").await;
        assert_eq!(chinese.json()["title"], "余额不足");
        assert_eq!(chinese.header("content-language"), "zh-CN");
    });
}

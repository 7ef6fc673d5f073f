//! The payment service is away, slow, or talks nonsense: an order never gets a second payment, and ends all the same.

use farebox_tests::{Answer, Stack, eventually, run};
use serde_json::{Value, json};

use super::{ask_now, body, credited_once, not_credited, order, pay, recharge, state, unruly};

/// How many payments a user's orders have.
async fn payments_of(stack: &Stack, user: &str) -> usize {
    stack.payment.payments().await.iter().filter(|payment| payment["user_id"] == user).count()
}

/// The only order of a user.
fn order_of(stack: &Stack, user: &str) -> String {
    let rows = stack.sql(&format!("SELECT order_id FROM recharge_order WHERE user_id = '{user}'"));
    assert_eq!(rows.len(), 1, "{user}: {rows:?}");
    rows.concat().concat()
}

/// The refusal that says: nobody knows, ask again.
fn unavailable(stack: &Stack, user: &str, answer: &Answer) {
    assert_eq!((answer.status.as_u16(), answer.code()), (503, 190_501), "{}", answer.body);
    assert!(!answer.header("retry-after").is_empty());
    let order = order_of(stack, user);
    let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
    assert!(detail.contains(&order) && detail.contains("same key"), "{detail}");
    // What broke in the operator's network is not for users; the log has it.
    assert!(!detail.contains("connect") && !detail.contains("Internal"), "{detail}");
    assert!(stack.sidecar.log().contains("an order has no payment yet"));
    assert_eq!(state(stack, &order), "pending");
}

/// The same request again gets the order's payment, its only one; paid, it is credited.
async fn completed(stack: &Stack, user: &str) {
    let answer = recharge(&stack.sidecar, user, "k", &body("5")).await;
    let order = order(&answer);
    assert!(answer.json()["payment_url"].is_string(), "{}", answer.body);
    assert_eq!(order.id, order_of(stack, user));
    assert_eq!(payments_of(stack, user).await, 1);
    pay(stack, &order).await;
    eventually!(state(stack, &order.id) == "paid", "{}", stack.sidecar.log());
    credited_once(stack, &order.id, "5");
}

#[test]
fn a_payment_service_that_is_away_costs_no_order() {
    run(async {
        let stack = unruly().await;
        stack.payment.kill();
        for _ in 0..2 {
            let answer = recharge(&stack.sidecar, "down", "k", &body("5")).await;
            unavailable(&stack, "down", &answer);
        }
        stack.payment.start_again().await.unwrap_or_else(|err| panic!("{err}"));
        completed(&stack, "down").await;
    });
}

#[test]
fn an_answer_that_is_lost_or_late_is_the_same_payment_the_next_time() {
    run(async {
        let stack = unruly().await;
        for (user, told) in [
            ("late", json!({ "create_delay_ms": 900 })),
            ("lost-answer", json!({ "create_error": "INTERNAL", "error_after": true })),
            ("lost-call", json!({ "create_error": "INTERNAL" })),
            ("empty-id", json!({ "garbage": "empty_id" })),
            ("long-id", json!({ "garbage": "long_id" })),
            ("odd-id", json!({ "garbage": "odd_id" })),
            ("bad-url", json!({ "garbage": "bad_url" })),
        ] {
            stack.payment.behave(told).await;
            let answer = recharge(&stack.sidecar, user, "k", &body("5")).await;
            unavailable(&stack, user, &answer);
            stack.payment.behave_well().await;
            completed(&stack, user).await;
        }
    });
}

/// The user does not come back after the answer was late: the poller finds the payment, and its page.
#[test]
fn the_poller_finds_the_payment_of_an_order_whose_answer_was_lost() {
    run(async {
        let stack = unruly().await;
        stack
            .payment
            .behave(json!({ "create_delay_ms": 900, "callback": { "send": false } }))
            .await;
        let answer = recharge(&stack.sidecar, "left", "k", &body("5")).await;
        unavailable(&stack, "left", &answer);
        let id = order_of(&stack, "left");
        ask_now(&stack, &id);
        let named =
            format!("SELECT payment_url IS NOT NULL FROM recharge_order WHERE order_id = '{id}'");
        eventually!(stack.sql_one(&named) == "1", "{}", stack.sidecar.log());
        let found = order(&recharge(&stack.sidecar, "left", "k", &body("5")).await);
        assert_eq!(payments_of(&stack, "left").await, 1);
        pay(&stack, &found).await;
        ask_now(&stack, &id);
        eventually!(state(&stack, &id) == "paid", "{}", stack.sidecar.log());
        credited_once(&stack, &id, "5");
    });
}

/// The payment was made and paid, and Farebox never heard of it but by the callback.
#[test]
fn a_callback_names_the_payment_that_farebox_never_heard_of() {
    run(async {
        let stack = unruly().await;
        stack.payment.behave(json!({ "create_error": "UNAVAILABLE", "error_after": true })).await;
        let answer = recharge(&stack.sidecar, "unheard", "k", &body("5")).await;
        unavailable(&stack, "unheard", &answer);
        stack.payment.behave_well().await;
        let id = order_of(&stack, "unheard");
        let payment = stack.payment.payment_of(&id).await.unwrap()["payment_id"].clone();
        assert_eq!(stack.payment.pay(payment.as_str().unwrap()).await.status, 200);
        eventually!(state(&stack, &id) == "paid", "{}", stack.sidecar.log());
        credited_once(&stack, &id, "5");
        let again = recharge(&stack.sidecar, "unheard", "k", &body("5")).await;
        assert_eq!((again.status.as_u16(), &again.json()["payment_id"]), (200, &payment));
        assert_eq!(payments_of(&stack, "unheard").await, 1);
    });
}

#[test]
fn a_payment_that_is_refused_fails_the_order_for_good() {
    run(async {
        let stack = unruly().await;
        for (user, code) in
            [("refused-1", "INVALID_ARGUMENT"), ("refused-2", "FAILED_PRECONDITION")]
        {
            stack.payment.behave(json!({ "create_error": code })).await;
            let first = recharge(&stack.sidecar, user, "k", &body("5")).await;
            assert_eq!((first.status.as_u16(), first.code()), (502, 190_502), "{}", first.body);
            assert!(first.body.contains("the payment service refused"), "{}", first.body);
            let id = order_of(&stack, user);
            assert_eq!(state(&stack, &id), "failed");
            stack.payment.behave_well().await;
            // The same key names the same order, which has failed; what helps is a new one.
            let again = recharge(&stack.sidecar, user, "k", &body("5")).await;
            let same = |answer: &Answer| (answer.status, answer.json());
            assert_eq!(same(&again), same(&first));
            let path = format!("/api/v1/billing/orders/{id}");
            let shown = stack.sidecar.client().get(&path).asserted(user).send().await.json();
            assert_eq!((&shown["state"], &shown["payment_id"]), (&json!("failed"), &Value::Null));
            assert!(shown["failure"].as_str().is_some_and(|text| !text.is_empty()), "{shown}");
            not_credited(&stack, &id);
            assert_eq!(payments_of(&stack, user).await, 0);
            order(&recharge(&stack.sidecar, user, "k2", &body("5")).await);
        }
    });
}

/// Somebody who is told to pay again must not have a payment already.
#[test]
fn a_refusal_does_not_fail_an_order_whose_payment_has_appeared() {
    run(async {
        let stack = unruly().await;
        stack.payment.behave(json!({ "create_error": "UNAVAILABLE", "error_after": true })).await;
        let unheard = recharge(&stack.sidecar, "appeared", "k", &body("5")).await;
        assert_eq!(unheard.status, 503, "{}", unheard.body);
        stack.payment.behave_well().await;
        let id = order_of(&stack, "appeared");
        let payment = stack.payment.payment_of(&id).await.unwrap();
        let told = json!({ "order_id": id, "fields": { "status": "PENDING" } });
        assert_eq!(stack.payment.callback(told).await.status, Some(200));

        stack.payment.behave(json!({ "create_error": "INVALID_ARGUMENT" })).await;
        let again = recharge(&stack.sidecar, "appeared", "k", &body("5")).await;
        assert_eq!(again.status, 200, "{}", again.body);
        assert_eq!(again.json()["payment_id"], payment["payment_id"]);
        assert_eq!(state(&stack, &id), "pending");
    });
}

//! Redis away, and orders that the predecessor left in it.

use std::collections::BTreeSet;

use farebox_tests::payment::CallbackAnswer;
use farebox_tests::{Stack, eventually, run};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{anomalies, credited_once, not_credited, ordered, pay, shared, state, unruly};

/// Leaves an order in Redis as the predecessor did.
fn leave(stack: &Stack, order_id: &str, order: &Value) {
    stack.redis.set(&format!("recharge:order:{order_id}"), &order.to_string());
}

fn remove(stack: &Stack, order_id: &str) -> bool {
    stack.redis.remove(&format!("recharge:order:{order_id}"))
}

/// What a payment service says of a payment that was begun by the predecessor.
async fn success(stack: &Stack, order_id: &str, payment: &str, amount: &str) -> CallbackAnswer {
    let url = format!("http://{}/internal/v1/billing/callback", stack.sidecar.addresses().http);
    let fields = json!({
        "payment_order_id": payment, "order_id": order_id, "amount": amount, "currency": "CNY", "status": "success",
    });
    stack.payment.callback(json!({ "url": url, "fields": fields })).await
}

#[test]
fn without_redis_money_comes_all_the_same() {
    run(async {
        let stack = unruly().await;
        stack.redis.kill();
        let order = ordered(&stack, "no-redis", "5").await;
        pay(&stack, &order).await;
        eventually!(state(&stack, &order.id) == "paid", "{}", stack.sidecar.log());
        credited_once(&stack, &order.id, "5");
        let lost = ordered(&stack, "no-redis", "6").await;
        stack.payment.behave(json!({ "callback": { "send": false } })).await;
        pay(&stack, &lost).await;
        super::ask_now(&stack, &lost.id);
        eventually!(state(&stack, &lost.id) == "paid", "{}", stack.sidecar.log());
        credited_once(&stack, &lost.id, "6");
        let refund = ["orders", "refund", &order.id, "--reason", "no redis"];
        let refund = stack.sidecar.cli(&refund).unwrap();
        assert!(refund.contains("done"), "{refund}");
        stack.invariants();
    });
}

/// An order that may have been in Redis is not denied while Redis is away; one of our own making never was there.
#[test]
fn without_redis_nobody_says_that_an_old_order_does_not_exist() {
    run(async {
        let stack = unruly().await;
        leave(&stack, "order_7_20251130120000", &json!({ "user_id": "away", "amount": 10 }));
        stack.redis.kill();
        let own = format!("recharge_{}", uuid::Uuid::new_v4().simple());
        for (order_id, status, code) in
            [("order_7_20251130120000", 503, 100_202), (own.as_str(), 404, 190_301)]
        {
            let answer = success(&stack, order_id, "pay-away", "10.00").await;
            assert_eq!((answer.status, answer.code()), (Some(status), code), "{}", answer.body);
            let path = format!("/api/v1/billing/orders/{order_id}");
            let shown = stack.sidecar.client().get(&path).asserted("away").send().await;
            assert_eq!((shown.status.as_u16(), shown.code()), (status, code), "{}", shown.body);
        }
        assert_eq!(anomalies(&stack, "order_7_20251130120000"), [[""; 0]; 0]);
        not_credited(&stack, "order_7_20251130120000");
        let import = stack.sidecar.cli(&["orders", "import-legacy"]).unwrap_err().to_string();
        assert!(import.contains("redis does not answer"), "{import}");
        stack.redis.start_again().await.unwrap_or_else(|err| panic!("{err}"));
        // It kept nothing: now the order is gone for certain.
        eventually!(
            success(&stack, "order_7_20251130120000", "pay-away", "10").await.status == Some(404)
        );
    });
}

#[test]
fn an_old_order_is_imported_once_by_many_callbacks_at_once() {
    run(async {
        let stack = shared().await;
        let id = "order_8_20251130120000";
        leave(stack, id, &json!({ "user_id": "old-timer", "amount": 100 }));
        let answers = join_all((0..20).map(|_| success(stack, id, "pay-old", "100.00"))).await;
        for answer in &answers {
            assert_eq!(answer.status, Some(200), "{}", answer.body);
        }
        credited_once(stack, id, "100");
        assert_eq!(stack.account("old-timer").balance, "100");
        // Its key runs out of time, and the callback comes once more.
        remove(stack, id);
        assert_eq!(success(stack, id, "pay-old", "100").await.status, Some(200));
        credited_once(stack, id, "100");

        let nobody = success(stack, "order_9_20251130120000", "pay-9", "1").await;
        assert_eq!((nobody.status, nobody.code()), (Some(404), 190_301), "{}", nobody.body);
        let kept = anomalies(stack, "order_9_20251130120000");
        assert_eq!(kept, [["unknown_order", "1"]], "somebody paid for it");
    });
}

#[test]
fn an_old_order_of_another_amount_is_not_credited() {
    run(async {
        let stack = shared().await;
        let id = "order_10_20251130120000";
        leave(stack, id, &json!({ "user_id": 4_711, "amount": 19.99 }));
        let answer = success(stack, id, "pay-10", "19.98").await;
        assert_eq!((answer.status, answer.code()), (Some(422), 190_304), "{}", answer.body);
        assert_eq!(anomalies(stack, id), [["amount", "1"]]);
        not_credited(stack, id);
        assert_eq!(success(stack, id, "pay-10", "19.99").await.status, Some(200));
        credited_once(stack, id, "19.99");
        assert_eq!(stack.account("4711").balance, "19.99");
    });
}

/// A look at it imports it, for its user alone.
#[test]
fn the_user_of_an_old_order_sees_it() {
    run(async {
        let stack = shared().await;
        let id = "order_11_20251130120000";
        leave(stack, id, &json!({ "user_id": "looker", "amount": "7.50" }));
        let show = async |user: &str| {
            let path = format!("/api/v1/billing/orders/{id}");
            stack.client().get(&path).user(user).send().await
        };
        let other = show("other").await;
        assert_eq!((other.status.as_u16(), other.code()), (404, 190_301), "{}", other.body);
        let mine = show("looker").await;
        assert_eq!(mine.status, 200, "{}", mine.body);
        let shown = mine.json();
        assert_eq!((&shown["state"], &shown["amount"]), (&json!("pending"), &json!("7.5")));
        not_credited(stack, id);
        assert_eq!(success(stack, id, "pay-11", "7.5").await.status, Some(200));
        assert_eq!(show("looker").await.json()["state"], "paid");
        credited_once(stack, id, "7.5");
    });
}

#[test]
fn all_old_orders_are_moved_and_those_that_cannot_be_read_are_named() {
    run(async {
        let stack = unruly().await;
        let import = || {
            let report = stack.sidecar.cli(&["orders", "import-legacy", "--json"]).unwrap();
            let report: Value = serde_json::from_str(&report).unwrap();
            let unreadable: BTreeSet<String> =
                serde_json::from_value(report["unreadable"].clone()).unwrap();
            (report["imported"].as_u64().unwrap(), report["known"].as_u64().unwrap(), unreadable)
        };
        let readable: Vec<String> = (0..30).map(|n| format!("order_{n}_20251201000000")).collect();
        for id in &readable {
            leave(&stack, id, &json!({ "user_id": "mover", "amount": 1.25 }));
        }
        // One of them came in by its callback before.
        assert_eq!(success(&stack, &readable[0], "pay-move", "1.25").await.status, Some(200));
        let unreadable = [
            ("order_bad_amount", json!({ "user_id": "mover", "amount": 0.001 })),
            ("order_no_user", json!({ "amount": 5 })),
            ("order_no_json", json!("what?")),
        ];
        for (id, text) in &unreadable {
            leave(&stack, id, text);
        }
        stack.redis.set("recharge:orders", "not one of them");
        stack.redis.push("recharge:order:order_no_text", "a list");

        let mut bad: BTreeSet<String> = unreadable.iter().map(|(id, _)| (*id).to_owned()).collect();
        bad.insert("order_no_text".to_owned());
        stack.redis.set_bytes(b"recharge:order:order_bytes", &[0xff, 0xfe]);
        stack.redis.set_bytes(b"recharge:order:\xff", b"{}");
        bad.extend(["order_bytes".to_owned(), "\u{fffd}".to_owned()]);
        let list = success(&stack, "order_no_text", "pay-list", "1").await;
        assert_eq!(list.status, Some(404), "{}", list.body);
        assert_eq!(import(), (29, 1, bad.clone()));
        assert_eq!(import(), (0, 0, bad), "a second time");
        assert!(
            !remove(&stack, &readable[1]) && remove(&stack, "order_no_user"),
            "what could not be read stays"
        );
        let text = stack.sidecar.cli(&["orders", "import-legacy"]).unwrap();
        assert!(text.contains("recharge:order:order_no_json"), "{text}");
        let unreadable = success(&stack, "order_no_json", "pay-no-json", "5").await;
        assert_eq!(
            (unreadable.status, unreadable.code()),
            (Some(404), 190_301),
            "{}",
            unreadable.body
        );

        // From now on they are orders like all others.
        assert_eq!(success(&stack, &readable[1], "pay-moved", "1.25").await.status, Some(200));
        credited_once(&stack, &readable[1], "1.25");
        assert_eq!(stack.account("mover").balance, "2.5");
        let pending =
            "SELECT COUNT(*) FROM recharge_order WHERE user_id = 'mover' AND status = 'pending'";
        assert_eq!(stack.sql_one(pending), "28");
    });
}

//! Payments whose callback never came, or came too late: the payment service is asked.

use farebox_tests::{Stack, eventually, run};
use serde_json::json;

use super::{
    Order, age, anomalies, ask_now, callback, credited_once, not_credited, ordered, pay, says,
    state, unruly,
};

const DELAYS: &str = "billing_recharge_credit_delay_seconds_count{source=\"poller\"}";

#[test]
fn a_payment_whose_callback_is_lost_is_credited() {
    run(async {
        let stack = unruly().await;
        let order = ordered(&stack, "lost", "6.50").await;
        stack.payment.behave(json!({ "callback": { "send": false } })).await;
        pay(&stack, &order).await;
        assert_eq!(state(&stack, &order.id), "pending");
        let delays = stack.sidecar.metric(DELAYS).await;
        ask_now(&stack, &order.id);
        eventually!(state(&stack, &order.id) == "paid", "{}", stack.sidecar.log());
        credited_once(&stack, &order.id, "6.5");
        // It is counted after the commit.
        eventually!(stack.sidecar.metric(DELAYS).await == delays + 1);
        // The callback comes after all.
        assert_eq!(callback(&stack, &order, json!({})).await.status, Some(200));
        credited_once(&stack, &order.id, "6.5");
    });
}

/// Both wait for the order's row at the same time; which of them gets it first is the database's choice.
#[test]
fn callback_and_poller_at_the_same_instant_credit_once() {
    run(async {
        let stack = unruly().await;
        stack.payment.behave(json!({ "callback": { "send": false } })).await;
        for round in 0..4 {
            let order = ordered(&stack, "instant", "2").await;
            pay(&stack, &order).await;
            let row = format!("SELECT 1 FROM recharge_order WHERE order_id = '{}'", order.id);
            ask_now(&stack, &order.id);
            let held = stack.database.hold(&format!("{row} FOR UPDATE"));
            let held = held.unwrap_or_else(|err| panic!("{err}"));
            let waiting = || stack.database.running("FOR UPDATE");
            eventually!(waiting() == 1, "the poller waits: {}", stack.sidecar.log());
            let both = async {
                eventually!(waiting() == 2, "both wait: {}", stack.sidecar.log());
                drop(held);
            };
            let (answer, ()) = tokio::join!(callback(&stack, &order, json!({})), both);
            assert_eq!(answer.status, Some(200), "round {round}: {}", answer.body);
            credited_once(&stack, &order.id, "2");
        }
        assert_eq!(stack.account("instant").balance, "8");
    });
}

#[test]
fn an_order_that_nobody_pays_is_closed_and_money_that_comes_later_is_not_credited() {
    run(async {
        let stack = unruly().await;
        let order = ordered(&stack, "never", "4").await;
        ask_now(&stack, &order.id);
        put_off(&stack, &order).await;
        assert_eq!(state(&stack, &order.id), "pending");
        age(&stack, &order.id, 25);
        eventually!(state(&stack, &order.id) == "closed", "{}", stack.sidecar.log());
        let shown = stack.sidecar.cli(&["orders", "show", &order.id]).unwrap();
        assert!(shown.contains("not paid in time"), "{shown}");

        for _ in 0..2 {
            let late = says(&stack, &order, "SUCCESS").await;
            assert_eq!((late.status, late.code()), (Some(422), 190_304), "{}", late.body);
        }
        assert_eq!(anomalies(&stack, &order.id), [["status", "2"]]);
        assert_eq!(state(&stack, &order.id), "closed");
        not_credited(&stack, &order.id);
    });
}

/// A payment service that does not answer says nothing about the payment.
#[test]
fn no_order_is_closed_unasked() {
    run(async {
        let stack = unruly().await;
        let order = ordered(&stack, "unasked", "4").await;
        stack.payment.behave(json!({ "callback": { "send": false } })).await;
        pay(&stack, &order).await;
        stack.payment.kill();
        age(&stack, &order.id, 25);
        put_off(&stack, &order).await;
        assert_eq!(state(&stack, &order.id), "pending");
        stack.payment.start_again().await.unwrap_or_else(|err| panic!("{err}"));
        ask_now(&stack, &order.id);
        eventually!(state(&stack, &order.id) == "paid", "{}", stack.sidecar.log());
        credited_once(&stack, &order.id, "4");
    });
}

#[test]
fn success_after_a_failure_is_believed_only_when_it_is_confirmed() {
    run(async {
        let stack = unruly().await;
        let order = ordered(&stack, "second-try", "4").await;
        stack.payment.fail(&order.payment).await;
        eventually!(state(&stack, &order.id) == "failed", "{}", stack.sidecar.log());

        let unconfirmed = says(&stack, &order, "SUCCESS").await;
        let found = (unconfirmed.status, unconfirmed.code());
        assert_eq!(found, (Some(422), 190_304), "{}", unconfirmed.body);
        assert_eq!(anomalies(&stack, &order.id), [["status", "1"]]);
        not_credited(&stack, &order.id);

        // Away or talking nonsense, it confirms nothing; the callback has to come again.
        for told in [json!({ "get_error": "UNAVAILABLE" }), json!({ "garbage": "unknown_status" })]
        {
            stack.payment.behave(told).await;
            let unknown = says(&stack, &order, "SUCCESS").await;
            assert_eq!((unknown.status, unknown.code()), (Some(503), 190_501), "{}", unknown.body);
            stack.payment.behave_well().await;
        }
        not_credited(&stack, &order.id);

        // It succeeds, but the answer is about another order.
        let told = json!({ "callback": { "send": false }, "garbage": "other_order" });
        stack.payment.behave(told).await;
        stack.payment.set_status(&order.payment, "SUCCESS").await;
        let astray = callback(&stack, &order, json!({})).await;
        assert_eq!((astray.status, astray.code()), (Some(422), 190_304), "{}", astray.body);
        not_credited(&stack, &order.id);

        stack.payment.behave_well().await;
        assert_eq!(callback(&stack, &order, json!({})).await.status, Some(200));
        credited_once(&stack, &order.id, "4");
    });
}

#[test]
fn an_answer_that_does_not_fit_credits_nothing() {
    run(async {
        let stack = unruly().await;
        let mut orders = Vec::new();
        for (garbage, kind) in [
            ("wrong_amount", "amount"),
            ("wrong_currency", "currency"),
            ("other_order", "order"),
            ("unknown_status", ""),
            ("empty_id", ""),
            ("odd_id", ""),
            ("bad_url", ""),
        ] {
            let order = ordered(&stack, "nonsense", "4").await;
            let told = json!({ "callback": { "send": false }, "garbage": garbage });
            stack.payment.behave(told).await;
            pay(&stack, &order).await;
            ask_now(&stack, &order.id);
            put_off(&stack, &order).await;
            assert_eq!(state(&stack, &order.id), "pending", "{garbage}");
            not_credited(&stack, &order.id);
            let kinds: Vec<String> =
                anomalies(&stack, &order.id).into_iter().map(|row| row[0].clone()).collect();
            assert_eq!(kinds.concat(), kind, "{garbage}");
            stack.payment.behave_well().await;
            orders.push(order);
        }
        // Asked again, it says the truth.
        for order in &orders {
            ask_now(&stack, &order.id);
        }
        for order in &orders {
            eventually!(state(&stack, &order.id) == "paid", "{}", stack.sidecar.log());
            credited_once(&stack, &order.id, "4");
        }
    });
}

/// More of them than are asked for at the same time, and all due before the one that can be credited.
#[test]
fn orders_that_cannot_be_settled_do_not_hold_up_others() {
    run(async {
        let stack = unruly().await;
        let balance = |amount: &str| {
            stack
                .sql(&format!("UPDATE user_balance SET balance = {amount} WHERE user_id = 'full'"));
        };
        stack.credit("full", "1");
        stack.payment.behave(json!({ "callback": { "send": false } })).await;
        let mut stuck = Vec::new();
        for _ in 0..9 {
            stuck.push(ordered(&stack, "full", "5").await);
        }
        let last = ordered(&stack, "behind", "5").await;
        for order in stuck.iter().chain([&last]) {
            pay(&stack, order).await;
        }
        // There is no room for more money on this account.
        balance("9223372036");
        for order in stuck.iter().chain([&last]) {
            ask_now(&stack, &order.id);
        }
        eventually!(state(&stack, &last.id) == "paid", "{}", stack.sidecar.log());
        for order in &stuck {
            put_off(&stack, order).await;
            assert_eq!(state(&stack, &order.id), "pending");
        }
        balance("1");
        for order in &stuck {
            ask_now(&stack, &order.id);
        }
        for order in &stuck {
            eventually!(state(&stack, &order.id) == "paid", "{}", stack.sidecar.log());
            credited_once(&stack, &order.id, "5");
        }
        assert_eq!(stack.account("full").balance, "46");
    });
}

/// Waits until the payment service has been asked for an order, and will be again.
async fn put_off(stack: &Stack, order: &Order) {
    let id = &order.id;
    let later = "SELECT UTC_TIMESTAMP(3) < ask_at FROM recharge_order WHERE order_id";
    eventually!(
        stack.sql_one(&format!("{later} = '{id}'")) == "1",
        "{id} is asked for, and put off: {}",
        stack.sidecar.log()
    );
}

/// A first attempt fails, and that is told; the second one succeeds, and that is not.
#[test]
fn a_failed_order_that_is_paid_after_all_is_credited_without_a_callback() {
    run(async {
        let stack = unruly().await;
        let order = ordered(&stack, "another-card", "3").await;
        stack.payment.fail(&order.payment).await;
        eventually!(state(&stack, &order.id) == "failed", "{}", stack.sidecar.log());
        stack.payment.behave(json!({ "callback": { "send": false } })).await;
        stack.payment.set_status(&order.payment, "SUCCESS").await;
        ask_now(&stack, &order.id);
        eventually!(state(&stack, &order.id) == "paid", "{}", stack.sidecar.log());
        credited_once(&stack, &order.id, "3");
    });
}

#[test]
fn a_failed_order_is_asked_for_until_it_is_a_day_old() {
    run(async {
        let stack = unruly().await;
        let order = ordered(&stack, "no-card", "3").await;
        stack.payment.fail(&order.payment).await;
        eventually!(state(&stack, &order.id) == "failed", "{}", stack.sidecar.log());
        age(&stack, &order.id, 25);
        let asked =
            format!("SELECT COUNT(ask_at) FROM recharge_order WHERE order_id = '{}'", order.id);
        eventually!(stack.sql_one(&asked) == "0", "{}", stack.sidecar.log());
        assert_eq!(state(&stack, &order.id), "failed");
        not_credited(&stack, &order.id);
    });
}

/// The payments of inherited orders were not told when to end.
#[test]
fn an_order_of_the_predecessor_lives_for_a_week() {
    run(async {
        let stack = unruly().await;
        let id = "recharge_inherited_1700000000";
        stack.sql(&format!(
            "INSERT INTO recharge_order (order_id, user_id, amount, status, source, ask_at, created_at, updated_at)
             VALUES ('{id}', 'inherited', 5, 'pending', 'predecessor', UTC_TIMESTAMP(3),
                UTC_TIMESTAMP(3) - INTERVAL 2 DAY, UTC_TIMESTAMP(3))"
        ));
        let put_off = format!(
            "SELECT COUNT(*) FROM recharge_order WHERE order_id = '{id}' AND UTC_TIMESTAMP(3) < ask_at"
        );
        eventually!(stack.sql_one(&put_off) == "1", "{}", stack.sidecar.log());
        assert_eq!(state(&stack, id), "pending");
        age(&stack, id, 6 * 24);
        eventually!(state(&stack, id) == "closed", "{}", stack.sidecar.log());
        not_credited(&stack, id);
    });
}

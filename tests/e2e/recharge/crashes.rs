//! The sidecar dies, or the database's answer is lost, at the worst moments: the sender's repeat ends in exactly one credit.

use farebox_tests::cut::How;
use farebox_tests::{Stack, eventually, run};
use serde_json::json;

use super::{Order, callback, credited_once, not_credited, ordered, pay, state, unruly};

/// The table that the transaction of a credit changes.
const TABLE: &str = "recharge_order";

async fn start_again(stack: &Stack) {
    stack.sidecar.start_again().await.unwrap_or_else(|err| panic!("{err}"));
}

/// The payment service goes on until it is answered, and nobody is credited twice by it.
async fn ends_in_one_credit(stack: &Stack, order: &Order) {
    let about = |callback: &serde_json::Value| {
        callback["body"].as_str().is_some_and(|body| body.contains(&order.id))
            && callback["state"] != "handmade"
    };
    let delivered = async || {
        let callbacks = stack.payment.callbacks().await;
        callbacks.iter().filter(|one| about(one)).all(|one| one["state"] == "delivered")
    };
    eventually!(delivered().await, "{}", stack.sidecar.log());
    credited_once(stack, &order.id, "5");
    // Once more for those who never stop.
    assert_eq!(callback(stack, order, json!({})).await.status, Some(200));
    credited_once(stack, &order.id, "5");
}

#[test]
fn killed_before_the_transaction() {
    run(async {
        let stack = unruly().await;
        let order = ordered(&stack, "killed-before", "5").await;
        let row = format!("SELECT 1 FROM recharge_order WHERE order_id = '{}'", order.id);
        let held = stack.database.hold(&format!("{row} FOR UPDATE"));
        let held = held.unwrap_or_else(|err| panic!("{err}"));
        pay(&stack, &order).await;
        eventually!(stack.database.running("FOR UPDATE") == 1, "{}", stack.sidecar.log());
        stack.sidecar.kill();
        drop(held);
        not_yet_credited(&stack, &order);
        start_again(&stack).await;
        ends_in_one_credit(&stack, &order).await;
    });
}

fn not_yet_credited(stack: &Stack, order: &Order) {
    assert_eq!(state(stack, &order.id), "pending");
    not_credited(stack, &order.id);
}

#[test]
fn killed_inside_the_transaction() {
    run(async {
        let stack = unruly().await;
        let order = ordered(&stack, "killed-inside", "5").await;
        stack.cut.arm_for(How::Hold, TABLE);
        let caught = stack.cut.caught();
        pay(&stack, &order).await;
        eventually!(stack.cut.caught() == caught + 1, "{}", stack.sidecar.log());
        stack.sidecar.kill();
        not_yet_credited(&stack, &order);
        start_again(&stack).await;
        ends_in_one_credit(&stack, &order).await;
    });
}

#[test]
fn killed_after_the_commit_and_before_the_answer() {
    run(async {
        let stack = unruly().await;
        let order = ordered(&stack, "killed-after", "5").await;
        stack.cut.arm_for(How::SwallowAnswer, TABLE);
        let caught = stack.cut.caught();
        pay(&stack, &order).await;
        eventually!(stack.cut.caught() == caught + 1, "{}", stack.sidecar.log());
        credited_once(&stack, &order.id, "5");
        stack.sidecar.kill();
        start_again(&stack).await;
        ends_in_one_credit(&stack, &order).await;
    });
}

#[test]
fn a_commit_of_unknown_outcome_is_an_error_and_its_repeat_finds_out() {
    run(async {
        let stack = unruly().await;
        for (how, is_credited) in [(How::CutAfter, true), (How::CutBefore, false)] {
            let order = ordered(&stack, "unknown-outcome", "5").await;
            stack.payment.behave(json!({ "callback": { "send": false } })).await;
            pay(&stack, &order).await;
            let caught = stack.cut.caught();
            stack.cut.arm_for(how, TABLE);
            let first = callback(&stack, &order, json!({})).await;
            assert_eq!(
                (first.status, first.code()),
                (Some(503), 100_202),
                "{how:?}: {}",
                first.body
            );
            assert_eq!(stack.cut.caught(), caught + 1, "{how:?}");
            assert_eq!(state(&stack, &order.id) == "paid", is_credited, "{how:?}");
            let second = callback(&stack, &order, json!({})).await;
            assert_eq!(second.status, Some(200), "{how:?}: {}", second.body);
            credited_once(&stack, &order.id, "5");
            stack.payment.behave_well().await;
        }
    });
}

/// The database goes away while callbacks come.
#[test]
fn a_database_that_is_away_is_an_error_and_not_an_answer() {
    run(async {
        let stack = unruly().await;
        let order = ordered(&stack, "no-database", "5").await;
        stack.database.kill();
        pay(&stack, &order).await;
        let answer = callback(&stack, &order, json!({})).await;
        assert_eq!((answer.status, answer.code()), (Some(503), 100_202), "{}", answer.body);
        let refused = super::recharge(&stack.sidecar, "no-database", "k", &super::body("1")).await;
        assert_eq!((refused.status.as_u16(), refused.code()), (503, 100_202), "{}", refused.body);
        assert!(!refused.header("retry-after").is_empty());
        stack.database.start_again().await.unwrap_or_else(|err| panic!("{err}"));
        ends_in_one_credit(&stack, &order).await;
    });
}

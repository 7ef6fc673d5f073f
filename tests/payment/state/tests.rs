//! The rules of the contract, without network and clock.

use super::*;
use crate::callback::outbox::Callback;

const NOTIFY: &str = "http://127.0.0.1:8107/internal/v1/billing/callback";

fn order(order_id: &str, amount_minor: i64) -> Order {
    Order {
        order_id: order_id.to_owned(),
        user_id: "ada".to_owned(),
        source: "billing".to_owned(),
        amount_minor,
        currency: "CNY".to_owned(),
        method: "alipay".to_owned(),
        subject: "Account recharge".to_owned(),
        return_url: String::new(),
        notify_url: NOTIFY.to_owned(),
        client_ip: String::new(),
        expires_at_ms: Some(1_000),
    }
}

/// A state with one payment, `p`, of 100 fen that waits until 1000 ms.
fn pending() -> State {
    let mut state = State::default();
    state.create(order("o", 100), "p".to_owned(), 0).unwrap();
    state
}

fn paid() -> State {
    let mut state = pending();
    state.pay("p", 10).unwrap();
    state
}

fn refund(refund_id: &str, amount_minor: i64) -> NewRefund {
    NewRefund {
        payment_id: "p".to_owned(),
        refund_id: refund_id.to_owned(),
        amount_minor,
        currency: "CNY".to_owned(),
        reason: String::new(),
    }
}

fn bodies(state: &State) -> Vec<String> {
    let status = |callback: &Callback| {
        let body: serde_json::Value = serde_json::from_str(&callback.body).unwrap();
        format!("{} {} {}", body["status"], body["amount"], body["currency"]).replace('"', "")
    };
    state.outbox.callbacks().map(status).collect()
}

#[test]
fn an_order_has_one_payment() {
    let mut state = pending();
    let again = state.create(order("o", 100), "q".to_owned(), 5).unwrap();
    assert_eq!(again.payment_id, "p");
    let others = [
        Order { amount_minor: 101, ..order("o", 100) },
        Order { currency: "USD".to_owned(), ..order("o", 100) },
        Order { user_id: "bob".to_owned(), ..order("o", 100) },
        Order { source: "shop".to_owned(), ..order("o", 100) },
    ];
    for other in others {
        let refused = state.create(other, "q".to_owned(), 5);
        assert!(matches!(refused, Err(Refusal::Differs(_))), "{refused:?}");
    }
    // What is over is still the same order.
    let late = state.create(order("o", 100), "q".to_owned(), 5_000).unwrap();
    assert_eq!((late.payment_id.as_str(), late.status), ("p", Status::Closed));
    assert_eq!(state.payments().count(), 1);
}

#[test]
fn what_the_contract_does_not_allow_is_refused() {
    let bad = [
        order("", 100),
        order(&"o".repeat(65), 100),
        order("o", 0),
        Order { user_id: String::new(), ..order("o", 100) },
        Order { user_id: "é".repeat(65), ..order("o", 100) },
        Order { currency: "cny".to_owned(), ..order("o", 100) },
        Order { notify_url: "ftp://x".to_owned(), ..order("o", 100) },
        Order { expires_at_ms: Some(0), ..order("o", 100) },
    ];
    let mut state = State::default();
    for order in bad {
        let refused = state.create(order.clone(), "p".to_owned(), 0);
        assert!(matches!(refused, Err(Refusal::Invalid { .. })), "{order:?}: {refused:?}");
    }
    assert_eq!(state.payments().count(), 0);
}

#[test]
fn a_payer_pays_once_and_every_change_is_announced() {
    let mut state = pending();
    state.end("p", Status::Failed, 1).unwrap();
    state.pay("p", 2).unwrap();
    state.pay("p", 3).unwrap();
    assert_eq!(state.payment("p").unwrap().paid_at_ms, Some(2));
    assert!(matches!(state.end("p", Status::Closed, 4), Err(Refusal::Status { .. })));
    assert_eq!(bodies(&state), ["FAILED 1.00 CNY", "SUCCESS 1.00 CNY"]);
}

#[test]
fn nothing_is_paid_after_its_time() {
    let mut state = pending();
    assert!(!state.has_expired(999));
    assert!(state.has_expired(1_000));
    assert!(matches!(state.pay("p", 1_000), Err(Refusal::Status { .. })));
    assert_eq!(state.payment("p").unwrap().status, Status::Closed);
    assert_eq!(bodies(&state), ["CLOSED 1.00 CNY"]);

    let mut state = pending();
    state.end("p", Status::Failed, 1).unwrap();
    assert!(matches!(state.pay("p", 1_000), Err(Refusal::Status { .. })));
}

#[test]
fn refunds_never_exceed_the_payment_and_have_one_result_each() {
    let mut state = pending();
    assert!(matches!(state.refund(&refund("r", 1), 5), Err(Refusal::Status { .. })));

    let mut state = paid();
    assert_eq!(state.refund(&refund("r", 60), 20), Ok(RefundOutcome::Success));
    assert_eq!(state.refund(&refund("r", 60), 21), Ok(RefundOutcome::Success));
    assert!(matches!(state.refund(&refund("r", 61), 22), Err(Refusal::Differs(_))));
    assert_eq!(
        state.refund(&refund("s", 41), 23),
        Err(Refusal::TooMuch { asked: 41, given: 60, paid: 100 })
    );
    let dollars = NewRefund { currency: "USD".to_owned(), ..refund("s", 40) };
    assert!(matches!(state.refund(&dollars, 24), Err(Refusal::Invalid { .. })));
    assert_eq!(state.payment("p").unwrap().status, Status::PartiallyRefunded);
    assert_eq!(state.refund(&refund("s", 40), 25), Ok(RefundOutcome::Success));
    assert_eq!(state.payment("p").unwrap().status, Status::Refunded);
    assert!(matches!(state.refund(&refund("t", 1), 26), Err(Refusal::TooMuch { .. })));
    let expected = ["SUCCESS 1.00 CNY", "PARTIALLY_REFUNDED 1.00 CNY", "REFUNDED 1.00 CNY"];
    assert_eq!(bodies(&state), expected);
}

#[test]
fn a_refund_id_belongs_to_one_payment() {
    let mut state = paid();
    state.create(order("o2", 100), "p2".to_owned(), 0).unwrap();
    state.pay("p2", 10).unwrap();
    state.refund(&refund("r", 10), 20).unwrap();
    let elsewhere = NewRefund { payment_id: "p2".to_owned(), ..refund("r", 10) };
    assert!(matches!(state.refund(&elsewhere, 21), Err(Refusal::Differs(_))));
}

#[test]
fn a_refund_may_wait_and_holds_its_money_meanwhile() {
    let mut state = paid();
    state.behaviour.refund_outcome = RefundOutcome::Pending;
    assert_eq!(state.refund(&refund("r", 60), 20), Ok(RefundOutcome::Pending));
    assert!(matches!(state.refund(&refund("s", 60), 21), Err(Refusal::TooMuch { .. })));
    assert_eq!(state.payment("p").unwrap().refunded_minor(false), 0);

    state.behaviour.refund_outcome = RefundOutcome::Failed;
    assert_eq!(state.refund(&refund("r", 60), 22), Ok(RefundOutcome::Failed));
    state.behaviour.refund_outcome = RefundOutcome::Success;
    assert_eq!(state.refund(&refund("r", 60), 23), Ok(RefundOutcome::Failed), "it has ended");
    assert_eq!(state.refund(&refund("s", 60), 24), Ok(RefundOutcome::Success));
}

#[test]
fn callbacks_are_made_as_told() {
    let mut state = pending();
    state.behaviour.callback.copies = 3;
    state.behaviour.callback.amount_override = Some("1.01".to_owned());
    state.pay("p", 10).unwrap();
    assert_eq!(bodies(&state), ["SUCCESS 1.01 CNY"; 3]);
    let ids: Vec<&str> = state.outbox.callbacks().map(|c| c.webhook_id.as_str()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");

    let mut state = pending();
    state.behaviour.callback.send = false;
    state.pay("p", 10).unwrap();
    assert_eq!(state.outbox.callbacks().count(), 0);
}

#[test]
fn the_file_gives_back_what_was_known() {
    let mut state = paid();
    state.refund(&refund("r", 60), 20).unwrap();
    let file = serde_json::to_string(&state).unwrap();
    let mut again: State = serde_json::from_str(&file).unwrap();
    assert_eq!(serde_json::to_string(&again).unwrap(), file);
    assert!(again.outbox.take_fresh().is_empty());
    again.outbox.all_waiting_are_fresh();
    assert_eq!(again.outbox.take_fresh(), [1, 2]);
}

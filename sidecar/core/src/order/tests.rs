//! Tables over every state and status, and every amount of two decimals.

use super::*;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn nanos(text: &str) -> Nanos {
    text.parse().unwrap()
}

#[test]
fn every_amount_of_two_decimals_is_its_number_of_fen() {
    // The predecessor lost one fen on 65,624 of these, by way of a float.
    for fen in 1..=999_999_i64 {
        let amount = nanos(&format!("{}.{:02}", fen / 100, fen % 100));
        assert_eq!(minor_units(amount, 2), Ok(fen));
        assert_eq!(orderable(amount, 2, nanos("999999.99")), Ok(fen));
        assert_eq!(from_minor_units(fen, 2), Some(amount));
    }
}

#[test]
fn an_amount_has_at_most_the_decimals_of_its_currency() {
    for (amount, decimals, minor) in [
        ("100", 0, Some(100)),
        ("100.5", 0, None),
        ("0.29", 2, Some(29)),
        ("19.99", 2, Some(1_999)),
        ("0.001", 2, None),
        ("1.234", 3, Some(1_234)),
        ("1.2345", 3, None),
        ("0.000000001", 9, Some(1)),
        ("1", 10, None),
        ("-0.01", 2, Some(-1)),
    ] {
        assert_eq!(minor_units(nanos(amount), decimals).ok(), minor, "{amount} {decimals}");
    }
    assert_eq!(from_minor_units(i64::MAX, 2), None);
}

#[test]
fn orders_have_a_least_and_a_most() {
    let refused = |amount, decimals| {
        orderable(nanos(amount), decimals, nanos("100")).unwrap_err().to_string()
    };
    assert_eq!(refused("0", 2), "0 is less than 0.01; write at least 0.01");
    assert_eq!(refused("-5", 2), "-5 is less than 0.01; write at least 0.01");
    assert_eq!(refused("0.5", 0), "0.5 is less than 1; write at least 1");
    assert_eq!(refused("100.01", 2), "100.01 is more than 100; write at most 100");
    assert_eq!(
        refused("0.011", 2),
        "0.011 has more decimals than its currency, which has 2; write at most 2"
    );
    assert_eq!(orderable(nanos("0.01"), 2, nanos("100")), Ok(1));
    assert_eq!(orderable(nanos("0.01"), 3, nanos("100")), Ok(10));
    assert_eq!(orderable(nanos("100"), 2, nanos("100")), Ok(10_000));
}

#[test]
fn every_status_in_every_state_has_its_step() {
    use PaymentStatus as P;
    use Step::{Ask, Credit, End, Nothing, Quarantine};
    let refund = |credit_first| Step::Refund { credit_first };
    // (state, status, told by a callback, confirmed by the payment service)
    let table = [
        (State::Pending, P::Pending, Nothing, Nothing),
        (State::Pending, P::Success, Credit, Credit),
        (State::Pending, P::Failed, End(State::Failed), End(State::Failed)),
        (State::Pending, P::Closed, End(State::Closed), End(State::Closed)),
        (State::Pending, P::PartiallyRefunded, Ask, refund(true)),
        (State::Pending, P::Refunded, Ask, refund(true)),
        (State::Paid, P::Pending, Nothing, Nothing),
        (State::Paid, P::Success, Nothing, Nothing),
        (State::Paid, P::Failed, Nothing, Nothing),
        (State::Paid, P::Closed, Nothing, Nothing),
        (State::Paid, P::PartiallyRefunded, Ask, refund(false)),
        (State::Paid, P::Refunded, Ask, refund(false)),
        (State::Failed, P::Pending, Nothing, Nothing),
        (State::Failed, P::Success, Ask, Credit),
        (State::Failed, P::Failed, Nothing, Nothing),
        (State::Failed, P::Closed, Nothing, Nothing),
        (State::Failed, P::PartiallyRefunded, Ask, refund(true)),
        (State::Failed, P::Refunded, Ask, refund(true)),
        (State::Closed, P::Pending, Nothing, Nothing),
        (State::Closed, P::Success, Quarantine, Quarantine),
        (State::Closed, P::Failed, Nothing, Nothing),
        (State::Closed, P::Closed, Nothing, Nothing),
        (State::Closed, P::PartiallyRefunded, Quarantine, Quarantine),
        (State::Closed, P::Refunded, Quarantine, Quarantine),
        (State::PartlyRefunded, P::Pending, Nothing, Nothing),
        (State::PartlyRefunded, P::Success, Nothing, Nothing),
        (State::PartlyRefunded, P::Failed, Nothing, Nothing),
        (State::PartlyRefunded, P::Closed, Nothing, Nothing),
        (State::PartlyRefunded, P::PartiallyRefunded, Ask, refund(false)),
        (State::PartlyRefunded, P::Refunded, Ask, refund(false)),
        (State::Refunded, P::Pending, Nothing, Nothing),
        (State::Refunded, P::Success, Nothing, Nothing),
        (State::Refunded, P::Failed, Nothing, Nothing),
        (State::Refunded, P::Closed, Nothing, Nothing),
        (State::Refunded, P::PartiallyRefunded, Nothing, Nothing),
        (State::Refunded, P::Refunded, Nothing, Nothing),
    ];
    assert_eq!(table.len(), State::ALL.len() * P::ALL.len());
    for (state, status, told, confirmed) in table {
        assert_eq!(on_news(state, status), told, "{state} {status}");
        assert_eq!(on_confirmed(state, status), confirmed, "{state} {status}");
    }
}

#[test]
fn a_claim_must_fit_to_the_last_fen_and_letter() {
    let order =
        Expected { payment_id: Some("PAY1"), amount: nanos("10"), currency: "CNY", user_id: "ada" };
    let claim =
        Claim { payment_id: "PAY1", amount: nanos("10.00"), currency: "cny", user_id: Some("ada") };
    assert_eq!(mismatch(&order, &claim), None);
    assert_eq!(mismatch(&Expected { payment_id: None, ..order }, &claim), None);
    assert_eq!(mismatch(&order, &Claim { user_id: None, ..claim }), None);
    for (claim, found) in [
        (Claim { payment_id: "PAY2", ..claim }, Mismatch::Payment),
        (Claim { payment_id: "pay1", ..claim }, Mismatch::Payment),
        (Claim { amount: nanos("9.99"), ..claim }, Mismatch::Amount),
        (Claim { amount: nanos("10.01"), ..claim }, Mismatch::Amount),
        (Claim { currency: "USD", ..claim }, Mismatch::Currency),
        (Claim { user_id: Some("Ada"), ..claim }, Mismatch::User),
    ] {
        assert_eq!(mismatch(&order, &claim), Some(found));
    }
}

#[test]
fn questions_become_rarer_until_the_order_is_closed() {
    let mut age = FIRST_ASKED_AFTER;
    let mut minutes = vec![age.as_secs() / 60];
    while age < CLOSED_AFTER {
        age += ask_again_after(age, CLOSED_AFTER);
        minutes.push(age.as_secs() / 60);
    }
    assert_eq!(minutes[..8], [1, 2, 4, 8, 16, 32, 64, 124]);
    assert_eq!(minutes.last(), Some(&(24 * 60)));
    assert_eq!(minutes.len(), 30);
    // A payment service that is away for longer is asked further on.
    assert_eq!(ask_again_after(CLOSED_AFTER, CLOSED_AFTER), ASKED_EVERY_AT_MOST);
    assert_eq!(ask_again_after(Duration::ZERO, CLOSED_AFTER), FIRST_ASKED_AFTER);
}

#[test]
fn refunds_take_free_money_only_unless_the_operator_says_so() {
    let decide = |state, amount, left, available, allow| {
        refund(state, nanos(amount), nanos(left), nanos(available), allow)
            .map(|split| format!("{} {}", split.taken, split.owed))
            .map_err(|refusal| refusal.to_string())
    };
    let ok = |text: &str| Ok(text.to_owned());
    assert_eq!(decide(State::Paid, "10", "10", "12", false), ok("10 0"));
    assert_eq!(decide(State::PartlyRefunded, "4", "4", "4", false), ok("4 0"));
    assert_eq!(decide(State::Paid, "10", "10", "3", true), ok("3 7"));
    assert_eq!(decide(State::Paid, "10", "10", "0", true), ok("0 10"));
    assert_eq!(
        decide(State::Paid, "10", "10", "9.99", false),
        Err("the account has 9.99 available, less than 10; refund at most that, or say allow_receivable: the rest is then \
             owed"
            .to_owned())
    );
    assert_eq!(
        decide(State::Paid, "10.01", "10", "20", true),
        Err("10.01 is more than the 10 that is left of the payment; write at most 10".to_owned())
    );
    for state in [State::Pending, State::Failed, State::Closed, State::Refunded] {
        let refused = decide(state, "1", "10", "20", true).unwrap_err();
        assert_eq!(refused, format!("the order is {state}; only paid orders can be refunded"));
    }
}

#[test]
fn words_are_read_as_they_are_written() {
    for state in State::ALL {
        assert_eq!(state.as_str().parse(), Ok(*state));
    }
    for status in PaymentStatus::ALL {
        assert_eq!(status.as_str().parse(), Ok(*status));
        assert_eq!(status.as_str().to_lowercase().parse(), Ok(*status));
        assert_eq!(format!("PAYMENT_STATUS_{status}").parse(), Ok(*status));
    }
    assert_eq!("wechat".parse(), Ok(Method::Wechatpay));
    assert_eq!(
        "cash".parse::<Method>().unwrap_err().to_string(),
        "\"cash\" is no payment method; write one of alipay, wechatpay, stripe, paypal, applepay, googlepay"
    );
    assert_eq!(state_after_refunds(nanos("10"), nanos("0")), State::Paid);
    assert_eq!(state_after_refunds(nanos("10"), nanos("9.99")), State::PartlyRefunded);
    assert_eq!(state_after_refunds(nanos("10"), nanos("10")), State::Refunded);
}

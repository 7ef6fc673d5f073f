//! Callbacks that do not fit their order, and accounts that are not as usual.

use farebox_core::order::PaymentStatus;
use farebox_core::wire::JournalReport;
use farebox_sidecar::app::{AnomalyFilter, Callback, CallbackError, Noted};

use super::{fixture, news, order, paid, success};
use crate::fixture::{Fixture, key, nanos};

fn kind(answer: Result<Noted, CallbackError>) -> &'static str {
    match answer.unwrap_err() {
        CallbackError::Mismatch { kind, .. } => kind,
        other => panic!("{other}"),
    }
}

/// Delivers what does not fit, twice: the order stays as it is, and one row counts.
async fn assert_refused(farebox: &Fixture, callback: &Callback, expected: &str) {
    let case = format!("{callback:?}");
    let seen = farebox.anomalies().await.len();
    let before = farebox.database.dump(&["recharge_order", "outbox"], &[]).await;
    for _ in 0..2 {
        assert_eq!(kind(farebox.app.callback(callback).await), expected, "{case}");
    }
    assert_eq!(farebox.database.dump(&["recharge_order", "outbox"], &[]).await, before, "{case}");
    let new = farebox.anomalies().await.split_off(seen);
    assert_eq!(new, [format!("{expected} {} {} 2", callback.order_id, callback.payment_id)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_kept_and_the_order_can_still_be_paid() {
    let farebox = fixture().await;
    // Another order of the same user, whose payment is known.
    let other = order(&farebox.app, "u", "10").await;
    farebox.app.callback(&news(&other, "p-other", "10", PaymentStatus::Pending)).await.unwrap();
    for (number, is_named) in [false, true].into_iter().enumerate() {
        let id = order(&farebox.app, "u", "10").await;
        let payment = format!("p-{number}");
        if is_named {
            let named = news(&id, &payment, "10", PaymentStatus::Pending);
            farebox.app.callback(&named).await.unwrap();
        }
        let right = success(&id, &payment, "10");
        for amount in ["10.01", "9.99", "10.000000001", "9.999999999", "0", "-10", "1000"] {
            let wrong = Callback { amount: nanos(amount), ..right.clone() };
            assert_refused(&farebox, &wrong, "amount").await;
        }
        for currency in ["USD", "", "CNYX", "￥"] {
            let wrong = Callback { currency: currency.to_owned(), ..right.clone() };
            assert_refused(&farebox, &wrong, "currency").await;
        }
        for user in ["v", "U", " u"] {
            let wrong = Callback { user_id: Some(user.to_owned()), ..right.clone() };
            assert_refused(&farebox, &wrong, "user").await;
        }
        let taken = Callback { payment_id: "p-other".to_owned(), ..right.clone() };
        let kind = if is_named { "payment" } else { "order" };
        assert_refused(&farebox, &taken, kind).await;
        if is_named {
            let unheard_of = Callback { payment_id: "p-nobody".to_owned(), ..right.clone() };
            assert_refused(&farebox, &unheard_of, "payment").await;
        }
        let small =
            Callback { currency: "cny".to_owned(), user_id: Some("u".to_owned()), ..right.clone() };
        assert!(farebox.app.callback(&small).await.unwrap().credited);
        // Once it is paid, the same mistakes change as little.
        let wrong = Callback { amount: nanos("11"), ..right };
        assert_refused(&farebox, &wrong, "amount").await;
    }
    assert!(farebox.app.callback(&success(&other, "p-other", "10")).await.unwrap().credited);
    assert_eq!(farebox.money("u").await, "30 0 0");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_payment_never_pays_two_orders() {
    let farebox = fixture().await;
    let first = paid(&farebox.app, "u", "10", "p1").await;
    for account in ["u", "v"] {
        let second = order(&farebox.app, account, "10").await;
        assert_refused(&farebox, &success(&second, "p1", "10"), "order").await;
        assert_eq!(farebox.order_line(&second).await, "pending 10 NULL not credited");
    }
    assert!(!farebox.app.callback(&success(&first, "p1", "10")).await.unwrap().credited);
    assert_eq!(farebox.money("u").await, "10 0 0");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_for_an_order_that_nobody_made_is_kept_for_people() {
    let farebox = fixture().await;
    for status in PaymentStatus::ALL {
        let error = farebox.app.callback(&news("recharge_x", "p1", "10", *status)).await;
        assert!(matches!(error, Err(CallbackError::UnknownOrder { .. })), "{status}");
    }
    farebox.app.callback(&success("recharge_x", "p1", "10")).await.unwrap_err();
    assert_eq!(farebox.anomalies().await, ["unknown_order recharge_x p1 2"]);
    let anomaly = &farebox.app.anomalies(&AnomalyFilter::default()).await.unwrap().anomalies[0];
    assert_eq!(anomaly.expected, serde_json::Value::Null);
    assert_eq!(
        (&anomaly.found["amount"], &anomaly.found["status"]),
        (&"10".into(), &"SUCCESS".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_account_owes_is_collected_from_what_is_paid() {
    let farebox = fixture().await;
    let mut edge = farebox.gateway("edge-1");
    let usage = vec![JournalReport { line: 1, key: key("u", "asset"), used: 7 }];
    edge.send(vec![], vec![], usage).await;
    assert_eq!(farebox.money("u").await, "0 0 7");
    paid(&farebox.app, "u", "5", "p1").await;
    assert_eq!(farebox.money("u").await, "0 0 2");
    paid(&farebox.app, "u", "5", "p2").await;
    assert_eq!(farebox.money("u").await, "3 0 0");
    let told = "SELECT JSON_VALUE(payload_json, '$.data.balance') FROM outbox ORDER BY outbox_id";
    assert_eq!(farebox.database.rows(told).await, ["0", "3"]);
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_in_another_currency_is_not_credited() {
    let farebox = fixture().await;
    let mut edge = farebox.gateway("edge-1");
    // An account without money, of a time when the operator billed in dollars.
    edge.want(crate::fixture::want("u", "asset", 1, 1)).await.unwrap_err();
    let id = order(&farebox.app, "u", "10").await;
    let pay = success(&id, "p1", "10");
    assert_eq!(farebox.database.run("UPDATE user_balance SET currency = 'USD'").await, 1);
    assert_eq!(kind(farebox.app.callback(&pay).await), "currency");
    assert_eq!(kind(farebox.app.callback(&pay).await), "currency");
    assert_eq!(farebox.anomalies().await, [format!("currency {id} p1 2")]);
    assert_eq!(farebox.order_line(&id).await, "pending 10 p1 not credited");
    assert_eq!(farebox.money("u").await, "0 0 0");
    farebox.assert_sound().await;
    farebox.database.run("UPDATE user_balance SET currency = 'CNY'").await;
    assert!(farebox.app.callback(&pay).await.unwrap().credited);
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balance_beyond_the_range_of_money_is_left_as_it_is() {
    let farebox = fixture().await;
    farebox.credit("u", "9223372036").await;
    let id = order(&farebox.app, "u", "10").await;
    let error = farebox.app.callback(&success(&id, "p1", "10")).await.unwrap_err();
    assert!(matches!(error, CallbackError::Store(_)), "{error}");
    assert_eq!(farebox.order_line(&id).await, "pending 10 NULL not credited");
    assert_eq!(farebox.count("outbox").await, "0");
    farebox.assert_sound().await;
}

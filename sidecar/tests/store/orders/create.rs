//! Orders are made: once per key, whether or not the payment service answers.

use farebox_core::order::{Method, PaymentStatus};
use farebox_sidecar::app::{NewRecharge, RechargeError};
use farebox_sidecar::payment::PaymentError;

use super::{fixture, news, place, recharge};
use crate::fixture::{Fixture, nanos};

#[tokio::test(flavor = "multi_thread")]
async fn an_order_outlives_a_payment_service_that_is_away() {
    let farebox = fixture().await;
    let new = recharge("u", "10", "k");
    let error = farebox.app.recharge(&new).await.unwrap_err();
    let RechargeError::Unavailable { order_id, source: PaymentError::Unreachable { .. } } = &error
    else {
        panic!("{error}")
    };
    assert!(order_id.starts_with("recharge_"), "{order_id}");
    let text = error.to_string();
    assert!(
        text.ends_with(&format!(
            "; order {order_id} is kept: send the same request with the same key again"
        )),
        "{text}"
    );
    assert_eq!(farebox.order_line(order_id).await, "pending 10 NULL not credited");
    let due = "SELECT TIMESTAMPDIFF(SECOND, created_at, ask_at), source FROM recharge_order";
    assert_eq!(farebox.database.rows(due).await, ["60 farebox"]);
    assert!(farebox.app.account(&"u".parse().unwrap()).await.unwrap().is_none());

    // The poller asks in vain and asks again later; nothing is closed unasked, however old it is.
    let long_ago = "UPDATE recharge_order SET ask_at = UTC_TIMESTAMP(3) - INTERVAL 1 SECOND, created_at = '2020-01-01'";
    farebox.database.run(long_ago).await;
    assert_eq!(farebox.app.ask_for_payments().await.unwrap(), 0);
    let later = "SELECT status, ask_at > UTC_TIMESTAMP(3) FROM recharge_order";
    assert_eq!(farebox.database.rows(later).await, ["pending 1"]);
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_names_one_order_of_its_user() {
    let farebox = fixture().await;
    let new = recharge("u", "10", "k");
    let first = place(&farebox.app, &new).await;
    assert_eq!(place(&farebox.app, &new).await, first);
    let retyped = NewRecharge { currency: "cny".to_owned(), ..new.clone() };
    assert_eq!(place(&farebox.app, &retyped).await, first);
    let elsewhere = NewRecharge { client_ip: String::new(), ..new.clone() };
    assert_eq!(place(&farebox.app, &elsewhere).await, first, "a user may move");

    for other in [
        NewRecharge { amount: nanos("10.01"), ..new.clone() },
        NewRecharge { method: Method::Paypal, ..new.clone() },
        NewRecharge { return_url: Some("https://shop.example/".to_owned()), ..new.clone() },
    ] {
        let error = farebox.app.recharge(&other).await.unwrap_err();
        assert!(matches!(&error, RechargeError::Conflict { key } if key == "k"), "{error}");
    }
    assert_ne!(place(&farebox.app, &recharge("v", "10", "k")).await, first);
    assert_ne!(place(&farebox.app, &recharge("u", "10", "K")).await, first, "keys have a case");
    assert_eq!(farebox.count("recharge_order").await, "3");

    // An order that ended is still the one that its key names, and it is no error any more.
    farebox.app.callback(&news(&first, "p1", "10", PaymentStatus::Closed)).await.unwrap();
    let view = farebox.app.recharge(&new).await.unwrap();
    assert_eq!((view.order_id, view.state.as_str()), (first, "closed"));
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_ordered_is_refused_before_anything_is_written() {
    let farebox = fixture().await;
    let new = recharge("u", "10", "k");
    let with_amount = |amount| NewRecharge { amount: nanos(amount), ..new.clone() };
    let with_currency = |text: &str| NewRecharge { currency: text.to_owned(), ..new.clone() };
    for (refused, text) in [
        (with_amount("0"), "amount 0 is less than 0.01; write at least 0.01"),
        (with_amount("-10"), "amount -10 is less than 0.01; write at least 0.01"),
        (
            with_amount("10.001"),
            "amount 10.001 has more decimals than its currency, which has 2; write at most 2",
        ),
        (with_amount("1000000"), "amount 1000000 is more than 999999.99; write at most 999999.99"),
        (with_currency(""), "currency is missing; write CNY"),
        (with_currency("USD"), "currency is \"USD\"; accounts are kept in CNY: write that"),
    ] {
        assert_eq!(farebox.app.recharge(&refused).await.unwrap_err().to_string(), text);
    }
    let plain = Fixture::new(&[], &[]).await;
    let error = plain.app.recharge(&new).await.unwrap_err();
    assert!(matches!(error, RechargeError::NotConfigured), "{error}");
    for farebox in [farebox, plain] {
        assert_eq!(farebox.count("recharge_order").await, "0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_two_hundred_pending_orders_at_most() {
    let farebox = fixture().await;
    let first = place(&farebox.app, &recharge("u", "1", "k")).await;
    let more = "INSERT INTO recharge_order
          (order_id, user_id, amount, status, source, idempotency_key, ask_at, created_at, updated_at)
        SELECT CONCAT('recharge_', seq), 'u', 1, 'pending', 'farebox', CONCAT('key-', seq), UTC_TIMESTAMP(3),
          UTC_TIMESTAMP(3), UTC_TIMESTAMP(3)
        FROM JSON_TABLE(CONCAT('[', REPEAT('0,', 198), '0]'), '$[*]' COLUMNS (seq FOR ORDINALITY)) AS numbers";
    assert_eq!(farebox.database.run(more).await, 199);
    let error = farebox.app.recharge(&recharge("u", "1", "one more")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "200 orders of this account wait for their payment; pay one, or wait until they are closed"
    );
    // What is there can be asked for and paid, and others are not affected.
    assert_eq!(place(&farebox.app, &recharge("u", "1", "k")).await, first);
    place(&farebox.app, &recharge("v", "1", "one more")).await;
    farebox.app.callback(&super::success(&first, "p1", "1")).await.unwrap();
    place(&farebox.app, &recharge("u", "1", "one more")).await;
    farebox.assert_sound().await;
}

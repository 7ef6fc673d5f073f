//! Many callbacks and orders at once, on two sidecars.

use std::collections::BTreeSet;

use farebox_sidecar::app::CallbackError;
use tokio::task::JoinSet;

use super::{fixture, order, place, recharge, second_sidecar, success};

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_identical_callbacks_at_two_sidecars_credit_once() {
    let farebox = fixture().await;
    let sidecars = [farebox.app.clone(), second_sidecar(&farebox).await];
    let id = order(&farebox.app, "new", "10").await;
    let mut callbacks = JoinSet::new();
    for number in 0..100 {
        let (app, callback) = (sidecars[number % 2].clone(), success(&id, "p1", "10"));
        callbacks.spawn(async move { app.callback(&callback).await.unwrap() });
    }
    let noted = callbacks.join_all().await;
    assert_eq!(noted.iter().filter(|noted| noted.credited).count(), 1);
    assert!(noted.iter().all(|noted| noted.state.as_str() == "paid"));
    assert_eq!(farebox.money("new").await, "10 0 0");
    assert_eq!(farebox.count("ledger_entry WHERE book = 'user'").await, "1");
    assert_eq!(farebox.count("outbox").await, "1");
    assert_eq!(farebox.count("payment_anomaly").await, "0");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_callbacks_for_an_unknown_order_are_one_anomaly() {
    let farebox = fixture().await;
    let sidecars = [farebox.app.clone(), second_sidecar(&farebox).await];
    let mut callbacks = JoinSet::new();
    for number in 0..100 {
        let app = sidecars[number % 2].clone();
        let callback = success("recharge_x", "p1", "10");
        callbacks.spawn(async move { app.callback(&callback).await.unwrap_err() });
    }
    for error in callbacks.join_all().await {
        assert!(matches!(error, CallbackError::UnknownOrder { .. }), "{error}");
    }
    assert_eq!(farebox.anomalies().await, ["unknown_order recharge_x p1 100"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_orders_of_a_new_user_paid_at_once_are_both_credited() {
    let farebox = fixture().await;
    let sidecars = [farebox.app.clone(), second_sidecar(&farebox).await];
    let mut orders = Vec::new();
    for user in 0..30 {
        for amount in ["10", "0.5"] {
            let account = format!("user-{user}");
            orders.push((order(&farebox.app, &account, amount).await, amount));
        }
    }
    let mut callbacks = JoinSet::new();
    for (number, (id, amount)) in orders.into_iter().enumerate() {
        let (app, callback) =
            (sidecars[number % 2].clone(), success(&id, &format!("p-{id}"), amount));
        callbacks.spawn(async move { app.callback(&callback).await.unwrap().credited });
    }
    assert!(callbacks.join_all().await.into_iter().all(|credited| credited));
    for user in 0..30 {
        assert_eq!(farebox.money(&format!("user-{user}")).await, "10.5 0 0");
    }
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_orders_at_once_with_one_payment_are_paid_by_it_once() {
    let farebox = fixture().await;
    let sidecars = [farebox.app.clone(), second_sidecar(&farebox).await];
    let mut callbacks = JoinSet::new();
    for pair in 0..20 {
        for app in &sidecars {
            let id = order(app, &format!("user-{pair}"), "10").await;
            let (app, callback) = (app.clone(), success(&id, &format!("p-{pair}"), "10"));
            callbacks.spawn(async move { (pair, app.callback(&callback).await) });
        }
    }
    let mut credited = BTreeSet::new();
    let mut refused = 0;
    for (pair, answer) in callbacks.join_all().await {
        match answer {
            Ok(noted) => assert!(noted.credited && credited.insert(pair)),
            Err(CallbackError::Mismatch { kind: "order", .. }) => refused += 1,
            Err(err) => panic!("{err}"),
        }
    }
    assert_eq!((credited.len(), refused), (20, 20));
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_orders_of_five_hundred_users_at_once_are_all_written() {
    let farebox = fixture().await;
    let sidecars = [farebox.app.clone(), second_sidecar(&farebox).await];
    let mut users = JoinSet::new();
    for task in 0..100 {
        let app = sidecars[task % 2].clone();
        users.spawn(async move {
            let mut ids = Vec::new();
            for number in 0..10 {
                // Every account twice, at two sidecars.
                let account = format!("user-{}", (task / 2) * 10 + number);
                ids.push(order(&app, &account, "10").await);
            }
            ids
        });
    }
    let ids: BTreeSet<String> = users.join_all().await.into_iter().flatten().collect();
    assert_eq!(ids.len(), 1_000);
    let counts =
        "SELECT COUNT(*), COUNT(DISTINCT user_id), SUM(status = 'pending') FROM recharge_order";
    assert_eq!(farebox.database.rows(counts).await, ["1000 500 1000"]);
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_orders_of_one_user_at_once_are_fifty_and_one_key_is_one() {
    let farebox = fixture().await;
    let sidecars = [farebox.app.clone(), second_sidecar(&farebox).await];
    for (keys, expected) in [(50, 50), (1, 1)] {
        let mut orders = JoinSet::new();
        for number in 0..50 {
            let app = sidecars[number % 2].clone();
            let new = recharge("u", "10", &format!("{keys}-{}", number % keys));
            orders.spawn(async move { place(&app, &new).await });
        }
        let ids: BTreeSet<String> = orders.join_all().await.into_iter().collect();
        assert_eq!(ids.len(), expected);
    }
    assert_eq!(farebox.count("recharge_order").await, "51");
    farebox.assert_sound().await;
}

//! Recharge orders. The payment service is away in all of these tests: orders stay pending until a callback comes.

use std::time::Duration;

use farebox_core::order::{Method, PaymentStatus};
use farebox_sidecar::app::{App, Callback, NewRecharge, NewRefund, RechargeError};
use farebox_sidecar::config::{HostPort, PaymentService};
use farebox_sidecar::payment::PaymentClient;
use farebox_sidecar::store::Store;

use crate::fixture::{Fixture, nanos, settings};

mod anomalies;
mod callback;
mod concurrency;
mod create;
mod outbox;
mod property;
mod states;
mod views;

/// A payment service that nobody started: port 1 of the loopback address is reserved, so nothing listens there.
pub(crate) fn away() -> PaymentClient {
    let settings = PaymentService {
        grpc_addr: HostPort { host: "127.0.0.1".to_owned(), port: 1 },
        timeout: Duration::from_secs(5),
        return_url: None,
        notify_url: "http://127.0.0.1:8107/internal/v1/billing/callback".to_owned(),
        callback_secrets: vec![],
        tls: None,
    };
    PaymentClient::new(&settings).unwrap()
}

/// A fixture whose payment service is away.
pub(crate) async fn fixture() -> Fixture {
    with_payment(Fixture::new(&[], &[("asset", "1")]).await)
}

pub(crate) fn with_payment(fixture: Fixture) -> Fixture {
    Fixture { app: fixture.app.with_payment(away()), ..fixture }
}

/// Another sidecar on the fixture's database, with as many connections.
async fn second_sidecar(farebox: &Fixture) -> App {
    let store = Store::connect(&farebox.database.options, 16).await.unwrap();
    App::new(store, settings(&[], &[("asset", "1")])).with_payment(away())
}

pub(crate) fn recharge(account: &str, amount: &str, key: &str) -> NewRecharge {
    NewRecharge {
        account: account.parse().unwrap(),
        amount: nanos(amount),
        currency: "CNY".to_owned(),
        method: Method::Alipay,
        return_url: None,
        key: key.to_owned(),
        client_ip: "192.0.2.7".to_owned(),
    }
}

/// Makes the order that a request asks for, which stays pending: its payment cannot begin.
async fn place(app: &App, new: &NewRecharge) -> String {
    match app.recharge(new).await.unwrap_err() {
        RechargeError::Unavailable { order_id, .. } => order_id,
        other => panic!("{other}"),
    }
}

/// A new pending order.
pub(crate) async fn order(app: &App, account: &str, amount: &str) -> String {
    place(app, &recharge(account, amount, &format!("key-{}", rand::random::<u64>()))).await
}

/// What the payment service says about an order's payment, as it should be.
pub(crate) fn news(
    order_id: &str,
    payment_id: &str,
    amount: &str,
    status: PaymentStatus,
) -> Callback {
    Callback {
        payment_id: payment_id.to_owned(),
        order_id: order_id.to_owned(),
        amount: nanos(amount),
        currency: "CNY".to_owned(),
        status,
        user_id: None,
    }
}

pub(crate) fn success(order_id: &str, payment_id: &str, amount: &str) -> Callback {
    news(order_id, payment_id, amount, PaymentStatus::Success)
}

/// A new order that was paid as `payment_id`.
pub(crate) async fn paid(app: &App, account: &str, amount: &str, payment_id: &str) -> String {
    let order_id = order(app, account, amount).await;
    assert!(app.callback(&success(&order_id, payment_id, amount)).await.unwrap().credited);
    order_id
}

/// Begins a refund, which stays pending: the payment service cannot be asked. Its id.
pub(crate) async fn refund(app: &App, order_id: &str, amount: &str) -> String {
    let new = NewRefund {
        order_id: order_id.to_owned(),
        amount: Some(nanos(amount)),
        reason: "test".to_owned(),
        key: format!("key-{}", rand::random::<u64>()),
        actor: "tests".to_owned(),
        allow_receivable: true,
    };
    let refund = app.refund(&new).await.unwrap();
    assert_eq!(refund.state, "pending");
    refund.refund_id
}

impl Fixture {
    /// Ends a refund as if the payment service had given the money back.
    pub(crate) async fn end_refund(&self, refund_id: &str) {
        let refund = format!("FROM recharge_refund WHERE refund_id = '{refund_id}'");
        let sql = format!(
            "UPDATE recharge_order
             SET refunded_amount = refunded_amount + (SELECT amount {refund}),
                 status = IF(refunded_amount = amount, 'refunded', 'partly_refunded')
             WHERE order_id = (SELECT order_id {refund})"
        );
        assert_eq!(self.database.run(sql).await, 1);
        let sql = format!(
            "UPDATE recharge_refund SET state = 'done', ask_at = NULL WHERE refund_id = '{refund_id}'"
        );
        assert_eq!(self.database.run(sql).await, 1);
    }

    /// `state amount payment_order_id`, and whether the order was credited.
    async fn order_line(&self, order_id: &str) -> String {
        let sql = format!(
            "SELECT status, CAST(amount AS DOUBLE), payment_order_id, IF(credited_at IS NULL, 'not credited', 'credited')
             FROM recharge_order WHERE order_id = '{order_id}'"
        );
        self.database.rows(sql).await.join("\n")
    }

    /// `kind order payment times_seen`, the oldest first.
    pub(crate) async fn anomalies(&self) -> Vec<String> {
        let sql = "SELECT kind, order_id, payment_order_id, times_seen FROM payment_anomaly ORDER BY payment_anomaly_id";
        self.database.rows(sql).await
    }

    async fn count(&self, what: &str) -> String {
        self.database.rows(format!("SELECT COUNT(*) FROM {what}")).await.join(" ")
    }
}

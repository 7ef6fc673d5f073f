//! Many at once through two sidecars: every order is credited once, and everybody gets an answer.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use farebox_tests::sidecar::Sidecar;
use farebox_tests::{Client, Plan, Stack, eventually, run};
use futures_util::future::join_all;
use serde_json::json;
use tokio::sync::OnceCell;

use super::{Order, RECHARGE, body, credited_once, order, ordered, start, state};

struct Crowded {
    stack: Stack,
    second: Sidecar,
}

/// Two sidecars on one database.
async fn crowded() -> &'static Crowded {
    static CROWDED: OnceCell<Crowded> = OnceCell::const_new();
    let start = async || {
        let stack = start(Plan::reference().without_gateway()).await;
        let second = stack.another_sidecar("second").await.unwrap_or_else(|err| panic!("{err}"));
        Crowded { stack, second }
    };
    CROWDED.get_or_init(start).await
}

impl Crowded {
    /// The callback addresses of both sidecars.
    fn notify_urls(&self) -> [String; 2] {
        [&self.stack.sidecar, &self.second].map(|sidecar| {
            format!("http://{}/internal/v1/billing/callback", sidecar.addresses().http)
        })
    }

    /// Orders of these users, each under the key of its number, `at_once` callers on both sidecars in turn.
    async fn order_all(&self, users: &[String], at_once: usize) -> Vec<Order> {
        let clients = [self.stack.sidecar.client(), self.second.client()];
        let (next, made) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let caller = async || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(user) = users.get(number) else { return };
                let order = insist(&clients[number % 2], user, &format!("key-{number}")).await;
                made.lock().unwrap().push(order);
            }
        };
        join_all((0..at_once).map(|_| caller())).await;
        made.into_inner().unwrap()
    }

    /// Everybody pays, so many at a time; waits until all orders are paid.
    async fn pay_all(&self, orders: &[Order], at_once: usize) {
        let next = AtomicUsize::new(0);
        let payer = async || {
            while let Some(order) = orders.get(next.fetch_add(1, Ordering::Relaxed)) {
                assert_eq!(self.stack.payment.pay(&order.payment).await.status, 200);
            }
        };
        join_all((0..at_once).map(|_| payer())).await;
        let ids: Vec<String> = orders.iter().map(|order| format!("'{}'", order.id)).collect();
        let unpaid = format!(
            "SELECT COUNT(*) FROM recharge_order WHERE status <> 'paid' AND order_id IN ({})",
            ids.join(", ")
        );
        eventually!(
            self.stack.sql_one(&unpaid) == "0",
            "{} unpaid\n{}",
            self.stack.sql_one(&unpaid),
            self.stack.sidecar.log()
        );
    }
}

/// Asks until there is an order: a refusal that says when to come again is not the end.
async fn insist(client: &Client, user: &str, key: &str) -> Order {
    loop {
        let call = client.post(RECHARGE).asserted(user).header("idempotency-key", key);
        let answer = call.json(&body("1.5")).send().await;
        if answer.status != 503 {
            return order(&answer);
        }
        assert!(!answer.header("retry-after").is_empty(), "{}", answer.body);
    }
}

#[test]
fn a_hundred_callbacks_at_once_credit_once() {
    run(async {
        let crowded = crowded().await;
        let stack = &crowded.stack;
        let order = ordered(stack, "hundred", "10").await;
        let urls = crowded.notify_urls();
        let send = |number: usize| {
            let url = &urls[number % 2];
            let change =
                json!({ "url": url, "webhook_id": "msg_same", "fields": { "status": "SUCCESS" } });
            let order = &order;
            async move { super::callback(stack, order, change).await }
        };
        let answers = join_all((0..100).map(send)).await;
        for answer in &answers {
            assert_eq!(answer.status, Some(200), "{}", answer.body);
            assert_eq!(answer.json()["state"], "paid");
        }
        credited_once(stack, &order.id, "10");
        assert_eq!(stack.account("hundred").balance, "10");
    });
}

/// All callbacks of one account at once wait for the same row.
#[test]
fn fifty_recharges_of_one_user_at_once() {
    run(async {
        let crowded = crowded().await;
        let users = vec!["fifty".to_owned(); 50];
        let orders = crowded.order_all(&users, 50).await;
        let ids: std::collections::BTreeSet<&str> =
            orders.iter().flat_map(|order| [order.id.as_str(), &order.payment]).collect();
        assert_eq!(ids.len(), 100, "all orders and payments are distinct");
        crowded.pay_all(&orders, 50).await;
        assert_eq!(crowded.stack.account("fifty").balance, "75");
        crowded.stack.invariants();
    });
}

#[test]
fn a_thousand_orders_of_five_hundred_users_at_once() {
    run(async {
        let crowded = crowded().await;
        let stack = &crowded.stack;
        let users: Vec<String> =
            (0..1_000).map(|number| format!("crowd-{}", number % 500)).collect();
        let orders = crowded.order_all(&users, 200).await;
        assert_eq!(orders.len(), 1_000);
        let rows = |what: &str| {
            stack.sql_one(&format!(
                "SELECT COUNT(*) FROM recharge_order WHERE user_id LIKE 'crowd-%' AND {what}"
            ))
        };
        assert_eq!(rows("payment_url IS NOT NULL"), "1000");
        let payments = stack.payment.payments().await;
        let theirs = |user: &&serde_json::Value| {
            user["user_id"].as_str().is_some_and(|user| user.starts_with("crowd-"))
        };
        assert_eq!(payments.iter().filter(theirs).count(), 1_000, "one payment each");

        crowded.pay_all(&orders, 100).await;
        let balances =
            "SELECT COUNT(*) FROM user_balance WHERE user_id LIKE 'crowd-%' AND balance = 3";
        assert_eq!(stack.sql_one(balances), "500");
        stack.invariants();
        assert_eq!(state(stack, &orders[0].id), "paid");
    });
}

/// Callbacks that wait for one order's row must leave gateways their connections.
#[test]
fn calls_are_served_while_callbacks_wait() {
    run(async {
        let stack = super::shared().await;
        let order = ordered(stack, "waiting-room", "5").await;
        let row = format!("SELECT 1 FROM recharge_order WHERE order_id = '{}'", order.id);
        let held = stack.database.hold(&format!("{row} FOR UPDATE"));
        let held = held.unwrap_or_else(|err| panic!("{err}"));
        let callbacks = (0..40).map(|_| super::says(stack, &order, "SUCCESS"));
        let calls = async {
            eventually!(0 < stack.database.running("FOR UPDATE"));
            stack.credit("passer-by", "1");
            for _ in 0..10 {
                let answer = stack.client().get("/v1/asset/items").user("passer-by").send().await;
                assert_eq!(answer.status, 200, "{}", answer.body);
            }
            drop(held);
        };
        let (answers, ()) = tokio::join!(join_all(callbacks), calls);
        for answer in answers {
            assert!(matches!(answer.status, Some(200 | 503)), "{}", answer.body);
        }
        assert_eq!(super::says(stack, &order, "SUCCESS").await.status, Some(200));
        credited_once(stack, &order.id, "5");
    });
}

//! Any sequence of events, over lossy callbacks and a payment service with a mind of its own, ends with every account
//! having what the payment service has of it.

use std::collections::BTreeMap;

use farebox_core::money::Nanos;
use farebox_core::order::from_minor_units;
use farebox_tests::{Stack, eventually, run};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use super::{Order, body, callback, order, recharge, says, unruly};

const USERS: [&str; 3] = ["random-1", "random-2", "random-3"];

const STATUSES: [&str; 6] =
    ["PENDING", "SUCCESS", "FAILED", "CLOSED", "PARTIALLY_REFUNDED", "REFUNDED"];

const EVENTS: usize = 200;

/// One run of random events.
struct Run<'s> {
    stack: &'s Stack,
    random: StdRng,
    orders: Vec<Order>,
    /// The order that was refunded last: what the payment service does to it meanwhile is the hardest to tell apart.
    refunded: Option<Order>,
    keys: u32,
}

impl Run<'_> {
    fn pick(&mut self) -> Option<Order> {
        let count = self.orders.len();
        (0 < count).then(|| self.orders[self.random.random_range(0..count)].clone())
    }

    async fn event(&mut self) {
        let kind = self.random.random_range(0..15);
        let Some(order) = self.pick().filter(|_| 2 < kind) else { return self.order().await };
        let payment = &self.stack.payment;
        // The payment service says no to what cannot be, and so does the sidecar: both are fine here.
        match kind {
            3..=5 => drop(payment.pay(&order.payment).await),
            6 => drop(payment.fail(&order.payment).await),
            7 => drop(payment.cancel(&order.payment).await),
            8 => drop(callback(self.stack, &order, json!({})).await),
            9 => self.lie(&order).await,
            10 | 11 => self.refund(&order).await,
            12 | 13 => {
                let refunded = self.refunded.take().unwrap_or(order);
                self.refund_itself(&refunded).await;
            }
            _ => self.ask(),
        }
    }

    /// A new order; its callbacks may be lost, doubled or late.
    async fn order(&mut self) {
        let sent = self.random.random_range(0..3) != 0;
        let (copies, delay) = (self.random.random_range(1..3), self.random.random_range(0..30));
        let told = json!({ "callback": { "send": sent, "copies": copies, "delay_ms": delay } });
        self.stack.payment.behave(told).await;
        let user = USERS[self.random.random_range(0..USERS.len())];
        let amount =
            format!("{}.{:02}", self.random.random_range(1..20), self.random.random_range(0..100));
        self.keys += 1;
        let key = format!("random-{}", self.keys);
        let made = recharge(&self.stack.sidecar, user, &key, &body(&amount)).await;
        self.orders.push(order(&made));
    }

    /// A callback that may be true or not. One that ends a pending order without need would be a lie of the payment service
    /// itself, which nobody could know: only those that must be confirmed, or that do not fit, are told.
    async fn lie(&mut self, order: &Order) {
        if self.random.random_range(0..2) == 0 {
            let amount = json!({ "fields": { "status": "SUCCESS", "amount": "0.01" } });
            callback(self.stack, order, amount).await;
        } else {
            let status = STATUSES[self.random.random_range(4..STATUSES.len())];
            says(self.stack, order, status).await;
        }
    }

    /// An operator's refund, of a part or of all, that may end in any way.
    async fn refund(&mut self, order: &Order) {
        let outcome = ["success", "pending", "failed"][self.random.random_range(0..3)];
        let error = [Value::Null, json!("UNAVAILABLE")][self.random.random_range(0..2)].clone();
        let after = self.random.random_range(0..2) == 0;
        let told =
            json!({ "refund_outcome": outcome, "refund_error": error, "error_after": after });
        self.stack.payment.behave(told).await;
        self.refunded = Some(order.clone());
        self.keys += 1;
        let path = format!("/admin/v1/orders/{}/refund", order.id);
        let call = self.stack.sidecar.admin().post(&path).operator();
        let call = call.header("idempotency-key", &format!("random-{}", self.keys));
        let mut wish = json!({ "reason": "random", "allow_receivable": true });
        if self.random.random_range(0..2) == 0 {
            wish["amount"] = json!(format!("0.{:02}", self.random.random_range(1..100)));
        }
        let answer = call.json(&wish).send().await;
        assert!(answer.status.as_u16() < 500, "{}", answer.body);
        self.stack.payment.behave(json!({ "refund_error": null, "error_after": null })).await;
    }

    /// A refund that the payment service makes itself; that callback is never lost.
    async fn refund_itself(&mut self, order: &Order) {
        let payment = self.stack.payment.payment_of(&order.id).await.unwrap();
        let left = payment["amount_minor"].as_i64().unwrap() - given_back(&payment, true);
        if !is_paid(&payment) || left < 1 {
            return;
        }
        self.stack.payment.behave(json!({ "callback": { "send": true } })).await;
        let part = self.random.random_range(1..=left);
        self.stack.payment.refund(&order.payment, Some(part)).await;
    }

    /// Has everything asked for now that is to be asked for at all. Where the sidecar is about to ask, the database may have
    /// this statement give way: then it is asked for anyway.
    fn ask(&self) {
        for table in ["recharge_order", "recharge_refund"] {
            let ask = format!(
                "UPDATE {table} SET ask_at = UTC_TIMESTAMP(3) WHERE ask_at IS NOT NULL AND user_id LIKE 'random-%'"
            );
            if let Err(err) = self.stack.database.sql(&ask) {
                assert!(err.to_string().contains("try restarting transaction"), "{err}");
            }
        }
    }
}

fn is_paid(payment: &Value) -> bool {
    let status = payment["status"].as_str().unwrap_or_default();
    ["SUCCESS", "PARTIALLY_REFUNDED", "REFUNDED"].contains(&status)
}

/// What has gone back of a payment; with what is on its way, if wanted. In minor units.
fn given_back(payment: &Value, with_pending: bool) -> i64 {
    let refunds = payment["refunds"].as_array().into_iter().flatten();
    let counted = refunds.filter(|refund| {
        refund["outcome"] == "success" || (with_pending && refund["outcome"] == "pending")
    });
    counted.filter_map(|refund| refund["amount_minor"].as_i64()).sum()
}

/// What the payment service has of each user: paid, less what went back.
async fn kept(stack: &Stack) -> BTreeMap<String, i64> {
    let mut kept: BTreeMap<String, i64> = USERS.map(|user| (user.to_owned(), 0)).into();
    for payment in stack.payment.payments().await {
        let user = payment["user_id"].as_str().unwrap_or_default();
        if let Some(sum) = kept.get_mut(user).filter(|_| is_paid(&payment)) {
            *sum += payment["amount_minor"].as_i64().unwrap() - given_back(&payment, false);
        }
    }
    kept
}

/// What the books have of each user: balance, less what is owed.
fn booked(stack: &Stack) -> BTreeMap<String, Nanos> {
    let money = |user: &str| {
        let account = stack.account(user);
        let amount = |text: String| text.parse().unwrap_or(Nanos::ZERO);
        amount(account.balance).checked_sub(amount(account.receivable)).unwrap()
    };
    USERS.map(|user| (user.to_owned(), money(user))).into()
}

#[test]
fn after_any_events_the_books_have_what_the_payment_service_has() {
    run(async {
        let stack = unruly().await;
        let seed = rand::random();
        println!("seed {seed}");
        let random = StdRng::seed_from_u64(seed);
        let mut run = Run { stack: &stack, random, orders: Vec::new(), refunded: None, keys: 0 };
        for _ in 0..EVENTS {
            run.event().await;
        }
        stack.payment.behave_well().await;
        eventually!(
            {
                run.ask();
                let expected: BTreeMap<String, Nanos> = kept(&stack)
                    .await
                    .into_iter()
                    .map(|(user, minor)| (user, from_minor_units(minor, 2).unwrap()))
                    .collect();
                let open = "SELECT COUNT(*) FROM recharge_refund WHERE state = 'pending' AND user_id LIKE 'random-%'";
                booked(&stack) == expected && stack.sql_one(open) == "0"
            },
            "seed {seed}: books {:?}, payment service {:?}\n{}",
            booked(&stack),
            kept(&stack).await,
            stack.sidecar.log()
        );
        let sums = "SELECT (SELECT COALESCE(SUM(amount), 0) FROM recharge_order WHERE credited_at IS NOT NULL)
                        - (SELECT COALESCE(SUM(amount), 0) FROM ledger_entry WHERE kind = 'recharge' AND book = 'user')";
        assert_eq!(stack.sql_one(sums).trim_matches(['0', '.']), "", "seed {seed}");
        stack.invariants();
    });
}

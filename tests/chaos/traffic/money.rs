//! Money that comes and goes: recharges through the gateway, refunds of orders, credits by an operator.
//!
//! What became of recharges and refunds is the payment service's word, so they are counted here and judged by that.

use farebox_core::money::Nanos;
use farebox_tests::Client;
use farebox_tests::client::Call;
use serde_json::json;

use super::{Actor, REPEATS, answered};
use crate::catalog::is_tight;
use crate::journal::Outcome;

/// How many orders a client remembers, for refunds.
const ORDERS_MAX: usize = 20;

/// An order with its payment.
#[derive(Debug, Clone)]
pub(super) struct Order {
    id: String,
    payment: String,
}

impl Actor {
    /// Orders money under one key until there is an answer, then pays, more than once.
    pub(super) async fn recharge(&mut self, gateway: usize) {
        let key = format!("recharge-{}", self.journal.number());
        let amount = if is_tight(&self.user) { "0.05" } else { "1.00" };
        let body = json!({ "amount": amount, "currency": "CNY", "payment_method": "alipay" });
        for attempt in 0..REPEATS {
            let gateway = &self.gateways[(gateway + attempt) % self.gateways.len()];
            let call = gateway.post("/api/v1/billing/recharge").user(&self.user);
            let call = call.header("idempotency-key", &key).json(&body);
            let answer = answered(call).await;
            let outcome = match &answer {
                Some(answer) if answer.status.is_success() => Outcome::Ok,
                Some(answer) if answer.code() != 0 => Outcome::Refused,
                Some(_) | None => Outcome::Unknown,
            };
            self.journal.count("recharge", outcome);
            let made = answer.filter(|answer| answer.status.is_success());
            if let Some(order) = made.and_then(|made| order(&made.json())) {
                return self.pay(order).await;
            }
        }
    }

    async fn pay(&mut self, order: Order) {
        for _ in 0..2 {
            let path = format!("/pay/{}", order.payment);
            let paid = answered(self.payment(&path)).await;
            let outcome = match paid {
                Some(answer) if answer.status.is_success() => Outcome::Ok,
                Some(_) => Outcome::Refused,
                None => Outcome::Unknown,
            };
            self.journal.count("payment", outcome);
        }
        if self.orders.len() < ORDERS_MAX {
            self.orders.push(order);
        }
    }

    fn payment(&self, path: &str) -> Call {
        let client = Client::http1(self.site.payment.http_addr());
        client.post(path).header("accept", "application/json")
    }

    /// An operator gives a part of an order back.
    pub(super) async fn refund_order(&mut self) {
        if self.orders.is_empty() {
            return;
        }
        let order = self.orders[self.dice.index(self.orders.len())].clone();
        let sidecar = self.dice.index(self.site.sidecars.len());
        let call = self.site.sidecars[sidecar].admin();
        let key = format!("case-{}", self.journal.number());
        // A repeat of the same key: the money goes back once.
        for _ in 0..2 {
            let call = call.post(&format!("/admin/v1/orders/{}/refund", order.id)).operator();
            let call = call.header("idempotency-key", &key);
            let answer = answered(call.json(&json!({ "amount": "0.01", "reason": "chaos" }))).await;
            let outcome = match answer {
                Some(answer) if answer.status.is_success() => Outcome::Ok,
                Some(answer) if answer.status.as_u16() < 500 => Outcome::Refused,
                Some(_) | None => Outcome::Unknown,
            };
            self.journal.count("order refund", outcome);
        }
    }

    /// An operator adds money, by the command line and a key.
    pub(super) async fn credit(&mut self) {
        let (key, amount) = (format!("credit-{}", self.journal.number()), "0.02");
        for _ in 0..2 {
            let sidecar = &self.site.sidecars[self.dice.index(self.site.sidecars.len())];
            let arguments = ["account", "credit", &self.user, amount, "--reason", "chaos"];
            let arguments = [&arguments[..], &["--key", &key]].concat();
            let done = tokio::task::block_in_place(|| sidecar.cli(&arguments)).is_ok();
            self.journal.count("credit", if done { Outcome::Ok } else { Outcome::Unknown });
        }
        self.credits.push((key, amount));
    }

    /// Makes sure that all credits are done: under their keys each is done once, whatever was before. Whether they are.
    pub(crate) fn credit_again(&mut self) -> bool {
        while let Some((key, amount)) = self.credits.last() {
            if !credit(&self.site, &self.user, amount, key) {
                return false;
            }
            self.journal.credited(&self.user, amount.parse().unwrap_or(Nanos::ZERO));
            self.credits.pop();
        }
        true
    }
}

/// Adds money straight at the database; whether that is known to be done.
pub(crate) fn credit(site: &crate::site::Site, user: &str, amount: &str, key: &str) -> bool {
    let arguments = ["account", "credit", user, amount, "--reason", "chaos", "--key", key];
    tokio::task::block_in_place(|| site.observe(&arguments)).is_ok()
}

fn order(answer: &serde_json::Value) -> Option<Order> {
    let text = |member: &str| answer[member].as_str().map(str::to_owned);
    Some(Order { id: text("order_id")?, payment: text("payment_id")? })
}

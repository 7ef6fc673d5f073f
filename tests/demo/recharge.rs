//! Chapters of the story in which Ada recharges: an order, a payment page, callbacks true and false.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::story::{BACK_WITHIN, ITEM, Story, USER};

/// What Ada orders.
const AMOUNT: &str = "1.00";

const RECHARGE: &str = "/api/v1/billing/recharge";

/// How long callbacks are waited for.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// A secret that the payment service never had.
const FORGER: &str = "whsec_Zm9yZ2VyLWZvcmdlci1mb3JnZXItZm9yZ2VyLWZvcmdlcg==";

/// The order of the story.
pub(crate) struct Order {
    order_id: String,
    payment_id: String,
    payment_url: String,
}

impl Story {
    /// An order, twice under one key: one payment, and the page where it is paid.
    pub(crate) async fn order(&mut self) -> Result<Order> {
        self.screen.chapter(&format!("Ada orders {AMOUNT} CNY, and is told where to pay"));
        let body = json!({ "amount": AMOUNT, "currency": "CNY", "payment_method": "alipay" });
        let order = || {
            let call = self.client.post(RECHARGE).user(USER).header("accept-language", "en");
            call.header("idempotency-key", "adas-first-recharge").json(&body).send()
        };
        let answer = order().await;
        self.screen.call_briefly(&format!("POST {RECHARGE}  {body}"), &answer);
        let made = answer.json();
        let text = |name: &str| made[name].as_str().unwrap_or_default().to_owned();
        for name in ["order_id", "state", "payment_url"] {
            self.screen.say(&format!("    {name}: {}", text(name)));
        }
        let again = order().await;
        self.screen.call_briefly("the same again, with the same Idempotency-Key", &again);
        self.screen.fact(again.json()["order_id"] == made["order_id"], "it is the same order");
        let payments = self.stack.payment.payments().await.len();
        self.screen.figure("payments at the payment service", &payments.to_string(), "1");

        let order = Order {
            order_id: text("order_id"),
            payment_id: text("payment_id"),
            payment_url: text("payment_url"),
        };
        ensure!(!order.payment_url.is_empty(), "no payment page: {}", answer.body);
        let path = order.payment_url.splitn(4, '/').nth(3).context("the page has no path")?;
        let page = farebox_tests::Client::http1(self.stack.payment.http_addr());
        let page = page.get(&format!("/{path}")).send().await;
        self.screen.call_briefly(&format!("GET {}", order.payment_url), &page);
        Ok(order)
    }

    /// News that nobody believes: a forger's, and a payment of another amount.
    pub(crate) async fn forgeries(&mut self, order: &Order) {
        self.screen
            .chapter("A forger says that it was paid; a true signature says the wrong amount");
        let forged = json!({
            "payment_id": order.payment_id, "secret": FORGER, "fields": { "status": "SUCCESS" },
        });
        let answer = self.stack.payment.callback(forged).await;
        self.told("callback signed with another key", answer.status, 401, &answer.body);
        let wrong = json!({
            "payment_id": order.payment_id, "fields": { "status": "SUCCESS", "amount": "100.00" },
        });
        let answer = self.stack.payment.callback(wrong).await;
        self.told("callback about 100.00 CNY", answer.status, 422, &answer.body);
        let balance = self.stack.account(USER).balance;
        self.screen.figure("balance, CNY", &balance, "0");
    }

    /// Ada pays; the payment service says so twice; it is credited once, and works at once.
    pub(crate) async fn payment(&mut self, order: &Order) -> Result<()> {
        self.screen.chapter("Ada pays; the payment service says so twice: credited once");
        let payment = &self.stack.payment;
        payment.behave(json!({ "callback": { "copies": 2 } })).await;
        let paid = payment.pay(&order.payment_id).await;
        self.screen.call_briefly(&format!("POST {}  (the button)", order.payment_url), &paid);
        let answers = self.wait_for_callbacks(order).await?;
        let credited_at = Instant::now();
        for (status, body) in &answers {
            self.told("callback", Some(*status), 200, body);
        }
        self.screen.figure("callbacks", &answers.len().to_string(), "2");
        let entries = self.stack.sql_one(&format!(
            "SELECT COUNT(*) FROM ledger_entry
             WHERE ref_type = 'recharge_order' AND ref_id = '{}' AND kind = 'recharge' AND book = 'user'",
            order.order_id
        ));
        self.screen.figure("times credited in the ledger", &entries, "1");
        self.served_again(credited_at).await
    }

    /// Calls work again within a second after the money came.
    async fn served_again(&mut self, credited_at: Instant) -> Result<()> {
        let mut refusals = 0;
        let served = loop {
            let answer = self.item().await;
            if answer.status == 200 {
                break answer;
            }
            refusals += 1;
            ensure!(credited_at.elapsed() < PATIENCE, "still refused: {}", answer.body);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        };
        let waited = credited_at.elapsed();
        self.screen.call(&format!("GET {ITEM}"), &served);
        let text = format!(
            "served again {} ms after the callback ({refusals} refusals meanwhile)",
            waited.as_millis()
        );
        self.screen.fact(waited <= BACK_WITHIN, &text);
        for words in [&["orders", "list", "--user", USER][..], &["orders", "anomalies"]] {
            let printed = self.stack.sidecar.cli(words)?;
            self.screen.command(&format!("farebox {}", words.join(" ")), &printed);
        }
        Ok(())
    }

    /// Every answer to the callbacks that the payment service sent by itself, once two of them are delivered.
    async fn wait_for_callbacks(&self, order: &Order) -> Result<Vec<(u16, String)>> {
        let started = Instant::now();
        loop {
            let callbacks = self.stack.payment.callbacks().await;
            let sent: Vec<&Value> = callbacks
                .iter()
                .filter(|callback| callback["state"] != "handmade")
                .filter(|callback| callback.to_string().contains(&order.order_id))
                .collect();
            let delivered = sent.iter().filter(|callback| callback["state"] == "delivered").count();
            if 2 <= delivered {
                return Ok(sent.iter().flat_map(|callback| answers_of(callback)).collect());
            }
            ensure!(started.elapsed() < PATIENCE, "callbacks: {callbacks:?}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    fn told(&mut self, what: &str, status: Option<u16>, expected: u16, body: &str) {
        let found = status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
        self.screen.figure(what, &found, &expected.to_string());
        self.screen.say(&format!("    {body}"));
    }
}

/// Status and body of every attempt of a callback.
fn answers_of(callback: &Value) -> Vec<(u16, String)> {
    let attempts = callback["attempts"].as_array().cloned().unwrap_or_default();
    attempts
        .iter()
        .filter_map(|attempt| {
            let status = u16::try_from(attempt["status"].as_u64()?).ok()?;
            Some((status, attempt["answer"].as_str().unwrap_or_default().to_owned()))
        })
        .collect()
}

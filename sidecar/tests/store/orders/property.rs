//! Random callbacks, orders, credits and calls against a small model: what was paid is what was credited.

use std::collections::BTreeMap;

use farebox_core::order::{PaymentStatus, State};
use farebox_core::wire::Report;
use farebox_sidecar::app::{Callback, CallbackError};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{fixture, news, order};
use crate::fixture::{Fixture, Gateway, nanos, used, want};

const ACCOUNTS: [&str; 3] = ["u", "v", "w"];

/// What the model knows of an order.
struct Known {
    id: String,
    account: usize,
    cents: i64,
    payment: Option<String>,
    state: State,
}

/// What the model expects of a callback.
#[derive(Debug, PartialEq)]
enum Answer {
    /// Taken in, and whether it credits.
    Taken(bool),
    Repeat,
    Mismatch(&'static str),
}

struct Run {
    farebox: Fixture,
    edge: Gateway,
    orders: Vec<Known>,
    /// Every callback that was sent, for repeats.
    sent: Vec<(usize, Callback)>,
    /// Balance in cents, less what is owed.
    money: [i64; 3],
    random: StdRng,
}

fn amount(cents: i64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

impl Run {
    fn account(&mut self) -> usize {
        self.random.random_range(0..ACCOUNTS.len())
    }

    async fn order(&mut self) {
        let (account, cents) = (self.account(), self.random.random_range(1..100_000_i64));
        let id = order(&self.farebox.app, ACCOUNTS[account], &amount(cents)).await;
        self.orders.push(Known { id, account, cents, payment: None, state: State::Pending });
    }

    /// A callback for any order: mostly right, sometimes wrong in one thing.
    async fn callback(&mut self) {
        if self.orders.is_empty() {
            return;
        }
        let index = self.random.random_range(0..self.orders.len());
        let status = PaymentStatus::ALL[self.random.random_range(0..PaymentStatus::ALL.len())];
        let status =
            if self.random.random_range(0..2) == 0 { PaymentStatus::Success } else { status };
        let order = &self.orders[index];
        let mut callback = news(&order.id, &format!("p{index}"), &amount(order.cents), status);
        match self.random.random_range(0..12) {
            0 => callback.amount = nanos(&amount(order.cents + 1)),
            1 => callback.currency = "USD".to_owned(),
            2 => callback.user_id = Some("x".to_owned()),
            3 | 4 => {
                callback.payment_id =
                    format!("p{}", self.random.random_range(0..self.orders.len()));
            }
            5 => callback.user_id = Some(ACCOUNTS[order.account].to_owned()),
            _ => {}
        }
        self.deliver(index, callback).await;
    }

    async fn repeat(&mut self) {
        if self.sent.is_empty() {
            return;
        }
        let (index, callback) = self.sent[self.random.random_range(0..self.sent.len())].clone();
        self.deliver(index, callback).await;
    }

    async fn deliver(&mut self, index: usize, callback: Callback) {
        let expected = self.expect(index, &callback);
        let found = match self.farebox.app.callback(&callback).await {
            Ok(noted) => Answer::Taken(noted.credited),
            Err(CallbackError::Unconfirmed { .. }) => Answer::Repeat,
            Err(CallbackError::Mismatch { kind, .. }) => Answer::Mismatch(kind),
            Err(err) => panic!("{callback:?}: {err}"),
        };
        assert_eq!(found, expected, "{callback:?}");
        self.sent.push((index, callback));
    }

    /// The model: the table that payment teams are promised, and what a callback must fit.
    fn expect(&mut self, index: usize, callback: &Callback) -> Answer {
        use PaymentStatus::{Closed, Failed, PartiallyRefunded, Pending, Refunded, Success};
        let is_taken = self.orders.iter().enumerate().any(|(other, order)| {
            other != index && order.payment.as_ref() == Some(&callback.payment_id)
        });
        let order = &mut self.orders[index];
        if order.payment.as_ref().is_some_and(|known| *known != callback.payment_id) {
            return Answer::Mismatch("payment");
        }
        if nanos(&amount(order.cents)) != callback.amount {
            return Answer::Mismatch("amount");
        }
        if callback.currency != "CNY" {
            return Answer::Mismatch("currency");
        }
        if callback.user_id.as_deref().is_some_and(|user| user != ACCOUNTS[order.account]) {
            return Answer::Mismatch("user");
        }
        let next = match (order.state, callback.status) {
            (State::Closed, Success | PartiallyRefunded | Refunded) => {
                return Answer::Mismatch("status");
            }
            (State::Failed, Success) | (_, PartiallyRefunded | Refunded) => return Answer::Repeat,
            (State::Pending, Success) => State::Paid,
            (State::Pending, Failed) => State::Failed,
            (State::Pending, Closed) => State::Closed,
            (state, Pending | Failed | Closed | Success) => state,
        };
        if order.payment.is_none() && is_taken {
            return Answer::Mismatch("order");
        }
        order.payment = Some(callback.payment_id.clone());
        let credits = order.state == State::Pending && next == State::Paid;
        order.state = next;
        self.money[order.account] += if credits { order.cents } else { 0 };
        Answer::Taken(credits)
    }

    async fn credit(&mut self) {
        let (account, cents) = (self.account(), self.random.random_range(1..1_000_i64));
        self.farebox.credit(ACCOUNTS[account], &amount(cents)).await;
        self.money[account] += cents;
    }

    /// Calls at 1.00 each, as far as the account pays for them.
    async fn usage(&mut self) {
        let (account, units) = (self.account(), self.random.random_range(1..20));
        let Ok(grant) = self.edge.want(want(ACCOUNTS[account], "asset", units, 1)).await else {
            return;
        };
        let spent = self.random.random_range(0..=grant.paid_units);
        self.edge.report(Report { close: true, ..used(grant.lease, spent) }).await;
        self.money[account] -= i64::try_from(spent).unwrap() * 100;
    }

    async fn compare(&self) {
        for (account, name) in ACCOUNTS.iter().enumerate() {
            let view = self.farebox.app.account(&name.parse().unwrap()).await.unwrap();
            let found = view.map_or(0, |view| view.balance.get() - view.receivable.get());
            assert_eq!(found, self.money[account] * 10_000_000, "{name}");
        }
        for order in &self.orders {
            let view = self.farebox.app.order(&order.id, None).await.unwrap();
            assert_eq!((view.state, &view.payment_id), (order.state, &order.payment));
        }
        let credited =
            "SELECT user_id, SUM(amount) FROM recharge_order WHERE credited_at IS NOT NULL
            GROUP BY user_id ORDER BY user_id";
        let entered = "SELECT user_id, SUM(amount) FROM ledger_entry WHERE kind = 'recharge' AND book = 'user'
            GROUP BY user_id ORDER BY user_id";
        let credited = self.farebox.database.rows(credited).await;
        assert_eq!(self.farebox.database.rows(entered).await, credited);
        let mut model: BTreeMap<&str, i64> = BTreeMap::new();
        for order in self.orders.iter().filter(|order| order.state == State::Paid) {
            *model.entry(ACCOUNTS[order.account]).or_default() += order.cents;
        }
        let model: Vec<String> = model
            .into_iter()
            .map(|(account, cents)| format!("{account} {}0000000", amount(cents)))
            .collect();
        assert_eq!(credited, model);
        self.farebox.assert_sound().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_the_paid_orders_are_the_recharge_entries() {
    let seed = rand::random();
    println!("seed {seed}");
    let farebox = fixture().await;
    let edge = farebox.gateway("edge-1");
    let random = StdRng::seed_from_u64(seed);
    let mut run = Run { farebox, edge, orders: vec![], sent: vec![], money: [0; 3], random };
    for _ in 0..20 {
        for _ in 0..20 {
            match run.random.random_range(0..10) {
                0..2 => run.order().await,
                2..6 => run.callback().await,
                6..8 => run.repeat().await,
                8 => run.credit().await,
                _ => run.usage().await,
            }
        }
        run.compare().await;
    }
}

//! Asks the payment service about orders whose news never came: "paid but no callback" is credited here, and what nobody
//! paid is closed. Failed orders are asked for as well: the payer may try again, and that callback may be lost too.

use std::time::Duration;

use chrono::{DateTime, Utc};
use farebox_core::order::{
    CLOSED_AFTER, Claim, INHERITED_CLOSED_AFTER, Mismatch, State, ask_again_after,
};
use tokio::task::JoinSet;
use tracing::Instrument as _;

use super::anomaly;
use super::settle::{self, Settled, give_up};
use crate::app::App;
use crate::metrics::CreditSource;
use crate::payment::{Facts, PaymentClient, PaymentError};
use crate::store::recharge_order::{self, Order};
use crate::store::retry::retry;
use crate::store::{self, StoreError};
use crate::trace;

const JOB: &str = "ask_for_payments";

/// How long the job stays with a sidecar that stopped doing it.
const JOB_TTL: Duration = Duration::from_secs(60);

/// Orders that one round asks for, and how many of them at the same time.
const ORDERS_PER_ROUND: u32 = 100;
const AT_ONCE: usize = 8;

/// Why an order was closed.
const NOT_PAID: &str = "not paid in time";

/// Asks about every order that is due; how many of them ended. Asking twice does no harm, so the job's token needs no check.
pub(in crate::app) async fn run(app: &App) -> Result<u64, StoreError> {
    let Some(payment) = &app.payment else { return Ok(0) };
    let Some(_) = app.acquire_job(JOB, JOB_TTL).await? else { return Ok(0) };
    let mut connection = app.store.acquire().await?;
    let now = store::now(&mut connection).await?;
    let due = recharge_order::due(&mut connection, ORDERS_PER_ROUND).await?;
    drop(connection);
    let (mut ended, mut error) = (0, None);
    for orders in due.chunks(AT_ONCE) {
        if let Some(err) = error {
            return Err(err);
        }
        let mut asked = JoinSet::new();
        for order in orders {
            let (app, payment, order) = (app.clone(), payment.clone(), order.clone());
            let ask = async move { one_or_later(&app, &payment, &order, now).await };
            asked.spawn(ask.instrument(trace::job("ask for a payment")));
        }
        while let Some(outcome) = asked.join_next().await {
            match outcome {
                Ok(Ok(has_ended)) => ended += u64::from(has_ended),
                // The others of this chunk go on to their end: what they commit is counted.
                Ok(Err(err)) => error = Some(err),
                Err(err) => tracing::error!(error = %err, "an order was not asked for to the end"),
            }
        }
    }
    error.map_or(Ok(ended), Err)
}

/// Asks about one order; whether it ended. One that cannot be settled is put off, else it would stay the first of those
/// that are due, and every round would end at it. Only the whole database's absence ends the round.
async fn one_or_later(
    app: &App,
    payment: &PaymentClient,
    order: &Order,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let err = match one(app, payment, order, now).await {
        Err(err) if !matches!(err, StoreError::Unreachable(_)) => err,
        outcome => return outcome,
    };
    tracing::error!(order.id = order.order_id, error = %err, "an order was not settled; it is asked for again later");
    put_off(app, order, now).await.or_else(|err| {
        tracing::warn!(order.id = order.order_id, error = %err, "an order was not put off");
        Ok(false)
    })
}

/// Asks again later, unless the order has ended meanwhile.
async fn put_off(app: &App, order: &Order, now: DateTime<Utc>) -> Result<bool, StoreError> {
    let pause = ask_again_after(age(order, now), life(order));
    let id = &order.order_id;
    retry(JOB, || async {
        let mut tx = app.store.begin().await?;
        let outcome = recharge_order::ask_again(&mut tx, id, pause).await;
        store::finish(tx, outcome).await
    })
    .await?;
    Ok(false)
}

/// How long it is asked for.
fn life(order: &Order) -> Duration {
    if order.is_inherited { INHERITED_CLOSED_AFTER } else { CLOSED_AFTER }
}

fn age(order: &Order, now: DateTime<Utc>) -> Duration {
    (now - order.created_at).to_std().unwrap_or_default()
}

/// Asks about one order; whether it ended.
async fn one(
    app: &App,
    payment: &PaymentClient,
    order: &Order,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let is_old = life(order) <= age(order, now);
    let answer = payment.get(&order.order_id, order.payment_id.as_deref()).await;
    let is_over = match &answer {
        Ok(Some(facts)) => match take_in(app, order, facts).await? {
            Settled::Credited(_) => {
                tracing::warn!(
                    order.id = order.order_id,
                    "a paid order had no callback; credited now"
                );
                return Ok(true);
            }
            Settled::Changed(State::Failed) => is_old,
            Settled::Changed(_) => return Ok(true),
            Settled::Unchanged(State::Pending | State::Failed) | Settled::Quarantined(_) => is_old,
            Settled::Unchanged(_) | Settled::Unknown | Settled::Ask => return Ok(false),
        },
        Ok(None) => is_old,
        Err(err) => {
            tracing::warn!(order.id = order.order_id, error = %err, "an order was asked for in vain");
            // Never closed unasked: it may be paid. One that has failed may go on without an answer.
            let is_answer = matches!(err, PaymentError::Refused { .. });
            is_old && (is_answer || order.state == State::Failed)
        }
    };
    if is_over {
        let is_closed = give_up(app, &order.order_id, State::Closed, NOT_PAID, |_| true).await?;
        if !is_closed {
            let id = &order.order_id;
            retry(JOB, || async {
                let mut tx = app.store.begin().await?;
                let outcome = recharge_order::stop_asking(&mut tx, id).await;
                store::finish(tx, outcome).await
            })
            .await?;
        }
        return Ok(is_closed);
    }
    put_off(app, order, now).await
}

/// Takes an answer in, unless it is about another order.
async fn take_in(app: &App, order: &Order, facts: &Facts) -> Result<Settled, StoreError> {
    let news = settle::news_of(app, facts, CreditSource::Poller);
    if facts.order_id == order.order_id {
        return settle::settle(app, &order.order_id, &news).await;
    }
    let claim = Claim { payment_id: &facts.payment_id, ..news.claim };
    let (kind, said) = (Mismatch::Order, facts.status.as_str());
    anomaly::keep(app, kind, &order.order_id, Some(order), &claim, said).await?;
    Ok(Settled::Quarantined(kind))
}

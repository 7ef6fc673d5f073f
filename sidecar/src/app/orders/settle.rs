//! The one place where news of a payment changes an order and its account, in one transaction.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use farebox_core::money::Nanos;
use farebox_core::order::{
    self, Claim, Expected, Mismatch, PaymentStatus, State, Step, split_refund, state_after_refunds,
};
use sqlx::mysql::MySqlConnection;

use super::anomaly::{self, Kept};
use super::{Change, announce, failure_text};
use crate::app::App;
use crate::app::books::{Books, Create, new_id};
use crate::metrics::{self, BalanceUpdate, CreditSource, RechargeStatus};
use crate::negative::{self, Guard};
use crate::payment::Facts;
use crate::store::column::OnCorrupt;
use crate::store::payment_anomaly;
use crate::store::recharge_order::{self, Named, Order};
use crate::store::recharge_refund::{self, NewRefund, Refund};
use crate::store::retry::retry;
use crate::store::{self, StoreError};

/// News of a payment.
#[derive(Debug, Clone)]
pub(super) struct News<'a> {
    pub(super) claim: Claim<'a>,
    pub(super) status: PaymentStatus,
    /// What the payment service says besides, when it was asked; a callback is only a callback.
    pub(super) confirmed: Option<Confirmed<'a>>,
    /// By which way the news came.
    pub(super) source: CreditSource,
}

/// What only the payment service's own answer holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Confirmed<'a> {
    pub(super) refunded: Nanos,
    pub(super) paid_at: Option<DateTime<Utc>>,
    pub(super) payment_url: Option<&'a str>,
}

/// What news led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// There is no such order.
    Unknown,
    /// The order is as it was.
    Unchanged(State),
    /// The order was credited, and is in this state now.
    Credited(State),
    /// The order ended, or money of it went back.
    Changed(State),
    /// The payment service must be asked first.
    Ask,
    /// It did not fit.
    Quarantined(Mismatch),
}

/// The news that an answer of the payment service is. Amounts that cannot be expressed fit no order.
pub(super) fn news_of<'a>(app: &App, facts: &'a Facts, source: CreditSource) -> News<'a> {
    let decimals = app.settings.currency_decimals;
    let amount = |minor| order::from_minor_units(minor, decimals).unwrap_or(Nanos::ZERO);
    News {
        claim: Claim {
            payment_id: &facts.payment_id,
            amount: amount(facts.amount_minor),
            currency: &facts.currency,
            user_id: None,
        },
        status: facts.status,
        confirmed: Some(Confirmed {
            refunded: amount(facts.refunded_minor),
            paid_at: facts.paid_at,
            payment_url: facts.payment_url.as_deref(),
        }),
        source,
    }
}

/// Takes news in. It may be repeated and reordered at will: what it changes is changed once.
pub(super) async fn settle(
    app: &App,
    order_id: &str,
    news: &News<'_>,
) -> Result<Settled, StoreError> {
    let (settled, counted) = retry("settle", || attempt(app, order_id, news)).await?;
    counted.count(news.source);
    Ok(settled)
}

/// What is counted once the transaction is committed.
#[derive(Debug, Default)]
struct Counted {
    kept: Option<Kept>,
    credited: Option<Nanos>,
    delay: Option<Duration>,
    reached: Option<State>,
    failed: Option<Nanos>,
}

impl Counted {
    fn count(self, source: CreditSource) {
        if let Some(kept) = &self.kept {
            kept.tell();
        }
        if let Some(amount) = self.credited {
            metrics::recharge(RechargeStatus::Success, amount);
            metrics::order(State::Paid);
            metrics::balance_updated(BalanceUpdate::Recharge, 1);
        }
        if let Some(delay) = self.delay {
            metrics::credit_delay(source, delay);
        }
        if let Some(state) = self.reached {
            metrics::order(state);
        }
        if let Some(amount) = self.failed {
            metrics::recharge_failed();
            metrics::recharge(RechargeStatus::Failed, amount);
        }
    }
}

async fn attempt(
    app: &App,
    order_id: &str,
    news: &News<'_>,
) -> Result<(Settled, Counted), StoreError> {
    let mut tx = app.store.begin().await?;
    let mut counted = Counted::default();
    let outcome = once(&mut tx, app, order_id, news, &mut counted).await;
    Ok((store::finish(tx, outcome).await?, counted))
}

async fn once(
    tx: &mut MySqlConnection,
    app: &App,
    order_id: &str,
    news: &News<'_>,
    counted: &mut Counted,
) -> Result<Settled, StoreError> {
    let Some(mut order) = recharge_order::lock(tx, order_id).await? else {
        return Ok(Settled::Unknown);
    };
    let expected = Expected {
        payment_id: order.payment_id.as_deref(),
        amount: order.amount,
        currency: &order.currency,
        user_id: order.account.as_str(),
    };
    if let Some(kind) = order::mismatch(&expected, &news.claim) {
        return quarantine(tx, kind, &order, news, counted).await;
    }
    let step = match news.confirmed {
        Some(_) => order::on_confirmed(order.state, news.status),
        None => order::on_news(order.state, news.status),
    };
    let pays_again = negative::is_off(Guard::Orders) && news.status == PaymentStatus::Success;
    let step = if pays_again { Step::Credit } else { step };
    match step {
        Step::Ask => return Ok(Settled::Ask),
        Step::Quarantine => return quarantine(tx, Mismatch::Status, &order, news, counted).await,
        // The predecessor wrote such orders. A credit of less than nothing would take money away.
        Step::Credit if order.amount <= Nanos::ZERO => {
            return quarantine(tx, Mismatch::Amount, &order, news, counted).await;
        }
        Step::Refund { .. } if !is_refund_of(&order, news) => {
            return quarantine(tx, Mismatch::Amount, &order, news, counted).await;
        }
        Step::Nothing | Step::Credit | Step::End(_) | Step::Refund { .. } => {}
    }
    if !name_payment(tx, &mut order, news).await? {
        return quarantine(tx, Mismatch::Order, &order, news, counted).await;
    }
    match step {
        Step::Credit => credit(tx, app, &order, news, counted).await,
        Step::End(state) => {
            recharge_order::end(tx, &order.order_id, state, None).await?;
            counted.reached = Some(state);
            counted.failed = (state == State::Failed).then_some(order.amount);
            Ok(Settled::Changed(state))
        }
        Step::Refund { credit_first } => {
            if credit_first {
                let credited = credit(tx, app, &order, news, counted).await?;
                if let Settled::Quarantined(_) = credited {
                    return Ok(credited);
                }
                order.state = State::Paid;
            }
            let refunded = news.confirmed.map_or(Nanos::ZERO, |confirmed| confirmed.refunded);
            counted.reached = give_back(tx, app, &order, refunded).await?;
            Ok(counted.reached.map_or(Settled::Unchanged(order.state), Settled::Changed))
        }
        Step::Nothing | Step::Ask | Step::Quarantine => Ok(Settled::Unchanged(order.state)),
    }
}

/// Whether as much went back as can have.
fn is_refund_of(order: &Order, news: &News<'_>) -> bool {
    news.confirmed.is_some_and(|confirmed| {
        Nanos::ZERO < confirmed.refunded && confirmed.refunded <= order.amount
    })
}

async fn quarantine(
    tx: &mut MySqlConnection,
    kind: Mismatch,
    order: &Order,
    news: &News<'_>,
    counted: &mut Counted,
) -> Result<Settled, StoreError> {
    let said = news.status.as_str();
    let kept = anomaly::record(tx, kind, &order.order_id, Some(order), &news.claim, said).await?;
    counted.kept = Some(kept);
    Ok(Settled::Quarantined(kind))
}

/// Stores which payment the order has, as soon as anybody says it; `false` when another order has that payment.
async fn name_payment(
    tx: &mut MySqlConnection,
    order: &mut Order,
    news: &News<'_>,
) -> Result<bool, StoreError> {
    let url = news.confirmed.and_then(|confirmed| confirmed.payment_url);
    let is_known = order.payment_id.is_some() && (url.is_none() || order.payment_url.is_some());
    if is_known {
        return Ok(true);
    }
    let payment_id = news.claim.payment_id;
    order.payment_id = Some(payment_id.to_owned());
    match recharge_order::name_payment(tx, &order.order_id, payment_id, url).await? {
        Named::Yes => Ok(true),
        // The order is locked and had no other payment a moment ago.
        Named::HasAnother | Named::Taken => Ok(false),
    }
}

/// Credits the order's own amount to its own account.
async fn credit(
    tx: &mut MySqlConnection,
    app: &App,
    order: &Order,
    news: &News<'_>,
    counted: &mut Counted,
) -> Result<Settled, StoreError> {
    let account = &order.account;
    let accounts = BTreeSet::from([account.clone()]);
    if payment_anomaly::is_credited(tx, news.claim.payment_id).await? {
        // By hand, when earlier news of it did not fit.
        return quarantine(tx, Mismatch::Status, order, news, counted).await;
    }
    let mut books = Books::lock(tx, &accounts, &app.settings, Create::Yes, OnCorrupt::Fail).await?;
    if books.balance(account)?.currency != order.currency {
        return quarantine(tx, Mismatch::Currency, order, news, counted).await;
    }
    let is_again = negative::is_off(Guard::Orders) && order.state != State::Pending;
    let reference = if is_again { new_id() } else { order.order_id.clone() };
    if !negative::is_off(Guard::Credits) {
        books.recharge(account, order.amount, &reference)?;
    }
    books.collect(account, "recharge_order", &reference)?;
    books.store(tx).await?;
    if is_again {
        return Ok(Settled::Credited(order.state));
    }

    let paid_at = news.confirmed.and_then(|confirmed| confirmed.paid_at);
    recharge_order::mark_paid(tx, &order.order_id, paid_at, books.now).await?;
    let balance = books.balance(account)?.balance;
    let change = Change { state: State::Paid, amount: order.amount, balance, at: books.now };
    announce(tx, "recharge.paid", order, change).await?;
    counted.credited = Some(order.amount);
    // A payment service that was asked and does not say when it was paid: since the order was made, at the most.
    let since = paid_at.or(news.confirmed.map(|_| order.created_at));
    counted.delay = since.map(|since| (books.now - since).to_std().unwrap_or_default());
    Ok(Settled::Credited(State::Paid))
}

/// Books what went back at the payment service without our asking, of `refunded` in all; where the order stands then.
/// The money is gone, so what the balance does not have is owed.
pub(super) async fn give_back(
    tx: &mut MySqlConnection,
    app: &App,
    order: &Order,
    refunded: Nanos,
) -> Result<Option<State>, StoreError> {
    let refunds = recharge_refund::of_order(tx, &order.order_id).await?;
    let sum = |counts: fn(&Refund) -> bool| {
        let counted = refunds.iter().filter(|refund| counts(refund)).map(|refund| refund.amount);
        counted.into_iter().try_fold(Nanos::ZERO, Nanos::checked_add)
    };
    // A refund of ours whose end is not known yet may be what the payment service tells about: its end will show.
    if sum(|refund| refund.state == "done") < Some(refunded) {
        recharge_refund::hurry(tx, &order.order_id).await?;
    }
    let known = sum(|refund| refund.state != "failed");
    let news_of = known.and_then(|known| refunded.checked_sub(known)).unwrap_or(Nanos::ZERO);
    if news_of <= Nanos::ZERO {
        return Ok(None);
    }
    let account = &order.account;
    let accounts = BTreeSet::from([account.clone()]);
    let mut books = Books::lock(tx, &accounts, &app.settings, Create::No, OnCorrupt::Fail).await?;
    let available = books.available(account)?;
    let split = split_refund(news_of, available)
        .ok_or(StoreError::OutOfRange { what: "refund", key: order.order_id.clone() })?;
    let refund_id = new_id();
    books.refund(account, split, &refund_id)?;
    books.store(tx).await?;
    let row = NewRefund {
        refund_id: &refund_id,
        order_id: &order.order_id,
        account,
        amount: news_of,
        owed: split.owed,
        currency: &order.currency,
        state: "done",
        origin: "payment_service",
        key: None,
        reason: "refunded at the payment service",
        actor: "payment service",
        ask_after: None,
    };
    recharge_refund::insert(tx, &row).await?;
    let balance = books.balance(account)?.balance;
    let change = RefundedBy { amount: news_of, balance, at: books.now };
    note_refunds(tx, order, change).await.map(Some)
}

/// A refund that went back.
pub(super) struct RefundedBy {
    pub(super) amount: Nanos,
    pub(super) balance: Nanos,
    pub(super) at: DateTime<Utc>,
}

/// Sums what has gone back of a locked order, and tells about it; where the order stands now.
pub(super) async fn note_refunds(
    tx: &mut MySqlConnection,
    order: &Order,
    by: RefundedBy,
) -> Result<State, StoreError> {
    let refunds = recharge_refund::of_order(tx, &order.order_id).await?;
    let done = refunds.iter().filter(|refund| refund.state == "done");
    let total = done
        .map(|refund| refund.amount)
        .try_fold(Nanos::ZERO, Nanos::checked_add)
        .ok_or(StoreError::OutOfRange { what: "refunds", key: order.order_id.clone() })?;
    let state = state_after_refunds(order.amount, total);
    recharge_order::mark_refunded(tx, &order.order_id, total, state).await?;
    let change = Change { state, amount: by.amount, balance: by.balance, at: by.at };
    announce(tx, "recharge.refunded", order, change).await?;
    Ok(state)
}

/// Ends a pending order that no news will end, unless it is not `still` as it was; whether it did.
pub(super) async fn give_up(
    app: &App,
    order_id: &str,
    state: State,
    why: &str,
    still: impl Fn(&Order) -> bool,
) -> Result<bool, StoreError> {
    let why = failure_text(why);
    let ended = retry("give up", || async {
        let mut tx = app.store.begin().await?;
        let outcome = end_pending(&mut tx, order_id, state, &why, &still).await;
        store::finish(tx, outcome).await
    })
    .await?;
    if ended {
        metrics::order(state);
    }
    Ok(ended)
}

async fn end_pending(
    tx: &mut MySqlConnection,
    order_id: &str,
    state: State,
    why: &str,
    still: impl Fn(&Order) -> bool,
) -> Result<bool, StoreError> {
    match recharge_order::lock(tx, order_id).await? {
        Some(order) if order.state == State::Pending && still(&order) => {
            recharge_order::end(tx, order_id, state, Some(why)).await?;
            Ok(true)
        }
        Some(_) | None => Ok(false),
    }
}

//! Gives money of a paid order back.
//!
//! The account gives the money first, in one transaction with the refund's row: it cannot be spent while it is on its way.
//! Then the payment service is asked, as often as it takes, always with the same refund id. A refund that fails for good
//! puts the money back.

use std::collections::BTreeSet;
use std::time::Duration;

use farebox_core::money::Nanos;
use farebox_core::order::{self, AmountError, Claim, Mismatch, RefundRefusal, State};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use sqlx::mysql::MySqlConnection;
use tracing::Instrument as _;
use uuid::Uuid;

use super::anomaly::{self, Kept};
use super::settle::{RefundedBy, give_back, note_refunds};
use super::{failure_text, minor_units};
use crate::app::App;
use crate::app::books::{Books, Create};
use crate::app::texts::{self, LengthError};
use crate::metrics::{self, RefundStatus};
use crate::payment::{self, PaymentClient, PaymentError, RefundProgress};
use crate::store::audit_log::{self, AuditLine};
use crate::store::column::OnCorrupt;
use crate::store::recharge_order::{self, Order};
use crate::store::recharge_refund::{self, Refund};
use crate::store::retry::{MayBeStore, retry};
use crate::store::{self, StoreError};
use crate::trace;

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRefund {
    /// Which order.
    pub order_id: String,
    /// How much; all that is left when it is not said.
    pub amount: Option<Nanos>,
    /// Why, for the audit log and the payment service.
    pub reason: String,
    /// The operator's name for this refund: repeated with the same content, it changes nothing more.
    pub key: String,
    /// Who ordered it, for the audit log.
    pub actor: String,
    /// Whether the account may owe what it has spent already.
    pub allow_receivable: bool,
}

/// A refund as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RefundView {
    /// Its id, also at the payment service.
    pub refund_id: String,
    /// The order.
    pub order_id: String,
    /// Whose account gave the money.
    pub user_id: String,
    /// `pending` until the payment service has said how it ended, then `done` or `failed`.
    pub state: String,
    /// How much goes back.
    pub amount: Nanos,
    /// The part that the account owes.
    pub owed: Nanos,
    /// Of what, ISO 4217.
    pub currency: String,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl From<Refund> for RefundView {
    fn from(refund: Refund) -> Self {
        Self {
            refund_id: refund.refund_id,
            order_id: refund.order_id,
            user_id: refund.account.into(),
            state: refund.state,
            amount: refund.amount,
            owed: refund.owed,
            currency: refund.currency,
            failure: refund.failure,
        }
    }
}

/// Why there is no refund.
#[derive(Debug, thiserror::Error)]
pub enum RefundError {
    /// There is no payment service to ask.
    #[error("payment_service is not configured: the money can only be given back by hand")]
    NotConfigured,
    /// Nobody made such an order.
    #[error("there is no order {order_id}")]
    UnknownOrder {
        /// What was named.
        order_id: String,
    },
    /// The payment is not known, as in old orders of the predecessor.
    #[error(
        "the payment of order {order_id} is not known: the money can only be given back by hand"
    )]
    NoPayment {
        /// The order.
        order_id: String,
    },
    /// A text beyond its column.
    #[error(transparent)]
    Length(#[from] LengthError),
    /// An amount that no payment can be of.
    #[error("amount {0}")]
    Amount(#[from] AmountError),
    /// The order or the account does not allow it.
    #[error(transparent)]
    Refusal(#[from] RefundRefusal),
    /// The key was used for another refund of this order.
    #[error(
        "key {key:?} was used for another refund of this order; give this one a key of its own"
    )]
    Conflict {
        /// The key.
        key: String,
    },
    /// The database's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MayBeStore for RefundError {
    fn into_store(self) -> Result<StoreError, Self> {
        match self {
            Self::Store(err) => Ok(err),
            other => Err(other),
        }
    }
}

const JOB: &str = "continue_refunds";
const JOB_TTL: Duration = Duration::from_secs(60);

/// Refunds that one round of the job asks for.
const REFUNDS_PER_ROUND: u32 = 10;

/// When a refund is asked for again for the first time; twice the time of a call where that is longer.
const FIRST_PAUSE: Duration = Duration::from_secs(60);

/// The longest time between two questions.
const PAUSE_MAX: Duration = Duration::from_hours(1);

/// After so many questions somebody should look.
const ALERT_AFTER: i64 = 8;

pub(in crate::app) async fn run(app: &App, new: &NewRefund) -> Result<RefundView, RefundError> {
    let payment = app.payment.as_ref().ok_or(RefundError::NotConfigured)?;
    texts::check(&new.key, &new.reason, &new.actor)?;
    let (refund, is_new) = retry("refund", || attempt(app, new)).await?;
    if is_new {
        metrics::refund(RefundStatus::Pending);
    }
    if !refund.is_pending() {
        return Ok(refund.into());
    }
    Ok(drive(app, payment, &refund).await?.into())
}

async fn attempt(app: &App, new: &NewRefund) -> Result<(Refund, bool), RefundError> {
    let mut tx = app.store.begin().await?;
    let outcome = take(&mut tx, app, new).await;
    store::finish(tx, outcome).await
}

/// Takes the money from the account, or finds the refund that the key names.
async fn take(
    tx: &mut MySqlConnection,
    app: &App,
    new: &NewRefund,
) -> Result<(Refund, bool), RefundError> {
    let unknown = || RefundError::UnknownOrder { order_id: new.order_id.clone() };
    let order = recharge_order::lock(tx, &new.order_id).await?.ok_or_else(unknown)?;
    let hash = body_hash(new);
    if let Some(refund) = recharge_refund::find_by_key(tx, &new.order_id, &new.key).await? {
        return if refund.body_hash.as_deref() == Some(&hash[..]) {
            Ok((refund, false))
        } else {
            Err(RefundError::Conflict { key: new.key.clone() })
        };
    }
    let left = left_of(tx, &order).await?;
    let amount = new.amount.unwrap_or(left);
    check_amount(app, &order, amount, left)?;
    let mut books = Books::lock(
        tx,
        &BTreeSet::from([order.account.clone()]),
        &app.settings,
        Create::No,
        OnCorrupt::Fail,
    )
    .await?;
    // A credit limit is for usage: money goes out on credit only where the account may owe it.
    let available = if new.allow_receivable {
        books.available(&order.account)?
    } else {
        books.own_money(&order.account)?
    };
    let split = order::refund(order.state, amount, left, available, new.allow_receivable)?;
    let before = balance_json(&books, &order)?;
    let refund_id = format!("refund_{}", Uuid::new_v4().simple());
    books.refund(&order.account, split, &refund_id)?;
    books.store(tx).await?;

    let row = recharge_refund::NewRefund {
        refund_id: &refund_id,
        order_id: &order.order_id,
        account: &order.account,
        amount,
        owed: split.owed,
        currency: &order.currency,
        state: "pending",
        origin: "operator",
        key: Some((&new.key, &hash)),
        reason: &new.reason,
        actor: &new.actor,
        ask_after: Some(FIRST_PAUSE.max(2 * app.payment_timeout())),
    };
    recharge_refund::insert(tx, &row).await?;
    recharge_order::touch(tx, &order.order_id).await?;
    let line = AuditLine {
        actor: &new.actor,
        action: "order.refund",
        subject: &order.order_id,
        reason: &new.reason,
        before_json: before,
        after_json: balance_json(&books, &order)?,
    };
    audit_log::insert(tx, line).await?;
    let found = recharge_refund::find(tx, &refund_id).await?;
    let missing = StoreError::Missing { table: "recharge_refund", key: refund_id };
    Ok((found.ok_or(missing)?, true))
}

/// What of the payment has neither gone back nor is on its way.
async fn left_of(tx: &mut MySqlConnection, order: &Order) -> Result<Nanos, StoreError> {
    let refunds = recharge_refund::of_order(tx, &order.order_id).await?;
    refunds
        .iter()
        .filter(|refund| refund.state != "failed")
        .try_fold(order.amount, |left, refund| left.checked_sub(refund.amount))
        .ok_or(StoreError::OutOfRange { what: "refunds", key: order.order_id.clone() })
}

fn check_amount(app: &App, order: &Order, amount: Nanos, left: Nanos) -> Result<(), RefundError> {
    if !matches!(order.state, State::Paid | State::PartlyRefunded) {
        return Err(RefundRefusal::NotPaid { state: order.state }.into());
    }
    if order.payment_id.is_none() {
        return Err(RefundError::NoPayment { order_id: order.order_id.clone() });
    }
    if left == Nanos::ZERO {
        return Err(RefundRefusal::NothingLeft.into());
    }
    let decimals = app.settings.currency_decimals;
    if amount <= Nanos::ZERO {
        let least = order::from_minor_units(1, decimals).unwrap_or(order::AMOUNT_MIN);
        return Err(AmountError::TooSmall { amount, least }.into());
    }
    order::minor_units(amount, decimals)?;
    Ok(())
}

/// Asks the payment service for a pending refund, and writes down how far it came.
async fn drive(app: &App, payment: &PaymentClient, refund: &Refund) -> Result<Refund, StoreError> {
    let mut connection = app.store.acquire().await?;
    let order = recharge_order::find(&mut connection, &refund.order_id).await?;
    drop(connection);
    let payment_id = order.and_then(|order| order.payment_id).ok_or_else(|| {
        StoreError::Missing { table: "recharge_order", key: refund.order_id.clone() }
    })?;
    let request = payment::NewRefund {
        payment_id: &payment_id,
        refund_id: &refund.refund_id,
        amount_minor: minor_units(app, &refund.order_id, refund.amount)?,
        currency: &refund.currency,
        reason: &refund.reason,
    };
    let failure = match payment.refund(&request).await {
        Ok(RefundProgress::Done) => None,
        Ok(RefundProgress::Failed) => Some("the payment service could not give it back".to_owned()),
        Err(PaymentError::Refused { message }) => Some(message),
        Ok(RefundProgress::Pending) => return put_off(app, refund, None).await,
        Err(err) => return put_off(app, refund, Some(&err.to_string())).await,
    };
    // While the end of this refund was not known, news of others may have been taken for it.
    let refunded = match refunded_in_all(app, payment, refund, &payment_id).await {
        Ok(refunded) => refunded,
        Err(err) => return put_off(app, refund, Some(&err.to_string())).await,
    };
    let end = End { failure, refunded };
    retry("refund", || finish(app, refund, &end)).await
}

/// How much of the payment has gone back, by this refund and others.
async fn refunded_in_all(
    app: &App,
    payment: &PaymentClient,
    refund: &Refund,
    payment_id: &str,
) -> Result<Nanos, PaymentError> {
    let garbage = |what: &str| PaymentError::Garbage { what: what.to_owned() };
    let facts = payment.get(&refund.order_id, Some(payment_id)).await?;
    let facts = facts
        .filter(|facts| facts.payment_id == payment_id && facts.order_id == refund.order_id)
        .ok_or_else(|| garbage("it does not know the payment of a refund"))?;
    order::from_minor_units(facts.refunded_minor, app.settings.currency_decimals)
        .ok_or_else(|| garbage("refunded_minor is out of range"))
}

/// Leaves the refund pending, because it is on its way or for a `problem`; the job asks again, ever more rarely.
async fn put_off(app: &App, refund: &Refund, problem: Option<&str>) -> Result<Refund, StoreError> {
    let Refund { refund_id, attempts, .. } = refund;
    match problem {
        None => tracing::info!(refund.id = refund_id, "a refund is on its way"),
        Some(problem) if *attempts < ALERT_AFTER => {
            tracing::warn!(refund.id = refund_id, problem, "a refund has not ended yet");
        }
        Some(problem) => {
            tracing::error!(
                refund.id = refund_id,
                attempts,
                problem,
                "alert: a refund does not end"
            );
        }
    }
    let doublings = u32::try_from((*attempts).clamp(0, 6)).unwrap_or(6);
    let first = FIRST_PAUSE.max(2 * app.payment_timeout());
    let pause = first.saturating_mul(1 << doublings).min(PAUSE_MAX.max(first));
    let found = retry(JOB, || async {
        let mut tx = app.store.begin().await?;
        let outcome = async {
            recharge_refund::ask_again(&mut tx, refund_id, pause).await?;
            recharge_refund::find(&mut tx, refund_id).await
        }
        .await;
        store::finish(tx, outcome).await
    });
    Ok(found.await?.unwrap_or_else(|| refund.clone()))
}

/// How a refund ended.
struct End {
    /// Why it failed; it is done otherwise.
    failure: Option<String>,
    /// What has gone back of the payment in all.
    refunded: Nanos,
}

/// What is counted once the transaction is committed.
#[derive(Debug, Default)]
struct Counted {
    ended: bool,
    reached: Option<State>,
    kept: Option<Kept>,
}

/// Ends a refund: it is done, or it failed and the account has its money again.
async fn finish(app: &App, refund: &Refund, how: &End) -> Result<Refund, StoreError> {
    let mut tx = app.store.begin().await?;
    let mut counted = Counted::default();
    let outcome = end(&mut tx, app, refund, how, &mut counted).await;
    let refund = store::finish(tx, outcome).await?;
    if counted.ended {
        let failed = how.failure.is_some();
        metrics::refund(if failed { RefundStatus::Failed } else { RefundStatus::Done });
    }
    if let Some(state) = counted.reached {
        metrics::order(state);
    }
    if let Some(kept) = counted.kept {
        kept.tell();
    }
    Ok(refund)
}

async fn end(
    tx: &mut MySqlConnection,
    app: &App,
    refund: &Refund,
    how: &End,
    counted: &mut Counted,
) -> Result<Refund, StoreError> {
    let Refund { refund_id, order_id, account, amount, .. } = refund;
    let missing = |table, key: &String| StoreError::Missing { table, key: key.clone() };
    let order = recharge_order::lock(tx, order_id).await?;
    let order = order.ok_or_else(|| missing("recharge_order", order_id))?;
    let current = recharge_refund::find(tx, refund_id).await?;
    let current = current.ok_or_else(|| missing("recharge_refund", refund_id))?;
    // News came since the payment service was asked: it is asked again.
    let is_overtaken = current.attempts != refund.attempts;
    if !current.is_pending() || is_overtaken {
        return Ok(current);
    }
    let accounts = BTreeSet::from([account.clone()]);
    let mut books = Books::lock(tx, &accounts, &app.settings, Create::No, OnCorrupt::Fail).await?;
    match &how.failure {
        Some(failure) => {
            recharge_refund::end(tx, refund_id, "failed", Some(&failure_text(failure))).await?;
            books.return_refund(account, *amount, refund_id)?;
            books.collect(account, "recharge_refund", refund_id)?;
            books.store(tx).await?;
        }
        None => {
            recharge_refund::end(tx, refund_id, "done", None).await?;
            let balance = books.balance(account)?.balance;
            let by = RefundedBy { amount: *amount, balance, at: books.now };
            counted.reached = Some(note_refunds(tx, &order, by).await?);
        }
    }
    counted.ended = true;
    if order.amount < how.refunded {
        counted.kept = Some(keep(tx, &order, how.refunded).await?);
    } else if let Some(state) = give_back(tx, app, &order, how.refunded).await? {
        counted.reached = Some(state);
    }
    let ended = recharge_refund::find(tx, refund_id).await?;
    Ok(ended.unwrap_or(current))
}

/// Keeps the news that more went back than was paid.
async fn keep(
    tx: &mut MySqlConnection,
    order: &Order,
    refunded: Nanos,
) -> Result<Kept, StoreError> {
    let claim = Claim {
        payment_id: order.payment_id.as_deref().unwrap_or_default(),
        amount: refunded,
        currency: &order.currency,
        user_id: None,
    };
    let (kind, id) = (Mismatch::Amount, &order.order_id);
    anomaly::record(tx, kind, id, Some(order), &claim, "refunded in all").await
}

/// Asks for every refund that is due; how many ended. Asking twice does no harm, so the job's token needs no check.
pub(in crate::app) async fn continue_all(app: &App) -> Result<u64, StoreError> {
    let Some(payment) = &app.payment else { return Ok(0) };
    let Some(_) = app.acquire_job(JOB, JOB_TTL).await? else { return Ok(0) };
    let mut connection = app.store.acquire().await?;
    let due = recharge_refund::due(&mut connection, REFUNDS_PER_ROUND).await?;
    drop(connection);
    let mut ended = 0;
    for refund in due {
        let driven = drive_or_put_off(app, payment, &refund);
        match driven.instrument(trace::job("ask for a refund")).await {
            Ok(refund) => ended += u64::from(!refund.is_pending()),
            Err(err @ StoreError::Unreachable(_)) => return Err(err),
            Err(err) => {
                tracing::warn!(refund.id = refund.refund_id, error = %err, "a refund was not put off");
            }
        }
    }
    Ok(ended)
}

/// One that cannot be ended must not keep the others from being asked for.
async fn drive_or_put_off(
    app: &App,
    payment: &PaymentClient,
    refund: &Refund,
) -> Result<Refund, StoreError> {
    match drive(app, payment, refund).await {
        Err(err) if !matches!(err, StoreError::Unreachable(_)) => {
            put_off(app, refund, Some(&err.to_string())).await
        }
        driven => driven,
    }
}

/// What makes two refunds of an order the same.
fn body_hash(new: &NewRefund) -> [u8; 32] {
    // Texts always have a JSON text; it keeps their ends apart.
    let content = serde_json::to_vec(&(&new.amount, &new.reason, new.allow_receivable));
    Sha256::digest(content.unwrap_or_default()).into()
}

fn balance_json(books: &Books, order: &Order) -> Result<String, StoreError> {
    let balance = books.balance(&order.account)?;
    Ok(json!({
        "user_id": order.account,
        "balance": balance.balance,
        "held": balance.held,
        "receivable": balance.receivable,
    })
    .to_string())
}

//! The payment service's news, as a signed callback brings it.

use farebox_core::money::Nanos;
use farebox_core::order::{Claim, Mismatch, PaymentStatus, State};

use super::anomaly;
use super::legacy::{self, Lookup};
use super::settle::{self, News, Settled};
use crate::app::App;
use crate::metrics::CreditSource;
use crate::payment::PaymentError;
use crate::store::{StoreError, recharge_order};

/// What a callback says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    /// The payment service's id of the payment.
    pub payment_id: String,
    /// The order that it pays.
    pub order_id: String,
    /// What was paid.
    pub amount: Nanos,
    /// Of what, ISO 4217.
    pub currency: String,
    /// What became of the payment.
    pub status: PaymentStatus,
    /// Who paid, when it is said.
    pub user_id: Option<String>,
}

/// What a callback led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// The order.
    pub order_id: String,
    /// Where it stands now.
    pub state: State,
    /// Whether this callback credited it.
    pub credited: bool,
    /// Whether this callback changed anything.
    pub changed: bool,
}

/// Why a callback was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum CallbackError {
    /// Nobody made such an order.
    #[error("there is no order {order_id}; check order_id, and that this is the right environment")]
    UnknownOrder {
        /// What was named.
        order_id: String,
    },
    /// It does not fit: nothing was credited, and people will look.
    #[error(
        "{kind} of the payment does not fit order {order_id}; nothing was credited, and the callback was kept for review"
    )]
    Mismatch {
        /// The order.
        order_id: String,
        /// What does not fit, in a word.
        kind: &'static str,
    },
    /// It is believed only when the payment service confirms it, which could not be asked.
    #[error(
        "order {order_id} needs the payment service's confirmation: {source}; send the callback again"
    )]
    Unconfirmed {
        /// The order.
        order_id: String,
        /// What was seen.
        source: PaymentError,
    },
    /// The order may be one of the predecessor's in Redis, which is away.
    #[error("order {order_id} may be in redis, which does not answer; send the callback again")]
    RedisAway {
        /// The order.
        order_id: String,
    },
    /// The database's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How often news is looked at again: after an import, and after a confirmation that a state overtook.
const ROUNDS_MAX: u32 = 4;

pub(in crate::app) async fn run(app: &App, callback: &Callback) -> Result<Noted, CallbackError> {
    let order_id = &callback.order_id;
    let news = News {
        claim: claim(callback),
        status: callback.status,
        confirmed: None,
        source: CreditSource::Callback,
    };
    for _ in 0..ROUNDS_MAX {
        let settled = match settle::settle(app, order_id, &news).await? {
            Settled::Unknown => {
                import(app, callback).await?;
                continue;
            }
            Settled::Ask => ask(app, callback).await?,
            settled => settled,
        };
        let noted = |state, credited, changed| {
            Ok(Noted { order_id: order_id.clone(), state, credited, changed })
        };
        match settled {
            Settled::Unchanged(state) => return noted(state, false, false),
            Settled::Credited(state) => return noted(state, true, true),
            Settled::Changed(state) => return noted(state, false, true),
            Settled::Quarantined(kind) => return Err(mismatch(order_id, kind)),
            Settled::Unknown | Settled::Ask => {}
        }
    }
    Err(StoreError::Raced { table: "recharge_order" }.into())
}

fn claim(callback: &Callback) -> Claim<'_> {
    Claim {
        payment_id: &callback.payment_id,
        amount: callback.amount,
        currency: &callback.currency,
        user_id: callback.user_id.as_deref(),
    }
}

fn mismatch(order_id: &str, kind: Mismatch) -> CallbackError {
    CallbackError::Mismatch { order_id: order_id.to_owned(), kind: kind.as_str() }
}

/// Looks for the order where the predecessor may have left it.
async fn import(app: &App, callback: &Callback) -> Result<(), CallbackError> {
    let order_id = callback.order_id.clone();
    match legacy::import(app, &order_id).await? {
        Lookup::Imported => Ok(()),
        Lookup::Away => Err(CallbackError::RedisAway { order_id }),
        Lookup::Absent => {
            if callback.status == PaymentStatus::Success {
                // Somebody paid, for what nobody knows.
                let (kind, said) = (Mismatch::UnknownOrder, callback.status.as_str());
                anomaly::keep(app, kind, &order_id, None, &claim(callback), said).await?;
            }
            Err(CallbackError::UnknownOrder { order_id })
        }
    }
}

/// Asks the payment service itself and takes in what it says. A callback that it does not confirm is kept for review.
async fn ask(app: &App, callback: &Callback) -> Result<Settled, CallbackError> {
    let order_id = callback.order_id.clone();
    let unconfirmed = |source| CallbackError::Unconfirmed { order_id: order_id.clone(), source };
    let Some(payment) = &app.payment else {
        let message = "payment_service is not configured".to_owned();
        return Err(unconfirmed(PaymentError::Unreachable { message }));
    };
    let facts = payment.get(&order_id, Some(&callback.payment_id)).await.map_err(unconfirmed)?;
    // An answer about something else confirms nothing.
    let facts =
        facts.filter(|facts| facts.order_id == order_id && facts.payment_id == callback.payment_id);
    let Some(facts) = facts else { return keep(app, callback).await };
    let news = settle::news_of(app, &facts, CreditSource::Callback);
    match settle::settle(app, &order_id, &news).await? {
        Settled::Unchanged(_) if !confirms(facts.status, callback.status) => {
            keep(app, callback).await
        }
        settled => Ok(settled),
    }
}

/// Whether the payment service says what the callback said: how much went back may have grown since.
fn confirms(said: PaymentStatus, told: PaymentStatus) -> bool {
    let is_refund =
        |status| matches!(status, PaymentStatus::Refunded | PaymentStatus::PartiallyRefunded);
    said == told || (is_refund(said) && is_refund(told))
}

/// Keeps a callback that the payment service does not confirm, for people to look at.
async fn keep(app: &App, callback: &Callback) -> Result<Settled, CallbackError> {
    let order_id = &callback.order_id;
    let mut connection = app.store.acquire().await?;
    let order = recharge_order::find(&mut connection, order_id).await?;
    drop(connection);
    let (kind, said) = (Mismatch::Status, callback.status.as_str());
    let claim = claim(callback);
    anomaly::keep(app, kind, order_id, order.as_ref(), &claim, said).await?;
    Ok(Settled::Quarantined(kind))
}

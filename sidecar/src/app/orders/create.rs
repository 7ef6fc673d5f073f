//! Makes an order: the row first, then the payment. Whatever breaks in between, the row knows that there may be a payment.

use chrono::TimeDelta;
use farebox_core::id::AccountId;
use farebox_core::money::Nanos;
use farebox_core::order::{self, AmountError, Claim, FIRST_ASKED_AFTER, Method, Mismatch, State};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use uuid::Uuid;

use super::settle::give_up;
use super::{OrderView, anomaly, minor_units};
use crate::app::App;
use crate::metrics::{self, RechargeStatus};
use crate::payment::{Begun, NewPayment, PaymentClient, PaymentError};
use crate::store;
use crate::store::StoreError;
use crate::store::recharge_order::{self, Named, NewOrder, Order, Source};
use crate::store::retry::{MayBeStore, retry};

/// What a user asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecharge {
    /// Whose account gets the money.
    pub account: AccountId,
    /// How much.
    pub amount: Nanos,
    /// Of what; must be the currency of accounts.
    pub currency: String,
    /// How it is paid.
    pub method: Method,
    /// Where the payer goes afterwards; else where the configuration says.
    pub return_url: Option<String>,
    /// The user's name for this order: with the same content it names the same order.
    pub key: String,
    /// The payer's address, for the payment service.
    pub client_ip: String,
}

/// Why there is no order, or no payment for it.
#[derive(Debug, thiserror::Error)]
pub enum RechargeError {
    /// The operator has not set a payment service up.
    #[error("this service takes no payments: its operator has not configured payment_service")]
    NotConfigured,
    /// No currency was named.
    #[error("currency is missing; write {billing}")]
    CurrencyMissing {
        /// What accounts are kept in.
        billing: String,
    },
    /// A currency that accounts are not kept in.
    #[error("currency is {currency:?}; accounts are kept in {billing}: write that")]
    Currency {
        /// What was asked for.
        currency: String,
        /// What accounts are kept in.
        billing: String,
    },
    /// An amount that cannot be ordered.
    #[error("amount {0}")]
    Amount(#[from] AmountError),
    /// The key was used for something else.
    #[error("key {key:?} was used for another order; give this one a key of its own")]
    Conflict {
        /// The key.
        key: String,
    },
    /// Too many orders wait for their payment.
    #[error(
        "{PENDING_MAX} orders of this account wait for their payment; pay one, or wait until they are closed"
    )]
    TooManyPending,
    /// The payment service does not want it; the order has failed.
    #[error(
        "the payment service refused ({message}); order {order_id} has failed: make another one, with a key of its own"
    )]
    Refused {
        /// The order.
        order_id: String,
        /// Why, in the payment service's words.
        message: String,
    },
    /// Nobody knows whether there is a payment; asking again under the key tells. What exactly was seen is for the log: it
    /// is about the operator's network, and users read this.
    #[error(
        "the payment service gave no usable answer; order {order_id} is kept: send the same request with the same key again"
    )]
    Unavailable {
        /// The order.
        order_id: String,
        /// What was seen.
        source: PaymentError,
    },
    /// The database's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MayBeStore for RechargeError {
    fn into_store(self) -> Result<StoreError, Self> {
        match self {
            Self::Store(err) => Ok(err),
            other => Err(other),
        }
    }
}

/// Orders of one account that may wait for their payment. Beyond it somebody is filling the table.
const PENDING_MAX: u32 = 200;

/// What ids of orders begin with, as the predecessor's do.
const ID_PREFIX: &str = "recharge_";

/// Whether an id is one that [`run`] makes: such an order stands in the database or nowhere.
pub(super) fn is_own_id(order_id: &str) -> bool {
    order_id.strip_prefix(ID_PREFIX).is_some_and(|rest| {
        rest.len() == 32
            && rest.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    })
}

pub(in crate::app) async fn run(app: &App, new: &NewRecharge) -> Result<OrderView, RechargeError> {
    let payment = app.payment.as_ref().ok_or(RechargeError::NotConfigured)?;
    validate(app, new)?;
    let hash = body_hash(new);
    let order = retry("recharge", || place(app, new, &hash)).await?;
    if order.body_hash.as_deref() != Some(&hash[..]) {
        return Err(RechargeError::Conflict { key: new.key.clone() });
    }
    match &order {
        Order { state: State::Failed, payment_id: None, failure: Some(message), .. } => {
            let (order_id, message) = (order.order_id.clone(), message.clone());
            Err(RechargeError::Refused { order_id, message })
        }
        Order { state: State::Pending, payment_url: None, .. } => {
            begin_payment(app, payment, new, order).await
        }
        Order { .. } => Ok(order.into()),
    }
}

fn validate(app: &App, new: &NewRecharge) -> Result<(), RechargeError> {
    let billing = &app.settings.currency;
    if new.currency.is_empty() {
        return Err(RechargeError::CurrencyMissing { billing: billing.clone() });
    }
    if !new.currency.eq_ignore_ascii_case(billing) {
        let (currency, billing) = (new.currency.clone(), billing.clone());
        return Err(RechargeError::Currency { currency, billing });
    }
    order::orderable(new.amount, app.settings.currency_decimals, app.settings.recharge_max)?;
    Ok(())
}

/// Writes the order, or finds the one that the key names.
async fn place(app: &App, new: &NewRecharge, hash: &[u8]) -> Result<Order, RechargeError> {
    let mut connection = app.store.acquire().await?;
    if let Some(order) =
        recharge_order::find_by_key(&mut connection, &new.account, &new.key).await?
    {
        return Ok(order);
    }
    let pending = recharge_order::count_pending(&mut connection, &new.account, PENDING_MAX).await?;
    if PENDING_MAX <= pending {
        return Err(RechargeError::TooManyPending);
    }
    let order_id = format!("{ID_PREFIX}{}", Uuid::new_v4().simple());
    let row = NewOrder {
        order_id: &order_id,
        account: &new.account,
        amount: new.amount,
        currency: &app.settings.currency,
        method: Some(new.method),
        source: Source::Farebox,
        key: Some((&new.key, hash)),
        ask_after: FIRST_ASKED_AFTER,
    };
    let started = Instant::now();
    drop(connection);
    let (is_new, order) = retry("recharge", || async {
        let mut tx = app.store.begin().await?;
        let outcome = async {
            let is_new = recharge_order::insert(&mut tx, &row).await?;
            // Whoever wrote it: the key's order is there now.
            Ok::<_, StoreError>((
                is_new,
                recharge_order::find_by_key(&mut tx, &new.account, &new.key).await?,
            ))
        }
        .await;
        store::finish(tx, outcome).await
    })
    .await?;
    if is_new {
        metrics::order_create_duration(started.elapsed());
        metrics::order(State::Pending);
    }
    Ok(order.ok_or(StoreError::Raced { table: "recharge_order" })?)
}

/// Asks the payment service for the order's payment. It may have been asked before: it gives the same one again.
async fn begin_payment(
    app: &App,
    payment: &PaymentClient,
    new: &NewRecharge,
    order: Order,
) -> Result<OrderView, RechargeError> {
    let decimals = usize::try_from(app.settings.currency_decimals).unwrap_or_default();
    let payable_for = TimeDelta::from_std(order::PAYABLE_FOR).unwrap_or_default();
    let request = NewPayment {
        order_id: &order.order_id,
        user_id: order.account.as_str(),
        amount_minor: minor_units(app, &order.order_id, order.amount)?,
        currency: &order.currency,
        method: new.method,
        subject: format!(
            "账户充值 / Account recharge {} {}",
            with_decimals(order.amount, decimals),
            order.currency
        ),
        return_url: new.return_url.as_deref(),
        client_ip: &new.client_ip,
        expires_at: order.created_at + payable_for,
    };
    match payment.create(&request).await {
        Ok(begun) => name_payment(app, order, &begun).await,
        Err(PaymentError::Refused { message }) => refused(app, order, message).await,
        Err(source) => {
            tracing::warn!(order.id = order.order_id, error = %source, "an order has no payment yet");
            Err(RechargeError::Unavailable { order_id: order.order_id, source })
        }
    }
}

/// Ends an order whose payment was refused, unless a payment has appeared meanwhile: somebody may have asked for it a
/// moment earlier.
async fn refused(app: &App, order: Order, message: String) -> Result<OrderView, RechargeError> {
    let order_id = order.order_id.clone();
    let has_none = |order: &Order| order.payment_id.is_none();
    if give_up(app, &order_id, State::Failed, &message, has_none).await? {
        metrics::recharge_failed();
        metrics::recharge(RechargeStatus::Failed, order.amount);
        return Err(RechargeError::Refused { order_id, message });
    }
    let mut connection = app.store.acquire().await?;
    match recharge_order::find(&mut connection, &order_id).await? {
        Some(order) if order.payment_id.is_some() => Ok(order.into()),
        Some(_) | None => Err(RechargeError::Refused { order_id, message }),
    }
}

/// Stores the payment's name. Should the payment service give one order two payments, or one payment two orders, the
/// first one stays.
async fn name_payment(app: &App, order: Order, begun: &Begun) -> Result<OrderView, RechargeError> {
    let Begun { payment_id, payment_url } = begun;
    let id = &order.order_id;
    let (named, found) = retry("recharge", || async {
        let mut tx = app.store.begin().await?;
        let outcome = async {
            let url = Some(payment_url.as_str());
            let named = recharge_order::name_payment(&mut tx, id, payment_id, url).await?;
            Ok::<_, StoreError>((named, recharge_order::find(&mut tx, id).await?))
        }
        .await;
        store::finish(tx, outcome).await
    })
    .await?;
    let kind = match named {
        Named::Yes => return Ok(found.unwrap_or(order).into()),
        Named::HasAnother => Mismatch::Payment,
        Named::Taken => Mismatch::Order,
    };
    let claim =
        Claim { payment_id, amount: order.amount, currency: &order.currency, user_id: None };
    anomaly::keep(app, kind, id, Some(&order), &claim, "CreatePayment").await?;
    let what = format!("payment {payment_id} does not belong to order {id}");
    Err(RechargeError::Unavailable {
        order_id: order.order_id,
        source: PaymentError::Garbage { what },
    })
}

/// What makes two orders the same.
fn body_hash(new: &NewRecharge) -> [u8; 32] {
    let currency = new.currency.to_ascii_uppercase();
    let content =
        serde_json::to_vec(&(&new.amount, currency, new.method.as_str(), &new.return_url));
    // Texts always have a JSON text; it keeps their ends apart.
    Sha256::digest(content.unwrap_or_default()).into()
}

/// An amount as people write it: with all decimals of its currency.
fn with_decimals(amount: Nanos, decimals: usize) -> String {
    let text = amount.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    if decimals == 0 { whole.to_owned() } else { format!("{whole}.{fraction:0<decimals$}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_our_own_are_told_from_those_of_the_predecessor() {
        let own = format!("{ID_PREFIX}{}", Uuid::new_v4().simple());
        assert!(is_own_id(&own), "{own}");
        for other in [
            "order_7_20251130120000",
            "recharge_u1_1700000000",
            "recharge_",
            &own.to_uppercase(),
            &format!("{own}0"),
        ] {
            assert!(!is_own_id(other), "{other}");
        }
    }

    #[test]
    fn payers_read_amounts_with_all_their_decimals() {
        for (amount, decimals, text) in
            [("10", 2, "10.00"), ("0.5", 2, "0.50"), ("100", 0, "100"), ("1.234", 3, "1.234")]
        {
            assert_eq!(with_decimals(amount.parse().unwrap(), decimals), text);
        }
    }
}

//! Recharge orders: made by users, paid at the payment service, credited once, given back by operators.
//!
//! | file | what it does |
//! |---|---|
//! | `create` | writes the order, then begins its payment |
//! | `callback` | takes the payment service's news in |
//! | `ask` | asks for news that never came |
//! | `settle` | the one place where news changes an order and its account |
//! | `refund` | gives money back |
//! | `legacy` | orders that the predecessor left in Redis |
//! | `anomaly` | news that did not fit, and what people decide about it |
//! | `view` | orders as users and operators see them |

use chrono::{DateTime, Utc};
use farebox_core::money::Nanos;
use farebox_core::order::{self, State};
use serde::{Deserialize, Serialize};

pub use crate::app::orders::anomaly::{
    Action, ActionError, AnomaliesError, AnomalyFilter, AnomalyPage, AnomalyState,
    AnomalyStateError, AnomalyView, Resolution, ResolutionView, ResolveError,
};
pub use crate::app::orders::callback::{Callback, CallbackError, Noted};
pub use crate::app::orders::create::{NewRecharge, RechargeError};
pub use crate::app::orders::legacy::{ImportError, ImportReport};
pub use crate::app::orders::refund::{NewRefund, RefundError, RefundView};
pub use crate::app::orders::view::{OrderFilter, OrderWithRefunds, OrdersError, Page};
use crate::app::{App, rfc3339};
use crate::store::recharge_order::Order;
use crate::store::{StoreError, outbox};

pub(super) mod anomaly;
pub(super) mod ask;
pub(super) mod callback;
pub(super) mod create;
pub(super) mod legacy;
pub(super) mod refund;
mod settle;
pub(super) mod view;

/// Why an order or a refund failed, as much as its column holds.
fn failure_text(why: &str) -> String {
    const CHARACTERS_MAX: usize = 255;
    why.chars().take(CHARACTERS_MAX).collect()
}

/// An order as its user and operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OrderView {
    /// Its id.
    pub order_id: String,
    /// Whose account it adds money to.
    pub user_id: String,
    /// Where it stands.
    pub state: State,
    /// What was ordered.
    pub amount: Nanos,
    /// What of it has gone back.
    pub refunded_amount: Nanos,
    /// The currency of both, ISO 4217.
    pub currency: String,
    /// How it is paid; unknown for orders of the predecessor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_method: Option<String>,
    /// The payment service's id of the payment, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_id: Option<String>,
    /// The page where it can be paid, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_url: Option<String>,
    /// Why the payment did not come about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// When the order was made, RFC 3339 in UTC.
    pub created_at: String,
    /// When the money came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid_at: Option<String>,
    /// When it was credited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credited_at: Option<String>,
    /// When it last changed.
    pub updated_at: String,
}

impl From<Order> for OrderView {
    fn from(order: Order) -> Self {
        Self {
            order_id: order.order_id,
            user_id: order.account.into(),
            state: order.state,
            amount: order.amount,
            refunded_amount: order.refunded,
            currency: order.currency,
            payment_method: order.method,
            payment_id: order.payment_id,
            payment_url: order.payment_url,
            failure: order.failure,
            created_at: rfc3339(order.created_at),
            paid_at: order.paid_at.map(rfc3339),
            credited_at: order.credited_at.map(rfc3339),
            updated_at: rfc3339(order.updated_at),
        }
    }
}

/// The order's amount in minor units. Orders are checked when they are made; only a row that was changed by hand has none.
fn minor_units(app: &App, order_id: &str, amount: Nanos) -> Result<i64, StoreError> {
    order::minor_units(amount, app.settings.currency_decimals).map_err(|_| StoreError::Corrupt {
        table: "recharge_order",
        column: "amount",
        key: order_id.to_owned(),
    })
}

/// What an event tells about an order.
#[derive(Serialize)]
struct EventPayload<'a> {
    #[serde(rename = "type")]
    event_type: &'static str,
    timestamp: String,
    #[serde(rename = "data")]
    order: EventOrder<'a>,
}

#[derive(Serialize)]
struct EventOrder<'a> {
    order_id: &'a str,
    user_id: &'a str,
    payment_id: Option<&'a str>,
    state: State,
    amount: Nanos,
    /// Credited, or given back, by what the event tells.
    changed_by: Nanos,
    currency: &'a str,
    /// The account's balance after it.
    balance: Nanos,
}

/// Tells other systems about a change of an order and its account.
async fn announce(
    tx: &mut sqlx::mysql::MySqlConnection,
    event_type: &'static str,
    order: &Order,
    change: Change,
) -> Result<(), StoreError> {
    let payload = EventPayload {
        event_type,
        timestamp: rfc3339(change.at),
        order: EventOrder {
            order_id: &order.order_id,
            user_id: order.account.as_str(),
            payment_id: order.payment_id.as_deref(),
            state: change.state,
            amount: order.amount,
            changed_by: change.amount,
            currency: &order.currency,
            balance: change.balance,
        },
    };
    let event = outbox::NewEvent {
        event_id: &crate::app::books::new_id(),
        event_type,
        account: &order.account,
        // Texts and numbers always have a JSON text.
        payload_json: serde_json::to_string(&payload).unwrap_or_default(),
    };
    outbox::insert(tx, &event).await
}

/// What happened to an order.
struct Change {
    state: State,
    amount: Nanos,
    balance: Nanos,
    at: DateTime<Utc>,
}

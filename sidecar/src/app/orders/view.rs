//! Orders as users and operators see them.

use farebox_core::id::AccountId;
use farebox_core::order::{ID_BYTES_MAX, State};
use serde::{Deserialize, Serialize};

use super::legacy::{self, Lookup};
use super::{OrderView, RefundView};
use crate::app::page::{self, PageError, Place as _};
use crate::app::{App, cursor};
use crate::store::StoreError;
use crate::store::recharge_order::{self, Order, Place, Selection};
use crate::store::recharge_refund;

/// Which orders a page has.
#[derive(Debug, Clone, Default)]
pub struct OrderFilter {
    /// Of this account only.
    pub account: Option<AccountId>,
    /// In this state only.
    pub state: Option<State>,
    /// How many at most, 1 to 200; 20 when it is not said.
    pub limit: Option<u32>,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

/// An order as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OrderWithRefunds {
    /// The order.
    #[serde(flatten)]
    pub order: OrderView,
    /// What went back of it or is on its way, oldest first.
    pub refunds: Vec<RefundView>,
}

/// Orders, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = OrderPage)]
pub struct Page {
    /// The orders.
    pub orders: Vec<OrderView>,
    /// What to ask for to see the next ones; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Why orders cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum OrdersError {
    /// No such order, or somebody else's.
    #[error("there is no order {order_id}")]
    Unknown {
        /// What was named.
        order_id: String,
    },
    /// No such page.
    #[error(transparent)]
    Page(#[from] PageError),
    /// The order may be one of the predecessor's in Redis, which is away.
    #[error("order {order_id} may be in redis, which does not answer; ask again")]
    RedisAway {
        /// The order.
        order_id: String,
    },
    /// The database's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(in crate::app) async fn one(
    app: &App,
    order_id: &str,
    account: Option<&AccountId>,
) -> Result<OrderView, OrdersError> {
    let unknown = || OrdersError::Unknown { order_id: order_id.to_owned() };
    if ID_BYTES_MAX < order_id.len() {
        return Err(unknown());
    }
    let mut connection = app.store.acquire().await?;
    let mut order = recharge_order::find(&mut connection, order_id).await?;
    drop(connection);
    if order.is_none() {
        match legacy::import(app, order_id).await? {
            Lookup::Absent => {}
            Lookup::Away => return Err(OrdersError::RedisAway { order_id: order_id.to_owned() }),
            Lookup::Imported => {
                let mut connection = app.store.acquire().await?;
                order = recharge_order::find(&mut connection, order_id).await?;
            }
        }
    }
    let is_theirs = |order: &Order| account.is_none_or(|account| order.account == *account);
    order.filter(is_theirs).map(OrderView::from).ok_or_else(unknown)
}

pub(in crate::app) async fn with_refunds(
    app: &App,
    order_id: &str,
) -> Result<OrderWithRefunds, OrdersError> {
    let order = one(app, order_id, None).await?;
    let mut connection = app.store.acquire().await?;
    let refunds = recharge_refund::of_order(&mut connection, &order.order_id).await?;
    Ok(OrderWithRefunds { order, refunds: refunds.into_iter().map(RefundView::from).collect() })
}

pub(in crate::app) async fn page(app: &App, filter: &OrderFilter) -> Result<Page, OrdersError> {
    let limit = page::limit(filter.limit)?;
    let after = page::after(filter.cursor.as_deref())?;
    let after = after.map(|cursor::Place { created_at, id }| Place { created_at, order_id: id });
    let selection = Selection { account: filter.account.as_ref(), state: filter.state, after };
    let mut connection = app.store.acquire().await?;
    let listed = recharge_order::list(&mut connection, &selection, limit).await?;
    let orders = listed.rows.into_iter().map(OrderView::from).collect();
    Ok(Page { orders, next_cursor: listed.end.map(end_of_page) })
}

fn end_of_page(Place { created_at, order_id }: Place) -> String {
    cursor::Place { created_at, id: order_id }.to_text()
}

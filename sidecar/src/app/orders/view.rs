//! Orders as users and operators see them.

use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Datelike as _};
use farebox_core::id::AccountId;
use farebox_core::order::{ID_BYTES_MAX, State};
use serde::{Deserialize, Serialize};

use super::legacy::{self, Lookup};
use super::{OrderView, RefundView};
use crate::app::App;
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
    /// How many at most, 1 to [`LIMIT_MAX`]; 20 when it is not said.
    pub limit: Option<u32>,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

/// An order as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderWithRefunds {
    /// The order.
    #[serde(flatten)]
    pub order: OrderView,
    /// What went back of it or is on its way, oldest first.
    pub refunds: Vec<RefundView>,
}

/// Orders, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// A page size out of bounds.
    #[error("limit is {limit}; write 1 to {LIMIT_MAX}")]
    Limit {
        /// What was asked for.
        limit: u32,
    },
    /// A cursor that no page gave.
    #[error(
        "cursor cannot be read; write the next_cursor of the page before, or none for the first page"
    )]
    Cursor,
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

/// The most orders of one page, and how many there are when nothing is said.
const LIMIT_MAX: u32 = 200;
const LIMIT: u32 = 20;

/// The years that a cursor may name; the calendar of this process has years that the database refuses.
const YEARS: RangeInclusive<i32> = 1970..=9999;

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
    let limit = filter.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(OrdersError::Limit { limit });
    }
    let after = filter.cursor.as_deref().map(read_cursor).transpose()?;
    let selection = Selection { account: filter.account.as_ref(), state: filter.state, after };
    let mut connection = app.store.acquire().await?;
    let listed = recharge_order::list(&mut connection, &selection, limit).await?;
    let orders = listed.orders.into_iter().map(OrderView::from).collect();
    Ok(Page { orders, next_cursor: listed.end.as_ref().map(cursor) })
}

/// A place in the list, as text that nobody needs to understand.
fn cursor(place: &Place) -> String {
    let place = format!("{} {}", place.created_at.timestamp_millis(), place.order_id);
    URL_SAFE_NO_PAD.encode(place)
}

fn read_cursor(text: &str) -> Result<Place, OrdersError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| OrdersError::Cursor)?;
    let place = String::from_utf8(bytes).map_err(|_| OrdersError::Cursor)?;
    let (millis, order_id) = place.split_once(' ').ok_or(OrdersError::Cursor)?;
    let millis = millis.parse().map_err(|_| OrdersError::Cursor)?;
    let created_at = DateTime::from_timestamp_millis(millis)
        .filter(|time| YEARS.contains(&time.year()))
        .ok_or(OrdersError::Cursor)?;
    Ok(Place { created_at, order_id: order_id.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_that_no_page_gave_is_refused() {
        for text in ["", "x", "####", "MTIz", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5IG8"] {
            assert!(matches!(read_cursor(text), Err(OrdersError::Cursor)), "{text}");
        }
        let place = read_cursor(&URL_SAFE_NO_PAD.encode("1700000000123 order 7")).unwrap();
        assert_eq!(
            (place.created_at.timestamp_millis(), place.order_id.as_str()),
            (1_700_000_000_123, "order 7")
        );
    }
}

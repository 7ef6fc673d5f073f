//! `GET /api/v1/billing/orders` and `GET /api/v1/billing/orders/{order_id}`: a user's own orders.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use farebox_core::order::State as OrderState;

use super::super::orders::{answer, filter};
use super::super::reply::language;
use super::Public;
use crate::api::document::PageOf;
use crate::app::{OrderFilter, OrderView, Page};

/// Lists the own orders, newest first
#[utoipa::path(get, path = "/api/v1/billing/orders", operation_id = "orders", tag = "recharge",
    params(("state" = Option<OrderState>, Query, description = "Of this state only."), PageOf),
    responses((status = 200, description = "A page of orders", body = Page)))]
pub(super) async fn list(State(public): State<Public>, uri: Uri, headers: HeaderMap) -> Response {
    let language = language(&headers);
    let account = match public.identities.account(&headers) {
        Ok(account) => account,
        Err(err) => return err.answer(language),
    };
    let filter = match filter(&uri, &["state", "limit", "cursor"], language) {
        Ok(filter) => OrderFilter { account: Some(account), ..filter },
        Err(refusal) => return *refusal,
    };
    answer(language, public.timeout, public.app.orders(&filter)).await
}

/// Shows an order
///
/// Somebody else's order is not found.
#[utoipa::path(get, path = "/api/v1/billing/orders/{order_id}", operation_id = "order", tag = "recharge",
    params(("order_id" = String, Path, description = "The order's id.")),
    responses((status = 200, description = "The order", body = OrderView)))]
pub(super) async fn show(
    State(public): State<Public>,
    Path(order_id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let language = language(&headers);
    match public.identities.account(&headers) {
        Ok(account) => {
            let order = public.app.order(&order_id, Some(&account));
            answer(language, public.timeout, order).await
        }
        Err(err) => err.answer(language),
    }
}

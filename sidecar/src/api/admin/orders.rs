//! `/admin/v1/orders`: every user's orders, and refunds.

use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use farebox_core::code::{Code, Language};
use farebox_core::id::AccountId;
use farebox_core::order::{RefundRefusal, State as OrderState};
use farebox_core::problem::Problem;
use serde::Deserialize;
use utoipa_axum::routes;

use super::super::amount::Amount;
use super::super::body::{self, Limit};
use super::super::document::{Key, PageOf, Routes};
use super::super::key;
use super::super::orders::{answer, filter};
use super::super::reply::{self, language, problem};
use crate::app::{App, Caller, NewRefund, OrderWithRefunds, Page, RefundError, RefundView};
use crate::trace;

/// The largest body.
const LIMIT: Limit = Limit { bytes: 16 * 1_024, remedy: "send the refund alone" };

/// How long looking may take.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn routes() -> Routes<App> {
    let refused =
        [Code::InvalidArgument, Code::Conflict, Code::OrderNotFound, Code::PaymentNotConfigured];
    Routes::new()
        .add(routes!(list), &[Code::InvalidArgument])
        .add(routes!(show), &[Code::OrderNotFound])
        .add(routes!(refund), &refused)
}

/// Lists orders, newest first
#[utoipa::path(get, path = "/admin/v1/orders", operation_id = "listOrders", tag = "orders",
    params(("user" = Option<AccountId>, Query, description = "Of this user only."),
        ("state" = Option<OrderState>, Query, description = "Of this state only."), PageOf),
    responses((status = 200, description = "A page of orders", body = Page)))]
async fn list(State(app): State<App>, uri: Uri, headers: HeaderMap) -> Response {
    let language = language(&headers);
    match filter(&uri, &["user", "state", "limit", "cursor"], language) {
        Ok(filter) => answer(language, TIMEOUT, app.orders(&filter)).await,
        Err(refusal) => *refusal,
    }
}

/// Shows an order and its refunds
#[utoipa::path(get, path = "/admin/v1/orders/{order_id}", operation_id = "showOrder", tag = "orders",
    params(("order_id" = String, Path, description = "The order's id.")),
    responses((status = 200, description = "The order", body = OrderWithRefunds)))]
async fn show(
    State(app): State<App>,
    Path(order_id): Path<String>,
    headers: HeaderMap,
) -> Response {
    answer(language(&headers), TIMEOUT, app.order_with_refunds(&order_id)).await
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RefundOfOrder)]
struct Body {
    /// All that is left, when it is not said.
    #[serde(default)]
    amount: Option<Amount>,
    /// Why, for the audit log.
    #[schema(min_length = 1, max_length = 1000)]
    reason: String,
    /// Whether the account may owe what it has spent already.
    #[serde(default)]
    allow_receivable: bool,
}

/// Gives money of an order back
///
/// The account gives it first, then the payment service is asked, as long as it takes. With the same key only once.
#[utoipa::path(post, path = "/admin/v1/orders/{order_id}/refund", operation_id = "refundOrder", tag = "orders",
    params(("order_id" = String, Path, description = "The order's id."), Key), request_body = Body,
    responses((status = 200, description = "How it ended: `done` or `failed`", body = RefundView),
        (status = 202, description = "`pending`: the sidecar goes on asking", body = RefundView)))]
async fn refund(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(order_id): Path<String>,
    request: Request,
) -> Response {
    let language = language(request.headers());
    let new = match read(order_id, caller, request, language).await {
        Ok(new) => new,
        Err(refusal) => return *refusal,
    };
    // What has begun is finished, whether or not the operator still waits.
    let task = trace::spawn(async move { app.refund(&new).await });
    match task.await {
        Ok(Ok(refund)) => {
            let is_pending = refund.state == "pending";
            let status = if is_pending { StatusCode::ACCEPTED } else { StatusCode::OK };
            reply::value::<RefundView>(status, &refund, language)
        }
        Ok(Err(err)) => failed(language, &err),
        Err(err) => {
            tracing::error!(error = %err, "a refund was not finished");
            reply::internal(language)
        }
    }
}

async fn read(
    order_id: String,
    caller: Caller,
    request: Request,
    language: Language,
) -> Result<NewRefund, Box<Response>> {
    let (head, body) = request.into_parts();
    let key = key::idempotency_key(&head.headers, language)?;
    let body = body::read(&head.headers, body, LIMIT, language).await?;
    let body: Body =
        body::parse(&body).map_err(|malformed| Box::new(malformed.into_response(language)))?;
    Ok(NewRefund {
        order_id,
        amount: body.amount.map(|amount| amount.0),
        reason: body.reason,
        key,
        actor: caller.actor,
        allow_receivable: body.allow_receivable,
    })
}

fn failed(language: Language, err: &RefundError) -> Response {
    let with = |code| Problem::new(code, language, err.to_string());
    let plain = match err {
        RefundError::Store(store) => return reply::store_failed(language, store),
        RefundError::NotConfigured => with(Code::PaymentNotConfigured),
        RefundError::UnknownOrder { .. } => with(Code::OrderNotFound),
        RefundError::Length(text) => with(Code::InvalidArgument).with_field(text.field),
        RefundError::Amount(_) => with(Code::InvalidArgument).with_field("amount"),
        RefundError::Conflict { .. } => with(Code::Conflict).with_field(key::IDEMPOTENCY_KEY),
        RefundError::NoPayment { .. }
        | RefundError::Refusal(RefundRefusal::NotPaid { .. } | RefundRefusal::NothingLeft) => {
            with(Code::Conflict)
        }
        RefundError::Refusal(RefundRefusal::MoreThanPaid { .. } | RefundRefusal::Spent { .. }) => {
            with(Code::Conflict).with_field("amount")
        }
    };
    problem(language, plain)
}

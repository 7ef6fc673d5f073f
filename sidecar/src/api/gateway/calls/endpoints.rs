//! The six endpoints and their documents. All that they differ in is in `kind.rs`.

use axum::extract::{Request, State};
use axum::response::Response;
use farebox_core::call::{
    CHECK_PATH, COMMIT_PATH, CheckReply, CheckRequest, CommitReply, CommitRequest, DEDUCT_PATH,
    DeductReply, DeductRequest, REFUND_PATH, RELEASE_PATH, RESERVE_PATH, RefundReply,
    RefundRequest, ReleaseReply, ReleaseRequest, ReserveReply, ReserveRequest,
};
use farebox_core::code::Code;
use utoipa_axum::routes;

use super::forms::{OneOrBatch, OneOrResults, Short};
use super::{Gateways, call};
use crate::api::document::{KeyOrNone, Routes};

/// The aliases are the addresses of the predecessor's later versions.
pub(in crate::api::gateway) fn routes() -> Routes<Gateways> {
    use Code::{
        AccountBusy, AccountFrozen, Conflict, InsufficientBalance, InsufficientQuota,
        InvalidArgument, NotFound, Overloaded, Unavailable, UnknownService,
    };
    let charged = [
        Conflict,
        InsufficientBalance,
        InsufficientQuota,
        UnknownService,
        AccountFrozen,
        AccountBusy,
    ];
    let ended = [NotFound, Conflict, AccountBusy];
    Routes::new()
        .add_with_alias(routes!(check), "/billing/v1/internal/check", &[UnknownService])
        .add_with_alias(routes!(deduct), "/billing/v1/internal/deduct", &charged)
        .add(routes!(reserve), &charged)
        .add(routes!(commit), &ended)
        .add(routes!(release), &ended)
        .add(routes!(refund), &ended)
        .all_refuse(&[InvalidArgument, Overloaded, Unavailable])
}

/// Tells what a deduct would come to
///
/// No is an answer too. Nothing is set aside, and no money moves. With Redis, a yes may be up to a second old; a no never is.
#[utoipa::path(post, path = CHECK_PATH, operation_id = "check", tag = "calls",
    request_body = OneOrBatch<CheckRequest>,
    responses((status = 200, description = "What a deduct at this moment would come to; of a batch, one reply for each request", body = OneOrResults<CheckReply>)))]
async fn check(State(gateways): State<Gateways>, request: Request) -> Response {
    call::<CheckRequest>(gateways, request).await
}

/// Charges a call
///
/// Free units first, then money; all of it or nothing. Sent again with the same key and content, it gets its first answer for 24 hours, refusals too. It creates the account of a new user.
#[utoipa::path(post, path = DEDUCT_PATH, operation_id = "deduct", tag = "calls", params(KeyOrNone),
    request_body = OneOrBatch<DeductRequest>,
    responses((status = 200, description = "The call is charged; of a batch, one reply for each request", body = OneOrResults<DeductReply>), Short))]
async fn deduct(State(gateways): State<Gateways>, request: Request) -> Response {
    call::<DeductRequest>(gateways, request).await
}

/// Sets units or money aside for a call
///
/// Of `units` or of an `amount`: one of them. What is neither committed nor released comes back by itself.
#[utoipa::path(post, path = RESERVE_PATH, operation_id = "reserve", tag = "calls", params(KeyOrNone),
    request_body = OneOrBatch<ReserveRequest>,
    responses((status = 200, description = "It is set aside; of a batch, one reply for each request", body = OneOrResults<ReserveReply>), Short))]
async fn reserve(State(gateways): State<Gateways>, request: Request) -> Response {
    call::<ReserveRequest>(gateways, request).await
}

/// Charges a reservation
///
/// All of it, or as much as the call took; the rest is given back. The reservation is its key: the same commit again gets the same answer.
#[utoipa::path(post, path = COMMIT_PATH, operation_id = "commit", tag = "calls",
    request_body = OneOrBatch<CommitRequest>,
    responses((status = 200, description = "It is charged; of a batch, one reply for each request", body = OneOrResults<CommitReply>)))]
async fn commit(State(gateways): State<Gateways>, request: Request) -> Response {
    call::<CommitRequest>(gateways, request).await
}

/// Gives a reservation back
///
/// The reservation is its key. All zeros when it had run out.
#[utoipa::path(post, path = RELEASE_PATH, operation_id = "release", tag = "calls",
    request_body = OneOrBatch<ReleaseRequest>,
    responses((status = 200, description = "It is given back; of a batch, one reply for each request", body = OneOrResults<ReleaseReply>)))]
async fn release(State(gateways): State<Gateways>, request: Request) -> Response {
    call::<ReleaseRequest>(gateways, request).await
}

/// Gives a charge back
///
/// By `record_id`, or by the `deduct_key` of a deduct whose outcome is not known, with its `user_id`: if it has not arrived yet, it will charge nothing when it does.
#[utoipa::path(post, path = REFUND_PATH, operation_id = "refund", tag = "calls", params(KeyOrNone),
    request_body = OneOrBatch<RefundRequest>,
    responses((status = 200, description = "It is given back; of a batch, one reply for each request", body = OneOrResults<RefundReply>)))]
async fn refund(State(gateways): State<Gateways>, request: Request) -> Response {
    call::<RefundRequest>(gateways, request).await
}

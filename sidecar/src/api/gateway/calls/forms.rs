//! What bodies and replies look like: one request or a batch of them, as documents say it. `form.rs` and `answer.rs` read and
//! write them.
#![expect(dead_code, reason = "the members are read by the derived descriptions alone")]

use farebox_core::call::Shortfall;
use farebox_core::problem::Problem;
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

/// One request, or a batch of them.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum OneOrBatch<C: ToSchema> {
    One(C),
    Batch(Batch<C>),
}

/// Requests, each of which stands for itself: one that is refused, or cannot be read, stops no other.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Batch<C: ToSchema> {
    #[schema(min_items = 1, max_items = 1000)]
    items: Vec<C>,
}

/// The reply to one request, or the replies to a batch.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum OneOrResults<R: ToSchema> {
    One(R),
    Results(Results<R>),
}

/// One reply for each request of a batch, in its order.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Results<R: ToSchema> {
    results: Vec<ItemResult<R>>,
}

/// The reply to a request of a batch: `result` or `problem`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ItemResult<R: ToSchema> {
    /// What the HTTP status would be, were it alone.
    #[schema(minimum = 200, maximum = 599)]
    status: u16,
    #[schema(nullable = false)]
    result: Option<R>,
    #[schema(nullable = false)]
    problem: Option<CallProblem>,
}

/// Why a request was not met.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum CallProblem {
    Short(ShortProblem),
    Plain(Problem),
}

/// A refusal for want of money or units, with what there is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShortProblem {
    #[serde(flatten)]
    problem: Problem,
    #[serde(flatten)]
    shortfall: Shortfall,
}

/// Refusals for want of money or units.
#[derive(Debug, IntoResponses)]
pub(super) enum Short {
    /// Money is missing.
    #[response(status = 402, content_type = "application/problem+json")]
    Money(ShortProblem),
    /// Free units are missing, and the service has no price.
    #[response(status = 429, content_type = "application/problem+json")]
    Units(ShortProblem),
    /// The service has neither a price nor a free quota.
    #[response(status = 403, content_type = "application/problem+json")]
    Service(CallProblem),
}

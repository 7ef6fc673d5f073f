//! `POST /internal/v1/billing/callback`: what the payment service says about a payment.
//!
//! The signature is checked over the bytes as they came, before anything reads them. 200 means that the news is in the
//! database; whatever is not certain is an error, so that the sender repeats it.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use farebox_core::code::{Code, Language};
use farebox_core::id::AccountId;
use farebox_core::order::{ID_BYTES_MAX, State as OrderState, WordError, is_id};
use farebox_core::problem::Problem;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::super::amount::Amount;
use super::super::body::{self, Limit};
use super::super::reply::{self, language, problem};
use super::Public;
use crate::app::{App, Callback, CallbackError};
use crate::currency;
use crate::metrics::{self, CallbackResult, RechargeOperation};
use crate::trace;
use crate::webhook::SignatureError;

/// The largest body.
const LIMIT: Limit = Limit { bytes: 64 * 1_024, remedy: "send the callback's fields alone" };

/// How long a callback may take. Standard Webhooks asks senders to wait for 15 to 30 seconds.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The body, in the spellings of the contract and of the predecessor. Other fields are left alone.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[schema(as = Callback)]
struct Body {
    /// The payment service's id of the payment.
    #[serde(alias = "payment_id", alias = "paymentId", alias = "paymentOrderId")]
    #[schema(pattern = "^[!-~]{1,64}$")]
    payment_order_id: String,
    /// The order.
    #[serde(alias = "orderId", alias = "rechargeOrderId", alias = "recharge_order_id")]
    #[schema(pattern = "^[!-~]{1,64}$")]
    order_id: String,
    /// What was paid, in currency units.
    amount: Amount,
    /// Of what, ISO 4217.
    #[schema(pattern = "^[A-Za-z]{3}$")]
    currency: String,
    /// What became of the payment; in any case, with or without the prefix `PAYMENT_STATUS_`.
    #[schema(
        pattern = "^(PAYMENT_STATUS_)?(PENDING|SUCCESS|FAILED|CLOSED|PARTIALLY_REFUNDED|REFUNDED)$"
    )]
    status: String,
    /// Who ordered it; compared when it is said.
    #[serde(default, alias = "userId", alias = "uid")]
    user_id: Option<String>,
}

/// The answer, with the predecessor's member `success`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = CallbackTaken)]
struct Taken {
    success: bool,
    /// The order.
    order_id: String,
    /// Where it stands now.
    state: OrderState,
}

/// A reply, and what is counted.
type Answer = (Response, CallbackResult);

/// Takes news of a payment
///
/// What the payment service sends, signed as Standard Webhooks say. 200 means that the news is in the database; whatever is not
/// certain is an error, so send it again. `payment/README.md` is the page for its authors.
#[utoipa::path(post, path = "/internal/v1/billing/callback", operation_id = "callback", tag = "callbacks", request_body = Body,
    responses((status = 200, description = "It is taken in, now or earlier", body = Taken)))]
pub(super) async fn callback(State(public): State<Public>, request: Request) -> Response {
    let (language, started) = (language(request.headers()), Instant::now());
    let answer = tokio::time::timeout(TIMEOUT, answer(public, request, language));
    let (response, result) = answer.await.unwrap_or_else(|_| {
        let detail = "not done in time; send the callback again";
        (reply::come_again(language, Code::Unavailable, detail), CallbackResult::Error)
    });
    metrics::callback(result);
    metrics::recharge_duration(RechargeOperation::Callback, started.elapsed());
    response
}

async fn answer(public: Public, request: Request, language: Language) -> Answer {
    if public.callback_keys.is_empty() {
        let detail =
            "no callback secret is configured: set payment_service and FAREBOX_CALLBACK_SECRET";
        let plain = Problem::new(Code::PaymentNotConfigured, language, detail);
        return (problem(language, plain), CallbackResult::Error);
    }
    let (head, body) = request.into_parts();
    let body = match body::read(&head.headers, body, LIMIT, language).await {
        Ok(body) => body,
        Err(refusal) => return (*refusal, CallbackResult::Invalid),
    };
    if let Err(err) = public.callback_keys.verify(&head.headers, &body) {
        tracing::warn!(error = %err, "a callback was not believed");
        return (unsigned(&err, language), CallbackResult::Unsigned);
    }
    let callback = match read(&body, language) {
        Ok(callback) => callback,
        Err(refusal) => return (*refusal, CallbackResult::Invalid),
    };
    let Ok(turn) = public.callbacks.clone().acquire_owned().await else {
        return (reply::internal(language), CallbackResult::Error);
    };
    // What has begun is finished, whether or not the sender still waits.
    let app = public.app;
    let task = trace::spawn(async move {
        let _turn = turn;
        take_in(&app, &callback, language).await
    });
    task.await.unwrap_or_else(|err| {
        tracing::error!(error = %err, "a callback was not finished");
        (reply::internal(language), CallbackResult::Error)
    })
}

fn unsigned(err: &SignatureError, language: Language) -> Response {
    let code = match err {
        SignatureError::Expired => Code::TokenExpired,
        SignatureError::Missing(_)
        | SignatureError::Doubled(_)
        | SignatureError::Malformed(_)
        | SignatureError::Wrong => Code::TokenInvalid,
    };
    problem(language, Problem::new(code, language, err.to_string()))
}

fn read(body: &Bytes, language: Language) -> Result<Callback, Box<Response>> {
    let invalid = |field: &str, detail: String| {
        let plain = Problem::new(Code::InvalidArgument, language, detail);
        Box::new(problem(language, plain.with_field(field)))
    };
    let body: Body =
        body::parse(body).map_err(|malformed| Box::new(malformed.into_response(language)))?;
    for (field, id) in [("payment_order_id", &body.payment_order_id), ("order_id", &body.order_id)]
    {
        // A blank at the end would be the same to the database.
        if !is_id(id) {
            let detail =
                format!("{field} is {id:?}; write 1 to {ID_BYTES_MAX} visible ASCII characters");
            return Err(invalid(field, detail));
        }
    }
    if !currency::is_code(&body.currency) {
        let detail = "currency is no code of three letters; write for instance CNY (ISO 4217)";
        return Err(invalid("currency", detail.to_owned()));
    }
    let user_id = body.user_id.filter(|user| !user.is_empty());
    if let Some(Err(err)) = user_id.as_deref().map(str::parse::<AccountId>) {
        return Err(invalid("user_id", err.to_string()));
    }
    let status =
        body.status.parse().map_err(|err: WordError| invalid("status", err.to_string()))?;
    Ok(Callback {
        payment_id: body.payment_order_id,
        order_id: body.order_id,
        amount: body.amount.0,
        currency: body.currency,
        status,
        user_id,
    })
}

async fn take_in(app: &App, callback: &Callback, language: Language) -> Answer {
    let err = match app.callback(callback).await {
        Ok(noted) => {
            let result = match (noted.credited, noted.changed) {
                (true, _) => CallbackResult::Credited,
                (false, true) => CallbackResult::Noted,
                (false, false) => CallbackResult::Repeated,
            };
            let taken = Taken { success: true, order_id: noted.order_id, state: noted.state };
            return (reply::value(StatusCode::OK, &taken, language), result);
        }
        Err(err) => err,
    };
    let detail = err.to_string();
    let refuse = |code| problem(language, Problem::new(code, language, detail.as_str()));
    match &err {
        CallbackError::UnknownOrder { .. } => {
            tracing::warn!(
                order.id = callback.order_id,
                "a callback named an order that nobody made"
            );
            (refuse(Code::OrderNotFound), CallbackResult::UnknownOrder)
        }
        CallbackError::Mismatch { .. } => (refuse(Code::PaymentMismatch), CallbackResult::Mismatch),
        CallbackError::Unconfirmed { .. } => {
            let again = reply::come_again(language, Code::PaymentUnavailable, &detail);
            (again, CallbackResult::Error)
        }
        CallbackError::RedisAway { .. } => {
            (reply::come_again(language, Code::Unavailable, &detail), CallbackResult::Error)
        }
        CallbackError::Store(store) => {
            (reply::store_failed(language, store), CallbackResult::Error)
        }
    }
}

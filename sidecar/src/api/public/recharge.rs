//! `POST /api/v1/billing/recharge`: a user orders money and is told where to pay.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use farebox_core::code::{Code, Language};
use farebox_core::id::AccountId;
use farebox_core::order::Method;
use farebox_core::problem::Problem;
use serde::Deserialize;
use tokio::time::Instant;

use super::super::amount::Amount;
use super::super::body::{self, Limit};
use super::super::key;
use super::super::reply::{self, language, problem};
use super::Public;
use crate::api::document::Key;
use crate::app::{App, NewRecharge, OrderView, RechargeError};
use crate::config::web_url;
use crate::metrics::{self, RechargeOperation};
use crate::trace;

/// The largest body.
const LIMIT: Limit = Limit { bytes: 16 * 1_024, remedy: "send the order alone" };

/// What the database may take beside the payment service and the wait for one's turn.
const DATABASE_TIME: Duration = Duration::from_secs(5);

/// The body. The predecessor's two spellings are read; what it silently dropped is an error here.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Recharge)]
struct Body {
    /// How much, with no more decimals than the currency has.
    amount: Amount,
    /// That of accounts, ISO 4217.
    #[serde(default)]
    #[schema(required, pattern = "^[A-Z]{3}$")]
    currency: String,
    /// How it is paid.
    #[serde(alias = "paymentMethod")]
    #[schema(value_type = Method)]
    payment_method: String,
    /// Where the payer goes afterwards, `http://` or `https://`.
    #[serde(default, alias = "returnUrl")]
    return_url: Option<String>,
    /// No other than the caller's; leave it out.
    #[serde(default, alias = "userId")]
    user_id: Option<String>,
}

/// Orders money
///
/// The reply says where to pay. The same key and content again gets the same order and payment; after 503 send the same again.
/// Whose account it is says the gateway.
#[utoipa::path(post, path = "/api/v1/billing/recharge", operation_id = "recharge", tag = "recharge", params(Key),
    request_body = Body,
    responses((status = 200, description = "The order, with the page where it can be paid", body = OrderView),
        (status = 429, description = "`100303` Billing service overloaded (计费服务繁忙): 200 orders wait for their payment",
            body = Problem, content_type = "application/problem+json")))]
pub(super) async fn recharge(State(public): State<Public>, request: Request) -> Response {
    let (language, started) = (language(request.headers()), Instant::now());
    let deadline = started + public.app.payment_timeout() + public.timeout + DATABASE_TIME;
    let answer = match tokio::time::timeout_at(deadline, answer(public, request, language)).await {
        Ok(Ok(response)) => response,
        Ok(Err(refusal)) => *refusal,
        Err(_) => reply::come_again(
            language,
            Code::Unavailable,
            "not done in time; send the same request with the same Idempotency-Key again",
        ),
    };
    metrics::recharge_duration(RechargeOperation::Create, started.elapsed());
    answer
}

async fn answer(
    public: Public,
    request: Request,
    language: Language,
) -> Result<Response, Box<Response>> {
    let (head, body) = request.into_parts();
    let account =
        public.identities.account(&head.headers).map_err(|err| Box::new(err.answer(language)))?;
    let key = key::idempotency_key(&head.headers, language)?;
    let body = body::read(&head.headers, body, LIMIT, language).await?;
    let new = order(&body, account, key, &head.headers, language)?;
    let Ok(turn) = public.recharges.clone().acquire_owned().await else {
        return Ok(reply::internal(language));
    };
    // What has begun is finished, whether or not the user still waits.
    let app = public.app;
    let task = trace::spawn(async move {
        let _turn = turn;
        make(&app, &new, language).await
    });
    Ok(task.await.unwrap_or_else(|err| {
        tracing::error!(error = %err, "a recharge was not finished");
        reply::internal(language)
    }))
}

/// The order that the body asks for.
fn order(
    body: &[u8],
    account: AccountId,
    key: String,
    headers: &HeaderMap,
    language: Language,
) -> Result<NewRecharge, Box<Response>> {
    let invalid = |field: &str, detail: String| {
        let plain = Problem::new(Code::InvalidArgument, language, detail);
        Box::new(problem(language, plain.with_field(field)))
    };
    let body: Body =
        body::parse(body).map_err(|malformed| Box::new(malformed.into_response(language)))?;
    if body.user_id.as_deref().is_some_and(|user| user != account.as_str()) {
        let detail = format!("user_id is another one than the caller's, {account}; leave it out");
        let plain = Problem::new(Code::Forbidden, language, detail);
        return Err(Box::new(problem(language, plain.with_field("user_id"))));
    }
    let method: Method =
        body.payment_method.parse().map_err(|err: farebox_core::order::WordError| {
            invalid("payment_method", err.to_string())
        })?;
    let return_url = body.return_url.filter(|url| !url.is_empty());
    if let Some(Err(complaint)) = return_url.as_deref().map(web_url) {
        return Err(invalid("return_url", format!("return_url is {complaint}")));
    }
    Ok(NewRecharge {
        account,
        amount: body.amount.0,
        currency: body.currency,
        method,
        return_url,
        key,
        client_ip: client_ip(headers),
    })
}

/// The user's address as the gateway says it, or else the last one that Envoy added. Empty when there is none.
fn client_ip(headers: &HeaderMap) -> String {
    let said = headers.get("x-envoy-external-address");
    let last = said.or_else(|| headers.get_all("x-forwarded-for").iter().next_back());
    let address =
        last.and_then(|value| value.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
    address.map_or_else(String::new, |address: IpAddr| address.to_string())
}

async fn make(app: &App, new: &NewRecharge, language: Language) -> Response {
    let failed = |code, field: Option<&str>, detail: String| {
        let plain = Problem::new(code, language, detail);
        problem(language, Problem { field: field.map(str::to_owned), ..plain })
    };
    let err = match app.recharge(new).await {
        Ok(order) => return reply::value(StatusCode::OK, &order, language),
        Err(err) => err,
    };
    let detail = err.to_string();
    match err {
        RechargeError::NotConfigured => failed(Code::PaymentNotConfigured, None, detail),
        RechargeError::CurrencyMissing { .. } | RechargeError::Currency { .. } => {
            failed(Code::CurrencyRequired, Some("currency"), detail)
        }
        RechargeError::Amount(_) => failed(Code::InvalidArgument, Some("amount"), detail),
        RechargeError::Conflict { .. } => {
            failed(Code::OrderConflict, Some(key::IDEMPOTENCY_KEY), detail)
        }
        RechargeError::TooManyPending => {
            let plain = Problem::new(Code::Overloaded, language, detail);
            let status = StatusCode::TOO_MANY_REQUESTS.as_u16();
            problem(language, Problem { status, ..plain })
        }
        RechargeError::Refused { .. } => failed(Code::PaymentRefused, None, detail),
        RechargeError::Unavailable { .. } => {
            reply::come_again(language, Code::PaymentUnavailable, &detail)
        }
        RechargeError::Store(store) => reply::store_failed(language, &store),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_that_the_gateway_added_last_counts() {
        let ip = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-forwarded-for", value.parse().unwrap());
            }
            client_ip(&headers)
        };
        let mut trusted = HeaderMap::new();
        trusted.insert("x-forwarded-for", "6.6.6.6, 10.0.0.1".parse().unwrap());
        trusted.insert("x-envoy-external-address", "6.6.6.6".parse().unwrap());
        assert_eq!(client_ip(&trusted), "6.6.6.6");
        assert_eq!(ip(&["6.6.6.6, 10.0.0.1"]), "10.0.0.1");
        assert_eq!(ip(&["6.6.6.6", "::1"]), "::1");
        assert_eq!(ip(&["unknown"]), "");
        assert_eq!(ip(&[]), "");
    }
}

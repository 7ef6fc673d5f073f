//! The page where a payer pays or gives up.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};

use crate::state::{Payment, Refusal, Status};
use crate::{Service, control, currency, now_ms};

type Shared = State<Arc<Service>>;

/// The routes.
pub(crate) fn router() -> Router<Arc<Service>> {
    Router::new()
        .route("/healthz", get("ok"))
        .route("/pay/{payment_id}", get(show).post(pay))
        .route("/cancel/{payment_id}", post(cancel))
        .route("/fail/{payment_id}", post(fail))
}

async fn show(State(service): Shared, Path(payment_id): Path<String>) -> Response {
    let now = now_ms();
    service.expire(now).await;
    let payment = service.store.read(|state| state.payment(&payment_id).cloned()).await;
    match payment {
        Ok(payment) => page(StatusCode::OK, &payment, now),
        Err(refusal) => text(control::status_code(&refusal), &refusal),
    }
}

async fn pay(service: Shared, Path(payment_id): Path<String>, headers: HeaderMap) -> Response {
    decide(service, payment_id, &headers, Status::Success).await
}

async fn cancel(service: Shared, Path(payment_id): Path<String>, headers: HeaderMap) -> Response {
    decide(service, payment_id, &headers, Status::Closed).await
}

async fn fail(service: Shared, Path(payment_id): Path<String>, headers: HeaderMap) -> Response {
    decide(service, payment_id, &headers, Status::Failed).await
}

/// The payer decides. A browser is sent back to the page; a program that accepts JSON gets the payment.
async fn decide(
    State(service): Shared,
    payment_id: String,
    headers: &HeaderMap,
    status: Status,
) -> Response {
    let change = |state: &mut crate::state::State| {
        match status {
            Status::Success => state.pay(&payment_id, now_ms())?,
            other => state.end(&payment_id, other, now_ms())?,
        }
        state.payment(&payment_id).cloned()
    };
    let decided: Result<Payment, Refusal> = service.store.change(change).await;
    let accepted = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if accepted.is_some_and(|accept| accept.contains("application/json")) {
        return control::answer(&service, decided);
    }
    match decided {
        Ok(_) => Redirect::to(&format!("/pay/{payment_id}")).into_response(),
        Err(refusal) => text(control::status_code(&refusal), &refusal),
    }
}

fn text(status: StatusCode, refusal: &Refusal) -> Response {
    let body =
        layout("Payment", &format!("<p class=\"note\">{}</p>", escaped(&refusal.to_string())));
    (status, Html(body)).into_response()
}

fn page(status: StatusCode, payment: &Payment, now_ms: u64) -> Response {
    let order = &payment.order;
    let amount = currency::decimal(order.amount_minor, &order.currency);
    let subject =
        if order.subject.is_empty() { "Account recharge" } else { order.subject.as_str() };
    let mut content = format!(
        "<p class=\"subject\">{}</p>
<p class=\"amount\">{} <small>{}</small></p>
<dl>
<dt>To</dt><dd>Farebox ({})</dd>
<dt>Account</dt><dd>{}</dd>
<dt>Order</dt><dd>{}</dd>
<dt>Pay with</dt><dd>{}</dd>
</dl>\n",
        escaped(subject),
        escaped(&amount),
        escaped(&order.currency),
        escaped(&order.source),
        escaped(&order.user_id),
        escaped(&order.order_id),
        escaped(&order.method),
    );
    content.push_str(&what_now(payment, now_ms));
    (status, Html(layout(&format!("Pay {amount} {}", order.currency), &content))).into_response()
}

/// The buttons while there is something to decide, otherwise what became of the payment.
fn what_now(payment: &Payment, now_ms: u64) -> String {
    let id = escaped(&payment.payment_id);
    let said = match payment.status {
        Status::Pending => "",
        Status::Failed => "The last attempt failed; no money moved.",
        Status::Success => "Paid. Thank you.",
        Status::Closed => "Closed. It cannot be paid any more.",
        Status::Refunded => "Paid, and all of the money went back.",
        Status::PartiallyRefunded => "Paid, and a part of the money went back.",
    };
    let mut html =
        format!("<p class=\"note\" data-status=\"{}\">{said}</p>\n", payment.status.name());
    if matches!(payment.status, Status::Pending | Status::Failed) {
        html.push_str(&format!(
            "<form method=\"post\" action=\"/pay/{id}\"><button class=\"pay\">Pay</button></form>\n"
        ));
    }
    if payment.status == Status::Pending {
        html.push_str(&format!(
            "<form method=\"post\" action=\"/cancel/{id}\"><button>Cancel</button></form>\n"
        ));
        if let Some(end) = payment.order.expires_at_ms {
            let minutes = end.saturating_sub(now_ms).div_ceil(60_000);
            html.push_str(&format!("<p class=\"small\">Open for {minutes} more min.</p>\n"));
        }
    }
    let back = &payment.order.return_url;
    if ["http://", "https://"].iter().any(|scheme| back.starts_with(scheme)) {
        html.push_str(&format!("<p><a href=\"{}\">Back to the shop</a></p>\n", escaped(back)));
    }
    html
}

fn layout(title: &str, content: &str) -> String {
    format!(
        "<!doctype html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<title>{}</title>
<style>{STYLE}</style>
</head>
<body><main>
<h1>Payment</h1>
{content}<p class=\"small\">A payment service for trying Farebox. No money moves.</p>
</main></body>
</html>
",
        escaped(title)
    )
}

const STYLE: &str = "
body { margin: 0; background: #eef1f4; color: #1c2733; font: 16px/1.5 system-ui, sans-serif }
main { max-width: 26rem; margin: 8vh auto; padding: 1.5rem 2rem; background: #fff; border-radius: 10px;
       box-shadow: 0 1px 6px #0002 }
h1 { margin: 0; font-size: 1rem; color: #5a6b7b; font-weight: 600 }
.subject { margin: 1rem 0 0 } .amount { margin: 0; font-size: 2.2rem; font-weight: 600 }
.amount small { font-size: 1rem; font-weight: 400 } .small { font-size: .8rem; color: #5a6b7b }
dl { display: grid; grid-template-columns: auto 1fr; gap: .2rem 1rem; overflow-wrap: anywhere }
dt { color: #5a6b7b } dd { margin: 0 } .note:empty { display: none } .note { font-weight: 600 }
form { margin: .5rem 0 }
button { width: 100%; padding: .7rem; border: 1px solid #b8c4cf; border-radius: 6px; background: #fff; font: inherit;
         cursor: pointer }
button.pay { background: #0b63ce; border-color: #0b63ce; color: #fff; font-weight: 600 }
";

/// Text for HTML, also inside of an attribute.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
    html
}

//! The control API, by which tests and curious people make the service do what real ones do on bad days.
//!
//! | call | does |
//! |---|---|
//! | `GET /control/behaviour` | how it behaves |
//! | `POST /control/behaviour` | changes the keys that are given; `null` sets one back |
//! | `DELETE /control/behaviour` | behaves well again |
//! | `POST /control/callback` | sends one callback made by hand and gives the receiver's answer |
//! | `GET /control/payments`, `GET /control/callbacks` | what it knows, what it sent and what was answered |
//! | `POST /control/refund/{payment_id}` | gives money back by itself, as after a chargeback: `{"amount_minor": 5}`, or all |
//! | `POST /control/status/{payment_id}` | sets any status, whatever it was: `{"status": "SUCCESS"}` |

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::behaviour::Behaviour;
use crate::callback::handmade::Handmade;
use crate::state::{NewRefund, Payment, Refusal, Status};
use crate::{Service, now_ms};

type Shared = State<Arc<Service>>;

/// The routes.
pub(crate) fn router() -> Router<Arc<Service>> {
    let behaviour = get(behaviour).post(change_behaviour).delete(behave_well);
    Router::new()
        .route("/control/behaviour", behaviour)
        .route("/control/callback", post(callback))
        .route("/control/callbacks", get(callbacks))
        .route("/control/payments", get(payments))
        .route("/control/refund/{payment_id}", post(refund))
        .route("/control/status/{payment_id}", post(set_status))
}

async fn behaviour(State(service): Shared) -> Json<Behaviour> {
    Json(service.store.look(|state| state.behaviour.clone()))
}

async fn change_behaviour(State(service): Shared, Json(patch): Json<Value>) -> Response {
    let change = |state: &mut crate::state::State| {
        state.behaviour = state.behaviour.changed(&patch)?;
        Ok::<_, serde_json::Error>(state.behaviour.clone())
    };
    match service.store.change(change).await {
        Ok(behaviour) => Json(behaviour).into_response(),
        Err(err) => complaint(StatusCode::BAD_REQUEST, &err),
    }
}

async fn behave_well(State(service): Shared) -> Json<Behaviour> {
    service.store.change(|state| state.behaviour = Behaviour::default()).await;
    Json(Behaviour::default())
}

async fn callback(State(service): Shared, Json(handmade): Json<Handmade>) -> Response {
    match handmade.send(&service).await {
        Ok(attempt) => {
            Json(json!({ "status": attempt.status, "body": attempt.answer })).into_response()
        }
        Err(err) => complaint(StatusCode::BAD_REQUEST, &format!("{err:#}")),
    }
}

async fn callbacks(State(service): Shared) -> Json<Value> {
    let list = |state: &crate::state::State| {
        let callbacks: Vec<Value> =
            state.outbox.callbacks().map(|callback| json!(callback)).collect();
        json!({ "callbacks": callbacks })
    };
    Json(service.store.look(list))
}

async fn payments(State(service): Shared) -> Json<Value> {
    let list = |state: &crate::state::State| {
        let payments: Vec<Value> =
            state.payments().map(|payment| view(&service, payment)).collect();
        json!({ "payments": payments })
    };
    Json(service.store.look(list))
}

/// A payment with what follows from it.
pub(crate) fn view(service: &Service, payment: &Payment) -> Value {
    json!({
        "payment_id": payment.payment_id,
        "order_id": payment.order.order_id,
        "user_id": payment.order.user_id,
        "amount_minor": payment.order.amount_minor,
        "currency": payment.order.currency,
        "method": payment.order.method,
        "status": payment.status,
        "refunded_minor": payment.refunded_minor(false),
        "refunds": payment.refunds,
        "payment_url": service.payment_url(&payment.payment_id),
        "notify_url": payment.order.notify_url,
        "return_url": payment.order.return_url,
        "client_ip": payment.order.client_ip,
        "subject": payment.order.subject,
        "created_at_ms": payment.created_at_ms,
        "paid_at_ms": payment.paid_at_ms,
        "expires_at_ms": payment.order.expires_at_ms,
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnRefund {
    amount_minor: Option<i64>,
}

async fn refund(
    State(service): Shared,
    Path(payment_id): Path<String>,
    Json(own): Json<OwnRefund>,
) -> Response {
    let refund_id = format!("own_{}", Uuid::now_v7().simple());
    let change = |state: &mut crate::state::State| {
        let payment = state.payment(&payment_id)?;
        let rest = payment.order.amount_minor - payment.refunded_minor(true);
        let new = NewRefund {
            payment_id: payment_id.clone(),
            refund_id,
            amount_minor: own.amount_minor.unwrap_or(rest),
            currency: payment.order.currency.clone(),
            reason: "by the payment service itself".to_owned(),
        };
        state.refund(&new, now_ms())?;
        state.payment(&payment_id).cloned()
    };
    answer(&service, service.store.change(change).await)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewStatus {
    status: Status,
}

async fn set_status(
    State(service): Shared,
    Path(payment_id): Path<String>,
    Json(new): Json<NewStatus>,
) -> Response {
    let change = |state: &mut crate::state::State| {
        state.set(&payment_id, new.status, now_ms())?;
        state.payment(&payment_id).cloned()
    };
    answer(&service, service.store.change(change).await)
}

/// A payment as JSON, or why it is not so.
pub(crate) fn answer(service: &Service, result: Result<Payment, Refusal>) -> Response {
    match result {
        Ok(payment) => Json(view(service, &payment)).into_response(),
        Err(refusal) => complaint(status_code(&refusal), &refusal),
    }
}

/// The HTTP status of a refusal.
pub(crate) fn status_code(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::Unknown(_) => StatusCode::NOT_FOUND,
        Refusal::Invalid { .. } => StatusCode::BAD_REQUEST,
        Refusal::Differs(_) | Refusal::Status { .. } | Refusal::TooMuch { .. } => {
            StatusCode::CONFLICT
        }
    }
}

fn complaint(status: StatusCode, problem: &dyn std::fmt::Display) -> Response {
    (status, Json(json!({ "error": problem.to_string() }))).into_response()
}

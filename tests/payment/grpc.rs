//! `payment.v1` over gRPC: what the contract says, and then what the service was told to do instead.

use std::sync::Arc;
use std::time::Duration;

use farebox_payment::v1::get_payment_request::By;
use farebox_payment::v1::payment_service_server::PaymentService;
use farebox_payment::v1::{
    CreatePaymentRequest, CreatePaymentResponse, GetPaymentRequest, GetPaymentResponse,
    PaymentMethod, PaymentStatus, RefundPaymentRequest, RefundPaymentResponse, RefundStatus,
};
use prost_types::Timestamp;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::behaviour::{Behaviour, Garbage, RefundOutcome, misbehave};
use crate::state::{self, NewRefund, Order, Payment, Refusal};
use crate::{Service, now_ms};

/// A status that the contract does not have.
const UNKNOWN_STATUS: i32 = 77;

pub(crate) struct Contract {
    service: Arc<Service>,
}

impl Contract {
    pub(crate) fn new(service: Arc<Service>) -> Self {
        Self { service }
    }

    fn behaviour(&self) -> Behaviour {
        self.service.store.look(|state| state.behaviour.clone())
    }

    async fn create(&self, order: Order) -> Result<Payment, Status> {
        let payment_id = format!("pay_{}", Uuid::now_v7().simple());
        let create = |state: &mut state::State| state.create(order, payment_id, now_ms());
        self.service.store.change(create).await.map_err(status_of)
    }

    async fn get(&self, by: By) -> Result<Payment, Status> {
        self.service.expire(now_ms()).await;
        let find = |state: &state::State| match &by {
            By::PaymentId(id) => state.payment(id).cloned(),
            By::OrderId(id) => state.payment_of(id).cloned(),
        };
        self.service.store.read(find).await.map_err(status_of)
    }

    async fn refund(&self, new: NewRefund) -> Result<RefundOutcome, Status> {
        let refund = |state: &mut state::State| state.refund(&new, now_ms());
        self.service.store.change(refund).await.map_err(status_of)
    }
}

#[tonic::async_trait]
impl PaymentService for Contract {
    async fn create_payment(
        &self,
        request: Request<CreatePaymentRequest>,
    ) -> Result<Response<CreatePaymentResponse>, Status> {
        let Behaviour { create_error, error_after, create_delay_ms, garbage, .. } =
            self.behaviour();
        if let Some(context) = request.metadata().get("traceparent") {
            eprintln!("CreatePayment in trace {context:?}");
        }
        let order = order_of(request.into_inner())?;
        let work = self.create(order);
        let payment = misbehave(create_error, error_after, create_delay_ms, work).await?;
        Ok(Response::new(CreatePaymentResponse {
            payment_id: id(&payment.payment_id, garbage),
            status: status(payment.status, garbage),
            payment_url: self.url(&payment, garbage),
        }))
    }

    async fn get_payment(
        &self,
        request: Request<GetPaymentRequest>,
    ) -> Result<Response<GetPaymentResponse>, Status> {
        let Behaviour { get_error, get_delay_ms, garbage, .. } = self.behaviour();
        let none = || Status::invalid_argument("by is not set; write payment_id or order_id");
        let by = request.into_inner().by.ok_or_else(none)?;
        let payment = misbehave(get_error, false, get_delay_ms, self.get(by)).await?;
        let is = |kind| garbage == Some(kind);
        let order_id = payment.order.order_id.clone();
        let currency = payment.order.currency.clone();
        Ok(Response::new(GetPaymentResponse {
            payment_id: id(&payment.payment_id, garbage),
            order_id: if is(Garbage::OtherOrder) { format!("{order_id}-other") } else { order_id },
            amount_minor: payment.order.amount_minor + i64::from(is(Garbage::WrongAmount)),
            currency: if is(Garbage::WrongCurrency) { "XTS".to_owned() } else { currency },
            status: status(payment.status, garbage),
            refunded_minor: payment.refunded_minor(false),
            payment_url: self.url(&payment, garbage),
            paid_at: payment.paid_at_ms.map(timestamp),
        }))
    }

    async fn refund_payment(
        &self,
        request: Request<RefundPaymentRequest>,
    ) -> Result<Response<RefundPaymentResponse>, Status> {
        let Behaviour { refund_error, error_after, refund_delay_ms, garbage, .. } =
            self.behaviour();
        let RefundPaymentRequest { payment_id, refund_id, amount_minor, currency, reason } =
            request.into_inner();
        let new =
            NewRefund { payment_id, refund_id: refund_id.clone(), amount_minor, currency, reason };
        let work = self.refund(new);
        let outcome = misbehave(refund_error, error_after, refund_delay_ms, work).await?;
        let honest = match outcome {
            RefundOutcome::Success => RefundStatus::Success,
            RefundOutcome::Pending => RefundStatus::Pending,
            RefundOutcome::Failed => RefundStatus::Failed,
        };
        let unknown = garbage == Some(Garbage::UnknownStatus);
        let status = if unknown { UNKNOWN_STATUS } else { honest.into() };
        Ok(Response::new(RefundPaymentResponse { refund_id: id(&refund_id, garbage), status }))
    }
}

impl Contract {
    fn url(&self, payment: &Payment, garbage: Option<Garbage>) -> String {
        match garbage {
            Some(Garbage::BadUrl) => "javascript:alert(1)".to_owned(),
            Some(_) | None => self.service.payment_url(&payment.payment_id),
        }
    }
}

fn order_of(request: CreatePaymentRequest) -> Result<Order, Status> {
    let method = match request.method() {
        PaymentMethod::Unspecified => {
            let text = format!("method is {}; write one of the contract's", request.method);
            return Err(Status::invalid_argument(text));
        }
        method => method.as_str_name().trim_start_matches("PAYMENT_METHOD_").to_lowercase(),
    };
    let expires_at_ms = request.expires_at.as_ref().map(milliseconds);
    Ok(Order {
        order_id: request.order_id,
        user_id: request.user_id,
        source: request.source,
        amount_minor: request.amount_minor,
        currency: request.currency,
        method,
        subject: request.subject,
        return_url: request.return_url,
        notify_url: request.notify_url,
        client_ip: request.client_ip,
        expires_at_ms,
    })
}

fn status_of(refusal: Refusal) -> Status {
    let text = refusal.to_string();
    match refusal {
        Refusal::Unknown(_) => Status::not_found(text),
        Refusal::Invalid { .. } => Status::invalid_argument(text),
        Refusal::Differs(_) => Status::already_exists(text),
        Refusal::Status { .. } | Refusal::TooMuch { .. } => Status::failed_precondition(text),
    }
}

fn id(honest: &str, garbage: Option<Garbage>) -> String {
    match garbage {
        Some(Garbage::EmptyId) => String::new(),
        Some(Garbage::LongId) => "p".repeat(65),
        Some(Garbage::OddId) => format!("{honest} é"),
        Some(_) | None => honest.to_owned(),
    }
}

fn status(honest: state::Status, garbage: Option<Garbage>) -> i32 {
    if garbage == Some(Garbage::UnknownStatus) {
        return UNKNOWN_STATUS;
    }
    let status = match honest {
        state::Status::Pending => PaymentStatus::Pending,
        state::Status::Success => PaymentStatus::Success,
        state::Status::Failed => PaymentStatus::Failed,
        state::Status::Closed => PaymentStatus::Closed,
        state::Status::Refunded => PaymentStatus::Refunded,
        state::Status::PartiallyRefunded => PaymentStatus::PartiallyRefunded,
    };
    status.into()
}

fn timestamp(ms: u64) -> Timestamp {
    let since = Duration::from_millis(ms);
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
    }
}

fn milliseconds(at: &Timestamp) -> u64 {
    let seconds = u64::try_from(at.seconds).unwrap_or(0);
    let milliseconds = u64::try_from(at.nanos / 1_000_000).unwrap_or(0);
    seconds.saturating_mul(1_000).saturating_add(milliseconds)
}

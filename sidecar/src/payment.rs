//! The payment service, by gRPC. The only file that knows the generated client.
//!
//! Every call has a deadline and ends in one of three ways: an answer that keeps the contract, a definite refusal, or
//! not knowing what happened. Only the first two may change anything.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Datelike as _, Utc};
use farebox_core::order::{self, Method, PaymentStatus};
use farebox_payment::v1::payment_service_client::PaymentServiceClient;
use farebox_payment::v1::{self, get_payment_request::By};
use tokio::time::Instant;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};
use tracing::Instrument as _;

use crate::config::{HostPort, PaymentService, Tls, TlsIdentity};
use crate::currency;
use crate::metrics::{self, PaymentCall as Call, PaymentCallResult as CallResult};
use crate::trace;

/// Calls that are on their way at the same time; further ones wait for their turn within their deadline.
const CALLS_MAX: usize = 64;

/// How long the connection is tried to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How often an idle connection is tried, so that a dead one is noticed before a call needs it.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// The longest address of a payment page.
const URL_BYTES_MAX: usize = 2_048;

/// The longest text of the payment service that is kept.
const MESSAGE_CHARACTERS_MAX: usize = 200;

/// Who asks for payments.
const SOURCE: &str = "billing";

/// Settings that no connection can be made with.
#[derive(Debug, thiserror::Error)]
#[error("payment_service cannot be used: {0}; check grpc_addr and the files under tls")]
pub struct PaymentSettingsError(#[from] tonic::transport::Error);

/// A connection that is made when it is first needed and again after it broke.
#[derive(Clone)]
pub struct PaymentClient {
    client: PaymentServiceClient<InterceptedService<Channel, CarryTrace>>,
    addr: HostPort,
    timeout: Duration,
    /// Where callbacks go.
    notify_url: String,
    /// Where a payer goes afterwards when the request does not say.
    return_url: Option<String>,
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PaymentError {
    /// It said no, and will say so again.
    #[error("the payment service refused: {message}")]
    Refused {
        /// Why, in its words.
        message: String,
    },
    /// Nobody knows what happened: the call may have had its effect.
    #[error("the payment service does not answer: {message}")]
    Unreachable {
        /// What was seen.
        message: String,
    },
    /// An answer that breaks the contract.
    #[error("the payment service answered against its contract: {what}")]
    Garbage {
        /// What is wrong with it.
        what: String,
    },
}

/// A payment to begin.
#[derive(Debug, Clone)]
pub(crate) struct NewPayment<'a> {
    pub(crate) order_id: &'a str,
    pub(crate) user_id: &'a str,
    pub(crate) amount_minor: i64,
    pub(crate) currency: &'a str,
    pub(crate) method: Method,
    pub(crate) subject: String,
    pub(crate) return_url: Option<&'a str>,
    pub(crate) client_ip: &'a str,
    pub(crate) expires_at: DateTime<Utc>,
}

/// A payment that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Begun {
    pub(crate) payment_id: String,
    pub(crate) payment_url: String,
}

/// What the payment service knows of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) payment_id: String,
    pub(crate) order_id: String,
    pub(crate) amount_minor: i64,
    pub(crate) currency: String,
    pub(crate) status: PaymentStatus,
    pub(crate) refunded_minor: i64,
    pub(crate) payment_url: Option<String>,
    pub(crate) paid_at: Option<DateTime<Utc>>,
}

/// How far a refund has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefundProgress {
    Pending,
    Done,
    Failed,
}

/// A refund to make.
#[derive(Debug, Clone)]
pub(crate) struct NewRefund<'a> {
    pub(crate) payment_id: &'a str,
    pub(crate) refund_id: &'a str,
    pub(crate) amount_minor: i64,
    pub(crate) currency: &'a str,
    pub(crate) reason: &'a str,
}

impl PaymentClient {
    /// Prepares the connection; nothing is sent yet.
    pub fn new(settings: &PaymentService) -> Result<Self, PaymentSettingsError> {
        let PaymentService { grpc_addr, timeout, notify_url, return_url, tls, .. } = settings;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{grpc_addr}"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .concurrency_limit(CALLS_MAX)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(*timeout)
            .tcp_nodelay(true);
        if let Some(tls) = tls {
            endpoint = endpoint.tls_config(client_tls(tls))?;
        }
        Ok(Self {
            client: PaymentServiceClient::with_interceptor(endpoint.connect_lazy(), carry_trace),
            addr: grpc_addr.clone(),
            timeout: *timeout,
            notify_url: notify_url.clone(),
            return_url: return_url.clone(),
        })
    }

    /// The longest time of one call.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Begins a payment; the same one again for the same order.
    pub(crate) async fn create(&self, new: &NewPayment<'_>) -> Result<Begun, PaymentError> {
        let return_url = new.return_url.or(self.return_url.as_deref());
        let request = v1::CreatePaymentRequest {
            order_id: new.order_id.to_owned(),
            user_id: new.user_id.to_owned(),
            source: SOURCE.to_owned(),
            amount_minor: new.amount_minor,
            currency: new.currency.to_owned(),
            method: wire_method(new.method).into(),
            subject: new.subject.clone(),
            return_url: return_url.unwrap_or_default().to_owned(),
            notify_url: self.notify_url.clone(),
            client_ip: new.client_ip.to_owned(),
            expires_at: Some(timestamp(new.expires_at)),
        };
        let (mut client, started) = (self.client.clone(), Instant::now());
        let answer = self.call(Call::Create, async move { client.create_payment(request).await });
        let answer = answer.await.and_then(|reply| {
            Ok(Begun {
                payment_id: payment_id(reply.payment_id)?,
                payment_url: page(reply.payment_url)?
                    .ok_or_else(|| garbage("payment_url is empty"))?,
            })
        });
        self.count(Call::Create, &answer, started);
        answer
    }

    /// What is known of the payment with this id, or else of this order's; `None` when there is none.
    pub(crate) async fn get(
        &self,
        order_id: &str,
        known_payment: Option<&str>,
    ) -> Result<Option<Facts>, PaymentError> {
        let by = match known_payment {
            Some(id) => By::PaymentId(id.to_owned()),
            None => By::OrderId(order_id.to_owned()),
        };
        let request = v1::GetPaymentRequest { by: Some(by) };
        let (mut client, started) = (self.client.clone(), Instant::now());
        let found = self.call(Call::Get, async move {
            match client.get_payment(request).await {
                Ok(reply) => Ok(tonic::Response::new(Some(reply.into_inner()))),
                Err(status) if status.code() == Code::NotFound => Ok(tonic::Response::new(None)),
                Err(status) => Err(status),
            }
        });
        let answer = found.await.and_then(|reply| reply.map(facts).transpose());
        self.count(Call::Get, &answer, started);
        answer
    }

    /// Gives money back; the same refund again for the same id.
    pub(crate) async fn refund(&self, new: &NewRefund<'_>) -> Result<RefundProgress, PaymentError> {
        let request = v1::RefundPaymentRequest {
            payment_id: new.payment_id.to_owned(),
            refund_id: new.refund_id.to_owned(),
            amount_minor: new.amount_minor,
            currency: new.currency.to_owned(),
            reason: new.reason.to_owned(),
        };
        let (mut client, started) = (self.client.clone(), Instant::now());
        let answer = self.call(Call::Refund, async move { client.refund_payment(request).await });
        let answer = answer.await.and_then(|reply| {
            if reply.refund_id != new.refund_id {
                return Err(garbage(format!("refund_id is {:?}", reply.refund_id)));
            }
            match reply.status() {
                v1::RefundStatus::Pending => Ok(RefundProgress::Pending),
                v1::RefundStatus::Success => Ok(RefundProgress::Done),
                v1::RefundStatus::Failed => Ok(RefundProgress::Failed),
                v1::RefundStatus::Unspecified => Err(garbage("the refund has no status")),
            }
        });
        self.count(Call::Refund, &answer, started);
        answer
    }

    /// Makes a call within the deadline, whatever the other side does.
    async fn call<T>(
        &self,
        method: Call,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, PaymentError> {
        let span = trace::payment_call(rpc(method));
        let answer = tokio::time::timeout(self.timeout, call).instrument(span.clone()).await;
        let code = match &answer {
            Ok(Ok(_)) => Code::Ok,
            Ok(Err(status)) => status.code(),
            Err(_) => Code::DeadlineExceeded,
        };
        span.record("rpc.grpc.status_code", i32::from(code));
        if code != Code::Ok {
            span.record("otel.status_code", "ERROR");
        }
        match answer {
            Ok(Ok(reply)) => Ok(reply.into_inner()),
            Ok(Err(status)) => Err(why(&status)),
            Err(_) => {
                let message = format!("no answer within {:?}", self.timeout);
                Err(PaymentError::Unreachable { message })
            }
        }
    }

    fn count<T>(&self, method: Call, answer: &Result<T, PaymentError>, started: Instant) {
        let result = match answer {
            Ok(_) => CallResult::Ok,
            Err(PaymentError::Refused { .. }) => CallResult::Refused,
            Err(PaymentError::Unreachable { .. }) => CallResult::Unreachable,
            Err(PaymentError::Garbage { .. }) => CallResult::Garbage,
        };
        metrics::payment_call(method, result, started.elapsed());
    }
}

impl fmt::Debug for PaymentClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PaymentClient")
            .field("addr", &self.addr.to_string())
            .finish_non_exhaustive()
    }
}

/// The name of a call in the contract.
fn rpc(call: Call) -> &'static str {
    match call {
        Call::Create => "CreatePayment",
        Call::Get => "GetPayment",
        Call::Refund => "RefundPayment",
    }
}

type CarryTrace = fn(tonic::Request<()>) -> Result<tonic::Request<()>, Status>;

/// Tells the payment service which trace a call belongs to.
fn carry_trace(mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
    trace::inject(|name, value| {
        if let (Ok(name), Ok(value)) =
            (name.parse::<AsciiMetadataKey>(), value.parse::<AsciiMetadataValue>())
        {
            request.metadata_mut().insert(name, value);
        }
    });
    Ok(request)
}

/// TLS with the configured authority, or those that the system trusts; with a certificate of our own where one is configured.
fn client_tls(settings: &Tls) -> ClientTlsConfig {
    let mut tls = match &settings.ca_pem {
        Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    if let Some(TlsIdentity { cert_pem, key_pem }) = &settings.identity {
        tls = tls.identity(Identity::from_pem(cert_pem, key_pem.expose()));
    }
    match &settings.server_name {
        Some(name) => tls.domain_name(name),
        None => tls,
    }
}

/// Definite refusals are those that the contract names; after anything else nobody knows. OUT_OF_RANGE is none of them: the
/// client makes one by itself when an answer is too large to be read.
fn why(status: &Status) -> PaymentError {
    let text: String = status.message().chars().take(MESSAGE_CHARACTERS_MAX).collect();
    let message = format!("{:?}: {text}", status.code());
    match status.code() {
        Code::InvalidArgument | Code::FailedPrecondition => PaymentError::Refused { message },
        _ => PaymentError::Unreachable { message },
    }
}

fn garbage(what: impl Into<String>) -> PaymentError {
    PaymentError::Garbage { what: what.into() }
}

fn payment_id(text: String) -> Result<String, PaymentError> {
    if order::is_id(&text) {
        Ok(text)
    } else {
        Err(garbage("payment_id is not 1 to 64 visible characters"))
    }
}

/// A page that a browser can be sent to; `None` when the text is empty.
fn page(text: String) -> Result<Option<String>, PaymentError> {
    if text.is_empty() {
        return Ok(None);
    }
    let is_page = text.len() <= URL_BYTES_MAX
        && ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme))
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_page { Ok(Some(text)) } else { Err(garbage("payment_url is no http or https address")) }
}

fn facts(reply: v1::GetPaymentResponse) -> Result<Facts, PaymentError> {
    let status = match reply.status() {
        v1::PaymentStatus::Pending => PaymentStatus::Pending,
        v1::PaymentStatus::Success => PaymentStatus::Success,
        v1::PaymentStatus::Failed => PaymentStatus::Failed,
        v1::PaymentStatus::Closed => PaymentStatus::Closed,
        v1::PaymentStatus::Refunded => PaymentStatus::Refunded,
        v1::PaymentStatus::PartiallyRefunded => PaymentStatus::PartiallyRefunded,
        v1::PaymentStatus::Unspecified => return Err(garbage("the payment has no status")),
    };
    if !currency::is_code(&reply.currency) {
        return Err(garbage("currency is no code of three letters"));
    }
    Ok(Facts {
        payment_id: payment_id(reply.payment_id)?,
        order_id: reply.order_id,
        amount_minor: reply.amount_minor,
        currency: reply.currency,
        status,
        refunded_minor: reply.refunded_minor,
        payment_url: page(reply.payment_url)?,
        paid_at: reply.paid_at.and_then(moment),
    })
}

fn timestamp(time: DateTime<Utc>) -> prost_types::Timestamp {
    let nanos = i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(0);
    prost_types::Timestamp { seconds: time.timestamp(), nanos }
}

/// A moment that the database can hold; a time in milliseconds, taken for seconds, is none.
fn moment(time: prost_types::Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).ok()?)
        .filter(|moment| (1970..=9999).contains(&moment.year()))
}

fn wire_method(method: Method) -> v1::PaymentMethod {
    match method {
        Method::Alipay => v1::PaymentMethod::Alipay,
        Method::Wechatpay => v1::PaymentMethod::Wechatpay,
        Method::Stripe => v1::PaymentMethod::Stripe,
        Method::Paypal => v1::PaymentMethod::Paypal,
        Method::Applepay => v1::PaymentMethod::Applepay,
        Method::Googlepay => v1::PaymentMethod::Googlepay,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply() -> v1::GetPaymentResponse {
        v1::GetPaymentResponse {
            payment_id: "PAY1".to_owned(),
            order_id: "recharge_1".to_owned(),
            amount_minor: 1_000,
            currency: "CNY".to_owned(),
            status: v1::PaymentStatus::Success.into(),
            refunded_minor: 0,
            payment_url: String::new(),
            paid_at: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 5_000_000 }),
        }
    }

    #[test]
    fn an_answer_must_keep_the_contract() {
        let found = facts(reply()).unwrap();
        assert_eq!((found.payment_url, found.status), (None, PaymentStatus::Success));
        assert_eq!(found.paid_at.unwrap().timestamp_millis(), 1_700_000_000_005);
        let in_millis = prost_types::Timestamp { seconds: 1_700_000_000_000, nanos: 0 };
        let found = facts(v1::GetPaymentResponse { paid_at: Some(in_millis), ..reply() });
        assert_eq!(found.unwrap().paid_at, None);
        for broken in [
            v1::GetPaymentResponse { payment_id: String::new(), ..reply() },
            v1::GetPaymentResponse { payment_id: "P 1".to_owned(), ..reply() },
            v1::GetPaymentResponse { payment_id: "P".repeat(65), ..reply() },
            v1::GetPaymentResponse { status: 0, ..reply() },
            v1::GetPaymentResponse { status: 99, ..reply() },
            v1::GetPaymentResponse { payment_url: "javascript:alert(1)".to_owned(), ..reply() },
            v1::GetPaymentResponse { currency: "CNY ".repeat(20_000), ..reply() },
            v1::GetPaymentResponse { currency: String::new(), ..reply() },
        ] {
            assert!(
                matches!(facts(broken.clone()), Err(PaymentError::Garbage { .. })),
                "{broken:?}"
            );
        }
    }

    /// The configuration refuses such files by their keys; whatever else gets here is an error and no panic.
    #[tokio::test]
    async fn an_identity_that_cannot_be_used_is_an_error_at_the_start() {
        let block = |label: &str| format!("-----BEGIN {label}-----\nAAEC\n-----END {label}-----\n");
        let identity = TlsIdentity {
            cert_pem: block("CERTIFICATE").into(),
            key_pem: crate::config::Secret::new(block("PRIVATE KEY")),
        };
        let ca_pem = Some(block("CERTIFICATE").into());
        let settings = PaymentService {
            grpc_addr: HostPort { host: "pay".to_owned(), port: 9101 },
            timeout: Duration::from_secs(5),
            return_url: None,
            notify_url: "http://farebox:8107/callback".to_owned(),
            callback_secrets: Vec::new(),
            tls: Some(Tls { ca_pem, identity: Some(identity), server_name: None }),
        };
        let refused = PaymentClient::new(&settings).unwrap_err().to_string();
        assert!(refused.starts_with("payment_service cannot be used: "), "{refused}");
        assert!(!refused.contains("AAEC"));
    }

    #[test]
    fn only_what_the_contract_calls_definite_is_a_refusal() {
        for code in (0..=16).map(Code::from_i32).filter(|code| *code != Code::Ok) {
            let definite = [Code::InvalidArgument, Code::FailedPrecondition].contains(&code);
            let error = why(&Status::new(code, "x".repeat(1_000)));
            assert_eq!(matches!(error, PaymentError::Refused { .. }), definite, "{code:?}");
            assert!(error.to_string().len() < 300);
        }
    }
}

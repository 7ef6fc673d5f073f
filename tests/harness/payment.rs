//! The payment service of `tests/payment`: a process of its own, which can be told to misbehave.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use axum::http::Method;
use farebox_payment::v1::payment_service_client::PaymentServiceClient;
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::child::{Child, Recipe};
use crate::client::{Answer, Call, Client};
use crate::tls::TlsFiles;
use crate::{StackError, binaries, port};

/// What signs callbacks, unless a plan or a test says otherwise.
pub const CALLBACK_SECRET: &str = "whsec_aGFybmVzcy1jYWxsYmFjay1zZWNyZXQtMzItYnl0ZXM=";

/// A running payment service.
#[derive(Debug)]
pub struct PaymentService {
    child: Child,
    grpc: SocketAddr,
    http: SocketAddr,
    client: Client,
    secret_file: PathBuf,
    tls: Option<TlsFiles>,
}

/// What the receiver of a callback answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallbackAnswer {
    /// The HTTP status; `None` when the network failed.
    pub status: Option<u16>,
    /// The body, or what failed.
    pub body: String,
}

impl CallbackAnswer {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// The error number of a refusal; 0 when the body has none.
    pub fn code(&self) -> u64 {
        self.json()["code"].as_u64().unwrap_or(0)
    }
}

impl PaymentService {
    /// Starts the service on free ports, with its files in `folder`.
    pub async fn start(folder: &Path) -> Result<Self, StackError> {
        Self::start_at(folder, port::free(), port::free(), None).await
    }

    /// Starts the service at these addresses.
    pub(crate) async fn start_at(
        folder: &Path,
        grpc: SocketAddr,
        http: SocketAddr,
        tls: Option<TlsFiles>,
    ) -> Result<Self, StackError> {
        let secret_file = folder.join("payment-service.secret");
        let recipe = Recipe::new("payment-service", &binaries::payment_service()?, folder)
            .args(["--grpc", &grpc.to_string(), "--http", &http.to_string()])
            .args(["--state".as_ref(), folder.join("payment-service.json").as_os_str()])
            .args(["--secret-file".as_ref(), secret_file.as_os_str()])
            .args(tls.as_ref().map(TlsFiles::server_arguments).unwrap_or_default());
        write_secrets(&secret_file, CALLBACK_SECRET)?;
        let child = Child::start(recipe)?;
        let service = Self { child, grpc, http, client: Client::http1(http), secret_file, tls };
        service.ready().await?;
        Ok(service)
    }

    /// The process.
    pub fn process(&self) -> &Child {
        &self.child
    }

    /// Where `payment.v1` is.
    pub fn grpc_addr(&self) -> SocketAddr {
        self.grpc
    }

    /// What protects `payment.v1`, if anything does.
    pub fn tls(&self) -> Option<&TlsFiles> {
        self.tls.as_ref()
    }

    /// Where the payment page and the control API are.
    pub fn http_addr(&self) -> SocketAddr {
        self.http
    }

    /// A caller of `payment.v1`.
    pub async fn contract(&self) -> PaymentServiceClient<Channel> {
        let client = PaymentServiceClient::connect(format!("http://{}", self.grpc)).await;
        client.unwrap_or_else(|err| panic!("no gRPC connection: {err:?}"))
    }

    /// Ends the service at once, as a crash would.
    pub fn kill(&self) {
        self.child.kill();
    }

    /// Stops the service in order.
    pub fn stop(&self) {
        self.child.stop();
    }

    /// Starts the service again at the same addresses; it knows what it knew.
    pub async fn start_again(&self) -> Result<(), StackError> {
        self.child.start_again()?;
        self.ready().await
    }

    /// The whole log.
    pub fn log(&self) -> String {
        self.child.log()
    }

    /// Has callbacks signed with these secrets, separated by commas, from the next start on.
    pub fn set_secrets(&self, secrets: &str) -> Result<(), StackError> {
        write_secrets(&self.secret_file, secrets)
    }

    /// The payer pays.
    pub async fn pay(&self, payment_id: &str) -> Answer {
        self.decide("pay", payment_id).await
    }

    /// The payer gives up: the payment is closed.
    pub async fn cancel(&self, payment_id: &str) -> Answer {
        self.decide("cancel", payment_id).await
    }

    /// The payer's attempt fails.
    pub async fn fail(&self, payment_id: &str) -> Answer {
        self.decide("fail", payment_id).await
    }

    /// Tells the service how to behave from now on: what is named changes, `null` sets back.
    pub async fn behave(&self, behaviour: Value) {
        self.control(Method::POST, "behaviour", Some(&behaviour)).await;
    }

    /// Takes back everything that [`Self::behave`] told.
    pub async fn behave_well(&self) {
        self.control(Method::DELETE, "behaviour", None).await;
    }

    /// Sends one callback made by hand, once, and gives the receiver's answer.
    pub async fn callback(&self, callback: Value) -> CallbackAnswer {
        let sent = self.control(Method::POST, "callback", Some(&callback)).await;
        let status = sent["status"].as_u64().and_then(|status| u16::try_from(status).ok());
        CallbackAnswer { status, body: text(&sent["body"]) }
    }

    /// Gives money back by itself, as after a chargeback: so many minor units, or all that is left.
    pub async fn refund(&self, payment_id: &str, amount_minor: Option<i64>) -> Value {
        let amount = json!({ "amount_minor": amount_minor });
        self.control(Method::POST, &format!("refund/{payment_id}"), Some(&amount)).await
    }

    /// Sets any status, such as `SUCCESS`, whatever it was; the callback goes out as for any change.
    pub async fn set_status(&self, payment_id: &str, status: &str) -> Value {
        let status = json!({ "status": status });
        self.control(Method::POST, &format!("status/{payment_id}"), Some(&status)).await
    }

    /// All payments.
    pub async fn payments(&self) -> Vec<Value> {
        list(self.control(Method::GET, "payments", None).await, "payments")
    }

    /// The payment of an order.
    pub async fn payment_of(&self, order_id: &str) -> Option<Value> {
        self.payments().await.into_iter().find(|payment| payment["order_id"] == order_id)
    }

    /// All callbacks, oldest first, with every answer.
    pub async fn callbacks(&self) -> Vec<Value> {
        list(self.control(Method::GET, "callbacks", None).await, "callbacks")
    }

    async fn decide(&self, what: &str, payment_id: &str) -> Answer {
        let call = self.client.post(&format!("/{what}/{payment_id}"));
        call.header("accept", "application/json").send().await
    }

    /// A call of the control API that must succeed.
    async fn control(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let call = self.client.call(method, &format!("/control/{path}"));
        let call = body.into_iter().fold(call, Call::json);
        let answer = call.send().await;
        assert!(answer.status.is_success(), "/control/{path}: {} {}", answer.status, answer.body);
        answer.json()
    }

    async fn ready(&self) -> Result<(), StackError> {
        let is_ready = async || {
            let answer = self.client.get("/healthz").try_send().await;
            answer.is_ok_and(|answer| answer.status == 200)
        };
        self.child.ready(is_ready).await
    }
}

fn write_secrets(file: &Path, secrets: &str) -> Result<(), StackError> {
    fs::write(file, secrets).map_err(StackError::system(format!("write {file:?}")))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(mut answer: Value, key: &str) -> Vec<Value> {
    match answer[key].take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    }
}

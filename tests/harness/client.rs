//! Calls through the gateway or to any other address, and many of them at once.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::{HeaderMap, Method, StatusCode};
use futures_util::future::join_all;
use serde_json::Value;

use crate::sidecar::{ADMIN_TOKEN, TOKEN, identity};

/// How long a call may take in all.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A caller of the gateway.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    addr: SocketAddr,
}

/// A call that is being put together.
#[derive(Debug)]
pub struct Call {
    request: reqwest::RequestBuilder,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// All headers.
    pub headers: HeaderMap,
    /// The body as text.
    pub body: String,
}

/// How many of many calls ended how.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    by_status: BTreeMap<u16, usize>,
}

// === impl Client ===

impl Client {
    /// A caller that speaks HTTP/1.1.
    pub fn http1(addr: SocketAddr) -> Self {
        Self::build(addr, reqwest::Client::builder().http1_only())
    }

    /// A caller that speaks HTTP/2 without asking first.
    pub fn http2(addr: SocketAddr) -> Self {
        Self::build(addr, reqwest::Client::builder().http2_prior_knowledge())
    }

    fn build(addr: SocketAddr, builder: reqwest::ClientBuilder) -> Self {
        let http =
            builder.timeout(TIMEOUT).build().expect("a plain client needs nothing from outside");
        Self { http, addr }
    }

    /// A `GET` of this path.
    pub fn get(&self, path: &str) -> Call {
        self.call(Method::GET, path)
    }

    /// A `POST` to this path.
    pub fn post(&self, path: &str) -> Call {
        self.call(Method::POST, path)
    }

    /// Asks the sidecar about calls, at one of the paths of [`farebox_core::call`].
    pub fn ask(&self, path: &str, request: &Value) -> Call {
        let call = self.post(path).header("authorization", &format!("Bearer {TOKEN}"));
        call.header("accept-language", "en").json(request)
    }

    /// A call of this path.
    pub fn call(&self, method: Method, path: &str) -> Call {
        Call { request: self.http.request(method, format!("http://{}{path}", self.addr)) }
    }

    /// Makes exactly `count` calls, at most `at_once` at a time, and counts the statuses.
    ///
    /// Calls are made by `at_once` callers who take the next number as soon as their former call has ended.
    pub async fn storm(
        &self,
        count: usize,
        at_once: usize,
        call: impl Fn(&Self, usize) -> Call + Sync,
    ) -> Tally {
        let next = AtomicUsize::new(0);
        let caller = async || {
            let mut tally = Tally::default();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if count <= number {
                    return tally;
                }
                tally.count(call(self, number).send().await.status);
            }
        };
        let tallies = join_all((0..at_once).map(|_| caller())).await;
        tallies.into_iter().fold(Tally::default(), Tally::plus)
    }
}

// === impl Call ===

impl Call {
    /// Names the caller as an authentication filter in front would.
    #[must_use]
    pub fn user(self, user: &str) -> Self {
        self.header("x-user-id", user)
    }

    /// Names the caller to a sidecar that is called without a gateway.
    #[must_use]
    pub fn asserted(self, user: &str) -> Self {
        let (name, token) = identity(user);
        self.header(name, &token)
    }

    /// Shows an operator's token.
    #[must_use]
    pub fn operator(self) -> Self {
        self.header("authorization", &format!("Bearer {ADMIN_TOKEN}"))
    }

    /// Adds a header; one of the same name stays.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        Self { request: self.request.header(name, value) }
    }

    /// Adds a body.
    #[must_use]
    pub fn body(self, body: impl Into<reqwest::Body>) -> Self {
        Self { request: self.request.body(body) }
    }

    /// Adds a body of JSON.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        Self { request: self.request.json(body) }
    }

    /// Waits so long for the whole answer, instead of 30 s.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { request: self.request.timeout(patience) }
    }

    /// Sends the call and reads its whole answer. A broken connection fails the test.
    pub async fn send(self) -> Answer {
        self.try_send().await.unwrap_or_else(|err| panic!("no answer: {err:?}"))
    }

    /// Sends the call and reads its whole answer.
    pub async fn try_send(self) -> Result<Answer, reqwest::Error> {
        let response = self.begin().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.text().await?;
        Ok(Answer { status, headers, body })
    }

    /// Sends the call and gives the answer's beginning; dropping it resets the stream.
    pub async fn begin(self) -> Result<reqwest::Response, reqwest::Error> {
        self.request.send().await
    }
}

// === impl Answer ===

impl Answer {
    /// A header's text; empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// The error number of a refusal; 0 when the body has none.
    pub fn code(&self) -> u64 {
        self.json()["code"].as_u64().unwrap_or(0)
    }
}

// === impl Tally ===

impl Tally {
    /// How many calls ended with this status.
    pub fn of(&self, status: u16) -> usize {
        self.by_status.get(&status).copied().unwrap_or(0)
    }

    /// How many calls there were.
    pub fn total(&self) -> usize {
        self.by_status.values().sum()
    }

    fn count(&mut self, status: StatusCode) {
        *self.by_status.entry(status.as_u16()).or_default() += 1;
    }

    /// Both counts together.
    #[must_use]
    pub fn plus(mut self, other: Self) -> Self {
        for (status, calls) in other.by_status {
            *self.by_status.entry(status).or_default() += calls;
        }
        self
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> =
            self.by_status.iter().map(|(status, calls)| format!("{calls} × {status}")).collect();
        f.write_str(&parts.join(", "))
    }
}

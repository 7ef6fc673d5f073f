//! Calls of guests to other services.

use std::fmt;
use std::time::Duration;

use crate::headers::Headers;
use crate::vm::Vm;

/// A call that waits for the test's answer.
///
/// It belongs to the root context of its VM and outlives the stream during which it was made.
#[derive(Clone)]
pub struct Callout {
    pub(crate) vm: Vm,
    pub(crate) token: u32,
    pub(crate) sent: Sent,
}

impl fmt::Debug for Callout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "call {} to {}: {}",
            self.token,
            self.cluster(),
            String::from_utf8_lossy(self.body())
        )
    }
}

/// What was sent, and when.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) cluster: String,
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
    pub(crate) timeout: Duration,
    pub(crate) sent_at: Duration,
}

/// How a call ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CalloutAnswer {
    /// A response: the service's, or one that Envoy made up for it.
    Response {
        /// Its status.
        status: u32,
        /// Its body.
        body: Vec<u8>,
    },
    /// The connection broke: the guest sees a response without headers.
    Reset,
}

impl CalloutAnswer {
    /// 200 with a body.
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::Response { status: 200, body: body.into() }
    }

    /// A status, with a body of no use.
    pub fn status(status: u32) -> Self {
        Self::Response { status, body: b"{\"title\":\"scripted\"}".to_vec() }
    }

    /// What Envoy makes up when the time is over.
    pub fn timeout() -> Self {
        Self::Response { status: 504, body: b"upstream request timeout".to_vec() }
    }

    /// What Envoy makes up when no host of the cluster is healthy.
    pub fn no_host() -> Self {
        Self::Response { status: 503, body: b"no healthy upstream".to_vec() }
    }
}

impl Callout {
    /// Delivers the answer. `false` when the VM does not wait for it any more: it has had one, or it is dead.
    pub fn answer(&self, answer: CalloutAnswer) -> bool {
        self.vm.deliver(self.token, answer)
    }

    /// The VM that made the call.
    pub fn vm(&self) -> &Vm {
        &self.vm
    }

    /// The cluster it is meant for.
    pub fn cluster(&self) -> &str {
        &self.sent.cluster
    }

    /// Its headers.
    pub fn headers(&self) -> &Headers {
        &self.sent.headers
    }

    /// Its body.
    pub fn body(&self) -> &[u8] {
        &self.sent.body
    }

    /// How long Envoy waits for the answer.
    pub fn timeout(&self) -> Duration {
        self.sent.timeout
    }

    /// When it was made, on the monotonic clock.
    pub fn sent_at(&self) -> Duration {
        self.sent.sent_at
    }
}

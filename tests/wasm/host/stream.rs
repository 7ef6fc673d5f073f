//! HTTP streams: what a test sends, and what became of it.

use std::collections::BTreeMap;
use std::fmt;

use crate::headers::Headers;
use crate::property::Value;
use crate::vm::Vm;

/// A request as it reaches the filter.
#[derive(Debug, Clone)]
pub struct Request {
    pub(crate) headers: Headers,
    pub(crate) properties: Value,
    pub(crate) end_of_stream: bool,
}

impl Request {
    /// A GET without a body.
    pub fn get(path: &str) -> Self {
        let headers = [
            (":method", "GET"),
            (":path", path),
            (":authority", "api.example"),
            (":scheme", "https"),
        ];
        Self {
            headers: Headers::from_iter(headers),
            properties: Value::Map(BTreeMap::new()),
            end_of_stream: true,
        }
    }

    /// A unary gRPC call.
    pub fn grpc(path: &str) -> Self {
        let mut request = Self::get(path);
        request.headers.replace(":method", "POST");
        request.headers.add("content-type", "application/grpc");
        request.end_of_stream = false;
        request
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.add(name, value);
        self
    }

    /// The name of the route that Envoy chose.
    #[must_use]
    pub fn route(self, name: &str) -> Self {
        self.property(&["xds", "route_name"], name.into())
    }

    /// The route's metadata in one namespace.
    #[must_use]
    pub fn route_metadata(self, namespace: &str, json: &serde_json::Value) -> Self {
        self.property(&["xds", "route_metadata", "filter_metadata", namespace], json.into())
    }

    /// What another filter left about this request in one namespace.
    #[must_use]
    pub fn dynamic_metadata(self, namespace: &str, json: &serde_json::Value) -> Self {
        self.property(&["metadata", "filter_metadata", namespace], json.into())
    }

    /// Any other property.
    #[must_use]
    pub fn property(mut self, path: &[&str], value: Value) -> Self {
        self.properties.put(path, value);
        self
    }
}

/// Where a stream is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The filter looks at the request's headers right now.
    Deciding,
    /// The filter holds it.
    Paused,
    /// It went on to the upstream.
    Forwarded,
    /// The filter, or Envoy in its place, answered it.
    Answered(Answer),
    /// The client left while the filter held it.
    Gone,
}

/// What the client got in place of the upstream's response.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status on the wire: 200 for every gRPC call.
    pub status: u32,
    /// The headers without `:status`.
    pub headers: Headers,
    /// The body; empty for gRPC calls.
    pub body: Vec<u8>,
    /// The gRPC status of a gRPC call.
    pub grpc: Option<u32>,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub details: String,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, headers, body, grpc, details } = self;
        write!(
            f,
            "{status} grpc {grpc:?} ({details}) {headers:?} {}",
            String::from_utf8_lossy(body)
        )
    }
}

impl Answer {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// What Envoy puts on the wire for a local reply.
    pub(crate) fn compose(request: &Headers, status: u32, reply: LocalReply) -> Self {
        let LocalReply { mut headers, body, grpc, details } = reply;
        let is_grpc = request.get("content-type").is_some_and(|kind| {
            kind == "application/grpc" || kind.starts_with("application/grpc+")
        });
        if !is_grpc {
            if !body.is_empty() && headers.get("content-type").is_none() {
                headers.add("content-type", "text/plain");
            }
            return Self { status, headers, body, grpc: None, details };
        }
        let code = grpc.unwrap_or_else(|| grpc_status_of(status));
        headers.replace("content-type", "application/grpc");
        headers.replace("grpc-status", code.to_string());
        if !body.is_empty() {
            headers.replace("grpc-message", percent_encoded(&body));
        }
        Self { status: 200, headers, body: Vec::new(), grpc: Some(code), details }
    }
}

/// The arguments of `proxy_send_local_response` after the status.
#[derive(Debug, Clone, Default)]
pub(crate) struct LocalReply {
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
    pub(crate) grpc: Option<u32>,
    pub(crate) details: String,
}

/// The gRPC status that Envoy derives from an HTTP status.
pub(crate) fn grpc_status_of(status: u32) -> u32 {
    match status {
        200 => 0,
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

fn percent_encoded(bytes: &[u8]) -> String {
    let encode = |byte: &u8| match byte {
        b'%' => "%25".to_owned(),
        b' '..=b'~' => char::from(*byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    bytes.iter().map(encode).collect()
}

/// What the host knows about a stream.
#[derive(Debug)]
pub(crate) struct StreamRecord {
    pub(crate) state: State,
    pub(crate) properties: Value,
    pub(crate) request: Headers,
    pub(crate) response: Option<Headers>,
    /// Envoy gives a filter the headers during their phase, which lasts as long as the filter holds the stream, and
    /// again while it logs.
    pub(crate) request_in_view: bool,
    pub(crate) response_in_view: bool,
    /// Whether the guest's context still exists.
    pub(crate) alive: bool,
    pub(crate) pauses: u32,
    pub(crate) resumes: u32,
    pub(crate) answers: u32,
}

impl StreamRecord {
    /// The request as it went on, without what is known about its end.
    pub(crate) fn as_request(&self) -> Request {
        let kept = ["xds", "metadata"].into_iter().filter_map(|name| {
            self.properties.find(&[name]).map(|value| (name.to_owned(), value.clone()))
        });
        Request {
            headers: self.request.clone(),
            properties: Value::Map(kept.collect()),
            end_of_stream: true,
        }
    }

    pub(crate) fn new(request: Request) -> Self {
        Self {
            state: State::Deciding,
            properties: request.properties,
            request: request.headers,
            response: None,
            request_in_view: true,
            response_in_view: false,
            alive: true,
            pauses: 0,
            resumes: 0,
            answers: 0,
        }
    }
}

/// One request on its way through the filter.
#[derive(Debug, Clone)]
pub struct Stream {
    pub(crate) vm: Vm,
    pub(crate) id: u32,
}

impl Stream {
    fn record<T>(&self, read: impl FnOnce(&StreamRecord) -> T) -> T {
        read(&self.vm.cell.shared.streams.borrow()[&self.id])
    }

    /// The number of the guest's context.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The VM that serves it.
    pub fn vm(&self) -> &Vm {
        &self.vm
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.record(|record| record.state.clone())
    }

    /// Whether the filter holds it.
    pub fn is_paused(&self) -> bool {
        self.state() == State::Paused
    }

    /// Whether it went on to the upstream.
    pub fn is_forwarded(&self) -> bool {
        self.state() == State::Forwarded
    }

    /// The filter's answer.
    pub fn answer(&self) -> Option<Answer> {
        match self.state() {
            State::Answered(answer) => Some(answer),
            State::Deciding | State::Paused | State::Forwarded | State::Gone => None,
        }
    }

    /// The status of the filter's answer; `None` while there is none.
    pub fn status(&self) -> Option<u32> {
        self.answer().map(|answer| answer.status)
    }

    /// The request's headers as the upstream gets them.
    pub fn request_headers(&self) -> Headers {
        self.record(|record| record.request.clone())
    }

    /// The response's headers as the client gets them.
    pub fn response_headers(&self) -> Option<Headers> {
        self.record(|record| record.response.clone())
    }

    /// Lets the upstream's response headers pass through the filter.
    #[track_caller]
    pub fn respond(&self, status: u32, headers: &[(&str, &str)]) {
        assert!(
            self.is_forwarded(),
            "stream {} is {:?}: no upstream answers it",
            self.id,
            self.state()
        );
        let mut response = Headers::from_iter([(":status", status.to_string())]);
        for (name, value) in headers {
            response.add(name, value);
        }
        self.vm.respond(self.id, status, response, "via_upstream");
    }

    /// Envoy follows the upstream's redirect itself: the request goes through the filter again, with another path.
    #[track_caller]
    pub fn redirect(&self, path: &str) -> Self {
        self.redirect_to(path, |request| request)
    }

    /// Like [`Stream::redirect`]; `change` does what the other route and the filters before this one do.
    #[track_caller]
    pub fn redirect_to(&self, path: &str, change: impl FnOnce(Request) -> Request) -> Self {
        assert!(self.is_forwarded(), "stream {} is {:?}", self.id, self.state());
        self.vm.redirect(self.id, |mut request| {
            let original = request.headers.get(":path").unwrap_or_default().to_owned();
            request.headers.replace(":path", path);
            request
                .headers
                .replace("x-envoy-original-url", format!("https://api.example{original}"));
            change(request)
        })
    }

    /// Ends a forwarded stream well. An answered stream has ended already.
    pub fn finish(&self) {
        self.vm.end_stream(self.id, 0);
    }

    /// The upstream's response and the end of the stream.
    #[track_caller]
    pub fn complete(&self, status: u32) {
        self.respond(status, &[]);
        self.finish();
    }

    /// The client leaves.
    pub fn reset(&self) {
        const DOWNSTREAM_CONNECTION_TERMINATION: i64 = 0x4;
        self.vm.end_stream(self.id, DOWNSTREAM_CONNECTION_TERMINATION);
    }

    /// The upstream breaks off after its headers.
    pub fn reset_by_upstream(&self) {
        const UPSTREAM_REMOTE_RESET: i64 = 0x20;
        self.vm.end_stream(self.id, UPSTREAM_REMOTE_RESET);
    }

    /// Whether every pause ended in exactly one resume or answer, or in the client leaving.
    pub fn is_settled(&self) -> bool {
        self.record(|record| {
            let endings = record.resumes + record.answers;
            match record.state {
                State::Deciding | State::Paused => false,
                State::Gone => endings == 0,
                State::Forwarded => record.answers == 0 && record.resumes == record.pauses,
                State::Answered(_) => endings == 1,
            }
        })
    }
}

//! A receiver of traces, as a collector is one: OTLP by gRPC, kept in memory.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1 as otlp;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::child::lock;
use crate::{StackError, port};

/// A running receiver.
#[derive(Debug)]
pub struct Collector {
    addr: SocketAddr,
    spans: Arc<Mutex<Vec<Span>>>,
    server: JoinHandle<()>,
}

/// A span, with its ids as hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Of whom: `service.name` of its resource.
    pub service: String,
    /// What it is called.
    pub name: String,
    /// `Server`, `Client` or `Internal`, among others.
    pub kind: String,
    /// Its trace.
    pub trace_id: String,
    /// Its own id.
    pub span_id: String,
    /// The span that it is part of; empty when it is none's.
    pub parent_id: String,
    /// The spans that it is linked with: trace and span.
    pub links: Vec<(String, String)>,
    /// Whether it says that it failed.
    pub has_failed: bool,
    /// What it says of itself.
    pub attributes: BTreeMap<String, String>,
}

impl Span {
    /// What it says under this name; empty when it says nothing.
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

impl Collector {
    /// Starts a receiver on a free port.
    pub async fn start() -> Result<Self, StackError> {
        Self::start_at(port::free()).await
    }

    /// Starts a receiver at this address.
    pub async fn start_at(addr: SocketAddr) -> Result<Self, StackError> {
        let incoming = TcpIncoming::bind(addr).map_err(StackError::system("bind the collector"))?;
        let spans = Arc::<Mutex<Vec<Span>>>::default();
        let service = TraceServiceServer::new(Received(Arc::clone(&spans)));
        let server = tokio::spawn(async move {
            // Serving ends only with its task.
            Server::builder().add_service(service).serve_with_incoming(incoming).await.ok();
        });
        Ok(Self { addr, spans, server })
    }

    /// Where spans are to be sent.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Every span that was received.
    pub fn spans(&self) -> Vec<Span> {
        lock(&self.spans).clone()
    }

    /// Those of one trace.
    pub fn trace(&self, trace_id: &str) -> Vec<Span> {
        let mut spans = self.spans();
        spans.retain(|span| span.trace_id == trace_id);
        spans
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// What was received.
struct Received(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let about = attributes(resource.resource.unwrap_or_default().attributes);
            let service = about.get("service.name").cloned().unwrap_or_default();
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            lock(&self.0).extend(spans.map(|span| read(&service, span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn read(service: &str, span: otlp::Span) -> Span {
    let link = |link: otlp::span::Link| (hex(&link.trace_id), hex(&link.span_id));
    Span {
        service: service.to_owned(),
        kind: format!("{:?}", span.kind()),
        trace_id: hex(&span.trace_id),
        span_id: hex(&span.span_id),
        parent_id: hex(&span.parent_span_id),
        links: span.links.into_iter().map(link).collect(),
        has_failed: span
            .status
            .is_some_and(|status| status.code() == otlp::status::StatusCode::Error),
        attributes: attributes(span.attributes),
        name: span.name,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn attributes(list: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Value| match value {
        Value::StringValue(text) => text,
        Value::BoolValue(yes) => yes.to_string(),
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let value = |pair: KeyValue| {
        let value = pair.value.and_then(|any| any.value).map(text).unwrap_or_default();
        (pair.key, value)
    };
    list.into_iter().map(value).collect()
}

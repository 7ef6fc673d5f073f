//! A span per request of a listener, as the conventions for HTTP servers have it.

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, Version};
use axum::middleware::{self, Next};
use axum::response::Response;
use farebox_core::code::Code;
use opentelemetry::Context;
use opentelemetry::trace::{
    FutureExt as _, SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use tracing::field::Empty;
use tracing::{Instrument as _, Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::{TARGET, begins, extract, is_on};
use crate::metrics::ListenerName;

/// What asks all the time whether the process lives, and how it is, is no work.
const PROBES: [&str; 4] = ["/health", "/healthz", "/readyz", "/metrics"];

/// The code of the problem that a response is, for its span.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProblemCode(pub(crate) u32);

impl From<Code> for ProblemCode {
    fn from(code: Code) -> Self {
        Self(code.number())
    }
}

/// The routes, each of whose requests has a span; as they are when nothing is traced.
pub(crate) fn traced(router: Router, listener: ListenerName) -> Router {
    if is_on() { router.layer(middleware::from_fn_with_state(listener, serve)) } else { router }
}

async fn serve(State(listener): State<ListenerName>, request: Request, next: Next) -> Response {
    if PROBES.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let context = extract(request.headers());
    let sender = context.span().span_context().clone();
    let is_kept = if sender.is_valid() { sender.is_sampled() } else { begins() };
    if !is_kept {
        let context = if sender.is_valid() { context } else { dropped() };
        return next.run(request).with_context(context).await;
    }
    let span = begin(&request, listener);
    // A span that is new has no parent yet.
    let _ = span.set_parent(context);
    let response = next.run(request).instrument(span.clone()).await;
    end(&span, &response);
    response
}

fn begin(request: &Request, listener: ListenerName) -> Span {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let method = known(request.method());
    let name = route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}"));
    info_span!(
        target: TARGET,
        parent: None,
        "request",
        otel.name = name,
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
        network.protocol.name = "http",
        network.protocol.version = version(request.version()),
        url.scheme = "http",
        farebox.listener = listener.as_str(),
        farebox.problem.code = Empty,
        error.r#type = Empty,
    )
}

/// A trace that nobody keeps: whoever is asked on its behalf hears so, and begins none.
fn dropped() -> Context {
    let (trace, span) =
        (TraceId::from(rand::random::<u128>()), SpanId::from(rand::random::<u64>()));
    let nobody = SpanContext::new(trace, span, TraceFlags::default(), false, TraceState::default());
    Context::new().with_remote_span_context(nobody)
}

fn end(span: &Span, response: &Response) {
    let status = response.status();
    span.record("http.response.status_code", status.as_u16());
    if let Some(ProblemCode(code)) = response.extensions().get() {
        span.record("farebox.problem.code", code);
    }
    if status.is_server_error() {
        span.record("error.type", status.as_str());
        span.record("otel.status_code", "ERROR");
    }
}

/// Others are not named: anybody can make up as many as they like.
fn known(method: &Method) -> &str {
    match *method {
        Method::GET
        | Method::POST
        | Method::PUT
        | Method::PATCH
        | Method::DELETE
        | Method::HEAD
        | Method::OPTIONS => method.as_str(),
        _ => "_OTHER",
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}

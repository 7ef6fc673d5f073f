//! What this process shows of its work in traces: which spans there are, and what they say. `docs/traces.md` is their list.
//!
//! A span exists only where its trace is kept; with tracing switched off there is none, and nothing here is spent. What stands in a span is read by people who may not
//! see accounts: no account, key, order or amount is in it.

use std::sync::OnceLock;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::{FutureExt as _, TraceContextExt as _};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tokio::task::JoinHandle;
use tracing::field::Empty;
use tracing::{Instrument as _, Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

pub(crate) mod request;

/// The target of every span.
pub(crate) const TARGET: &str = "farebox::trace";

/// Links of one span; the SDK keeps no more.
const LINKS_MAX: usize = 128;

/// The part of the traces that begin here which is kept.
static RATIO: OnceLock<f64> = OnceLock::new();

/// Spans exist from now on, of this part of the traces that begin here. A second call changes nothing.
pub(crate) fn switch_on(ratio: f64) {
    // An error says that it is on already.
    let _ = RATIO.set(ratio);
}

/// Whether there are spans.
pub(crate) fn is_on() -> bool {
    RATIO.get().is_some()
}

/// Whether a trace that begins now is kept.
fn begins() -> bool {
    RATIO.get().is_some_and(|ratio| rand::random_bool(*ratio))
}

/// Whether the trace of what is in progress is kept.
pub(crate) fn is_kept() -> bool {
    is_on() && Context::map_current(|context| context.span().span_context().is_sampled())
}

/// Says something more of the span that is in progress.
pub(crate) fn note(key: &'static str, value: impl Into<Value>) {
    if is_on() {
        Context::map_current(|context| context.span().set_attribute(KeyValue::new(key, value)));
    }
}

/// A transaction of this name, all of its attempts; nothing where nobody traces what it is for.
pub(crate) fn transaction(name: &'static str) -> Span {
    if !is_kept() {
        return Span::none();
    }
    info_span!(
        target: TARGET,
        "transaction",
        otel.name = format_args!("transaction {name}"),
        otel.status_code = Empty,
        farebox.transaction.name = name,
        farebox.transaction.attempts = Empty,
    )
}

/// A task that goes on with what is in progress.
pub(crate) fn spawn<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    let work = work.in_current_span();
    // What is not kept has no span, and tells others so all the same.
    if is_on() { tokio::spawn(work.with_current_context()) } else { tokio::spawn(work) }
}

/// Something that no request asked for, and that was due.
pub(crate) fn job(name: &'static str) -> Span {
    if !begins() {
        return Span::none();
    }
    info_span!(
        target: TARGET,
        parent: None,
        "job",
        otel.name = format_args!("job {name}"),
        farebox.job.name = name,
    )
}

/// A call of the payment service.
pub(crate) fn payment_call(method: &'static str) -> Span {
    if !is_kept() {
        return Span::none();
    }
    info_span!(
        target: TARGET,
        "rpc",
        otel.name = format_args!("payment.v1.PaymentService/{method}"),
        otel.kind = "client",
        otel.status_code = Empty,
        rpc.system = "grpc",
        rpc.service = "payment.v1.PaymentService",
        rpc.method = method,
        rpc.grpc.status_code = Empty,
    )
}

/// An event on its way to its receiver.
pub(crate) fn event(host: &str) -> Span {
    if !is_kept() {
        return Span::none();
    }
    info_span!(
        target: TARGET,
        "event",
        otel.name = "POST",
        otel.kind = "client",
        otel.status_code = Empty,
        http.request.method = "POST",
        http.response.status_code = Empty,
        server.address = host,
    )
}

/// Writes the span in progress into the headers of a request.
pub(crate) fn inject(mut set: impl FnMut(&str, String)) {
    struct Carrier<'s>(&'s mut dyn FnMut(&str, String));
    impl Injector for Carrier<'_> {
        fn set(&mut self, key: &str, value: String) {
            // An empty `tracestate` says nothing.
            if !value.is_empty() {
                (self.0)(key, value);
            }
        }
    }
    if is_on() {
        TraceContextPropagator::new().inject(&mut Carrier(&mut set));
    }
}

/// The same, into headers of HTTP.
pub(crate) fn inject_into(headers: &mut HeaderMap) {
    inject(|name, value| {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    });
}

/// What the sender of a request says of its trace.
fn extract(headers: &HeaderMap) -> Context {
    struct Carrier<'h>(&'h HeaderMap);
    impl Extractor for Carrier<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            self.0.get(key)?.to_str().ok()
        }

        fn keys(&self) -> Vec<&str> {
            self.0.keys().map(HeaderName::as_str).collect()
        }
    }
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Carrier(headers))
}

/// Where a request that shares its work with others came from: kept only if its trace is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origin(Option<Context>);

impl Origin {
    /// The span in progress.
    pub(crate) fn here() -> Self {
        Self(is_kept().then(Context::current))
    }
}

/// A turn that decides requests together. It belongs to the request that has it alone; several are linked with it, and it
/// with them: each may be of another trace.
pub(crate) fn turn<'o>(origins: impl Iterator<Item = &'o Origin>) -> Span {
    let (mut requests, mut is_shared) = (0_usize, false);
    let mut senders: Vec<&Context> = Vec::new();
    for Origin(context) in origins {
        requests += 1;
        let Some(context) = context else {
            is_shared = true;
            continue;
        };
        let id = context.span().span_context().span_id();
        // The requests of one batch have one sender.
        let is_known = |known: &&Context| known.span().span_context().span_id() == id;
        if senders.len() < LINKS_MAX && !senders.iter().any(is_known) {
            senders.push(context);
        }
    }
    if senders.is_empty() {
        return Span::none();
    }
    let span = info_span!(
        target: TARGET,
        parent: None,
        "turn",
        otel.name = "turn",
        farebox.turn.requests = requests,
    );
    if let ([only], false) = (senders.as_slice(), is_shared) {
        // A span that is new has no parent yet.
        let _ = span.set_parent((*only).clone());
        return span;
    }
    for sender in &senders {
        span.add_link(sender.span().span_context().clone());
    }
    let turn = span.context().span().span_context().clone();
    for sender in senders {
        sender.span().add_link(turn.clone(), Vec::new());
    }
    span
}

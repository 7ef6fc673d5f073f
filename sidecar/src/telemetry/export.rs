//! Sends spans to a receiver of OTLP, by batches, from a thread of its own. Nobody waits for it: what finds no room is
//! dropped, and a receiver that is away costs its spans and nothing else.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter as Otlp, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor,
};

use crate::metrics::{self, SpanResult};

/// Spans that wait to be sent; a span takes about 1 KiB.
const QUEUE_MAX: usize = 8_192;
/// Spans of one message.
const BATCH_MAX: usize = 512;
/// How long spans wait for others to be sent with.
const GATHER: Duration = Duration::from_secs(1);
/// How long the receiver may take over a message.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A queue in front of the receiver at `endpoint`.
pub(super) fn processor(endpoint: &str) -> Result<impl SpanProcessor + use<>, ExporterBuildError> {
    let otlp =
        Otlp::builder().with_tonic().with_endpoint(endpoint).with_timeout(TIMEOUT).build()?;
    Ok(bounded(otlp))
}

fn bounded<E: SpanExporter + 'static>(exporter: E) -> Bounded {
    let waiting = Arc::new(AtomicUsize::new(0));
    let watched =
        Watched { exporter, waiting: Arc::clone(&waiting), is_away: AtomicBool::new(false) };
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE_MAX)
        .with_max_export_batch_size(BATCH_MAX)
        .with_scheduled_delay(GATHER);
    let queue = BatchSpanProcessor::builder(watched).with_batch_config(config.build()).build();
    Bounded { queue, waiting }
}

/// The library's queue, which says nothing of what it drops.
#[derive(Debug)]
struct Bounded {
    queue: BatchSpanProcessor,
    /// Spans that are in the queue, or on their way.
    waiting: Arc<AtomicUsize>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.queue.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if QUEUE_MAX <= self.waiting.fetch_add(1, Ordering::Relaxed) {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            metrics::spans(SpanResult::Dropped, 1);
        } else {
            self.queue.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.queue.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.queue.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.queue.set_resource(resource);
    }
}

/// Counts what became of spans, and says once that the receiver is away, and once that it is back.
struct Watched<E> {
    exporter: E,
    waiting: Arc<AtomicUsize>,
    is_away: AtomicBool,
}

impl<E> fmt::Debug for Watched<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("is_away", &self.is_away).finish_non_exhaustive()
    }
}

impl<E: SpanExporter> SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let outcome = self.exporter.export(batch).await;
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        match &outcome {
            Ok(()) => {
                metrics::spans(SpanResult::Sent, count);
                if self.is_away.swap(false, Ordering::Relaxed) {
                    tracing::info!("spans are received again");
                }
            }
            Err(err) => {
                metrics::spans(SpanResult::Failed, count);
                if !self.is_away.swap(true, Ordering::Relaxed) {
                    tracing::warn!(error = %err, "spans are not received; they are lost until the receiver is back");
                }
            }
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{Tracer as _, TracerProvider as _};
    use opentelemetry_sdk::trace::SdkTracerProvider;

    use super::*;
    use crate::metrics::recorded;

    /// A receiver that takes a message and never answers.
    #[derive(Debug)]
    struct Stuck;

    impl SpanExporter for Stuck {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn a_receiver_that_does_not_answer_holds_nobody_up_and_what_finds_no_room_is_counted() {
        let provider = SdkTracerProvider::builder().with_span_processor(bounded(Stuck)).build();
        let tracer = provider.tracer("test");
        let ((), text) = recorded(async {
            for _ in 0..QUEUE_MAX + 10 {
                drop(tracer.start("span"));
            }
        })
        .await;
        assert!(text.contains("billing_trace_spans_total{result=\"dropped\"} 10\n"), "{text}");
        // Nor does it hold up the end of the process for longer than it may.
        let late = provider.shutdown_with_timeout(Duration::from_millis(50));
        assert!(late.is_err(), "the spans were not received");
    }
}

//! A line of the log: what happened, and for a traced request the ids of its trace and span. Spans themselves are not shown.

use std::fmt;

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt as _;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::fmt::format::{Format, Json, Writer};
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::Context as LayerContext;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer};

/// The lines that a filter lets pass.
///
/// It is asked here, for each line, and not put around the layer by `with_filter`: a filter there keeps its verdict for the
/// thread until the next event, also when somebody only asks whether there would be one, as sqlx does before each statement.
/// The next line, a warning maybe, would be lost.
pub(super) struct Lines<L> {
    pub(super) filter: EnvFilter,
    pub(super) inner: L,
}

impl<S: Subscriber + for<'l> LookupSpan<'l>, L: Layer<S>> Layer<S> for Lines<L> {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        Layer::<S>::register_callsite(&self.filter, metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Layer::<S>::max_level_hint(&self.filter)
    }

    fn on_event(&self, event: &Event<'_>, context: LayerContext<'_, S>) {
        if self.filter.enabled(event.metadata(), context.clone()) {
            self.inner.on_event(event, context);
        }
    }
}

/// Time, level and what happened, for people.
pub(super) struct Plain;

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'l> LookupSpan<'l>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        SystemTime.format_time(&mut writer)?;
        write!(writer, " {:>5} ", event.metadata().level())?;
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// A line's format, and the ids after it.
pub(super) struct WithTrace<F> {
    line: F,
    is_traced: bool,
    ids: Ids,
}

/// How the ids are put to the end of a line.
struct Ids {
    /// What the line ends in.
    end: &'static str,
    write: fn(trace: &str, span: &str) -> String,
}

impl WithTrace<Plain> {
    pub(super) fn text(is_traced: bool) -> Self {
        let write = |trace: &str, span: &str| format!(" trace_id={trace} span_id={span}");
        Self { line: Plain, is_traced, ids: Ids { end: "\n", write } }
    }
}

impl WithTrace<Format<Json>> {
    pub(super) fn json(is_traced: bool) -> Self {
        let line = Format::default().json().flatten_event(true);
        let line = line.with_target(false).with_current_span(false).with_span_list(false);
        let write =
            |trace: &str, span: &str| format!(r#","trace_id":"{trace}","span_id":"{span}""#);
        Self { line, is_traced, ids: Ids { end: "}\n", write } }
    }
}

impl<F, S, N> FormatEvent<S, N> for WithTrace<F>
where
    F: FormatEvent<S, N>,
    S: Subscriber + for<'l> LookupSpan<'l>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let ids = self.is_traced.then(ids).flatten();
        let Some((trace, span)) = ids else {
            return self.line.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.line.format_event(context, Writer::new(&mut line), event)?;
        let Ids { end, write } = &self.ids;
        let (line, end) = line.strip_suffix(end).map_or((line.as_str(), ""), |line| (line, end));
        write!(writer, "{line}{}{end}", write(&trace, &span))
    }
}

/// Of the span that this thread is in.
fn ids() -> Option<(String, String)> {
    let context = Context::current();
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| (span.trace_id().to_string(), span.span_id().to_string()))
}

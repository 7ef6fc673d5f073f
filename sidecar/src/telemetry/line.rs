//! A line of the log that was written for a traced request ends in the ids of its trace and span.

use std::fmt;

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt as _;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Format, Full, Json, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// A line's format, and the ids after it.
pub(super) struct WithTrace<F> {
    line: Format<F>,
    is_traced: bool,
    ids: Ids,
}

/// How the ids are put to the end of a line.
struct Ids {
    /// What the line ends in.
    end: &'static str,
    write: fn(trace: &str, span: &str) -> String,
}

impl WithTrace<Full> {
    pub(super) fn text(line: Format<Full>, is_traced: bool) -> Self {
        let write = |trace: &str, span: &str| format!(" trace_id={trace} span_id={span}");
        Self { line, is_traced, ids: Ids { end: "\n", write } }
    }
}

impl WithTrace<Json> {
    pub(super) fn json(line: Format<Json>, is_traced: bool) -> Self {
        let write =
            |trace: &str, span: &str| format!(r#","trace_id":"{trace}","span_id":"{span}""#);
        Self { line, is_traced, ids: Ids { end: "}\n", write } }
    }
}

impl<F, S, N> FormatEvent<S, N> for WithTrace<F>
where
    Format<F>: FormatEvent<S, N>,
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

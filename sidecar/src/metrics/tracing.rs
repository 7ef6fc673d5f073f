//! What became of this process's spans.

use metrics::counter;

use super::{Counter, counters};

const SPANS: &str = "billing_trace_spans_total";

pub(super) const COUNTERS: &[Counter] =
    &[(SPANS, "Spans that were sent to the receiver of traces, or lost on the way there.")];

label! {
    /// What became of a span.
    SpanResult {
        /// The receiver has it.
        Sent = "sent",
        /// The receiver was away, or refused it.
        Failed = "failed",
        /// There was no room to wait in.
        Dropped = "dropped",
    }
}

/// This became of so many spans.
pub fn spans(result: SpanResult, count: usize) {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    counter!(SPANS, "result" => result.as_str()).increment(count);
}

pub(super) fn register() {
    counters(SPANS, "result", SpanResult::ALL.iter().map(|result| result.as_str()));
}

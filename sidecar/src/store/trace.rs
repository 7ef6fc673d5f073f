//! What the database's driver says of a statement becomes a span: what was done to which table, and for how long. The text
//! stays here: some texts hold values.

use std::fmt;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{Span as _, SpanBuilder, SpanKind};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::SdkTracer;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{DynFilterFn, dynamic_filter_fn};
use tracing_subscriber::layer::Context as LayerContext;

use crate::trace;

/// Where the driver tells of its statements.
const TARGET: &str = "sqlx::query";

/// Makes spans of statements.
#[derive(Debug)]
pub(crate) struct Statements(SdkTracer);

impl Statements {
    pub(crate) fn new(tracer: SdkTracer) -> Self {
        Self(tracer)
    }
}

/// The driver writes a text for each statement that somebody wants to hear of; only a trace that is kept does.
pub(crate) fn filter<S>() -> DynFilterFn<
    S,
    impl Fn(&Metadata<'_>, &LayerContext<'_, S>) -> bool,
    impl Fn(&'static Metadata<'static>) -> Interest,
> {
    let is_statement = |metadata: &Metadata<'_>| metadata.target() == TARGET;
    dynamic_filter_fn(move |metadata: &Metadata<'_>, _: &LayerContext<'_, S>| {
        is_statement(metadata) && trace::is_kept()
    })
    .with_callsite_filter(move |metadata| {
        if is_statement(metadata) { Interest::sometimes() } else { Interest::never() }
    })
    .with_max_level_hint(LevelFilter::DEBUG)
}

impl<S: Subscriber> Layer<S> for Statements {
    fn on_event(&self, event: &Event<'_>, _: LayerContext<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        let end = SystemTime::now();
        let elapsed = Duration::try_from_secs_f64(said.seconds).unwrap_or_default();
        let start = end.checked_sub(elapsed).unwrap_or(end);
        let span = said.span().with_start_time(start);
        Context::map_current(|context| span.start_with_context(&self.0, context))
            .end_with_timestamp(end);
    }
}

/// A statement, as the driver tells of it.
#[derive(Debug, Default)]
struct Said {
    /// Its first words, or all of it.
    summary: String,
    /// The whole text, when the summary is not.
    text: String,
    seconds: f64,
    affected: u64,
    returned: u64,
}

impl Said {
    fn span(&self) -> SpanBuilder {
        let text = if self.text.trim().is_empty() { &self.summary } else { &self.text };
        let (operation, table) = read(text);
        let mut attributes = vec![
            KeyValue::new("db.system.name", "mysql"),
            KeyValue::new("db.operation.name", operation.clone()),
        ];
        let mut name = operation;
        if let Some(table) = table {
            name = format!("{name} {table}");
            attributes.push(KeyValue::new("db.collection.name", table));
        }
        for (key, count) in [
            ("db.response.returned_rows", self.returned),
            ("farebox.db.affected_rows", self.affected),
        ] {
            if 0 < count {
                attributes.push(KeyValue::new(key, i64::try_from(count).unwrap_or(i64::MAX)));
            }
        }
        SpanBuilder::from_name(name).with_kind(SpanKind::Client).with_attributes(attributes)
    }
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => value.clone_into(&mut self.summary),
            "db.statement" => value.clone_into(&mut self.text),
            _ => {}
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if field.name() == "elapsed_secs" {
            self.seconds = value;
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "rows_affected" => self.affected = value,
            "rows_returned" => self.returned = value,
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// What a statement does, and to which table first.
fn read(sql: &str) -> (String, Option<String>) {
    let mut words = sql.split(|c: char| c.is_whitespace() || "(),;`".contains(c));
    let mut words = words.by_ref().filter(|word| !word.is_empty()).peekable();
    let first = words.next().unwrap_or_default().to_ascii_uppercase();
    let before = match first.as_str() {
        "INSERT" | "REPLACE" => "INTO",
        "UPDATE" => "UPDATE",
        _ => "FROM",
    };
    if before != "UPDATE" {
        // Up to the table's name.
        words.by_ref().find(|word| word.eq_ignore_ascii_case(before));
    }
    let is_name = |word: &&str| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let table = words.next().filter(is_name).map(str::to_owned);
    let is_word = (1..=16).contains(&first.len()) && first.bytes().all(|b| b.is_ascii_uppercase());
    (if is_word { first } else { "OTHER".to_owned() }, table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_known_by_what_it_does_to_which_table() {
        for (sql, operation, table) in [
            ("SELECT a, b FROM user_balance WHERE user_id = ?", "SELECT", Some("user_balance")),
            ("\n\n  select 1\nfrom `lease` l", "SELECT", Some("lease")),
            ("INSERT IGNORE INTO sync_reply (a) VALUES (?)", "INSERT", Some("sync_reply")),
            ("UPDATE free_quota q JOIN JSON_TABLE(?, '$')", "UPDATE", Some("free_quota")),
            ("DELETE FROM outbox WHERE id < ?", "DELETE", Some("outbox")),
            ("SELECT a FROM JSON_TABLE(?, '$[*]') t", "SELECT", None),
            ("SELECT UTC_TIMESTAMP(3)", "SELECT", None),
            ("START TRANSACTION READ WRITE", "START", None),
            ("COMMIT", "COMMIT", None),
            ("", "OTHER", None),
            ("/* u1 */ SELECT", "OTHER", None),
        ] {
            assert_eq!(read(sql), (operation.to_owned(), table.map(str::to_owned)), "{sql}");
        }
    }
}

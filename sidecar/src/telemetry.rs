//! Logs: one line per fact on the standard error stream, for people or as JSON. And traces, where the configuration says so.
//!
//! `RUST_LOG` overrides `log.level`, with the directives of `tracing_subscriber::EnvFilter`.
//!
//! | file | what it does |
//! |---|---|
//! | `line.rs` | names the trace in a line of the log |
//! | `export.rs` | sends spans, within bounds, and counts what became of them |

use std::io;
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use self::line::{Lines, WithTrace};
use crate::config::{Log, LogFormat, LogLevel, Tracing};
use crate::store::trace as statement;
use crate::trace;

mod export;
mod line;

/// The variable that overrides the level.
const VARIABLE: &str = "RUST_LOG";

/// Libraries that would tell the operator what only their authors need.
const QUIET: &str =
    "h2=warn,hyper=warn,hyper_util=warn,rustls=warn,sqlx=warn,tonic=warn,tower=warn";

/// How long a process that stops waits for its last spans to be received.
const FLUSH_MAX: Duration = Duration::from_secs(3);

/// What this service is called in traces.
const SERVICE_NAME: &str = "farebox";

/// What stands between this program's spans and others'.
type Layers = Vec<Box<dyn Layer<Registry> + Send + Sync>>;

/// Nothing is logged or traced.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A filter that cannot be read.
    #[error("{VARIABLE} is {value:?}: {problem}; write for instance info or farebox_sidecar=debug")]
    Filter {
        /// What was found.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Spans cannot be sent with these settings; a receiver that is merely away is no error.
    #[error(
        "tracing cannot begin: {0}; correct tracing.otlp_endpoint or the variables that begin with OTEL_EXPORTER_OTLP"
    )]
    Export(#[from] ExporterBuildError),
}

/// What was started, and must be ended.
#[derive(Debug)]
pub struct Telemetry {
    spans: Option<SdkTracerProvider>,
}

/// Starts logging, and tracing where it is configured; called on the runtime, which sends the spans. Called once per
/// process; a second call changes nothing.
pub fn start(log: &Log, tracing: Option<&Tracing>) -> Result<Telemetry, TelemetryError> {
    let filter = filter(log, std::env::var(VARIABLE).ok())?;
    let spans = tracing.map(provider).transpose()?;
    let mut layers: Layers = vec![lines(log, filter, spans.is_some(), io::stderr)];
    if let (Some(provider), Some(settings)) = (&spans, tracing) {
        layers.extend(span_layers(provider));
        trace::switch_on(settings.sample_ratio);
    }
    // An error says that this process logs already, which is what the caller wants.
    let _ = tracing_subscriber::registry().with(layers).try_init();
    Ok(Telemetry { spans })
}

impl Telemetry {
    /// Sends what is left, within a few seconds. Not on the runtime's threads: it blocks.
    pub fn finish(self) {
        if let Some(spans) = self.spans
            && let Err(err) = spans.shutdown_with_timeout(FLUSH_MAX)
        {
            tracing::warn!(error = %err, "the last spans were not received");
        }
    }
}

/// Lines of the log. Spans are none of its business: it shows them by their ids.
fn lines(
    log: &Log,
    filter: EnvFilter,
    is_traced: bool,
    writer: impl for<'w> MakeWriter<'w> + Send + Sync + 'static,
) -> Box<dyn Layer<Registry> + Send + Sync> {
    let layer = fmt::layer().with_writer(writer);
    match log.format {
        LogFormat::Text => {
            let layer = layer.with_ansi(false).event_format(WithTrace::text(is_traced));
            Lines { filter, inner: layer }.boxed()
        }
        LogFormat::Json => {
            let layer = layer.fmt_fields(JsonFields::new());
            Lines { filter, inner: layer.event_format(WithTrace::json(is_traced)) }.boxed()
        }
    }
}

fn provider(settings: &Tracing) -> Result<SdkTracerProvider, ExporterBuildError> {
    Ok(SdkTracerProvider::builder()
        // What is not kept has no span.
        .with_sampler(Sampler::AlwaysOn)
        .with_resource(resource(settings.service_name.as_deref()))
        .with_span_processor(export::processor(&settings.endpoint)?)
        .build())
}

/// Who sends the spans. The name stands in the configuration, in `OTEL_SERVICE_NAME`, in `OTEL_RESOURCE_ATTRIBUTES`, or is
/// the usual one.
fn resource(name: Option<&str>) -> Resource {
    const NAME: &str = "service.name";
    let found = Resource::builder().build();
    let found = found.get(&NAME.into()).map(|name| name.to_string());
    // The library makes a name up when nobody says one.
    let found = found.filter(|name| !name.starts_with("unknown_service"));
    let name = name.map(str::to_owned).or(found).unwrap_or_else(|| SERVICE_NAME.to_owned());
    let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    Resource::builder().with_attribute(version).with_service_name(name).build()
}

fn span_layers(provider: &SdkTracerProvider) -> Layers {
    let ours = filter_fn(|metadata| metadata.is_span() && metadata.target() == trace::TARGET);
    let spans = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(SERVICE_NAME))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(ours.with_max_level_hint(LevelFilter::INFO));
    let statements =
        statement::Statements::new(provider.tracer(SERVICE_NAME)).with_filter(statement::filter());
    vec![spans.boxed(), statements.boxed()]
}

fn filter(log: &Log, variable: Option<String>) -> Result<EnvFilter, TelemetryError> {
    let value = match variable.filter(|value| !value.is_empty()) {
        Some(value) => value,
        // Nothing is quieter than errors alone.
        None if log.level == LogLevel::Error => log.level.as_str().to_owned(),
        None => format!("{},{QUIET}", log.level.as_str()),
    };
    EnvFilter::try_new(&value)
        .map_err(|err| TelemetryError::Filter { value, problem: err.to_string() })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use opentelemetry::Context;
    use opentelemetry::trace::{
        SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
    };

    use super::*;

    #[test]
    fn the_variable_overrides_the_level_and_a_bad_one_is_named() {
        let log = Log { level: LogLevel::Warn, format: LogFormat::Text };
        assert!(filter(&log, None).unwrap().to_string().contains("warn"));
        let errors = Log { level: LogLevel::Error, format: LogFormat::Text };
        assert_eq!(filter(&errors, None).unwrap().to_string(), "error");
        assert_eq!(filter(&log, Some("trace".to_owned())).unwrap().to_string(), "trace");
        assert!(filter(&log, Some(String::new())).is_ok());
        let refused = filter(&log, Some("farebox=loud".to_owned())).unwrap_err().to_string();
        assert!(refused.starts_with("RUST_LOG is \"farebox=loud\": "), "{refused}");
    }

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_written_whoever_asked_before_whether_another_would_be() {
        let written = Written::default();
        let writer = written.clone();
        let log = Log { level: LogLevel::Info, format: LogFormat::Text };
        let lines = lines(&log, filter(&log, None).unwrap(), false, move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            for attempt in 0..3 {
                // As sqlx does it before each statement.
                let _ = tracing::enabled!(target: "sqlx::query", tracing::Level::DEBUG);
                tracing::warn!(attempt, "told");
            }
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches("WARN told").count(), 3, "{text}");
    }

    /// What is written for one event in a trace; an own span stands around it.
    fn line(format: LogFormat, is_traced: bool) -> String {
        let written = Written::default();
        let writer = written.clone();
        let log = Log { level: LogLevel::Info, format };
        let lines = lines(&log, filter(&log, None).unwrap(), is_traced, move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            let (trace, span) = (TraceId::from(10_u128), SpanId::from(11_u64));
            let span =
                SpanContext::new(trace, span, TraceFlags::SAMPLED, true, TraceState::default());
            let _in_it = Context::new().with_remote_span_context(span).attach();
            let _around =
                tracing::info_span!(target: trace::TARGET, "request", http.route = "/x").entered();
            tracing::info!(answer = 42, "told");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        text
    }

    #[test]
    fn a_line_in_a_trace_names_it_and_shows_no_span() {
        const IDS: (&str, &str) = ("0000000000000000000000000000000a", "000000000000000b");
        let text = line(LogFormat::Text, true);
        let end = format!(" told answer=42 trace_id={} span_id={}\n", IDS.0, IDS.1);
        assert!(text.ends_with(&end) && !text.contains("/x"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&line(LogFormat::Json, true)).unwrap();
        assert_eq!((&json["trace_id"], &json["span_id"]), (&IDS.0.into(), &IDS.1.into()));
        assert_eq!((&json["message"], &json["answer"]), (&"told".into(), &42.into()));
        for format in [LogFormat::Text, LogFormat::Json] {
            let plain = line(format, false);
            assert!(!plain.contains("trace_id") && !plain.contains("/x"), "{plain}");
        }
    }

    #[test]
    fn the_service_has_the_name_that_it_is_given() {
        let name = |given| resource(given).get(&"service.name".into()).unwrap().to_string();
        assert_eq!((name(None), name(Some("billing"))), (SERVICE_NAME.into(), "billing".into()));
    }
}

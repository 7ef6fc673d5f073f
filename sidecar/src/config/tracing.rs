//! `tracing`: who is sent spans, and of how many requests.

use super::environment::Environment;
use super::error::ConfigError;
use super::shape;

/// The usual variables for where spans go; the first one is of higher rank.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

const SAMPLE_RATIO: f64 = 0.01;

/// `tracing`
#[derive(Debug, Clone, PartialEq)]
pub struct Tracing {
    /// Where OTLP is received, by gRPC.
    pub endpoint: String,
    /// The part of the requests that begin a trace here. Whoever comes with a trace has decided already.
    pub sample_ratio: f64,
    /// What this service is called in traces, when neither `OTEL_SERVICE_NAME` nor the default will do.
    pub service_name: Option<String>,
}

impl Tracing {
    pub(super) fn read(
        block: shape::Tracing,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let variable = || ENDPOINTS.iter().find_map(|name| environment.var(name));
        let endpoint = block.otlp_endpoint.map(|url| url.0.0);
        let endpoint = endpoint.or_else(|| variable().map(str::to_owned));
        Ok(Self {
            endpoint: endpoint.ok_or(ConfigError::Missing {
                field: "tracing.otlp_endpoint",
                remedy: "write where OTLP is received by gRPC, such as http://127.0.0.1:4317, or set OTEL_EXPORTER_OTLP_ENDPOINT, or remove tracing",
            })?,
            sample_ratio: block.sample_ratio.map_or(SAMPLE_RATIO, |ratio| ratio.0.0),
            service_name: block.service_name.map(|name| name.0.0),
        })
    }
}

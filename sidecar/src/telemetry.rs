//! Logs: one line per fact on the standard error stream, for people or as JSON.
//!
//! `RUST_LOG` overrides `log.level`, with the directives of `tracing_subscriber::EnvFilter`.

use std::io;

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat, LogLevel};

/// The variable that overrides the level.
const VARIABLE: &str = "RUST_LOG";

/// Libraries that would tell the operator what only their authors need.
const QUIET: &str = "h2=warn,hyper=warn,hyper_util=warn,rustls=warn,sqlx=warn,tower=warn";

/// A filter that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{VARIABLE} is {value:?}: {problem}; write for instance info or farebox_sidecar=debug")]
pub struct FilterError {
    value: String,
    problem: String,
}

/// Starts logging. Called once per process; a second call changes nothing.
pub fn start(log: &Log) -> Result<(), FilterError> {
    let filter = filter(log, std::env::var(VARIABLE).ok())?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false);
    // An error says that this process logs already, which is what the caller wants.
    let _ = match log.format {
        LogFormat::Text => subscriber.with_ansi(false).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    Ok(())
}

fn filter(log: &Log, variable: Option<String>) -> Result<EnvFilter, FilterError> {
    let value = match variable.filter(|value| !value.is_empty()) {
        Some(value) => value,
        // Nothing is quieter than errors alone.
        None if log.level == LogLevel::Error => log.level.as_str().to_owned(),
        None => format!("{},{QUIET}", log.level.as_str()),
    };
    EnvFilter::try_new(&value).map_err(|err| FilterError { value, problem: err.to_string() })
}

#[cfg(test)]
mod tests {
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
}

//! `events`: who is told about recharges, and what those messages are signed with.

use std::time::Duration;

use super::environment::Environment;
use super::error::ConfigError;
use super::secret::Secret;
use super::secrets::{self, SecretSource};
use super::shape;

const TIMEOUT: Duration = Duration::from_secs(10);

/// `events`
#[derive(Debug, Clone)]
pub struct Events {
    /// Where events are sent.
    pub url: String,
    /// What they are signed with, with each of them while one is being changed. Only `serve` needs one.
    pub secrets: Vec<Secret>,
    /// How long a delivery may take.
    pub timeout: Duration,
}

impl Events {
    pub(super) fn read(
        block: shape::Events,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let url = block.url.ok_or(ConfigError::Missing {
            field: "events.url",
            remedy: "write where events are sent, such as https://shop.example/events, or remove events",
        })?;
        let secrets = secrets::webhook_secrets(&SecretSource {
            environment,
            variable: "FAREBOX_EVENTS_SECRET",
            file_key: "events.secret_file",
            file: block.secret_file.as_ref().map(|path| path.0.as_path()),
        })?;
        let timeout = block.timeout.map_or(TIMEOUT, |text| text.0.0);
        Ok(Self { url: url.0.0, secrets, timeout })
    }
}

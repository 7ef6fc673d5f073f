//! What of a configuration needs no secret: for commands that reach nothing.

use std::fs;
use std::path::Path;

use super::{Billing, ConfigError, Environment, Leases, Listener};
use super::{billing, leases, public_listener, read_tree};

/// Services and times, without logins and tokens.
#[derive(Debug, Clone)]
pub(crate) struct Outline {
    pub(crate) billing: Billing,
    pub(crate) leases: Leases,
    pub(crate) public: Listener,
}

impl Outline {
    /// Reads it from a file and the environment.
    pub(crate) fn load(path: &Path, environment: &Environment) -> Result<Self, ConfigError> {
        let path_text = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|err| ConfigError::Unreadable {
            path: path_text.clone(),
            problem: err.to_string(),
        })?;
        let in_file = |err| ConfigError::InFile { path: path_text, problem: Box::new(err) };
        Self::parse(&text, environment).map_err(in_file)
    }

    fn parse(text: &str, environment: &Environment) -> Result<Self, ConfigError> {
        let (file, _) = read_tree(text, environment)?;
        Ok(Self {
            billing: billing(file.billing)?,
            leases: leases(file.leases.unwrap_or_default()),
            public: public_listener(file.server.and_then(|server| server.http).unwrap_or_default()),
        })
    }
}

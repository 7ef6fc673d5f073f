//! What is wrong with a configuration, in one line that names field, value and remedy.

use std::fmt;

use farebox_core::id::NameError;

/// A key, and the environment variable that set it when one did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Path of keys, for instance `billing.prices.passport`.
    pub path: String,
    /// The variable that overrode the file.
    pub variable: Option<String>,
}

impl Field {
    /// A key that no variable set.
    pub(crate) fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), variable: None }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.variable {
            Some(variable) => write!(f, "{} ({variable})", self.path),
            None => f.write_str(&self.path),
        }
    }
}

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(
        "cannot read {path}: {problem}; name the configuration with --config or FAREBOX_CONFIG"
    )]
    Unreadable {
        /// The file's path.
        path: String,
        /// What the system said.
        problem: String,
    },
    /// The file of prices cannot be read.
    #[error("cannot read {path}: {problem}; name a file with prices")]
    UnreadablePrices {
        /// The file's path.
        path: String,
        /// What the system said.
        problem: String,
    },
    /// The text is not the YAML that this program reads.
    #[error("line {line}, column {column}: {problem}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
        /// What is wrong there, and what to write.
        problem: String,
    },
    /// Such a text, in a file with a name.
    #[error("{path}: {problem}")]
    InFile {
        /// The file's path.
        path: String,
        /// Position and mistake.
        problem: Box<ConfigError>,
    },
    /// A key that nothing reads.
    #[error("{field} is not a key of this program; remove it or write one of: {known}")]
    UnknownKey {
        /// The key.
        field: Field,
        /// Its known neighbours.
        known: String,
    },
    /// A value that breaks a rule.
    #[error("{field} is {value:?}: {complaint}")]
    Value {
        /// The key.
        field: Field,
        /// The text as written.
        value: String,
        /// The rule, then the remedy.
        complaint: String,
    },
    /// A value whose text must not be repeated, because it may hold a password.
    #[error("{field} {complaint}")]
    Hidden {
        /// The key or variable.
        field: String,
        /// The rule, then the remedy.
        complaint: String,
    },
    /// A block where a value belongs, or the other way round.
    #[error("{field} {complaint}")]
    Shape {
        /// The key.
        field: Field,
        /// The rule, then the remedy.
        complaint: String,
    },
    /// A key of a table of services that is no service name.
    #[error("{table} has the key {name:?}: {problem}; rename the service")]
    Service {
        /// `billing.prices` or `billing.free_quotas`, or one of the file of prices.
        table: String,
        /// The key.
        name: String,
        /// The rule it breaks.
        problem: NameError,
    },
    /// A key of the table of accounts that is no account id.
    #[error("accounts has the key {name:?}: {problem}; write the account's id")]
    Account {
        /// The key.
        name: String,
        /// The rule it breaks.
        problem: NameError,
    },
    /// Something that has no default.
    #[error("{field} is missing; {remedy}")]
    Missing {
        /// The key.
        field: &'static str,
        /// What to write where.
        remedy: &'static str,
    },
    /// Two keys that say the same thing.
    #[error("{first} and {second} are both set; keep one of them")]
    Both {
        /// One key.
        first: &'static str,
        /// The other one.
        second: &'static str,
    },
}

//! Keys of the predecessor that mean nothing here: its files are accepted, and each such key is named once.

use std::fmt;

use figment::value::{Dict, Value};

use super::error::{ConfigError, Field};

/// A key that was read over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The key.
    pub key: &'static str,
    /// What to know about it.
    pub note: &'static str,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has no effect: {}", self.key, self.note)
    }
}

const LOG_FILES: &str = "logs go to the standard error stream";

const RETIRED: [(&str, &str); 13] = [
    ("server.grpc", "there is no gRPC listener"),
    ("server.http.network", "listeners are TCP"),
    ("data.rocketmq", "no message queue is needed"),
    ("scheduler", "free quotas renew themselves when a month begins"),
    ("log.output", LOG_FILES),
    ("log.server_file_path", LOG_FILES),
    ("log.scheduler_file_path", LOG_FILES),
    ("log.max_size", LOG_FILES),
    ("log.max_age", LOG_FILES),
    ("log.max_backups", LOG_FILES),
    ("log.compress", LOG_FILES),
    ("billing.free_app_ids", "no app is free; give its account a balance"),
    (DEV_MODE, "there is no mode in which everything is free"),
];

const DEV_MODE: &str = "billing.dev_mode";

/// Takes the retired keys out of the tree.
pub(crate) fn strip(tree: &mut Dict) -> Result<Vec<Warning>, ConfigError> {
    let mut warnings = Vec::new();
    for (key, note) in RETIRED {
        let Some(value) = remove(tree, key) else { continue };
        if key == DEV_MODE && value.as_str().is_none_or(|text| text != "false") {
            return Err(ConfigError::Value {
                field: Field::new(key),
                value: value.as_str().unwrap_or_default().to_owned(),
                complaint: "everything would be free; remove the key".to_owned(),
            });
        }
        warnings.push(Warning { key, note });
    }
    Ok(warnings)
}

fn remove(tree: &mut Dict, path: &str) -> Option<Value> {
    match path.split_once('.') {
        None => tree.remove(path),
        Some((block, rest)) => match tree.get_mut(block)? {
            Value::Dict(_, inner) => remove(inner, rest),
            Value::String(..)
            | Value::Char(..)
            | Value::Bool(..)
            | Value::Num(..)
            | Value::Empty(..)
            | Value::Array(..) => None,
        },
    }
}

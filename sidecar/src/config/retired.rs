//! Keys of the predecessor that mean nothing here, or something else: its files are accepted, and each such key is named
//! once.

use std::fmt;
use std::str::FromStr;

use figment::value::{Dict, Value};
use rust_decimal::Decimal;

use super::error::{ConfigError, Field};

/// A key of the predecessor that is read over, or means something else here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The key.
    pub key: &'static str,
    /// What to know about it.
    pub note: String,
}

impl Warning {
    fn read_over(key: &'static str, why: &str) -> Self {
        Self { key, note: format!("has no effect: {why}") }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key, self.note)
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
    (FREE_APPS, "no app is free; give its account a balance"),
    (DEV_MODE, "there is no mode in which everything is free"),
];

const DEV_MODE: &str = "billing.dev_mode";
const FREE_APPS: &str = "billing.free_app_ids";

/// Thresholds, and what the predecessor took for one that is not above zero.
const THRESHOLDS: [(&str, &str); 2] =
    [("billing.balance_low_threshold", "10"), ("billing.quota_low_percent_threshold", "20")];

/// Takes the retired keys out of the tree, and gives those that mean something else the value that they had.
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
        warnings.push(match value {
            Value::Array(_, apps) if key == FREE_APPS && !apps.is_empty() => free_apps(apps.len()),
            _ => Warning::read_over(key, note),
        });
    }
    warnings.extend(THRESHOLDS.into_iter().filter_map(|(key, default)| {
        let value = find(tree, key)?.as_str()?.to_owned();
        let number = Decimal::from_str(&value).ok()?;
        if number < Decimal::ZERO {
            remove(tree, key);
            let note = format!("is {value}, and taken for {default} as billing-service did");
            return Some(Warning { key, note });
        }
        let note = format!("is 0: nothing is ever low; billing-service took 0 for {default}");
        number.is_zero().then_some(Warning { key, note })
    }));
    Ok(warnings)
}

fn free_apps(count: usize) -> Warning {
    let why = format!(
        "the calls of {count} apps were free and are charged here; give their routes a rule with `service: none` (free) or `shadow: true` (charged, never refused), or their accounts a balance"
    );
    Warning::read_over(FREE_APPS, &why)
}

fn find<'t>(tree: &'t Dict, path: &str) -> Option<&'t Value> {
    match path.split_once('.') {
        None => tree.get(path),
        Some((block, rest)) => find(tree.get(block)?.as_dict()?, rest),
    }
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

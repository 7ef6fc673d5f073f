//! The environment: overrides of any key, and the secrets that never stand in the file.
//!
//! `FAREBOX_SERVER__ADMIN__ADDR` overrides `server.admin.addr`. A name without a double underscore overrides nothing:
//! container platforms put variables such as `FAREBOX_PORT` into every process. Names are read in lower case, so a
//! service whose name has capital letters can be priced in the file only.

use std::collections::BTreeMap;

use figment::value::{Dict, Tag, Value};

const PREFIX: &str = "FAREBOX_";
/// Settings that all programs with OpenTelemetry know; they override nothing.
const OPEN_TELEMETRY: &str = "OTEL_";
const LEVEL_SEPARATOR: &str = "__";

/// The variables that the configuration may read. Tests make one from a list instead of changing the process.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The variables of this process that begin with `FAREBOX_`, and those of OpenTelemetry.
    pub fn of_process() -> Self {
        let texts = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        });
        let is_read = |name: &str| name.starts_with(PREFIX) || name.starts_with(OPEN_TELEMETRY);
        Self(texts.filter(|(name, _)| is_read(name)).collect())
    }

    /// The value of a variable; an empty one counts as not set, as compose files and CI systems leave it.
    pub(crate) fn var(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The overrides as a tree of texts.
    pub(crate) fn overrides(&self) -> Dict {
        let mut tree = Dict::new();
        for (name, value) in &self.0 {
            if let Some(path) = path_of(name) {
                insert(&mut tree, &path, value);
            }
        }
        tree
    }

    /// The variable that overrides this path, if one is set.
    pub(crate) fn variable_of(&self, path: &[String]) -> Option<String> {
        self.0.keys().find(|name| path_of(name).is_some_and(|named| named == path)).cloned()
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Self {
        Self(variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }
}

fn path_of(name: &str) -> Option<Vec<String>> {
    let path = name.strip_prefix(PREFIX)?;
    path.contains(LEVEL_SEPARATOR)
        .then(|| path.split(LEVEL_SEPARATOR).map(str::to_lowercase).collect())
}

fn insert(tree: &mut Dict, path: &[String], value: &str) {
    match path {
        [] => {}
        [key] => {
            tree.insert(key.clone(), Value::String(Tag::Default, value.to_owned()));
        }
        [key, rest @ ..] => {
            let block = tree.entry(key.clone()).or_insert_with(|| Value::from(Dict::new()));
            // A variable for a block and one for a key inside it contradict each other: the more specific one holds.
            if block.as_dict().is_none() {
                *block = Value::from(Dict::new());
            }
            if let Value::Dict(_, inner) = block {
                insert(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn double_underscores_separate_levels_and_single_ones_belong_to_the_key() {
        let environment = Environment::from([
            ("FAREBOX_DATA__DATABASE__MAX_CONNECTIONS", "4"),
            ("FAREBOX_BILLING__PRICES__PASSPORT", "0.0010"),
            ("FAREBOX_PORT", "tcp://10.0.0.1:8107"),
        ]);
        let tree = Value::from(environment.overrides());
        let text = |path: &str| tree.find_ref(path).and_then(Value::as_str).map(str::to_owned);
        assert_eq!(text("data.database.max_connections").as_deref(), Some("4"));
        assert_eq!(text("billing.prices.passport").as_deref(), Some("0.0010"));
        assert_eq!(tree.as_dict().unwrap().len(), 2, "FAREBOX_PORT overrides nothing");
    }
}

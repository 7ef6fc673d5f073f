//! The file of `farebox prices plan` and `apply`: prices, and from when.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use chrono::{DateTime, Utc};
use figment::value::Value;
use serde::Deserialize;

use super::value::{ByService, FromText, Money, Text};
use super::{ConfigError, Environment, by_service, explain, yaml};
use crate::app::PriceChange;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    effective: Option<Text<Effective>>,
    prices: Option<ByService<Money>>,
}

/// A moment, or now.
#[derive(Debug)]
struct Effective(Option<DateTime<Utc>>);

impl FromText for Effective {
    fn from_text(text: &str) -> Result<Self, String> {
        effective(text).map(Self)
    }
}

/// From when prices are to hold; `None` is now.
pub(crate) fn effective(text: &str) -> Result<Option<DateTime<Utc>>, String> {
    if text == "now" { Ok(None) } else { moment(text).map(Some) }
}

/// A moment in RFC 3339.
pub(crate) fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    let parsed = DateTime::parse_from_rfc3339(text).map(|time| time.to_utc());
    parsed.map_err(|_| {
        "not a moment; write it with its time zone, such as 2027-01-01T00:00:00+08:00".to_owned()
    })
}

/// Reads a change of prices from its file.
pub(crate) fn load(path: &Path) -> Result<PriceChange, ConfigError> {
    let path_text = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|err| ConfigError::UnreadablePrices {
        path: path_text.clone(),
        problem: err.to_string(),
    })?;
    parse(&text).map_err(|err| ConfigError::InFile { path: path_text, problem: Box::new(err) })
}

fn parse(text: &str) -> Result<PriceChange, ConfigError> {
    let tree = yaml::parse(text)?;
    // No variable overrides this file.
    let environment = Environment::default();
    let file = Value::from(tree.clone()).deserialize::<File>();
    let file = file.map_err(|err| explain(&err, &tree, &environment))?;
    let prices: BTreeMap<_, _> = by_service("prices", file.prices, |price| price.0)?;
    if prices.is_empty() {
        return Err(ConfigError::Missing {
            field: "a service in prices",
            remedy: "write at least one, such as prices: { passport: 0.001 }",
        });
    }
    Ok(PriceChange { prices, effective: file.effective.and_then(|effective| effective.0.0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_prices_and_from_when_and_a_mistake_is_named_with_its_remedy() {
        for (text, expected) in [
            ("prices: {asset: 0.10}", "asset=0.1 now"),
            ("effective: now\nprices: {asset: 0, payment: 1}", "asset=0 payment=1 now"),
            (
                "effective: 2027-01-01T00:00:00+08:00\nprices: {asset: 1}",
                "asset=1 2026-12-31 16:00:00 UTC",
            ),
            (
                "effective: tomorrow\nprices: {asset: 1}",
                r#"effective is "tomorrow": not a moment; write it with its time zone, such as 2027-01-01T00:00:00+08:00"#,
            ),
            ("prices: {asset: -1}", r#"prices.asset is "-1": negative; write 0 or more"#),
            (
                "price: {asset: 1}",
                "price is not a key of this program; remove it or write one of: effective, prices",
            ),
            (
                "effective: now",
                "a service in prices is missing; write at least one, such as prices: { passport: 0.001 }",
            ),
        ] {
            let told = match parse(text) {
                Ok(PriceChange { prices, effective }) => {
                    let prices: String = prices
                        .iter()
                        .map(|(service, price)| format!("{service}={price} "))
                        .collect();
                    prices + &effective.map_or("now".to_owned(), |at| at.to_string())
                }
                Err(err) => err.to_string(),
            };
            assert_eq!(told, expected, "{text}");
        }
    }
}

//! The file of `farebox prices plan` and `apply`: prices, of everybody and of single accounts, and from when.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use chrono::{DateTime, Utc};
use farebox_core::id::{AccountId, ServiceName};
use figment::value::Value;
use serde::Deserialize;

use super::tariff::{OwnPrice, Price};
use super::value::{FromText, Text};
use super::{ConfigError, Environment, by_service, explain, yaml};
use crate::app::{NewPrice, PriceChange};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    effective: Option<Text<Effective>>,
    prices: Option<BTreeMap<String, Price>>,
    accounts: Option<BTreeMap<String, BTreeMap<String, OwnPrice>>>,
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
    let accounts = accounts(file.accounts.unwrap_or_default())?;
    if prices.is_empty() && accounts.values().all(BTreeMap::is_empty) {
        return Err(ConfigError::Missing {
            field: "a service in prices",
            remedy: "write at least one, such as prices: { passport: 0.001 }",
        });
    }
    let effective = file.effective.and_then(|effective| effective.0.0);
    Ok(PriceChange { prices, accounts, effective })
}

fn accounts(
    file: BTreeMap<String, BTreeMap<String, OwnPrice>>,
) -> Result<BTreeMap<AccountId, BTreeMap<ServiceName, NewPrice>>, ConfigError> {
    let account =
        |(name, prices): (String, BTreeMap<String, OwnPrice>)| match name.parse::<AccountId>() {
            Ok(account) => {
                let prices = by_service(&format!("accounts.{name}"), Some(prices), |own| own.0)?;
                Ok((account, prices))
            }
            Err(problem) => Err(ConfigError::Account { name, problem }),
        };
    file.into_iter().map(account).collect()
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
                "price is not a key of this program; remove it or write one of: effective, prices, accounts",
            ),
            (
                "effective: now",
                "a service in prices is missing; write at least one, such as prices: { passport: 0.001 }",
            ),
        ] {
            assert_eq!(told(text), expected, "{text}");
        }
    }

    #[test]
    fn prices_may_have_tiers_and_accounts_their_own() {
        for (text, expected) in [
            (
                "prices: {asset: {tiers: [{up_to: 10, price: 2}, {price: 1.50}]}}",
                "asset=2 to 10, then 1.5 now",
            ),
            (
                "prices: {asset: {tiers: [{up_to: 10, price: 2}]}}",
                "prices.asset cannot be: tiers[0].up_to is 10: the last tier must have none, so that every unit has a price",
            ),
            (
                "prices: {asset: {tiers: [{up_to: ten, price: 2}, {price: 1}]}}",
                r#"prices.asset.tiers.0.up_to is "ten": not a whole number; write units per month, such as 10000"#,
            ),
            (
                "prices: {asset: {tier: []}}",
                "prices.asset.tier is not a key of this program; remove it or write one of: tiers, package",
            ),
            (
                "prices: {asset: {package: {units: 1000, price: 5}}}\naccounts: {acme: {asset: {package: {units: 1, price: 0}}}}",
                "asset=5 per 1000 units acme.asset=0 per 1 units now",
            ),
            (
                "prices: {asset: {package: {units: 0, price: 5}}}",
                "prices.asset cannot be: package.units is 0: must be 1 to 1000000000",
            ),
            (
                "prices: {asset: {package: {units: 10, price: 5}, tiers: [{price: 1}]}}",
                "prices.asset cannot be: a price has tiers or a package, not both; remove one of them",
            ),
            (
                "prices: {asset: {}}",
                "prices.asset cannot be: a price has tiers or a package; write one of them, such as package: { units: 1000, price: 5 }",
            ),
            (
                "prices: {asset: {package: {units: 10}}}",
                "prices.asset.package cannot be read: missing field `price`",
            ),
            (
                "accounts: {acme: {asset: 0.5, payment: book}}",
                "acme.asset=0.5 acme.payment=book now",
            ),
            (
                "prices: {asset: 1}\naccounts: {acme: {asset: boook}}",
                r#"accounts.acme.asset is "boook": not a decimal number; write digits, such as 0.002, or book for what everybody pays"#,
            ),
            (
                "accounts: {acme corp: {asset: 1}}",
                r#"accounts has the key "acme corp": account id holds the character ' '; allowed: visible characters without spaces; write the account's id"#,
            ),
            (
                "accounts: {acme: {as set: 1}}",
                r#"accounts.acme has the key "as set": service holds the character ' '; allowed: letters, digits, '.', '_', '-'; rename the service"#,
            ),
            (
                "accounts: {acme: {}}",
                "a service in prices is missing; write at least one, such as prices: { passport: 0.001 }",
            ),
        ] {
            assert_eq!(told(text), expected, "{text}");
        }
    }

    /// What a file says, or what is wrong with it.
    fn told(text: &str) -> String {
        let PriceChange { prices, accounts, effective } = match parse(text) {
            Ok(change) => change,
            Err(err) => return err.to_string(),
        };
        let everybodys = prices.iter().map(|(service, price)| format!("{service}={price} "));
        let own = accounts.iter().flat_map(|(account, prices)| {
            prices.iter().map(move |(service, price)| format!("{account}.{service}={price} "))
        });
        let effective = effective.map_or("now".to_owned(), |at| at.to_string());
        everybodys.chain(own).collect::<String>() + &effective
    }
}

//! A price of the book as it is written: one for all units, tiers, or a package.

use std::fmt;

use farebox_core::money::Nanos;
use farebox_core::package::Package;
use farebox_core::tariff::{Tariff, Tier};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::value::{FromText, Money, Text, Units};
use crate::app::NewPrice;

/// `0.002`, `{ tiers: [ { up_to: 1000, price: 0.0025 }, { price: 0.001 } ] }`, or `{ package: { units: 1000, price: 5 } }`.
#[derive(Debug)]
pub(crate) struct Price(pub(crate) Tariff);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    tiers: Option<Vec<TierText>>,
    package: Option<PackageText>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PackageText {
    units: Text<Units>,
    price: Text<Money>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TierText {
    up_to: Option<Text<Units>>,
    price: Text<Money>,
}

impl<'de> Deserialize<'de> for Price {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PriceVisitor)
    }
}

/// What an account is to pay: a price, or `book` for what everybody does.
#[derive(Debug)]
pub(crate) struct OwnPrice(pub(crate) NewPrice);

impl<'de> Deserialize<'de> for OwnPrice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OwnVisitor)
    }
}

struct OwnVisitor;

impl<'de> Visitor<'de> for OwnVisitor {
    type Value = OwnPrice;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a price, its tiers, a package, or book")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<OwnPrice, E> {
        if text == "book" {
            return Ok(OwnPrice(NewPrice::Book));
        }
        let Money(price): Money = FromText::from_text(text).map_err(|complaint| {
            de::Error::custom(format!("{complaint}, or book for what everybody pays"))
        })?;
        Ok(OwnPrice(NewPrice::Price(Tariff::flat(price))))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OwnPrice, A::Error> {
        PriceVisitor.visit_map(map).map(|price| OwnPrice(NewPrice::Price(price.0)))
    }
}

struct PriceVisitor;

impl<'de> Visitor<'de> for PriceVisitor {
    type Value = Price;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a price, its tiers, or a package")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Price, E> {
        let Money(price): Money = FromText::from_text(text).map_err(de::Error::custom)?;
        Ok(Price(Tariff::flat(price)))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Price, A::Error> {
        let Written { tiers, package } = Written::deserialize(MapAccessDeserializer::new(map))?;
        let tier = |tier: TierText| {
            let price: Nanos = tier.price.0.0;
            Tier { up_to: tier.up_to.map(|units| units.0.0), price }
        };
        let tiers = tiers.map(|tiers| tiers.into_iter().map(tier).collect());
        let package = package
            .map(|PackageText { units, price }| Package { units: units.0.0, price: price.0.0 });
        let tariff = Tariff::written(tiers, package);
        tariff.map(Price).map_err(de::Error::custom)
    }
}

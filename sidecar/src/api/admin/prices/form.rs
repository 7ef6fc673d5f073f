//! What operators set as prices: an amount, tiers, a package, or for one account what everybody pays.

use std::borrow::Cow;

use farebox_core::package::Package;
use farebox_core::tariff::{Tariff, Tier};
use serde::Deserialize;
use serde::de::{self, Deserializer};
use serde_json::value::RawValue;
use utoipa::openapi::schema::{AnyOfBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use crate::api::amount::Amount;
use crate::app::NewPrice;

/// What units cost: an amount, tiers, or a package.
#[derive(Debug)]
pub(super) struct Price(pub(super) Tariff);

/// Tiers in order, each beginning where the one before ends.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "says how it is written; read as one of two")]
struct Graduated {
    /// Only the last one has no end.
    #[schema(min_items = 1, max_items = 20)]
    tiers: Vec<TierBody>,
}

/// Paid units that are bought together; good until the month ends.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "says how it is written; read as one of two")]
struct Packaged {
    package: PackageBody,
}

/// Units that have one price together.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewPackage)]
struct PackageBody {
    /// How many.
    #[schema(minimum = 1, maximum = 1000000000)]
    units: u64,
    /// Money for all of them, not negative.
    price: Amount,
}

/// One of the two.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    tiers: Option<Vec<TierBody>>,
    #[serde(default)]
    package: Option<PackageBody>,
}

/// Paid units of a month at one price.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewTier)]
struct TierBody {
    /// The last unit of the month that it covers.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 281474976710656_i64)]
    up_to: Option<u64>,
    /// Money per unit, not negative.
    price: Amount,
}

impl<'de> Deserialize<'de> for Price {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let read = |text: &str| -> Result<Tariff, String> {
            if !text.starts_with('{') {
                let price: Amount = serde_json::from_str(text).map_err(|err| err.to_string())?;
                return Ok(Tariff::flat(price.0));
            }
            let Written { tiers, package } =
                serde_json::from_str(text).map_err(|err| err.to_string())?;
            let tier = |TierBody { up_to, price }| Tier { up_to, price: price.0 };
            let tiers = tiers.map(|tiers| tiers.into_iter().map(tier).collect());
            let package =
                package.map(|PackageBody { units, price }| Package { units, price: price.0 });
            Tariff::written(tiers, package).map_err(|err| err.to_string())
        };
        read(raw.get()).map(Self).map_err(de::Error::custom)
    }
}

/// What an account is to pay: a price, or `"book"`.
#[derive(Debug)]
pub(super) struct Own(pub(super) NewPrice);

impl<'de> Deserialize<'de> for Own {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let price = match raw.get() {
            r#""book""# => NewPrice::Book,
            text => {
                NewPrice::Price(serde_json::from_str::<Price>(text).map_err(de::Error::custom)?.0)
            }
        };
        Ok(Self(price))
    }
}

impl PartialSchema for Price {
    fn schema() -> RefOr<Schema> {
        AnyOfBuilder::new()
            .item(Ref::from_schema_name(Amount::name()))
            .item(Ref::from_schema_name(Graduated::name()))
            .item(Ref::from_schema_name(Packaged::name()))
            .description(Some(
                "Money per unit, tiers of the month's paid units, or a package of them.",
            ))
            .into()
    }
}

impl ToSchema for Price {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("NewPrice")
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Amount::name().into_owned(), Amount::schema()));
        schemas.push((Graduated::name().into_owned(), Graduated::schema()));
        Graduated::schemas(schemas);
        schemas.push((Packaged::name().into_owned(), Packaged::schema()));
        Packaged::schemas(schemas);
    }
}

impl PartialSchema for Own {
    fn schema() -> RefOr<Schema> {
        AnyOfBuilder::new()
            .item(Ref::from_schema_name(Price::name()))
            .item(ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["book"])))
            .description(Some(
                "What an account is to pay: a price of its own, or `book`: what everybody does.",
            ))
            .into()
    }
}

impl ToSchema for Own {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("OwnPrice")
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Price::name().into_owned(), Price::schema()));
        Price::schemas(schemas);
    }
}

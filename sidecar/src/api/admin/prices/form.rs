//! What operators set as prices: an amount, tiers, or for one account what everybody pays.

use std::borrow::Cow;

use farebox_core::tariff::{Tariff, Tier};
use serde::Deserialize;
use serde::de::{self, Deserializer};
use serde_json::value::RawValue;
use utoipa::openapi::schema::{AnyOfBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use crate::api::amount::Amount;
use crate::app::NewPrice;

/// What units cost: an amount, or tiers.
#[derive(Debug)]
pub(super) struct Price(pub(super) Tariff);

/// Tiers in order, each beginning where the one before ends.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Graduated {
    /// Only the last one has no end.
    #[schema(min_items = 1, max_items = 20)]
    tiers: Vec<TierBody>,
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
            let Graduated { tiers } = serde_json::from_str(text).map_err(|err| err.to_string())?;
            let tiers = tiers.into_iter();
            let tiers = tiers.map(|TierBody { up_to, price }| Tier { up_to, price: price.0 });
            Tariff::graduated(tiers.collect()).map_err(|err| err.to_string())
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
            .description(Some("Money per unit, or tiers of the month's paid units."))
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

//! Money in a request: a decimal string, or a number whose digits are taken as they stand.

use std::borrow::Cow;

use farebox_core::money::Nanos;
use serde::de::{self, Deserialize, Deserializer};
use serde_json::value::RawValue;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};

/// An amount that was never a float.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Amount(pub(super) Nanos);

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let quoted: Option<String> = serde_json::from_str(raw.get()).ok();
        let text = quoted.as_deref().unwrap_or_else(|| raw.get());
        text.parse()
            .map(Self)
            .map_err(|err| de::Error::custom(format!("{err}; write for instance \"10.00\"")))
    }
}

impl PartialSchema for Amount {
    fn schema() -> RefOr<Schema> {
        let description = "Money in currency units: a decimal string, or a number without an exponent, whose digits are taken as \
            they stand. At most 9 decimals, no more than 9223372036.854775807.";
        ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::String, Type::Number]))
            .pattern(Some(r"^-?[0-9]{1,10}(\.[0-9]{1,9})?$"))
            .examples(["10.00"])
            .description(Some(description))
            .into()
    }
}

impl ToSchema for Amount {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Amount")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_keeps_every_digit_whether_it_is_quoted_or_not() {
        let read = |text| serde_json::from_str::<Amount>(text).map(|amount| amount.0.to_string());
        for (text, expected) in [
            (r#""10.00""#, "10"),
            ("10", "10"),
            ("19.99", "19.99"),
            ("0.000000001", "0.000000001"),
            ("9007199254740993e-9", ""),
            ("9223372036.854775807", "9223372036.854775807"),
            ("-5", "-5"),
            ("null", ""),
            ("true", ""),
            ("[1]", ""),
            (r#""1e3""#, ""),
            (r#""""#, ""),
        ] {
            assert_eq!(read(text).unwrap_or_default(), expected, "{text}");
        }
    }
}

//! Money in a request: a decimal string, or a number whose digits are taken as they stand.

use farebox_core::money::Nanos;
use serde::de::{self, Deserialize, Deserializer};
use serde_json::value::RawValue;

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

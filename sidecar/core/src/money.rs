//! Money: a whole number of 1e-9 currency units.
//!
//! The range is that of `i64`: ± 9,223,372,036.854775807. It fits into the `DECIMAL(19,9)` of every money column, so
//! nothing that this type can hold is rounded or refused by the database. No operation rounds.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The number of decimals of the smallest amount.
pub const SCALE: usize = 9;

const NANOS_PER_UNIT: i64 = 1_000_000_000;

/// An amount of money in 1e-9 of the account's currency.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(i64);

/// Why a text is not an amount. The text itself is in the message, so a reader of a log or a reply can find it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseNanosError {
    /// Not `[-]digits[.digits]`: a sign other than `-`, an exponent, spaces, other digits than `0`–`9`, nothing at all.
    #[error("{0:?} is not a decimal number such as 0.002")]
    Malformed(String),
    /// Digits beyond the ninth decimal.
    #[error("{0:?} has more than 9 decimals")]
    TooPrecise(String),
    /// Outside ± 9223372036.854775807.
    #[error("{0:?} is out of range: the largest amount is 9223372036.854775807")]
    OutOfRange(String),
}

impl Nanos {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount: 9,223,372,036.854775807.
    pub const MAX: Self = Self(i64::MAX);

    /// An amount given as a count of 1e-9 currency units.
    pub const fn new(nanos: i64) -> Self {
        Self(nanos)
    }

    /// The count of 1e-9 currency units.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Whether the amount is below zero.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// The sum, or `None` when it is out of range.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, or `None` when it is out of range.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The opposite amount, or `None` when it is out of range.
    pub fn checked_neg(self) -> Option<Self> {
        self.0.checked_neg().map(Self)
    }

    /// What `units` cost at this price, or `None` when it is out of range.
    pub fn checked_mul(self, units: u64) -> Option<Self> {
        let units = i64::try_from(units).ok()?;
        self.0.checked_mul(units).map(Self)
    }

    /// How many whole units this amount pays for at `price`.
    ///
    /// A price of zero pays for any number; an amount or a price below zero pays for none.
    pub fn units_at(self, price: Self) -> u64 {
        match (self.0, price.0) {
            (_, 0) => u64::MAX,
            (amount, price) if amount < 0 || price < 0 => 0,
            (amount, price) => {
                amount.checked_div(price).and_then(|units| u64::try_from(units).ok()).unwrap_or(0)
            }
        }
    }
}

impl FromStr for Nanos {
    type Err = ParseNanosError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || ParseNanosError::Malformed(text.to_owned());
        let out_of_range = || ParseNanosError::OutOfRange(text.to_owned());

        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = match digits.split_once('.') {
            Some((_, "")) => return Err(malformed()),
            Some(parts) => parts,
            None => (digits, ""),
        };
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
            return Err(malformed());
        }
        if SCALE < fraction.len() {
            return Err(ParseNanosError::TooPrecise(text.to_owned()));
        }
        let whole: i64 = whole.parse().map_err(|_| out_of_range())?;
        let fraction: i64 = format!("{fraction:0<SCALE$}").parse().map_err(|_| malformed())?;
        let nanos = whole
            .checked_mul(NANOS_PER_UNIT)
            .and_then(|nanos| nanos.checked_add(fraction))
            .ok_or_else(out_of_range)?;
        let signed = if negative { nanos.checked_neg() } else { Some(nanos) };
        signed.map(Self).ok_or_else(out_of_range)
    }
}

impl fmt::Display for Nanos {
    /// The shortest decimal that says the amount exactly: `0.002`, `10`, `-3.5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let magnitude = self.0.unsigned_abs();
        let unit = NANOS_PER_UNIT.unsigned_abs();
        let whole = magnitude.checked_div(unit).unwrap_or(0);
        let fraction = magnitude.checked_rem(unit).unwrap_or(0);
        if fraction == 0 {
            return write!(f, "{sign}{whole}");
        }
        let decimals = format!("{fraction:0SCALE$}");
        write!(f, "{sign}{whole}.{}", decimals.trim_end_matches('0'))
    }
}

impl Serialize for Nanos {
    /// A decimal string: a JSON number could be read as a float by the other side.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Nanos {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn parsed(text: &str) -> String {
        match text.parse::<Nanos>() {
            Ok(nanos) => format!("{} {nanos}", nanos.get()),
            Err(err) => err.to_string(),
        }
    }

    #[test]
    fn decimals_parse_exactly_and_print_shortest() {
        for (text, expected) in [
            ("0.001", "1000000 0.001"),
            ("10", "10000000000 10"),
            ("10.00", "10000000000 10"),
            ("-3.50", "-3500000000 -3.5"),
            ("0.000000001", "1 0.000000001"),
            ("9223372036.854775807", "9223372036854775807 9223372036.854775807"),
        ] {
            assert_eq!(parsed(text), expected, "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_its_text() {
        for text in [
            "", "-", ".5", "5.", "1e3", "+1", " 1", "1 ", "0x1", "NaN", "inf", "１", "1,5", "--1",
            "1.2.3",
        ] {
            assert_eq!(parsed(text), format!("{text:?} is not a decimal number such as 0.002"));
        }
        assert_eq!(parsed("0.0000000001"), "\"0.0000000001\" has more than 9 decimals");
        for text in ["9223372036.854775808", "10000000000", "99999999999999999999999"] {
            assert!(parsed(text).contains("is out of range"), "{text}");
        }
    }

    #[test]
    fn units_at_counts_whole_units_only() {
        let nanos = |text: &str| text.parse::<Nanos>().unwrap();
        assert_eq!(nanos("0.30").units_at(nanos("0.10")), 3);
        assert_eq!(nanos("0.299999999").units_at(nanos("0.10")), 2);
        assert_eq!(nanos("10").units_at(nanos("0.001")), 10_000);
        assert_eq!(nanos("0").units_at(nanos("0")), u64::MAX);
        assert_eq!(nanos("-1").units_at(nanos("0.1")), 0);
    }

    #[cfg(not(target_family = "wasm"))]
    proptest::proptest! {
        #[test]
        fn text_round_trips(nanos: i64) {
            let nanos = Nanos::new(nanos);
            // The lowest i64 has no positive twin; it is outside the range that text can say.
            if nanos.get() != i64::MIN {
                proptest::prop_assert_eq!(nanos.to_string().parse(), Ok(nanos));
            }
        }

        #[test]
        fn units_at_is_the_largest_count_that_fits(amount in 0..i64::MAX, price in 1..i64::MAX) {
            let (amount, price) = (Nanos::new(amount), Nanos::new(price));
            let units = amount.units_at(price);
            proptest::prop_assert!(price.checked_mul(units).unwrap() <= amount);
            proptest::prop_assert!(price.checked_mul(units + 1).is_none_or(|cost| cost > amount));
        }
    }
}

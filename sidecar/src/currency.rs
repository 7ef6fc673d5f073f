//! Currencies of ISO 4217, and how many decimals an amount of one has.

use iso_currency::Currency;

/// Whether a text has the form of a currency code: three letters, in any case.
pub(crate) fn is_code(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_alphabetic())
}

/// Decimals of the currency with this code: 2 for CNY, 0 for JPY, 3 for KWD.
///
/// `None` for codes that ISO 4217 does not have, and for those that nobody pays in: metals, baskets of currencies, tests.
pub fn decimals(code: &str) -> Option<u32> {
    let currency = Currency::from_code(code).filter(|currency| !currency.is_special())?;
    currency.exponent().map(u32::from)
}

#[cfg(test)]
mod tests {
    use farebox_core::money::SCALE;

    use super::*;

    #[test]
    fn a_currency_has_its_decimals_and_what_is_none_has_not() {
        for (code, expected) in [
            ("CNY", Some(2)),
            ("JPY", Some(0)),
            ("KWD", Some(3)),
            ("CLF", Some(4)),
            ("cny", None),
            ("CN", None),
            ("", None),
            ("QQQ", None),
            ("XAU", None),
            ("XTS", None),
            ("XAD", None),
        ] {
            assert_eq!(decimals(code), expected, "{code:?}");
        }
    }

    #[test]
    fn money_holds_the_smallest_unit_of_every_currency() {
        let letters = || (b'A'..=b'Z').map(char::from);
        let codes = letters().flat_map(|a| letters().map(move |b| (a, b)));
        let codes = codes.flat_map(|(a, b)| letters().map(move |c| format!("{a}{b}{c}")));
        let known: Vec<_> = codes.filter_map(|code| decimals(&code)).collect();
        assert!(150 < known.len(), "{}", known.len());
        assert!(known.iter().all(|decimals| usize::try_from(*decimals).unwrap() <= SCALE));
    }
}

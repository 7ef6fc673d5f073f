//! Minor units of a currency as a decimal amount.

use iso_currency::Currency;

/// How many decimals a currency has: 2 for CNY, 0 for JPY; `None` when it is unknown or has no minor unit.
pub(crate) fn decimals(code: &str) -> Option<usize> {
    Currency::from_code(code)?.exponent().map(usize::from)
}

/// An amount in currency units: 1000 fen of CNY are `10.00`.
pub(crate) fn decimal(minor: i64, code: &str) -> String {
    let decimals = decimals(code).unwrap_or(0);
    let digits = format!("{:0>width$}", minor.unsigned_abs(), width = decimals + 1);
    let (whole, fraction) = digits.split_at(digits.len() - decimals);
    let sign = if minor < 0 { "-" } else { "" };
    let point = if decimals == 0 { "" } else { "." };
    format!("{sign}{whole}{point}{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minor_units_are_written_with_the_currencys_decimals() {
        for (minor, code, expected) in [
            (1, "CNY", "0.01"),
            (1_000, "CNY", "10.00"),
            (99_999_999, "USD", "999999.99"),
            (-5, "CNY", "-0.05"),
            (7, "JPY", "7"),
            (1_005, "KWD", "1.005"),
        ] {
            assert_eq!(decimal(minor, code), expected, "{minor} {code}");
        }
        assert_eq!(decimals("XAU"), None, "gold has no minor unit");
        assert_eq!(decimals("cny"), None);
    }
}

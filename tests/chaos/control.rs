//! Negative controls: a campaign that cannot fail proves nothing, so a guard is switched off and it must.

use clap::ValueEnum;
use serde::Serialize;

use crate::judge::Kind;

/// Which guard of the sidecar is off. Only `farebox-broken` listens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Control {
    /// None.
    None,
    /// Totals of leases are charged as if they were differences.
    Totals,
    /// The same of usage that was allowed without a lease.
    Lines,
    /// A request is done again when its key is known.
    Keys,
    /// What gateways are lent is not set aside.
    Holds,
    /// Reports are acknowledged, and what they say is not charged.
    Charges,
    /// An order is credited each time that its payment is heard of.
    Orders,
    /// An order counts as paid without being credited.
    Credits,
}

impl Control {
    /// What tells the sidecar.
    pub(crate) fn variables(self) -> Vec<(&'static str, &'static str)> {
        let guard = match self {
            Self::None => return Vec::new(),
            Self::Totals => "totals",
            Self::Lines => "lines",
            Self::Keys => "keys",
            Self::Holds => "holds",
            Self::Charges => "charges",
            Self::Orders => "orders",
            Self::Credits => "credits",
        };
        vec![("NEGATIVE_CONTROL", guard)]
    }

    /// The breaches of which a campaign must report one; nothing when no guard is off.
    pub(crate) fn expected(self) -> &'static [Kind] {
        match self {
            Self::None => &[],
            Self::Totals | Self::Lines | Self::Keys => &[Kind::DoubleCharge],
            // The books tell at once; whether an account is overspent as well depends on who calls when.
            Self::Holds => &[Kind::Overspend, Kind::Invariant],
            Self::Charges => &[Kind::Lost],
            Self::Orders => &[Kind::DoubleCredit],
            Self::Credits => &[Kind::LostCredit],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use farebox_tests::binaries;

    /// The name of the variable stands in a program that looks for it.
    #[test]
    fn what_ships_has_no_guard_that_can_be_switched_off() {
        let program = fs::read(binaries::farebox().unwrap()).unwrap();
        let name = super::Control::Keys.variables()[0].0.as_bytes();
        assert!(!program.windows(name.len()).any(|bytes| bytes == name));
    }
}

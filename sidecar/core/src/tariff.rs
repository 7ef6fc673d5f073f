//! What the paid units of a month cost: all the same, graduated, tier by tier, or by the package.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::limits::{LEASE_TOTAL_MAX, PACKAGE_UNITS_MAX, TIERS_MAX};
use crate::money::Nanos;
use crate::package::Package;

/// Units of a month at one price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Tier {
    /// The last unit of the month that it covers; absent for all that follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub up_to: Option<u64>,
    /// Money per unit.
    pub price: Nanos,
}

/// A price of the book. Free units do not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tariff(Form);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    /// In order; only the last one is without end.
    Tiers(Vec<Tier>),
    Package(Package),
}

/// Why something is no tariff. The number of a tier counts from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TariffError {
    /// Not even one.
    #[error("tiers is empty; write at least one, such as {{ price: 0.002 }}")]
    Empty,
    /// More than [`TIERS_MAX`].
    #[error("tiers has {0} of them; write at most {max}", max = TIERS_MAX)]
    TooMany(usize),
    /// No end, and others follow.
    #[error("tiers[{0}].up_to is missing; only the last tier has none")]
    Endless(usize),
    /// An end, and none follows.
    #[error(
        "tiers[{index}].up_to is {up_to}: the last tier must have none, so that every unit has a price"
    )]
    Ends {
        /// Which.
        index: usize,
        /// Its end.
        up_to: u64,
    },
    /// An end that is not beyond the one before.
    #[error(
        "tiers[{index}].up_to is {up_to}: must be more than {before}, and at most {max}",
        max = LEASE_TOTAL_MAX
    )]
    Order {
        /// Which.
        index: usize,
        /// Its end.
        up_to: u64,
        /// The end of the one before.
        before: u64,
    },
    /// A price below zero.
    #[error("tiers[{index}].price is {price}: negative; write 0 or more")]
    Negative {
        /// Which.
        index: usize,
        /// Its price.
        price: Nanos,
    },
    /// A package of no units, or of more than [`PACKAGE_UNITS_MAX`].
    #[error("package.units is {0}: must be 1 to {max}", max = PACKAGE_UNITS_MAX)]
    PackageUnits(u64),
    /// A package with a price below zero.
    #[error("package.price is {0}: negative; write 0 or more")]
    PackagePrice(Nanos),
    /// Tiers and a package.
    #[error("a price has tiers or a package, not both; remove one of them")]
    Both,
    /// Neither.
    #[error(
        "a price has tiers or a package; write one of them, such as package: {{ units: 1000, price: 5 }}"
    )]
    Neither,
}

impl Tariff {
    /// One price for all units.
    pub fn flat(price: Nanos) -> Self {
        Self(Form::Tiers(vec![Tier { up_to: None, price }]))
    }

    /// Tiers, each beginning where the one before ends.
    pub fn graduated(tiers: Vec<Tier>) -> Result<Self, TariffError> {
        if TIERS_MAX < tiers.len() {
            return Err(TariffError::TooMany(tiers.len()));
        }
        let last = tiers.len().checked_sub(1).ok_or(TariffError::Empty)?;
        let mut before = 0;
        for (index, &Tier { up_to, price }) in tiers.iter().enumerate() {
            if price.is_negative() {
                return Err(TariffError::Negative { index, price });
            }
            match up_to {
                None if index != last => return Err(TariffError::Endless(index)),
                None => {}
                Some(up_to) if index == last => return Err(TariffError::Ends { index, up_to }),
                Some(up_to) if up_to <= before || LEASE_TOTAL_MAX < up_to => {
                    return Err(TariffError::Order { index, up_to, before });
                }
                Some(up_to) => before = up_to,
            }
        }
        Ok(Self(Form::Tiers(tiers)))
    }

    /// So many units at once.
    pub fn packaged(package: Package) -> Result<Self, TariffError> {
        let Package { units, price } = package;
        if !(1..=PACKAGE_UNITS_MAX).contains(&units) {
            return Err(TariffError::PackageUnits(units));
        }
        if price.is_negative() {
            return Err(TariffError::PackagePrice(price));
        }
        Ok(Self(Form::Package(package)))
    }

    /// What was written as a price that is more than an amount.
    pub fn written(
        tiers: Option<Vec<Tier>>,
        package: Option<Package>,
    ) -> Result<Self, TariffError> {
        match (tiers, package) {
            (Some(tiers), None) => Self::graduated(tiers),
            (None, Some(package)) => Self::packaged(package),
            (Some(_), Some(_)) => Err(TariffError::Both),
            (None, None) => Err(TariffError::Neither),
        }
    }

    /// Its tiers, in order; none when units are bought by the package.
    pub fn tiers(&self) -> &[Tier] {
        match &self.0 {
            Form::Tiers(tiers) => tiers,
            Form::Package(_) => &[],
        }
    }

    /// What is bought, when units are bought by the package.
    pub fn package(&self) -> Option<Package> {
        match self.0 {
            Form::Tiers(_) => None,
            Form::Package(package) => Some(package),
        }
    }

    /// What the month's first paid unit costs.
    pub fn first_price(&self) -> Nanos {
        match &self.0 {
            Form::Tiers(tiers) => tiers.first().map_or(Nanos::ZERO, |tier| tier.price),
            Form::Package(package) => package.price,
        }
    }

    /// A price below zero, if it has one.
    pub fn negative(&self) -> Option<Nanos> {
        self.tiers().iter().map(|tier| tier.price).find(|price| price.is_negative())
    }

    /// What so many paid units of one account and month come to, in 1e-9 of the currency; `None` beyond any sum.
    pub fn cost(&self, units: u64) -> Option<i128> {
        if let Form::Package(package) = self.0 {
            let packages = i128::from(package.needed(units, 0));
            return i128::from(package.price.get()).checked_mul(packages);
        }
        let (mut cost, mut from) = (0_i128, 0);
        for tier in self.tiers() {
            let to = tier.up_to.unwrap_or(u64::MAX).min(units);
            let of_tier = i128::from(to.saturating_sub(from));
            cost = cost.checked_add(i128::from(tier.price.get()).checked_mul(of_tier)?)?;
            from = to.max(from);
        }
        Some(cost)
    }
}

impl fmt::Display for Tariff {
    /// `0.002`, `0.0025 to 1000, 0.002 to 10000, then 0.001`, or `5 per 1000 units`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Form::Package(Package { units, price }) = self.0 {
            return write!(f, "{price} per {units} units");
        }
        for (index, Tier { up_to, price }) in self.tiers().iter().enumerate() {
            match up_to {
                Some(up_to) => write!(f, "{price} to {up_to}, ")?,
                None if index == 0 => write!(f, "{price}")?,
                None => write!(f, "then {price}")?,
            }
        }
        Ok(())
    }
}

impl Serialize for Tariff {
    /// A decimal string, `{"tiers": […]}`, or `{"package": {…}}`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Graduated<'a> {
            tiers: &'a [Tier],
        }
        #[derive(Serialize)]
        struct Packaged {
            package: Package,
        }
        match &self.0 {
            Form::Package(package) => Packaged { package: *package }.serialize(serializer),
            Form::Tiers(tiers) => match tiers.as_slice() {
                [only] => only.price.serialize(serializer),
                tiers => Graduated { tiers }.serialize(serializer),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn tiers(tiers: &[(Option<u64>, i64)]) -> Result<Tariff, String> {
        let tiers = tiers.iter().map(|&(up_to, price)| Tier { up_to, price: Nanos::new(price) });
        Tariff::graduated(tiers.collect()).map_err(|err| err.to_string())
    }

    #[test]
    fn a_mistake_names_its_tier_and_the_remedy() {
        for (given, expected) in [
            (vec![], "tiers is empty; write at least one, such as { price: 0.002 }"),
            (vec![(None, 1), (None, 2)], "tiers[0].up_to is missing; only the last tier has none"),
            (
                vec![(Some(5), 1)],
                "tiers[0].up_to is 5: the last tier must have none, so that every unit has a price",
            ),
            (
                vec![(Some(5), 1), (Some(5), 2), (None, 3)],
                "tiers[1].up_to is 5: must be more than 5, and at most 281474976710656",
            ),
            (
                vec![(Some(0), 1), (None, 3)],
                "tiers[0].up_to is 0: must be more than 0, and at most 281474976710656",
            ),
            (vec![(None, -1)], "tiers[0].price is -0.000000001: negative; write 0 or more"),
            (vec![(Some(1), 0); 21], "tiers has 21 of them; write at most 20"),
        ] {
            assert_eq!(tiers(&given).unwrap_err(), expected);
        }
    }

    #[test]
    fn it_reads_as_it_is_said() {
        let graduated = tiers(&[(Some(1_000), 2_500_000), (None, 1_000_000)]).unwrap();
        assert_eq!(graduated.to_string(), "0.0025 to 1000, then 0.001");
        assert_eq!(
            serde_json::to_string(&graduated).unwrap(),
            r#"{"tiers":[{"up_to":1000,"price":"0.0025"},{"price":"0.001"}]}"#
        );
        let flat = Tariff::flat(Nanos::new(2_000_000));
        assert_eq!(
            (flat.to_string(), serde_json::to_string(&flat).unwrap()),
            ("0.002".into(), r#""0.002""#.into())
        );
    }

    #[test]
    fn a_package_has_units_and_one_price_for_all_of_them() {
        let package = |units, price| Tariff::packaged(Package { units, price: Nanos::new(price) });
        let five = package(1_000, 5_000_000_000).unwrap();
        assert_eq!(five.to_string(), "5 per 1000 units");
        let json = serde_json::to_string(&five).unwrap();
        assert_eq!(json, r#"{"package":{"units":1000,"price":"5"}}"#);
        let costs = [0, 1, 1_000, 1_001].map(|units| five.cost(units).unwrap() / 1_000_000_000);
        assert_eq!(costs, [0, 5, 5, 10]);
        assert!(package(1, 0).is_ok() && package(PACKAGE_UNITS_MAX, 0).is_ok());
        for (units, price, expected) in [
            (0, 1, "package.units is 0: must be 1 to 1000000000"),
            (PACKAGE_UNITS_MAX + 1, 1, "package.units is 1000000001: must be 1 to 1000000000"),
            (1, -1, "package.price is -0.000000001: negative; write 0 or more"),
        ] {
            assert_eq!(package(units, price).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn each_unit_costs_the_price_of_its_tier() {
        let tariff = tiers(&[(Some(3), 5), (Some(10), 2), (None, 1)]).unwrap();
        let costs = [0, 1, 3, 4, 10, 11, 100].map(|units| tariff.cost(units));
        assert_eq!(costs, [0, 5, 15, 17, 29, 30, 119].map(Some));
    }
}

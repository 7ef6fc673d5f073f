//! What the paid units of a month cost: all the same, or graduated, tier by tier.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::limits::{LEASE_TOTAL_MAX, TIERS_MAX};
use crate::money::Nanos;

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

/// A price of the book: tiers in order, of which only the last one is without end. Free units do not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tariff(Vec<Tier>);

/// Why tiers are no tariff. The number of the tier counts from 0.
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
}

impl Tariff {
    /// One price for all units.
    pub fn flat(price: Nanos) -> Self {
        Self(vec![Tier { up_to: None, price }])
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
        Ok(Self(tiers))
    }

    /// Its tiers, in order.
    pub fn tiers(&self) -> &[Tier] {
        &self.0
    }

    /// The price of the month's first paid unit.
    pub fn first_price(&self) -> Nanos {
        self.0.first().map_or(Nanos::ZERO, |tier| tier.price)
    }

    /// A price below zero, if it has one.
    pub fn negative(&self) -> Option<Nanos> {
        self.0.iter().map(|tier| tier.price).find(|price| price.is_negative())
    }

    /// What so many paid units of one account and month come to, in 1e-9 of the currency; `None` beyond any sum.
    pub fn cost(&self, units: u64) -> Option<i128> {
        let (mut cost, mut from) = (0_i128, 0);
        for tier in &self.0 {
            let to = tier.up_to.unwrap_or(u64::MAX).min(units);
            let of_tier = i128::from(to.saturating_sub(from));
            cost = cost.checked_add(i128::from(tier.price.get()).checked_mul(of_tier)?)?;
            from = to.max(from);
        }
        Some(cost)
    }
}

impl fmt::Display for Tariff {
    /// `0.002`, or `0.0025 to 1000, 0.002 to 10000, then 0.001`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Tier { up_to, price }) in self.0.iter().enumerate() {
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
    /// A decimal string, or `{"tiers": […]}`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Graduated<'a> {
            tiers: &'a [Tier],
        }
        match self.0.as_slice() {
            [only] => only.price.serialize(serializer),
            tiers => Graduated { tiers }.serialize(serializer),
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
    fn each_unit_costs_the_price_of_its_tier() {
        let tariff = tiers(&[(Some(3), 5), (Some(10), 2), (None, 1)]).unwrap();
        let costs = [0, 1, 3, 4, 10, 11, 100].map(|units| tariff.cost(units));
        assert_eq!(costs, [0, 5, 15, 17, 29, 30, 119].map(Some));
    }
}

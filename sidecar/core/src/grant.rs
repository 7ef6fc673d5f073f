//! How many units a gateway gets: one pure decision, taken inside the transaction that sets them aside.

use crate::limits::GRANT_MAX;
use crate::money::Nanos;

/// Units of the two kinds that a call can be paid with. Free units are always used first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Split {
    /// Units of the month's free quota.
    pub free: u64,
    /// Units paid from the balance.
    pub paid: u64,
}

impl Split {
    /// No units.
    pub const NONE: Self = Self { free: 0, paid: 0 };

    /// Both kinds together.
    pub fn total(self) -> u64 {
        self.free.saturating_add(self.paid)
    }

    /// Takes up to `units`, free ones first.
    pub fn take_free_first(self, units: u64) -> Self {
        let free = self.free.min(units);
        Self { free, paid: self.paid.min(units.saturating_sub(free)) }
    }

    /// Takes up to `units`, paid ones first: what is given back leaves the free units to be used.
    pub fn take_paid_first(self, units: u64) -> Self {
        let paid = self.paid.min(units);
        Self { free: self.free.min(units.saturating_sub(paid)), paid }
    }

    /// Bucket by bucket; never below zero.
    pub fn minus(self, other: Self) -> Self {
        Self {
            free: self.free.saturating_sub(other.free),
            paid: self.paid.saturating_sub(other.paid),
        }
    }

    /// Bucket by bucket.
    pub fn plus(self, other: Self) -> Self {
        Self {
            free: self.free.saturating_add(other.free),
            paid: self.paid.saturating_add(other.paid),
        }
    }
}

/// What an account has left that no lease holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Funds {
    /// Units of this month's free quota of the service, neither used nor held.
    pub free_units: u64,
    /// Balance and credit limit, minus what leases and reservations hold.
    pub available: Nanos,
    /// Price per unit; `None` when the service has none, so that only free units count.
    pub price: Option<Nanos>,
}

impl Funds {
    /// How many units the money pays for.
    pub fn affordable(self) -> u64 {
        self.price.map_or(0, |price| self.available.units_at(price))
    }

    /// How many units could be granted at most.
    pub fn total(self) -> Split {
        Split { free: self.free_units, paid: self.affordable() }
    }
}

/// What a gateway asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// The units it would like, about two seconds of its traffic.
    pub units: u64,
    /// The units without which the waiting call cannot go on.
    pub min: u64,
}

/// What it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// These units are set aside; `last` when nothing is left to grant after them.
    Grant {
        /// The units, by kind.
        units: Split,
        /// Whether the account has nothing left beyond them.
        last: bool,
    },
    /// Fewer than `min` units are free to grant.
    Short,
}

/// Decides a grant.
///
/// `drawers` is the number of open leases on the account, the asking one included. While there is much, a gateway gets
/// what it asks for; near the end each gets at most its share of half of what is left, down to `min`, so that the last
/// units stay where calls arrive.
pub fn decide(funds: Funds, ask: Ask, drawers: u64) -> Decision {
    let total = funds.total();
    if total.total() < ask.min {
        return Decision::Short;
    }
    let shares = drawers.max(1).saturating_mul(2);
    let share = total.total().div_ceil(shares);
    let size = ask.units.min(GRANT_MAX).min(share).max(ask.min);
    let units = total.take_free_first(size);
    Decision::Grant { units, last: units == total }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn funds(free_units: u64, available: &str, price: Option<&str>) -> Funds {
        let nanos = |text: &str| text.parse::<Nanos>().unwrap();
        Funds { free_units, available: nanos(available), price: price.map(nanos) }
    }

    #[test]
    fn free_units_go_before_money_and_one_grant_may_hold_both() {
        let decision = decide(funds(2, "1", Some("0.1")), Ask { units: 3, min: 3 }, 1);
        assert_eq!(decision, Decision::Grant { units: Split { free: 2, paid: 1 }, last: false });
    }

    #[test]
    fn an_account_with_less_than_the_minimum_gets_nothing() {
        for short in [
            funds(0, "0", Some("0.1")),
            funds(2, "0.099999999", Some("0.1")),
            funds(0, "1000", None),
            funds(2, "-5", Some("0.1")),
        ] {
            assert_eq!(decide(short, Ask { units: 10, min: 3 }, 1), Decision::Short);
        }
    }

    #[test]
    fn grants_shrink_with_what_is_left_and_with_the_number_of_gateways() {
        let grant = |left: u64, drawers: u64| match decide(
            funds(left, "0", None),
            Ask { units: 100, min: 1 },
            drawers,
        ) {
            Decision::Grant { units, .. } => units.free,
            Decision::Short => 0,
        };
        assert_eq!(
            [grant(10_000, 1), grant(100, 1), grant(100, 5), grant(1, 5), grant(0, 1)],
            [100, 50, 10, 1, 0]
        );
    }

    #[test]
    fn a_price_of_zero_grants_without_a_balance() {
        let decision = decide(funds(0, "0", Some("0")), Ask { units: 50, min: 1 }, 1);
        assert!(matches!(decision, Decision::Grant { units: Split { free: 0, paid: 50 }, .. }));
    }

    #[cfg(not(target_family = "wasm"))]
    proptest::proptest! {
        #[test]
        fn a_grant_is_always_covered_and_never_below_the_minimum(
            free in 0..50_u64,
            available in -100..1_000_i64,
            price in proptest::option::of(0..20_i64),
            units in 1..100_u64,
            min in 1..20_u64,
            drawers in 0..6_u64,
        ) {
            let funds = Funds { free_units: free, available: Nanos::new(available), price: price.map(Nanos::new) };
            let ask = Ask { units: units.max(min), min };
            match decide(funds, ask, drawers) {
                Decision::Short => proptest::prop_assert!(funds.total().total() < min),
                Decision::Grant { units, last } => {
                    proptest::prop_assert!(min <= units.total() && units.total() <= ask.units);
                    proptest::prop_assert!(units.free <= free);
                    proptest::prop_assert!(units.paid == 0 || units.free == free, "free before money");
                    if 0 < units.paid {
                        let cost = funds.price.unwrap().checked_mul(units.paid).unwrap();
                        proptest::prop_assert!(cost <= funds.available.max(Nanos::ZERO));
                    }
                    proptest::prop_assert_eq!(last, units == funds.total());
                }
            }
        }
    }
}

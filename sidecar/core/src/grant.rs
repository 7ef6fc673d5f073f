//! How many units a gateway gets: one pure decision, taken inside the transaction that sets them aside.

use crate::limits::GRANT_MAX;
use crate::money::Nanos;
use crate::package::Package;

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

/// Paid units that can be had at one price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Price per unit.
    pub price: Nanos,
    /// How many; `None` for any number.
    pub room: Option<u64>,
}

/// What an account has left that nothing holds, where its paid units have several prices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Means {
    /// See [`Funds`].
    pub free_units: u64,
    /// See [`Funds`].
    pub available: Nanos,
    /// What paid units cost, in the order in which they are taken; none when the service has no price.
    pub rates: Vec<Rate>,
    /// What is bought when paid units are wanted beyond the room that the rates have. They cost what the last rate says, which
    /// is nothing, besides.
    pub package: Option<Package>,
}

impl Means {
    /// What the next paid unit costs: a whole package, where it begins one.
    pub fn next(&self) -> Option<Rate> {
        let next = self.rates.iter().copied().find(|rate| rate.room != Some(0));
        let package = || self.package.map(|package| Rate { price: package.price, room: Some(1) });
        next.or_else(package)
    }

    /// What there is once so many packages are bought; `None` beyond money or any count.
    pub fn after_buying(&self, packages: u64) -> Option<Self> {
        let package = self.package?;
        let available = self.available.checked_sub(package.cost(packages)?)?;
        let room = self.bought_room().checked_add(package.units_of(packages)?);
        let rates = self.rates.iter().map(|rate| Rate { room, ..*rate }).collect();
        Some(Self { available, rates, ..self.clone() })
    }

    /// Units of packages that were bought already.
    pub(crate) fn bought_room(&self) -> u64 {
        self.rates.iter().filter_map(|rate| rate.room).fold(0, u64::saturating_add)
    }

    /// What could be granted at most at a price.
    fn total(&self, rate: Option<Rate>) -> Split {
        let Self { free_units, available, .. } = *self;
        let funds = Funds { free_units, available, price: rate.map(|rate| rate.price) };
        let Split { free, paid } = funds.total();
        let room = rate.and_then(|rate| rate.room).unwrap_or(u64::MAX);
        Split { free, paid: paid.min(room) }
    }
}

/// A grant's price, among those of [`Means`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// This one or none: a lease is refilled.
    Only(usize),
    /// This one if it does, else the first that does: a call waits that this lease cannot serve.
    Rather(usize),
    /// The first that does: there is no lease.
    First,
}

/// Decides a grant where paid units have several prices. A lease has one of them, so a grant ends at its edge. Which price,
/// if there is any.
pub fn choose(means: &Means, choice: Choice, ask: Ask, drawers: u64) -> (Option<usize>, Decision) {
    if means.rates.is_empty() {
        return (None, share(means.total(None), ask, drawers));
    }
    let preferred = match choice {
        Choice::Only(index) | Choice::Rather(index) => Some(index),
        Choice::First => None,
    };
    let open = means.rates.iter().enumerate().filter(|(_, rate)| rate.room != Some(0));
    let others = open.map(|(index, _)| index).filter(|_| !matches!(choice, Choice::Only(_)));
    for index in preferred.into_iter().chain(others) {
        let decision = share(means.total(means.rates.get(index).copied()), ask, drawers);
        if decision != Decision::Short {
            return (Some(index), decision);
        }
    }
    (None, Decision::Short)
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
    share(funds.total(), ask, drawers)
}

/// A gateway's share of what is left.
fn share(total: Split, ask: Ask, drawers: u64) -> Decision {
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

    #[test]
    fn a_grant_ends_at_the_edge_of_its_price_and_a_refill_stays_within_it() {
        let rate = |price, room| Rate { price: Nanos::new(price), room };
        let means = |rooms: [u64; 2]| Means {
            free_units: 0,
            available: Nanos::new(1_000),
            rates: vec![rate(5, Some(rooms[0])), rate(4, Some(rooms[1])), rate(3, None)],
            package: None,
        };
        let grant = |rooms, choice, min| {
            let (index, decision) = choose(&means(rooms), choice, Ask { units: 50, min }, 1);
            match decision {
                Decision::Grant { units, last } => format!(
                    "{} at {}{}",
                    units.paid,
                    index.unwrap(),
                    if last { ", last" } else { "" }
                ),
                Decision::Short => "short".to_owned(),
            }
        };
        for (rooms, choice, min, expected) in [
            ([100, 7], Choice::First, 1, "50 at 0"),
            ([8, 7], Choice::First, 1, "4 at 0"),
            ([1, 7], Choice::First, 1, "1 at 0, last"),
            // A call of several units is not split: the next price that has them all.
            ([2, 7], Choice::First, 3, "4 at 1"),
            ([2, 2], Choice::First, 3, "50 at 2"),
            ([0, 7], Choice::First, 1, "4 at 1"),
            ([0, 7], Choice::Only(0), 1, "short"),
            ([0, 7], Choice::Rather(0), 1, "4 at 1"),
            // Units that came back to a lower tier do not take a lease away from a higher one.
            ([5, 7], Choice::Rather(1), 1, "4 at 1"),
            ([5, 0], Choice::Rather(1), 1, "3 at 0"),
            ([5, 0], Choice::Rather(2), 400, "short"),
        ] {
            assert_eq!(grant(rooms, choice, min), expected, "{rooms:?} {choice:?} {min}");
        }
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

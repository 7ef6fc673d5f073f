//! Whether a call can be charged, and what pays for it: one decision, which a check tells and a deduct carries out.

use serde::Serialize;

use crate::code::Code;
use crate::grant::{Funds, Means, Rate, Split};
use crate::money::Nanos;

/// What pays for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Its units, by kind.
    pub units: Split,
    /// What the paid ones cost.
    pub amount: Nanos,
}

/// What paid for units: the predecessor's `type` of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PaidBy {
    /// The free quota alone.
    Free,
    /// Money alone, though it be nothing.
    Balance,
    /// Both.
    Mixed,
}

impl PaidBy {
    /// Every one, for labels.
    pub const ALL: [Self; 3] = [Self::Free, Self::Balance, Self::Mixed];

    /// What paid for these.
    pub fn of(units: Split) -> Self {
        match (units.free, units.paid) {
            (_, 0) => Self::Free,
            (0, _) => Self::Balance,
            (_, _) => Self::Mixed,
        }
    }

    /// The word for it, in records, headers and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Balance => "balance",
            Self::Mixed => "mixed",
        }
    }
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It can be charged, so.
    Payable(Cost),
    /// Free units and money together do not cover it.
    Short,
}

/// Decides a call of `units` units: free ones first, then money, all of them or none.
pub fn decide(funds: Funds, units: u64) -> Verdict {
    let total = funds.total();
    if total.total() < units {
        return Verdict::Short;
    }
    let units = total.take_free_first(units);
    // No more units than the money pays for, so this does not overflow.
    match funds.price.unwrap_or(Nanos::ZERO).checked_mul(units.paid) {
        Some(amount) => Verdict::Payable(Cost { units, amount }),
        None => Verdict::Short,
    }
}

/// Units of a call at one price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Which price, among those of [`Means`].
    pub rate: usize,
    /// How many.
    pub units: u64,
    /// What they cost.
    pub amount: Nanos,
}

/// What pays for a call whose units may have several prices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bill {
    /// All of its units, by kind, and what they cost together.
    pub cost: Cost,
    /// The paid ones, price by price.
    pub parts: Vec<Part>,
    /// The packages that have to be bought for them; their cost is part of what they cost together.
    pub packages: u64,
}

/// Paid units, split over prices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// Price by price, in order.
    pub parts: Vec<Part>,
    /// The packages that have to be bought for them.
    pub packages: u64,
    /// What all of it costs together.
    pub amount: Nanos,
}

/// Splits paid units over prices, in order; `None` where the prices end, or are beyond money.
pub fn split(means: &Means, paid: u64) -> Option<Parts> {
    let packages = means.package.map_or(0, |package| package.needed(paid, means.bought_room()));
    let bought = means.package.map_or(Some(Nanos::ZERO), |package| package.cost(packages))?;
    let (mut left, mut total, mut parts) = (paid, bought, Vec::new());
    for (rate, &Rate { price, room }) in means.rates.iter().enumerate() {
        let room = room.filter(|_| means.package.is_none());
        let units = room.unwrap_or(u64::MAX).min(left);
        if 0 < units {
            let amount = price.checked_mul(units)?;
            total = total.checked_add(amount)?;
            parts.push(Part { rate, units, amount });
            left = left.saturating_sub(units);
        }
    }
    (left == 0).then_some(Parts { parts, packages, amount: total })
}

/// Decides a call of `units` units: free ones first, then money, price by price; all of them or none.
pub fn bill(means: &Means, units: u64) -> Option<Bill> {
    let free = means.free_units.min(units);
    let paid = units.saturating_sub(free);
    let Parts { parts, packages, amount } = split(means, paid)?;
    let is_covered = amount <= means.available.max(Nanos::ZERO);
    let cost = Cost { units: Split { free, paid }, amount };
    is_covered.then_some(Bill { cost, parts, packages })
}

/// As [`cost_of`], where units may have several prices.
pub fn cost_over(means: &Means, units: u64) -> Nanos {
    if means.rates.is_empty() {
        return Nanos::ZERO;
    }
    let paid = units.saturating_sub(means.free_units);
    split(means, paid).map_or(Nanos::MAX, |parts| parts.amount)
}

/// Why what is short is refused: money would help where the service has a price, only time where it has none.
pub fn code_of_short(price: Option<Nanos>) -> Code {
    match price {
        Some(_) => Code::InsufficientBalance,
        None => Code::InsufficientQuota,
    }
}

/// What a call of `units` units would take besides the free ones; the largest amount where that is more than money can say.
pub fn cost_of(funds: Funds, units: u64) -> Nanos {
    let paid = units.saturating_sub(funds.free_units);
    funds.price.unwrap_or(Nanos::ZERO).checked_mul(paid).unwrap_or(Nanos::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(not(target_family = "wasm"))]
    use crate::{package::Package, tier::TierUsage};
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn funds(free_units: u64, available: &str, price: Option<&str>) -> Funds {
        let nanos = |text: &str| text.parse::<Nanos>().unwrap();
        Funds { free_units, available: nanos(available), price: price.map(nanos) }
    }

    fn payable(free: u64, paid: u64, amount: &str) -> Verdict {
        let amount = amount.parse().unwrap();
        Verdict::Payable(Cost { units: Split { free, paid }, amount })
    }

    #[test]
    fn free_units_go_first_and_money_pays_for_the_rest() {
        // Three free units are left and the balance pays for two more: five are served, six are not (T46).
        let funds = funds(3, "0.2", Some("0.1"));
        assert_eq!(decide(funds, 1), payable(1, 0, "0"));
        assert_eq!(decide(funds, 3), payable(3, 0, "0"));
        assert_eq!(decide(funds, 5), payable(3, 2, "0.2"));
        assert_eq!(decide(funds, 6), Verdict::Short);
        assert_eq!(cost_of(funds, 6).to_string(), "0.3");
    }

    #[test]
    fn counts_around_what_is_left_are_all_or_nothing() {
        // T55: remaining 0, 1, count - 1, count, count + 1, with nothing else to pay from.
        for (remaining, expected) in [
            (0, Verdict::Short),
            (1, Verdict::Short),
            (4, Verdict::Short),
            (5, payable(5, 0, "0")),
            (6, payable(5, 0, "0")),
        ] {
            assert_eq!(decide(funds(remaining, "0", Some("0.1")), 5), expected, "{remaining}");
        }
    }

    #[test]
    fn an_exact_balance_is_enough_and_a_service_without_a_price_is_never_paid() {
        assert_eq!(decide(funds(0, "0.30", Some("0.10")), 3), payable(0, 3, "0.3"));
        assert_eq!(decide(funds(0, "0.299999999", Some("0.10")), 3), Verdict::Short);
        assert_eq!(decide(funds(2, "100", None), 3), Verdict::Short);
        assert_eq!(decide(funds(0, "0", Some("0")), 3), payable(0, 3, "0"));
    }

    #[test]
    fn what_paid_is_said_in_the_predecessors_words() {
        let said = |free, paid| PaidBy::of(Split { free, paid }).as_str();
        assert_eq!([said(1, 0), said(0, 1), said(1, 1)], ["free", "balance", "mixed"]);
    }

    #[test]
    fn a_cost_beyond_money_is_short_and_named_as_the_largest_amount() {
        let dear = funds(0, "9223372036.854775807", Some("9000000000"));
        assert_eq!(decide(dear, 2), Verdict::Short);
        assert_eq!(cost_of(dear, 2), Nanos::MAX);
    }

    #[cfg(not(target_family = "wasm"))]
    proptest::proptest! {
        /// A call of several units costs what its units cost one after the other, in one call or in several.
        #[test]
        fn a_call_costs_what_its_units_cost_one_by_one(
            free in 0..10_u64,
            available in 0..200_i64,
            tiers in proptest::collection::vec((0..8_u64, 0..5_i64), 0..4),
            last in 0..5_i64,
            calls in proptest::collection::vec(1..15_u64, 1..6),
        ) {
            let bounded = tiers.iter().map(|&(room, price)| Rate { price: Nanos::new(price), room: Some(room) });
            let rates = bounded.chain([Rate { price: Nanos::new(last), room: None }]).collect();
            let mut means = Means { free_units: free, available: Nanos::new(available), rates, package: None };
            // The model: every unit by itself, at the first price that has room.
            let (mut free, mut rooms) = (free, tiers.iter().map(|&(room, _)| room).collect::<Vec<_>>());
            for units in calls {
                let (mut left_free, mut left, mut cost) = (free, rooms.clone(), 0);
                for _ in 0..units {
                    if 0 < left_free {
                        left_free -= 1;
                        continue;
                    }
                    let place = left.iter().position(|&room| 0 < room);
                    cost += place.map_or(last, |place| tiers[place].1);
                    place.into_iter().for_each(|place| left[place] -= 1);
                }
                proptest::prop_assert_eq!(cost_over(&means, units), Nanos::new(cost));
                let Some(bill) = bill(&means, units) else {
                    proptest::prop_assert!(means.available < Nanos::new(cost));
                    continue;
                };
                proptest::prop_assert_eq!(bill.cost.amount, Nanos::new(cost));
                let parts: u64 = bill.parts.iter().map(|part| part.units).sum();
                proptest::prop_assert_eq!((bill.cost.units.total(), bill.cost.units.paid), (units, parts));
                means.free_units -= bill.cost.units.free;
                means.available = means.available.checked_sub(bill.cost.amount).unwrap();
                for part in bill.parts {
                    let rate = &mut means.rates[part.rate];
                    rate.room = rate.room.map(|room| room - part.units);
                }
                (free, rooms) = (left_free, left);
            }
        }

        /// Calls are charged and come back in any order. The model knows single units only: what was bought is at every moment
        /// what the units need that did not come back, and what was paid is that at the package's price.
        #[test]
        fn packages_cost_what_units_one_by_one_need(
            size in 1..6_u64,
            price in 0..5_i64,
            free in 0..6_u64,
            funds in 0..40_i64,
            calls in proptest::collection::vec((proptest::bool::ANY, 1..12_u64), 1..12),
        ) {
            let package = Package { units: size, price: Nanos::new(price) };
            let mut tier = TierUsage::default();
            let (mut free, mut available) = (free, funds);
            // The model.
            let (mut used, mut bought, mut left_free) = (0_u64, 0_u64, free);
            for (is_charge, units) in calls {
                if is_charge {
                    let rates = vec![Rate { price: Nanos::ZERO, room: Some(tier.room()) }];
                    let means = Means { free_units: free, available: Nanos::new(available), rates, package: Some(package) };
                    let (mut more_free, mut more_used, mut more_bought) = (left_free, used, bought);
                    for _ in 0..units {
                        if 0 < more_free {
                            more_free -= 1;
                            continue;
                        }
                        more_bought += u64::from(more_used == more_bought * size);
                        more_used += 1;
                    }
                    let cost = i64::try_from(more_bought - bought).unwrap() * price;
                    proptest::prop_assert_eq!(cost_over(&means, units), Nanos::new(cost));
                    let Some(bill) = bill(&means, units) else {
                        proptest::prop_assert!(available < cost);
                        continue;
                    };
                    proptest::prop_assert_eq!(bill.cost.amount, Nanos::new(cost));
                    tier.total += bill.packages * size;
                    tier = tier.hold(bill.cost.units.paid).unwrap();
                    tier = tier.release(bill.cost.units.paid).unwrap().charge(bill.cost.units.paid).unwrap();
                    free -= bill.cost.units.free;
                    available -= bill.cost.amount.get();
                    (left_free, used, bought) = (more_free, more_used, more_bought);
                } else {
                    let units = units.min(used);
                    for _ in 0..units {
                        used -= 1;
                        bought -= u64::from(used == (bought - 1) * size);
                    }
                    tier = tier.refund(units).unwrap();
                    let back = package.unneeded(tier.room());
                    tier.total -= package.units_of(back).unwrap();
                    available += package.cost(back).unwrap().get();
                }
                proptest::prop_assert_eq!((tier.used, tier.total, tier.late, free), (used, bought * size, 0, left_free));
                proptest::prop_assert_eq!(bought, used.div_ceil(size));
                proptest::prop_assert_eq!(available, funds - i64::try_from(bought).unwrap() * price);
                proptest::prop_assert_eq!(tier.room(), package.left_over(tier.room()));
            }
        }

        #[test]
        fn what_is_payable_is_covered_whole(
            free in 0..50_u64,
            available in -100..1_000_i64,
            price in proptest::option::of(0..20_i64),
            units in 1..100_u64,
        ) {
            let funds = Funds { free_units: free, available: Nanos::new(available), price: price.map(Nanos::new) };
            match decide(funds, units) {
                Verdict::Short => proptest::prop_assert!(funds.total().total() < units),
                Verdict::Payable(cost) => {
                    proptest::prop_assert_eq!(cost.units.total(), units);
                    proptest::prop_assert!(cost.units.free <= free);
                    proptest::prop_assert!(cost.units.paid == 0 || cost.units.free == free, "free before money");
                    proptest::prop_assert!(cost.amount <= funds.available.max(Nanos::ZERO));
                    proptest::prop_assert_eq!(cost.amount, cost_of(funds, units));
                }
            }
        }
    }
}

//! The versions of one service's price, one after another: everybody's, or those of one account.

use chrono::{DateTime, Utc};

use farebox_core::tariff::Tariff;

use crate::store::price_version::PriceVersion;

/// What a new price does to the versions that stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed<'v> {
    /// The version that ends where the new one begins.
    pub(super) ends: Option<&'v PriceVersion>,
    /// Where the next change stands already.
    pub(super) until: Option<DateTime<Utc>>,
}

/// Places a price from `at` until the next change, or no price; `None` when it is so then anyway. No moment gets two prices,
/// and none is left without one after the first, unless that is what was placed.
pub(super) fn place<'v>(
    versions: &[&'v PriceVersion],
    at: DateTime<Utc>,
    price: Option<&Tariff>,
) -> Option<Placed<'v>> {
    let holds = versions.iter().find(|version| version.holds(at)).copied();
    if holds.map(|version| &version.tariff) == price {
        return None;
    }
    let Some(version) = holds else {
        let starts = versions.iter().filter(|version| version.ever_holds());
        let starts = starts.map(|version| version.effective_from);
        return Some(Placed { ends: None, until: starts.filter(|start| at < *start).min() });
    };
    Some(Placed { ends: Some(version), until: version.effective_to })
}

#[cfg(test)]
mod tests {
    use farebox_core::money::Nanos;
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    fn version(id: i64, price: i64, from: i64, until: Option<DateTime<Utc>>) -> PriceVersion {
        PriceVersion {
            ids: vec![id],
            service: "asset".parse().unwrap(),
            source: "book".to_owned(),
            account: None,
            tariff: Tariff::flat(Nanos::new(price)),
            set_by: "operator".to_owned(),
            effective_from: at(from),
            effective_to: until,
        }
    }

    proptest! {
        /// Prices 1 to 3; 0 stands for none.
        #[test]
        fn every_moment_has_the_price_that_was_placed_last_and_no_other(
            changes in proptest::collection::vec((0_i64..20, 0_i64..4), 1..20)
        ) {
            let mut versions: Vec<PriceVersion> = Vec::new();
            // What holds in each second, said the plain way.
            let mut expected: [Option<i64>; 21] = [None; 21];
            // Where something was placed: a change ends at the next one.
            for (id, &(from, price)) in changes.iter().enumerate() {
                let price = (price != 0).then_some(price);
                let before: Vec<Option<i64>> = expected.to_vec();
                let seen: Vec<&PriceVersion> = versions.iter().collect();
                let next = match seen.iter().find(|version| version.holds(at(from))) {
                    Some(version) => version.effective_to,
                    None => seen.iter().filter(|version| version.ever_holds())
                        .map(|version| version.effective_from).filter(|&start| at(from) < start).min(),
                };
                let tariff = price.map(|price| Tariff::flat(Nanos::new(price)));
                let placed = place(&seen, at(from), tariff.as_ref());
                let placed = placed.map(|placed| (placed.until, placed.ends.map(|ends| ends.ids.clone())));
                if let Some((until, ends)) = placed.clone() {
                    prop_assert_eq!(until, next);
                    if let Some(ended) = ends {
                        versions.iter_mut().find(|version| version.ids == ended).unwrap()
                            .effective_to = Some(at(from));
                    }
                    if let Some(price) = price {
                        versions.push(version(i64::try_from(id).unwrap(), price, from, until));
                    }
                }
                for second in from..21 {
                    if next.is_none_or(|next| at(second) < next) {
                        expected[usize::try_from(second).unwrap()] = price;
                    }
                }
                let is_changed = before != expected;
                prop_assert_eq!(placed.is_some(), is_changed);
            }
            for (second, &price) in (0_i64..).zip(&expected) {
                let held: Vec<i64> = versions.iter().filter(|version| version.holds(at(second)))
                    .map(|version| version.tariff.first_price().get()).collect();
                prop_assert_eq!(held, price.into_iter().collect::<Vec<_>>(), "second {}", second);
            }
        }
    }
}

//! The versions of one service's price, one after another.

use chrono::{DateTime, Utc};

use farebox_core::money::Nanos;

use crate::store::price_version::PriceVersion;

/// What a new price does to the versions that stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    /// The version that ends where the new one begins, and its price.
    pub(super) ends: Option<(i64, Nanos)>,
    /// Where the next change stands already.
    pub(super) until: Option<DateTime<Utc>>,
}

/// Whether the version holds at `at`: it begins then or before, and ends later.
pub(super) fn holds(version: &PriceVersion, at: DateTime<Utc>) -> bool {
    version.effective_from <= at && version.effective_to.is_none_or(|end| at < end)
}

/// Places a price from `at` until the next change; `None` when it holds then anyway. No moment after the first version is
/// left without a price, and none gets two.
pub(super) fn place(versions: &[&PriceVersion], at: DateTime<Utc>, price: Nanos) -> Option<Placed> {
    let Some(version) = versions.iter().find(|version| holds(version, at)) else {
        let starts = versions
            .iter()
            .filter(|version| version.effective_to != Some(version.effective_from))
            .map(|version| version.effective_from);
        return Some(Placed { ends: None, until: starts.filter(|start| at < *start).min() });
    };
    (version.price != price)
        .then_some(Placed { ends: Some((version.id, version.price)), until: version.effective_to })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    fn version(id: i64, price: i64, from: i64, until: Option<DateTime<Utc>>) -> PriceVersion {
        PriceVersion {
            id,
            service: "asset".parse().unwrap(),
            source: "book".to_owned(),
            price: Nanos::new(price),
            set_by: "operator".to_owned(),
            effective_from: at(from),
            effective_to: until,
        }
    }

    proptest! {
        #[test]
        fn every_moment_after_the_first_has_one_price_and_it_is_the_one_that_was_placed(
            changes in proptest::collection::vec((0_i64..20, 1_i64..4), 1..20)
        ) {
            let mut versions: Vec<PriceVersion> = Vec::new();
            // What holds in each second, said the plain way.
            let mut expected: [Option<i64>; 21] = [None; 21];
            for (id, &(from, price)) in changes.iter().enumerate() {
                let first = versions.iter().map(|version| version.effective_from).min();
                let seen: Vec<&PriceVersion> = versions.iter().collect();
                let placed = place(&seen, at(from), Nanos::new(price));
                let next = match placed {
                    Some(Placed { until, ends }) => {
                        if let Some((ended, _)) = ends {
                            versions.iter_mut().find(|version| version.id == ended).unwrap()
                                .effective_to = Some(at(from));
                        }
                        versions.push(version(i64::try_from(id).unwrap(), price, from, until));
                        until
                    }
                    None => versions.iter().find(|version| holds(version, at(from))).unwrap()
                        .effective_to,
                };
                for second in from..21 {
                    if next.is_none_or(|next| at(second) < next) {
                        expected[usize::try_from(second).unwrap()] = Some(price);
                    }
                }
                prop_assert!(placed.is_some() || first.is_some());
            }
            for (second, &price) in (0_i64..).zip(&expected) {
                let held: Vec<i64> = versions.iter().filter(|version| holds(version, at(second)))
                    .map(|version| version.price.get()).collect();
                prop_assert_eq!(held, price.into_iter().collect::<Vec<_>>(), "second {}", second);
            }
        }
    }
}

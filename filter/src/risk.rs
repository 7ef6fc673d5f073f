//! Money at risk: what this process was lent, and how much more it may borrow (`max_at_risk`).
//!
//! What is drawn is part of what is lent, so a bound on what is lent bounds what a kill can lose. It changes only when
//! units are asked for, granted or acknowledged: draws have nothing to do with it.
//!
//! The amount is kept in shared data for all workers. A question is noted in its key's record first, and then added to
//! the amount; nobody ever subtracts from it. The leader adds up all records again and again, and replaces the amount by
//! the sum if nobody added to it meanwhile. So it is never less than what the records say, and whatever a worker that died
//! left behind is put right with the next sum.

use farebox_core::money::Nanos;

use crate::host::{CAS_OF_MISSING, Host, SetOutcome};
use crate::record::Record;

/// The number after the name is the layout's version, as for records.
const LENT: &str = "farebox/lent/2";
const TRIES_MAX: usize = 64;

/// What records stand for. Amounts are 1e-9 of the currency, and stop at the largest number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exposure {
    /// Units drawn, or allowed without a lease, that the sidecar does not know of.
    pub unreported_units: u64,
    /// What they cost.
    pub at_risk: u64,
    /// Units lent and not acknowledged as used or given back.
    pub lent_units: u64,
    /// What they cost.
    pub lent: u64,
    /// What answers that are on their way may add to that.
    pub asked: u64,
}

impl Exposure {
    /// What a record stands for; `price` is its key's.
    pub fn of(record: &Record, price: Option<Nanos>, now: u64) -> Self {
        let journal = record.journal.used.saturating_sub(record.journal.acked);
        let blind = cost(record.known_price(price).unwrap_or(Nanos::ZERO), journal);
        Self {
            unreported_units: record.unreported_units(),
            at_risk: cost(record.price, record.unreported_paid()).saturating_add(blind),
            lent_units: record.lent_units(),
            lent: cost(record.price, record.lent_paid()),
            asked: cost(record.known_price(price).unwrap_or(Nanos::ZERO), record.noted_units(now)),
        }
    }

    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            unreported_units: self.unreported_units.saturating_add(other.unreported_units),
            at_risk: self.at_risk.saturating_add(other.at_risk),
            lent_units: self.lent_units.saturating_add(other.lent_units),
            lent: self.lent.saturating_add(other.lent),
            asked: self.asked.saturating_add(other.asked),
        }
    }

    /// What counts against the budget.
    pub fn counted(self) -> u64 {
        self.lent.saturating_add(self.asked)
    }
}

fn cost(price: Nanos, units: u64) -> u64 {
    u64::try_from(price.get()).unwrap_or(0).saturating_mul(units)
}

/// The most that may be lent, in 1e-9 of the currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget(u64);

/// How close the budget is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Less than half of it is lent.
    #[default]
    Calm,
    /// From half of it on usage is reported sooner, so that acknowledgements make room.
    Sooner,
    /// From three quarters on nothing is asked for beyond what waits.
    Smaller,
}

impl Budget {
    /// A budget of an amount above zero.
    pub fn new(amount: Nanos) -> Option<Self> {
        u64::try_from(amount.get()).ok().filter(|amount| 0 < *amount).map(Self)
    }

    fn three_quarters(self) -> u64 {
        self.0.saturating_sub(self.0 >> 2)
    }

    /// What `lent` means for the next questions and reports.
    pub fn stage(self, lent: u64) -> Stage {
        if self.three_quarters() <= lent {
            Stage::Smaller
        } else if self.0.saturating_sub(self.0 >> 1) <= lent {
            Stage::Sooner
        } else {
            Stage::Calm
        }
    }

    /// How many units to ask for when `wish` are wanted and fewer than `min` are of no use. `None`: not even these fit, so
    /// the call is decided by itself.
    ///
    /// A price that is not known yet, because nothing was granted for the key so far, is learnt with `min` units.
    pub fn units(self, lent: u64, price: Option<Nanos>, wish: u64, min: u64) -> Option<u64> {
        let room = self.0.saturating_sub(lent);
        match price {
            None => (0 < room).then_some(min),
            Some(price) if room < cost(price, min) => None,
            Some(price) => {
                let spare = self.three_quarters().saturating_sub(lent);
                let units = spare.checked_div(cost(price, 1)).unwrap_or(u64::MAX);
                Some(wish.min(units).max(min))
            }
        }
    }
}

/// The amount as it stands, and its compare-and-swap number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lent {
    /// In 1e-9 of the currency.
    pub amount: u64,
    cas: u32,
}

/// Reads the amount.
pub fn lent(host: &impl Host) -> Lent {
    host.shared_get(LENT).map_or(Lent { amount: 0, cas: CAS_OF_MISSING }, |(bytes, cas)| Lent {
        amount: bytes.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes)),
        cas,
    })
}

/// Replaces the amount by a new sum; `false` when somebody added to it since it was read.
pub fn replace(host: &impl Host, lent: Lent, sum: u64) -> bool {
    lent.amount == sum || host.shared_set(LENT, &sum.to_le_bytes(), lent.cas) == SetOutcome::Stored
}

/// Adds what `units` cost, if that fits into the budget.
pub fn reserve(host: &impl Host, budget: Budget, price: Option<Nanos>, units: u64) -> bool {
    let cost = price.map_or(0, |price| cost(price, units));
    add_if(host, cost, |sum| sum <= budget.0)
}

/// Adds money that was lent without having been reserved: its price was not known, or has changed.
pub fn add(host: &impl Host, amount: u64) {
    add_if(host, amount, |_| true);
}

fn add_if(host: &impl Host, amount: u64, fits: impl Fn(u64) -> bool) -> bool {
    for _ in 0..TRIES_MAX {
        let lent = lent(host);
        let sum = lent.amount.saturating_add(amount);
        if !fits(sum) {
            return false;
        }
        if replace(host, lent, sum) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{ChargeOn, Journal};
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const PRICE: Option<Nanos> = Some(Nanos::new(10));

    fn budget() -> Budget {
        Budget::new(Nanos::new(1_000)).unwrap()
    }

    fn lease() -> Record {
        let (granted, granted_free, free_left) = (10, 4, 4);
        let price = Nanos::new(10);
        let deadline_ms = 1_000;
        Record {
            lease: 1,
            granted,
            granted_free,
            free_left,
            price,
            deadline_ms,
            ..Record::default()
        }
    }

    #[test]
    fn a_budget_is_an_amount_above_zero() {
        assert_eq!(Budget::new(Nanos::ZERO), None);
        assert_eq!(Budget::new(Nanos::new(-1)), None);
        assert!(Budget::new(Nanos::new(1)).is_some());
    }

    #[test]
    fn stages_begin_at_half_and_at_three_quarters() {
        let stages = [0, 499, 500, 749, 750, 1_000, 2_000].map(|lent| budget().stage(lent));
        use Stage::{Calm, Smaller, Sooner};
        assert_eq!(stages, [Calm, Calm, Sooner, Sooner, Smaller, Smaller, Smaller]);
        let one = Budget::new(Nanos::new(1)).unwrap();
        assert_eq!((one.stage(0), one.stage(1)), (Calm, Smaller));
    }

    #[test]
    fn wishes_end_at_three_quarters_and_needs_at_the_whole() {
        let units = |lent, wish, min| budget().units(lent, PRICE, wish, min);
        assert_eq!(units(0, 16, 1), Some(16));
        assert_eq!(units(0, 200, 1), Some(75));
        assert_eq!(units(700, 16, 1), Some(5));
        assert_eq!(units(700, 16, 9), Some(9));
        assert_eq!(units(800, 16, 3), Some(3));
        assert_eq!(units(970, 16, 3), Some(3));
        assert_eq!(units(971, 16, 3), None);
        assert_eq!(units(5_000, 16, 1), None);
    }

    #[test]
    fn a_price_is_learnt_with_the_fewest_units_and_free_calls_need_no_budget() {
        assert_eq!(budget().units(999, None, 16, 3), Some(3));
        assert_eq!(budget().units(1_000, None, 16, 3), None);
        assert_eq!(budget().units(5_000, Some(Nanos::ZERO), 16, 3), Some(16));
    }

    #[test]
    fn what_is_lent_shrinks_by_acknowledgements_alone_and_free_units_cost_nothing() {
        let mut record = lease();
        let of = |record: &Record| Exposure::of(record, None, 1);
        assert_eq!((of(&record).lent_units, of(&record).lent, of(&record).at_risk), (10, 60, 0));
        record.draw(3, ChargeOn::Request, 1).unwrap();
        assert_eq!((of(&record).unreported_units, of(&record).at_risk), (3, 0), "free ones first");
        record.draw(3, ChargeOn::Request, 1).unwrap();
        assert_eq!((of(&record).lent, of(&record).at_risk), (60, 20));
        record.acked = 6;
        assert_eq!((of(&record).lent_units, of(&record).lent, of(&record).at_risk), (4, 40, 0));
        record.give_back();
        assert_eq!(of(&record).lent, 40, "the sidecar does not know yet");
        record.acked = 10;
        assert_eq!(of(&record), Exposure::default());
    }

    #[test]
    fn a_question_counts_until_its_answer_is_due() {
        let mut record = Record::default();
        record.note_question(100, 5, 0);
        record.note_question(90, 2, 0);
        assert_eq!(Exposure::of(&record, PRICE, 99).counted(), 70);
        assert_eq!(Exposure::of(&record, PRICE, 100).counted(), 0);
        assert_eq!(Exposure::of(&record, None, 99).counted(), 0, "nobody knows what it costs");
        record.note_question(300, 1, 200);
        assert_eq!(Exposure::of(&record, PRICE, 250).counted(), 10, "the old ones are over");
    }

    #[test]
    fn what_was_allowed_without_a_lease_is_at_risk_but_not_lent() {
        let journal = Journal { line: 1, used: 7, acked: 4, ..Journal::default() };
        let exposure = Exposure::of(&Record { journal, ..Record::default() }, PRICE, 0);
        let expected = Exposure { unreported_units: 3, at_risk: 30, ..Exposure::default() };
        assert_eq!(exposure, expected);
    }
}

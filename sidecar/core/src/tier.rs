//! The paid units of one account in one tier of a price, in one month: used, held, and how many more it has room for.

/// Units of a tier. `used + held <= total`; units are late only while the tier is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TierUsage {
    /// Units of the tier.
    pub total: u64,
    /// Charged and not given back.
    pub used: u64,
    /// Set aside by leases and reservations.
    pub held: u64,
    /// Charged beyond the total: by leases that had given the units back, which others took then. They cost what the tier
    /// costs, and count as used as soon as the tier has room.
    pub late: u64,
}

impl TierUsage {
    /// Units neither used nor held.
    pub fn room(self) -> u64 {
        self.total.saturating_sub(self.used).saturating_sub(self.held)
    }

    /// Sets units aside; `None` beyond the tier.
    pub fn hold(self, units: u64) -> Option<Self> {
        (units <= self.room()).then(|| Self { held: self.held.saturating_add(units), ..self })
    }

    /// Gives back what was set aside; `None` for more than that.
    pub fn release(self, units: u64) -> Option<Self> {
        Some(Self { held: self.held.checked_sub(units)?, ..self }.settled())
    }

    /// Charges units that nothing holds, whether or not the tier has room for them.
    pub fn charge(self, units: u64) -> Option<Self> {
        Some(Self { late: self.late.checked_add(units)?, ..self }.settled())
    }

    /// Gives charged units back; `None` for more than were charged.
    pub fn refund(self, units: u64) -> Option<Self> {
        let late = self.late.min(units);
        let used = self.used.checked_sub(units.saturating_sub(late))?;
        Some(Self { late: self.late.saturating_sub(late), used, ..self }.settled())
    }

    /// Late units take the room that there is.
    fn settled(self) -> Self {
        let fits = self.late.min(self.room());
        let (used, late) = (self.used.saturating_add(fits), self.late.saturating_sub(fits));
        Self { used, late, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn no_more_is_held_than_there_is_room_for_and_what_is_charged_beyond_waits_for_room() {
        let tier = TierUsage { total: 10, ..TierUsage::default() };
        assert_eq!(tier.hold(11), None);
        let held = tier.hold(10).unwrap();
        let late = held.charge(3).unwrap();
        assert_eq!((late.used, late.held, late.late, late.room()), (0, 10, 3, 0));
        let settled = late.release(4).unwrap();
        assert_eq!((settled.used, settled.held, settled.late, settled.room()), (3, 6, 0, 1));
        assert_eq!((settled.release(7), settled.refund(4)), (None, None));
    }

    #[cfg(not(target_family = "wasm"))]
    proptest::proptest! {
        /// Whatever happens in whatever order, nothing is lost and the bound holds.
        #[test]
        fn what_is_charged_and_held_is_what_was_charged_and_held(
            total in 0..30_u64,
            steps in proptest::collection::vec((0..4_u8, 1..12_u64), 0..40),
        ) {
            let mut tier = TierUsage { total, ..TierUsage::default() };
            let (mut charged, mut held) = (0, 0);
            for (step, units) in steps {
                let next = match step {
                    0 => tier.hold(units).inspect(|_| held += units),
                    1 => tier.release(units).inspect(|_| held -= units),
                    2 => tier.charge(units).inspect(|_| charged += units),
                    _ => tier.refund(units).inspect(|_| charged -= units),
                };
                tier = next.unwrap_or(tier);
                proptest::prop_assert_eq!((tier.used + tier.late, tier.held), (charged, held));
                proptest::prop_assert!(tier.used + tier.held <= total);
                proptest::prop_assert!(tier.late == 0 || tier.room() == 0);
            }
        }
    }
}

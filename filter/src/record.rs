//! One lease as the workers of a process share it, and everything that can happen to it.
//!
//! A record is a plain value: a worker reads it, changes it here, and writes it back if nobody else wrote in between.
//! Quantities that the sidecar hears about (`granted`, `returned`, `used`, those of the journal) only grow.

use farebox_core::lease::Usage;
use farebox_core::limits::{GRANT_MAX, UNITS_MAX};
use farebox_core::money::Nanos;
use farebox_core::wire::{Ack, Grant, Refusal};

use crate::running::Running;

/// How long a refusal is remembered at most: money that arrives works within this time.
pub const REFUSAL_MEMORY_MS: u64 = 500;

/// Traffic is measured over at least this time: one call a moment after a grant is no stream of calls.
const RATE_WINDOW_MS: u64 = 100;

/// A lease of one (account, service, price) key, or the place where one is expected.
///
/// Times are milliseconds on the host's clock that never jumps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Record {
    /// The lease; 0 while none was granted.
    pub lease: u64,
    /// Units granted since the lease began.
    pub granted: u64,
    /// The free ones among them.
    pub granted_free: u64,
    /// Free units not yet drawn, for the caller's information; the sidecar decides.
    pub free_left: u64,
    /// Units given back since the lease began.
    pub returned: u64,
    /// Units to be charged since the lease began.
    pub used: u64,
    /// Units of calls that are still running and are charged only if they succeed.
    pub in_flight: Running,
    /// `used + returned` as far as the sidecar has acknowledged them.
    pub acked: u64,
    /// Price per paid unit.
    pub price: Nanos,
    /// Nothing is drawn from this moment on; counted from when the lease was asked for.
    pub deadline_ms: u64,
    /// Halfway to the deadline: the lease is renewed from then on while it is in use.
    pub renew_at_ms: u64,
    /// When the message was sent whose reply last set the deadline; older replies do not change it.
    pub heard_ms: u64,
    /// Below this many units more are asked for ahead of need.
    pub low_water: u64,
    /// The last draw.
    pub last_draw_ms: u64,
    /// An answer to a question about this key may arrive until then, so the record must stay.
    pub asked_until_ms: u64,
    /// Units that such answers may bring.
    pub asked_units: u64,
    /// When counting for the rate began, and `used + in_flight` at that moment.
    pub rate_since_ms: u64,
    /// See `rate_since_ms`.
    pub rate_base: u64,
    /// No more units are lent for a draw that lacks this many or more…
    pub refused_need: u64,
    /// …until this moment.
    pub refused_until_ms: u64,
    /// The error number of that refusal.
    pub refused_code: u64,
    /// The available balance at that refusal.
    pub refused_available: Nanos,
    /// The free units that were left at that refusal, besides those of this lease.
    pub refused_free: u64,
    /// Free units per month, as last heard.
    pub quota_total: u64,
    /// When the month ends, as last heard.
    pub quota_resets_ms: u64,
    /// What was allowed without a lease. Only one record of a key has a journal.
    pub journal: Journal,
    /// Set once the lease is to be given back: nothing is drawn any more, unless the sidecar extends it.
    pub closing: bool,
    /// Set once the sidecar is told that the lease has ended: it never comes back to life.
    pub ended: bool,
    /// Set once the sidecar says that the lease does not stand any more.
    pub gone: bool,
    /// Set while the record waits in the list of changes to report.
    pub queued: bool,
}

/// Units allowed without a lease while the sidecar was away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Journal {
    /// Random name of the line; 0 while there is none.
    pub line: u64,
    /// Units to be charged since the line began.
    pub used: u64,
    /// Units of calls that still run and are charged only if they succeed.
    pub in_flight: Running,
    /// `used` as far as the sidecar has acknowledged it.
    pub acked: u64,
}

impl Journal {
    /// Whether it holds units that the sidecar has not acknowledged.
    pub fn has_unreported(&self) -> bool {
        self.acked < self.used
    }

    /// Allows `units`, unless more than `limit` would then be allowed and not yet acknowledged.
    pub fn allow(&mut self, units: u64, charge_on: ChargeOn, limit: u64, new_line: u64) -> bool {
        let total = self.used.saturating_add(self.in_flight.units).saturating_add(units);
        if limit < total.saturating_sub(self.acked) || UNITS_MAX < total {
            return false;
        }
        if self.line == 0 {
            self.line = new_line;
        }
        match charge_on {
            ChargeOn::Request => self.used = self.used.saturating_add(units),
            ChargeOn::Success => self.in_flight.begin(units),
        }
        true
    }

    /// Ends a call that was allowed with [`ChargeOn::Success`], in roll call `roll`.
    pub fn finish(&mut self, units: u64, roll: u64, succeeded: bool) {
        self.in_flight.end(units, roll);
        if succeeded {
            self.used = self.used.saturating_add(units);
        }
    }
}

/// Where a call's units come from, as far as the gateway can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drawn {
    /// Units of the free quota.
    pub free: u64,
    /// Units of the balance.
    pub paid: u64,
    /// Price per paid unit.
    pub price: Nanos,
}

/// When units count as used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChargeOn {
    /// At once.
    Request,
    /// When the call ends well; otherwise they come back.
    Success,
}

impl Record {
    /// Whether units may be drawn.
    pub fn is_live(&self, now: u64) -> bool {
        self.lease != 0 && !self.closing && now < self.deadline_ms
    }

    /// Units granted and not yet spoken for.
    pub fn remaining(&self) -> u64 {
        self.granted
            .saturating_sub(self.returned)
            .saturating_sub(self.used)
            .saturating_sub(self.in_flight.units)
    }

    /// Takes `units` for one call, or says how many are lacking.
    pub fn draw(&mut self, units: u64, charge_on: ChargeOn, now: u64) -> Result<Drawn, u64> {
        let remaining = if self.is_live(now) { self.remaining() } else { 0 };
        if remaining < units {
            return Err(units.saturating_sub(remaining));
        }
        match charge_on {
            ChargeOn::Request => self.used = self.used.saturating_add(units),
            ChargeOn::Success => self.in_flight.begin(units),
        }
        let free = self.free_left.min(units);
        self.free_left = self.free_left.saturating_sub(free);
        self.last_draw_ms = now;
        Ok(Drawn { free, paid: units.saturating_sub(free), price: self.price })
    }

    /// Ends a call that was drawn with [`ChargeOn::Success`], in roll call `roll`.
    pub fn finish(&mut self, units: u64, free: u64, roll: u64, succeeded: bool) {
        if !self.in_flight.end(units, roll) {
            // They have gone back already. A call that was served is charged as far as the lease has others.
            if succeeded {
                self.used = self.used.saturating_add(units.min(self.remaining()));
            }
        } else if succeeded {
            self.used = self.used.saturating_add(units);
        } else if self.closing {
            self.returned = self.returned.saturating_add(units);
        } else {
            self.free_left = self.free_left.saturating_add(free);
        }
    }

    /// Opens a roll call for the calls that run on this record.
    pub fn call_roll(&mut self, number: u64) {
        self.in_flight.call(number);
        self.journal.in_flight.call(number);
    }

    /// Ends it: units that no VM spoke for come back. Returns how many.
    pub fn close_roll(&mut self, number: u64) -> u64 {
        let units = self.in_flight.release(number);
        if self.closing {
            self.returned = self.returned.saturating_add(units);
        }
        units.saturating_add(self.journal.in_flight.release(number))
    }

    /// Whether a refusal for this many lacking units, or fewer, is still fresh.
    pub fn refuses(&self, lacking: u64, now: u64) -> bool {
        self.refused_need != 0 && self.refused_need <= lacking && now < self.refused_until_ms
    }

    /// Whether it is time to ask for more, ahead of need.
    pub fn wants_refill(&self, now: u64) -> bool {
        self.is_live(now) && self.remaining() < self.low_water && !self.refuses(1, now)
    }

    /// About two seconds of the traffic seen since the last grant; at least `least`.
    pub fn wish(&self, least: u64, now: u64) -> u64 {
        let drawn = self.used.saturating_add(self.in_flight.units).saturating_sub(self.rate_base);
        let elapsed_ms = now.saturating_sub(self.rate_since_ms).max(RATE_WINDOW_MS);
        let two_seconds = drawn.saturating_mul(2_000).checked_div(elapsed_ms).unwrap_or(0);
        two_seconds.clamp(least, GRANT_MAX.max(least))
    }

    /// Takes in a grant for this record's lease, or its first one. Totals merge by the larger value, so an older or a
    /// repeated reply changes nothing.
    pub fn accept(&mut self, grant: &Grant, asked_at: u64, now: u64) {
        if self.lease != grant.lease {
            *self = Self {
                lease: grant.lease,
                asked_until_ms: self.asked_until_ms,
                asked_units: self.asked_units,
                last_draw_ms: now,
                journal: self.journal,
                queued: self.queued,
                ..Self::default()
            };
        }
        let total = grant.free_units.saturating_add(grant.paid_units);
        let new_free = grant.free_units.saturating_sub(self.granted_free);
        self.granted = self.granted.max(total);
        self.granted_free = self.granted_free.max(grant.free_units);
        self.free_left = self.free_left.saturating_add(new_free);
        self.price = grant.price;
        self.low_water = grant.low_water;
        self.stand(grant.ttl_ms, asked_at);
        self.rate_since_ms = now;
        self.rate_base = self.used.saturating_add(self.in_flight.units);
        self.refused_need = 0;
        self.quota_total = grant.free_quota.total;
        self.quota_resets_ms = resets_at(grant.free_quota.resets_in_s, now);
        if grant.is_final {
            // Asking ahead of need again would only be refused; the next call that lacks units asks.
            self.low_water = 0;
        }
    }

    /// Moves the deadline to `ttl_ms` after the question, unless a later question was answered already.
    pub fn stand(&mut self, ttl_ms: u64, asked_at: u64) {
        if self.heard_ms <= asked_at {
            self.heard_ms = asked_at;
            self.deadline_ms = asked_at.saturating_add(ttl_ms);
            self.renew_at_ms = asked_at.saturating_add(ttl_ms >> 1);
        }
    }

    /// Takes in what the sidecar made of a report: `reported` is the `used + returned` that was sent.
    pub fn acknowledge(&mut self, reported: u64, ack: &Ack, asked_at: u64) {
        self.acked = self.acked.max(reported);
        if ack.open {
            self.stand(ack.ttl_ms, asked_at);
        } else {
            // What it still held went back to the account already.
            self.gone = true;
            self.closing = true;
            self.granted =
                self.used.saturating_add(self.returned).saturating_add(self.in_flight.units);
        }
    }

    /// Whether nothing of the lease needs to be remembered: the sidecar has booked its end, and no grant that was made
    /// before can still arrive.
    pub fn is_over(&self, now: u64) -> bool {
        self.gone
            && self.in_flight.units == 0
            && !self.has_unreported()
            && self.asked_until_ms <= now
    }

    /// Whether a grant may bring the lease back to life.
    pub fn may_revive(&self) -> bool {
        !self.ended && !self.gone
    }

    /// Notes that a question about the key was asked, which may be answered until then, and for how many units of this
    /// record.
    pub fn note_question(&mut self, until_ms: u64, units: u64, now: u64) {
        self.asked_units = self.noted_units(now).saturating_add(units);
        self.asked_until_ms = self.asked_until_ms.max(until_ms);
    }

    /// Units that answers may still bring.
    pub fn noted_units(&self, now: u64) -> u64 {
        if now < self.asked_until_ms { self.asked_units } else { 0 }
    }

    /// Gives units back at once that nobody asked for: the reply to a lost message brought them along.
    pub fn hand_back(&mut self, units: u64) {
        self.returned = self.returned.saturating_add(units.min(self.remaining()));
        self.free_left = self.free_left.min(self.remaining());
    }

    /// The price of a unit, as far as anybody has heard of it; `price` is the key's own.
    pub fn known_price(&self, price: Option<Nanos>) -> Option<Nanos> {
        if self.lease != 0 {
            return Some(self.price);
        }
        price.or((self.price != Nanos::ZERO).then_some(self.price))
    }

    /// Units lent and not acknowledged as used or given back.
    pub fn lent_units(&self) -> u64 {
        self.granted.saturating_sub(self.acked)
    }

    /// The paid ones among them, at most: free units are used first, but come back last.
    pub fn lent_paid(&self) -> u64 {
        self.lent_units().min(self.granted.saturating_sub(self.granted_free))
    }

    /// The paid ones among the units of the lease that were drawn and are not acknowledged.
    pub fn unreported_paid(&self) -> u64 {
        self.unreported_of_lease().min(self.used.saturating_sub(self.granted_free))
    }

    /// Notes that the lease is ending with the next report, if nothing stands against it.
    pub fn end_if_possible(&mut self, now: u64) {
        if self.may_end(now) {
            self.ended = true;
        }
    }

    /// Gives back what no call is using because others need it, and does not ask for more ahead of need.
    pub fn yield_units(&mut self) {
        self.give_back();
        self.low_water = 0;
    }

    /// Remembers a refusal.
    pub fn remember(&mut self, refusal: &Refusal, now: u64) {
        self.refused_need = refusal.min;
        self.refused_until_ms = now.saturating_add(refusal.retry_after_ms.min(REFUSAL_MEMORY_MS));
        self.refused_code = u64::from(refusal.code);
        self.refused_available = refusal.available;
        self.refused_free = refusal.free_quota.remaining;
        self.quota_total = refusal.free_quota.total;
        self.quota_resets_ms = resets_at(refusal.free_quota.resets_in_s, now);
        if let Some(price) = refusal.price {
            self.price = price;
        }
    }

    /// Gives back what no call is using.
    pub fn give_back(&mut self) {
        self.returned = self.returned.saturating_add(self.remaining());
        self.free_left = 0;
    }

    /// Stops drawing for good and gives back what no call is using.
    pub fn close(&mut self) {
        self.closing = true;
        self.give_back();
    }

    /// Whether the sidecar may be told that the lease has ended: no call runs on it, and no grant can still arrive.
    pub fn may_end(&self, now: u64) -> bool {
        self.lease != 0 && self.closing && self.in_flight.units == 0 && self.asked_until_ms <= now
    }

    /// Whether the lease needs to be renewed to stand any longer.
    pub fn is_due_for_renewal(&self, now: u64) -> bool {
        self.lease != 0 && self.renew_at_ms <= now
    }

    /// The totals to report.
    pub fn usage(&self) -> Usage {
        Usage { used: self.used, returned: self.returned, close: self.ended }
    }

    /// Whether the sidecar has not acknowledged everything yet.
    pub fn has_unreported(&self) -> bool {
        self.lease != 0 && self.acked < self.used.saturating_add(self.returned)
    }

    /// Units drawn from the lease or allowed without one, that the sidecar does not know of.
    pub fn unreported_units(&self) -> u64 {
        let journal = self.journal.used.saturating_sub(self.journal.acked);
        self.unreported_of_lease().saturating_add(journal)
    }

    fn unreported_of_lease(&self) -> u64 {
        let unacked = self.used.saturating_add(self.returned).saturating_sub(self.acked);
        unacked.min(self.used)
    }

    /// Whether nothing would be lost with the record.
    pub fn is_disposable(&self, now: u64) -> bool {
        self.lease == 0
            && self.asked_until_ms <= now
            && self.refused_until_ms <= now
            && !self.journal.has_unreported()
            && self.journal.in_flight.units == 0
    }

    /// Forgets a lease that has ended, and keeps the journal. The record stays closed: another one may have taken its
    /// place for new calls.
    pub fn forget_lease(&mut self) {
        *self = Self {
            closing: self.closing,
            asked_until_ms: self.asked_until_ms,
            asked_units: self.asked_units,
            refused_need: self.refused_need,
            refused_until_ms: self.refused_until_ms,
            refused_code: self.refused_code,
            refused_available: self.refused_available,
            refused_free: self.refused_free,
            quota_total: self.quota_total,
            quota_resets_ms: self.quota_resets_ms,
            price: self.price,
            last_draw_ms: self.last_draw_ms,
            journal: self.journal,
            queued: self.queued,
            ..Self::default()
        };
    }
}

fn resets_at(seconds: u64, now: u64) -> u64 {
    now.saturating_add(seconds.saturating_mul(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use farebox_core::wire::{FreeQuota, LeaseKey};
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn grant(lease: u64, free_units: u64, paid_units: u64) -> Grant {
        Grant {
            lease,
            key: LeaseKey {
                account: "u".parse().unwrap(),
                service: "s".parse().unwrap(),
                price: None,
            },
            free_units,
            paid_units,
            price: Nanos::new(5),
            ttl_ms: 10_000,
            low_water: 4,
            is_final: false,
            free_quota: FreeQuota::default(),
        }
    }

    fn granted(free: u64, paid: u64) -> Record {
        let mut record = Record::default();
        record.accept(&grant(7, free, paid), 0, 0);
        record
    }

    #[test]
    fn a_draw_takes_free_units_first_and_says_what_is_lacking() {
        let mut record = granted(2, 2);
        let drawn = record.draw(3, ChargeOn::Request, 1).unwrap();
        assert_eq!((drawn.free, drawn.paid, record.used), (2, 1, 3));
        assert_eq!(record.draw(3, ChargeOn::Request, 1), Err(2));
        assert_eq!(record.used, 3, "a draw that fails takes nothing");
    }

    #[test]
    fn nothing_is_drawn_at_or_after_the_deadline() {
        let mut record = granted(0, 5);
        assert!(record.draw(1, ChargeOn::Request, 9_999).is_ok());
        assert_eq!(record.draw(1, ChargeOn::Request, 10_000), Err(1));
    }

    #[test]
    fn the_deadline_counts_from_when_the_lease_was_asked_for() {
        let mut record = Record::default();
        record.accept(&grant(7, 0, 5), 1_000, 4_000);
        assert_eq!(record.deadline_ms, 11_000);
    }

    #[test]
    fn units_of_a_failed_call_come_back_and_those_of_a_good_one_are_used() {
        let mut record = granted(1, 1);
        let drawn = record.draw(2, ChargeOn::Success, 1).unwrap();
        assert_eq!((record.used, record.remaining()), (0, 0));
        record.finish(2, drawn.free, 0, false);
        assert_eq!((record.used, record.remaining(), record.free_left), (0, 2, 1));
        record.draw(2, ChargeOn::Success, 1).unwrap();
        record.finish(2, 1, 0, true);
        assert_eq!((record.used, record.remaining()), (2, 0));
    }

    #[test]
    fn an_older_or_repeated_grant_changes_nothing() {
        let mut record = granted(2, 2);
        record.accept(&grant(7, 2, 8), 0, 0);
        let before = record;
        record.accept(&grant(7, 2, 2), 0, 0);
        assert_eq!((record.granted, record.free_left), (before.granted, before.free_left));
    }

    #[test]
    fn a_closing_lease_gives_back_everything_but_what_calls_are_using() {
        let mut record = granted(3, 3);
        record.draw(1, ChargeOn::Request, 0).unwrap();
        record.draw(2, ChargeOn::Success, 0).unwrap();
        record.close();
        record.end_if_possible(0);
        assert_eq!(record.usage(), Usage { used: 1, returned: 3, close: false });
        record.finish(2, 2, 0, false);
        record.end_if_possible(0);
        assert_eq!(record.usage(), Usage { used: 1, returned: 5, close: true });
    }

    #[test]
    fn a_lease_does_not_end_while_an_answer_about_it_may_arrive() {
        let mut record = granted(0, 3);
        record.note_question(500, 3, 0);
        record.note_question(400, 2, 0);
        record.close();
        record.end_if_possible(499);
        assert!(record.may_revive());
        record.end_if_possible(500);
        assert!(!record.may_revive());
    }

    #[test]
    fn a_lease_that_the_sidecar_does_not_know_is_over_once_its_usage_is_told() {
        let mut record = granted(0, 3);
        record.draw(1, ChargeOn::Request, 0).unwrap();
        let gone = Ack { lease: 7, used: 0, open: false, ttl_ms: 0 };
        record.acknowledge(0, &gone, 0);
        assert!(!record.is_over(0), "one unit was used after the report");
        record.asked_until_ms = 500;
        record.acknowledge(1, &gone, 0);
        assert!(!record.is_over(499), "a grant may still arrive");
        assert!(record.is_over(500));
    }

    #[test]
    fn units_that_others_need_are_not_asked_for_again_at_once() {
        let mut record = granted(0, 10);
        record.yield_units();
        assert_eq!((record.returned, record.wants_refill(0)), (10, false));
    }

    #[test]
    fn a_refusal_is_remembered_for_half_a_second_and_only_for_as_many_units() {
        let mut record = granted(0, 2);
        let refusal = Refusal {
            key: grant(7, 0, 0).key,
            min: 3,
            soon: false,
            code: 190_102,
            retry_after_ms: 60_000,
            available: Nanos::ZERO,
            price: None,
            free_quota: FreeQuota::default(),
        };
        record.remember(&refusal, 100);
        assert!(record.refuses(3, 599) && record.refuses(4, 599));
        assert!(!record.refuses(2, 599), "fewer units might still be granted");
        assert!(!record.refuses(3, 600), "then it is asked again");
    }

    #[test]
    fn calls_allowed_without_a_lease_are_bounded_by_what_is_not_yet_acknowledged() {
        let mut journal = Journal::default();
        assert!(journal.allow(2, ChargeOn::Request, 3, 9));
        assert!(!journal.allow(2, ChargeOn::Request, 3, 8));
        assert!(journal.allow(1, ChargeOn::Success, 3, 8));
        let in_flight = Running { units: 1, ..Running::default() };
        assert_eq!(journal, Journal { line: 9, used: 2, in_flight, acked: 0 });
        assert!(!journal.allow(1, ChargeOn::Request, 3, 8), "a running call counts");
        journal.finish(1, 0, true);
        journal.acked = 3;
        assert!(journal.allow(3, ChargeOn::Request, 3, 8));
    }

    #[test]
    fn the_wish_is_two_seconds_of_traffic() {
        let mut record = granted(0, 1_000);
        for _ in 0..50 {
            record.draw(1, ChargeOn::Request, 100).unwrap();
        }
        assert_eq!(record.wish(16, 500), 200);
        assert_eq!(record.wish(300, 500), 300);
    }

    #[cfg(not(target_family = "wasm"))]
    proptest::proptest! {
        /// The model adds up what was drawn and what came back.
        #[test]
        fn no_unit_is_drawn_twice_or_lost(
            steps in proptest::collection::vec((0..6_u8, 1..5_u64), 0..60),
        ) {
            let mut record = granted(5, 5);
            let (mut granted, mut used, mut running) = (10, 0, Vec::new());
            for (step, units) in steps {
                match step {
                    0 => used += record.draw(units, ChargeOn::Request, 1).map_or(0, |_| units),
                    1 => if let Ok(drawn) = record.draw(units, ChargeOn::Success, 1) {
                        running.push((units, drawn.free));
                    },
                    2 => if let Some((units, free)) = running.pop() {
                        record.finish(units, free, 0, true);
                        used += units;
                    },
                    3 => if let Some((units, free)) = running.pop() {
                        record.finish(units, free, 0, false);
                    },
                    4 => {
                        granted += units;
                        record.accept(&grant(7, 5, granted - 5), 0, 1);
                    }
                    _ => record.give_back(),
                }
                let in_flight: u64 = running.iter().map(|(units, _)| units).sum();
                proptest::prop_assert_eq!(record.used, used);
                proptest::prop_assert_eq!(record.in_flight.units, in_flight);
                proptest::prop_assert_eq!(
                    record.granted,
                    record.used + record.in_flight.units + record.returned + record.remaining()
                );
            }
        }
    }
}

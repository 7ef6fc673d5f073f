//! The sidecar's side of a lease: what was granted, used, given back, and what each report changes.
//!
//! Reports carry totals since the lease began, so a repeated or an older report changes nothing: every quantity only
//! grows, and the larger of two values wins.

use crate::grant::Split;

/// Who bears what a silent gateway had drawn and not reported when its lease was taken back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnLost {
    /// The operator: only what was reported is charged, the rest goes back to the account.
    #[default]
    Reported,
    /// The account: all that was granted and not given back is charged, until the gateway says what it used.
    Granted,
}

impl OnLost {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Granted => "granted",
        }
    }
}

/// The units of one lease, by kind. `used + returned + lost <= granted`, bucket by bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lease {
    /// Set aside for the gateway since the lease began.
    pub granted: Split,
    /// Charged from what was set aside.
    pub used: Split,
    /// Given back to the account: by the gateway, or by the sidecar when the lease ran out.
    pub returned: Split,
    /// Charged when the lease was taken back, although nobody had reported it.
    pub lost: Split,
    /// Of what was lost, units that no report has named since.
    pub untold: u64,
    /// Charged although it had been given back already: usage that arrived after the lease ran out.
    pub late: u64,
    /// Whether the gateway may still spend from it.
    pub open: bool,
}

/// What a gateway says about a lease, in totals since the lease began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Units of calls that are to be charged.
    pub used: u64,
    /// Units given back unused.
    pub returned: u64,
    /// Whether the gateway will not spend from the lease any more; what is neither used nor returned comes back too.
    pub close: bool,
}

/// What a report changed; all zero for a repeat.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settled {
    /// Newly charged from what the lease held.
    pub used: Split,
    /// Newly released to the account.
    pub released: Split,
    /// Newly charged beyond what the lease still held: to be taken from the account's free quota, balance, or owed.
    pub late: u64,
}

/// What became of the units that a lease held when it was taken back from a silent gateway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Released to the account.
    pub released: Split,
    /// Charged, as far as anybody knows they were used.
    pub lost: Split,
}

impl Lease {
    /// Units still set aside: held in the account's rows.
    pub fn outstanding(self) -> Split {
        self.granted.minus(self.used).minus(self.returned).minus(self.lost)
    }

    /// Units charged so far, however they were paid.
    pub fn charged(self) -> u64 {
        self.reported().saturating_add(self.lost.total())
    }

    /// Units that were charged because the gateway said it used them.
    fn reported(self) -> u64 {
        self.used.total().saturating_add(self.late)
    }

    /// The most units that the gateway has said it used.
    fn told(self) -> u64 {
        self.charged().saturating_sub(self.untold)
    }

    /// Adds units to an open lease.
    pub fn extend(&mut self, units: Split) {
        self.granted = self.granted.plus(units);
    }

    /// Takes a report in. Usage is charged up to what was ever granted, never more.
    pub fn settle(&mut self, report: Usage) -> Settled {
        let chargeable = report.used.min(self.granted.total());
        let newly_used = chargeable.saturating_sub(self.charged());
        let used = self.outstanding().take_free_first(newly_used);
        self.used = self.used.plus(used);
        let late = newly_used.saturating_sub(used.total());
        self.late = self.late.saturating_add(late);

        let newly_returned = report.returned.saturating_sub(self.returned.total());
        let mut released = self.outstanding().take_paid_first(newly_returned);
        self.returned = self.returned.plus(released);
        if report.close {
            released = released.plus(self.close());
        }
        Settled { used, released, late }
    }

    /// Takes the lease back from a gateway that fell silent.
    pub fn reclaim(&mut self, on_lost: OnLost) -> Reclaimed {
        match on_lost {
            OnLost::Reported => Reclaimed { released: self.close(), lost: Split::NONE },
            OnLost::Granted => {
                let lost = self.outstanding();
                self.lost = self.lost.plus(lost);
                self.untold = self.untold.saturating_add(lost.total());
                self.open = false;
                Reclaimed { released: Split::NONE, lost }
            }
        }
    }

    /// Corrects what was charged as lost, once the gateway is heard again: what it says it used is what is charged in the
    /// end. Units of calls that still run stay charged until they are reported. A report that was sent before what is known
    /// takes none of it back. Call it after [`Self::settle`]; the units that come back.
    ///
    /// The gateway is told that the lease has ended, so every report may be the last one. Should it report more later, that
    /// is charged late.
    pub fn correct(&mut self, report: Usage, in_flight: u64) -> Split {
        let named = report.used.saturating_sub(self.told());
        self.untold = self.untold.saturating_sub(named);
        let running = if report.close { 0 } else { in_flight };
        let back = self.lost.take_paid_first(self.untold.saturating_sub(running));
        self.untold = self.untold.saturating_sub(back.total());
        self.lost = self.lost.minus(back);
        self.returned = self.returned.plus(back);
        back
    }

    /// Ends the lease and gives back what it still holds.
    pub fn close(&mut self) -> Split {
        let released = self.outstanding();
        self.returned = self.returned.plus(released);
        self.open = false;
        released
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn lease(free: u64, paid: u64) -> Lease {
        Lease { granted: Split { free, paid }, open: true, ..Lease::default() }
    }

    fn used(used: u64) -> Usage {
        Usage { used, ..Usage::default() }
    }

    #[test]
    fn usage_takes_the_free_units_of_the_lease_first() {
        let mut lease = lease(2, 5);
        assert_eq!(lease.settle(used(3)).used, Split { free: 2, paid: 1 });
        assert_eq!(lease.settle(used(4)).used, Split { free: 0, paid: 1 });
    }

    #[test]
    fn a_repeated_or_older_report_changes_nothing() {
        let mut lease = lease(0, 10);
        lease.settle(Usage { used: 6, returned: 2, close: false });
        let before = lease;
        for report in [used(6), used(3), Usage { used: 6, returned: 2, close: false }] {
            assert_eq!(lease.settle(report), Settled::default());
            assert_eq!(lease, before);
        }
    }

    #[test]
    fn usage_beyond_the_grant_is_never_charged() {
        let mut lease = lease(1, 1);
        assert_eq!(
            lease.settle(used(99)),
            Settled { used: Split { free: 1, paid: 1 }, ..Settled::default() }
        );
        assert_eq!(lease.charged(), 2);
    }

    #[test]
    fn usage_that_arrives_after_the_lease_ran_out_is_late_and_charged_once() {
        let mut lease = lease(0, 10);
        lease.settle(used(4));
        assert_eq!(lease.close(), Split { free: 0, paid: 6 });
        assert_eq!(lease.settle(used(7)), Settled { late: 3, ..Settled::default() });
        assert_eq!(lease.settle(used(7)), Settled::default());
        assert_eq!(
            lease.settle(used(99)),
            Settled { late: 3, ..Settled::default() },
            "up to what was granted"
        );
    }

    #[test]
    fn money_comes_back_before_free_units() {
        let mut lease = lease(3, 3);
        let settled = lease.settle(Usage { used: 1, returned: 4, close: false });
        assert_eq!(settled.released, Split { free: 1, paid: 3 });
        let settled = lease.settle(Usage { used: 1, returned: 4, close: true });
        assert_eq!((settled.released, lease.open), (Split { free: 1, paid: 0 }, false));
    }

    #[test]
    fn what_was_lost_is_charged_until_the_gateway_says_what_it_used() {
        let mut lease = lease(2, 8);
        lease.settle(Usage { used: 3, returned: 1, close: false });
        let lost = Split { free: 0, paid: 6 };
        assert_eq!(lease.reclaim(OnLost::Granted), Reclaimed { released: Split::NONE, lost });
        assert_eq!((lease.charged(), lease.outstanding()), (9, Split::NONE));

        // It used 5, and 2 calls still run.
        let report = used(5);
        assert_eq!(lease.settle(report), Settled::default());
        assert_eq!(lease.correct(report, 2), Split { free: 0, paid: 2 });
        assert_eq!(lease.charged(), 7);
        // The same again, then one of them ended well and the other did not.
        assert_eq!(
            (lease.settle(report), lease.correct(report, 2)),
            (Settled::default(), Split::NONE)
        );
        let last = Usage { used: 6, returned: 2, close: true };
        assert_eq!(lease.settle(last), Settled::default());
        assert_eq!(lease.correct(last, 0), Split { free: 0, paid: 1 });
        assert_eq!(lease.charged(), 6);
        assert_eq!(lease.granted, lease.used.plus(lease.returned).plus(lease.lost));
    }

    #[test]
    fn free_units_of_what_was_lost_are_those_that_were_used() {
        let mut lease = lease(2, 2);
        lease.reclaim(OnLost::Granted);
        let report = Usage { used: 1, returned: 0, close: true };
        lease.settle(report);
        assert_eq!(lease.correct(report, 0), Split { free: 1, paid: 2 });
        assert_eq!(lease.lost, Split { free: 1, paid: 0 });
    }

    #[test]
    fn a_lease_that_was_taken_back_has_ended_whoever_bears_it() {
        for on_lost in [OnLost::Reported, OnLost::Granted] {
            let mut lease = lease(1, 1);
            lease.reclaim(on_lost);
            assert_eq!((lease.open, lease.outstanding()), (false, Split::NONE), "{on_lost:?}");
        }
    }

    #[test]
    fn units_of_running_calls_stay_charged_also_after_an_older_report_and_until_the_last() {
        let mut lease = lease(0, 10);
        lease.settle(used(5));
        lease.reclaim(OnLost::Granted);
        // It was sent before what is known, and says less; two calls ran then.
        assert_eq!(lease.correct(used(3), 2), Split { free: 0, paid: 3 });
        assert_eq!(lease.charged(), 7);
        // The last report has nothing that runs, whatever it says.
        let last = Usage { close: true, ..used(5) };
        assert_eq!(lease.correct(last, 2), Split { free: 0, paid: 2 });
        assert_eq!(lease.charged(), 5);
    }

    #[test]
    fn an_older_report_takes_back_nothing_that_a_newer_one_named() {
        let mut lease = lease(0, 10);
        lease.settle(used(2));
        lease.reclaim(OnLost::Granted);
        assert_eq!(lease.correct(used(6), 0), Split { free: 0, paid: 4 });
        assert_eq!((lease.correct(used(3), 0), lease.charged()), (Split::NONE, 6));
        assert_eq!(lease.settle(used(7)), Settled { late: 1, ..Settled::default() });
    }

    #[test]
    fn what_a_gateway_used_after_it_was_corrected_is_charged_late() {
        let mut lease = lease(0, 10);
        lease.reclaim(OnLost::Granted);
        assert_eq!(
            (lease.settle(used(4)), lease.correct(used(4), 0).total()),
            (Settled::default(), 6)
        );
        assert_eq!(lease.settle(used(7)), Settled { late: 3, ..Settled::default() });
        assert_eq!((lease.correct(used(7), 0), lease.charged()), (Split::NONE, 7));
    }

    #[cfg(not(target_family = "wasm"))]
    proptest::proptest! {
        /// Reports in any order, some twice, some never, and a reclaim anywhere: when the last report has arrived, before or
        /// after older ones, what it says is charged, and as long as none arrives after the reclaim, all that had not come
        /// back is.
        #[test]
        fn what_was_lost_ends_in_the_truth(
            free in 0..20_u64,
            paid in 0..20_u64,
            steps in proptest::collection::vec((0..5_u64, 0..3_u64, 0..3_u64), 1..10),
            order in proptest::collection::vec(0..10_usize, 0..20),
            reclaim_after in 0..25_usize,
            last_at in proptest::option::of(0..20_usize),
        ) {
            let is_heard_again = last_at.is_some();
            let mut truth = Usage::default();
            let mut history = Vec::new();
            for (spent, given_back, running) in steps {
                let left = free + paid - truth.used - truth.returned;
                truth.used += spent.min(left);
                truth.returned += given_back.min(left - spent.min(left));
                history.push((truth, running));
            }
            let mut lease = lease(free, paid);
            let (mut charged, mut refunded) = (0, 0);
            let last = (Usage { close: true, ..truth }, 0);
            let deliveries = order.iter().map(|&index| history[index % history.len()]);
            let mut deliveries: Vec<_> = deliveries.collect();
            if let Some(at) = last_at {
                deliveries.insert(at.min(deliveries.len()), last);
            }
            let reclaim_after = if is_heard_again { reclaim_after } else { deliveries.len() };
            for index in 0..=deliveries.len() {
                if index == reclaim_after && lease.open {
                    charged += lease.reclaim(OnLost::Granted).lost.total();
                    proptest::prop_assert_eq!(lease.charged(), lease.granted.minus(lease.returned).total());
                }
                let Some(&(report, running)) = deliveries.get(index) else { break };
                let settled = lease.settle(report);
                charged += settled.used.total() + settled.late;
                refunded += lease.correct(report, running).total();
                let parts = lease.used.plus(lease.returned).plus(lease.lost).plus(lease.outstanding());
                proptest::prop_assert_eq!(lease.granted, parts);
                proptest::prop_assert!(lease.charged() <= lease.granted.total());
                proptest::prop_assert_eq!(charged - refunded, lease.charged());
            }
            if is_heard_again {
                proptest::prop_assert_eq!(lease.charged(), truth.used);
            }
        }

        /// The model: a gateway's true totals. The sidecar sees its reports in any order, some twice, some never, and
        /// at the end the last one.
        #[test]
        fn any_order_of_reports_ends_in_the_same_charge(
            free in 0..20_u64,
            paid in 0..20_u64,
            steps in proptest::collection::vec((0..5_u64, 0..3_u64), 1..10),
            order in proptest::collection::vec(0..10_usize, 0..20),
            reclaim_after in 0..25_usize,
        ) {
            let mut truth = Usage::default();
            let mut history = Vec::new();
            for (spent, given_back) in steps {
                let left = free + paid - truth.used - truth.returned;
                truth.used += spent.min(left);
                truth.returned += given_back.min(left - spent.min(left));
                history.push(truth);
            }
            let mut lease = lease(free, paid);
            let mut charged = 0;
            let deliveries = order.iter().map(|&index| history[index % history.len()]).chain([truth]);
            for (index, report) in deliveries.enumerate() {
                if index == reclaim_after {
                    lease.close();
                }
                let settled = lease.settle(report);
                charged += settled.used.total() + settled.late;
                proptest::prop_assert_eq!(lease.granted, lease.used.plus(lease.returned).plus(lease.outstanding()));
            }
            proptest::prop_assert_eq!(charged, truth.used);
            proptest::prop_assert_eq!(lease.charged(), truth.used);
        }
    }
}

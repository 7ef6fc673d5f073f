//! The sidecar's side of a lease: what was granted, used, given back, and what each report changes.
//!
//! Reports carry totals since the lease began, so a repeated or an older report changes nothing: every quantity only
//! grows, and the larger of two values wins.

use crate::grant::Split;

/// The units of one lease, by kind. `used + returned <= granted`, bucket by bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lease {
    /// Set aside for the gateway since the lease began.
    pub granted: Split,
    /// Charged from what was set aside.
    pub used: Split,
    /// Given back to the account: by the gateway, or by the sidecar when the lease ran out.
    pub returned: Split,
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

impl Lease {
    /// Units still set aside: held in the account's rows.
    pub fn outstanding(self) -> Split {
        self.granted.minus(self.used).minus(self.returned)
    }

    /// Units charged so far, however they were paid.
    pub fn charged(self) -> u64 {
        self.used.total().saturating_add(self.late)
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

    /// Ends the lease and gives back what it still holds; also what the sidecar does when a gateway fell silent.
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

    #[cfg(not(target_family = "wasm"))]
    proptest::proptest! {
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

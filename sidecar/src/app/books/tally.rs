//! What is counted of a transaction once it is committed: only then it has happened.

use std::collections::BTreeMap;

use farebox_core::charge::PaidBy;
use farebox_core::grant::Split;
use farebox_core::id::ServiceName;
use farebox_core::money::Nanos;

use crate::app::App;
use crate::app::books::Books;
use crate::metrics;

/// What was charged to one service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Charged {
    records: u64,
    units: Split,
    /// Money that was taken; what is owed is none.
    taken: Nanos,
}

/// What the books of a transaction did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::app) struct Tally {
    charged: BTreeMap<(ServiceName, &'static str), Charged>,
    refunded: BTreeMap<ServiceName, (Split, Nanos)>,
    /// The most that was lost with leases that were taken back: what they held.
    lost_units: u64,
    lost_amount: Nanos,
}

impl Tally {
    pub(super) fn charge(
        &mut self,
        service: &ServiceName,
        paid_by: PaidBy,
        units: Split,
        taken: Nanos,
    ) {
        let charged = self.charged.entry((service.clone(), paid_by.as_str())).or_default();
        charged.records += 1;
        charged.units.free = charged.units.free.saturating_add(units.free);
        charged.units.paid = charged.units.paid.saturating_add(units.paid);
        charged.taken = charged.taken.checked_add(taken).unwrap_or(charged.taken);
    }

    /// Units and money of a charge go back.
    pub(super) fn refund(&mut self, service: &ServiceName, units: Split, amount: Nanos) {
        let (all, sum) = self.refunded.entry(service.clone()).or_default();
        *all = all.plus(units);
        *sum = sum.checked_add(amount).unwrap_or(*sum);
    }

    pub(super) fn lose(&mut self, units: u64, amount: Nanos) {
        self.lost_units = self.lost_units.saturating_add(units);
        self.lost_amount = self.lost_amount.checked_add(amount).unwrap_or(self.lost_amount);
    }

    /// Counts it.
    pub(in crate::app) fn count(self, app: &App) {
        metrics::lease_lost(app.settings.on_lost, self.lost_units, self.lost_amount);
        for (service, (units, amount)) in self.refunded {
            metrics::charge_refunded(&app.services.label(&service), units, amount);
        }
        for ((service, paid_by), Charged { records, units, taken }) in self.charged {
            let service = app.services.label(&service);
            metrics::charged(&service, paid_by, records, units, taken);
        }
    }
}

impl Books {
    /// What these books did so far.
    pub(in crate::app) fn tally(&self) -> Tally {
        self.tally.clone()
    }
}

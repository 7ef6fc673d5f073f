//! Accounts and charges of the sidecar in memory.

use std::collections::BTreeMap;

use farebox_core::grant::Split;
use farebox_core::id::{AccountId, ServiceName};
use farebox_core::money::Nanos;

/// An account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// Money, held money included.
    pub balance: Nanos,
    /// Money that leases hold.
    pub held: Nanos,
    /// Money that was owed when there was none.
    pub receivable: Nanos,
    quotas: BTreeMap<ServiceName, Quota>,
}

/// A month's free units of one service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    /// Units per month.
    pub total: u64,
    /// Units used.
    pub used: u64,
    /// Units that leases hold.
    pub held: u64,
}

impl Quota {
    /// Units neither used nor held.
    pub fn left(self) -> u64 {
        self.total.saturating_sub(self.used).saturating_sub(self.held)
    }
}

/// Units charged by one item of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// To whom.
    pub account: AccountId,
    /// For what.
    pub service: ServiceName,
    /// How many.
    pub units: u64,
    /// On which ground.
    pub kind: Kind,
}

/// The ground of a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Units of a lease.
    Lease,
    /// Units of a lease that had run out when the report arrived.
    Late,
    /// Units without a lease.
    Journal,
    /// Units of a call that the sidecar decided.
    Deduct,
}

impl Account {
    /// The month's free units of a service.
    pub fn free(&self, service: &str) -> Quota {
        let name: ServiceName = service.parse().expect("tests use valid names");
        self.quotas.get(&name).copied().unwrap_or_default()
    }

    /// Money that no lease holds.
    pub fn available(&self) -> Nanos {
        self.balance.checked_sub(self.held).expect("amounts are small")
    }

    pub(crate) fn quota(&mut self, service: &ServiceName) -> &mut Quota {
        self.quotas.entry(service.clone()).or_default()
    }

    pub(crate) fn hold(&mut self, service: &ServiceName, price: Nanos, units: Split) {
        self.quota(service).held += units.free;
        self.held = self.held.checked_add(worth(price, units.paid)).expect("amounts are small");
    }

    pub(crate) fn release(&mut self, service: &ServiceName, price: Nanos, units: Split) {
        self.quota(service).held -= units.free;
        self.held = self.held.checked_sub(worth(price, units.paid)).expect("amounts are small");
    }

    pub(crate) fn pay(&mut self, price: Nanos, units: u64) {
        self.balance = self.balance.checked_sub(worth(price, units)).expect("amounts are small");
    }

    pub(crate) fn owe(&mut self, price: Nanos, units: u64) {
        self.receivable =
            self.receivable.checked_add(worth(price, units)).expect("amounts are small");
    }

    pub(crate) fn check(&self, id: &AccountId) {
        assert!(Nanos::ZERO <= self.held, "account {id} holds {}", self.held);
        assert!(self.held <= self.balance, "account {id} holds {} of {}", self.held, self.balance);
        for (service, quota) in &self.quotas {
            assert!(
                quota.used + quota.held <= quota.total,
                "free quota of {id} for {service}: {quota:?}"
            );
        }
    }
}

fn worth(price: Nanos, units: u64) -> Nanos {
    price.checked_mul(units).expect("amounts are small")
}

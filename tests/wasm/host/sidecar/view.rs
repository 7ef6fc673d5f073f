//! What tests can see of the sidecar's books.

use farebox_core::id::AccountId;
use farebox_core::wire::SyncRequest;

use super::{Account, Charge, FakeSidecar, name};

impl FakeSidecar {
    /// An account; a new one when nobody has heard of it.
    pub fn account(&self, account: &str) -> Account {
        self.accounts.get(&name(account)).cloned().unwrap_or_default()
    }

    /// Units charged to an account, however they were paid, less those that came back.
    pub fn charged(&self, account: &str) -> u64 {
        let refunded = self.refunded(account);
        let account: AccountId = name(account);
        let of_account = self.charges.iter().filter(|charge| charge.account == account);
        of_account.map(|charge| charge.units).sum::<u64>() - refunded
    }

    /// Everything that was charged, in order.
    pub fn charges(&self) -> &[Charge] {
        &self.charges
    }

    /// Every message that was taken in, in order; repeats are not.
    pub fn requests(&self) -> &[SyncRequest] {
        &self.requests
    }

    /// Numbers of an account's open leases.
    pub fn open_leases(&self, account: &str) -> Vec<u64> {
        let account: AccountId = name(account);
        let of_account = self
            .leases
            .iter()
            .filter(|(_, lease)| lease.units.open && lease.key.account == account);
        of_account.map(|(number, _)| *number).collect()
    }

    /// Units granted over all leases of an account.
    pub fn granted(&self, account: &str) -> u64 {
        let account: AccountId = name(account);
        let leases = self.leases.values().filter(|lease| lease.key.account == account);
        leases.map(|lease| lease.units.granted.total()).sum()
    }

    /// Units that a lease still holds.
    pub fn outstanding(&self, lease: u64) -> u64 {
        self.leases.get(&lease).map_or(0, |lease| lease.units.outstanding().total())
    }
}

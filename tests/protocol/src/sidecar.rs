//! What a history needs of a sidecar, and what its books say.

use std::collections::BTreeMap;

use farebox_core::lease::Lease;

/// How long a lease stands, in milliseconds.
pub const TTL_MS: u64 = 10_000;
/// How long leases of an older process of a gateway stand once a newer one has spoken, in milliseconds.
pub const BOOT_GRACE_MS: u64 = 1_000;
/// The accounts with their money at the beginning, in 1e-9.
pub const ACCOUNTS: [(&str, i64); 2] = [("ann", 80), ("ben", 15)];
/// The services with their price at the beginning, in 1e-9, and their free units per month.
pub const SERVICES: [(&str, i64, u64); 2] = [("asset", 3, 5), ("video", 5, 0)];

/// A sidecar that histories are told to.
pub trait Sidecar {
    /// Takes a message in, at this moment of its own clock; status and body of the answer.
    fn sync(&mut self, body: &[u8]) -> (u32, Vec<u8>);
    /// Time passes.
    fn pass(&mut self, ms: u64);
    /// Leases of silent gateways are taken back.
    fn reclaim(&mut self);
    /// Money comes in.
    fn credit(&mut self, account: &str, nanos: i64);
    /// Nothing of an account may be used from now on, or all of it again.
    fn freeze(&mut self, account: &str, frozen: bool);
    /// A service has another price from now on.
    fn change_price(&mut self, service: &str, nanos: i64);
    /// The month ends now.
    fn end_month(&mut self);
    /// All of the books.
    fn books(&mut self) -> Books;
}

/// The books.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Books {
    /// Money, by account.
    pub accounts: BTreeMap<String, Account>,
    /// Free units, by account, service and month.
    pub quotas: BTreeMap<(String, String, u32), Quota>,
    /// Leases that were ever granted.
    pub leases: BTreeMap<u64, LeaseRow>,
    /// Everything that was charged.
    pub records: Vec<Record>,
}

/// An account's money, in 1e-9.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// What it has.
    pub balance: i64,
    /// What of it leases hold.
    pub held: i64,
    /// What it owes.
    pub receivable: i64,
}

/// A month's free units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    /// All of them.
    pub total: u64,
    /// Used ones.
    pub used: u64,
    /// Those that leases hold.
    pub held: u64,
}

impl Quota {
    /// Neither used nor held.
    pub fn left(self) -> u64 {
        self.total.saturating_sub(self.used).saturating_sub(self.held)
    }
}

/// A lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRow {
    /// Who pays.
    pub account: String,
    /// What for.
    pub service: String,
    /// The month whose free units it holds, counted from 0.
    pub month: u32,
    /// Price per unit, in 1e-9.
    pub price: i64,
    /// Its units.
    pub units: Lease,
}

impl LeaseRow {
    /// Money that it holds.
    pub fn held_money(&self) -> i64 {
        if self.units.open { self.price * self.units.outstanding().paid.cast_signed() } else { 0 }
    }

    /// Free units that it holds.
    pub fn held_free(&self) -> u64 {
        if self.units.open { self.units.outstanding().free } else { 0 }
    }
}

/// A charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// The lease that was used.
    pub lease: u64,
    /// The month that it is booked in.
    pub month: u32,
    /// Price per paid unit, in 1e-9.
    pub price: i64,
    /// Free units.
    pub free: u64,
    /// Paid units.
    pub paid: u64,
    /// What it costs, in 1e-9; what was owed included.
    pub amount: i64,
}

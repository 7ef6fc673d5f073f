//! A sidecar in memory, made of the real rules: grants are decided by [`farebox_core::grant::decide`], reports settled by
//! [`Lease::settle`], and around them it takes the same steps as `sidecar/src/app/sync`, without a database.

use std::collections::{BTreeMap, BTreeSet};

use farebox_core::grant::{Funds, Split};
use farebox_core::lease::{Lease, Settled, Usage};
use farebox_core::money::Nanos;
use farebox_core::wire::LeaseKey;

use crate::sidecar::{BOOT_GRACE_MS, Books, LeaseRow, Quota, Record, SERVICES, Sidecar};

mod message;

/// What a lease is besides its units.
#[derive(Debug, Clone)]
struct Terms {
    gateway: String,
    epoch: u64,
    key: LeaseKey,
    price_version: u32,
    in_flight: u64,
    recall: bool,
    not_after: u64,
    reclaim_at: u64,
}

/// The authority.
#[derive(Debug)]
pub struct Memory {
    now_ms: u64,
    month: u32,
    /// Version and price.
    prices: BTreeMap<String, (u32, i64)>,
    books: Books,
    frozen: BTreeSet<String>,
    terms: BTreeMap<u64, Terms>,
    epochs: BTreeMap<(String, String), u64>,
    /// Message and reply, by gateway, epoch and number.
    replies: BTreeMap<(String, u64, u64), [Vec<u8>; 2]>,
    settle: fn(&mut Lease, Usage) -> Settled,
}

impl Default for Memory {
    fn default() -> Self {
        Self::settling_by(Lease::settle)
    }
}

impl Memory {
    /// With another way to settle reports: a broken one, to see that tests find what goes wrong then.
    pub fn settling_by(settle: fn(&mut Lease, Usage) -> Settled) -> Self {
        let prices = SERVICES.iter().map(|&(service, price, _)| (service.to_owned(), (0, price)));
        Self {
            now_ms: 1_000_000,
            month: 0,
            prices: prices.collect(),
            books: Books::default(),
            frozen: BTreeSet::new(),
            terms: BTreeMap::new(),
            epochs: BTreeMap::new(),
            replies: BTreeMap::new(),
            settle,
        }
    }

    /// The number of a gateway's process. A new one has the leases of those before it recalled.
    fn epoch(&mut self, gateway: &str, instance: &str) -> u64 {
        let place = (gateway.to_owned(), instance.to_owned());
        if let Some(epoch) = self.epochs.get(&place) {
            return *epoch;
        }
        let of_gateway = self.epochs.iter().filter(|((name, _), _)| name == gateway);
        let epoch = 1 + of_gateway.map(|(_, epoch)| *epoch).max().unwrap_or(0);
        for terms in self.terms.values_mut().filter(|terms| terms.gateway == gateway) {
            terms.recall = true;
            terms.reclaim_at = terms.reclaim_at.min(self.now_ms + BOOT_GRACE_MS);
        }
        self.epochs.insert(place, epoch);
        epoch
    }

    fn quota(&mut self, account: &str, service: &str, month: u32) -> &mut Quota {
        let place = (account.to_owned(), service.to_owned(), month);
        self.books.quotas.entry(place).or_insert_with(|| {
            let known = SERVICES.iter().find(|(name, ..)| *name == service);
            Quota { total: known.map_or(0, |&(_, _, free)| free), ..Quota::default() }
        })
    }

    fn funds(&mut self, key: &LeaseKey) -> Funds {
        let (account, service) = (key.account.as_str(), key.service.as_str());
        let month = self.month;
        let row = self.books.accounts.get(account).copied().unwrap_or_default();
        Funds {
            free_units: self.quota(account, service, month).left(),
            available: Nanos::new(row.balance - row.held),
            price: self.prices.get(service).map(|&(_, price)| Nanos::new(price)),
        }
    }

    /// Sets units aside for a lease, or gives them back.
    fn hold(&mut self, lease: u64, units: Split, sign: i64) {
        let LeaseRow { account, service, month, price, .. } = self.books.leases[&lease].clone();
        let quota = self.quota(&account, &service, month);
        quota.held = quota.held.strict_add_signed(sign * units.free.cast_signed());
        let row = self.books.accounts.entry(account).or_default();
        row.held += sign * price * units.paid.cast_signed();
    }

    /// Charges units; nothing holds them any more, or ever did.
    fn charge(&mut self, lease: u64, units: Split) {
        if units == Split::NONE {
            return;
        }
        let LeaseRow { account, service, month, price, .. } = self.books.leases[&lease].clone();
        let amount = price * units.paid.cast_signed();
        self.quota(&account, &service, month).used += units.free;
        let row = self.books.accounts.entry(account).or_default();
        let paid = amount.min((row.balance - row.held).max(0));
        row.balance -= paid;
        row.receivable += amount - paid;
        let Split { free, paid } = units;
        self.books.records.push(Record { lease, month, price, free, paid, amount });
    }

    /// Charges units that were given back before their use was told: free ones, then money, the rest is owed.
    fn charge_late(&mut self, lease: u64, units: u64) {
        let LeaseRow { account, service, month, .. } = self.books.leases[&lease].clone();
        let free = self.quota(&account, &service, month).left().min(units);
        self.charge(lease, Split { free, paid: units - free });
    }

    fn close(&mut self, lease: u64) {
        let row = self.books.leases.get_mut(&lease).expect("a lease that is closed was granted");
        let released = row.units.close();
        self.hold(lease, released, -1);
    }

    fn open_leases(&self) -> impl Iterator<Item = (u64, &LeaseRow, &Terms)> {
        let open = self.books.leases.iter().filter(|(_, row)| row.units.open);
        open.map(|(lease, row)| (*lease, row, &self.terms[lease]))
    }

    /// Ends leases of one service, which are recalled, or of all, which are once they are heard of.
    fn end_terms(&mut self, service: Option<&str>) {
        for terms in self.terms.values_mut() {
            if service.is_none_or(|service| terms.key.service.as_str() == service) {
                terms.not_after = terms.not_after.min(self.now_ms);
                terms.recall |= service.is_some();
            }
        }
    }
}

impl Sidecar for Memory {
    fn sync(&mut self, body: &[u8]) -> (u32, Vec<u8>) {
        self.take_in(body)
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
    }

    fn reclaim(&mut self) {
        let overdue = self.open_leases().filter(|(.., terms)| terms.reclaim_at <= self.now_ms);
        for lease in overdue.map(|(lease, ..)| lease).collect::<Vec<u64>>() {
            self.close(lease);
        }
    }

    fn credit(&mut self, account: &str, nanos: i64) {
        let row = self.books.accounts.entry(account.to_owned()).or_default();
        row.balance += nanos;
        let collected = row.receivable.min((row.balance - row.held).max(0));
        row.receivable -= collected;
        row.balance -= collected;
    }

    fn freeze(&mut self, account: &str, frozen: bool) {
        if !frozen {
            self.frozen.remove(account);
        } else if self.frozen.insert(account.to_owned()) {
            let its = self.terms.values_mut().filter(|terms| terms.key.account.as_str() == account);
            its.for_each(|terms| terms.recall = true);
        }
    }

    fn change_price(&mut self, service: &str, nanos: i64) {
        let (version, price) = self.prices.entry(service.to_owned()).or_default();
        if *price != nanos {
            (*version, *price) = (*version + 1, nanos);
            self.end_terms(Some(service));
        }
    }

    fn end_month(&mut self) {
        self.month += 1;
        self.end_terms(None);
    }

    fn books(&mut self) -> Books {
        self.books.clone()
    }
}

//! What must be true of a sidecar's books, whatever messages did on their way: the model that histories are checked by.
//! It knows what came in: money, messages that reached the sidecar, calls that were forwarded. It decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use farebox_core::wire::{SyncReply, SyncRequest};

use crate::sidecar::{Books, LeaseRow, SERVICES};

/// A gateway process (by its number), who pays, what for.
pub type Key = (usize, String, String);

/// A rule that does not hold.
pub type Broken = String;
/// Whether a rule holds.
pub type Rule = Result<(), Broken>;

/// A lease, as it was granted and told of.
#[derive(Debug, Clone)]
struct Lease {
    key: Key,
    /// Its month and its price.
    terms: (u32, i64),
    granted: u64,
    told: u64,
    back: u64,
    /// Set when it was reclaimed: what its process had drawn of its key by then.
    drawn: Option<u64>,
}

/// What came in.
#[derive(Debug, Clone, Default)]
pub struct Model {
    /// The month, counted from 0.
    pub month: u32,
    /// What services cost now.
    pub prices: BTreeMap<String, i64>,
    /// Money that came in, by account.
    pub credited: BTreeMap<String, i64>,
    /// Accounts that are lent nothing.
    pub frozen: BTreeSet<String>,
    leases: BTreeMap<u64, Lease>,
    /// Units of calls that are to be charged.
    served: BTreeMap<Key, u64>,
}

fn same<T: PartialEq + Debug>(of: impl Debug, what: &str, books: T, model: T) -> Rule {
    if books == model {
        return Ok(());
    }
    Err(format!("{what} of {of:?}: {books:?} in the books, {model:?} by what came in"))
}

fn at_most<T: PartialOrd + Debug>(of: impl Debug, what: &str, is: T, most: T) -> Rule {
    if is <= most { Ok(()) } else { Err(format!("{what} of {of:?}: {is:?}, more than {most:?}")) }
}

impl Model {
    /// Services with their first prices, and nothing else.
    pub fn new() -> Self {
        let prices = SERVICES.iter().map(|&(service, price, _)| (service.to_owned(), price));
        Self { prices: prices.collect(), ..Self::default() }
    }

    /// A call was forwarded, or has succeeded where only successes are charged.
    pub fn serve(&mut self, key: Key, units: u64) {
        *self.served.entry(key).or_default() += units;
    }

    /// A message of a process reached the sidecar, for the first time or again.
    pub fn take_in(&mut self, process: usize, sent: &SyncRequest, reply: &SyncReply) -> Rule {
        for report in &sent.reports {
            let lease = self.leases.get_mut(&report.lease);
            let lease = lease.ok_or(format!("lease {} was never granted", report.lease))?;
            lease.told = lease.told.max(report.used);
            lease.back = lease.back.max(report.returned);
        }
        for grant in &reply.grants {
            let key = (process, grant.key.account.to_string(), grant.key.service.to_string());
            let terms = (self.month, self.prices[&key.2]);
            let new = Lease { key: key.clone(), terms, granted: 0, told: 0, back: 0, drawn: None };
            let lease = self.leases.entry(grant.lease).or_insert(new);
            same(grant.lease, "terms", (&key, grant.price.get()), (&lease.key, lease.terms.1))?;
            let total = grant.free_units + grant.paid_units;
            let most = if self.frozen.contains(&key.1) { lease.granted } else { total };
            at_most(grant.lease, "units lent to a frozen account", total, most)?;
            lease.granted = lease.granted.max(total);
        }
        Ok(())
    }

    /// A lease was taken back because its gateway was silent for so long that it draws no more.
    pub fn reclaim(&mut self, lease: u64, running: &BTreeMap<Key, u64>) {
        let key = &self.leases[&lease].key;
        let drawn = self.served(key) + running.get(key).copied().unwrap_or(0);
        self.leases.entry(lease).and_modify(|lease| lease.drawn = Some(drawn));
    }

    /// What holds at every moment. `running` are units of forwarded calls that are charged if they succeed.
    pub fn check(&self, books: &Books, running: &BTreeMap<Key, u64>) -> Rule {
        self.check_leases(books)?;
        self.check_money(books)?;
        check_quotas(books)?;
        for (key, granted, told) in self.by_key() {
            let served = self.served(&key);
            let running = running.get(&key).copied().unwrap_or(0);
            at_most(&key, "units of forwarded calls", served + running, granted)?;
            at_most(&key, "charged units", told, served)?;
        }
        let granted: Vec<&Key> = self.leases.values().map(|lease| &lease.key).collect();
        let stolen = self.served.keys().find(|key| !granted.contains(key));
        same("units", "taker without a lease", stolen, None)
    }

    /// M2: each lease is charged what its gateway has told, once, at its price and in its month.
    fn check_leases(&self, books: &Books) -> Rule {
        let known: Vec<&u64> = self.leases.keys().collect();
        same("all leases", "numbers", books.leases.keys().collect(), known)?;
        let mut recorded: BTreeMap<u64, u64> = BTreeMap::new();
        for record in &books.records {
            let lease = &self.leases[&record.lease];
            let cost = lease.terms.1 * record.paid.cast_signed();
            same(record.lease, "charge's terms", (record.month, record.price), lease.terms)?;
            same(record.lease, "charge", record.amount, cost)?;
            *recorded.entry(record.lease).or_default() += record.free + record.paid;
        }
        for (number, lease) in &self.leases {
            let row = &books.leases[number];
            let (units, recorded) = (row.units, recorded.remove(number).unwrap_or(0));
            same(number, "terms", (row.month, row.price), lease.terms)?;
            same(number, "granted units", units.granted.total(), lease.granted)?;
            same(number, "charged units", units.charged(), lease.told)?;
            same(number, "units on record", recorded, lease.told)?;
            at_most(number, "charged units", lease.told, lease.granted)?;
            if let Some(drawn) = lease.drawn {
                let its = self.leases.range(..=number).filter(|(_, it)| it.key == lease.key);
                at_most(number, "units in the end", its.map(|(_, it)| it.told).sum(), drawn)?;
            }
            if units.open {
                same(number, "units given back", units.returned.total(), lease.back)?;
            }
        }
        Ok(())
    }

    /// M1 and M5: what is held is there, and money goes only where a charge says so.
    fn check_money(&self, books: &Books) -> Rule {
        for (account, row) in &books.accounts {
            let is_its = |lease: &&LeaseRow| lease.account == *account;
            let leases = books.leases.values().filter(is_its);
            same(account, "held money", row.held, leases.map(LeaseRow::held_money).sum())?;
            at_most(account, "held money", row.held, row.balance)?;
            at_most(account, "nothing", 0, row.held)?;
            let charges = books.records.iter().filter(|it| is_its(&&books.leases[&it.lease]));
            let spent: i64 = charges.map(|record| record.amount).sum();
            let left = self.credited.get(account).copied().unwrap_or(0) - spent;
            same(account, "money", row.balance - row.receivable, left)?;
        }
        Ok(())
    }

    /// What holds when everything has arrived: those that live have told of all they served, and nothing is held.
    pub fn check_end(&self, books: &Books, lives: impl Fn(usize) -> bool) -> Rule {
        for (key, _, told) in self.by_key().into_iter().filter(|(key, ..)| lives(key.0)) {
            same(&key, "charged units in the end", told, self.served(&key))?;
        }
        let open = books.leases.iter().find(|(_, row)| row.units.open).map(|(lease, _)| lease);
        same("nobody", "lease that stays open", open, None)
    }

    fn served(&self, key: &Key) -> u64 {
        self.served.get(key).copied().unwrap_or(0)
    }

    /// Granted and told units of each key.
    fn by_key(&self) -> Vec<(Key, u64, u64)> {
        let mut sums: BTreeMap<Key, (u64, u64)> = BTreeMap::new();
        for lease in self.leases.values() {
            let (granted, told) = sums.entry(lease.key.clone()).or_default();
            (*granted, *told) = (*granted + lease.granted, *told + lease.told);
        }
        sums.into_iter().map(|(key, (granted, told))| (key, granted, told)).collect()
    }
}

/// M1 for free units: used ones were charged, held ones are in open leases, and there are no more than all.
fn check_quotas(books: &Books) -> Rule {
    for (place @ (account, service, month), quota) in &books.quotas {
        let is_its = |lease: &&LeaseRow| {
            (&lease.account, &lease.service, &lease.month) == (account, service, month)
        };
        let leases = books.leases.values().filter(is_its);
        let charges = books.records.iter().filter(|it| is_its(&&books.leases[&it.lease]));
        same(place, "held free units", quota.held, leases.map(LeaseRow::held_free).sum())?;
        same(place, "used free units", quota.used, charges.map(|record| record.free).sum())?;
        at_most(place, "used and held free units", quota.used + quota.held, quota.total)?;
    }
    Ok(())
}

//! A Farebox sidecar in memory: the authority that answers the filter's callouts in tests.
//!
//! It decides with the same functions as the real one ([`farebox_core::grant::decide`], [`Lease::settle`]) and follows
//! the same steps, without a database: one message at a time, replies stored by (gateway, instance, number). After every
//! message it checks its books itself: nothing is held that is not there, and what is held is what open leases hold.

mod books;
mod calls;
mod grants;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use farebox_core::call::{DEDUCT_PATH, REFUND_PATH};
use farebox_core::grant::{Funds, Split};
use farebox_core::id::{AccountId, ServiceName};
use farebox_core::lease::{Lease, Usage};
use farebox_core::money::Nanos;
use farebox_core::wire::{
    Ack, JournalAck, JournalReport, LeaseKey, Recall, Report, SYNC_PATH, SyncReply, SyncRequest,
};

pub use self::books::{Account, Charge, Kind, Quota};

/// How long a lease stands unless the test says otherwise, in milliseconds.
const TTL_MS: u64 = 10_000;

/// What the sidecar answers to a message.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u32,
    /// JSON.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status, String::from_utf8_lossy(&self.body))
    }
}

/// A lease as the sidecar knows it.
#[derive(Debug, Clone)]
struct Granted {
    gateway: String,
    epoch: u64,
    key: LeaseKey,
    price: Nanos,
    units: Lease,
    in_flight: u64,
    recalled: bool,
    reclaim_at: u64,
}

/// The authority.
#[derive(Debug)]
pub struct FakeSidecar {
    prices: BTreeMap<ServiceName, Nanos>,
    quotas: BTreeMap<ServiceName, u64>,
    accounts: BTreeMap<AccountId, Account>,
    leases: BTreeMap<u64, Granted>,
    epochs: BTreeMap<(String, String), u64>,
    replies: BTreeMap<(String, String, u64), (Vec<u8>, Reply)>,
    journal: BTreeMap<(String, String, u64), u64>,
    charges: Vec<Charge>,
    calls: calls::Calls,
    requests: Vec<SyncRequest>,
    last_lease: u64,
    locked: BTreeSet<AccountId>,
    /// How long a lease stands, in milliseconds.
    pub ttl_ms: u64,
    /// Grants at most this many units at once, whatever is asked for.
    pub grant_max: u64,
}

impl Default for FakeSidecar {
    fn default() -> Self {
        Self::new()
    }
}

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("tests use valid names and amounts")
}

impl FakeSidecar {
    /// No service, no account.
    pub fn new() -> Self {
        Self {
            prices: BTreeMap::new(),
            quotas: BTreeMap::new(),
            accounts: BTreeMap::new(),
            leases: BTreeMap::new(),
            epochs: BTreeMap::new(),
            replies: BTreeMap::new(),
            journal: BTreeMap::new(),
            charges: Vec::new(),
            calls: calls::Calls::default(),
            requests: Vec::new(),
            last_lease: 0,
            locked: BTreeSet::new(),
            ttl_ms: TTL_MS,
            grant_max: u64::MAX,
        }
    }

    /// Sets the price book's price of a service.
    #[must_use]
    pub fn price(mut self, service: &str, price: &str) -> Self {
        self.prices.insert(name(service), name(price));
        self
    }

    /// Sets the monthly free units of a service.
    #[must_use]
    pub fn free_quota(mut self, service: &str, units: u64) -> Self {
        self.quotas.insert(name(service), units);
        self
    }

    /// Adds money to an account.
    pub fn credit(&mut self, account: &str, amount: &str) {
        let account = self.accounts.entry(name(account)).or_default();
        account.balance =
            account.balance.checked_add(name(amount)).expect("tests use small amounts");
    }

    // --- What a test can order ---

    /// Wants an account's unused units back.
    pub fn recall(&mut self, account: &str) {
        let account: AccountId = name(account);
        for lease in self
            .leases
            .values_mut()
            .filter(|lease| lease.units.open && lease.key.account == account)
        {
            lease.recalled = true;
        }
    }

    /// Somebody locks an account: usage of it is left out of messages until [`Self::unlock`].
    pub fn lock(&mut self, account: &str) {
        self.locked.insert(name(account));
    }

    /// Nobody has an account locked any more.
    pub fn unlock(&mut self, account: &str) {
        self.locked.remove(&name::<AccountId>(account));
    }

    /// Takes leases back whose gateway has been silent for twice their time.
    pub fn reclaim(&mut self, now_ms: u64) {
        let due: Vec<u64> = self
            .leases
            .iter()
            .filter(|(_, lease)| lease.units.open && lease.reclaim_at <= now_ms)
            .map(|(number, _)| *number)
            .collect();
        for number in due {
            self.close(number);
        }
        self.check();
    }

    /// Loses every lease, epoch and stored reply; accounts and the numbers of leases stay.
    pub fn forget_gateways(&mut self) {
        let open: Vec<u64> = self.leases.keys().copied().collect();
        for number in open {
            self.close(number);
        }
        self.leases.clear();
        self.epochs.clear();
        self.replies.clear();
    }

    // --- One message ---

    /// Answers a message by the path to which it was sent; `None` for a path that no gateway calls.
    pub fn answer_at(&mut self, path: &str, body: &[u8], now_ms: u64) -> Option<Reply> {
        match path {
            SYNC_PATH => Some(self.sync(body, now_ms)),
            DEDUCT_PATH => Some(self.deduct(body)),
            REFUND_PATH => Some(self.refund(body)),
            _ => None,
        }
    }

    /// Takes a message in, at a moment of the sidecar's own clock.
    pub fn sync(&mut self, body: &[u8], now_ms: u64) -> Reply {
        let Ok(request) = serde_json::from_slice::<SyncRequest>(body) else {
            return problem(400, "the body is no sync message");
        };
        if let Err(error) = request.validate() {
            return problem(400, &error.to_string());
        }
        let gateway = request.gateway.to_string();
        let place = (gateway.clone(), request.instance.clone(), request.seq);
        if let Some((known, reply)) = self.replies.get(&place) {
            let repeated = known.as_slice() == body;
            return if repeated {
                reply.clone()
            } else {
                problem(409, "this number was used for another message")
            };
        }
        let epoch = self.epoch(&gateway, &request.instance, now_ms);
        if request.epoch != 0 && request.epoch != epoch {
            return problem(409, "this instance has another epoch");
        }
        let reply = self.answer(&request, epoch, now_ms);
        self.check();
        let body_out = serde_json::to_vec(&reply).expect("a reply serializes");
        let reply = Reply { status: 200, body: body_out };
        self.replies.insert(place, (body.to_vec(), reply.clone()));
        self.requests.push(request);
        reply
    }

    fn epoch(&mut self, gateway: &str, instance: &str, now_ms: u64) -> u64 {
        let place = (gateway.to_owned(), instance.to_owned());
        if let Some(epoch) = self.epochs.get(&place) {
            return *epoch;
        }
        let of_gateway = self.epochs.iter().filter(|((name, _), _)| name == gateway);
        let epoch = 1 + of_gateway.map(|(_, epoch)| *epoch).max().unwrap_or(0);
        for lease in
            self.leases.values_mut().filter(|lease| lease.gateway == gateway && lease.units.open)
        {
            lease.recalled = true;
            lease.reclaim_at = lease.reclaim_at.min(now_ms + 2_000);
        }
        self.epochs.insert(place, epoch);
        epoch
    }

    fn answer(&mut self, request: &SyncRequest, epoch: u64, now_ms: u64) -> SyncReply {
        let mut reply = SyncReply { epoch, ..SyncReply::default() };
        for line in &request.journal {
            if !self.locked.contains(&line.key.account) {
                reply.journal_acks.push(self.book_journal(request, line));
            }
        }
        for report in &request.reports {
            let lease = self.leases.get(&report.lease);
            if !lease.is_some_and(|lease| self.locked.contains(&lease.key.account)) {
                reply.acks.push(self.settle(request, report, now_ms));
            }
        }
        for want in &request.wants {
            match self.grant(request, epoch, want, now_ms) {
                Ok(grant) => reply.grants.push(grant),
                Err(refusal) => reply.refusals.push(*refusal),
            }
        }
        let gateway = request.gateway.as_str();
        let recalled = self.leases.iter().filter(|(_, lease)| {
            lease.recalled && lease.units.open && lease.gateway == gateway && lease.epoch == epoch
        });
        reply.recalls = recalled
            .map(|(lease, granted)| Recall { lease: *lease, key: granted.key.clone() })
            .collect();
        reply
    }

    fn book_journal(&mut self, request: &SyncRequest, line: &JournalReport) -> JournalAck {
        let place = (request.gateway.to_string(), request.instance.clone(), line.line);
        let booked = self.journal.entry(place).or_default();
        let new = line.used.saturating_sub(*booked);
        *booked += new;
        let used = *booked;
        self.charge_beyond_lease(&line.key, new, Kind::Journal);
        JournalAck { line: line.line, used }
    }

    /// Charges units that no lease holds: free ones, then money, the rest is owed.
    fn charge_beyond_lease(&mut self, key: &LeaseKey, units: u64, kind: Kind) {
        if units == 0 {
            return;
        }
        let price = self.price_of(key);
        let funds = self.funds(key);
        let split = funds.total().take_free_first(units);
        let owed = units - split.total();
        let account = self.accounts.entry(key.account.clone()).or_default();
        account.quota(&key.service).used += split.free;
        account.pay(price, split.paid);
        account.owe(price, owed);
        self.charges.push(Charge {
            account: key.account.clone(),
            service: key.service.clone(),
            units,
            kind,
        });
    }

    fn settle(&mut self, request: &SyncRequest, report: &Report, now_ms: u64) -> Ack {
        let gateway = request.gateway.as_str();
        let known = self.leases.get_mut(&report.lease).filter(|lease| lease.gateway == gateway);
        let Some(lease) = known else {
            return Ack { lease: report.lease, used: 0, open: false, ttl_ms: 0 };
        };
        let usage = Usage { used: report.used, returned: report.returned, close: report.close };
        let settled = lease.units.settle(usage);
        lease.in_flight = report.in_flight;
        lease.reclaim_at = now_ms + 2 * self.ttl_ms;
        // The report may have been on its way before the recall arrived: it stands until something comes back.
        let is_idle = report.in_flight < lease.units.outstanding().total();
        lease.recalled &= is_idle && settled.released == Split::NONE;
        let (key, price) = (lease.key.clone(), lease.price);
        let ack = Ack {
            lease: report.lease,
            used: lease.units.charged(),
            open: lease.units.open,
            ttl_ms: if lease.units.open { self.ttl_ms } else { 0 },
        };
        let account = self.accounts.entry(key.account.clone()).or_default();
        account.release(&key.service, price, settled.used);
        account.quota(&key.service).used += settled.used.free;
        account.pay(price, settled.used.paid);
        account.release(&key.service, price, settled.released);
        if settled.used != Split::NONE {
            let units = settled.used.total();
            let charge = Charge {
                account: key.account.clone(),
                service: key.service.clone(),
                units,
                kind: Kind::Lease,
            };
            self.charges.push(charge);
        }
        self.charge_beyond_lease(&key, settled.late, Kind::Late);
        ack
    }

    fn close(&mut self, number: u64) {
        let Some(lease) = self.leases.get_mut(&number) else { return };
        let released = lease.units.close();
        let (key, price) = (lease.key.clone(), lease.price);
        self.accounts.entry(key.account).or_default().release(&key.service, price, released);
    }

    fn price_of(&self, key: &LeaseKey) -> Nanos {
        key.price.or_else(|| self.prices.get(&key.service).copied()).unwrap_or(Nanos::ZERO)
    }

    fn funds(&mut self, key: &LeaseKey) -> Funds {
        let price = key.price.or_else(|| self.prices.get(&key.service).copied());
        let total = self.quotas.get(&key.service).copied().unwrap_or(0);
        let account = self.accounts.entry(key.account.clone()).or_default();
        account.quota(&key.service).total = total;
        Funds {
            free_units: account.quota(&key.service).left(),
            available: account.available(),
            price,
        }
    }

    /// M1: nothing is held that is not there, and what is held is what open leases hold.
    fn check(&self) {
        let mut held: BTreeMap<&AccountId, Nanos> = BTreeMap::new();
        for lease in self.leases.values() {
            let worth =
                lease.price.checked_mul(lease.units.outstanding().paid).expect("amounts are small");
            let sum = held.entry(&lease.key.account).or_default();
            *sum = sum.checked_add(worth).expect("amounts are small");
        }
        for (id, account) in &self.accounts {
            account.check(id);
            let held = held.get(id).copied().unwrap_or_default();
            assert_eq!(
                account.held, held,
                "account {id} holds {} and its leases {held}",
                account.held
            );
        }
    }
}

fn problem(status: u32, title: &str) -> Reply {
    Reply {
        status,
        body: serde_json::json!({"status": status, "title": title}).to_string().into_bytes(),
    }
}

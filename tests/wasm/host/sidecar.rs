//! A Farebox sidecar in memory: the authority that answers the filter's callouts in tests.
//!
//! It decides with the same functions as the real one ([`farebox_core::grant::decide`], [`Lease::settle`]) and follows
//! the same steps, without a database: one message at a time, replies stored by (gateway, instance, number). After every
//! message it checks its books itself: nothing is held that is not there, and what is held is what open leases hold.

mod books;

use std::collections::BTreeMap;

use farebox_core::grant::{Ask, Decision, Funds, Split, decide};
use farebox_core::id::{AccountId, ServiceName};
use farebox_core::lease::{Lease, Usage};
use farebox_core::money::Nanos;
use farebox_core::wire::{
    Ack, FreeQuota, Grant, JournalAck, JournalReport, LeaseKey, Recall, Refusal, Report, SyncReply, SyncRequest, Want,
};

pub use self::books::{Account, Charge, Kind, Quota};

/// How long a lease stands unless the test says otherwise, in milliseconds.
const TTL_MS: u64 = 10_000;

/// What the sidecar answers to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u32,
    /// JSON.
    pub body: Vec<u8>,
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
    requests: Vec<SyncRequest>,
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
            requests: Vec::new(),
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
        account.balance = account.balance.checked_add(name(amount)).expect("tests use small amounts");
    }

    // --- What can be seen ---

    /// An account; a new one when nobody has heard of it.
    pub fn account(&self, account: &str) -> Account {
        self.accounts.get(&name(account)).cloned().unwrap_or_default()
    }

    /// Units charged to an account, however they were paid.
    pub fn charged(&self, account: &str) -> u64 {
        let account: AccountId = name(account);
        self.charges.iter().filter(|charge| charge.account == account).map(|charge| charge.units).sum()
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
        let of_account = self.leases.iter().filter(|(_, lease)| lease.units.open && lease.key.account == account);
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

    // --- What a test can order ---

    /// Wants an account's unused units back.
    pub fn recall(&mut self, account: &str) {
        let account: AccountId = name(account);
        for lease in self.leases.values_mut().filter(|lease| lease.units.open && lease.key.account == account) {
            lease.recalled = true;
        }
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

    // --- One message ---

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
            return if repeated { reply.clone() } else { problem(409, "this number was used for another message") };
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
        for lease in self.leases.values_mut().filter(|lease| lease.gateway == gateway && lease.units.open) {
            lease.recalled = true;
            lease.reclaim_at = lease.reclaim_at.min(now_ms + 2_000);
        }
        self.epochs.insert(place, epoch);
        epoch
    }

    fn answer(&mut self, request: &SyncRequest, epoch: u64, now_ms: u64) -> SyncReply {
        let mut reply = SyncReply { epoch, ..SyncReply::default() };
        for line in &request.journal {
            reply.journal_acks.push(self.book_journal(request, line));
        }
        for report in &request.reports {
            reply.acks.push(self.settle(request, report, now_ms));
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
        reply.recalls = recalled.map(|(lease, granted)| Recall { lease: *lease, key: granted.key.clone() }).collect();
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
        self.charges.push(Charge { account: key.account.clone(), service: key.service.clone(), units, kind });
    }

    fn settle(&mut self, request: &SyncRequest, report: &Report, now_ms: u64) -> Ack {
        let gateway = request.gateway.as_str();
        let known = self.leases.get_mut(&report.lease).filter(|lease| lease.gateway == gateway);
        let Some(lease) = known else { return Ack { lease: report.lease, used: 0, open: false, ttl_ms: 0 } };
        let usage = Usage { used: report.used, returned: report.returned, close: report.close };
        let settled = lease.units.settle(usage);
        lease.in_flight = report.in_flight;
        if lease.units.open {
            lease.reclaim_at = now_ms + 2 * self.ttl_ms;
            lease.recalled = false;
        }
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
            let charge = Charge { account: key.account.clone(), service: key.service.clone(), units, kind: Kind::Lease };
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
        Funds { free_units: account.quota(&key.service).left(), available: account.available(), price }
    }

    fn grant(
        &mut self,
        request: &SyncRequest,
        epoch: u64,
        want: &Want,
        now_ms: u64,
    ) -> Result<Grant, Box<Refusal>> {
        let key = &want.key;
        if !self.prices.contains_key(&key.service) && !self.quotas.contains_key(&key.service) {
            return Err(Box::new(self.refusal(want, 190_205, 1_000, false)));
        }
        let gateway = request.gateway.as_str();
        let open = self.leases.iter().find(|(_, lease)| {
            lease.units.open && lease.gateway == gateway && lease.epoch == epoch && lease.key == *key
        });
        let number = open.map(|(number, _)| *number);
        let drawers = self.leases.values().filter(|lease| lease.units.open && lease.key.account == key.account);
        let drawers = drawers.count() as u64 + u64::from(number.is_none());
        let funds = self.funds(key);
        let ask = Ask { units: want.units.min(self.grant_max).max(want.min), min: want.min };
        let Decision::Grant { units, last } = decide(funds, ask, drawers) else {
            let soon = self.recall_others(want, number, funds);
            let code = if funds.price.is_some() { 190_102 } else { 190_202 };
            return Err(Box::new(self.refusal(want, code, if soon { 50 } else { 1_000 }, soon)));
        };
        let number = number.unwrap_or_else(|| self.leases.keys().next_back().map_or(1, |last| last + 1));
        let price = self.price_of(key);
        self.accounts.entry(key.account.clone()).or_default().hold(&key.service, price, units);
        let lease = self.leases.entry(number).or_insert_with(|| Granted {
            gateway: gateway.to_owned(),
            epoch,
            key: key.clone(),
            price,
            units: Lease { open: true, ..Lease::default() },
            in_flight: 0,
            recalled: false,
            reclaim_at: 0,
        });
        lease.units.extend(units);
        lease.reclaim_at = now_ms + 2 * self.ttl_ms;
        let (granted, outstanding) = (lease.units.granted, lease.units.outstanding().total());
        Ok(Grant {
            lease: number,
            key: key.clone(),
            free_units: granted.free,
            paid_units: granted.paid,
            price,
            ttl_ms: self.ttl_ms,
            low_water: (outstanding / 2).max(1),
            is_final: last,
            free_quota: self.free_quota_of(key),
        })
    }

    /// Recalls what other leases of the account hold unused, if that and the funds would be enough.
    fn recall_others(&mut self, want: &Want, own: Option<u64>, funds: Funds) -> bool {
        let key = &want.key;
        let others: Vec<u64> = self
            .leases
            .iter()
            .filter(|(number, lease)| lease.units.open && Some(**number) != own && lease.key.account == key.account)
            .map(|(number, _)| *number)
            .collect();
        let (mut money, mut free) = (funds.available, funds.free_units);
        for number in &others {
            let lease = &self.leases[number];
            let outstanding = lease.units.outstanding();
            let recallable = outstanding.take_paid_first(outstanding.total().saturating_sub(lease.in_flight));
            if lease.key.service == key.service {
                free += recallable.free;
            }
            let worth = lease.price.checked_mul(recallable.paid).unwrap_or(Nanos::ZERO);
            money = money.checked_add(worth).unwrap_or(money);
        }
        let total = Funds { free_units: free, available: money, price: funds.price }.total().total();
        let helps = want.min <= total;
        if helps {
            for number in others {
                if let Some(lease) = self.leases.get_mut(&number) {
                    lease.recalled |= lease.in_flight < lease.units.outstanding().total();
                }
            }
        }
        helps
    }

    fn free_quota_of(&mut self, key: &LeaseKey) -> FreeQuota {
        let account = self.accounts.entry(key.account.clone()).or_default();
        let quota = account.quota(&key.service);
        FreeQuota { total: quota.total, remaining: quota.left(), resets_in_s: 86_400 }
    }

    fn refusal(&mut self, want: &Want, code: u32, retry_after_ms: u64, soon: bool) -> Refusal {
        let funds = self.funds(&want.key);
        Refusal {
            key: want.key.clone(),
            min: want.min,
            soon,
            code,
            retry_after_ms,
            available: funds.available,
            price: funds.price,
            free_quota: self.free_quota_of(&want.key),
        }
    }

    /// M1: nothing is held that is not there, and what is held is what open leases hold.
    fn check(&self) {
        for (id, account) in &self.accounts {
            account.check(id);
            let mut held = Nanos::ZERO;
            for lease in self.leases.values().filter(|lease| lease.key.account == *id) {
                let worth = lease.price.checked_mul(lease.units.outstanding().paid).expect("amounts are small");
                held = held.checked_add(worth).expect("amounts are small");
            }
            assert_eq!(account.held, held, "account {id} holds {} and its leases {held}", account.held);
        }
    }
}

fn problem(status: u32, title: &str) -> Reply {
    Reply { status, body: serde_json::json!({"status": status, "title": title}).to_string().into_bytes() }
}

//! Random requests against the model, the state compared after each.

use std::collections::BTreeMap;
use std::time::Duration;

use farebox_core::call::{CheckRequest, Reason, RefundRequest};
use farebox_sidecar::app::{App, CallError, CreditLimitError, Outcome, Request, Settings};
use farebox_sidecar::store::Store;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{RngExt, SeedableRng};

use super::model::{ACCOUNTS, Charge, Claim, Cover, Model, SERVICES};
use super::{call, commit, commit_amount, deduct, refund, release, reserve_amount, reserve_units};
use crate::database::Database;
use crate::fixture::{Fixture, Gateway, settings, used, want};

const STEPS: u32 = 300;

struct Run {
    farebox: Fixture,
    edge: Gateway,
    /// What the gateway has reported of each lease, and what it was granted.
    leases: BTreeMap<u64, (u64, u64)>,
    model: Model,
    /// Requests that were answered. A deduct's key may be undone.
    answered: Vec<(Request, Outcome)>,
    keys: u32,
    random: StdRng,
}

fn cents(amount: i64) -> String {
    format!("{}.{:02}", amount / 100, amount % 100)
}

impl Run {
    async fn new(seed: u64) -> Self {
        let (mut quotas, mut prices) = (Vec::new(), Vec::new());
        for (service, free, price) in SERVICES {
            quotas.push((service, free));
            prices.extend(price.map(|price| (service, cents(price))));
        }
        let prices: Vec<_> = prices.iter().map(|(name, price)| (*name, price.as_str())).collect();
        let database = Database::create().await;
        let store = Store::connect(&database.options, 8).await.unwrap();
        store.migrate().await.unwrap();
        // No lease runs out by itself, however slow the machine is.
        let lease_ttl = Duration::from_secs(3_600);
        let app = App::new(store, Settings { lease_ttl, ..settings(&quotas, &prices) });
        app.seed_prices().await.unwrap();
        let edge = Gateway::new(&app, "edge-1");
        let mut run = Self {
            farebox: Fixture { database, app },
            edge,
            leases: BTreeMap::new(),
            model: Model::default(),
            answered: Vec::new(),
            keys: 0,
            random: StdRng::seed_from_u64(seed),
        };
        for (account, name) in ACCOUNTS.iter().enumerate() {
            run.credit(account).await;
            for (service, _, _) in SERVICES {
                run.farebox.check(name, service, 1).await.unwrap();
            }
        }
        run
    }

    fn key(&mut self) -> String {
        self.keys += 1;
        format!("key-{}", self.keys)
    }

    fn account(&mut self) -> usize {
        self.random.random_range(0..ACCOUNTS.len())
    }

    fn service(&mut self) -> usize {
        self.random.random_range(0..SERVICES.len())
    }

    /// Sends a request; an answer is kept for later repetitions.
    async fn send(&mut self, request: Request) -> Result<Outcome, CallError> {
        let answer = call(&self.farebox.app, request.clone()).await;
        if let Ok(outcome) = &answer {
            self.answered.push((request, outcome.clone()));
        }
        answer
    }

    async fn deduct(&mut self) {
        let (account, service) = (self.account(), self.service());
        let (key, units) = (self.key(), self.random.random_range(1..9));
        self.check(account, service, units).await;
        let cover = self.model.cover(account, service, units);
        let mut request = deduct(&key, ACCOUNTS[account], SERVICES[service].0, units);
        if let Request::Deduct(request) = &mut request {
            request.wait_ms = Some(0);
        }
        match (cover, self.send(request).await) {
            (Cover::Paid(units, cost), Ok(Outcome::Deducted(reply))) => {
                assert_eq!((reply.free_units, reply.paid_units), units);
                assert_eq!(reply.amount.get(), cost * 10_000_000);
                let price = SERVICES[service].2.unwrap_or(0);
                let charge = Charge { account, service, units, refunded: (0, 0), price };
                self.model.charge(Some(reply.record_id), charge);
            }
            (Cover::Busy, Err(CallError::Busy)) => {}
            (cover @ (Cover::Short | Cover::Frozen), Ok(Outcome::Refused(refusal))) => {
                assert_eq!(refusal.code == 190_104, cover == Cover::Frozen, "{refusal:?}");
            }
            other => panic!("{other:?}"),
        }
    }

    /// What a check says is what a deduct would come to.
    async fn check(&self, account: usize, service: usize, units: u64) {
        let (user_id, service_name) = (ACCOUNTS[account], SERVICES[service].0);
        let request = CheckRequest {
            user_id: user_id.parse().unwrap(),
            service: service_name.parse().unwrap(),
            count: units,
            price: None,
        };
        let reply = self.farebox.app.check(&[request]).await.pop().unwrap().unwrap();
        let mut model = self.model.clone();
        let cover = model.cover(account, service, units);
        let is_allowed = !matches!(cover, Cover::Short | Cover::Frozen);
        assert_eq!(reply.allowed, is_allowed, "{reply:?}");
        assert_eq!(reply.reason == Reason::AccountFrozen, cover == Cover::Frozen, "{reply:?}");
        let (free, money) = model.funds(account, service);
        assert_eq!((reply.remaining_free, reply.available.get()), (free, money * 10_000_000));
    }

    async fn reserve(&mut self) {
        let (account, service, key) = (self.account(), self.service(), self.key());
        let (name, of_amount) = (ACCOUNTS[account], self.random.random_range(0..3) == 0);
        let (cover, mut request) = if of_amount {
            let amount = self.random.random_range(1..60);
            let request = reserve_amount(&key, name, SERVICES[service].0, &cents(amount));
            (self.model.cover_amount(account, amount), request)
        } else {
            let units = self.random.random_range(1..9);
            let request = reserve_units(&key, name, SERVICES[service].0, units);
            (self.model.cover(account, service, units), request)
        };
        if let Request::Reserve(request) = &mut request {
            request.wait_ms = Some(0);
            request.ttl_ms = Some(86_400_000);
        }
        match (cover, self.send(request).await) {
            (Cover::Paid(units, money), Ok(Outcome::Reserved(reply))) => {
                assert_eq!((reply.free_units, reply.paid_units), units);
                let claim = Claim { account, service, units, money, of_amount, overdue: false };
                self.model.reservations.insert(reply.reservation_id, claim);
            }
            (Cover::Busy, Err(CallError::Busy)) => {}
            (cover @ (Cover::Short | Cover::Frozen), Ok(Outcome::Refused(refusal))) => {
                assert_eq!(refusal.code == 190_104, cover == Cover::Frozen, "{refusal:?}");
            }
            other => panic!("{other:?}"),
        }
    }

    fn pick(&mut self) -> Option<(String, Claim)> {
        let picked = self.model.reservations.iter().choose(&mut self.random)?;
        Some((picked.0.clone(), picked.1.clone()))
    }

    async fn commit(&mut self) {
        let Some((id, claim)) = self.pick() else { return };
        let Claim { account, service, units: (free, paid), money, .. } = claim;
        let (request, units, price) = if claim.of_amount {
            let taken = self.random.random_range(0..=money);
            // One unit at its own price, unless it cost nothing.
            (commit_amount(&id, &cents(taken)), (0, u64::from(0 < taken)), taken)
        } else {
            let taken = self.random.random_range(0..=free + paid);
            let units = (taken.min(free), taken.saturating_sub(free));
            (commit(&id, Some(taken)), units, SERVICES[service].2.unwrap_or(0))
        };
        self.model.reservations.remove(&id);
        match self.send(request).await {
            Ok(Outcome::Committed(reply)) if !claim.overdue => {
                assert_eq!((reply.free_units, reply.paid_units), units);
                assert_eq!(reply.record_id.is_some(), units != (0, 0));
                if let Some(record) = reply.record_id {
                    let charge = Charge { account, service, units, refunded: (0, 0), price };
                    self.model.charge(Some(record), charge);
                }
            }
            Err(CallError::Ended { .. }) if claim.overdue => {}
            other => panic!("{claim:?}: {other:?}"),
        }
    }

    async fn release(&mut self) {
        let Some((id, claim)) = self.pick() else { return };
        self.model.reservations.remove(&id);
        let Ok(Outcome::Released(reply)) = self.send(release(&id)).await else { panic!("{id}") };
        let back = if claim.overdue { (0, 0) } else { claim.units };
        assert_eq!((reply.free_units, reply.paid_units), back);
    }

    /// Lets a reservation run out; sometimes the job comes by.
    async fn expire(&mut self) {
        if let Some((id, _)) = self.pick() {
            let sql = format!(
                "UPDATE reservation SET expires_at = UTC_TIMESTAMP(3) - INTERVAL 1 SECOND WHERE reservation_id = '{id}'"
            );
            assert_eq!(self.farebox.database.run(sql).await, 1);
            self.model.reservations.get_mut(&id).unwrap().overdue = true;
        }
        if self.random.random() {
            self.farebox.app.reclaim().await.unwrap();
            self.model.reservations.retain(|_, claim| !claim.overdue);
        }
    }

    async fn refund(&mut self) {
        let Some(record) = self.model.charges.keys().choose(&mut self.random).cloned() else {
            return;
        };
        let left = self.model.left(&record);
        let units = self.random.random_range(1..=left + 1);
        let key = self.key();
        match self.send(refund(&key, &record, Some(units))).await {
            Ok(Outcome::Refunded(reply)) if units <= left => {
                let back = self.model.refund(&record, units);
                assert_eq!((reply.free_units, reply.paid_units), back);
            }
            Err(CallError::Ended { .. }) => assert_eq!(left, 0),
            Err(CallError::Invalid(_)) => assert!(0 < left && left < units),
            other => panic!("{units} of {left}: {other:?}"),
        }
    }

    /// Undoes a deduct that was answered, or one that has not come yet.
    async fn undo(&mut self) {
        let deducts = self.answered.iter().filter_map(|(request, outcome)| match request {
            Request::Deduct(request) => Some((request.clone(), outcome.clone())),
            _ => None,
        });
        let Some((known, outcome)) = deducts.choose(&mut self.random) else { return };
        let unknown = self.random.random_range(0..3) == 0;
        let deduct_key = if unknown { self.key() } else { known.idempotency_key.clone() };
        let request = RefundRequest {
            idempotency_key: self.key(),
            record_id: None,
            deduct_key: Some(deduct_key.clone()),
            user_id: Some(known.user_id.clone()),
            units: None,
        };
        let Ok(Outcome::Refunded(reply)) = self.send(Request::Refund(request)).await else {
            panic!("{deduct_key}")
        };
        let back = match outcome {
            Outcome::Deducted(charged) if !unknown => {
                let left = self.model.left(&charged.record_id);
                self.model.refund(&charged.record_id, left)
            }
            _ => (0, 0),
        };
        assert_eq!((reply.free_units, reply.paid_units), back);
        if unknown {
            let late = deduct(&deduct_key, known.user_id.as_str(), "asset", 1);
            assert_eq!(self.send(late).await.unwrap(), Outcome::Cancelled);
        }
    }

    /// Sends a request again, and its key with another content.
    async fn repeat(&mut self) {
        let Some((request, outcome)) = self.answered.iter().choose(&mut self.random).cloned()
        else {
            return;
        };
        assert_eq!(call(&self.farebox.app, request.clone()).await.unwrap(), outcome);
        if let Request::Deduct(mut request) = request
            && outcome != Outcome::Cancelled
        {
            request.count += 1;
            let other = call(&self.farebox.app, Request::Deduct(request)).await;
            assert!(matches!(other, Err(CallError::KeyReused { .. })), "{other:?}");
        }
    }

    async fn credit(&mut self, account: usize) {
        let amount = self.random.random_range(1..150);
        self.farebox.credit(ACCOUNTS[account], &cents(amount)).await;
        self.model.balance[account] += amount;
    }

    /// A gateway takes a lease, one per account and service.
    async fn lease(&mut self) {
        let (account, service) = (self.account(), self.service());
        let is_same = |lease: &&Claim| lease.account == account && lease.service == service;
        if self.model.leases.values().any(|lease| is_same(&lease)) {
            return;
        }
        let asked = want(ACCOUNTS[account], SERVICES[service].0, self.random.random_range(1..9), 1);
        // A want that is refused has taken back what ran out, all the same.
        let cover = self.model.cover(account, service, 1);
        let grant = match self.edge.want(asked).await {
            Ok(grant) => grant,
            Err(refusal) => {
                assert!(!matches!(cover, Cover::Paid(..)), "{cover:?}");
                assert_eq!(refusal.code == 190_104, cover == Cover::Frozen, "{refusal:?}");
                return;
            }
        };
        assert_ne!(cover, Cover::Frozen);
        let (free, available) = self.model.funds(account, service);
        let units = (grant.free_units, grant.paid_units);
        let money = SERVICES[service].2.unwrap_or(0) * i64::try_from(units.1).unwrap();
        assert!(units.0 <= free && money <= available.max(0), "{grant:?}");
        let claim = Claim { account, service, units, money, of_amount: false, overdue: false };
        self.model.leases.insert(grant.lease, claim);
        self.leases.insert(grant.lease, (0, units.0 + units.1));
    }

    /// The gateway reports what it used of a lease, and sometimes gives the rest back.
    async fn report(&mut self) {
        let Some((&id, &(reported, granted))) = self.leases.iter().choose(&mut self.random) else {
            return;
        };
        let spent = self.random.random_range(0..=granted - reported);
        let close = self.random.random_range(0..3) == 0;
        let mut report = used(id, reported + spent);
        report.close = close;
        self.edge.report(report).await;
        self.leases.insert(id, (reported + spent, granted));
        let lease = self.model.leases.get_mut(&id).unwrap();
        let units = (spent.min(lease.units.0), spent.saturating_sub(lease.units.0));
        let (account, service) = (lease.account, lease.service);
        let price = SERVICES[service].2.unwrap_or(0);
        lease.units = (lease.units.0 - units.0, lease.units.1 - units.1);
        lease.money -= price * i64::try_from(units.1).unwrap();
        if 0 < spent {
            let charge = Charge { account, service, units, refunded: (0, 0), price };
            self.model.charge(None, charge);
        }
        if close {
            self.model.leases.remove(&id);
            self.leases.remove(&id);
        }
    }

    /// An operator freezes an account, or thaws it.
    async fn freeze(&mut self) {
        let account = self.account();
        let was_frozen = std::mem::replace(&mut self.model.frozen[account], self.random.random());
        let outcome = if self.model.frozen[account] {
            self.farebox.freeze(ACCOUNTS[account]).await
        } else {
            self.farebox.thaw(ACCOUNTS[account]).await
        };
        assert_eq!(outcome.changed, was_frozen != self.model.frozen[account]);
    }

    /// An operator sets a credit limit.
    async fn limit(&mut self) {
        let (account, limit) = (self.account(), self.random.random_range(0..150));
        let lowest = self.model.limit_in_use(account);
        match self.farebox.limit(ACCOUNTS[account], &cents(limit)).await {
            Ok(_) => self.model.limit[account] = limit,
            Err(CreditLimitError::InUse { in_use, .. }) => {
                assert_eq!(in_use.get(), lowest * 10_000_000);
                assert!(limit < lowest);
            }
            Err(err) => panic!("{err}"),
        }
        assert!(lowest <= self.model.limit[account], "{lowest}");
    }

    async fn step(&mut self) {
        match self.random.random_range(0..22) {
            0..5 => self.deduct().await,
            5..8 => self.reserve().await,
            8..10 => self.commit().await,
            10 => self.release().await,
            11 => self.expire().await,
            12..14 => self.refund().await,
            14 => self.undo().await,
            15 => self.repeat().await,
            16 => {
                let account = self.account();
                self.credit(account).await;
            }
            17 => self.lease().await,
            18 => self.freeze().await,
            19 => self.limit().await,
            _ => self.report().await,
        }
    }

    async fn compare(&self) {
        let sql = "SELECT user_id, CAST(balance * 100 AS SIGNED), CAST(held * 100 AS SIGNED),
            CAST(credit_limit * 100 AS SIGNED), frozen_at IS NOT NULL FROM user_balance";
        let mut rows = self.farebox.database.rows(sql).await;
        let sql = "SELECT user_id, service_name, used_quota, held_quota FROM free_quota";
        rows.extend(self.farebox.database.rows(sql).await);
        let sql = "SELECT user_balance.user_id, 'records', COUNT(record.count), COALESCE(SUM(record.count), 0),
                COALESCE(SUM(record.free_refunded), 0), COALESCE(SUM(record.paid_refunded), 0)
             FROM user_balance LEFT JOIN billing_record AS record ON record.user_id = user_balance.user_id
             GROUP BY user_balance.user_id";
        rows.extend(self.farebox.database.rows(sql).await);
        rows.sort();
        assert_eq!(rows, self.model.rows());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_requests_leave_the_state_that_the_model_says() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut run = Run::new(seed).await;
    for step in 1..=STEPS {
        run.step().await;
        run.compare().await;
        if step % 30 == 0 {
            run.farebox.assert_sound().await;
        }
    }
}

//! Random traffic against a small model of it in memory.

use std::collections::{BTreeMap, BTreeSet};

use farebox_core::wire::Report;
use farebox_sidecar::app::CreditLimitError;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::fixture::{Fixture, Gateway, used, want};

const SERVICES: [&str; 2] = ["asset", "payment"];
const ACCOUNTS: [&str; 3] = ["u", "v", "w"];

/// What a gateway knows about a lease, and what the test knows it was charged.
struct Drawn {
    account: usize,
    granted: u64,
    used: u64,
    returned: u64,
    gateway: usize,
}

/// Money and units that the model expects: what was paid in and what was served.
#[derive(Default)]
struct Expected {
    credited: BTreeMap<usize, i64>,
    served: BTreeMap<usize, u64>,
    frozen: BTreeSet<usize>,
    limits: BTreeMap<usize, i64>,
}

struct Run {
    farebox: Fixture,
    gateways: Vec<Gateway>,
    leases: BTreeMap<u64, Drawn>,
    expected: Expected,
    random: StdRng,
}

impl Run {
    async fn want(&mut self) {
        let (gateway, account) = (self.random.random_range(0..2), self.random.random_range(0..3));
        let service = SERVICES[self.random.random_range(0..2)];
        let units = self.random.random_range(1..12);
        let asked = want(ACCOUNTS[account], service, units, 1.max(units / 3));
        let is_frozen = self.expected.frozen.contains(&account);
        match self.gateways[gateway].want(asked).await {
            Ok(grant) => {
                assert!(!is_frozen, "{grant:?}");
                let fresh = Drawn { account, granted: 0, used: 0, returned: 0, gateway };
                let lease = self.leases.entry(grant.lease).or_insert(fresh);
                lease.granted = grant.free_units + grant.paid_units;
            }
            Err(refusal) => assert_eq!(refusal.code == 190_104, is_frozen, "{refusal:?}"),
        }
    }

    async fn report(&mut self) {
        let Some((&id, lease)) = self.pick() else { return };
        let left = lease.granted - lease.used - lease.returned;
        let (spend, give, close) = (
            self.random.random_range(0..=left),
            self.random.random_range(0..3_u64),
            self.random.random_range(0..6) == 0,
        );
        let lease = self.leases.get_mut(&id).unwrap();
        lease.used += spend;
        lease.returned += give.min(left - spend);
        *self.expected.served.entry(lease.account).or_default() += spend;
        let report = Report { returned: lease.returned, close, ..used(id, lease.used) };
        let gateway = lease.gateway;
        // An older report of the same lease sometimes arrives after the newer one.
        let older = Report { used: report.used / 2, returned: 0, close: false, ..report.clone() };
        let reply = self.gateways[gateway].send(vec![report, older], vec![], vec![]).await;
        assert!(reply.acks.iter().all(|ack| ack.used == self.leases[&id].used));
        if close || !reply.acks[0].open {
            self.leases.remove(&id);
        }
    }

    /// The sidecar takes a lease back; its gateway spends on, not knowing, and reports it late.
    async fn expire(&mut self) {
        let Some((&id, _)) = self.pick() else { return };
        let sql = format!(
            "UPDATE lease SET reclaim_at = UTC_TIMESTAMP(3) - INTERVAL 1 SECOND WHERE lease_id = {id} AND state = 'open'"
        );
        if self.farebox.database.run(sql).await == 1 {
            self.farebox.app.reclaim().await.unwrap();
        }
        self.report_late(id).await;
    }

    async fn report_late(&mut self, id: u64) {
        let lease = self.leases.remove(&id).unwrap();
        let spend = self.random.random_range(0..=lease.granted - lease.used - lease.returned);
        *self.expected.served.entry(lease.account).or_default() += spend;
        let total = lease.used + spend;
        let reply = self.gateways[lease.gateway].report(used(id, total)).await;
        assert_eq!((reply.acks[0].used, reply.acks[0].open), (total, false));
    }

    async fn credit(&mut self) {
        let account = self.random.random_range(0..3);
        let cents = self.random.random_range(1..400_i64);
        let amount = format!("{}.{:02}", cents / 100, cents % 100);
        self.farebox.credit(ACCOUNTS[account], &amount).await;
        *self.expected.credited.entry(account).or_default() += cents * 10_000_000;
    }

    /// An operator freezes an account or thaws it, or sets a limit.
    async fn control(&mut self) {
        let (account, limit) = (self.random.random_range(0..3), self.random.random_range(0..5));
        let name = ACCOUNTS[account];
        match self.random.random_range(0..3) {
            0 if self.expected.credited.contains_key(&account) => {
                self.farebox.freeze(name).await;
                self.expected.frozen.insert(account);
            }
            1 if self.expected.frozen.remove(&account) => {
                self.farebox.thaw(name).await;
            }
            _ => match self.farebox.limit(name, &limit.to_string()).await {
                Ok(_) => drop(self.expected.limits.insert(account, limit * 1_000_000_000)),
                Err(CreditLimitError::InUse { in_use, .. }) => {
                    assert!(limit * 1_000_000_000 < in_use.get(), "{in_use}");
                }
                Err(err) => panic!("{err}"),
            },
        }
    }

    fn pick(&mut self) -> Option<(&u64, &Drawn)> {
        let count = self.leases.len();
        let index = if count == 0 { 0 } else { self.random.random_range(0..count) };
        self.leases.iter().nth(index)
    }

    /// Served units are charged, each once, and money in is money left plus money charged.
    async fn compare(&self) {
        self.farebox.assert_sound().await;
        for (account, name) in ACCOUNTS.iter().enumerate() {
            let charged = format!(
                "SELECT COALESCE(SUM(count), 0), CAST(COALESCE(SUM(amount), 0) * 1000000000 AS SIGNED)
                 FROM billing_record WHERE user_id = '{name}'"
            );
            let charged = self.farebox.database.rows(charged).await;
            let (units, spent) = charged[0].split_once(' ').unwrap();
            let served = self.expected.served.get(&account).copied().unwrap_or(0);
            assert_eq!(units, served.to_string(), "{name}");
            if let Some(view) = self.farebox.app.account(&name.parse().unwrap()).await.unwrap() {
                let spent = spent.parse::<i64>().unwrap();
                let credited = self.expected.credited.get(&account).copied().unwrap_or(0);
                assert_eq!(view.balance.get() - view.receivable.get(), credited - spent, "{name}");
                let limit = self.expected.limits.get(&account).copied().unwrap_or(0);
                assert!(-limit <= view.balance.get(), "{name}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_traffic_charges_what_was_served() {
    let seed = rand::random();
    println!("seed {seed}");
    let farebox = Fixture::new(&[("asset", 30)], &[("asset", "0.07"), ("payment", "0.11")]).await;
    let gateways = vec![farebox.gateway("edge-1"), farebox.gateway("edge-2")];
    let random = StdRng::seed_from_u64(seed);
    let mut run =
        Run { farebox, gateways, leases: BTreeMap::new(), expected: Expected::default(), random };
    for _ in 0..250 {
        match run.random.random_range(0..11) {
            0..4 => run.want().await,
            4..8 => run.report().await,
            8 => run.expire().await,
            9 => run.control().await,
            _ => run.credit().await,
        }
        run.compare().await;
    }
}

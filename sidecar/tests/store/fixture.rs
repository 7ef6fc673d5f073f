//! A migrated database with the use cases on it, and gateways that talk to them.

use std::collections::BTreeMap;
use std::time::Duration;

use farebox_core::id::AccountId;
use farebox_core::money::Nanos;
use farebox_core::tariff::Tariff;
use farebox_core::wire::{
    Grant, JournalReport, LeaseKey, Refusal, Report, SyncReply, SyncRequest, Want,
};
use farebox_sidecar::app::{AccountView, App, Credit, Settings, SyncError};
use farebox_sidecar::store::Store;

use crate::database::Database;

/// A migrated database and the use cases on it.
pub(crate) struct Fixture {
    pub(crate) database: Database,
    pub(crate) app: App,
}

/// Settings with these free quotas and prices.
pub(crate) fn settings(free_quotas: &[(&str, u64)], prices: &[(&str, &str)]) -> Settings {
    Settings {
        currency: "CNY".to_owned(),
        currency_decimals: 2,
        time_zone: chrono_tz::Asia::Shanghai,
        free_quotas: free_quotas
            .iter()
            .map(|&(service, units)| (service.parse().unwrap(), units))
            .collect(),
        prices: prices
            .iter()
            .map(|&(service, price)| (service.parse().unwrap(), Tariff::flat(nanos(price))))
            .collect::<BTreeMap<_, _>>(),
        recharge_max: "999999.99".parse().unwrap(),
        lease_ttl: Duration::from_secs(10),
        boot_grace: Duration::from_secs(1),
        on_lost: Default::default(),
        low: Default::default(),
    }
}

pub(crate) fn nanos(text: &str) -> Nanos {
    text.parse().unwrap()
}

impl Fixture {
    pub(crate) async fn new(free_quotas: &[(&str, u64)], prices: &[(&str, &str)]) -> Self {
        Self::on(Database::create().await, free_quotas, prices).await
    }

    pub(crate) async fn on(
        database: Database,
        free_quotas: &[(&str, u64)],
        prices: &[(&str, &str)],
    ) -> Self {
        let store = Store::connect(&database.options, 16).await.unwrap();
        store.migrate().await.unwrap();
        let app = App::new(store, settings(free_quotas, prices));
        app.seed_prices().await.unwrap();
        Self { database, app }
    }

    /// Another sidecar on the same database, with other settings.
    pub(crate) async fn sidecar(
        &self,
        free_quotas: &[(&str, u64)],
        prices: &[(&str, &str)],
    ) -> App {
        let store = Store::connect(&self.database.options, 4).await.unwrap();
        let app = App::new(store, settings(free_quotas, prices));
        app.seed_prices().await.unwrap();
        app
    }

    pub(crate) fn gateway(&self, name: &str) -> Gateway {
        Gateway::new(&self.app, name)
    }

    pub(crate) async fn view(&self, account: &str) -> AccountView {
        self.app.account(&account.parse().unwrap()).await.unwrap().unwrap()
    }

    /// `balance held receivable`, the shortest way.
    pub(crate) async fn money(&self, account: &str) -> String {
        let view = self.view(account).await;
        format!("{} {} {}", view.balance, view.held, view.receivable)
    }

    /// `service used+held/total`, by service.
    pub(crate) async fn quotas(&self, account: &str) -> String {
        let quotas = self.view(account).await.free_quotas;
        let text = |quota: &farebox_sidecar::app::FreeQuotaView| {
            format!("{} {}+{}/{}", quota.service, quota.used, quota.held, quota.total)
        };
        quotas.iter().map(text).collect::<Vec<_>>().join(", ")
    }

    pub(crate) async fn credit(&self, account: &str, amount: &str) {
        let key = format!("key-{}", rand::random::<u64>());
        self.app.credit(&credit(account, amount, &key)).await.unwrap();
    }

    /// Lets the lease run out as if its gateway had been silent.
    pub(crate) async fn expire(&self, lease: u64) {
        let sql = format!(
            "UPDATE lease SET reclaim_at = UTC_TIMESTAMP(3) - INTERVAL 1 SECOND WHERE lease_id = {lease}"
        );
        assert_eq!(self.database.run(sql).await, 1);
        assert_eq!(self.app.reclaim().await.unwrap(), 1);
    }

    /// Requires that every invariant holds.
    pub(crate) async fn assert_sound(&self) {
        for invariant in self.app.invariants().await.unwrap() {
            assert_eq!(invariant.violations, Vec::<String>::new(), "{}", invariant.rule);
        }
        // The same rules, asked of the accounts that changed; another sidecar may be doing it.
        if let Some(touched) = self.app.check_touched().await.unwrap() {
            assert_eq!(touched.violations, Vec::<String>::new());
        }
        self.assert_summed_up().await;
    }

    /// Statistics are what the records say, of each account and service; of what the predecessor charged, some may be missing.
    pub(crate) async fn assert_summed_up(&self) {
        let sums = "SELECT user_id, service_name, SUM(free), SUM(paid), SUM(amount), SUM(owed), SUM(refunded) FROM (
              SELECT user_id, service_name, free_units AS free, IF(source = 'package', 0, paid_units) AS paid, amount, owed, 0 AS refunded
              FROM billing_record WHERE source <> 'legacy'
              UNION ALL
              SELECT record.user_id, record.service_name, 0, 0, 0, 0, refund.amount
              FROM charge_refund AS refund JOIN billing_record AS record USING (billing_record_id)
              UNION ALL
              SELECT user_id, service_name, -free_units, -paid_units, -amount, -owed, -refunded FROM usage_day
            ) AS all_of_it GROUP BY user_id, service_name
            HAVING (SUM(free), SUM(paid), SUM(amount), SUM(owed), SUM(refunded)) <> (0, 0, 0, 0, 0)";
        assert_eq!(self.database.rows(sums).await, Vec::<String>::new());
    }

    /// The rows that money and units stand in, without what any message moves.
    pub(crate) async fn books(&self) -> Vec<String> {
        let tables = [
            "user_balance",
            "free_quota",
            "billing_record",
            "ledger_entry",
            "lease",
            "journal_line",
            "price_version",
            "tier_usage",
        ];
        self.database
            .dump(
                &tables,
                &[
                    "updated_at",
                    "change_seq",
                    "check_at",
                    "reclaim_at",
                    "renewed_at",
                    "in_flight",
                    "recall",
                ],
            )
            .await
    }
}

pub(crate) fn credit(account: &str, amount: &str, key: &str) -> Credit {
    Credit {
        account: account.parse().unwrap(),
        amount: nanos(amount),
        reason: "test".to_owned(),
        key: key.to_owned(),
        actor: "tests".to_owned(),
    }
}

pub(crate) fn key(account: &str, service: &str) -> LeaseKey {
    LeaseKey {
        account: account.parse::<AccountId>().unwrap(),
        service: service.parse().unwrap(),
        price: None,
    }
}

pub(crate) fn want(account: &str, service: &str, units: u64, min: u64) -> Want {
    Want { key: key(account, service), units, min, waiting: true, known: None }
}

/// A want ahead of need: no call waits for it.
pub(crate) fn refill(account: &str, service: &str, units: u64, min: u64) -> Want {
    Want { waiting: false, ..want(account, service, units, min) }
}

pub(crate) fn used(lease: u64, used: u64) -> Report {
    Report { lease, used, in_flight: 0, returned: 0, close: false }
}

/// How often a gateway sends a message that had no answer.
const REPEATS_MAX: usize = 10;

/// A gateway process.
#[derive(Clone)]
pub(crate) struct Gateway {
    app: App,
    pub(crate) request: SyncRequest,
}

impl Gateway {
    pub(crate) fn new(app: &App, name: &str) -> Self {
        let request = SyncRequest {
            gateway: name.parse().unwrap(),
            instance: format!("{:032x}", rand::random::<u128>()),
            epoch: 0,
            seq: 0,
            reports: vec![],
            wants: vec![],
            journal: vec![],
        };
        Self { app: app.clone(), request }
    }

    /// The next message.
    pub(crate) fn message(
        &mut self,
        reports: Vec<Report>,
        wants: Vec<Want>,
        journal: Vec<JournalReport>,
    ) -> SyncRequest {
        self.request.seq += 1;
        SyncRequest { reports, wants, journal, ..self.request.clone() }
    }

    pub(crate) async fn deliver(&mut self, message: &SyncRequest) -> Result<String, SyncError> {
        let body = serde_json::to_vec(message).unwrap();
        let text = self.app.sync(message, &body, &|| true).await?;
        self.request.epoch = reply(&text).epoch;
        Ok(text)
    }

    pub(crate) async fn send(
        &mut self,
        reports: Vec<Report>,
        wants: Vec<Want>,
        journal: Vec<JournalReport>,
    ) -> SyncReply {
        let message = self.message(reports, wants, journal);
        let mut told = self.deliver(&message).await;
        for _ in 0..REPEATS_MAX {
            // As the filter does: a message that the database had no time for is sent again as it was.
            match &told {
                Err(SyncError::Store(err)) if err.is_outage() => {}
                _ => break,
            }
            told = self.deliver(&message).await;
        }
        reply(&told.unwrap())
    }

    /// Asks for units of one service: the grant, or the refusal.
    pub(crate) async fn want(&mut self, want: Want) -> Result<Grant, Refusal> {
        let mut reply = self.send(vec![], vec![want], vec![]).await;
        match reply.grants.pop() {
            Some(grant) => Ok(grant),
            None => Err(reply.refusals.pop().unwrap()),
        }
    }

    pub(crate) async fn report(&mut self, report: Report) -> SyncReply {
        self.send(vec![report], vec![], vec![]).await
    }
}

pub(crate) fn reply(text: &str) -> SyncReply {
    serde_json::from_str(text).unwrap()
}

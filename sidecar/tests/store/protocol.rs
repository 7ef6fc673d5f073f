//! Histories of gateways with real workers of the filter, against the real sync transaction on a real database: the same
//! steps, model and rules as `tests/protocol`, which plays many more of them in memory.

use std::collections::BTreeMap;

use farebox_core::grant::Split;
use farebox_core::lease::Lease;
use farebox_core::money::Nanos;
use farebox_core::wire::SyncRequest;
use farebox_protocol_tests::explore::{Extent, explore};
use farebox_protocol_tests::sidecar::{Account, Books, LeaseRow, Quota, Record, SERVICES, Sidecar};
use farebox_sidecar::app::SyncError;
use tokio::runtime::Runtime;

use crate::fixture::Fixture;

const EXTENT: Extent = Extent { cases: 40, steps_max: 25 };

/// The current month of a history is the real one; those that it has left are months of long ago.
const LONG_AGO: &str = "2020-";

/// A sidecar on a database that it shares with no other history.
struct Stored<'a> {
    runtime: &'a Runtime,
    farebox: &'a Fixture,
    prices: BTreeMap<&'static str, i64>,
    month: u32,
    /// Time that the rows have not been told of.
    passed_ms: u64,
}

fn free_quotas() -> Vec<(&'static str, u64)> {
    SERVICES.iter().map(|&(service, _, units)| (service, units)).collect()
}

fn price_texts(prices: &BTreeMap<&'static str, i64>) -> Vec<(&'static str, String)> {
    prices.iter().map(|(service, price)| (*service, Nanos::new(*price).to_string())).collect()
}

impl<'a> Stored<'a> {
    /// On the empty tables of a database that other histories have used before.
    fn new(runtime: &'a Runtime, farebox: &'a Fixture) -> Self {
        let prices = SERVICES.iter().map(|&(service, price, _)| (service, price)).collect();
        runtime.block_on(async {
            farebox.assert_sound().await;
            for table in [
                "lease",
                "billing_record",
                "usage_day",
                "ledger_entry",
                "free_quota",
                "user_balance",
                "sync_reply",
                "gateway",
                "idempotency_key",
                "price_version",
            ] {
                farebox.database.run(format!("DELETE FROM {table}")).await;
            }
            farebox.app.seed_prices().await.unwrap();
        });
        Self { runtime, farebox, prices, month: 0, passed_ms: 0 }
    }

    /// The database's clock cannot be moved, so the rows are.
    fn let_time_pass(&mut self) {
        let ms = std::mem::take(&mut self.passed_ms);
        if 0 < ms {
            self.run(format!(
                "UPDATE lease SET reclaim_at = reclaim_at - INTERVAL {ms}000 MICROSECOND WHERE state = 'open'"
            ));
        }
    }

    fn run(&self, sql: String) {
        self.runtime.block_on(self.farebox.database.run(sql));
    }

    fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        let rows = self.runtime.block_on(self.farebox.database.rows(sql));
        rows.iter().map(|row| row.split(' ').map(str::to_owned).collect()).collect()
    }

    /// The number of a month that a row names.
    fn month_of(&self, text: &str) -> u32 {
        text.strip_prefix(LONG_AGO).map_or(self.month, |number| number.parse().unwrap())
    }

    fn leases(&self) -> BTreeMap<u64, LeaseRow> {
        let sql = "SELECT lease_id, user_id, service_name, reset_month, CAST(price * 1000000000 AS SIGNED),
                     free_granted, paid_granted, free_used, paid_used, free_returned, paid_returned, late_used,
                     state = 'open' FROM lease";
        let lease = |row: Vec<String>| {
            let number = |place: usize| row[place].parse::<u64>().unwrap();
            let split = |place: usize| Split { free: number(place), paid: number(place + 1) };
            let (granted, used, returned) = (split(5), split(7), split(9));
            let (late, open) = (number(11), number(12) == 1);
            // With `on_lost: reported`, nothing is charged as lost.
            let units = Lease { granted, used, returned, late, open, lost: Split::NONE, untold: 0 };
            let (account, service) = (row[1].clone(), row[2].clone());
            let (month, price) = (self.month_of(&row[3]), row[4].parse().unwrap());
            (number(0), LeaseRow { account, service, month, price, units })
        };
        self.rows(sql).into_iter().map(lease).collect()
    }
}

impl Sidecar for Stored<'_> {
    fn sync(&mut self, body: &[u8]) -> (u32, Vec<u8>) {
        self.let_time_pass();
        let request: SyncRequest = serde_json::from_slice(body).unwrap();
        match self.runtime.block_on(self.farebox.app.sync(&request, body, &|| true)) {
            Ok(reply) => (200, reply.into_bytes()),
            Err(SyncError::Invalid(err)) => (400, err.to_string().into_bytes()),
            Err(err @ SyncError::Conflict { .. }) => (409, err.to_string().into_bytes()),
            Err(err @ (SyncError::Store(_) | SyncError::Abandoned)) => {
                (503, err.to_string().into_bytes())
            }
        }
    }

    fn pass(&mut self, ms: u64) {
        self.passed_ms += ms;
    }

    fn reclaim(&mut self) {
        self.let_time_pass();
        self.runtime.block_on(self.farebox.app.reclaim()).unwrap();
    }

    fn credit(&mut self, account: &str, nanos: i64) {
        let amount = Nanos::new(nanos).to_string();
        self.runtime.block_on(self.farebox.credit(account, &amount));
    }

    fn freeze(&mut self, account: &str, frozen: bool) {
        self.runtime.block_on(async {
            if frozen {
                self.farebox.freeze(account).await
            } else {
                self.farebox.thaw(account).await
            }
        });
    }

    fn change_price(&mut self, service: &str, nanos: i64) {
        let changed = self.prices.iter_mut().find(|(known, _)| **known == service);
        *changed.unwrap().1 = nanos;
        let prices = price_texts(&self.prices);
        let prices: Vec<(&str, &str)> =
            prices.iter().map(|(service, price)| (*service, price.as_str())).collect();
        self.runtime.block_on(self.farebox.sidecar(&free_quotas(), &prices));
    }

    fn end_month(&mut self) {
        let past = format!("{LONG_AGO}{:02}", self.month);
        self.month += 1;
        for sql in [
            format!(
                "UPDATE lease SET reset_month = '{past}', not_after = LEAST(not_after, UTC_TIMESTAMP(3))
                 WHERE reset_month NOT LIKE '{LONG_AGO}%'"
            ),
            format!("UPDATE free_quota SET reset_month = '{past}' WHERE reset_month NOT LIKE '{LONG_AGO}%'"),
            format!("UPDATE billing_record SET reset_month = '{past}' WHERE reset_month NOT LIKE '{LONG_AGO}%'"),
        ] {
            self.run(sql);
        }
    }

    fn books(&mut self) -> Books {
        let money = |text: &String| text.parse::<i64>().unwrap();
        let units = |text: &String| text.parse::<u64>().unwrap();
        let accounts = "SELECT user_id, CAST(balance * 1000000000 AS SIGNED), CAST(held * 1000000000 AS SIGNED),
                          CAST(receivable * 1000000000 AS SIGNED) FROM user_balance";
        let account = |row: Vec<String>| {
            let (balance, held, receivable) = (money(&row[1]), money(&row[2]), money(&row[3]));
            (row[0].clone(), Account { balance, held, receivable })
        };
        let quotas = "SELECT user_id, service_name, reset_month, total_quota, used_quota, held_quota FROM free_quota";
        let quota = |row: Vec<String>| {
            let (total, used, held) = (units(&row[3]), units(&row[4]), units(&row[5]));
            let place = (row[0].clone(), row[1].clone(), self.month_of(&row[2]));
            (place, Quota { total, used, held })
        };
        let records = "SELECT lease_id, reset_month, CAST(unit_price * 1000000000 AS SIGNED), free_units, paid_units,
                         CAST(amount * 1000000000 AS SIGNED) FROM billing_record";
        let record = |row: Vec<String>| Record {
            lease: units(&row[0]),
            month: self.month_of(&row[1]),
            price: money(&row[2]),
            free: units(&row[3]),
            paid: units(&row[4]),
            amount: money(&row[5]),
        };
        Books {
            accounts: self.rows(accounts).into_iter().map(account).collect(),
            quotas: self.rows(quotas).into_iter().map(quota).collect(),
            leases: self.leases(),
            records: self.rows(records).into_iter().map(record).collect(),
        }
    }
}

#[test]
fn books_are_right_in_every_history() {
    let runtime = Runtime::new().unwrap();
    let prices =
        price_texts(&SERVICES.iter().map(|&(service, price, _)| (service, price)).collect());
    let prices: Vec<(&str, &str)> =
        prices.iter().map(|(service, price)| (*service, price.as_str())).collect();
    let farebox = runtime.block_on(Fixture::new(&free_quotas(), &prices));
    if let Err(counterexample) = explore(EXTENT, || Stored::new(&runtime, &farebox)) {
        panic!("{counterexample:?}");
    }
    runtime.block_on(farebox.assert_sound());
}

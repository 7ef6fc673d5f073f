//! Graduated prices: each paid unit of an account's month costs the price of its tier, whoever asks for it and how.

use farebox_core::lease::OnLost;
use farebox_core::tariff::{Tariff, Tier};
use farebox_core::wire::{JournalReport, Known, Report, Want};
use farebox_sidecar::app::{App, NewPrice, Outcome, PriceChange, Settings};
use farebox_sidecar::store::Store;

use crate::calls::{call, commit, deduct, refund, release, reserve_units, undo};
use crate::fixture::{Fixture, Gateway, key, nanos, refill, settings, used, want};
use crate::prices::{apply, change};

pub(crate) fn tariff(tiers: &[(Option<u64>, &str)]) -> Tariff {
    let tiers = tiers.iter().map(|&(up_to, price)| Tier { up_to, price: nanos(price) });
    Tariff::graduated(tiers.collect()).unwrap()
}

impl Fixture {
    /// Gives a service graduated prices.
    pub(crate) async fn grade(&self, service: &str, tiers: &[(Option<u64>, &str)]) {
        let mut change = change(&[], None);
        change.prices.insert(service.parse().unwrap(), tariff(tiers));
        assert_eq!(apply(self, &change).await.unwrap(), 1);
    }

    /// `units at price` of each billing record, in order.
    pub(crate) async fn charged(&self, account: &str) -> Vec<String> {
        self.database
            .rows(format!(
                "SELECT free_units, '+', paid_units, 'at', TRIM(TRAILING '0' FROM unit_price) FROM billing_record
                 WHERE user_id = '{account}' ORDER BY created_at, billing_record_id"
            ))
            .await
    }

    /// `used+held/total late` of each tier, in order.
    pub(crate) async fn tiers(&self, account: &str) -> Vec<String> {
        self.database
            .rows(format!(
                "SELECT CONCAT(used, '+', held, '/', total), late FROM tier_usage
                 WHERE user_id = '{account}' ORDER BY price_version_id"
            ))
            .await
    }
}

/// Three units at 0.3, two at 0.2, all others at 0.1.
async fn graded() -> Fixture {
    let farebox = Fixture::new(&[], &[("asset", "1")]).await;
    farebox.grade("asset", &[(Some(3), "0.3"), (Some(5), "0.2"), (None, "0.1")]).await;
    farebox
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_split_over_tiers_and_comes_back_whole_at_the_prices_it_was_charged_at() {
    let farebox = graded().await;
    farebox.credit("u", "10").await;
    assert_eq!(
        farebox.told(deduct("a", "u", "asset", 2)).await,
        "0 free, 2 paid for 0.6, leaves 9.4"
    );
    let check = farebox.check("u", "asset", 5).await.unwrap();
    let parts: Vec<String> = check
        .parts
        .iter()
        .map(|part| format!("{} at {} = {}", part.units, part.price, part.amount))
        .collect();
    assert_eq!(parts, ["1 at 0.3 = 0.3", "2 at 0.2 = 0.4", "2 at 0.1 = 0.2"]);
    assert_eq!(
        (check.cost, check.price, check.price_units),
        (nanos("0.9"), Some(nanos("0.3")), Some(1))
    );
    let Ok(Outcome::Deducted(reply)) = call(&farebox.app, deduct("b", "u", "asset", 5)).await
    else {
        panic!("not charged");
    };
    assert_eq!((reply.amount, reply.record_ids.len()), (nanos("0.9"), 3));
    assert_eq!(
        farebox.charged("u").await,
        ["0 + 2 at 0.3", "0 + 1 at 0.3", "0 + 2 at 0.2", "0 + 2 at 0.1"]
    );
    assert_eq!(farebox.tiers("u").await, ["3+0/3 0", "2+0/2 0"]);
    farebox.assert_sound().await;

    // A part of it, from the last price on; then what is left, by the first record alone.
    let some = farebox.told(refund("r1", &reply.record_id, Some(3))).await;
    assert_eq!(some, "back 0 free, 3 paid for 0.4, leaves 8.9");
    let rest = farebox.told(refund("r2", &reply.record_id, None)).await;
    assert_eq!(rest, "back 0 free, 2 paid for 0.5, leaves 9.4");
    let again = farebox.told(refund("r3", &reply.record_id, None)).await;
    assert!(again.contains("went back already"), "{again}");
    assert_eq!(farebox.tiers("u").await, ["2+0/3 0", "0+0/2 0"]);
    // The places are free again, at their prices; so they are when the caller does not know what became of the call.
    farebox.record(deduct("c", "u", "asset", 5)).await;
    assert_eq!(farebox.told(undo("c", "u")).await, "back 0 free, 5 paid for 0.9, leaves 9.4");
    assert_eq!(
        farebox.told(deduct("d", "u", "asset", 1)).await,
        "0 free, 1 paid for 0.3, leaves 9.1"
    );
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_an_edge_every_funded_unit_is_served_and_not_one_more() {
    for (funds, units, short) in
        [("0.9", 3, true), ("1.1", 4, true), ("1.29", 4, false), ("1.4", 6, true)]
    {
        let farebox = graded().await;
        farebox.credit("u", funds).await;
        let mut served = 0;
        while farebox.told(deduct(&served.to_string(), "u", "asset", 1)).await.starts_with("0 free")
        {
            served += 1;
        }
        assert_eq!(served, units, "{funds}");
        assert_eq!(farebox.money("u").await.starts_with("0 "), short, "{funds}");
        let whole = graded().await;
        whole.credit("u", funds).await;
        assert!(whole.checked("u", "asset", units + 1).await.starts_with("no"), "{funds}");
        let told = whole.told(deduct("all", "u", "asset", units)).await;
        assert!(told.starts_with(&format!("0 free, {units} paid")), "{told}");
        farebox.assert_sound().await;
        whole.assert_sound().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn free_units_do_not_count_and_a_new_price_counts_anew() {
    let farebox = Fixture::new(&[("asset", 2)], &[("asset", "1")]).await;
    farebox.grade("asset", &[(Some(3), "0.3"), (None, "0.1")]).await;
    farebox.credit("u", "10").await;
    farebox.record(deduct("a", "u", "asset", 6)).await;
    assert_eq!(farebox.charged("u").await, ["2 + 3 at 0.3", "0 + 1 at 0.1"]);
    farebox.grade("asset", &[(Some(1), "0.4"), (None, "0.2")]).await;
    farebox.record(deduct("b", "u", "asset", 2)).await;
    // An account's own tiers are its own.
    let own =
        [("asset".parse().unwrap(), NewPrice::Price(tariff(&[(Some(1), "0.04"), (None, "0.02")])))];
    let accounts = [("u".parse().unwrap(), own.into())].into();
    apply(&farebox, &PriceChange { accounts, ..PriceChange::default() }).await.unwrap();
    farebox.record(deduct("c", "u", "asset", 2)).await;
    let charged = farebox.charged("u").await;
    assert_eq!(charged[2..], ["0 + 1 at 0.4", "0 + 1 at 0.2", "0 + 1 at 0.04", "0 + 1 at 0.02"]);
    // Another month begins at the first tier.
    let last_month = "DATE_FORMAT(CONCAT(reset_month, '-01') - INTERVAL 1 MONTH, '%Y-%m')";
    for table in ["tier_usage", "billing_record", "free_quota"] {
        farebox.database.run(format!("UPDATE {table} SET reset_month = {last_month}")).await;
    }
    farebox.record(deduct("d", "u", "asset", 4)).await;
    assert_eq!(farebox.charged("u").await[6..], ["2 + 1 at 0.04", "0 + 1 at 0.02"]);
    farebox.assert_sound().await;
}

/// A gateway that serves calls of one unit from its lease, and reports late.
pub(crate) struct Edge {
    gateway: Gateway,
    lease: u64,
    granted: u64,
    drawn: u64,
    /// Leases that another one followed: to be reported.
    former: Vec<Report>,
}

impl Edge {
    pub(crate) fn new(farebox: &Fixture, name: &str) -> Self {
        let gateway = farebox.gateway(name);
        Self { gateway, lease: 0, granted: 0, drawn: 0, former: Vec::new() }
    }

    /// Serves a call; `false` when it is refused. The sidecar hears of what was drawn with the next question but one.
    pub(crate) async fn serve(&mut self) -> bool {
        for _ in 0..20 {
            if self.drawn < self.granted {
                self.drawn += 1;
                return true;
            }
            let known = Some(Known { lease: self.lease, granted: self.granted });
            let want = Want { known, ..want("u", "asset", 4, 1) };
            let mut reply =
                self.gateway.send(std::mem::take(&mut self.former), vec![want], vec![]).await;
            match (reply.grants.pop(), reply.refusals.pop()) {
                (Some(grant), _) => {
                    if grant.lease != self.lease {
                        let close = Report { close: true, ..used(self.lease, self.drawn) };
                        self.former.extend((self.lease != 0).then_some(close));
                        (self.lease, self.drawn) = (grant.lease, 0);
                    }
                    self.granted = grant.free_units + grant.paid_units;
                }
                (None, Some(refusal)) if refusal.soon => {}
                (None, _) => return false,
            }
        }
        false
    }

    pub(crate) async fn end(mut self) -> u64 {
        let last = Report { close: true, ..used(self.lease, self.drawn) };
        let reports = self.former.into_iter().chain((self.lease != 0).then_some(last)).collect();
        self.gateway.send(reports, vec![], vec![]).await;
        self.drawn
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_at_the_edges_serve_every_funded_unit_and_not_one_more() {
    for gateways in [1, 2] {
        let farebox = graded().await;
        // Three at 0.3, two at 0.2 and four at 0.1.
        farebox.credit("u", "1.7").await;
        let mut edges: Vec<Edge> =
            (0..gateways).map(|n| Edge::new(&farebox, &format!("edge-{n}"))).collect();
        let (mut served, mut refused) = (0, 0);
        for turn in 0..60 {
            let edge = &mut edges[turn % gateways];
            if edge.serve().await {
                (served, refused) = (served + 1, 0);
            } else {
                refused += 1;
            }
            farebox.assert_sound().await;
            if refused == 2 * gateways {
                break;
            }
        }
        for edge in edges {
            edge.end().await;
        }
        farebox.assert_sound().await;
        assert_eq!(
            (served, farebox.money("u").await.as_str()),
            (9, "0 0 0"),
            "{gateways} gateways"
        );
        assert_eq!(farebox.tiers("u").await, ["3+0/3 0", "2+0/2 0"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refill_stays_within_its_tier_and_a_waiting_call_gets_the_next_one() {
    let farebox = graded().await;
    farebox.credit("u", "10").await;
    let mut edge = farebox.gateway("edge-1");
    let first = edge.want(want("u", "asset", 9, 3)).await.unwrap();
    assert_eq!((first.paid_units, first.price, first.is_final), (3, nanos("0.3"), true));
    let ahead = edge.want(refill("u", "asset", 9, 1)).await.unwrap_err();
    assert!(ahead.soon && ahead.price == Some(nanos("0.2")), "{ahead:?}");
    let next = edge.want(want("u", "asset", 9, 1)).await.unwrap();
    assert_eq!((next.lease != first.lease, next.price), (true, nanos("0.2")));
    // The former lease holds what it may have served, until it is told.
    assert_eq!(farebox.tiers("u").await, ["0+3/3 0", "0+1/2 0"]);
    let told = edge.report(Report { close: true, ..used(first.lease, 2) }).await;
    assert!(!told.acks[0].open);
    assert_eq!(farebox.tiers("u").await, ["2+0/3 0", "0+1/2 0"]);
    // What came back is for others; this lease goes on in its tier.
    let more = edge.want(want("u", "asset", 9, 1)).await.unwrap();
    assert_eq!((more.lease, more.price), (next.lease, nanos("0.2")));
    let other = farebox.gateway("edge-2").want(want("u", "asset", 9, 1)).await.unwrap();
    assert_eq!((other.price, other.paid_units), (nanos("0.3"), 1));
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_and_lost_usage_costs_what_it_was_granted_at() {
    for on_lost in [OnLost::Reported, OnLost::Granted] {
        let farebox = graded().await;
        let store = Store::connect(&farebox.database.options, 8).await.unwrap();
        let app = App::new(store, Settings { on_lost, ..settings(&[], &[("asset", "1")]) });
        let farebox = Fixture { app, ..farebox };
        farebox.credit("u", "10").await;
        let mut gone = farebox.gateway("gone");
        let lease = gone.want(want("u", "asset", 3, 3)).await.unwrap().lease;
        farebox.expire(lease).await;
        farebox.record(deduct("a", "u", "asset", 3)).await;
        farebox.assert_sound().await;
        gone.report(Report { close: true, ..used(lease, 2) }).await;
        let expected: &[&str] = match on_lost {
            // Others took the units: these are beyond the tier, at its price.
            OnLost::Reported => &["3+0/3 2"],
            OnLost::Granted => &["2+0/3 0", "2+0/2 0"],
        };
        assert_eq!(farebox.tiers("u").await[..expected.len()], *expected, "{on_lost:?}");
        farebox.assert_sound().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_without_a_lease_is_split_and_a_reservation_has_one_price() {
    let farebox = graded().await;
    farebox.credit("u", "1.5").await;
    let line = JournalReport { line: 7, key: key("u", "asset"), used: 6 };
    farebox.gateway("edge-1").send(vec![], vec![], vec![line]).await;
    assert_eq!(farebox.charged("u").await, ["0 + 3 at 0.3", "0 + 2 at 0.2", "0 + 1 at 0.1"]);
    farebox.credit("v", "10").await;
    let id = farebox.reservation(reserve_units("r", "v", "asset", 2)).await;
    assert_eq!(farebox.tiers("v").await, ["0+2/3 0", "0+0/2 0"]);
    // One is left at 0.3, and two at 0.2: two units are not split.
    let other = farebox.reservation(reserve_units("s", "v", "asset", 2)).await;
    assert_eq!(farebox.tiers("v").await, ["0+2/3 0", "0+2/2 0"]);
    assert_eq!(farebox.told(commit(&id, Some(1))).await, "0 free, 1 paid for 0.3, leaves 9.3");
    farebox.told(release(&other)).await;
    assert_eq!(farebox.tiers("v").await, ["1+0/3 0", "0+0/2 0"]);
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_may_seed_tiers_and_a_plan_prices_by_them() {
    let farebox = Fixture::new(&[], &[("asset", "0.2")]).await;
    for (user, units) in [("few", 2), ("many", 10)] {
        farebox.credit(user, "100").await;
        farebox.record(deduct(user, user, "asset", units)).await;
    }
    let before = "UPDATE billing_record SET reset_month = DATE_FORMAT(
      CONCAT(reset_month, '-01') - INTERVAL 1 MONTH, '%Y-%m')";
    farebox.database.run(before).await;
    let graduated = tariff(&[(Some(4), "0.3"), (None, "0.1")]);
    let prices = [("asset".parse().unwrap(), graduated.clone())].into();
    let change = PriceChange { prices, ..PriceChange::default() };
    let (plan, last_month) = farebox.app.plan_prices(&change).await.unwrap();
    let would: Vec<&str> =
        last_month.accounts.iter().map(|row| row.would_have_earned.as_str()).collect();
    assert_eq!(
        (would, last_month.services[0].would_have_earned.as_str()),
        (vec!["0.6", "1.8"], "2.4")
    );
    let json = serde_json::to_value(&plan.changes[0]).unwrap();
    assert_eq!(json["to"]["tiers"][0]["up_to"], 4);

    let store = Store::connect(&farebox.database.options, 4).await.unwrap();
    let settings = Settings { prices: change.prices, ..settings(&[], &[]) };
    let started = App::new(store, settings);
    assert_eq!(started.seed_prices().await.unwrap(), 1);
    assert_eq!(started.seed_prices().await.unwrap(), 0);
    let told = started.prices().await.unwrap();
    assert_eq!((told[0].active, &told[0].price), (true, &graduated));
    farebox.assert_sound().await;
}

//! Prices by the package: an account has bought at every moment what its paid units of the month need, and not one package more.

use farebox_core::lease::OnLost;
use farebox_core::package::{Bought, Package};
use farebox_core::tariff::Tariff;
use farebox_core::wire::{JournalReport, Report};
use farebox_sidecar::app::{App, NewPrice, Outcome, PriceChange, Settings};
use farebox_sidecar::store::Store;

use crate::calls::{call, commit, deduct, refund, release, reserve_units, undo};
use crate::fixture::{Fixture, key, nanos, refill, settings, used, want};
use crate::prices::{apply, change};
use crate::tiers::Edge;

fn package(units: u64, price: &str) -> Tariff {
    Tariff::packaged(Package { units, price: nanos(price) }).unwrap()
}

impl Fixture {
    /// Sells a service by the package.
    pub(crate) async fn pack(&self, service: &str, units: u64, price: &str) {
        let mut change = change(&[], None);
        change.prices.insert(service.parse().unwrap(), package(units, price));
        assert_eq!(apply(self, &change).await.unwrap(), 1);
    }

    /// `bought-back` packages of each record of packages, in order.
    async fn packages(&self, account: &str) -> Vec<String> {
        self.database
            .rows(format!(
                "SELECT CONCAT(paid_units, '-', paid_refunded, ' at ', TRIM(TRAILING '0' FROM unit_price)) FROM billing_record
                 WHERE user_id = '{account}' AND source = 'package' ORDER BY created_at, billing_record_id"
            ))
            .await
    }
}

/// Ten units for 0.3.
async fn packed() -> Fixture {
    let farebox = Fixture::new(&[], &[("asset", "1"), ("other", "0.1")]).await;
    farebox.pack("asset", 10, "0.3").await;
    farebox
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_buys_what_it_needs_and_what_comes_back_whole_is_given_back() {
    let farebox = packed().await;
    farebox.credit("u", "1").await;
    let check = farebox.check("u", "asset", 12).await.unwrap();
    let two = Some(Bought { count: 2, units: 10, price: nanos("0.3") });
    assert_eq!((check.allowed, check.cost, check.packages), (true, nanos("0.6"), two));
    assert_eq!((check.price, check.price_units), (Some(nanos("0.3")), Some(1)));
    let Ok(Outcome::Deducted(first)) = call(&farebox.app, deduct("a", "u", "asset", 12)).await
    else {
        panic!("not charged");
    };
    assert_eq!((first.amount, first.balance, first.packages), (nanos("0.6"), nanos("0.4"), two));
    assert_eq!(farebox.tiers("u").await, ["12+0/20 0"]);
    let check = farebox.check("u", "asset", 8).await.unwrap();
    assert_eq!((check.cost, check.price_units, check.packages), (nanos("0"), Some(8), None));
    assert_eq!(
        farebox.told(deduct("b", "u", "asset", 8)).await,
        "0 free, 8 paid for 0, leaves 0.4"
    );
    let third = farebox.record(deduct("c", "u", "asset", 1)).await;
    assert_eq!(farebox.packages("u").await, ["2-0 at 0.3", "1-0 at 0.3"]);
    // One more package than there is money for.
    assert!(farebox.checked("u", "asset", 10).await.starts_with("no by insufficient balance"));
    let short = farebox.told(deduct("d", "u", "asset", 10)).await;
    assert!(short.starts_with("190102"), "{short}");
    farebox.assert_sound().await;

    // Two of the first call's units make the last package unneeded only together with the third call's one.
    let some = farebox.told(refund("r1", &first.record_id, Some(2))).await;
    assert_eq!(some, "back 0 free, 2 paid for 0, leaves 0.4");
    assert_eq!(farebox.tiers("u").await, ["19+0/20 0"]);
    farebox.assert_sound().await;
    let rest = farebox.told(undo("a", "u")).await;
    assert_eq!(rest, "back 0 free, 10 paid for 0, leaves 0.7");
    assert_eq!(farebox.tiers("u").await, ["9+0/10 0"]);
    let last = farebox.told(refund("r2", &third, None)).await;
    assert_eq!(last, "back 0 free, 1 paid for 0, leaves 0.7");
    assert_eq!(farebox.packages("u").await, ["2-1 at 0.3", "1-1 at 0.3"]);
    farebox.assert_sound().await;
    // Packages are not refunded by hand.
    let ids = "SELECT billing_record_id FROM billing_record WHERE source = 'package' AND part_of IS NOT NULL";
    let ids = farebox.database.rows(ids).await;
    assert_eq!(ids.len(), 2);
    let told = farebox.told(refund("r3", &ids[0], None)).await;
    assert!(told.contains("is of packages"), "{told}");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn free_units_go_first_and_a_package_is_good_for_its_month_and_price() {
    let farebox = Fixture::new(&[("asset", 2)], &[("asset", "1")]).await;
    farebox.pack("asset", 3, "0.3").await;
    farebox.credit("u", "10").await;
    assert_eq!(
        farebox.told(deduct("a", "u", "asset", 6)).await,
        "2 free, 4 paid for 0.6, leaves 9.4"
    );
    farebox.pack("asset", 3, "0.5").await;
    assert_eq!(
        farebox.told(deduct("b", "u", "asset", 1)).await,
        "0 free, 1 paid for 0.5, leaves 8.9"
    );
    let own = [("asset".parse().unwrap(), NewPrice::Price(package(1_000, "0")))];
    let accounts = [("u".parse().unwrap(), own.into())].into();
    apply(&farebox, &PriceChange { accounts, ..PriceChange::default() }).await.unwrap();
    assert_eq!(
        farebox.told(deduct("c", "u", "asset", 500)).await,
        "0 free, 500 paid for 0, leaves 8.9"
    );
    assert_eq!(farebox.tiers("u").await, ["4+0/6 0", "1+0/3 0", "500+0/1000 0"]);
    farebox.assert_sound().await;
    let last_month = "DATE_FORMAT(CONCAT(reset_month, '-01') - INTERVAL 1 MONTH, '%Y-%m')";
    for table in ["tier_usage", "billing_record", "free_quota"] {
        farebox.database.run(format!("UPDATE {table} SET reset_month = {last_month}")).await;
    }
    farebox.record(deduct("d", "u", "asset", 3)).await;
    assert_eq!(farebox.packages("u").await.len(), 4, "another month begins another package");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_serve_exactly_the_units_of_the_packages_that_are_funded() {
    for gateways in [1, 2, 3] {
        let farebox = packed().await;
        // Two packages, and not quite a third one.
        farebox.credit("u", "0.899999999").await;
        let mut edges: Vec<Edge> =
            (0..gateways).map(|n| Edge::new(&farebox, &format!("edge-{n}"))).collect();
        let (mut served, mut refused) = (0, 0);
        for turn in 0..120 {
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
            (20, "0.299999999 0 0"),
            "{gateways} gateways"
        );
        assert_eq!(farebox.tiers("u").await, ["20+0/20 0"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_waiting_call_buys_and_unused_packages_come_home() {
    let farebox = packed().await;
    farebox.credit("u", "10").await;
    let mut edge = farebox.gateway("edge-1");
    let ahead = edge.want(refill("u", "asset", 4, 1)).await.unwrap_err();
    assert!(ahead.soon && ahead.price == Some(nanos("0.3")), "{ahead:?}");
    assert_eq!(farebox.money("u").await, "10 0 0");
    let first = edge.want(want("u", "asset", 100, 12)).await.unwrap();
    assert_eq!((first.paid_units, first.price), (12, nanos("0")));
    assert_eq!(farebox.tiers("u").await, ["0+12/20 0"]);
    let rest = edge.want(refill("u", "asset", 100, 8)).await.unwrap();
    assert_eq!((rest.lease, rest.paid_units), (first.lease, 20));
    let ahead = edge.want(refill("u", "asset", 100, 1)).await.unwrap_err();
    assert!(ahead.soon, "{ahead:?}");
    // The same lease goes on with units of the next package.
    let next = edge.want(want("u", "asset", 100, 1)).await.unwrap();
    assert_eq!((next.lease, farebox.money("u").await.as_str()), (first.lease, "9.1 0 0"));
    farebox.assert_sound().await;
    edge.report(Report { close: true, ..used(first.lease, 3) }).await;
    assert_eq!(farebox.tiers("u").await, ["3+0/10 0"]);
    assert_eq!(farebox.packages("u").await, ["2-1 at 0.3", "1-1 at 0.3"]);
    assert_eq!(farebox.money("u").await, "9.7 0 0");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_gateways_hold_unused_of_a_package_is_money_for_another_service() {
    let farebox = packed().await;
    farebox.credit("u", "0.3").await;
    let mut idle = farebox.gateway("idle");
    let lease = idle.want(want("u", "asset", 4, 1)).await.unwrap().lease;
    let mut busy = farebox.gateway("busy");
    let refusal = busy.want(want("u", "other", 1, 1)).await.unwrap_err();
    assert!(refusal.soon, "{refusal:?}");
    assert!(farebox.checked("u", "other", 3).await.starts_with("yes"));
    assert!(farebox.checked("u", "other", 4).await.starts_with("no"));
    let reply = idle.report(used(lease, 0)).await;
    assert_eq!(reply.recalls.len(), 1, "{reply:?}");
    // The package and what it is given back for, in one message.
    let close = Report { close: true, ..used(lease, 0) };
    let reply = idle.send(vec![close], vec![want("u", "other", 3, 3)], vec![]).await;
    assert_eq!(reply.grants.len(), 1, "{reply:?}");
    assert_eq!(farebox.money("u").await, "0.3 0.3 0");
    farebox.assert_sound().await;
    // Were a unit of the package used, there would be no money in it.
    farebox.credit("v", "0.3").await;
    let lease = idle.want(want("v", "asset", 4, 1)).await.unwrap().lease;
    idle.report(used(lease, 1)).await;
    let refusal = busy.want(want("v", "other", 1, 1)).await.unwrap_err();
    assert_eq!((refusal.soon, refusal.code), (false, 190_102), "{refusal:?}");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_and_lost_usage_is_of_packages_too() {
    for (on_lost, expected) in [(OnLost::Reported, "5+0/10 0"), (OnLost::Granted, "5+0/10 0")] {
        let farebox = packed().await;
        let store = Store::connect(&farebox.database.options, 8).await.unwrap();
        let prices = [("asset", "1"), ("other", "0.1")];
        let app = App::new(store, Settings { on_lost, ..settings(&[], &prices) });
        let farebox = Fixture { app, ..farebox };
        farebox.credit("u", "0.3").await;
        let mut gone = farebox.gateway("gone");
        let lease = gone.want(want("u", "asset", 6, 6)).await.unwrap().lease;
        farebox.expire(lease).await;
        let (tier, money) = match on_lost {
            OnLost::Reported => ("0+0/0 0", "0.3 0 0"),
            OnLost::Granted => ("6+0/10 0", "0 0 0"),
        };
        assert_eq!(
            (farebox.tiers("u").await[0].as_str(), farebox.money("u").await.as_str()),
            (tier, money)
        );
        farebox.assert_sound().await;
        gone.report(Report { close: true, ..used(lease, 5) }).await;
        assert_eq!(farebox.tiers("u").await, [expected], "{on_lost:?}");
        assert_eq!(farebox.money("u").await, "0 0 0");
        farebox.assert_sound().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_for_usage_that_found_no_money_is_owed() {
    let farebox = packed().await;
    farebox.credit("u", "0.4").await;
    let line = JournalReport { line: 7, key: key("u", "asset"), used: 11 };
    let mut edge = farebox.gateway("edge-1");
    edge.send(vec![], vec![], vec![line]).await;
    assert_eq!(
        (farebox.tiers("u").await, farebox.money("u").await),
        (vec!["11+0/20 0".to_owned()], "0 0 0.2".to_owned())
    );
    farebox.assert_sound().await;
    farebox.credit("u", "1").await;
    assert_eq!(farebox.money("u").await, "0.8 0 0");
    // A lease that ended: others took the package's last units meanwhile.
    let lease = edge.want(want("u", "asset", 9, 9)).await.unwrap().lease;
    farebox.expire(lease).await;
    farebox.record(deduct("a", "u", "asset", 9)).await;
    edge.report(Report { close: true, ..used(lease, 1) }).await;
    assert_eq!(
        (farebox.tiers("u").await, farebox.money("u").await),
        (vec!["21+0/30 0".to_owned()], "0.5 0 0".to_owned())
    );
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_buys_and_gives_back() {
    let farebox = packed().await;
    farebox.credit("u", "0.6").await;
    let Ok(Outcome::Reserved(held)) =
        call(&farebox.app, reserve_units("r", "u", "asset", 11)).await
    else {
        panic!("not reserved");
    };
    let two = Some(Bought { count: 2, units: 10, price: nanos("0.3") });
    assert_eq!((held.amount, held.packages, held.balance), (nanos("0"), two, nanos("0")));
    assert_eq!(farebox.tiers("u").await, ["0+11/20 0"]);
    farebox.assert_sound().await;
    // Two units fewer are one package fewer.
    let done = farebox.told(commit(&held.reservation_id, Some(9))).await;
    assert_eq!(done, "0 free, 9 paid for 0, leaves 0.3");
    assert_eq!(farebox.tiers("u").await, ["9+0/10 0"]);
    let other = farebox.reservation(reserve_units("s", "u", "asset", 2)).await;
    assert_eq!(farebox.money("u").await, "0 0 0");
    let short = farebox.told(reserve_units("t", "u", "asset", 10)).await;
    assert!(!short.starts_with("holds"), "{short}");
    farebox.told(release(&other)).await;
    assert_eq!(farebox.money("u").await, "0.3 0 0");
    assert_eq!(farebox.tiers("u").await, ["9+0/10 0"]);
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_may_seed_packages_and_a_plan_prices_by_them() {
    let farebox = Fixture::new(&[], &[("asset", "0.2")]).await;
    for (user, units) in [("few", 2), ("many", 11)] {
        farebox.credit(user, "100").await;
        farebox.record(deduct(user, user, "asset", units)).await;
    }
    let before = "UPDATE billing_record SET reset_month = DATE_FORMAT(
      CONCAT(reset_month, '-01') - INTERVAL 1 MONTH, '%Y-%m')";
    farebox.database.run(before).await;
    let packaged = package(10, "0.3");
    let prices = [("asset".parse().unwrap(), packaged.clone())].into();
    let change = PriceChange { prices, ..PriceChange::default() };
    let (plan, last_month) = farebox.app.plan_prices(&change).await.unwrap();
    assert_eq!(last_month.services[0].would_have_earned, "0.9");
    let json = serde_json::to_value(&plan.changes[0]).unwrap();
    assert_eq!(json["to"]["package"]["units"], 10);

    let store = Store::connect(&farebox.database.options, 4).await.unwrap();
    let settings = Settings { prices: change.prices, ..settings(&[], &[]) };
    let started = Fixture { app: App::new(store, settings), ..farebox };
    assert_eq!(started.app.seed_prices().await.unwrap(), 1);
    assert_eq!(started.app.seed_prices().await.unwrap(), 0);
    let told = started.app.prices().await.unwrap();
    assert_eq!((told[0].active, &told[0].price), (true, &packaged));
    started.assert_sound().await;

    // And back: 21 units in three packages would have cost 2.1 one by one.
    started.record(deduct("packed", "few", "asset", 21)).await;
    started.database.run("DELETE FROM billing_record WHERE unit_price = 0.2").await;
    started.database.run(before).await;
    let flat = [("asset".parse().unwrap(), Tariff::flat(nanos("0.1")))].into();
    let change = PriceChange { prices: flat, ..PriceChange::default() };
    let (_, last_month) = started.app.plan_prices(&change).await.unwrap();
    let sums = &last_month.services[0];
    assert_eq!((sums.earned.as_str(), sums.would_have_earned.as_str()), ("0.9", "2.1"));
}

//! The price book and prices that routes name.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use farebox_core::tariff::Tariff;
use farebox_core::wire::{LeaseKey, Report, Want};
use farebox_sidecar::app::{
    NewPrice, PriceChange, PriceDifference, PriceView, PricesError, Repriced,
};
use sqlx::Executor as _;

use crate::calls::deduct;
use crate::fixture::{Fixture, key, nanos, used, want};

#[tokio::test(flavor = "multi_thread")]
async fn seeding_again_changes_nothing_and_a_new_price_ends_the_old_one() {
    let farebox = Fixture::new(&[], &[("asset", "0.001"), ("payment", "0.002")]).await;
    assert_eq!(farebox.app.seed_prices().await.unwrap(), 0);
    let changed = farebox.sidecar(&[], &[("asset", "0.003")]).await;
    let prices = |prices: Vec<farebox_sidecar::app::PriceView>| -> Vec<String> {
        let text = |view: &farebox_sidecar::app::PriceView| {
            format!("{} {} {}", view.service, view.price, view.active)
        };
        prices.iter().map(text).collect()
    };
    assert_eq!(
        prices(changed.prices().await.unwrap()),
        ["asset 0.003 true", "asset 0.001 false", "payment 0.002 false"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_change_ends_the_leases_at_the_old_price() {
    let farebox = Fixture::new(&[], &[("asset", "0.001")]).await;
    farebox.credit("u", "1").await;
    let mut edge = farebox.gateway("edge-1");
    let old = edge.want(want("u", "asset", 100, 100)).await.unwrap();
    farebox.sidecar(&[], &[("asset", "0.002")]).await;

    let reply = edge.report(used(old.lease, 10)).await;
    assert_eq!((reply.acks[0].open, reply.acks[0].ttl_ms), (true, 0));
    assert_eq!(reply.recalls[0].lease, old.lease);
    let new = edge.want(want("u", "asset", 100, 100)).await.unwrap();
    assert_eq!((new.price, new.lease == old.lease), (nanos("0.002"), false));
    // What was used before the change costs the old price, even when it is told late.
    edge.report(used(old.lease, 20)).await;
    edge.report(used(new.lease, 20)).await;
    assert_eq!(farebox.money("u").await, "0.94 0.16 0");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_that_ends_in_the_future_bounds_the_lease() {
    let farebox = Fixture::new(&[], &[("asset", "0.001")]).await;
    farebox.credit("u", "1").await;
    farebox
        .database
        .run("UPDATE price_version SET effective_to = UTC_TIMESTAMP(3) + INTERVAL 5 SECOND")
        .await;
    let grant = farebox.gateway("edge-1").want(want("u", "asset", 1, 1)).await.unwrap();
    assert!(grant.ttl_ms <= 5_000, "{}", grant.ttl_ms);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_may_name_its_own_price() {
    let farebox = Fixture::new(&[("asset", 1)], &[("asset", "0.001")]).await;
    farebox.credit("u", "1").await;
    let mut edge = farebox.gateway("edge-1");
    let at = |price: &str| Want {
        key: LeaseKey { price: Some(nanos(price)), ..key("u", "asset") },
        units: 2,
        min: 2,
        waiting: true,
        known: None,
    };
    let dear = edge.want(at("0.1")).await.unwrap();
    let cheap = edge.want(at("0.01")).await.unwrap();
    let book = edge.want(want("u", "asset", 2, 2)).await.unwrap();
    assert_eq!((dear.free_units, dear.paid_units, dear.price), (1, 1, nanos("0.1")));
    assert_eq!((cheap.paid_units, book.paid_units, book.price), (2, 2, nanos("0.001")));
    edge.send(vec![used(dear.lease, 2), used(cheap.lease, 2), used(book.lease, 2)], vec![], vec![])
        .await;
    assert_eq!(farebox.money("u").await, "0.878 0 0");
    let versions = "SELECT COUNT(*) FROM price_version WHERE source = 'route'";
    edge.want(at("0.1")).await.unwrap();
    assert_eq!(farebox.database.rows(versions).await, ["2"]);
    farebox.assert_sound().await;
}

/// A change of prices, as a file or a request says it.
pub(crate) fn change(prices: &[(&str, &str)], effective: Option<DateTime<Utc>>) -> PriceChange {
    let prices = prices
        .iter()
        .map(|&(service, price)| (service.parse().unwrap(), Tariff::flat(nanos(price))));
    PriceChange { prices: prices.collect(), effective, ..PriceChange::default() }
}

/// What one account is to pay for one service.
fn own(account: &str, service: &str, price: &str, effective: Option<DateTime<Utc>>) -> PriceChange {
    let price =
        if price == "book" { NewPrice::Book } else { NewPrice::Price(Tariff::flat(nanos(price))) };
    let prices = BTreeMap::from([(service.parse().unwrap(), price)]);
    let accounts = BTreeMap::from([(account.parse().unwrap(), prices)]);
    PriceChange { accounts, effective, ..PriceChange::default() }
}

/// The database's time, some seconds from now.
pub(crate) async fn in_seconds(farebox: &Fixture, seconds: i64) -> DateTime<Utc> {
    let now = farebox.database.rows("SELECT CAST(UTC_TIMESTAMP(3) AS CHAR)").await;
    format!("{}Z", now[0].replace(' ', "T")).parse::<DateTime<Utc>>().unwrap()
        + TimeDelta::seconds(seconds)
}

pub(crate) async fn apply(farebox: &Fixture, change: &PriceChange) -> Result<usize, PricesError> {
    farebox.app.apply_prices(change, "test", "tests").await.map(|plan| plan.changes.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_applied_price_ends_leases_at_the_old_one_and_a_start_does_not_undo_it() {
    let farebox = Fixture::new(&[], &[("asset", "0.001"), ("payment", "0.002")]).await;
    farebox.credit("u", "1").await;
    let mut edge = farebox.gateway("edge-1");
    let old = edge.want(want("u", "asset", 100, 100)).await.unwrap();
    let dearer = change(&[("asset", "0.002")], None);
    assert_eq!(apply(&farebox, &dearer).await.unwrap(), 1);
    assert_eq!(apply(&farebox, &dearer).await.unwrap(), 0, "applied again, nothing changes");

    let reply = edge.report(used(old.lease, 10)).await;
    assert_eq!((reply.acks[0].ttl_ms, reply.recalls[0].lease), (0, old.lease));
    // The configuration leads what no operator has set.
    let started = farebox.sidecar(&[], &[("asset", "0.001"), ("payment", "0.003")]).await;
    let new = edge.want(want("u", "asset", 1, 1)).await.unwrap();
    assert_eq!(new.price, nanos("0.002"));
    let active: Vec<String> = started
        .prices()
        .await
        .unwrap()
        .iter()
        .filter(|version| version.active)
        .map(|version| format!("{} {} {}", version.service, version.price, version.set_by))
        .collect();
    assert_eq!(active, ["asset 0.002 operator", "payment 0.003 configuration"]);
    let audited = "SELECT action, actor, reason FROM audit_log WHERE action = 'prices.apply'";
    assert_eq!(farebox.database.rows(audited).await.len(), 1);
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_to_come_bounds_leases_that_stand_and_leases_that_are_made() {
    let farebox = Fixture::new(&[], &[("asset", "0.001")]).await;
    farebox.credit("u", "1").await;
    let mut edge = farebox.gateway("edge-1");
    let standing = edge.want(want("u", "asset", 10, 10)).await.unwrap();
    let at = in_seconds(&farebox, 3_600).await;
    assert_eq!(apply(&farebox, &change(&[("asset", "0.002")], Some(at))).await.unwrap(), 1);

    let other = farebox.gateway("edge-2").want(want("u", "asset", 10, 10)).await.unwrap();
    assert_eq!((standing.price, other.price), (nanos("0.001"), nanos("0.001")));
    let crossing = "SELECT lease_id FROM lease JOIN price_version USING (price_version_id)
                    WHERE not_after IS NULL OR effective_to IS NULL OR effective_to < not_after";
    assert_eq!(farebox.database.rows(crossing).await, Vec::<String>::new());
    // One that escaped, whyever, is replaced when it is to grow.
    farebox.database.run("UPDATE lease SET not_after = not_after + INTERVAL 1 DAY").await;
    let next = edge.want(want("u", "asset", 10, 10)).await.unwrap();
    assert_ne!(next.lease, standing.lease);

    let held = farebox.app.prices_at(at).await.unwrap();
    assert_eq!((held[0].active, held[0].price.to_string()), (true, "0.002".to_owned()));
    assert_eq!((held[1].active, held[1].price.to_string()), (false, "0.001".to_owned()));
}

/// A bound moment goes to the server as a TIMESTAMP unless it is told otherwise, and those of MariaDB end in 2038.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_in_a_distant_year_is_kept_as_it_was_said() {
    let farebox = Fixture::new(&[], &[("asset", "0.001")]).await;
    farebox.credit("u", "1").await;
    let grant = farebox.gateway("edge-1").want(want("u", "asset", 10, 10)).await.unwrap();
    let year = "2040-01-01T00:00:00.000Z";
    let effective = Some(year.parse().unwrap());
    apply(&farebox, &change(&[("asset", "0.002")], effective)).await.unwrap();
    let views = farebox.app.prices().await.unwrap();
    let told: Vec<_> = views
        .iter()
        .map(|view| (view.active, view.effective_from == year, view.effective_to.as_deref()))
        .collect();
    assert_eq!(told, [(true, false, Some(year)), (false, true, None)]);
    let unbound = format!(
        "SELECT not_after FROM lease WHERE lease_id = {} AND not_after IS NULL",
        grant.lease
    );
    assert_eq!(farebox.database.rows(unbound).await, [""; 0], "the month's end still bounds it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_cannot_be_is_refused_with_field_value_and_remedy() {
    let farebox = Fixture::new(&[("payment", 5)], &[("asset", "0.001")]).await;
    let past = in_seconds(&farebox, -3_600).await;
    for (change, expected) in [
        (change(&[], None), "prices names no service; write at least one"),
        (change(&[("typo", "1")], None), "prices.typo: farebox.yaml names no such service"),
        (change(&[("asset", "-1")], None), "prices.asset is -1: negative; write 0 or more"),
        (change(&[("asset", "1")], Some(past)), "write now or a moment to come"),
        (own("u", "typo", "1", None), "accounts.u.typo: farebox.yaml names no such service"),
        (own("u", "asset", "-1", None), "accounts.u.asset is -1: negative; write 0 or more"),
        (own("u", "asset", "1", Some(past)), "write now or a moment to come"),
    ] {
        let told = apply(&farebox, &change).await.unwrap_err().to_string();
        assert!(told.contains(expected), "{told}");
    }
    // A service with free quota alone gets a price.
    assert_eq!(apply(&farebox, &change(&[("payment", "0.5")], None)).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_made_at_once_leave_no_hole_and_no_overlap() {
    let farebox = Fixture::new(&[], &[("asset", "0.001")]).await;
    let begin = in_seconds(&farebox, 3_600).await;
    let changes: Vec<PriceChange> = (0..12)
        .map(|n| {
            let at = begin + TimeDelta::seconds((n * 7) % 5);
            change(&[("asset", &format!("0.00{}", n % 4 + 2))], Some(at))
        })
        .collect();
    let applied = changes.iter().map(|change| apply(&farebox, change));
    for outcome in futures_util::future::join_all(applied).await {
        outcome.unwrap();
    }
    let versions = "SELECT effective_from, effective_to FROM price_version
                    WHERE source = 'book' AND (effective_to IS NULL OR effective_from < effective_to)";
    let loose = format!(
        "SELECT one.effective_from FROM ({versions}) AS one
         LEFT JOIN ({versions}) AS next ON next.effective_from = one.effective_to
         GROUP BY one.effective_from
         HAVING COUNT(*) <> 1 OR COUNT(next.effective_from) <> COUNT(one.effective_to)"
    );
    assert_eq!(farebox.database.rows(loose).await, ["NULL"; 0]);
    let open = format!("SELECT COUNT(*) FROM ({versions}) AS one WHERE effective_to IS NULL");
    assert_eq!(farebox.database.rows(open).await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_prices_last_months_usage_again_and_changes_nothing() {
    let farebox = Fixture::new(&[], &[("asset", "0.001"), ("payment", "0.002")]).await;
    let mut edge = farebox.gateway("edge-1");
    for (user, units) in [("few", 10), ("many", 1_000)] {
        farebox.credit(user, "100").await;
        for service in ["asset", "payment"] {
            let lease = edge.want(want(user, service, units, units)).await.unwrap().lease;
            edge.report(used(lease, units)).await;
        }
    }
    // At a route's own price; no book changes that.
    let key = LeaseKey { price: Some(nanos("5")), ..key("many", "asset") };
    let dear = edge.want(Want { key, units: 1, min: 1, waiting: true, known: None }).await.unwrap();
    edge.report(used(dear.lease, 1)).await;
    let before = "UPDATE billing_record SET reset_month = DATE_FORMAT(
      CONCAT(reset_month, '-01') - INTERVAL 1 MONTH, '%Y-%m')";
    farebox.database.run(before).await;

    let books = farebox.books().await;
    let dearer = change(&[("asset", "0.0015")], None);
    let (plan, last_month) = farebox.app.plan_prices(&dearer).await.unwrap();
    let price = |text| NewPrice::Price(Tariff::flat(nanos(text)));
    let PriceDifference { from, to, .. } = plan.changes[0].clone();
    assert_eq!((from, to), (Some(price("0.001")), price("0.0015")));
    assert_eq!(repriced(&last_month.services), ["asset 1.01 1.515 0.505"]);
    assert_eq!(repriced(&last_month.accounts), ["many 1 1.5 0.5", "few 0.01 0.015 0.005"]);
    // The others would have paid what they did.
    let cheaper = own("many", "asset", "0.0005", None);
    let (_, last_month) = farebox.app.plan_prices(&cheaper).await.unwrap();
    assert_eq!(repriced(&last_month.services), ["asset 1.01 0.51 -0.5"]);
    assert_eq!(repriced(&last_month.accounts)[0], "many 1 0.5 -0.5");
    assert_eq!(farebox.books().await, books);

    // Whoever has a price of the own is not touched by a change of everybody's, and is by one of it.
    apply(&farebox, &cheaper).await.unwrap();
    let (_, last_month) = farebox.app.plan_prices(&dearer).await.unwrap();
    assert_eq!(repriced(&last_month.services), ["asset 1.01 1.015 0.005"]);
    assert_eq!(repriced(&last_month.accounts), ["few 0.01 0.015 0.005"]);
    let back = PriceChange { prices: dearer.prices, ..own("many", "asset", "book", None) };
    let (plan, last_month) = farebox.app.plan_prices(&back).await.unwrap();
    assert_eq!(repriced(&last_month.accounts)[0], "many 1 1.5 0.5");
    let PriceDifference { from, to, .. } = plan.changes[1].clone();
    assert_eq!((from, to), (Some(price("0.0005")), NewPrice::Book));
}

fn repriced(rows: &[Repriced]) -> Vec<String> {
    let text = |row: &Repriced| {
        format!("{} {} {} {}", row.name, row.earned, row.would_have_earned, row.difference)
    };
    rows.iter().map(text).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_may_have_a_price_of_its_own_until_the_book_holds_for_it_again() {
    let farebox = Fixture::new(&[], &[("asset", "0.1"), ("payment", "0.1")]).await;
    // It need not exist yet.
    assert_eq!(apply(&farebox, &own("acme", "asset", "0.05", None)).await.unwrap(), 1);
    assert_eq!(apply(&farebox, &own("acme", "asset", "0.05", None)).await.unwrap(), 0);
    for user in ["acme", "u"] {
        farebox.credit(user, "10").await;
    }
    let paid = async |key: &str, user: &str, service: &str| {
        let told = farebox.told(deduct(key, user, service, 2)).await;
        told.split(' ').nth(5).unwrap().trim_end_matches(',').to_owned()
    };
    assert_eq!(paid("1", "acme", "asset").await, "0.1");
    assert_eq!(paid("2", "acme", "payment").await, "0.2", "another service");
    assert_eq!(paid("3", "u", "asset").await, "0.2", "another account");
    let checked = farebox.checked("acme", "asset", 3).await;
    assert_eq!(checked, "yes by balance, 0 free and 9.7 for 0.15");

    // Neither a change of everybody's price nor a start of a sidecar touches it.
    assert_eq!(apply(&farebox, &change(&[("asset", "0.3")], None)).await.unwrap(), 1);
    farebox.sidecar(&[], &[("asset", "0.4"), ("payment", "0.1")]).await;
    assert_eq!(paid("4", "acme", "asset").await, "0.1");
    assert_eq!(paid("5", "u", "asset").await, "0.6");
    assert_eq!(apply(&farebox, &own("acme", "asset", "book", None)).await.unwrap(), 1);
    assert_eq!(apply(&farebox, &own("acme", "asset", "book", None)).await.unwrap(), 0);
    assert_eq!(paid("6", "acme", "asset").await, "0.6");
    let audited = "SELECT subject, before_json FROM audit_log WHERE action = 'prices.apply'
                   ORDER BY audit_log_id";
    assert_eq!(
        farebox.database.rows(audited).await,
        [r#"acme {"asset":"book"}"#, r#"price_book {"asset":"0.1"}"#, r#"acme {"asset":"0.05"}"#]
    );
    farebox.assert_sound().await;
}

impl Fixture {
    /// Gives an account a price of its own, some seconds from now.
    pub(crate) async fn give_price(&self, account: &str, service: &str, price: &str, seconds: i64) {
        let at = in_seconds(self, seconds).await;
        assert_eq!(apply(self, &own(account, service, price, Some(at))).await.unwrap(), 1);
    }

    /// Waits until so many statements wait for a row's lock.
    async fn until_locked(&self, waiting: usize) {
        let sql = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'
                   AND trx_mysql_thread_id IN (SELECT id FROM information_schema.processlist WHERE db = DATABASE())";
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.database.rows(sql).await != [waiting.to_string()] {
            assert!(Instant::now() < deadline, "nobody waits for a lock");
            // MariaDB shows the same for as long as it is asked within a tenth of a second.
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    }
}

/// Two changes that meet a grant at its every step: for everybody, and for the account.
fn changes() -> [PriceChange; 2] {
    [change(&[("asset", "0.002")], None), own("u", "asset", "0.002", None)]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_waits_for_a_lease_that_is_being_made_and_bounds_it() {
    for change in changes() {
        let farebox = Fixture::new(&[], &[("asset", "0.001")]).await;
        farebox.credit("u", "1").await;
        let mut edge = farebox.gateway("edge-1");
        // The account and the gateway are known.
        let first = edge.want(want("u", "asset", 1, 1)).await.unwrap().lease;
        edge.report(Report { close: true, ..used(first, 0) }).await;
        // The last row that a message writes: its transaction has made the lease by then.
        let mut holder = farebox.database.pool.begin().await.unwrap();
        holder.execute("SELECT * FROM gateway FOR UPDATE").await.unwrap();
        let granted = tokio::spawn(async move { edge.want(want("u", "asset", 10, 10)).await });
        farebox.until_locked(1).await;
        let app = farebox.app.clone();
        let applied = tokio::spawn(async move { app.apply_prices(&change, "test", "tests").await });
        farebox.until_locked(2).await;
        holder.commit().await.unwrap();
        assert_eq!(applied.await.unwrap().unwrap().changes.len(), 1);
        assert_eq!(granted.await.unwrap().unwrap().price, nanos("0.001"));
        let open = "SELECT recall, not_after <= UTC_TIMESTAMP(3) FROM lease WHERE state = 'open'";
        assert_eq!(farebox.database.rows(open).await, ["1 1"]);
        farebox.assert_sound().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_read_the_book_before_a_change_reads_it_again() {
    for (change, whose) in changes().iter().zip(["", "u"]) {
        let farebox = Fixture::new(&[], &[("asset", "0.001")]).await;
        farebox.credit("u", "1").await;
        // Whoever changes prices has their rows.
        let mut changing = farebox.database.pool.begin().await.unwrap();
        changing.execute("SELECT * FROM price_version FOR UPDATE").await.unwrap();
        let mut edge = farebox.gateway("edge-1");
        let granted = tokio::spawn(async move { edge.want(want("u", "asset", 10, 10)).await });
        // It has read the book, and is about to make a lease by it.
        farebox.until_locked(1).await;
        if whose.is_empty() {
            let end = "UPDATE price_version SET effective_to = UTC_TIMESTAMP(3)";
            changing.execute(end).await.unwrap();
        }
        let begin = format!(
            "INSERT INTO price_version (service_name, source, user_id, price, effective_from)
             SELECT 'asset', 'book', '{whose}', 0.002, COALESCE(MAX(effective_to), UTC_TIMESTAMP(3))
             FROM price_version"
        );
        changing.execute(sqlx::AssertSqlSafe(begin)).await.unwrap();
        changing.commit().await.unwrap();
        assert_eq!(granted.await.unwrap().unwrap().price, nanos("0.002"), "{change:?}");
        farebox.assert_sound().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_or_an_overlap_in_the_book_is_found() {
    let farebox = Fixture::new(&[], &[("asset", "0.001"), ("payment", "0.002")]).await;
    apply(&farebox, &change(&[("asset", "0.002")], None)).await.unwrap();
    let later = in_seconds(&farebox, 3_600).await;
    apply(&farebox, &change(&[("asset", "0.003")], Some(later))).await.unwrap();
    farebox.assert_sound().await;
    let kept = "CREATE TABLE kept AS SELECT * FROM price_version";
    farebox.database.run(kept).await;
    for (broken, expected) in [
        ("SET effective_to = effective_to - INTERVAL 1 SECOND WHERE price = 0.002", "follows"),
        ("SET effective_from = effective_from - INTERVAL 1 SECOND WHERE price = 0.003", ", and "),
        ("SET effective_to = NULL WHERE price = 0.001", ", and "),
    ] {
        farebox
            .database
            .run(format!("UPDATE price_version {broken} AND service_name = 'asset'"))
            .await;
        let found = farebox.app.invariants().await.unwrap();
        let found = found.into_iter().find(|rule| rule.name == "m7_book_prices").unwrap();
        assert!(found.violations[0].contains(expected), "{broken}: {:?}", found.violations);
        farebox.database.run("DELETE FROM price_version").await;
        farebox.database.run("INSERT INTO price_version SELECT * FROM kept").await;
    }
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_lease_of_an_account_reaches_beyond_a_change_of_its_own_price() {
    let farebox = Fixture::new(&[], &[("asset", "0.001")]).await;
    for user in ["acme", "u"] {
        farebox.credit(user, "10").await;
    }
    let (mut edge, mut other) = (farebox.gateway("edge-1"), farebox.gateway("edge-2"));
    let standing = edge.want(want("acme", "asset", 10, 10)).await.unwrap();
    let bystander = edge.want(want("u", "asset", 10, 10)).await.unwrap();
    let soon = in_seconds(&farebox, 3_600).await;
    let later = in_seconds(&farebox, 7_200).await;
    let ends = async |lease: u64| {
        let sql = format!("SELECT not_after FROM lease WHERE lease_id = {lease}");
        farebox.database.rows(sql).await.remove(0)
    };
    let text = |time: DateTime<Utc>| time.format("%Y-%m-%d %H:%M:%S%.3f").to_string();
    let month_end = ends(bystander.lease).await;
    // One that is to come bounds what stands, at everybody's price, and what is granted until then.
    apply(&farebox, &own("acme", "asset", "0.0005", Some(soon))).await.unwrap();
    let made = other.want(want("acme", "asset", 10, 10)).await.unwrap();
    assert_eq!((made.price, ends(made.lease).await), (nanos("0.001"), text(soon)));
    assert_eq!(ends(standing.lease).await, text(soon));
    assert_eq!(ends(bystander.lease).await, month_end);
    // One for now ends it; the next grant is bounded where the one to come begins.
    apply(&farebox, &own("acme", "asset", "0.0004", None)).await.unwrap();
    let reply = edge.send(vec![used(standing.lease, 2), used(bystander.lease, 2)], vec![], vec![]);
    let reply = reply.await;
    let ttls: Vec<u64> = reply.acks.iter().map(|ack| ack.ttl_ms).collect();
    assert_eq!((ttls, reply.recalls[0].lease), (vec![0, 10_000], standing.lease));
    let cheaper = edge.want(want("acme", "asset", 10, 10)).await.unwrap();
    assert_eq!((cheaper.price, ends(cheaper.lease).await), (nanos("0.0004"), text(soon)));
    apply(&farebox, &own("acme", "asset", "book", Some(later))).await.unwrap();
    let views = farebox.app.prices_at(later - TimeDelta::seconds(1)).await.unwrap();
    let told = |views: &[PriceView]| -> Vec<String> {
        let active = views.iter().filter(|view| view.active);
        let whose =
            |view: &PriceView| view.account.as_ref().map_or("all", |id| id.as_str()).to_owned();
        active.map(|view| format!("{} {}", whose(view), view.price)).collect()
    };
    assert_eq!(told(&views), ["all 0.001", "acme 0.0005"]);
    let views = farebox.app.prices_at(later).await.unwrap();
    assert_eq!(told(&views), ["all 0.001"]);
    farebox.assert_sound().await;
}

//! The edge of a month. It is in the billing time zone, and the database's clock says when it is: here, each sidecar is
//! connected to a clock of its own.

use farebox_core::call::ReserveRequest;
use farebox_sidecar::app::{App, Request};

use super::{commit, deduct, refund, release, reserve_units, told};
use crate::clock::sidecar_at;
use crate::database::Database;
use crate::fixture::Fixture;

/// 2026-11-30 23:59:59.999 in Shanghai, and the millisecond after it, as seconds since 1970.
const LAST_OF_NOVEMBER: &str = "1796054399.999";
const FIRST_OF_DECEMBER: &str = "1796054400.000";

/// A sidecar in November and one in December, on one database.
struct Edge {
    november: Fixture,
    december: App,
}

impl Edge {
    async fn new() -> Self {
        let database = Database::create().await;
        let november = sidecar(&database, LAST_OF_NOVEMBER).await;
        let december = sidecar(&database, FIRST_OF_DECEMBER).await;
        Self { november: Fixture { database, app: november }, december }
    }

    /// `month used+held` of an account, by month.
    async fn months(&self, account: &str) -> String {
        let sql = format!(
            "SELECT CONCAT(reset_month, ' ', used_quota, '+', held_quota) FROM free_quota
             WHERE user_id = '{account}' ORDER BY reset_month"
        );
        self.november.database.rows(sql).await.join(", ")
    }

    /// `month source count` of every record, in that order.
    async fn records(&self) -> Vec<String> {
        let sql = "SELECT reset_month, source, count FROM billing_record ORDER BY reset_month, source, count";
        self.november.database.rows(sql).await
    }

    async fn in_november(&self, request: Request) -> String {
        self.november.told(request).await
    }

    async fn in_december(&self, request: Request) -> String {
        told(&self.december, request).await
    }
}

/// A sidecar whose connections all have this time, for ever.
async fn sidecar(database: &Database, time: &str) -> App {
    sidecar_at(database, time, &[("asset", 10)], &[("asset", "0.1")]).await
}

/// A reservation of units that lasts this long.
fn reserve_for(key: &str, units: u64, ttl_ms: u64) -> Request {
    let Request::Reserve(request) = reserve_units(key, "u", "asset", units) else { unreachable!() };
    Request::Reserve(ReserveRequest { ttl_ms: Some(ttl_ms), ..request })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_of_the_month_in_which_the_database_decides_it() {
    let edge = Edge::new().await;
    for round in 0..3 {
        let (before, after) = (format!("n{round}"), format!("d{round}"));
        let told = edge.in_november(deduct(&before, "u", "asset", 1)).await;
        assert_eq!(told, "1 free, 0 paid for 0, leaves 0");
        let told = edge.in_december(deduct(&after, "u", "asset", 2)).await;
        assert_eq!(told, "2 free, 0 paid for 0, leaves 0");
    }
    assert_eq!(edge.months("u").await, "2026-11 3+0, 2026-12 6+0");
    let (november, december) = ("2026-11 deduct 1", "2026-12 deduct 2");
    assert_eq!(edge.records().await, [november, november, november, december, december, december]);
    // A key's answer is of the month in which it was decided.
    let again = edge.in_december(deduct("n0", "u", "asset", 1)).await;
    assert_eq!(again, "1 free, 0 paid for 0, leaves 0");
    assert_eq!(edge.months("u").await, "2026-11 3+0, 2026-12 6+0");
    edge.november.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_and_deduct_tell_when_the_quota_comes_back() {
    let edge = Edge::new().await;
    let left = |outcome| match outcome {
        Ok(farebox_sidecar::app::Outcome::Deducted(reply)) => {
            (reply.free_quota.remaining, reply.free_quota.resets_in_s)
        }
        other => panic!("{other:?}"),
    };
    let november = super::call(&edge.november.app, deduct("n", "u", "asset", 10)).await;
    assert_eq!(left(november), (0, 0));
    assert_eq!(
        edge.november.checked("u", "asset", 1).await,
        "no by insufficient balance, 0 free and 0 for 0.1"
    );
    let december = super::call(&edge.december, deduct("d", "u", "asset", 4)).await;
    assert_eq!(left(december), (6, 31 * 24 * 3_600));
    edge.november.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_months_at_once_are_charged_to_their_own_rows() {
    let edge = Edge::new().await;
    let calls = (0..24).map(|call| {
        let app = if call % 2 == 0 { edge.november.app.clone() } else { edge.december.clone() };
        tokio::spawn(async move { told(&app, deduct(&format!("k{call}"), "u", "asset", 1)).await })
    });
    let mut free = 0;
    for call in calls.collect::<Vec<_>>() {
        let told = call.await.unwrap();
        free += usize::from(told == "1 free, 0 paid for 0, leaves 0");
        assert!(
            told.contains("1 free") || told == "190102: 0 free and 0 do not cover 0.1",
            "{told}"
        );
    }
    assert_eq!((free, edge.months("u").await.as_str()), (20, "2026-11 10+0, 2026-12 10+0"));
    edge.november.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_reserved_in_november_is_novembers() {
    let edge = Edge::new().await;
    edge.november.credit("u", "1").await;
    let mut ids = Vec::new();
    for (key, units) in [("c", 4), ("l", 3), ("e", 2)] {
        ids.push(edge.november.reservation(reserve_for(key, units, 60_000)).await);
    }
    // This one is over when November is.
    edge.november.reservation(reserve_for("short", 2, 1)).await;
    edge.in_december(deduct("d", "u", "asset", 1)).await;
    assert_eq!(edge.months("u").await, "2026-11 0+10, 2026-12 1+0");
    let committed = edge.in_december(commit(&ids[0], Some(3))).await;
    assert_eq!(committed, "3 free, 0 paid for 0, leaves 0.9");
    assert_eq!(edge.months("u").await, "2026-11 3+6, 2026-12 1+0");
    edge.in_december(release(&ids[1])).await;
    assert_eq!(edge.months("u").await, "2026-11 3+3, 2026-12 1+0");
    // In December its one paid unit and its free one come back, each to where it came from.
    assert_eq!(edge.december.reclaim().await.unwrap(), 1);
    assert_eq!(edge.months("u").await, "2026-11 3+2, 2026-12 1+0");
    assert_eq!(edge.november.money("u").await, "1 0 0");
    assert_eq!(edge.records().await, ["2026-11 reserve 3", "2026-12 deduct 1"]);
    let last = edge.in_december(commit(&ids[2], None)).await;
    assert_eq!(last, "2 free, 0 paid for 0, leaves 1");
    assert_eq!(edge.months("u").await, "2026-11 5+0, 2026-12 1+0");
    edge.november.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_deduct_in_december_takes_back_what_ran_out_in_november() {
    let edge = Edge::new().await;
    edge.november.credit("u", "0.3").await;
    // All of November's units, and money for one more; the other two thirds of the money stay.
    edge.november.reservation(reserve_for("short", 11, 1)).await;
    assert_eq!(edge.november.money("u").await, "0.3 0.1 0");
    let told = edge.in_december(deduct("d", "u", "asset", 13)).await;
    assert_eq!(told, "10 free, 3 paid for 0.3, leaves 0");
    assert_eq!(edge.months("u").await, "2026-11 0+0, 2026-12 10+0");
    edge.november.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_in_december_goes_back_to_november() {
    let edge = Edge::new().await;
    edge.november.credit("u", "1").await;
    let record = edge.november.record(deduct("n", "u", "asset", 12)).await;
    edge.in_december(deduct("d", "u", "asset", 5)).await;
    let told = edge.in_december(refund("f", &record, Some(7))).await;
    assert_eq!(told, "back 5 free, 2 paid for 0.2, leaves 1");
    assert_eq!(edge.months("u").await, "2026-11 5+0, 2026-12 5+0");
    // By its key, and the other way round: December's deduct, undone by a sidecar that is still in November.
    edge.in_november(super::undo("d", "u")).await;
    edge.in_december(super::undo("n", "u")).await;
    assert_eq!(edge.months("u").await, "2026-11 0+0, 2026-12 0+0");
    edge.november.assert_sound().await;
}

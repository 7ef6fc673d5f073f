//! What users live through, from the first call to the last unit.

use farebox_core::wire::Report;

use crate::fixture::{Fixture, used, want};

#[tokio::test(flavor = "multi_thread")]
async fn a_new_user_calls_within_the_free_quota() {
    let farebox = Fixture::new(&[("passport", 10_000)], &[("passport", "0.001")]).await;
    let mut edge = farebox.gateway("edge-1");
    let grant = edge.want(want("user_test_001", "passport", 20, 1)).await.unwrap();
    assert_eq!((grant.free_units, grant.paid_units, grant.is_final), (20, 0, false));
    assert_eq!((grant.low_water, grant.ttl_ms, grant.free_quota.remaining), (10, 10_000, 9_980));

    let reply = edge.report(used(grant.lease, 5)).await;
    assert_eq!((reply.acks[0].used, reply.acks[0].open), (5, true));
    assert_eq!(farebox.quotas("user_test_001").await, "passport 5+15/10000");
    let view = farebox.view("user_test_001").await;
    assert_eq!(
        (view.records.len(), view.records[0].kind.as_str(), view.records[0].count),
        (1, "free", 5)
    );
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_up_quota_is_refused_until_money_comes() {
    let farebox = Fixture::new(&[("passport", 3)], &[("passport", "0.001")]).await;
    let mut edge = farebox.gateway("edge-1");
    let mut calls = 0;
    while calls < 3 {
        let grant = edge.want(want("user_test_002", "passport", 10, 1)).await.unwrap();
        calls = grant.free_units + grant.paid_units;
        edge.report(used(grant.lease, calls)).await;
    }
    let refusal = edge.want(want("user_test_002", "passport", 10, 1)).await.unwrap_err();
    assert_eq!((refusal.code, refusal.soon, refusal.retry_after_ms), (190_102, false, 1_000));
    assert_eq!((refusal.available.get(), refusal.free_quota.remaining), (0, 0));

    farebox.credit("user_test_002", "1.00").await;
    let grant = edge.want(want("user_test_002", "passport", 10, 1)).await.unwrap();
    edge.report(used(grant.lease, 5)).await;
    assert_eq!(farebox.money("user_test_002").await, "0.998 0.008 0");
    farebox.assert_sound().await;
}

/// Draws one unit at a time until the sidecar refuses; how many calls were served.
async fn spend_everything(farebox: &Fixture, account: &str, service: &str, ask: u64) -> u64 {
    let mut edge = farebox.gateway("edge-1");
    let mut served = 0;
    loop {
        match edge.want(want(account, service, ask, 1)).await {
            Ok(grant) => {
                // A lease's total counts from its beginning, as reports do.
                served = grant.free_units + grant.paid_units;
                edge.report(used(grant.lease, served)).await;
            }
            Err(refusal) => {
                assert!(!refusal.soon);
                return served;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_calls_spend_ten_exactly() {
    let farebox = Fixture::new(&[], &[("passport", "0.001")]).await;
    farebox.credit("u", "10.00").await;
    assert_eq!(spend_everything(&farebox, "u", "passport", 1_000).await, 10_000);
    assert_eq!(farebox.money("u").await, "0 0 0");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_tenths_pay_three_calls() {
    let farebox = Fixture::new(&[], &[("payment", "0.10")]).await;
    farebox.credit("u", "0.30").await;
    assert_eq!(spend_everything(&farebox, "u", "payment", 1).await, 3);
    assert_eq!(farebox.money("u").await, "0 0 0");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_grant_may_hold_free_and_paid_units() {
    let farebox = Fixture::new(&[("asset", 2)], &[("asset", "0.5")]).await;
    farebox.credit("u", "10").await;
    let mut edge = farebox.gateway("edge-1");
    let grant = edge.want(want("u", "asset", 5, 5)).await.unwrap();
    assert_eq!((grant.free_units, grant.paid_units), (2, 3));
    edge.report(used(grant.lease, 4)).await;
    let record = &farebox.view("u").await.records[0];
    assert_eq!((record.kind.as_str(), record.free_units, record.paid_units), ("mixed", 2, 2));
    assert_eq!(record.amount.to_string(), "1");
    assert_eq!(farebox.money("u").await, "9 0.5 0");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn units_that_another_service_holds_are_recalled() {
    let farebox = Fixture::new(&[], &[("asset", "0.5"), ("payment", "1")]).await;
    farebox.credit("u", "3").await;
    let mut edge = farebox.gateway("edge-1");
    let asset = edge.want(want("u", "asset", 6, 6)).await.unwrap();
    assert_eq!((asset.paid_units, asset.is_final), (6, true));

    let refusal = edge.want(want("u", "payment", 1, 1)).await.unwrap_err();
    assert_eq!((refusal.soon, refusal.code, refusal.retry_after_ms), (true, 190_102, 50));
    // A report that was on its way does not lose the recall.
    let reply = edge.report(Report { in_flight: 1, ..used(asset.lease, 1) }).await;
    assert_eq!(reply.recalls.len(), 1);
    assert_eq!((reply.recalls[0].lease, &reply.recalls[0].key), (asset.lease, &asset.key));

    let reply = edge.report(Report { in_flight: 1, returned: 4, ..used(asset.lease, 1) }).await;
    assert!(reply.recalls.is_empty());
    let payment = edge.want(want("u", "payment", 1, 1)).await.unwrap();
    assert_eq!(payment.paid_units, 1);
    assert_eq!(farebox.money("u").await, "2.5 1.5 0");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn free_units_that_another_gateway_holds_are_recalled() {
    let farebox = Fixture::new(&[("asset", 10)], &[]).await;
    let (mut first, mut second) = (farebox.gateway("edge-1"), farebox.gateway("edge-2"));
    let held = first.want(want("u", "asset", 10, 10)).await.unwrap();
    let refusal = second.want(want("u", "asset", 4, 4)).await.unwrap_err();
    assert_eq!((refusal.soon, refusal.code), (true, 190_202));
    // Eight units in running calls leave two to give back: that would not be enough.
    let reply = first.report(Report { in_flight: 8, ..used(held.lease, 0) }).await;
    assert_eq!(reply.recalls.len(), 1);
    assert!(!second.want(want("u", "asset", 4, 4)).await.unwrap_err().soon);

    first.report(Report { returned: 6, ..used(held.lease, 4) }).await;
    assert_eq!(second.want(want("u", "asset", 4, 4)).await.unwrap().free_units, 4);
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_price_and_quota_is_refused_and_creates_nothing() {
    let farebox = Fixture::new(&[("asset", 10)], &[]).await;
    let refusal = farebox.gateway("edge-1").want(want("u", "assets", 1, 1)).await.unwrap_err();
    assert_eq!((refusal.code, refusal.retry_after_ms), (190_205, 1_000));
    assert!(farebox.app.account(&"u".parse().unwrap()).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_new_user_has_an_account_to_recharge() {
    let farebox = Fixture::new(&[], &[("asset", "1")]).await;
    let mut edge = farebox.gateway("edge-1");
    for account in ["用户1", "a\"b\\c'd", "u", "U"] {
        assert_eq!(edge.want(want(account, "asset", 1, 1)).await.unwrap_err().code, 190_102);
        farebox.credit(account, "1").await;
        assert_eq!(edge.want(want(account, "asset", 1, 1)).await.unwrap().paid_units, 1);
    }
    farebox.assert_sound().await;
}

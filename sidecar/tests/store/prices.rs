//! The price book and prices that routes name.

use farebox_core::wire::{LeaseKey, Want};

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

//! Many at once.

use tokio::task::JoinSet;

use crate::fixture::{Fixture, used, want};

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_new_users_at_once_are_all_served() {
    let farebox = Fixture::new(&[("asset", 100)], &[]).await;
    let mut calls = JoinSet::new();
    for user in 0..500 {
        let mut edge = farebox.gateway(&format!("edge-{}", user % 20));
        let other = if user % 2 == 0 { "asset" } else { "payment" };
        calls.spawn(async move {
            let name = format!("user-{user}");
            let reply = edge
                .send(vec![], vec![want(&name, "asset", 5, 1), want(&name, other, 5, 1)], vec![])
                .await;
            reply.grants.len()
        });
    }
    let granted = calls.join_all().await;
    assert!(granted.iter().all(|grants| 1 <= *grants), "every user got a lease");
    for (table, rows) in [("user_balance", "500"), ("free_quota", "500")] {
        assert_eq!(farebox.database.rows(format!("SELECT COUNT(*) FROM {table}")).await, [rows]);
    }
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_new_user_wanted_by_sixteen_gateways_is_created_once() {
    let farebox = Fixture::new(&[("asset", 1_000)], &[("asset", "0.1")]).await;
    let mut calls = JoinSet::new();
    for number in 0..16 {
        let mut edge = farebox.gateway(&format!("edge-{number}"));
        calls
            .spawn(async move { edge.want(want("new", "asset", 20, 1)).await.unwrap().free_units });
    }
    let granted: u64 = calls.join_all().await.into_iter().sum();
    assert_eq!(farebox.quotas("new").await, format!("asset 0+{granted}/1000"));
    assert_eq!(farebox.database.rows("SELECT user_id FROM user_balance").await, ["new"]);
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_that_share_an_account_spend_it_to_the_last_unit() {
    let farebox = Fixture::new(&[("asset", 50)], &[("asset", "0.1")]).await;
    farebox.credit("u", "20").await;
    let mut gateways = JoinSet::new();
    for number in 0..6 {
        let mut edge = farebox.gateway(&format!("edge-{number}"));
        gateways.spawn(async move {
            loop {
                match edge.want(want("u", "asset", 7, 1)).await {
                    Ok(grant) => {
                        let total = grant.free_units + grant.paid_units;
                        edge.report(used(grant.lease, total)).await;
                    }
                    Err(refusal) if refusal.soon => {}
                    Err(_) => return,
                }
            }
        });
    }
    gateways.join_all().await;
    assert_eq!(farebox.money("u").await, "0 0 0");
    let charged = farebox.database.rows("SELECT SUM(count) FROM billing_record").await;
    assert_eq!(charged, ["250"]);
    farebox.assert_sound().await;
}

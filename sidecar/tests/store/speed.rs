//! What a message costs. The bounds are wide: they catch a statement per row, not a slow machine.

use std::time::{Duration, Instant};

use crate::fixture::{Fixture, used, want};

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_reports_are_settled_within_half_a_second() {
    let farebox = Fixture::new(&[("asset", 10)], &[("asset", "0.1")]).await;
    let mut edge = farebox.gateway("edge-1");
    let wants = (0..200).map(|user| want(&format!("user-{user}"), "asset", 5, 5)).collect();
    let start = Instant::now();
    let grants = edge.send(vec![], wants, vec![]).await.grants;
    let granted = start.elapsed();
    let start = Instant::now();
    let reports = grants.iter().map(|grant| used(grant.lease, 3)).collect();
    assert_eq!(edge.send(reports, vec![], vec![]).await.acks.len(), 200);
    let settled = start.elapsed();
    let start = Instant::now();
    for user in 0..20 {
        edge.want(want(&format!("new-{user}"), "asset", 5, 5)).await.unwrap();
    }
    let first_call = start.elapsed() / 20;
    println!("200 first wants {granted:?}, 200 reports {settled:?}, one first want {first_call:?}");
    assert!(settled < Duration::from_millis(500), "{settled:?}");
    farebox.assert_sound().await;
}

//! Messages that come twice, late, out of order or at once.

use std::io::{Read, Seek};
use std::sync::Arc;

use farebox_core::money::Nanos;
use farebox_core::wire::{JournalReport, LeaseKey, Report, SyncReply};
use farebox_sidecar::app::SyncError;
use rand::seq::SliceRandom;
use tokio::task::JoinSet;

use crate::fixture::{Fixture, key, reply, used, want};

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_message_gets_the_same_bytes_and_changes_nothing() {
    let farebox = Fixture::new(&[("asset", 10)], &[("asset", "0.1")]).await;
    farebox.credit("u", "5").await;
    let mut edge = farebox.gateway("edge-1");
    let journal = vec![JournalReport { line: u64::MAX, key: key("u", "asset"), used: 2 }];
    let first = edge.message(vec![], vec![want("u", "asset", 5, 1)], journal);
    let answer = edge.deliver(&first).await.unwrap();
    let second = edge.message(
        vec![used(reply(&answer).grants[0].lease, 3)],
        vec![want("u", "asset", 5, 1), want("v", "asset", 5, 1)],
        vec![],
    );
    let second_answer = edge.deliver(&second).await.unwrap();

    let before = farebox.database.dump(&["*"], &[]).await;
    assert_eq!(edge.deliver(&second).await.unwrap(), second_answer);
    assert_eq!(edge.deliver(&first).await.unwrap(), answer);
    assert_eq!(farebox.database.dump(&["*"], &[]).await, before);
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_body_under_the_same_number_is_a_conflict() {
    let farebox = Fixture::new(&[("asset", 10)], &[]).await;
    let mut edge = farebox.gateway("edge-1");
    edge.want(want("u", "asset", 5, 1)).await.unwrap();
    edge.request.seq = 0;
    let before = farebox.database.dump(&["*"], &[]).await;
    let other = edge.message(vec![], vec![want("u", "asset", 6, 1)], vec![]);
    assert!(matches!(edge.deliver(&other).await, Err(SyncError::Conflict { seq: 1, .. })));
    assert_eq!(farebox.database.dump(&["*"], &[]).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_epoch_is_a_conflict_and_a_broken_bound_is_named() {
    let farebox = Fixture::new(&[("asset", 10)], &[]).await;
    let mut edge = farebox.gateway("edge-1");
    edge.request.epoch = 7;
    let message = edge.message(vec![], vec![], vec![]);
    assert!(matches!(edge.deliver(&message).await, Err(SyncError::Conflict { .. })));
    assert!(farebox.database.rows("SELECT epoch FROM gateway").await.is_empty());

    edge.request.epoch = 0;
    let message = edge.message(vec![], vec![want("u", "asset", 1, 0)], vec![]);
    let error = edge.deliver(&message).await.unwrap_err();
    assert_eq!(error.to_string(), "wants[0].min is 0: must be 1 to 2147483647");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_reports_does_not_matter() {
    let farebox = Fixture::new(&[("asset", 4)], &[("asset", "0.1")]).await;
    farebox.credit("u", "5").await;
    let mut edge = farebox.gateway("edge-1");
    let lease = edge.want(want("u", "asset", 20, 20)).await.unwrap().lease;
    let mut reports: Vec<Report> = (1..=10).map(|count| used(lease, count)).collect();
    reports.shuffle(&mut rand::rng());
    for report in &reports {
        edge.report(report.clone()).await;
    }
    assert_eq!(farebox.money("u").await, "4.4 1 0");
    assert_eq!(farebox.quotas("u").await, "asset 4+0/4");

    let before = farebox.books().await;
    for report in &reports {
        edge.report(report.clone()).await;
    }
    assert_eq!(farebox.books().await, before, "old totals under new numbers change nothing");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_one_message_at_once_are_taken_in_once() {
    let farebox = Fixture::new(&[("asset", 1_000)], &[]).await;
    let mut edge = farebox.gateway("edge-1");
    for _ in 0..5 {
        let message = edge.message(vec![], vec![want("u", "asset", 7, 7)], vec![]);
        let mut copies = JoinSet::new();
        for _ in 0..8 {
            let (mut edge, message) = (edge.clone(), message.clone());
            copies.spawn(async move { edge.deliver(&message).await.unwrap() });
        }
        let answers = copies.join_all().await;
        assert!(answers.iter().all(|answer| *answer == answers[0]));
    }
    assert_eq!(farebox.quotas("u").await, "asset 0+35/1000");
    assert_eq!(farebox.database.rows("SELECT COUNT(*) FROM lease").await, ["1"]);
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_line_is_charged_once() {
    let farebox = Fixture::new(&[("asset", 3)], &[("asset", "0.5")]).await;
    farebox.credit("u", "1.25").await;
    let mut edge = farebox.gateway("edge-1");
    let line = |line, used| JournalReport { line, key: key("u", "asset"), used };
    let reply = edge.send(vec![], vec![], vec![line(1, 2), line(2, 2)]).await;
    assert_eq!(reply.journal_acks.iter().map(|ack| ack.used).sum::<u64>(), 4);
    assert_eq!(farebox.money("u").await, "0.75 0 0");

    // Repeated, older and doubled totals; then more than there is money for.
    edge.send(vec![], vec![], vec![line(1, 2), line(1, 1), line(2, 2), line(2, 2)]).await;
    assert_eq!(farebox.money("u").await, "0.75 0 0");
    let reply = edge.send(vec![], vec![], vec![line(1, 4)]).await;
    assert_eq!(reply.journal_acks[0].used, 4);
    assert_eq!(farebox.money("u").await, "0 0 0.25");
    farebox.credit("u", "1").await;
    assert_eq!(farebox.money("u").await, "0.75 0 0");
    // The same line number of another process is another line.
    farebox.gateway("edge-1").send(vec![], vec![], vec![line(1, 1)]).await;
    assert_eq!(farebox.money("u").await, "0.25 0 0");
    farebox.assert_sound().await;
}

/// On one thread, so that what this thread logs is what the use cases log.
#[tokio::test]
async fn journal_units_that_neither_quota_nor_price_covers_are_booked_at_nothing_and_told() {
    let file = Arc::new(tempfile::tempfile().unwrap());
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(Arc::clone(&file)).finish();
    let _logging = tracing::subscriber::set_default(log);
    let told = || {
        let mut text = String::new();
        (&*file).rewind().unwrap();
        (&*file).read_to_string(&mut text).unwrap();
        text
    };

    let farebox = Fixture::new(&[("asset", 10)], &[("payment", "1")]).await;
    let mut edge = farebox.gateway("edge-1");
    let line = |line, service: &str, used| JournalReport { line, key: key("u", service), used };
    edge.send(vec![], vec![], vec![line(1, "asset", 10), line(2, "payment", 1)]).await;
    assert!(!told().contains("alert"), "covered: {}", told());

    edge.send(vec![], vec![], vec![line(3, "asset", 2), line(4, "ghost", 7)]).await;
    let alerts: Vec<String> =
        told().lines().filter(|line| line.contains("alert")).map(str::to_owned).collect();
    let facts = |alert: &String, service: &str, units: u64| {
        let service = format!("service.name={service} units={units}");
        alert.contains("ERROR")
            && alert.contains("gateway.id=edge-1 account.id=u")
            && alert.contains(&service)
    };
    assert!(
        alerts.len() == 2 && facts(&alerts[0], "asset", 2) && facts(&alerts[1], "ghost", 7),
        "{alerts:?}"
    );
    assert_eq!(farebox.money("u").await, "0 0 1");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_line_of_another_key_charges_nobody_and_holds_nothing_up() {
    let farebox = Fixture::new(&[("asset", 10)], &[("asset", "0.1"), ("passport", "0.1")]).await;
    let mut edge = farebox.gateway("edge-1");
    let line = |line, key, used| JournalReport { line, key, used };
    let acked = |reply: SyncReply| -> Vec<(u64, u64)> {
        reply.journal_acks.iter().map(|ack| (ack.line, ack.used)).collect()
    };
    let first = edge.send(vec![], vec![], vec![line(7, key("u", "asset"), 2)]).await;
    assert_eq!(acked(first), [(7, 2)]);

    let routes_own = LeaseKey { price: Some(Nanos::new(5)), ..key("u", "asset") };
    for (neighbour, other) in
        (20..).zip([key("v", "asset"), key("u", "passport"), routes_own.clone()])
    {
        let lines = vec![line(7, other, 9), line(neighbour, key("w", "asset"), 1)];
        assert_eq!(acked(edge.send(vec![], vec![], lines).await), [(neighbour, 1)]);
    }
    let billed = farebox
        .database
        .rows("SELECT CONCAT(user_id, ' ', SUM(free_units + paid_units)) FROM billing_record GROUP BY user_id ORDER BY 1")
        .await;
    assert_eq!(billed, ["u 2", "w 3"]);

    // Its own key goes on, with a price of the route's own as well.
    let own = vec![line(7, key("u", "asset"), 3), line(8, routes_own.clone(), 1)];
    assert_eq!(acked(edge.send(vec![], vec![], own).await), [(7, 3), (8, 1)]);
    let again = edge.send(vec![], vec![], vec![line(8, routes_own, 4)]).await;
    assert_eq!(acked(again), [(8, 4)]);
    farebox.assert_sound().await;
}

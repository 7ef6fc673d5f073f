//! Locks of others, broken rows.

use std::time::{Duration, Instant};

use farebox_core::wire::JournalReport;
use farebox_sidecar::app::SyncError;
use farebox_sidecar::metrics;
use farebox_sidecar::store::{Store, StoreError};
use sqlx::mysql::MySqlConnectOptions;

use crate::fixture::{Fixture, key, used, want};

/// Where rows of new accounts would stand is locked as well: this is waited for, and fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_does_not_end_leaves_no_row_behind() {
    let farebox = Fixture::new(&[("asset", 10)], &[]).await;
    let mut edge = farebox.gateway("edge-1");
    edge.want(want("u", "asset", 1, 1)).await.unwrap();
    let before = farebox.database.dump(&["*"], &[]).await;
    let mut holder = farebox.database.pool.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM user_balance FOR UPDATE").execute(&mut *holder).await.unwrap();

    let journal = vec![JournalReport { line: 1, key: key("u", "asset"), used: 1 }];
    let message =
        edge.message(vec![], vec![want("u", "asset", 1, 1), want("v", "asset", 1, 1)], journal);
    let error = edge.deliver(&message).await.unwrap_err();
    assert!(matches!(error, SyncError::Store(StoreError::Exhausted { .. })), "{error}");
    holder.rollback().await.unwrap();
    assert_eq!(farebox.database.dump(&["*"], &[]).await, before);
    // The same message works once the lock is gone.
    edge.deliver(&message).await.unwrap();
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_is_tried_again() {
    let farebox = Fixture::new(&[("asset", 10)], &[]).await;
    let mut edge = farebox.gateway("edge-1");
    let lease = edge.want(want("u", "asset", 5, 5)).await.unwrap().lease;
    let mut rival = farebox.database.pool.begin().await.unwrap();
    // Weight decides who has to give way: the rival has changed many rows.
    let weight = "INSERT INTO audit_log (actor, action, subject, reason, before_json, after_json, created_at)
        SELECT 'a', 'b', 'c', 'd', '', '', UTC_TIMESTAMP(3) FROM information_schema.columns LIMIT 1000";
    sqlx::query(weight).execute(&mut *rival).await.unwrap();
    sqlx::query("SELECT 1 FROM lease FOR UPDATE").execute(&mut *rival).await.unwrap();
    let message = edge.message(vec![used(lease, 3)], vec![], vec![]);
    let waiting = tokio::spawn(async move { edge.deliver(&message).await });
    // The message has the account and waits for the lease; now the rival wants the account.
    let deadline = Instant::now() + Duration::from_secs(2);
    while !farebox
        .database
        .rows("SELECT 1 FROM user_balance FOR UPDATE SKIP LOCKED")
        .await
        .is_empty()
    {
        assert!(Instant::now() < deadline, "the message never locked the account");
    }
    sqlx::query("SELECT 1 FROM user_balance FOR UPDATE").execute(&mut *rival).await.unwrap();
    rival.commit().await.unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(farebox.quotas("u").await, "asset 3+2/10");
    farebox.assert_sound().await;
}

/// How many attempts gave way in this process so far, for a reason or for good.
fn counted(series: &str) -> u64 {
    let text = metrics::install().unwrap().render();
    let value = text.lines().find_map(|line| line.strip_prefix(series)).unwrap();
    value.trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_of_giving_way_is_tried_again_counted_and_bounded() {
    let farebox = Fixture::new(&[("asset", 10)], &[]).await;
    let mut edge = farebox.gateway("edge-1");
    for (code, account) in [(1213, "a"), (1205, "b"), (1020, "c"), (3572, "d")] {
        let attempts = format!("billing_transaction_retry_total{{code=\"{code}\"}}");
        let before = (counted(&attempts), counted("billing_transaction_exhausted_total"));
        let rows = farebox.database.dump(&["*"], &[]).await;
        let trigger = "CREATE TRIGGER give_way BEFORE INSERT ON lease FOR EACH ROW";
        let signal = format!("SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = {code}");
        farebox.database.run(format!("{trigger} {signal}")).await;

        let message = edge.message(vec![], vec![want(account, "asset", 1, 1)], vec![]);
        let error = edge.deliver(&message).await.unwrap_err();
        assert!(matches!(error, SyncError::Store(StoreError::Exhausted { .. })), "{error}");
        assert_eq!(farebox.database.dump(&["*"], &[]).await, rows, "{code} left something");
        assert!(before.0 + 2 <= counted(&attempts), "{code}: one attempt, and one again");
        assert!(before.1 < counted("billing_transaction_exhausted_total"));

        farebox.database.run("DROP TRIGGER give_way").await;
        edge.deliver(&message).await.unwrap();
    }
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_item_does_not_sink_the_others() {
    let farebox = Fixture::new(&[("asset", 10)], &[("payment", "9000000000")]).await;
    let mut edge = farebox.gateway("edge-1");
    let broken = edge.want(want("broken", "asset", 5, 5)).await.unwrap().lease;
    let sound = edge.want(want("sound", "asset", 5, 5)).await.unwrap().lease;
    // More used than the account's quota says is held: the charge of this lease cannot be written.
    farebox.database.run("UPDATE free_quota SET held_quota = 0 WHERE user_id = 'broken'").await;
    let priceless = JournalReport { line: 1, key: key("rich", "payment"), used: 2 };
    let reply = edge
        .send(
            vec![used(broken, 2), used(sound, 3)],
            vec![want("broken", "asset", 1, 1), want("sound", "asset", 1, 1)],
            vec![priceless],
        )
        .await;
    assert_eq!(
        reply.acks.iter().map(|ack| (ack.lease, ack.used)).collect::<Vec<_>>(),
        [(sound, 3)]
    );
    assert!(reply.journal_acks.is_empty(), "a charge beyond the range of money");
    assert_eq!(reply.grants.len(), 2);
    assert_eq!(farebox.quotas("sound").await, "asset 3+3/10");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_read_stops_its_account_only() {
    let farebox = Fixture::new(&[("asset", 10)], &[]).await;
    let mut edge = farebox.gateway("edge-1");
    let mut leases = Vec::new();
    for account in ["broken", "torn", "sound"] {
        leases.push(edge.want(want(account, "asset", 5, 5)).await.unwrap().lease);
    }
    for sql in [
        "UPDATE user_balance SET balance = 9999999999 WHERE user_id = 'broken'",
        "UPDATE lease SET in_flight = -1 WHERE user_id = 'torn'",
    ] {
        assert_eq!(farebox.database.run(sql).await, 1);
    }
    let wants = vec![want("broken", "asset", 1, 1), want("sound", "asset", 1, 1)];
    let reports = leases.iter().map(|&lease| used(lease, 1)).collect();
    let reply = edge.send(reports, wants, vec![]).await;
    // No word about the unreadable ones: their gateway keeps what it has and reports it again.
    let acked: Vec<u64> = reply.acks.iter().map(|ack| ack.lease).collect();
    let granted: Vec<&str> = reply.grants.iter().map(|grant| grant.key.account.as_str()).collect();
    assert_eq!((acked, granted), (vec![leases[2]], vec!["sound"]));
    assert!(reply.refusals.is_empty());
    let error = farebox.app.account(&"broken".parse().unwrap()).await.unwrap_err();
    assert_eq!(error.to_string(), "user_balance.balance of broken cannot be read");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_named_as_such() {
    let nobody = MySqlConnectOptions::new().host("127.0.0.1").port(1).username("root");
    let error = Store::connect(&nobody, 1).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_)), "{error}");
}

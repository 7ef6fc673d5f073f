//! Transactions that have to give way, locks of others, broken rows, full lines.

use std::time::Duration;

use farebox_sidecar::app::{App, CallError, Outcome, Request};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{deduct, say};
use crate::fixture::Fixture;

mod forced;
mod poison;

const BUSY: &str =
    "the account is busy: other requests or gateways hold it; send the same request again";

/// Sends requests in one call, without waiting for the answers.
fn send(app: &App, requests: Vec<Request>, deadline: Instant) -> JoinHandle<Vec<String>> {
    let app = app.clone();
    tokio::spawn(async move {
        app.call(requests, deadline).await.into_iter().map(say).collect::<Vec<_>>()
    })
}

fn in_seconds(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

/// A transaction of somebody else.
type Holder = sqlx::Transaction<'static, sqlx::MySql>;

impl Fixture {
    /// Locks an account as a sidecar would that stands still.
    async fn hold(&self, account: &str) -> Holder {
        let mut holder = self.database.pool.begin().await.unwrap();
        sqlx::query("SELECT 1 FROM user_balance WHERE user_id = ? FOR UPDATE")
            .bind(account)
            .execute(&mut *holder)
            .await
            .unwrap();
        holder
    }

    /// Waits until a query says 1.
    async fn until(&self, sql: &str) {
        let deadline = in_seconds(10);
        while self.database.rows(sql).await != ["1"] {
            assert!(Instant::now() < deadline, "never: {sql}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until a turn of one account waits for its row: nobody else locks rows without `SKIP LOCKED`.
    async fn until_one_waits(&self) {
        self.until(
            "SELECT COUNT(*) FROM information_schema.processlist
             WHERE db = DATABASE() AND info LIKE 'SELECT user_id, balance%FOR UPDATE'",
        )
        .await;
    }

    async fn records(&self) -> Vec<String> {
        self.database
            .rows("SELECT user_id, count FROM billing_record ORDER BY user_id, count")
            .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_somebody_holds_keeps_the_others_of_its_turn_from_nothing() {
    let farebox = Fixture::new(&[("asset", 10)], &[]).await;
    for user in ["held", "u", "v"] {
        farebox.record(deduct(&format!("first-{user}"), user, "asset", 1)).await;
    }
    let holder = farebox.hold("held").await;
    let requests = ["u", "held", "v", "new"].map(|user| deduct(user, user, "asset", 2)).to_vec();
    let answers = send(&farebox.app, requests, in_seconds(20));
    // Those of the same turn are charged, and others are answered, while the lock is still held.
    farebox.until("SELECT COUNT(*) = 3 FROM billing_record WHERE count = 2").await;
    farebox.until_one_waits().await;
    let told = farebox.told(deduct("later", "u", "asset", 1)).await;
    assert_eq!(told, "1 free, 0 paid for 0, leaves 0");
    assert!(!answers.is_finished());
    holder.rollback().await.unwrap();
    assert_eq!(answers.await.unwrap(), vec!["2 free, 0 paid for 0, leaves 0"; 4]);
    assert_eq!(farebox.quotas("held").await, "asset 3+0/10");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_does_not_end_makes_the_account_busy_and_leaves_no_row() {
    let farebox = Fixture::new(&[("asset", 10)], &[]).await;
    farebox.record(deduct("first", "held", "asset", 1)).await;
    let before = farebox.database.dump(&["*"], &[]).await;
    let holder = farebox.hold("held").await;
    let requests = vec![deduct("k", "held", "asset", 2), deduct("l", "held", "asset", 1)];
    assert_eq!(send(&farebox.app, requests, in_seconds(5)).await.unwrap(), [BUSY, BUSY]);
    holder.rollback().await.unwrap();
    assert_eq!(farebox.database.dump(&["*"], &[]).await, before);
    let told = farebox.told(deduct("k", "held", "asset", 2)).await;
    assert_eq!(told, "2 free, 0 paid for 0, leaves 0");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_waits_for_any_more_is_not_charged() {
    let farebox = Fixture::new(&[("asset", 10)], &[]).await;
    farebox.record(deduct("first", "held", "asset", 1)).await;
    let holder = farebox.hold("held").await;
    let end = Instant::now() + Duration::from_millis(300);
    let at_the_row = send(&farebox.app, vec![deduct("k", "held", "asset", 4)], end);
    farebox.until_one_waits().await;
    // Its account's turn is running, so these stand in line.
    let in_line = send(&farebox.app, vec![deduct("late", "held", "asset", 3)], end);
    let patient = send(&farebox.app, vec![deduct("patient", "held", "asset", 2)], in_seconds(20));
    // They are told when their time is over, and not only when the lock is.
    assert_eq!(
        (at_the_row.await.unwrap(), in_line.await.unwrap()),
        (vec![BUSY.to_owned()], vec![BUSY.to_owned()])
    );
    assert!(Instant::now() < end + Duration::from_secs(3), "attempts at the row take longer");
    assert!(!patient.is_finished());
    holder.rollback().await.unwrap();
    assert_eq!(patient.await.unwrap(), ["2 free, 0 paid for 0, leaves 0"]);
    assert_eq!(farebox.records().await, ["held 1", "held 2"]);
    // Nothing is kept under their keys either.
    let told = farebox.told(deduct("k", "held", "asset", 3)).await;
    assert_eq!(told, "3 free, 0 paid for 0, leaves 0");
    let told = farebox.told(deduct("late", "held", "asset", 1)).await;
    assert_eq!(told, "1 free, 0 paid for 0, leaves 0");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_somebody_else_uses_at_this_moment_is_answered_by_what_they_stored() {
    let farebox = Fixture::new(&[("asset", 10)], &[]).await;
    farebox.record(deduct("first", "u", "asset", 1)).await;
    // What another sidecar writes, whose account is another one, or has no row to lock: a deduct that is undone before it
    // came, and a deduct of another user.
    let content = ["REPEAT('00', 32)", "REPEAT('77', 32)"];
    let reused = "key \"k1\" was used for another request; give this one a key of its own";
    for (place, (content, expected)) in content.into_iter().zip(["cancelled", reused]).enumerate() {
        let mut rival = farebox.database.pool.begin().await.unwrap();
        let sql = format!(
            "INSERT INTO idempotency_key (scope, idempotency_key, body_hash, response, created_at)
             VALUES ('call.deduct', 'k{place}', UNHEX({content}), '\"cancelled\"', UTC_TIMESTAMP(3))"
        );
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut *rival).await.unwrap();
        let request = deduct(&format!("k{place}"), "u", "asset", 2);
        let answer = send(&farebox.app, vec![request], in_seconds(20));
        farebox
            .until(
                "SELECT COUNT(*) FROM information_schema.processlist
                 WHERE db = DATABASE() AND info LIKE 'INSERT INTO idempotency_key%'",
            )
            .await;
        rival.commit().await.unwrap();
        assert_eq!(answer.await.unwrap(), [expected]);
    }
    assert_eq!(farebox.records().await, ["u 1"]);
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_line_turns_requests_away_and_serves_those_that_stand_in_it() {
    let farebox = Fixture::new(&[("asset", 5_000)], &[]).await;
    let requests = |user: &str, count: usize| -> Vec<Request> {
        (0..count).map(|call| deduct(&format!("{user}-{call}"), user, "asset", 1)).collect()
    };
    // The line of one account has room for 2,000; another account has a line of its own.
    let mut crowd = requests("u", 2_003);
    crowd.extend(requests("v", 2));
    let answers = farebox.app.call(crowd, in_seconds(30)).await;
    for (place, answer) in answers.iter().enumerate() {
        let is_charged = matches!(answer, Ok(Outcome::Deducted(_)));
        assert_eq!(is_charged, !(2_000..2_003).contains(&place), "{place}: {answer:?}");
        let is_away = matches!(answer, Err(CallError::Overloaded { count: 2_000 }));
        assert_eq!(is_away, !is_charged, "{place}: {answer:?}");
    }
    assert_eq!(farebox.quotas("u").await, "asset 2000+0/5000");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_turns_requests_of_every_account_away() {
    let farebox = Fixture::new(&[("asset", 10)], &[]).await;
    let before = farebox.database.dump(&["*"], &[]).await;
    // Nobody waits for them any more: those that find room are told so without the database.
    let requests = (0..20_010)
        .map(|call| deduct(&format!("k{call}"), &format!("u{}", call % 30), "asset", 1))
        .collect();
    let answers = farebox.app.call(requests, Instant::now()).await;
    for (place, answer) in answers.into_iter().enumerate() {
        match answer {
            Err(CallError::Busy) => assert!(place < 20_000, "{place}"),
            Err(CallError::Overloaded { count: 20_000 }) => assert!(20_000 <= place, "{place}"),
            other => panic!("{place}: {other:?}"),
        }
    }
    assert_eq!(farebox.database.dump(&["*"], &[]).await, before);
}

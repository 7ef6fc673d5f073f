//! Which accounts are checked every minute: those that changed, every one of them, and no other.

use std::time::{Duration, Instant};

use farebox_core::wire::{JournalReport, Report};
use farebox_sidecar::app::Touched;
use sqlx::Connection as _;

use crate::calls::{commit, deduct, refund, release, reserve_units};
use crate::fixture::{Fixture, credit, key, used, want};

impl Fixture {
    /// The accounts that are due.
    async fn due(&self) -> Vec<String> {
        let due = "SELECT user_id FROM user_balance WHERE check_at IS NOT NULL ORDER BY user_id";
        self.database.rows(due).await
    }

    async fn check_due(&self) -> Touched {
        self.app.check_touched().await.unwrap().unwrap()
    }

    /// Requires that this account, and no other, is due and sound, and that it is not due again afterwards.
    async fn require_due(&self, account: &str, why: &str) {
        assert_eq!(self.due().await, [account], "{why}");
        let touched = Touched { accounts: 1, violations: vec![], is_full: false };
        assert_eq!(self.check_due().await, touched, "{why}");
        assert_eq!(self.due().await, Vec::<String>::new(), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_changes_an_account_makes_it_due() {
    let farebox = Fixture::new(&[("asset", 6)], &[("asset", "0.5")]).await;
    farebox.credit("other", "1").await;
    farebox.check_due().await;
    farebox.credit("u", "10").await;
    farebox.require_due("u", "a credit").await;
    let mut edge = farebox.gateway("edge-1");
    let lease = edge.want(want("u", "asset", 2, 2)).await.unwrap().lease;
    farebox.require_due("u", "a grant of free units").await;
    edge.report(used(lease, 1)).await;
    farebox.require_due("u", "usage of free units").await;
    edge.report(used(lease, 1)).await;
    assert_eq!(farebox.due().await, Vec::<String>::new(), "a lease was heard of again");
    edge.report(Report { returned: 1, ..used(lease, 1) }).await;
    farebox.require_due("u", "units that came back").await;
    let line = JournalReport { line: 7, key: key("u", "asset"), used: 1 };
    edge.send(vec![], vec![], vec![line]).await;
    farebox.require_due("u", "a journal line").await;
    let charged = farebox.record(deduct("d", "u", "asset", 1)).await;
    farebox.require_due("u", "a deduct of free units").await;
    farebox.told(refund("f", &charged, None)).await;
    farebox.require_due("u", "a refund").await;
    let held = farebox.reservation(reserve_units("r", "u", "asset", 1)).await;
    farebox.require_due("u", "a reservation").await;
    farebox.told(commit(&held, Some(1))).await;
    farebox.require_due("u", "a commit").await;
    edge.want(want("u", "asset", 1, 1)).await.unwrap();
    farebox.check_due().await;
    farebox.database.run("UPDATE lease SET reclaim_at = UTC_TIMESTAMP(3)").await;
    farebox.app.reclaim().await.unwrap();
    farebox.require_due("u", "a reclaim").await;
}

/// Where nothing is paid and nothing is free, neither the balance nor a free quota changes: the other rows have to say so.
#[tokio::test(flavor = "multi_thread")]
async fn rows_without_money_make_their_account_due_as_well() {
    let farebox = Fixture::new(&[], &[("gift", "0")]).await;
    farebox.credit("u", "1").await;
    farebox.check_due().await;
    farebox.check("u", "gift", 1).await.unwrap();
    farebox.require_due("u", "a free quota of a new month, made by a check").await;
    let mut edge = farebox.gateway("edge-1");
    let lease = edge.want(want("u", "gift", 4, 4)).await.unwrap().lease;
    farebox.require_due("u", "a new lease").await;
    edge.want(want("u", "gift", 4, 4)).await.unwrap();
    farebox.require_due("u", "a lease that grows").await;
    edge.report(Report { returned: 1, ..used(lease, 0) }).await;
    farebox.require_due("u", "units that came back").await;
    edge.report(Report { returned: 1, ..used(lease, 1) }).await;
    farebox.require_due("u", "usage").await;
    let charged = farebox.record(deduct("d", "u", "gift", 1)).await;
    farebox.require_due("u", "a record").await;
    farebox.told(refund("f", &charged, None)).await;
    farebox.require_due("u", "a refund").await;
    let held = farebox.reservation(reserve_units("r", "u", "gift", 1)).await;
    farebox.require_due("u", "a reservation").await;
    farebox.told(release(&held)).await;
    farebox.require_due("u", "its end").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_commits_late_is_not_skipped() {
    let farebox = Fixture::new(&[], &[]).await;
    for account in ["late", "prompt"] {
        farebox.credit(account, "1").await;
    }
    let mut late = farebox.database.pool.begin().await.unwrap();
    let change = "UPDATE user_balance SET balance = 2, change_seq = change_seq + 1,
        check_at = COALESCE(check_at, UTC_TIMESTAMP(3)) WHERE user_id = 'late'";
    sqlx::query(change).execute(&mut *late).await.unwrap();
    // Checked as it was; it is not known to be sound, because somebody is about to change it.
    let touched = farebox.check_due().await;
    assert_eq!(touched.violations, Vec::<String>::new());
    late.commit().await.unwrap();
    assert_eq!(farebox.due().await, ["late"]);
    assert_eq!(
        farebox.check_due().await.violations,
        ["user_balance late: balance 2.000000000, entries sum to 1.000000000"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_between_the_check_and_its_end_is_due_again() {
    let farebox = Fixture::new(&[], &[]).await;
    for account in ["u", "v"] {
        farebox.credit(account, "1").await;
    }
    farebox
        .database
        .run(
            "INSERT INTO invariant_violation (invariant, user_id, violation, seen_at)
             VALUES ('m1_held_money', 'u', 'old', UTC_TIMESTAMP(3))",
        )
        .await;
    // The check has read the accounts and waits for this row when it writes what it found.
    let mut barrier = farebox.database.pool.acquire().await.unwrap();
    let mut barrier = barrier.begin().await.unwrap();
    let lock = "SELECT violation FROM invariant_violation FOR UPDATE";
    sqlx::query(lock).fetch_all(&mut *barrier).await.unwrap();
    let app = farebox.app.clone();
    let check = tokio::spawn(async move { app.check_touched().await });
    let waiting = format!(
        "SELECT COUNT(*) FROM information_schema.processlist
         WHERE db = '{}' AND info LIKE 'DELETE invariant_violation%'",
        farebox.database.name
    );
    let deadline = Instant::now() + Duration::from_secs(20);
    while farebox.database.rows(waiting.as_str()).await != ["1"] {
        assert!(Instant::now() < deadline, "the check does not wait");
        tokio::task::yield_now().await;
    }
    farebox.app.credit(&credit("u", "1", "meanwhile")).await.unwrap();
    barrier.commit().await.unwrap();
    assert_eq!(check.await.unwrap().unwrap().unwrap().accounts, 2);
    assert_eq!(farebox.due().await, ["u"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_account_stays_due_until_it_is_repaired() {
    let farebox = Fixture::new(&[], &[]).await;
    for account in ["broken", "sound"] {
        farebox.credit(account, "1").await;
    }
    farebox.database.run("UPDATE user_balance SET balance = 2 WHERE user_id = 'broken'").await;
    for _ in 0..2 {
        assert_eq!(farebox.check_due().await.violations.len(), 1);
        assert_eq!(farebox.due().await, ["broken"]);
    }
    farebox.database.run("UPDATE user_balance SET balance = 1 WHERE user_id = 'broken'").await;
    assert_eq!(farebox.check_due().await.violations, Vec::<String>::new());
    assert_eq!(farebox.due().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sidecar_checks_at_a_time() {
    let farebox = Fixture::new(&[], &[]).await;
    let other = farebox.sidecar(&[], &[]).await;
    farebox.credit("u", "1").await;
    assert_eq!(other.check_touched().await.unwrap().unwrap().accounts, 1);
    farebox.credit("u", "1").await;
    assert_eq!(farebox.app.check_touched().await.unwrap(), None);
    farebox.database.run("UPDATE job_lease SET until = UTC_TIMESTAMP(3)").await;
    assert_eq!(farebox.check_due().await.accounts, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_accounts_than_fit_into_a_round_are_all_checked() {
    let farebox = Fixture::new(&[("asset", 5)], &[]).await;
    let mut edge = farebox.gateway("edge-1");
    let wants = (0..450).map(|user| want(&format!("user-{user}"), "asset", 1, 1)).collect();
    edge.send(vec![], wants, vec![]).await;
    let touched = farebox.check_due().await;
    assert_eq!((touched.accounts, touched.is_full), (450, false));
    assert_eq!(farebox.due().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_locked_holds_up_no_other() {
    let farebox = Fixture::new(&[], &[]).await;
    for account in ["big", "small"] {
        farebox.credit(account, "1").await;
    }
    // So many entries have a round of their own; it is due for the longest time.
    let big = "UPDATE user_balance SET entry_seq = 60000, check_at = check_at - INTERVAL 1 HOUR WHERE user_id = 'big'";
    farebox.database.run(big).await;
    let mut lock = farebox.database.pool.begin().await.unwrap();
    let locked = "SELECT balance FROM user_balance WHERE user_id = 'big' FOR UPDATE";
    sqlx::query(locked).fetch_all(&mut *lock).await.unwrap();

    let touched = farebox.check_due().await;
    assert_eq!((touched.accounts, touched.is_full), (2, true), "{touched:?}");
    assert_eq!(farebox.due().await, ["big"]);
    lock.rollback().await.unwrap();
    let touched = farebox.check_due().await;
    assert_eq!((touched.accounts, touched.is_full), (1, false), "{touched:?}");
}

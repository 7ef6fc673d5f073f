//! Every invariant finds what breaks it, and names the row.

use farebox_core::wire::JournalReport;

use crate::fixture::{Fixture, key, used, want};

/// An account with every kind of row.
async fn busy() -> Fixture {
    let farebox = Fixture::new(&[("asset", 3)], &[("asset", "0.5")]).await;
    farebox.credit("alice", "10").await;
    let mut edge = farebox.gateway("edge-1");
    let lease = edge.want(want("alice", "asset", 6, 6)).await.unwrap().lease;
    edge.report(used(lease, 5)).await;
    let journal = vec![JournalReport { line: 7, key: key("alice", "asset"), used: 1 }];
    edge.send(vec![], vec![], journal).await;
    farebox.assert_sound().await;
    farebox
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planted_violation_is_found_and_named() {
    for (plant, id, name) in [
        ("UPDATE user_balance SET held = held + 1", "M1", "user_balance alice: held 1.5"),
        ("UPDATE free_quota SET used_quota = 2, held_quota = 1", "M1", "free_quota alice asset"),
        ("UPDATE lease SET paid_granted = paid_granted + 1", "M1", "user_balance alice"),
        ("UPDATE lease SET state = 'closed'", "M1", "lease 1 (closed)"),
        ("DELETE FROM free_quota", "M1", "lease 1 of alice: no row in free_quota"),
        ("UPDATE lease SET late_used = 1", "M3", "lease 1: used 3 free, 2 paid, 1 late"),
        ("DELETE FROM billing_record WHERE source = 'lease'", "M3", "lease 1"),
        ("UPDATE journal_line SET used = 2", "M3", "journal_line edge-1"),
        ("DELETE FROM journal_line", "M3", "no journal line"),
        ("UPDATE billing_record SET amount = amount + 0.000000001", "M3", "billing_record "),
        (
            "UPDATE ledger_entry SET amount = amount - 1 WHERE book = 'earnings:asset'",
            "M5",
            "legs sum to -1",
        ),
        ("DELETE FROM ledger_entry WHERE book = 'adjustment'", "M5", "ledger_entry, all of CNY"),
        ("UPDATE user_balance SET balance = balance + 1", "M5", "user_balance alice: balance 9.5"),
        ("UPDATE user_balance SET receivable = 1", "M5", "user_balance alice: receivable 1.0"),
        (
            "UPDATE user_balance SET entry_seq = entry_seq + 1",
            "M5",
            "user_balance alice: entry_seq 4, 3 entries numbered 1 to 3",
        ),
        ("UPDATE ledger_entry SET user_seq = NULL WHERE user_seq = 2", "M5", "1 unnumbered"),
        ("UPDATE ledger_entry SET balance_after = 1 WHERE user_seq = 2", "M5", "(alice number 2)"),
    ] {
        let farebox = busy().await;
        assert_ne!(farebox.database.run(plant).await, 0, "{plant}");
        let found: Vec<String> = farebox
            .app
            .invariants()
            .await
            .unwrap()
            .into_iter()
            .filter(|invariant| invariant.id == id)
            .flat_map(|invariant| invariant.violations)
            .collect();
        assert!(found.iter().any(|violation| violation.contains(name)), "{plant}: {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_that_the_schema_guards_are_checked_as_well() {
    let farebox = busy().await;
    for constraint in ["ck_user_balance_held", "ck_user_balance_receivable"] {
        farebox
            .database
            .run(format!("ALTER TABLE user_balance DROP CONSTRAINT {constraint}"))
            .await;
    }
    for constraint in ["ck_free_quota_total", "ck_free_quota_parts"] {
        farebox.database.run(format!("ALTER TABLE free_quota DROP CONSTRAINT {constraint}")).await;
    }
    farebox.database.run("UPDATE user_balance SET held = balance + 1").await;
    farebox.database.run("UPDATE free_quota SET used_quota = total_quota + 1").await;
    let broken: Vec<&str> = farebox
        .app
        .invariants()
        .await
        .unwrap()
        .into_iter()
        .filter(|invariant| !invariant.violations.is_empty())
        .map(|invariant| invariant.rule)
        .collect();
    assert!(
        broken.contains(&"an account holds no more than its balance, and owes nothing below zero")
    );
    assert!(broken.contains(&"used and held units of a free quota are no more than its total"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_refuses_an_overspent_account() {
    let farebox = busy().await;
    for sql in [
        "UPDATE user_balance SET held = balance + 1",
        "UPDATE user_balance SET receivable = -1",
        "UPDATE free_quota SET used_quota = total_quota + 1",
        "UPDATE lease SET free_returned = free_granted + 1",
    ] {
        assert!(sqlx::query(sql).execute(&farebox.database.pool).await.is_err(), "{sql}");
    }
}

//! Every invariant finds what breaks it, and names the row.

use farebox_core::wire::JournalReport;

use crate::fixture::{Fixture, key, used, want};
use crate::orders;

mod calls;
mod endpoint;
mod plans;
mod rules;
mod status;
mod touched;
mod traffic;

/// A rule with statements that break it, each with what names the row that is broken.
type Rule = (&'static str, &'static [(&'static str, &'static str)]);

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
        (
            "DELETE FROM ledger_entry WHERE book = 'adjustment'",
            "M5",
            "ledger_entry of alice, all of CNY",
        ),
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
        farebox.require_touched(plant, name).await;
    }
}

/// Orders with every kind of row: one pending, one paid, one paid by the predecessor, one with refunds of every end.
async fn recharged() -> Fixture {
    let farebox = orders::fixture().await;
    let pending = orders::order(&farebox.app, "alice", "1").await;
    let paid = orders::paid(&farebox.app, "alice", "2", "p-paid").await;
    let back = orders::paid(&farebox.app, "bob", "10", "p-back").await;
    let done = orders::refund(&farebox.app, &back, "3").await;
    farebox.end_refund(&done).await;
    // The account has 4 left of 7, so 1 of this refund is owed.
    farebox.app.credit(&crate::fixture::credit("bob", "-3", "debit")).await.unwrap();
    let failed = orders::refund(&farebox.app, &back, "5").await;
    farebox.fail_refund(&failed).await;
    let waiting = orders::refund(&farebox.app, &back, "2").await;
    farebox
        .database
        .run(
            "INSERT INTO recharge_order (order_id, user_id, amount, status, source, created_at, updated_at)
             VALUES ('old', 'alice', 4, 'paid', 'predecessor', UTC_TIMESTAMP(3), UTC_TIMESTAMP(3))",
        )
        .await;
    // Names that the rules can be tested by.
    for (name, id) in [("pending", &pending), ("paid", &paid), ("back", &back)] {
        farebox.rename("order", id, name).await;
    }
    for (name, id) in [("done", &done), ("failed", &failed), ("waiting", &waiting)] {
        farebox.rename("refund", id, name).await;
    }
    farebox.assert_sound().await;
    farebox
}

impl Fixture {
    /// Requires that the check of accounts that changed finds the row as well.
    async fn require_touched(&self, plant: &str, name: &str) {
        self.database.run("UPDATE user_balance SET check_at = UTC_TIMESTAMP(3)").await;
        let found = self.app.check_touched().await.unwrap().unwrap().violations;
        // A row of an account that does not exist is found by the check of everything alone.
        let bob =
            self.database.rows("SELECT user_id FROM user_balance WHERE user_id = 'bob'").await;
        if name.contains("of bob") && bob.is_empty() {
            return;
        }
        assert!(found.iter().any(|violation| violation.contains(name)), "{plant}: {found:?}");
    }

    async fn rename(&self, what: &str, id: &str, name: &str) {
        for (table, column) in [
            ("recharge_order", "order_id"),
            ("recharge_refund", "order_id"),
            ("recharge_refund", "refund_id"),
            ("ledger_entry", "ref_id"),
        ] {
            if what == "order" || table != "recharge_order" {
                let sql = format!("UPDATE {table} SET {column} = '{name}' WHERE {column} = '{id}'");
                self.database.run(sql).await;
            }
        }
    }

    /// Requires that each rule finds what breaks it. The tables are those that the statements change.
    async fn require_found(&self, tables: &[&str], rules: &[Rule]) {
        for table in tables {
            self.database.run(format!("CREATE TABLE good_{table} AS SELECT * FROM {table}")).await;
        }
        for (rule, plants) in rules {
            for (plant, name) in *plants {
                assert_ne!(self.database.run(*plant).await, 0, "{plant}");
                let invariants = self.app.invariants().await.unwrap();
                let found = invariants.iter().find(|invariant| invariant.rule == *rule).unwrap();
                assert!(
                    found.violations.iter().any(|violation| violation.contains(name)),
                    "{plant}: {found:?}"
                );
                self.require_touched(plant, name).await;
                for table in tables {
                    self.database.run(format!("DELETE FROM {table}")).await;
                    let restore = format!("INSERT INTO {table} SELECT * FROM good_{table}");
                    self.database.run(restore).await;
                }
            }
        }
        self.assert_sound().await;
    }

    /// Ends a refund as if the payment service had failed to give the money back, with the books' two movements.
    async fn fail_refund(&self, refund_id: &str) {
        let refund = format!("recharge_refund WHERE refund_id = '{refund_id}'");
        let amounts =
            self.database.rows(format!("SELECT user_id, amount, owed FROM {refund}")).await;
        let [account, amount, owed] = amounts[0].split(' ').collect::<Vec<_>>()[..] else {
            panic!()
        };
        for (kind, book, part, number) in [
            ("refund_reversal", "payments", format!("-{amount}"), 0),
            ("refund_reversal", "user", amount.to_owned(), 1),
            ("collection", "user", format!("-{owed}"), 2),
            ("collection", "receivable", owed.to_owned(), 0),
        ] {
            let sql = format!(
                "INSERT INTO ledger_entry
                   (entry_id, user_id, book, amount, currency, kind, ref_type, ref_id, user_seq, balance_after, created_at)
                 SELECT CONCAT('{kind} of ', user_id), user_id, '{book}', {part}, currency, '{kind}', 'recharge_refund', '{refund_id}',
                   IF({number} = 0, NULL, entry_seq + {number}),
                   CASE {number} WHEN 0 THEN NULL WHEN 1 THEN balance + {amount} ELSE balance + {amount} - {owed} END,
                   UTC_TIMESTAMP(3)
                 FROM user_balance WHERE user_id = '{account}'"
            );
            assert_eq!(self.database.run(sql).await, 1);
        }
        for sql in [
            format!(
                "UPDATE user_balance SET balance = balance + {amount} - {owed}, receivable = receivable - {owed},
                   entry_seq = entry_seq + 2 WHERE user_id = '{account}'"
            ),
            format!("UPDATE recharge_refund SET state = 'failed', ask_at = NULL WHERE refund_id = '{refund_id}'"),
        ] {
            assert_eq!(self.database.run(sql).await, 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_a_recharge_is_found_by_the_rule_that_it_breaks() {
    let farebox = recharged().await;
    let tables = ["recharge_order", "recharge_refund", "ledger_entry"];
    // The schema guards one of the rules as well.
    farebox
        .database
        .run("ALTER TABLE recharge_order DROP CONSTRAINT ck_recharge_order_refunded")
        .await;
    farebox.require_found(&tables, RECHARGE).await;
    let rules = farebox.app.invariants().await.unwrap();
    let rules: Vec<&str> =
        rules.iter().filter(|rule| rule.id == "M6").map(|rule| rule.rule).collect();
    let tested: Vec<&str> = RECHARGE.iter().map(|(rule, _)| *rule).collect();
    assert_eq!(tested, rules, "every rule is broken here");
}

/// The rules of recharge orders, each with what breaks it and what names the row.
const RECHARGE: &[Rule] = &[
    (
        "a credited order stands in the ledger with its amount, for its user",
        &[
            (
                "UPDATE recharge_order SET amount = amount + 0.000000001 WHERE order_id = 'paid'",
                "recharge_order paid of alice: amount 2.000000001 CNY; ledger says 2.000000000 CNY for alice",
            ),
            ("UPDATE recharge_order SET user_id = 'bob' WHERE order_id = 'paid'", "paid of bob"),
            (
                "UPDATE recharge_order SET currency = 'USD' WHERE order_id = 'paid'",
                "2.000000000 USD",
            ),
            ("DELETE FROM ledger_entry WHERE ref_id = 'paid'", "ledger says nothing  for nobody"),
            (
                "UPDATE ledger_entry SET kind = 'adjustment' WHERE ref_id = 'paid'",
                "recharge_order paid",
            ),
            (
                "UPDATE recharge_order SET credited_at = created_at WHERE order_id = 'old'",
                "recharge_order old",
            ),
        ],
    ),
    (
        "only credited orders stand in the ledger as paid in",
        &[
            (
                "UPDATE recharge_order SET credited_at = NULL WHERE order_id = 'paid'",
                "of alice: 2.000000000 for recharge_order paid, which was not credited",
            ),
            ("DELETE FROM recharge_order WHERE order_id = 'paid'", "paid, which does not exist"),
            (
                "UPDATE ledger_entry SET ref_id = 'old' WHERE ref_id = 'paid'",
                "old, which was not credited",
            ),
            (
                "UPDATE ledger_entry SET ref_type = 'credit' WHERE ref_id = 'paid'",
                "for credit paid",
            ),
        ],
    ),
    (
        "a refund is of an order of its user, in its currency",
        &[
            (
                "UPDATE recharge_refund SET order_id = 'none' WHERE refund_id = 'done'",
                "done of bob: CNY; order none does not exist",
            ),
            (
                "UPDATE recharge_refund SET user_id = 'alice' WHERE refund_id = 'done'",
                "done of alice: CNY; order back of bob, CNY",
            ),
            (
                "UPDATE recharge_refund SET currency = 'USD' WHERE refund_id = 'done'",
                "done of bob: USD",
            ),
        ],
    ),
    (
        "what a refund took and what is owed for it stand in the ledger",
        &[
            (
                "UPDATE recharge_refund SET owed = 0 WHERE refund_id = 'failed'",
                "recharge_refund failed: amount 5.000000000, owed 0.000000000; ledger says taken 4.000000000, owed 1.000000000",
            ),
            (
                "UPDATE recharge_refund SET amount = 4 WHERE refund_id = 'failed'",
                "recharge_refund failed",
            ),
            (
                "DELETE FROM ledger_entry WHERE ref_id = 'waiting'",
                "recharge_refund waiting: amount 2.000000000, owed 0.000000000; ledger says taken 0.000000000",
            ),
            (
                "UPDATE ledger_entry SET user_id = 'alice' WHERE ref_id = 'done'",
                "recharge_refund done",
            ),
        ],
    ),
    (
        "a failed refund, and no other, gave its whole amount back to the account",
        &[
            (
                "UPDATE recharge_refund SET state = 'failed' WHERE refund_id = 'waiting'",
                "waiting (failed): amount 2.000000000; ledger says returned 0",
            ),
            (
                "UPDATE recharge_refund SET state = 'done' WHERE refund_id = 'failed'",
                "failed (done): amount 5.000000000; ledger says returned 5",
            ),
            (
                "UPDATE recharge_refund SET state = 'pending' WHERE refund_id = 'failed'",
                "failed (pending)",
            ),
            (
                "UPDATE ledger_entry SET amount = 4 WHERE kind = 'refund_reversal' AND book = 'user'",
                "returned 4",
            ),
        ],
    ),
    (
        "only refunds stand in the ledger as given back or returned",
        &[
            (
                "DELETE FROM recharge_refund WHERE refund_id = 'failed'",
                "of bob: refund_reversal 5.000000000 for recharge_refund failed, which does not exist",
            ),
            (
                "UPDATE ledger_entry SET ref_type = 'credit' WHERE ref_id = 'done'",
                "for credit done, which does not exist",
            ),
        ],
    ),
    (
        "what went back of an order is the sum of its refunds, and no more is on its way than was paid",
        &[
            (
                "UPDATE recharge_order SET refunded_amount = 5 WHERE order_id = 'back'",
                "back: amount 10.000000000, refunded 5.000000000; refunds done 3.000000000, done or on their way 5.000000000",
            ),
            (
                "UPDATE recharge_order SET refunded_amount = 1 WHERE order_id = 'paid'",
                "paid: amount 2.000000000, refunded 1.000000000; refunds done 0",
            ),
            (
                "UPDATE recharge_refund SET amount = 8 WHERE refund_id = 'waiting'",
                "done or on their way 11.000000000",
            ),
        ],
    ),
    (
        "an order's state says whether it was credited and how much of it went back",
        &[
            ("UPDATE recharge_order SET status = 'paid' WHERE order_id = 'back'", "back (paid)"),
            (
                "UPDATE recharge_order SET status = 'refunded' WHERE order_id = 'back'",
                "back (refunded)",
            ),
            (
                "UPDATE recharge_order SET status = 'refunded' WHERE order_id = 'paid'",
                "paid (refunded)",
            ),
            (
                "UPDATE recharge_order SET status = 'partly_refunded' WHERE order_id = 'paid'",
                "paid (partly_refunded)",
            ),
            (
                "UPDATE recharge_order SET refunded_amount = amount WHERE order_id = 'back'",
                "back (partly_refunded)",
            ),
            (
                "UPDATE recharge_order SET refunded_amount = 11 WHERE order_id = 'back'",
                "refunded 11",
            ),
            (
                "UPDATE recharge_order SET status = 'failed' WHERE order_id = 'paid'",
                "paid (failed)",
            ),
            (
                "UPDATE recharge_order SET status = 'closed' WHERE order_id = 'paid'",
                "paid (closed)",
            ),
            (
                "UPDATE recharge_order SET status = 'paid' WHERE order_id = 'pending'",
                "pending (paid): amount 1.000000000, refunded 0.000000000, credited never",
            ),
        ],
    ),
    (
        "pending orders and refunds will be asked for, and ended ones will not, but for orders whose payment failed",
        &[
            (
                "UPDATE recharge_order SET ask_at = NULL WHERE order_id = 'pending'",
                "recharge_order pending (pending): asked for never",
            ),
            (
                "UPDATE recharge_order SET ask_at = created_at WHERE order_id = 'paid'",
                "recharge_order paid (paid): asked for 2",
            ),
            (
                "UPDATE recharge_refund SET ask_at = NULL WHERE refund_id = 'waiting'",
                "recharge_refund waiting (pending)",
            ),
            (
                "UPDATE recharge_refund SET ask_at = created_at WHERE refund_id = 'done'",
                "recharge_refund done (done)",
            ),
        ],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn bounds_that_the_schema_guards_are_checked_as_well() {
    let farebox = busy().await;
    for constraint in ["ck_user_balance_limit", "ck_user_balance_receivable"] {
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
        broken.contains(
            &"an account holds no more than its balance and its credit limit, and owes nothing below zero"
        )
    );
    assert!(broken.contains(&"used and held units of a free quota are no more than its total"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_refuses_an_overspent_account() {
    let farebox = busy().await;
    for sql in [
        "UPDATE user_balance SET held = balance + 1",
        "UPDATE user_balance SET held = balance + 2, credit_limit = 1",
        "UPDATE user_balance SET credit_limit = -1",
        "UPDATE user_balance SET receivable = -1",
        "UPDATE free_quota SET used_quota = total_quota + 1",
        "UPDATE lease SET free_returned = free_granted + 1",
    ] {
        assert!(sqlx::query(sql).execute(&farebox.database.pool).await.is_err(), "{sql}");
    }
}

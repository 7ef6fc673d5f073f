//! Every rule, by name: it finds what breaks it in the check of everything and in that of the account alone, and the check
//! of another account finds nothing.

use std::collections::BTreeMap;

use farebox_core::lease::OnLost;
use farebox_core::wire::JournalReport;
use farebox_sidecar::app::{App, Settings};
use farebox_sidecar::store::Store;

use crate::calls::{commit, deduct, refund, reserve_units};
use crate::fixture::{Fixture, key, settings, used, want};
use crate::orders;

/// Two accounts, each with rows of every kind.
const ACCOUNTS: [&str; 2] = ["alice", "bob"];

/// What the statements below change.
const TABLES: [&str; 12] = [
    "user_balance",
    "free_quota",
    "lease",
    "reservation",
    "billing_record",
    "charge_refund",
    "journal_line",
    "ledger_entry",
    "recharge_order",
    "recharge_refund",
    "price_version",
    "tier_usage",
];

/// Guards of the schema that keep rows from breaking a rule at all.
const GUARDS: [(&str, &str); 3] = [
    ("user_balance", "ck_user_balance_limit"),
    ("free_quota", "ck_free_quota_total"),
    ("free_quota", "ck_free_quota_parts"),
];

async fn two_accounts() -> Fixture {
    let (quotas, prices) = ([("asset", 4)], [("asset", "0.5"), ("graded", "1"), ("packed", "1")]);
    let farebox = Fixture::new(&quotas, &prices).await;
    let store = Store::connect(&farebox.database.options, 8).await.unwrap();
    let settings = Settings { on_lost: OnLost::Granted, ..settings(&quotas, &prices) };
    let app = App::new(store, settings).with_payment(orders::away());
    let farebox = Fixture { app, ..farebox };
    farebox.grade("graded", &[(Some(5), "0.02"), (None, "0.01")]).await;
    farebox.pack("packed", 10, "0.03").await;
    for account in ACCOUNTS {
        farebox.fill(account).await;
    }
    farebox.assert_sound().await;
    farebox
}

impl Fixture {
    /// Gives an account rows of every kind and every end.
    async fn fill(&self, account: &str) {
        self.credit(account, "20").await;
        // Prices of its own, in an hour and in two.
        for (price, hours) in [("0.4", 1), ("0.3", 2)] {
            self.give_price(account, "asset", price, hours * 3_600).await;
        }
        self.reservation(reserve_units(&format!("open-{account}"), account, "asset", 1)).await;
        let mut edge = self.gateway(&format!("edge-{account}"));
        let lease = edge.want(want(account, "asset", 6, 6)).await.unwrap().lease;
        // One of the free units and two of the paid ones stay out.
        edge.report(used(lease, 3)).await;
        let journal = vec![JournalReport { line: 7, key: key(account, "asset"), used: 1 }];
        edge.send(vec![], vec![], journal).await;
        let mut gone = self.gateway(&format!("gone-{account}"));
        let lost = gone.want(want(account, "asset", 2, 2)).await.unwrap().lease;
        self.expire(lost).await;
        self.record(deduct(&format!("t-{account}"), account, "graded", 2)).await;
        self.reservation(reserve_units(&format!("h-{account}"), account, "graded", 1)).await;
        self.record(deduct(&format!("p-{account}"), account, "packed", 2)).await;
        let charged = self.record(deduct(&format!("d-{account}"), account, "asset", 2)).await;
        self.told(refund(&format!("f-{account}"), &charged, Some(1))).await;
        let request = reserve_units(&format!("r-{account}"), account, "asset", 3);
        self.told(commit(&self.reservation(request).await, Some(2))).await;
        orders::order(&self.app, account, "1").await;
        orders::paid(&self.app, account, "2", &format!("paid-{account}")).await;
        let back = orders::paid(&self.app, account, "10", &format!("back-{account}")).await;
        self.end_refund(&orders::refund(&self.app, &back, "3").await).await;
        self.fail_refund(&orders::refund(&self.app, &back, "2").await).await;
        orders::refund(&self.app, &back, "1").await;
    }

    /// Checks this account alone; how many rows each rule covered.
    async fn check_alone(&self, account: &str) -> BTreeMap<String, u64> {
        self.database.run("DELETE FROM invariant_violation").await;
        let due = format!(
            "UPDATE user_balance SET check_at = IF(user_id = '{account}', UTC_TIMESTAMP(3), NULL)"
        );
        self.database.run(due).await;
        assert_eq!(self.app.check_touched().await.unwrap().unwrap().accounts, 1);
        let counts = "SELECT invariant, checked FROM invariant_run WHERE scope = 'touched'";
        let count = |line: &String| {
            let (rule, count) = line.split_once(' ').unwrap();
            (rule.to_owned(), count.parse().unwrap())
        };
        self.database.rows(counts).await.iter().map(count).collect()
    }

    /// The rows that are known to break a rule, each after its account.
    async fn known(&self, rule: &str) -> Vec<String> {
        let sql = format!(
            "SELECT user_id, violation FROM invariant_violation WHERE invariant LIKE '{rule}' ORDER BY user_id, violation"
        );
        self.database.rows(sql).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_rule_counts_the_rows_of_the_accounts_that_it_is_asked_about() {
    let farebox = two_accounts().await;
    let all = farebox.app.invariants().await.unwrap();
    let alice = farebox.check_alone("alice").await;
    let bob = farebox.check_alone("bob").await;
    let everybodys = "SELECT COUNT(*) FROM price_version WHERE source = 'book' AND user_id = ''";
    let everybodys: u64 = farebox.database.rows(everybodys).await[0].parse().unwrap();
    for invariant in all {
        let (alice, bob) = (alice[invariant.name], bob[invariant.name]);
        assert_ne!((alice, bob), (0, 0), "{} looks at something", invariant.name);
        // Everybody's price is nobody's row.
        let of_nobody = if invariant.name == "m7_book_prices" { everybodys } else { 0 };
        let of_accounts = invariant.checked - of_nobody;
        assert_eq!((alice, alice + bob), (bob, of_accounts), "{}", invariant.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_rule_finds_what_breaks_it_in_its_account_and_nothing_in_others() {
    let farebox = two_accounts().await;
    for (table, guard) in GUARDS {
        farebox.database.run(format!("ALTER TABLE {table} DROP CONSTRAINT {guard}")).await;
    }
    for table in TABLES {
        farebox.database.run(format!("CREATE TABLE good_{table} AS SELECT * FROM {table}")).await;
    }
    for (rule, plant) in PLANTS {
        assert_ne!(farebox.database.run(format!("{plant} user_id = 'alice'")).await, 0, "{plant}");
        farebox.app.invariants().await.unwrap();
        let found = farebox.known(rule).await;
        assert_ne!(found, Vec::<String>::new(), "{rule}: {plant}");
        let all = farebox.known("%").await;
        assert!(all.iter().all(|row| row.starts_with("alice ")), "{rule}: {all:?}");

        farebox.check_alone("alice").await;
        assert_eq!(farebox.known(rule).await, found, "{rule}, alice alone");
        farebox.check_alone("bob").await;
        assert_eq!(farebox.known("%").await, Vec::<String>::new(), "{rule}, bob alone");
        for table in TABLES {
            farebox.database.run(format!("DELETE FROM {table}")).await;
            let restore = format!("INSERT INTO {table} SELECT * FROM good_{table}");
            farebox.database.run(restore).await;
        }
    }
    farebox.assert_sound().await;
    let rules = farebox.app.invariants().await.unwrap();
    let rules: Vec<&str> = rules.iter().map(|invariant| invariant.name).collect();
    assert_eq!(PLANTS.map(|(rule, _)| rule).as_slice(), rules, "every rule is broken here");
}

/// Each rule with a statement that breaks it; its last condition names the account.
const PLANTS: [(&str, &str); 38] = [
    ("m1_balance_bounds", "UPDATE user_balance SET held = balance + 1 WHERE"),
    ("m1_held_money", "UPDATE user_balance SET held = held + 0.000000001 WHERE"),
    ("m1_quota_bounds", "UPDATE free_quota SET used_quota = total_quota + 1 WHERE"),
    ("m1_held_units", "UPDATE free_quota SET held_quota = held_quota + 1 WHERE"),
    ("m1_lease_rows", "DELETE FROM free_quota WHERE"),
    ("m1_lease_bounds", "UPDATE lease SET state = 'closed' WHERE state = 'open' AND"),
    ("m1_reservation_rows", "DELETE FROM free_quota WHERE"),
    (
        "m2_reservation_record",
        "UPDATE reservation SET state = 'released' WHERE state = 'committed' AND",
    ),
    (
        "m2_refunded_units",
        "UPDATE billing_record SET paid_refunded = paid_refunded + 1 WHERE source = 'deduct' AND",
    ),
    ("m2_refund_in_ledger", "UPDATE charge_refund SET amount = amount + 0.000000001 WHERE"),
    ("m2_ledger_refunds", "DELETE FROM charge_refund WHERE"),
    ("m3_lease_usage", "UPDATE lease SET late_used = 1 WHERE state = 'open' AND"),
    ("m3_lease_loss", "UPDATE lease SET lost_record_id = NULL WHERE state = 'expired' AND"),
    ("m3_journal_usage", "UPDATE journal_line SET used = used + 1 WHERE"),
    ("m3_record_origin", "DELETE FROM journal_line WHERE"),
    (
        "m3_record_amount",
        "UPDATE billing_record SET amount = amount + 0.000000001 WHERE source = 'deduct' AND",
    ),
    ("m3_record_in_ledger", "DELETE FROM ledger_entry WHERE book = 'earnings:asset' AND"),
    (
        "m5_entry_balance",
        "UPDATE ledger_entry SET amount = amount + 1 WHERE book = 'earnings:asset' AND",
    ),
    ("m5_account_legs", "DELETE FROM ledger_entry WHERE book = 'payments' AND"),
    ("m5_balance_sum", "UPDATE user_balance SET balance = balance + 1 WHERE"),
    ("m5_receivable_sum", "UPDATE user_balance SET receivable = receivable + 1 WHERE"),
    ("m5_entry_numbers", "UPDATE user_balance SET entry_seq = entry_seq + 1 WHERE"),
    ("m5_running_balance", "UPDATE ledger_entry SET balance_after = 1 WHERE user_seq = 2 AND"),
    (
        "m6_order_credit",
        "UPDATE recharge_order SET amount = amount + 0.000000001 WHERE status = 'paid' AND",
    ),
    ("m6_ledger_credits", "UPDATE recharge_order SET credited_at = NULL WHERE status = 'paid' AND"),
    ("m6_refund_order", "UPDATE recharge_refund SET order_id = 'none' WHERE"),
    (
        "m6_order_refund_in_ledger",
        "UPDATE recharge_refund SET amount = amount + 1 WHERE state = 'pending' AND",
    ),
    (
        "m6_failed_refund_returned",
        "UPDATE recharge_refund SET state = 'done' WHERE state = 'failed' AND",
    ),
    ("m6_ledger_order_refunds", "DELETE FROM recharge_refund WHERE"),
    (
        "m6_order_refunds",
        "UPDATE recharge_order SET refunded_amount = refunded_amount + 1 WHERE status = 'partly_refunded' AND",
    ),
    (
        "m6_order_state",
        "UPDATE recharge_order SET status = 'paid' WHERE status = 'partly_refunded' AND",
    ),
    ("m6_asking", "UPDATE recharge_order SET ask_at = NULL WHERE status = 'pending' AND"),
    ("m7_book_prices", "UPDATE price_version SET effective_to = NULL WHERE price = 0.4 AND"),
    ("m7_lease_bound", "UPDATE lease SET not_after = '9999-01-01' WHERE state = 'open' AND"),
    ("m1_tier_bounds", "UPDATE tier_usage SET total = total + 1 WHERE"),
    ("m1_tier_held", "UPDATE tier_usage SET held = held + 1 WHERE"),
    ("m1_tier_used", "UPDATE tier_usage SET used = used - 1 WHERE"),
    ("m1_package_bought", "UPDATE tier_usage SET total = total + 1 WHERE"),
];

//! What cannot be taken over is refused by name, and stays as it is.

use super::predecessor::{Rows, Version};
use super::whole::everything;
use super::{Desk, text};
use crate::database::Database;

/// What planning says about a database, which it leaves alone.
async fn refusal(database: &Database) -> String {
    let before = everything(database).await;
    let run = Desk::on(database).run(&["migrate", "--from-predecessor"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{run:?}");
    assert_eq!(everything(database).await, before);
    run.stderr
}

#[tokio::test(flavor = "multi_thread")]
async fn mixed_and_unknown_tables_are_named() {
    for (change, says) in [
        (
            "ALTER TABLE free_quota RENAME COLUMN user_id TO uid",
            "free_quota.uid is of another generation",
        ),
        (
            "ALTER TABLE billing_record DROP COLUMN app_id",
            "free_quota.app_id is of another generation",
        ),
        (
            "ALTER TABLE recharge_order ADD COLUMN tenant INT",
            "recharge_order.tenant is no column of any version",
        ),
        (
            "ALTER TABLE billing_record MODIFY created_at DATETIME",
            "billing_record.created_at has a type",
        ),
        ("DROP TABLE free_quota", "this database has no table free_quota of billing-service"),
        (
            "CREATE TABLE lease (a INT PRIMARY KEY)",
            "the table lease stands beside those of billing-service",
        ),
        (
            "CREATE TABLE predecessor_free_quota (a INT PRIMARY KEY)",
            "the table predecessor_free_quota stands beside",
        ),
    ] {
        let database = Rows::random(Version::C, 1, 2).database(Version::C).await;
        database.run(change).await;
        let said = refusal(&database).await;
        assert!(said.starts_with(&format!("farebox: {says}")), "{change}: {said}");
    }
    let empty = Database::create().await;
    assert!(refusal(&empty).await.contains("no table user_balance of billing-service"));
    let desk = Desk::on(&empty);
    assert_eq!(desk.run(&["migrate"]).code, Some(0));
    assert!(refusal(&empty).await.contains("this database is Farebox's already"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_cannot_be_carried_over_are_listed_and_nothing_is_done() {
    for (change, id, example) in [
        (
            "UPDATE user_balance SET user_id = 'a b' WHERE user_id = 'rich'",
            "name",
            "user_balance: \"a b\": account id holds the character ' '",
        ),
        (
            "UPDATE billing_record SET service_name = 'short link' WHERE billing_record_id = 'odd-1'",
            "name",
            "billing_record: \"short link\"",
        ),
        (
            "INSERT INTO recharge_order (order_id, user_id, amount) VALUES ('o', '', 1)",
            "name",
            "recharge_order: \"\": account id is empty",
        ),
        ("UPDATE user_balance SET user_id = REPEAT('用', 36) WHERE user_id = 'rich'", "", ""),
        (
            "UPDATE user_balance SET user_id = REPEAT('😀', 36) WHERE user_id = 'rich'",
            "name",
            "user_balance: ",
        ),
        (
            "ALTER TABLE billing_record MODIFY type VARCHAR(8) NOT NULL; UPDATE billing_record SET type = 'paid' WHERE billing_record_id = 'odd-2'",
            "record_type",
            "odd-2",
        ),
        (
            "ALTER TABLE recharge_order MODIFY status VARCHAR(8); UPDATE recharge_order SET status = 'lost' WHERE order_id = 'odd-paid'",
            "order_status",
            "odd-paid",
        ),
        (
            "ALTER TABLE user_balance DROP KEY uk_user_id; UPDATE user_balance SET user_id = 'RICH' WHERE user_id = 'Nasty'",
            "account_twice",
            "",
        ),
    ] {
        let database = Rows::random(Version::A, 1, 2).database(Version::A).await;
        for sql in change.split("; ") {
            database.run(sql).await;
        }
        let before = everything(&database).await;
        let desk = Desk::on(&database);
        let plan = desk.plan();
        if id.is_empty() {
            assert_eq!(plan["first"].as_array().map(Vec::len), Some(0), "{change}");
            continue;
        }
        assert_eq!(plan["first"][0]["id"].as_str(), Some(id), "{change}: {}", plan["first"]);
        let named = plan["first"][0]["examples"][0].as_str().unwrap();
        assert!(named.starts_with(example), "{change}: {named}");
        let run = desk.apply(&text(&plan, "plan"));
        assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""));
        assert!(run.stderr.starts_with("farebox: 1 rows must be mended first"), "{}", run.stderr);
        assert_eq!(everything(&database).await, before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_is_no_longer_true_is_not_carried_out() {
    let database = Rows::random(Version::B, 1, 3).database(Version::B).await;
    let desk = Desk::on(&database);
    let plan = text(&desk.plan(), "plan");
    database.run("UPDATE user_balance SET balance = balance - 0.01 WHERE uid = 'rich'").await;
    let before = everything(&database).await;
    let run = desk.apply(&plan);
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""));
    assert!(
        run.stderr.contains(&format!(
            "not {plan}; nothing was changed; is billing-service still running?"
        )),
        "{}",
        run.stderr
    );
    assert_eq!(everything(&database).await, before);
}

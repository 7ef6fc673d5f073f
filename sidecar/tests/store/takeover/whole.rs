//! Every generation, from the first look to calls that are charged.

use super::model::assert_taken_over;
use super::predecessor::{Rows, VERSIONS, Version};
use super::{Desk, text};
use crate::database::Database;
use crate::fixture::{Fixture, used, want};

/// Everything that is in a database: columns, indexes and rows.
pub(crate) async fn everything(database: &Database) -> Vec<String> {
    let columns = "SELECT table_name, column_name, column_type FROM information_schema.columns
        WHERE table_schema = DATABASE() ORDER BY table_name, ordinal_position";
    let mut lines = database.rows(columns).await;
    lines.extend(database.dump(&["*"], &[]).await);
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn every_generation_is_taken_over_to_the_last_unit() {
    for (seed, version) in (1..).zip(VERSIONS) {
        let rows = Rows::random(version, seed, 40);
        let database = rows.database(version).await;
        let before = everything(&database).await;
        let desk = Desk::on(&database);
        let plan = desk.plan();
        assert_eq!(text(&plan, "generation"), version.generation());
        assert_eq!(everything(&database).await, before, "a dry run wrote");
        assert_eq!(desk.plan(), plan);

        let run = desk.apply(&text(&plan, "plan"));
        assert_eq!(run.code, Some(0), "{version:?}: {run:?}");
        assert_taken_over(&database, &rows, version).await;
        let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(
            (text(&report, "state").as_str(), text(&report, "by").as_str()),
            ("done", "cli:tester")
        );
        assert_eq!(report["result"], plan["expected"]);
        // Asked again, it says what it did and does nothing.
        assert_eq!(desk.apply(&text(&plan, "plan")).stdout, run.stdout);
        assert_eq!(desk.plan(), report);
        let checked = desk.run(&["invariants"]);
        assert_eq!((checked.code, checked.stderr.as_str()), (Some(0), ""));

        // Its users go on.
        let farebox = Fixture::on(database, &[], &[("passport", "0.001")]).await;
        let mut edge = farebox.gateway("edge-1");
        let grant = edge.want(want("rich", "passport", 10, 10)).await.unwrap();
        edge.report(used(grant.lease, 7)).await;
        farebox.credit("owing", "100000000").await;
        assert_eq!(farebox.money("owing").await, "0.01 0 0");
        farebox.assert_sound().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_will_mean_something_else_is_counted_and_named() {
    let rows = Rows::random(Version::C, 7, 0);
    let database = rows.database(Version::C).await;
    database.run("UPDATE recharge_order SET created_at = '2025-01-01 00:00:00' WHERE order_id = 'odd-nothing'").await;
    database
        .run("INSERT INTO free_quota (free_quota_id, user_id, app_id, service_name, total_quota, used_quota, reset_month)
              VALUES ('more', 'Nasty', 'app-2', 'passport', 12, 11, '2025-12')")
        .await;
    let desk = Desk::on(&database);
    let plan = desk.plan();
    let changes: Vec<String> = plan["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|note| {
            format!("{} {} {}", note["id"].as_str().unwrap(), note["rows"], note["examples"][0])
        })
        .collect();
    assert_eq!(
        changes,
        [
            "negative_balance 1 \"owing -99999999.99\"",
            "account_added 4 \"below\"",
            "spelling 3 \"\\\"Ghost \\\" = \\\"ghost\\\"\"",
            "quota_above_total 2 \"below passport 2025-12: 4 of -5\"",
            "quota_without_number 3 \"below passport 2025-12\"",
            "quota_merged 1 \"Nasty passport 2025-12: 2 apps, used 14 of 12\"",
            "quota_unlimited 1 \"only-free free-app passport 2025-12: used 1234567\"",
            "record_app 6 \"odd-1\"",
            "record_negative 2 \"odd-4: -1000 units, amount 0.0000\"",
            "record_without_number 1 \"odd-6\"",
            "order_pending_old 1 \"odd-nothing of only-orders, 0.00\"",
            "order_pending 1 \"odd-pending of nasty , 1.00\"",
            "order_without_payment 2 \"odd-negative\"",
            "order_without_amount 2 \"odd-negative of rich, -8.00\"",
        ]
    );
    // For people it is told in words.
    let told = desk.run(&["migrate", "--from-predecessor"]).stdout;
    for line in [
        &format!("plan             {} (planned)", text(&plan, "plan")),
        "billing-service  C: users are in user_id, quotas and records know apps, orders have payment_id",
        "below 0          1  -99999999.99",
        "- 1 balances below zero: the account has 0, and owes the rest as a receivable that its next money pays first",
        "  owing -99999999.99",
    ] {
        assert!(told.lines().any(|found| found == line), "{line}: {told}");
    }
    for part in [
        "wait until the consumer group billing_deduct_group has no lag",
        "RENAME TABLE predecessor_user_balance TO user_balance",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    // Nobody can be served before it is done, and both apps' quotas are one then.
    assert_eq!(desk.apply(&text(&plan, "plan")).code, Some(0));
    let quota = "SELECT user_id, total_quota, used_quota FROM free_quota WHERE user_id = 'Nasty'";
    assert_eq!(database.rows(quota).await, ["Nasty 12 12"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_back_gives_the_predecessor_its_tables_as_they_were() {
    let rows = Rows::random(Version::B, 3, 5);
    let database = rows.database(Version::B).await;
    let before = everything(&database).await;
    let desk = Desk::on(&database);
    let plan = desk.plan();
    assert_eq!(desk.apply(&text(&plan, "plan")).code, Some(0));
    for sql in plan["way_back"].as_array().unwrap() {
        database.run(sql.as_str().unwrap()).await;
    }
    assert_eq!(everything(&database).await, before);
    // And once more, from the beginning.
    assert_eq!(desk.plan(), plan);
    assert_eq!(desk.apply(&text(&plan, "plan")).code, Some(0));
    assert_taken_over(&database, &rows, Version::B).await;
}

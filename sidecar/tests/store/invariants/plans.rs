//! A check of some accounts reads rows of theirs alone, by indexes.

use farebox_sidecar::store::invariant::{DUE, statements};
use sqlx::{AssertSqlSafe, Row as _};

use crate::fixture::Fixture;

/// One row per table; newer MySQL draws a tree unless it is told.
const EXPLAIN: &str = "EXPLAIN FORMAT = TRADITIONAL";

/// 4,000 accounts with a few rows of each kind, as far as they matter for the plan.
async fn crowd() -> Fixture {
    let farebox = Fixture::new(&[], &[]).await;
    let digits = "(SELECT 0 AS d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4
        UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)";
    let n = format!(
        "(SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d AS i FROM {digits} AS a, {digits} AS b, {digits} AS c, {digits} AS e
          WHERE e.d < 4) AS n"
    );
    let m = "(SELECT 1 AS j UNION ALL SELECT 2 UNION ALL SELECT 3) AS m";
    for (into, values) in [
        (
            "user_balance (user_balance_id, user_id, balance, entry_seq, created_at, updated_at)",
            "i, CONCAT('u', i), 0, 0, NOW(), NOW() FROM {n}",
        ),
        (
            "free_quota (free_quota_id, user_id, service_name, reset_month, total_quota, created_at, updated_at)",
            "CONCAT(i, '-', j), CONCAT('u', i), CONCAT('s', j), '2026-11', 5, NOW(), NOW() FROM {n}, {m}",
        ),
        (
            "lease (gateway_id, epoch, user_id, service_name, price, reset_month, free_granted, paid_granted, state, reclaim_at, created_at, updated_at)",
            "'edge-1', 1, CONCAT('u', i), CONCAT('s', j), 1, '2026-11', 0, 0, IF(j = 1, 'open', 'closed'), NOW(), NOW(), NOW() FROM {n}, {m}",
        ),
        (
            "reservation (reservation_id, user_id, service_name, reset_month, basis, free_units, paid_units, amount, state, billing_record_id, expires_at, created_at, updated_at)",
            "CONCAT(i, '-', j), CONCAT('u', i), CONCAT('s', j), '2026-11', 'units', 0, 0, 0, IF(j = 1, 'open', 'committed'), CONCAT(i, '-', j), NOW(), NOW(), NOW() FROM {n}, {m}",
        ),
        (
            "billing_record (billing_record_id, user_id, service_name, type, amount, count, source, lease_id, gateway_id, epoch, journal_line, created_at)",
            "CONCAT(i, '-', j), CONCAT('u', i), 's1', 'free', 0, 1, ELT(j, 'lease', 'journal', 'reserve'), i, 'edge-1', 1, i, NOW() FROM {n}, {m}",
        ),
        (
            "price_version (service_name, source, user_id, price, effective_from)",
            "CONCAT('s', j), 'book', CONCAT('u', i), 1, NOW() FROM {n}, {m}",
        ),
        (
            "tier_usage (user_id, price_version_id, reset_month, total, used, held, late)",
            "CONCAT('u', i), j, '2026-11', 5, 0, 0, 0 FROM {n}, {m}",
        ),
        (
            "journal_line (gateway_id, instance, line, user_id, service_name, used, updated_at)",
            "'edge-1', 'i', i, CONCAT('u', i), 's1', 1, NOW() FROM {n}",
        ),
        (
            "ledger_entry (entry_id, user_id, book, amount, currency, kind, ref_type, ref_id, user_seq, balance_after, created_at)",
            "CONCAT(i, '-', j), CONCAT('u', i), 'user', 0, 'CNY', 'charge', 'billing_record', CONCAT(i, '-', j), j, 0, NOW() FROM {n}, {m}",
        ),
        (
            "charge_refund (charge_refund_id, billing_record_id, user_id, free_units, paid_units, amount, created_at)",
            "CONCAT(i, '-', j), CONCAT(i, '-', j), CONCAT('u', i), 0, 0, 0, NOW() FROM {n}, {m}",
        ),
        (
            "recharge_order (order_id, user_id, amount, status, created_at, updated_at)",
            "CONCAT(i, '-', j), CONCAT('u', i), 1, 'paid', NOW(), NOW() FROM {n}, {m}",
        ),
        (
            "recharge_refund (refund_id, order_id, user_id, amount, currency, state, origin, reason, actor, created_at, updated_at)",
            "CONCAT(i, '-', j), CONCAT(i, '-', j), CONCAT('u', i), 1, 'CNY', 'done', 'operator', '', '', NOW(), NOW() FROM {n}, {m}",
        ),
    ] {
        let table = into.split(' ').next().unwrap();
        let values = values.replace("{n}", &n).replace("{m}", m);
        farebox.database.run(format!("INSERT INTO {into} SELECT {values}")).await;
        farebox.database.run(format!("ANALYZE TABLE {table}")).await;
    }
    farebox
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_for_some_accounts_scan_no_table() {
    let farebox = crowd().await;
    let accounts: Vec<String> = (1..=20).map(|user| format!("u{}", user * 100)).collect();
    for (rule, sql) in statements(&accounts) {
        let explain = sqlx::query(AssertSqlSafe(format!("{EXPLAIN} {sql}")));
        let plan = explain.fetch_all(&farebox.database.pool).await.unwrap();
        for line in &plan {
            let text = |column: &str| line.try_get::<Option<String>, _>(column).unwrap();
            let (Some(table), Some(access)) = (text("table"), text("type")) else { continue };
            let is_derived = table.starts_with('<');
            let is_scan = access == "ALL" || access == "index";
            assert!(is_derived || !is_scan, "{rule} scans {table} ({access}): {sql}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_that_are_due_are_found_by_their_index() {
    let farebox = crowd().await;
    let explain = format!("{EXPLAIN} {DUE}");
    let explain = sqlx::query(AssertSqlSafe(explain)).bind("2026-11-22 12:00:00").bind(200);
    let plan = explain.fetch_one(&farebox.database.pool).await.unwrap();
    let text = |column: &str| plan.try_get::<Option<String>, _>(column).unwrap().unwrap();
    assert_eq!((text("type").as_str(), text("key").as_str()), ("range", "idx_user_balance_check"));
}

//! What graphs are told: money that charges took, and what stands in the database.

use farebox_core::wire::{JournalReport, Report};
use farebox_sidecar::app::{App, LowThresholds, Settings};
use farebox_sidecar::metrics;
use farebox_sidecar::store::Store;

use crate::calls::{deduct, undo};
use crate::fixture::{Fixture, key, nanos, settings, used, want};

fn shown(series: &str) -> f64 {
    let text = metrics::install().unwrap().render();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
}

/// Series of this service are this test's alone.
#[tokio::test(flavor = "multi_thread")]
async fn revenue_is_the_money_that_was_taken_however_the_call_came() {
    // What happens before is not recorded.
    metrics::install().unwrap();
    let farebox = Fixture::new(&[("sold", 2)], &[("sold", "0.5")]).await;
    farebox.credit("u", "2").await;
    let mut edge = farebox.gateway("edge-1");
    // Two free units and two paid ones.
    let lease = edge.want(want("u", "sold", 4, 4)).await.unwrap().lease;
    edge.report(used(lease, 3)).await;
    edge.report(Report { close: true, ..used(lease, 4) }).await;
    farebox.told(deduct("d", "u", "sold", 2)).await;
    let amount = |paid_by: &str| {
        shown(&format!(r#"billing_deduct_quota_amount_total{{service="sold",type="{paid_by}"}}"#))
    };
    // Mixed: 2 free and 1 paid; by money: 1 of the lease, 2 by the deduct.
    assert_eq!((amount("mixed"), amount("balance"), amount("free")), (0.5, 1.5, 0.0));
    let units = |paid_by: &str| {
        shown(&format!(r#"billing_charged_units_total{{service="sold",paid_by="{paid_by}"}}"#))
    };
    assert_eq!((units("free"), units("balance")), (2.0, 4.0));
    assert_eq!(shown(r#"billing_deduct_quota_total{service="sold",type="balance"}"#), 2.0);
    assert_eq!(farebox.money("u").await, "0 0 0");
    // What goes back is counted apart.
    farebox.told(undo("d", "u")).await;
    assert_eq!(shown(r#"billing_charge_refund_amount_total{service="sold"}"#), 1.0);
    let back = r#"billing_charge_refund_units_total{service="sold",paid_by="balance"}"#;
    assert_eq!(
        (shown(back), amount("balance"), farebox.money("u").await.as_str()),
        (2.0, 1.5, "1 0 0")
    );
    farebox.told(deduct("e", "u", "sold", 2)).await;
    // Usage without a lease finds no money: it is charged and owed, and no revenue.
    let line = JournalReport { line: 1, key: key("u", "sold"), used: 3 };
    edge.send(vec![], vec![], vec![line]).await;
    assert_eq!(farebox.money("u").await, "0 0 1.5");
    assert_eq!((amount("balance"), units("balance")), (2.5, 9.0));
}

/// No other test asks for these.
#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_database_is_shown() {
    metrics::install().unwrap();
    let farebox = Fixture::new(&[("asset", 10)], &[("asset", "0.5")]).await;
    farebox.credit("rich", "100").await;
    farebox.credit("poor", "9.5").await;
    farebox.credit("trusted", "1").await;
    farebox.limit("trusted", "9").await.unwrap();
    farebox.freeze("poor").await;
    farebox.told(deduct("d1", "free-only", "asset", 9)).await;
    farebox.told(deduct("d2", "rich", "asset", 8)).await;
    let mut edge = farebox.gateway("edge-1");
    edge.want(want("rich", "asset", 6, 6)).await.unwrap();
    farebox.database.run("UPDATE lease SET renewed_at = renewed_at - INTERVAL 30 SECOND").await;
    farebox
        .database
        .run("UPDATE gateway SET last_seen_at = last_seen_at - INTERVAL 30 SECOND")
        .await;
    let anomaly = "INSERT INTO payment_anomaly (fingerprint, kind, order_id, payment_order_id, expected_json,
        found_json, times_seen, first_seen_at, last_seen_at)
        VALUES (REPEAT('a', 32), 'amount', 'o', 'p', '{}', '{}', 1, UTC_TIMESTAMP(3), UTC_TIMESTAMP(3))";
    farebox.database.run(anomaly).await;
    // One that somebody has decided about waits for nobody.
    farebox
        .database
        .run(
            "INSERT INTO payment_anomaly (fingerprint, kind, order_id, payment_order_id, expected_json, found_json, times_seen,
               first_seen_at, last_seen_at, state, action, reason, resolved_by, resolved_at)
             VALUES (REPEAT('b', 32), 'amount', 'o', 'q', '{}', '{}', 1, UTC_TIMESTAMP(3), UTC_TIMESTAMP(3), 'resolved',
               'dismiss', 'r', 'ann', UTC_TIMESTAMP(3))",
        )
        .await;
    farebox.app.show_standing().await.unwrap();
    // Both have less than 20 % of 10 free units left; of balances, an account that never had money is not low.
    for (series, value) in [
        ("billing_balance_low_alert", 1.0),
        ("billing_accounts_frozen", 1.0),
        (r#"billing_quota_low_alert{service="asset"}"#, 2.0),
        ("billing_leases_open", 1.0),
        (r#"billing_lease_outstanding_units{paid_by="free"}"#, 2.0),
        (r#"billing_lease_outstanding_units{paid_by="balance"}"#, 4.0),
        ("billing_lease_outstanding_amount", 2.0),
        ("billing_gateways_silent", 1.0),
        ("billing_payment_anomalies", 1.0),
    ] {
        assert_eq!(shown(series), value, "{series}");
    }
    assert!(30.0 <= shown("billing_settle_lag_seconds"));
    assert!(1.0 <= shown(r#"billing_database_connections{state="idle"}"#));
    assert!(1.7e9 < shown("billing_standing_timestamp_seconds"));
    // Who is low is the operator's to say.
    let low = LowThresholds { balance: nanos("1000"), quota_percent: 0.into() };
    let settings = Settings { low, ..settings(&[("asset", 10)], &[("asset", "0.5")]) };
    let store = Store::connect(&farebox.database.options, 2).await.unwrap();
    App::new(store, settings).show_standing().await.unwrap();
    assert_eq!(shown("billing_balance_low_alert"), 3.0);
    assert_eq!(shown(r#"billing_quota_low_alert{service="asset"}"#), 0.0);
}

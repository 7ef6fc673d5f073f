//! What any sidecar tells about the last checks, and what stands in its metrics.

use farebox_sidecar::app::InvariantStatus;
use metrics_exporter_prometheus::PrometheusBuilder;

use crate::fixture::Fixture;

async fn of(farebox: &Fixture, name: &str) -> InvariantStatus {
    let all = farebox.app.invariant_status().await.unwrap();
    all.into_iter().find(|status| status.name == name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_checks_are_told_by_every_sidecar() {
    let farebox = Fixture::new(&[], &[]).await;
    let other = farebox.sidecar(&[], &[]).await;
    for account in ["u", "v", "w"] {
        farebox.credit(account, "1").await;
    }
    let before = of(&farebox, "m5_balance_sum").await;
    assert_eq!((before.checked, before.scope, before.checked_at), (0, None, None));

    farebox.app.invariants().await.unwrap();
    let all = of(&farebox, "m5_balance_sum").await;
    assert_eq!((all.id.as_str(), all.checked, all.scope.as_deref()), ("M5", 3, Some("all")));
    assert_eq!(all.checked_at, all.all_checked_at);

    farebox.database.run("UPDATE user_balance SET balance = 2 WHERE user_id <> 'u'").await;
    let due = "UPDATE user_balance SET check_at = IF(user_id = 'w', NULL, UTC_TIMESTAMP(3))";
    farebox.database.run(due).await;
    farebox.app.check_touched().await.unwrap();
    let touched = of(&farebox, "m5_balance_sum").await;
    assert_eq!((touched.checked, touched.scope.as_deref()), (2, Some("touched")));
    assert_eq!(touched.all_checked_at, all.all_checked_at);
    let broken = ["v"].map(|user| {
        format!("user_balance {user}: balance 2.000000000, entries sum to 1.000000000")
    });
    assert_eq!((touched.violations, touched.rows.as_slice()), (1, &broken[..]));
    assert_eq!(
        other.invariant_status().await.unwrap(),
        farebox.app.invariant_status().await.unwrap()
    );

    // What the check of some accounts did not see, the check of all does; nothing is counted twice.
    farebox.app.invariants().await.unwrap();
    assert_eq!(of(&farebox, "m5_balance_sum").await.violations, 2);
    farebox.app.check_touched().await.unwrap();
    assert_eq!(of(&farebox, "m5_balance_sum").await.violations, 2);
    farebox.database.run("UPDATE user_balance SET balance = 1").await;
    farebox.app.check_touched().await.unwrap();
    assert_eq!(of(&farebox, "m5_balance_sum").await.violations, 0);
}

/// On one thread, so that what is recorded is what this test does.
#[tokio::test]
async fn the_gauge_is_the_databases_in_every_sidecar_whoever_checked() {
    let farebox = Fixture::new(&[], &[]).await;
    let other = farebox.sidecar(&[], &[]).await;
    farebox.credit("u", "1").await;
    farebox.database.run("UPDATE user_balance SET balance = 2").await;
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let shown = |line: &str| {
        let text = handle.render();
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    };
    let line =
        |count| format!("billing_invariant_violations{{invariant=\"m5_balance_sum\"}} {count}");

    other.show_invariants().await.unwrap();
    shown(&line(0));
    assert!(!handle.render().contains("timestamp_seconds"), "nothing was checked yet");
    farebox.app.check_touched().await.unwrap();
    other.show_invariants().await.unwrap();
    shown(&line(1));
    shown("billing_invariant_violations{invariant=\"m1_held_money\"} 0");
    assert!(
        handle
            .render()
            .contains("billing_invariant_last_check_timestamp_seconds{scope=\"touched\"} ")
    );
    farebox.database.run("UPDATE user_balance SET balance = 1").await;
    farebox.app.check_touched().await.unwrap();
    other.show_invariants().await.unwrap();
    shown(&line(0));
    shown("billing_invariant_unchecked_seconds 0");
}

//! `GET /admin/v1/invariants`, and the gauge beside it, as operators meet them.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use farebox_sidecar::api::{self, Operators, Tokens};
use farebox_sidecar::cache::Cache;
use farebox_sidecar::config::Secret;
use farebox_sidecar::metrics::Metrics;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::fixture::Fixture;

/// What the endpoint answers to somebody who shows this.
async fn ask(farebox: &Fixture, authorization: &str) -> (StatusCode, Value) {
    let admin = api::admin(Operators {
        app: farebox.app.clone(),
        cache: Cache::off(),
        metrics: Metrics::detached().unwrap(),
        tokens: Tokens::new(&[Secret::new("operator")]),
    });
    let request = Request::get("/admin/v1/invariants").header("authorization", authorization);
    let answer = admin.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (head, body) = answer.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    (head.status, serde_json::from_slice(&body).unwrap())
}

/// One invariant of the answer, which has all of them.
async fn told(farebox: &Fixture, name: &str) -> Value {
    let (status, body) = ask(farebox, "Bearer operator").await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let invariants = body["invariants"].as_array().unwrap();
    assert_eq!(invariants.len(), 38);
    invariants.iter().find(|invariant| invariant["name"] == name).unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_operators_are_told() {
    let farebox = Fixture::new(&[], &[]).await;
    for stranger in ["Bearer other", "operator", ""] {
        let (status, problem) = ask(&farebox, stranger).await;
        assert_eq!((status, &problem["code"]), (StatusCode::UNAUTHORIZED, &100_104.into()));
    }
}

/// On one thread, so that what is recorded is what this test does.
#[tokio::test]
async fn a_broken_row_is_told_and_alerts_until_it_is_mended() {
    let farebox = Fixture::new(&[], &[]).await;
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let require_gauge = async |rows: u64| {
        farebox.app.show_invariants().await.unwrap();
        let line = format!("billing_invariant_violations{{invariant=\"m5_balance_sum\"}} {rows}");
        assert!(handle.render().lines().any(|found| found == line), "{line}");
    };

    let before = told(&farebox, "m5_balance_sum").await;
    assert_eq!((&before["checked"], &before["violations"]), (&0.into(), &0.into()));
    assert_eq!((before.get("checked_at"), before.get("scope")), (None, None), "never checked");

    for account in ["u", "v"] {
        farebox.credit(account, "1").await;
    }
    farebox.database.run("UPDATE user_balance SET balance = 2 WHERE user_id = 'u'").await;
    farebox.app.check_touched().await.unwrap();
    let broken = told(&farebox, "m5_balance_sum").await;
    assert_eq!(
        (&broken["id"], &broken["rule"]),
        (&"M5".into(), &"a balance is the sum of its entries".into())
    );
    assert_eq!((&broken["checked"], &broken["scope"]), (&2.into(), &"touched".into()));
    assert!(broken["checked_at"].as_str().unwrap().ends_with('Z'), "{broken}");
    assert_eq!(broken["violations"], 1);
    let row = "user_balance u: balance 2.000000000, entries sum to 1.000000000";
    assert_eq!(broken["rows"], serde_json::json!([row]));
    require_gauge(1).await;

    farebox.database.run("UPDATE user_balance SET balance = 1 WHERE user_id = 'u'").await;
    farebox.app.check_touched().await.unwrap();
    let mended = told(&farebox, "m5_balance_sum").await;
    assert_eq!((&mended["violations"], &mended["rows"]), (&0.into(), &serde_json::json!([])));
    require_gauge(0).await;
}

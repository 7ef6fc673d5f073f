//! `POST /admin/v1/adjustments` and `/admin/v1/accounts/{account}` as operators meet them.

use axum::body::Body;
use axum::http::Request;
use farebox_sidecar::api::{self, Operators, Tokens};
use farebox_sidecar::cache::Cache;
use farebox_sidecar::config::Secret;
use farebox_sidecar::metrics::Metrics;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::fixture::Fixture;

async fn ask(farebox: &Fixture, request: Request<Body>) -> (u16, Value) {
    let admin = api::admin(Operators {
        app: farebox.app.clone(),
        cache: Cache::off(),
        metrics: Metrics::detached().unwrap(),
        tokens: Tokens::new(&[Secret::new("operator")]),
    });
    let (head, body) = admin.oneshot(request).await.unwrap().into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    (head.status.as_u16(), serde_json::from_slice(&body).unwrap())
}

async fn adjust(farebox: &Fixture, amount: &str, key: &str) -> (u16, Value) {
    let request = Request::post("/admin/v1/adjustments")
        .header("authorization", "Bearer operator")
        .header("accept-language", "en")
        .header("idempotency-key", key);
    let body = json!({ "account": "u", "amount": amount, "reason": "ticket 7" }).to_string();
    ask(farebox, request.body(Body::from(body)).unwrap()).await
}

async fn account(farebox: &Fixture, account: &str) -> (u16, Value) {
    let request = Request::get(format!("/admin/v1/accounts/{account}"))
        .header("authorization", "Bearer operator");
    ask(farebox, request.body(Body::empty()).unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adjustment_is_made_once_per_key_and_leaves_its_lines() {
    let farebox = Fixture::new(&[], &[]).await;
    let made = |amount: &str, balance: &str, replayed: bool, new_account: bool| {
        let collected = "0";
        json!({
            "account": "u", "amount": amount, "balance": balance, "collected": collected,
            "replayed": replayed, "new_account": new_account,
        })
    };
    assert_eq!(account(&farebox, "u").await.0, 404);
    assert_eq!(adjust(&farebox, "10.5", "k").await, (200, made("10.5", "10.5", false, true)));
    assert_eq!(adjust(&farebox, "-0.5", "l").await, (200, made("-0.5", "10", false, false)));
    assert_eq!(adjust(&farebox, "10.5", "k").await, (200, made("10.5", "10.5", true, false)));
    let (status, view) = account(&farebox, "u").await;
    assert_eq!((status, &view["balance"], &view["available"]), (200, &"10".into(), &"10".into()));

    for (amount, key, status, field) in [
        ("10.6", "k", 409, "Idempotency-Key"),
        ("-10.000000001", "m", 409, "amount"),
        ("0", "n", 400, "amount"),
    ] {
        let (found, problem) = adjust(&farebox, amount, key).await;
        assert_eq!((found, &problem["field"]), (status, &field.into()), "{problem}");
    }
    assert_eq!(farebox.money("u").await, "10 0 0");
    let lines = "SELECT actor, action, subject, reason FROM audit_log";
    assert_eq!(farebox.database.rows(lines).await, ["admin api account.credit u ticket 7"; 2]);
    farebox.assert_sound().await;
}

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

async fn order(farebox: &Fixture, path: &str, body: Value) -> (u16, Value) {
    let request = Request::post(format!("/admin/v1/accounts/{path}"))
        .header("authorization", "Bearer operator")
        .header("accept-language", "en");
    ask(farebox, request.body(Body::from(body.to_string())).unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_freeze_thaw_and_limit_accounts() {
    let farebox = Fixture::new(&[], &[]).await;
    let why = json!({ "reason": "ticket 9" });
    let (status, problem) = order(&farebox, "u/freeze", why.clone()).await;
    assert_eq!((status, &problem["code"]), (404, &100_301.into()), "{problem}");
    let limit = |limit: &str| json!({ "credit_limit": limit, "reason": "contract 3" });
    let (status, limited) = order(&farebox, "u/credit-limit", limit("5")).await;
    let expected = json!({
        "account": "u", "currency": "CNY", "credit_limit": "5", "balance": "0", "available": "5",
        "collected": "0", "changed": true, "new_account": true,
    });
    assert_eq!((status, limited), (200, expected));
    for changed in [true, false] {
        let (status, frozen) = order(&farebox, "u/freeze", why.clone()).await;
        assert_eq!(
            (status, &frozen["frozen"], &frozen["changed"]),
            (200, &true.into(), &changed.into())
        );
        assert_eq!(frozen["frozen_reason"], "ticket 9");
    }
    let (_, view) = account(&farebox, "u").await;
    let shown =
        json!([view["frozen"], view["frozen_reason"], view["credit_limit"], view["available"]]);
    assert_eq!(shown, json!([true, "ticket 9", "5", "5"]));
    let (status, thawed) = order(&farebox, "u/thaw", why).await;
    let expected =
        json!({ "account": "u", "frozen": false, "changed": true, "recalled_leases": 0 });
    assert_eq!((status, thawed), (200, expected));
    assert_eq!(adjust(&farebox, "-4", "k").await.0, 200);
    let (status, problem) = order(&farebox, "u/credit-limit", limit("3.99")).await;
    assert_eq!((status, &problem["field"]), (409, &"credit_limit".into()), "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("set 4 or more"), "{detail}");
}

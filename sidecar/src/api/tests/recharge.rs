//! Recharge requests, up to where the database is needed.

use super::*;

const PATH: &str = "/api/v1/billing/recharge";

fn request(body: impl Into<Body>, key: Option<&str>) -> Request<Body> {
    let mut request = Request::post(PATH).header("accept-language", "en");
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    request.body(body.into()).unwrap()
}

fn body(changes: serde_json::Value) -> String {
    let mut body =
        serde_json::json!({"amount": "10.00", "currency": "CNY", "payment_method": "alipay"});
    for (name, value) in changes.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string()
}

#[tokio::test]
async fn only_a_caller_whom_a_gateway_knows_can_order() {
    let good = || request(body(serde_json::json!({})), Some("k"));
    let mut written = good();
    written.headers_mut().insert("x-user-id", "u".parse().unwrap());
    written.headers_mut().insert("authorization", "Bearer good-token".parse().unwrap());
    let mut doubled = calling(good(), "good-token", "u");
    let copy = doubled.headers()["x-farebox-identity"].clone();
    doubled.headers_mut().append("x-farebox-identity", copy);
    for (request, code) in [
        (good(), 100_101),
        (written, 100_101),
        (calling(good(), "bad-token", "u"), 100_104),
        (doubled, 100_104),
    ] {
        let reply = send(users(), request).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
        assert_eq!(reply.problem().code, code);
    }
    // The later address of the predecessor has the same guard.
    let mut later = good();
    *later.uri_mut() = "/billing/v1/billing/recharge".parse().unwrap();
    assert_eq!(send(users(), later).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_order_needs_one_key() {
    let mut doubled = request("", Some("k"));
    doubled.headers_mut().append("idempotency-key", "l".parse().unwrap());
    for request in [request("", None), request("", Some("")), request("", Some("a b")), doubled] {
        let reply = send(users(), calling(request, "good-token", "u")).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST);
        let problem = reply.problem();
        assert_eq!((problem.code, problem.field.as_deref()), (100_001, Some("Idempotency-Key")));
    }
}

#[tokio::test]
async fn a_mistake_in_an_order_is_named_by_its_field() {
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    for (changes, field, detail) in [
        (r#"{"amont": "1"}"#, "amont", "unknown field `amont`, expected"),
        (
            r#"{"payment_method": "cash"}"#,
            "payment_method",
            "write one of alipay, wechatpay, stripe, paypal, applepay, googlepay",
        ),
        (r#"{"payment_method": "Alipay"}"#, "payment_method", "\"Alipay\" is no payment method"),
        (r#"{"amount": "NaN"}"#, "amount", "write for instance \"10.00\""),
        (r#"{"amount": "1e3"}"#, "amount", "write for instance \"10.00\""),
        (r#"{"amount": "10,00"}"#, "amount", "write for instance \"10.00\""),
        (r#"{"amount": ""}"#, "amount", "write for instance \"10.00\""),
        (r#"{"amount": null}"#, "amount", "write for instance \"10.00\""),
        (r#"{"amount": [10]}"#, "amount", "write for instance \"10.00\""),
        (r#"{"amount": "99999999999"}"#, "amount", "write for instance \"10.00\""),
        (r#"{"return_url": "javascript:alert(1)"}"#, "return_url", "return_url is "),
    ] {
        let body = body(json(changes));
        let reply = send(users(), calling(request(body, Some("k")), "good-token", "u")).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{changes}");
        let problem = reply.problem();
        assert_eq!((problem.code, problem.field.as_deref()), (100_001, Some(field)), "{changes}");
        assert!(problem.detail.contains(detail), "{changes}: {}", problem.detail);
    }
    // What serde_json's own numbers would not keep.
    for (amount, is_read) in [("1e3", false), ("NaN", false), ("10", true), ("10.00", true)] {
        let body = body(serde_json::json!({})).replace("\"10.00\"", amount);
        let reply = send(users(), calling(request(body, Some("k")), "good-token", "u")).await;
        // An order that was read ends where its operator takes no payments.
        let expected = if is_read { (503, 190_707) } else { (400, 100_001) };
        assert_eq!((reply.status.as_u16(), reply.problem().code), expected, "{amount}");
    }
    let missing = r#"{"currency": "CNY", "payment_method": "alipay"}"#;
    let reply = send(users(), calling(request(missing, Some("k")), "good-token", "u")).await;
    assert!(reply.problem().detail.contains("missing field `amount`"), "{}", reply.body);
    let huge = "x".repeat(16 * 1_024 + 1);
    let reply = send(users(), calling(request(huge, Some("k")), "good-token", "u")).await;
    assert_eq!(reply.problem().field.as_deref(), Some("body"));
}

#[tokio::test]
async fn nobody_orders_for_somebody_else() {
    for name in ["user_id", "userId"] {
        for (user, status) in [("u", 503), ("v", 403), ("U", 403), ("", 403)] {
            let body = body(serde_json::json!({ name: user }));
            let reply = send(users(), calling(request(body, Some("k")), "good-token", "u")).await;
            assert_eq!(reply.status.as_u16(), status, "{name} {user}");
            let field = (status == 403).then_some("user_id");
            assert_eq!(reply.problem().field.as_deref(), field);
        }
    }
}

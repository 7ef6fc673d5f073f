//! Changes of prices that are refused before the database is asked.

use super::*;

fn change(body: &str) -> Request<Body> {
    Request::post("/admin/v1/prices")
        .header("accept-language", "en")
        .header("authorization", "Bearer good-token")
        .header("content-type", "application/json")
        .body(Body::from(body.to_owned()))
        .unwrap()
}

#[tokio::test]
async fn a_change_that_cannot_be_names_its_field_and_a_stranger_learns_nothing() {
    for (body, field) in [
        (r#"{"prices": {}, "reason": "r"}"#, "prices"),
        (r#"{"reason": "r"}"#, "prices"),
        (r#"{"accounts": {"u": {"typo": "book"}}, "reason": "r"}"#, "accounts.u.typo"),
        (r#"{"accounts": {"u": {"typo": "1e3"}}, "reason": "r"}"#, "accounts.u.typo"),
        (r#"{"accounts": {"no one": {"typo": "1"}}, "reason": "r"}"#, "accounts"),
        (r#"{"prices": {"typo": "1"}, "reason": "r"}"#, "prices.typo"),
        (r#"{"prices": {"typo": "1e3"}, "reason": "r"}"#, "prices.typo"),
        (
            r#"{"prices": {"a": {"package": {"units": 0, "price": "5"}}}, "reason": "r"}"#,
            "package.units is 0",
        ),
        (
            r#"{"prices": {"a": {"package": {"units": 9, "price": "-5"}}}, "reason": "r"}"#,
            "package.price is -5",
        ),
        (
            r#"{"prices": {"a": {"package": {"units": 9, "price": "5"}, "tiers": []}}, "reason": "r"}"#,
            "not both",
        ),
        (
            r#"{"prices": {"typo": {"package": {"units": 9, "price": "5"}}}, "reason": "r"}"#,
            "prices.typo",
        ),
        (r#"{"prices": {"typo": "1"}, "effective": "tomorrow", "reason": "r"}"#, "effective"),
        (r#"{"prices": {"typo": "1"}}"#, "reason"),
    ] {
        let response = operators(&["good-token"]).oneshot(change(body)).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{body}");
        let told = axum::body::to_bytes(response.into_body(), BODY_BYTES_MAX).await.unwrap();
        let told = String::from_utf8(told.to_vec()).unwrap();
        assert!(told.contains(field), "{body}: {told}");
    }
    let response = operators(&["other"]).oneshot(change("{}")).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
}

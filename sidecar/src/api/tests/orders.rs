//! Orders for users and operators, up to where the database is needed.

use super::*;

const USER: &str = "/api/v1/billing/orders";
const ADMIN: &str = "/admin/v1/orders";

fn as_user(query: &str) -> Request<Body> {
    calling(get(&format!("{USER}{query}")), "good-token", "u")
}

fn as_operator(query: &str) -> Request<Body> {
    showing(get(&format!("{ADMIN}{query}")), "Bearer good")
}

#[tokio::test]
async fn only_a_known_caller_sees_orders() {
    for path in [USER.to_owned(), format!("{USER}/o1")] {
        let reply = send(users(), get(&path)).await;
        assert_eq!((reply.status.as_u16(), reply.problem().code), (401, 100_101), "{path}");
    }
    for path in [ADMIN.to_owned(), format!("{ADMIN}/o1"), "/admin/v1/anomalies".to_owned()] {
        let reply = send(operators(&["good"]), get(&path)).await;
        assert_eq!((reply.status.as_u16(), reply.problem().code), (401, 100_104), "{path}");
    }
}

#[tokio::test]
async fn a_mistake_in_a_query_is_named_by_its_parameter() {
    let user = |query| (users(), as_user(query));
    let operator = |query| (operators(&["good"]), as_operator(query));
    for ((router, request), field, detail) in [
        (user("?page=2"), "page", "page is no parameter here; known are state, limit, cursor"),
        // A user's own orders only: whose is not a question.
        (user("?user=v"), "user", "user is no parameter here; known are state, limit, cursor"),
        (user("?limit=1&limit=1"), "limit", "limit occurs more than once; write it once"),
        (user("?limit=ten"), "limit", "limit is \"ten\"; write a number from 1 to 200"),
        (user("?limit=-1"), "limit", "limit is \"-1\"; write a number from 1 to 200"),
        (user("?limit=0"), "limit", "limit is 0; write 1 to 200"),
        (user("?limit=201"), "limit", "limit is 201; write 1 to 200"),
        (
            user("?state=done"),
            "state",
            "\"done\" is no state; write one of pending, paid, failed, closed, partly_refunded, refunded",
        ),
        (
            user("?cursor=x"),
            "cursor",
            "cursor cannot be read; write the next_cursor of the page before, or none for the first page",
        ),
        (
            operator("?usr=v"),
            "usr",
            "usr is no parameter here; known are user, state, limit, cursor",
        ),
        (operator("?user="), "user", "account id is empty"),
    ] {
        let reply = send(router, request).await;
        let problem = reply.problem();
        assert_eq!((problem.status, problem.code), (400, 100_001), "{detail}");
        assert_eq!((problem.field.as_deref(), problem.detail.as_str()), (Some(field), detail));
    }
    let good = send(users(), as_user("?limit=200&state=paid")).await;
    assert_eq!((good.status.as_u16(), good.problem().code), (503, 100_202), "{}", good.body);
}

#[tokio::test]
async fn a_refund_needs_an_operator_a_key_and_a_reason() {
    let refund = |body: &str, key: Option<&str>| {
        let mut request =
            Request::post(format!("{ADMIN}/o1/refund")).header("accept-language", "en");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        request.body(Body::from(body.to_owned())).unwrap()
    };
    let good = r#"{"reason": "asked for", "amount": "1.00"}"#;
    let stranger = send(operators(&["good"]), refund(good, Some("k"))).await;
    assert_eq!((stranger.status.as_u16(), stranger.problem().code), (401, 100_104));
    for (body, key, status, field) in [
        (good, None, 400, Some("Idempotency-Key")),
        (r#"{"amount": "1.00"}"#, Some("k"), 400, Some("reason")),
        (r#"{"reason": "r", "amont": "1.00"}"#, Some("k"), 400, Some("amont")),
        (r#"{"reason": "r", "amount": "1e0"}"#, Some("k"), 400, Some("amount")),
        (r#"{"reason": "r", "allow_receivable": "yes"}"#, Some("k"), 400, Some("allow_receivable")),
        (good, Some("k"), 503, None),
    ] {
        let request = showing(refund(body, key), "Bearer good");
        let reply = send(operators(&["good"]), request).await;
        let problem = reply.problem();
        assert_eq!((problem.status, problem.field.as_deref()), (status, field), "{body}");
    }
}

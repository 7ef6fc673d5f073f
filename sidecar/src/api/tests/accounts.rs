//! Accounts and adjustments for operators, up to where the database is needed.

use super::*;

const ACCOUNTS: &str = "/admin/v1/accounts";
const ADJUSTMENTS: &str = "/admin/v1/adjustments";

#[tokio::test]
async fn accounts_are_shown_to_operators_and_a_mistake_is_named() {
    for path in [ACCOUNTS.to_owned(), format!("{ACCOUNTS}/u")] {
        let reply = send(operators(&["good"]), get(&path)).await;
        assert_eq!((reply.status.as_u16(), reply.problem().code), (401, 100_104), "{path}");
    }
    for (rest, field, detail) in [
        ("?name=u", "name", "name is no parameter here; known are prefix, limit, cursor"),
        ("?prefix=", "prefix", "account id is empty"),
        ("?limit=ten", "limit", "limit is \"ten\"; write a number from 1 to 200"),
        ("?limit=0", "limit", "limit is 0; write 1 to 200"),
        (
            "?cursor=x",
            "cursor",
            "cursor cannot be read; write the next_cursor of the page before, or none for the first page",
        ),
        (
            "/u%201",
            "account",
            "account id holds the character ' '; allowed: visible characters without spaces",
        ),
    ] {
        let request = showing(get(&format!("{ACCOUNTS}{rest}")), "Bearer good");
        let problem = send(operators(&["good"]), request).await.problem();
        assert_eq!((problem.status, problem.code), (400, 100_001), "{rest}");
        assert_eq!((problem.field.as_deref(), problem.detail.as_str()), (Some(field), detail));
    }
    for rest in ["?prefix=u&limit=200", "/u"] {
        let request = showing(get(&format!("{ACCOUNTS}{rest}")), "Bearer good");
        let problem = send(operators(&["good"]), request).await.problem();
        assert_eq!((problem.status, problem.code), (503, 100_202), "{rest}");
    }
}

#[tokio::test]
async fn an_adjustment_needs_an_operator_a_key_and_a_reason() {
    let adjustment = |body: &str, key: Option<&str>| {
        let mut request = Request::post(ADJUSTMENTS).header("accept-language", "en");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        request.body(Body::from(body.to_owned())).unwrap()
    };
    let good = r#"{"account": "u", "amount": "-1.00", "reason": "asked for"}"#;
    let stranger = send(operators(&["good"]), adjustment(good, Some("k"))).await;
    assert_eq!((stranger.status.as_u16(), stranger.problem().code), (401, 100_104));
    for (body, key, status, field) in [
        (good, None, 400, Some("Idempotency-Key")),
        (r#"{"account": "u", "amount": "1"}"#, Some("k"), 400, Some("reason")),
        (r#"{"account": "u", "amount": "1", "reason": ""}"#, Some("k"), 400, Some("reason")),
        (r#"{"account": "u", "amount": "0", "reason": "r"}"#, Some("k"), 400, Some("amount")),
        (r#"{"account": "u", "amount": "1e0", "reason": "r"}"#, Some("k"), 400, Some("amount")),
        (r#"{"account": "", "amount": "1", "reason": "r"}"#, Some("k"), 400, Some("account")),
        (r#"{"account": "u", "amount": "1", "reason": "r", "x": 1}"#, Some("k"), 400, Some("x")),
        (good, Some("k"), 503, None),
    ] {
        let request = showing(adjustment(body, key), "Bearer good");
        let problem = send(operators(&["good"]), request).await.problem();
        assert_eq!((problem.status, problem.field.as_deref()), (status, field), "{body}");
    }
}

#[tokio::test]
async fn freezing_and_limits_need_an_operator_and_a_reason() {
    let post = |path: &str, body: &str| {
        let request = Request::post(format!("{ACCOUNTS}/{path}")).header("accept-language", "en");
        request.body(Body::from(body.to_owned())).unwrap()
    };
    let why = r#"{"reason": "ticket 9"}"#;
    let limit = |amount: &str| format!(r#"{{"credit_limit": {amount}, "reason": "contract 3"}}"#);
    for (path, body) in [("u/freeze", why), ("u/thaw", why), ("u/credit-limit", &limit("5"))] {
        let stranger = send(operators(&["good"]), post(path, body)).await;
        assert_eq!((stranger.status.as_u16(), stranger.problem().code), (401, 100_104), "{path}");
        let request = showing(post(path, body), "Bearer good");
        let problem = send(operators(&["good"]), request).await.problem();
        assert_eq!((problem.status, problem.code), (503, 100_202), "{path}");
    }
    for (path, body, field) in [
        ("u/freeze", "{}", "reason"),
        ("u/freeze", r#"{"reason": ""}"#, "reason"),
        ("u/thaw", r#"{"reason": "r", "until": "noon"}"#, "until"),
        ("u%201/freeze", why, "account"),
        ("u%201/credit-limit", &limit("5"), "account"),
        ("u/credit-limit", why, "credit_limit"),
        ("u/credit-limit", &limit("-1"), "credit_limit"),
        ("u/credit-limit", &limit("\"1e3\""), "credit_limit"),
    ] {
        let request = showing(post(path, body), "Bearer good");
        let problem = send(operators(&["good"]), request).await.problem();
        assert_eq!((problem.status, problem.field.as_deref()), (400, Some(field)), "{path} {body}");
    }
}

#[tokio::test]
async fn many_accounts_are_asked_for_at_once_by_operators_and_by_services() {
    let ask = |path: &str, body: &str, token: &str| {
        let request = Request::post(path).header("accept-language", "en");
        showing(request.body(Body::from(body.to_owned())).unwrap(), token)
    };
    const OPERATORS: &str = "/admin/v1/accounts:batch";
    const SERVICES: &str = "/internal/v1/billing/accounts";
    let routers = || {
        [(operators(&["good-token"]), OPERATORS, "accounts"), (gateways(), SERVICES, "user_ids")]
    };
    for (router, path, field) in routers() {
        let body = format!(r#"{{"{field}": ["u"]}}"#);
        let stranger = send(router, ask(path, &body, "Bearer wrong")).await;
        assert_eq!((stranger.status.as_u16(), stranger.problem().code), (401, 100_104), "{path}");
    }
    let many = |count: usize| vec![r#""u""#; count].join(",");
    for (names, status, detail) in [
        ("".to_owned(), 400, Some("has 0 names; write 1 to 1000")),
        (many(1_001), 400, Some("has 1001 names; write 1 to 1000")),
        (many(1_000), 503, None),
        (r#""u", 7"#.to_owned(), 400, Some("cannot be read")),
    ] {
        for (router, path, field) in routers() {
            let request = ask(path, &format!(r#"{{"{field}": [{names}]}}"#), "Bearer good-token");
            let problem = send(router, request).await.problem();
            assert_eq!(problem.status, status, "{path}");
            if let Some(detail) = detail {
                assert!(problem.field.unwrap().starts_with(field), "{path}");
                assert!(problem.detail.contains(detail), "{path}: {}", problem.detail);
            }
        }
    }
    // Names that cannot be are told one by one, and need no database.
    for (router, path, field) in routers() {
        let request = ask(path, &format!(r#"{{"{field}": ["", "u 1"]}}"#), "Bearer good-token");
        let reply = send(router, request).await;
        assert_eq!(reply.status.as_u16(), 200, "{path}");
        let told: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
        let second = &told["results"][1];
        assert_eq!((&second["status"], &second["problem"]["code"]), (&400.into(), &100_001.into()));
        assert_eq!(second["problem"]["field"], format!("{field}[1]"));
        assert_eq!(
            told["results"][0]["problem"]["detail"],
            format!("{field}[0]: account id is empty")
        );
    }
}

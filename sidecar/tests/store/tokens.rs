//! Operators' tokens: roles on every route, revocation, what is kept of them.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request};
use chrono::{TimeDelta, Utc};
use farebox_sidecar::api::{self, Operators, Tokens, operator_routes};
use farebox_sidecar::app::{App, NewToken, PageError, Role, TokenFilter, TokensError};
use farebox_sidecar::cache::Cache;
use farebox_sidecar::config::Secret;
use farebox_sidecar::metrics::Metrics;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tower::ServiceExt as _;

use crate::fixture::Fixture;

/// What the sidecar was configured with.
const CONFIGURED: &str = "configured";

fn operators(app: &App) -> Router {
    api::admin(Operators {
        app: app.clone(),
        cache: Cache::off(),
        metrics: Metrics::detached().unwrap(),
        tokens: Tokens::new(&[Secret::new(CONFIGURED)]),
    })
}

fn new(name: &str, role: Role) -> NewToken {
    NewToken {
        name: name.to_owned(),
        role,
        expires: None,
        reason: "test".to_owned(),
        actor: "tests".to_owned(),
    }
}

async fn made(app: &App, name: &str, role: Role) -> String {
    app.create_token(&new(name, role)).await.unwrap().token.expose().to_owned()
}

async fn ask(
    router: &Router,
    method: &Method,
    path: &str,
    token: &str,
    body: &str,
) -> (u16, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {token}"))
        .header("accept-language", "en")
        .header("idempotency-key", "k")
        .body(Body::from(body.to_owned()));
    let (head, body) = router.clone().oneshot(request.unwrap()).await.unwrap().into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    (head.status.as_u16(), serde_json::from_slice(&body).unwrap_or_default())
}

async fn look(router: &Router, token: &str) -> u16 {
    ask(router, &Method::GET, "/admin/v1/prices", token, "").await.0
}

/// Waits until a token's look gets this status.
async fn until(router: &Router, token: &str, status: u16) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while look(router, token).await != status {
        assert!(Instant::now() < deadline, "the status never was {status}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_gets_as_far_as_it_goes_on_every_route() {
    let farebox = Fixture::new(&[], &[]).await;
    let mut tokens = vec![(Role::Admin, CONFIGURED.to_owned(), "admin api".to_owned())];
    for role in Role::ALL {
        let actor = format!("token:{role}");
        tokens.push((role, made(&farebox.app, role.as_str(), role).await, actor));
    }
    for (method, pattern, needed) in operator_routes() {
        let path = pattern.replace(['{', '}'], "");
        let router = operators(&farebox.app);
        for (role, token, actor) in &tokens {
            let (status, body) = ask(&router, method, &path, token, "").await;
            if *role < needed {
                let detail = format!(
                    "{actor} has the role {role}, and {method} {pattern} needs the role {needed}; show a token that has it"
                );
                let expected = (403, &json!(100_102), &json!(detail));
                assert_eq!((status, &body["code"], &body["detail"]), expected, "{method} {path}");
            } else {
                // What follows is about the request: an empty body, or a name that nobody has.
                assert!(
                    [200, 400, 404].contains(&status),
                    "{role}: {method} {path}: {status} {body}"
                );
                let detail = body["detail"].as_str().unwrap_or_default();
                assert!(!detail.contains("nothing stands at"), "{method} {path}: {detail}");
            }
        }
        let wrong = tokens[1].1.replace("fbx_", "fbx_0");
        let other = format!("{}0", &tokens[1].1[..tokens[1].1.len() - 1]);
        for stranger in ["", "other", &wrong, &other] {
            // The last digit may have been that one.
            if stranger == tokens[1].1 {
                continue;
            }
            let (status, body) = ask(&router, method, &path, stranger, "").await;
            assert_eq!((status, &body["code"]), (401, &100_104.into()), "{method} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_told_once_and_its_hash_alone_is_kept() {
    let farebox = Fixture::new(&[], &[]).await;
    let made = farebox.app.create_token(&new("ann", Role::Operator)).await.unwrap();
    let token = made.token.expose();
    let secret = token.rsplit('_').next().unwrap();
    assert!(token.starts_with(&format!("fbx_{}_", made.view.id)) && secret.len() == 64);
    assert_eq!((made.view.state, made.view.role.as_str()), ("active", "operator"));
    for row in farebox.database.dump(&["operator_token", "audit_log"], &["token_hash"]).await {
        assert!(!row.contains(secret), "{row}");
    }
    let kept = format!("SELECT HEX(token_hash) = UPPER(SHA2('{token}', 256)) FROM operator_token");
    assert_eq!(farebox.database.rows(kept).await, ["1"]);
    let lines = "SELECT actor, action, subject, reason FROM audit_log";
    assert_eq!(farebox.database.rows(lines).await, ["tests token.create ann test"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_lets_nobody_in_at_any_sidecar() {
    let farebox = Fixture::new(&[], &[]).await;
    let token = made(&farebox.app, "ann", Role::Viewer).await;
    let other = farebox.sidecar(&[], &[]).await;
    let (here, there) = (operators(&farebox.app), operators(&other));
    assert_eq!((look(&here, &token).await, look(&there, &token).await), (200, 200));
    let revoked = farebox.app.revoke_token("ann", "left", "tests").await.unwrap();
    assert_eq!((revoked.state, revoked.revoked_by.as_deref()), ("revoked", Some("tests")));
    until(&here, &token, 401).await;
    until(&there, &token, 401).await;
    // Once more changes nothing and tells the same.
    let again = farebox.app.revoke_token(&revoked.id, "left", "somebody").await.unwrap();
    assert_eq!(again, revoked);
    let lines = "SELECT action, subject, reason FROM audit_log ORDER BY audit_log_id";
    assert_eq!(
        farebox.database.rows(lines).await,
        ["token.create ann test", "token.revoke ann left"]
    );
    // The name is free again, and the old token stays dead.
    let next = made(&farebox.app, "ann", Role::Viewer).await;
    until(&here, &next, 200).await;
    assert_eq!(look(&here, &token).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lets_nobody_in_once_it_has_expired() {
    let farebox = Fixture::new(&[], &[]).await;
    let soon =
        NewToken { expires: Some(Utc::now() + TimeDelta::hours(1)), ..new("ann", Role::Viewer) };
    let token = farebox.app.create_token(&soon).await.unwrap().token;
    let router = operators(&farebox.app);
    assert_eq!(look(&router, token.expose()).await, 200);
    let over = "UPDATE operator_token SET expires_at = UTC_TIMESTAMP(3) - INTERVAL 1 SECOND";
    farebox.database.run(over).await;
    until(&router, token.expose(), 401).await;
    let page = farebox.app.tokens(&TokenFilter::default()).await.unwrap();
    assert_eq!(page.tokens[0].state, "expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_not_listened_to_for_long_and_shut_nobody_out() {
    let farebox = Fixture::new(&[], &[]).await;
    let token = made(&farebox.app, "ann", Role::Viewer).await;
    let router = operators(&farebox.app);
    assert_eq!(look(&router, &token).await, 200);
    let noted = async || {
        let asked = "SELECT COUNT(*) FROM operator_token WHERE last_used_at IS NOT NULL";
        farebox.database.rows(asked).await
    };
    let mut found = Vec::new();
    for number in 0..40 {
        let guess = format!("fbx_{number:012x}_{}", "0".repeat(64));
        found.push(look(&router, &guess).await);
    }
    // At first they are told that nobody knows them, then nobody looks.
    assert_eq!(found[..20], [401; 20]);
    assert!(found[20..].contains(&429), "{found:?}");
    assert_eq!(look(&router, &token).await, 200, "whoever showed a good token is let in");
    let deadline = Instant::now() + Duration::from_secs(20);
    while noted().await != ["1"] {
        assert!(Instant::now() < deadline, "the use of the token is not noted");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_names_the_token_that_acted() {
    let farebox = Fixture::new(&[], &[("asset", "1")]).await;
    let token = made(&farebox.app, "ann", Role::Admin).await;
    let router = operators(&farebox.app);
    let body = json!({ "account": "u", "amount": "1", "reason": "r" }).to_string();
    assert_eq!(ask(&router, &Method::POST, "/admin/v1/adjustments", &token, &body).await.0, 200);
    let body = json!({ "prices": { "asset": "2" }, "reason": "r" }).to_string();
    assert_eq!(ask(&router, &Method::POST, "/admin/v1/prices", CONFIGURED, &body).await.0, 200);
    let lines = "SELECT actor, action FROM audit_log ORDER BY audit_log_id";
    let expected = ["tests token.create", "token:ann account.credit"];
    let found = farebox.database.rows(lines).await;
    assert_eq!(found[..2], expected);
    assert!(found[2].starts_with("admin api "), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_made_listed_and_revoked_over_http() {
    let farebox = Fixture::new(&[], &[]).await;
    let router = operators(&farebox.app);
    let tokens = "/admin/v1/tokens";
    let body = |name: &str, expires: &str| {
        json!({ "name": name, "role": "operator", "expires": expires, "reason": "r" }).to_string()
    };
    let ann = body("ann", "2999-01-01T00:00:00Z");
    let (status, told) = ask(&router, &Method::POST, tokens, CONFIGURED, &ann).await;
    assert_eq!((status, &told["expires_at"]), (201, &"2999-01-01T00:00:00.000Z".into()), "{told}");
    assert_eq!(look(&router, told["token"].as_str().unwrap()).await, 200);
    for (body, status, field) in [
        (ann.as_str(), 409, Some("name")),
        (&body("a b", "2999-01-01T00:00:00Z"), 400, Some("name")),
        (&body("bob", "2020-01-01T00:00:00Z"), 400, Some("expires")),
        (&body("bob", "soon"), 400, Some("expires")),
        (r#"{"name":"bob","role":"root","reason":"r"}"#, 400, Some("role")),
        (r#"{"name":"bob","role":"admin"}"#, 400, Some("reason")),
    ] {
        let (found, problem) = ask(&router, &Method::POST, tokens, CONFIGURED, body).await;
        assert_eq!((found, problem["field"].as_str()), (status, field), "{body}: {problem}");
    }
    let (status, page) = ask(&router, &Method::GET, tokens, CONFIGURED, "").await;
    assert_eq!((status, &page["tokens"][0]["name"]), (200, &"ann".into()));
    assert!(!page.to_string().contains("fbx_"));
    let ending = format!("{tokens}/ann?reason=left");
    for _ in 0..2 {
        let (status, view) = ask(&router, &Method::DELETE, &ending, CONFIGURED, "").await;
        assert_eq!((status, &view["state"]), (200, &"revoked".into()), "{view}");
    }
    let (status, problem) =
        ask(&router, &Method::DELETE, &format!("{tokens}/ann"), CONFIGURED, "").await;
    assert_eq!((status, &problem["field"]), (400, &"reason".into()));
    let (_, page) = ask(&router, &Method::GET, tokens, CONFIGURED, "").await;
    assert_eq!(page, json!({ "tokens": [] }));
    let all = format!("{tokens}?revoked=true&limit=1");
    let (_, page) = ask(&router, &Method::GET, &all, CONFIGURED, "").await;
    assert_eq!(page["tokens"][0]["state"], "revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_had_once_and_pages_are_bounded() {
    let farebox = Fixture::new(&[], &[]).await;
    for name in ["a", "b", "c"] {
        made(&farebox.app, name, Role::Viewer).await;
    }
    let refused = farebox.app.create_token(&new("b", Role::Admin)).await.unwrap_err();
    assert!(matches!(&refused, TokensError::Taken { name, .. } if name == "b"), "{refused}");
    let unknown = farebox.app.revoke_token("z", "r", "tests").await.unwrap_err();
    assert!(matches!(unknown, TokensError::Unknown { .. }), "{unknown}");
    let filter = |limit, cursor| TokenFilter { limit, cursor, ..TokenFilter::default() };
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = farebox.app.tokens(&filter(Some(1), cursor)).await.unwrap();
        seen.extend(page.tokens.into_iter().map(|token| token.name));
        made(&farebox.app, &format!("later-{}", seen.len()), Role::Viewer).await;
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["c", "b", "a"]);
    let wrong = farebox.app.tokens(&filter(Some(201), None)).await;
    assert!(matches!(wrong, Err(TokensError::Page(PageError::Limit { limit: 201 }))));
}

//! Who gets in, how often and where, up to where the database is needed.

use std::net::IpAddr;

use super::*;

const PATH: &str = "/admin/v1/orders";

/// A request as it comes from this address.
pub(super) fn from(mut request: Request<Body>, address: &str) -> Request<Body> {
    request.extensions_mut().insert(Remote(address.parse::<IpAddr>().unwrap()));
    request
}

/// The statuses of so many requests, one after the other.
async fn statuses(router: &Router, count: usize, request: impl Fn() -> Request<Body>) -> Vec<u16> {
    let mut found = Vec::new();
    for _ in 0..count {
        found.push(send(router.clone(), request()).await.status.as_u16());
    }
    found
}

#[tokio::test]
async fn an_address_that_shows_wrong_tokens_is_not_listened_to_for_a_while() {
    let router = guarded(&["good"]);
    let wrong = || from(showing(get(PATH), "Bearer guess"), "192.0.2.1");
    assert_eq!(statuses(&router, 20, wrong).await, [401; 20]);
    let reply = send(router.clone(), wrong()).await;
    assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(reply.headers["retry-after"], "1");
    assert_eq!(reply.problem().code, 100_303);
    // Not even the right token, if it can be guessed; others are served.
    let right = |address: &str| from(showing(get(PATH), "Bearer good"), address);
    assert_eq!(send(router.clone(), right("192.0.2.1")).await.status, 429);
    assert_eq!(send(router.clone(), right("::ffff:192.0.2.1")).await.status, 429);
    assert_eq!(send(router.clone(), right("192.0.2.2")).await.status, 200);
    // Once it was good here, the guesses of others hold it up no more: it is for emergencies.
    assert_eq!(send(router.clone(), right("192.0.2.1")).await.status, 200);
    assert_eq!(send(router, wrong()).await.status, 429);
}

#[tokio::test]
async fn an_ipv6_network_is_one_address() {
    let router = guarded(&["good"]);
    for host in 0..20 {
        let wrong = from(get(PATH), &format!("2001:db8:0:1::{host}"));
        assert_eq!(send(router.clone(), wrong).await.status, 401);
    }
    let right = |address: &str| from(showing(get(PATH), "Bearer good"), address);
    assert_eq!(send(router.clone(), right("2001:db8:0:1::99")).await.status, 429);
    assert_eq!(send(router, right("2001:db8:0:2::1")).await.status, 200);
}

#[tokio::test]
async fn a_token_that_is_used_too_often_waits() {
    let router = guarded(&["good"]);
    let asking = || showing(get(PATH), "Bearer good");
    let found = statuses(&router, 260, asking).await;
    let served = found.iter().filter(|status| **status == 200).count();
    // 200 at once, and some more on a machine that takes its time.
    assert!((200..260).contains(&served) && found[..200] == [200; 200], "{served}");
    let mut reply = send(router.clone(), asking()).await;
    while reply.status == 200 {
        reply = send(router.clone(), asking()).await;
    }
    assert_eq!(
        (reply.status.as_u16(), &reply.headers["retry-after"]),
        (429, &"1".parse().unwrap())
    );
}

#[tokio::test]
async fn a_route_that_nobody_classified_is_refused_to_everybody() {
    let forgotten = Router::new()
        .route("/admin/v1/forgotten", axum::routing::get(async || "secret"))
        .route(PATH, axum::routing::get(async || "orders").put(async || "secret"));
    let tokens = Tokens::new(&[Secret::new("good")]);
    let access = super::super::admin::Access::new(app(), tokens);
    let router = with_fallbacks(super::super::admin::guard(forgotten, access));
    let reply = send(router.clone(), showing(get("/admin/v1/forgotten"), "Bearer good")).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    let problem = reply.problem();
    assert_eq!(problem.code, 100_102);
    assert_eq!(
        problem.detail,
        "nobody said which role GET /admin/v1/forgotten needs: it is refused"
    );
    // Nor is a method that nobody classified, though its path is known.
    let mut put = showing(get(PATH), "Bearer good");
    *put.method_mut() = Method::PUT;
    let reply = send(router.clone(), put).await;
    assert_eq!((reply.status.as_u16(), &reply.headers["allow"]), (405, &"GET".parse().unwrap()));
    assert_eq!(send(router, showing(get(PATH), "Bearer good")).await.status, 200);
}

#[tokio::test]
async fn who_cannot_be_looked_up_is_not_let_in() {
    // It looks like a token, and the database, which would know, is away.
    let token = format!("Bearer fbx_0123456789ab_{}", "0".repeat(64));
    let reply = send(guarded(&["good"]), showing(get(PATH), &token)).await;
    assert_eq!((reply.status.as_u16(), reply.problem().code), (503, 100_202));
    assert_eq!(reply.headers["retry-after"], "1");
    // Whoever shows a configured token needs no database to get in.
    let reply = send(guarded(&["good"]), showing(get(PATH), "Bearer good")).await;
    assert_eq!(reply.status, StatusCode::OK);
}

//! The routes without a database: whatever is decided before the first statement, and what its absence looks like.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use farebox_core::limits::BODY_BYTES_MAX;
use farebox_core::problem::Problem;
use farebox_core::wire::SYNC_PATH;
use tower::ServiceExt as _;

use super::gateway::Slots;
use super::*;
use crate::app::{App, Settings};
use crate::cache::Cache;
use crate::config::Secret;
use crate::metrics::Metrics;
use crate::store::Store;
use crate::webhook::CallbackKeys;

mod access;
mod account;
mod accounts;
mod audit;
mod callback;
mod calls;
mod documents;
mod orders;
mod prices;
mod quotas;
mod recharge;
mod shed;

/// Use cases on a database that nobody started.
fn app() -> App {
    let settings = Settings {
        currency: "CNY".to_owned(),
        currency_decimals: 2,
        time_zone: chrono_tz::UTC,
        free_quotas: BTreeMap::new(),
        prices: BTreeMap::new(),
        recharge_max: "999999.99".parse().unwrap(),
        lease_ttl: Duration::from_secs(10),
        boot_grace: Duration::from_secs(1),
        on_lost: Default::default(),
        low: Default::default(),
    };
    // Port 1 on the loopback address: reserved, so nothing listens there.
    let nowhere = sqlx::mysql::MySqlConnectOptions::new().host("127.0.0.1").port(1);
    App::new(Store::unconnected(&nowhere), settings)
}

fn tokens() -> Tokens {
    Tokens::new(&[Secret::new("good-token")])
}

fn gateways() -> Router {
    internal(Gateways::new(app(), tokens(), Duration::from_millis(200)))
}

/// The admin listener, as an operator who configured these tokens has it.
fn operators(tokens: &[&str]) -> Router {
    let tokens: Vec<_> = tokens.iter().copied().map(Secret::new).collect();
    super::admin(Operators {
        app: app(),
        cache: Cache::open(None).unwrap(),
        metrics: Metrics::detached().unwrap(),
        tokens: Tokens::new(&tokens),
    })
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).header("accept-language", "en").body(Body::empty()).unwrap()
}

/// What the payment service signs callbacks with.
const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn users() -> Router {
    users_with(&[SECRET])
}

/// The public listener, where callbacks are signed with one of these secrets.
fn users_with(secrets: &[&str]) -> Router {
    let identities = Identities::new(&[Secret::new("good-token")]);
    let secrets: Vec<_> = secrets.iter().copied().map(Secret::new).collect();
    let keys = CallbackKeys::new(&secrets).unwrap();
    public(Public::new(app(), identities, keys, Duration::from_millis(200), 4))
}

/// Says that `account` calls, as a gateway with `token` says it.
fn calling(mut request: Request<Body>, token: &str, account: &str) -> Request<Body> {
    use farebox_core::assertion::{Claims, HEADER, Key, sign};
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let claims = Claims::new("edge-1", account.parse().unwrap(), since.unwrap().as_secs());
    let signed = sign(&Key::derive(token), &claims);
    request.headers_mut().insert(HEADER, signed.parse().unwrap());
    request
}

fn post(body: impl Into<Body>) -> Request<Body> {
    let request = Request::post(SYNC_PATH).header("authorization", "Bearer good-token");
    request.header("accept-language", "en").body(body.into()).unwrap()
}

/// A reply in short: status, header lines of interest, body.
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Reply {
    fn problem(&self) -> Problem {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{}", self.body);
        let problem: Problem = serde_json::from_str(&self.body).unwrap();
        assert_eq!(problem.status, self.status.as_u16());
        problem
    }
}

async fn send(router: Router, request: Request<Body>) -> Reply {
    let (head, body) = router.oneshot(request).await.unwrap().into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    Reply { status: head.status, headers: head.headers, body }
}

const MESSAGE: &str =
    r#"{"gateway":"g","instance":"0123456789abcdef0123456789abcdef","epoch":0,"seq":1}"#;

#[tokio::test]
async fn a_gateway_without_the_token_is_refused_before_its_body_is_read() {
    let request = Request::post(SYNC_PATH).body(Body::from("{")).unwrap();
    let reply = send(gateways(), request).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    assert_eq!(reply.headers["www-authenticate"], "Bearer");
    assert_eq!(reply.headers["content-language"], "zh-CN");
    let problem = reply.problem();
    assert_eq!((problem.code, problem.title.as_str()), (100_104, "令牌无效"));
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_named_by_its_field() {
    for (body, field, detail) in [
        ("", None, "the body cannot be read: EOF while parsing a value at line 1 column 0"),
        ("[", None, "the body cannot be read: EOF while parsing a list at line 1 column 1"),
        (
            &format!("{MESSAGE} x"),
            None,
            "the body cannot be read: trailing characters at line 1 column 81",
        ),
        (
            &MESSAGE.replace("\"seq\":1", "\"seq\":-1"),
            Some("seq"),
            "the body cannot be read: invalid value: integer `-1`, expected u64 at line 1 column 79",
        ),
        (
            &MESSAGE.replace(
                "\"seq\":1",
                r#""seq":1,"wants":[{"key":{"account":"u 1","service":"s"},"units":1,"min":1}]"#,
            ),
            Some("wants[0].key.account"),
            "the body cannot be read: account id holds the character ' '; allowed: visible characters without spaces at line 1 column 111",
        ),
        (&MESSAGE.replace("\"seq\":1", "\"seq\":0"), Some("seq"), "seq is 0: must be 1 or more"),
    ] {
        let reply = send(gateways(), post(body.to_owned())).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{body}");
        let problem = reply.problem();
        assert_eq!((problem.field.as_deref(), problem.detail.as_str()), (field, detail));
        assert_eq!(problem.title, "Invalid argument");
    }
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_announced_or_not() {
    let streamed = || Body::new(http_body_util::Full::new("x".repeat(BODY_BYTES_MAX + 1).into()));
    let mut announced = post(Body::empty());
    announced.headers_mut().insert("content-length", (BODY_BYTES_MAX + 1).into());
    for request in [post(streamed()), announced] {
        let reply = send(gateways(), request).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST);
        let problem = reply.problem();
        assert_eq!(problem.field.as_deref(), Some("body"));
        assert_eq!(problem.detail, "the body has more than 1048576 bytes; send several messages");
    }
    let largest = send(gateways(), post("x".repeat(BODY_BYTES_MAX))).await;
    assert_eq!(largest.problem().field, None, "a body of just the limit is read, and is no JSON");
}

const NO_SLOTS: Slots = Slots { syncs: 0, calls: 0 };

#[tokio::test]
async fn beyond_the_bound_and_beyond_the_timeout_a_gateway_is_told_to_come_again() {
    let patient = Duration::from_secs(60);
    let full = internal(Gateways::with_slots(app(), tokens(), patient, NO_SLOTS));
    let reply = send(full, post(MESSAGE)).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(reply.headers["retry-after"], "1");
    assert_eq!(reply.problem().code, 100_303);

    // The database is away, and the pool looks for it for longer than this endpoint's timeout.
    let reply = send(gateways(), post(MESSAGE)).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(reply.headers["retry-after"], "1");
    assert_eq!(reply.problem().code, 100_202);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems_on_every_listener() {
    let admin = || operators(&[]);
    for (router, path) in [
        (gateways(), SYNC_PATH),
        (admin(), "/healthz"),
        (admin(), "/metrics"),
        (users(), "/health"),
    ] {
        let unknown = Request::get("/nowhere").body(Body::empty()).unwrap();
        let reply = send(router.clone(), unknown).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND);
        assert_eq!(reply.problem().detail, "nothing stands at /nowhere");

        let delete = Request::delete(path).body(Body::empty()).unwrap();
        let reply = send(router, delete).await;
        assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);
        assert!(reply.headers.contains_key("allow"), "{path}");
        assert_eq!(reply.problem().code, 100_001);
    }
}

#[tokio::test]
async fn the_process_is_alive_but_not_ready_without_its_database() {
    let admin = || operators(&[]);
    let alive = send(admin(), get("/healthz")).await;
    assert_eq!((alive.status, alive.body.as_str()), (StatusCode::OK, r#"{"status":"alive"}"#));

    let ready = send(admin(), get("/readyz")).await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    let body: serde_json::Value = serde_json::from_str(&ready.body).unwrap();
    assert_eq!((&body["status"], &body["redis"]), (&"not ready".into(), &"off".into()));
}

#[tokio::test]
async fn the_predecessors_health_check_finds_its_envelope() {
    let request = Request::get("/health").body(Body::empty()).unwrap();
    let reply = send(users(), request).await;
    let mut body: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    assert!(body["data"]["timestamp"].is_i64());
    body["data"]["timestamp"] = 0.into();
    assert_eq!(
        body.to_string(),
        r#"{"data":{"service":"billing-service","status":"UP","timestamp":0},"errorCode":"","errorMessage":"","host":"","showType":0,"success":true,"traceId":""}"#
    );
}

const SHOW_A_TOKEN: &str = "show an operator's token that is neither revoked nor expired: Authorization: Bearer …; farebox token create makes one";

/// The guard over a route, as the admin listener mounts it.
fn guarded(tokens: &[&str]) -> Router {
    let tokens: Vec<_> = tokens.iter().copied().map(Secret::new).collect();
    let dummy = Router::new().route("/admin/v1/orders", axum::routing::get(async || "orders"));
    let access = super::admin::Access::new(app(), Tokens::new(&tokens));
    with_fallbacks(super::admin::guard(dummy, access))
}

fn showing(mut request: Request<Body>, authorization: &str) -> Request<Body> {
    request.headers_mut().insert("authorization", authorization.parse().unwrap());
    request
}

#[tokio::test]
async fn an_operator_shows_one_of_the_admin_tokens() {
    let request = |value| showing(get("/admin/v1/orders"), value);
    for value in ["Bearer old", "bearer new"] {
        let reply = send(guarded(&["old", "new"]), request(value)).await;
        assert_eq!((reply.status, reply.body.as_str()), (StatusCode::OK, "orders"), "{value}");
    }
    for refused in [get("/admin/v1/orders"), request("Bearer other"), request("old")] {
        let reply = send(guarded(&["old", "new"]), refused).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
        assert_eq!(reply.headers["www-authenticate"], "Bearer");
        let problem = reply.problem();
        assert_eq!(problem.code, 100_104);
        assert_eq!(problem.detail, SHOW_A_TOKEN);
    }
}

#[tokio::test]
async fn without_an_admin_token_nobody_gets_in_and_is_told_what_to_do() {
    for request in [get("/admin/v1/orders"), showing(get("/admin/v1/orders"), "Bearer ")] {
        let reply = send(guarded(&[]), request).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
        assert_eq!(reply.problem().detail, SHOW_A_TOKEN);
    }
}

#[tokio::test]
async fn a_stranger_does_not_learn_which_admin_routes_exist() {
    let delete = |path: &str| {
        let mut request = get(path);
        *request.method_mut() = Method::DELETE;
        request
    };
    let known = "/admin/v1/orders";
    for router in [|| guarded(&["good"]), || operators(&["good"])] {
        for request in [get("/admin/v1/unknown"), get("/admin/v1/a/b"), delete("/admin/v1/x")] {
            let reply = send(router(), request).await;
            assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
        }
        let reply = send(router(), showing(get("/admin/v1/unknown"), "Bearer good")).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND);
        assert_eq!(reply.problem().detail, "nothing stands at /admin/v1/unknown");
    }
    assert_eq!(send(guarded(&["good"]), delete(known)).await.status, StatusCode::UNAUTHORIZED);
    let reply = send(guarded(&["good"]), showing(delete(known), "Bearer good")).await;
    assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(reply.problem().code, 100_001);
}

#[tokio::test]
async fn orchestrators_and_prometheus_need_no_token() {
    for path in ["/healthz", "/metrics"] {
        let reply = send(operators(&["good"]), get(path)).await;
        assert_eq!(reply.status, StatusCode::OK, "{path}");
    }
    let ready = send(operators(&["good"]), get("/readyz")).await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE, "the database is away");
}

#[tokio::test]
async fn metrics_are_told_in_the_format_of_prometheus() {
    let metrics = crate::metrics::install().unwrap();
    crate::metrics::callback(crate::metrics::CallbackResult::Unsigned);
    let cache = Cache::open(None).unwrap();
    let admin = super::admin(Operators { app: app(), cache, metrics, tokens: tokens() });
    let reply = send(admin, get("/metrics")).await;
    assert_eq!(reply.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let counted = "billing_recharge_callback_total{result=\"unsigned\"} ";
    let value = reply.body.lines().find_map(|line| line.strip_prefix(counted)).unwrap();
    assert_ne!(value, "0", "{}", reply.body);
}

#[tokio::test]
async fn operators_beyond_the_limit_are_turned_away_at_once_and_served_again_later() {
    let router = operators(&[]);
    let crowd = (0..100).map(|_| send(router.clone(), get("/readyz")));
    let replies = futures_util::future::join_all(crowd).await;
    let (shed, answered): (Vec<_>, Vec<_>) =
        replies.iter().partition(|reply| reply.headers.contains_key("retry-after"));
    // The database is away; that is an answer too.
    assert_eq!((answered.len(), shed.len()), (32, 68));
    for reply in shed {
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(reply.problem().code, 100_303);
    }
    assert!(send(router.clone(), get("/readyz")).await.body.contains("not ready"));
    assert_eq!(send(router, get("/healthz")).await.status, StatusCode::OK);
}

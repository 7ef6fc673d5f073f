//! Check, deduct, reserve, commit, release, refund, up to where the database is needed.

use axum::http::header::HeaderName;
use farebox_core::call::{
    CHECK_PATH, COMMIT_PATH, DEDUCT_PATH, REFUND_PATH, RELEASE_PATH, RESERVE_PATH,
};
use farebox_core::limits::{
    ACCOUNT_ID_BYTES_MAX, CALL_ITEMS_MAX, CALL_KEY_BYTES_MAX, SERVICE_NAME_BYTES_MAX,
};
use serde_json::{Value, json};

use super::*;

/// All addresses, with a request that only a database could answer.
fn requests() -> [(&'static str, Value); 8] {
    let check = json!({"user_id": "u", "service": "asset", "count": 1});
    let deduct = json!({"idempotency_key": "k", "user_id": "u", "service": "asset", "count": 1});
    let reserve = json!({"idempotency_key": "k", "user_id": "u", "service": "asset", "units": 1});
    [
        (CHECK_PATH, check.clone()),
        ("/billing/v1/internal/check", check),
        (DEDUCT_PATH, deduct.clone()),
        ("/billing/v1/internal/deduct", deduct),
        (RESERVE_PATH, reserve),
        (COMMIT_PATH, json!({"reservation_id": "r"})),
        (RELEASE_PATH, json!({"reservation_id": "r"})),
        (REFUND_PATH, json!({"idempotency_key": "k", "record_id": "r"})),
    ]
}

fn request(path: &str, body: impl Into<Body>) -> Request<Body> {
    let request = Request::post(path).header("authorization", "Bearer good-token");
    request.header("accept-language", "en").body(body.into()).unwrap()
}

async fn ask(path: &str, body: &Value) -> Reply {
    send(gateways(), request(path, body.to_string())).await
}

/// A deduct that is sent with these headers and changes.
async fn deduct(headers: &[(&'static str, &str)], changes: Value) -> Reply {
    let mut body = json!({"user_id": "u", "service": "asset", "count": 1});
    merge(&mut body, changes);
    let mut request = request(DEDUCT_PATH, body.to_string());
    for (name, value) in headers {
        let name = HeaderName::from_static(name);
        request.headers_mut().append(name, value.parse().unwrap());
    }
    send(gateways(), request).await
}

fn merge(body: &mut Value, changes: Value) {
    for (name, value) in changes.as_object().unwrap() {
        body[name] = value.clone();
    }
}

/// The field and the detail of a 400.
fn mistake(reply: &Reply) -> (Option<String>, String) {
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.body);
    let problem = reply.problem();
    assert_eq!(problem.code, 100_001);
    (problem.field, problem.detail)
}

/// The statuses of a batch's items, and their fields at fault.
fn items(reply: &Reply) -> Vec<(u64, Option<String>)> {
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
    let body: Value = serde_json::from_str(&reply.body).unwrap();
    let item = |item: &Value| {
        let field = item["problem"]["field"].as_str().map(str::to_owned);
        assert_eq!(item["problem"]["status"], item["status"]);
        (item["status"].as_u64().unwrap(), field)
    };
    body["results"].as_array().unwrap().iter().map(item).collect()
}

/// Whether a request got as far as the database, which is away: it was waited for, as an account would be.
fn reached_the_database(reply: &Reply) -> bool {
    let is_known = matches!(reply.problem().code, 100_202 | 190_402);
    is_known && reply.status == StatusCode::SERVICE_UNAVAILABLE
}

#[tokio::test]
async fn every_endpoint_asks_for_the_token_before_it_reads() {
    for (path, _) in requests() {
        let stranger = Request::post(path).body(Body::from("{")).unwrap();
        let reply = send(gateways(), stranger).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(reply.headers["www-authenticate"], "Bearer");
        assert_eq!(reply.problem().code, 100_104);
    }
}

#[tokio::test]
async fn every_endpoint_reads_its_request_alone_and_in_a_batch() {
    for (path, body) in requests() {
        let reply = ask(path, &body).await;
        assert!(reached_the_database(&reply), "{path}: {}", reply.body);
        assert_eq!(reply.headers["retry-after"], "1", "{path}");
        let batch = ask(path, &json!({"items": [body, {}]})).await;
        if batch.status == StatusCode::OK {
            assert_eq!(items(&batch)[0], (503, None), "{path}");
            assert_eq!(items(&batch)[1].0, 400, "{path}");
        } else {
            assert!(reached_the_database(&batch), "{path}: {}", batch.body);
        }
    }
}

#[tokio::test]
async fn beyond_the_bound_requests_are_told_to_come_again_and_sync_goes_on() {
    let patient = Duration::from_secs(60);
    let slots = Slots { syncs: 1, calls: 1 };
    let router = internal(Gateways::with_slots(app(), tokens(), patient, slots));
    let mut large = request(DEDUCT_PATH, Body::empty());
    large.headers_mut().insert("content-length", (16 * 1_024 + 1).into());
    let reply = send(router.clone(), large).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        (reply.problem().code, &reply.headers["retry-after"]),
        (100_303, &"1".parse().unwrap())
    );
    let small = send(router.clone(), announced(request(DEDUCT_PATH, "{}"), 2)).await;
    assert_eq!(small.status, StatusCode::BAD_REQUEST, "there is a slot for a small body");
    let sync = send(router, post("{}")).await;
    assert_eq!(sync.status, StatusCode::BAD_REQUEST, "messages have slots of their own");
}

fn announced(mut request: Request<Body>, bytes: usize) -> Request<Body> {
    request.headers_mut().insert("content-length", bytes.into());
    request
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_and_the_largest_batch_is_read() {
    let reply = send(gateways(), request(DEDUCT_PATH, "x".repeat(BODY_BYTES_MAX + 1))).await;
    let detail = "the body has more than 1048576 bytes; send several batches".to_owned();
    assert_eq!(mistake(&reply), (Some("body".to_owned()), detail));

    let longest = |key: char| {
        json!({
            "idempotency_key": key.to_string().repeat(CALL_KEY_BYTES_MAX),
            "deduct_key": key.to_string().repeat(CALL_KEY_BYTES_MAX),
            "user_id": "u".repeat(ACCOUNT_ID_BYTES_MAX),
            "service": "s".repeat(SERVICE_NAME_BYTES_MAX),
            "count": 2_147_483_647,
            "price": "9223372036.854775807",
            "wait_ms": 60_000,
        })
    };
    let batch = json!({"items": vec![longest('k'); CALL_ITEMS_MAX]}).to_string();
    assert!(batch.len() <= BODY_BYTES_MAX, "{} bytes", batch.len());
    let reply = send(gateways(), request(DEDUCT_PATH, batch)).await;
    assert_ne!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.body);
}

#[tokio::test]
async fn a_mistake_is_named_by_its_field() {
    let detail = "the body cannot be read: missing field `user_id` at line 1 column 2";
    assert_eq!(
        mistake(&ask(CHECK_PATH, &json!({})).await),
        (Some("user_id".into()), detail.into())
    );
    let reply = deduct(&[], json!({"idempotency_key": "k", "count": 0})).await;
    assert_eq!(
        mistake(&reply),
        (Some("count".into()), "count is 0: must be 1 to 2147483647".into())
    );
    let reply = deduct(&[], json!({"idempotency_key": "k", "count": "3"})).await;
    assert_eq!(mistake(&reply).0.as_deref(), Some("count"));
    let neither = json!({"idempotency_key": "k", "user_id": "u", "service": "s"});
    assert_eq!(
        mistake(&ask(RESERVE_PATH, &neither).await),
        (Some("units".into()), "units is missing: must be sent, or else amount".into())
    );
    for (body, detail) in [
        ("[]", "the body cannot be read: "),
        ("{", "the body cannot be read: EOF"),
        ("{\"items\":[{]}", "the body cannot be read: "),
    ] {
        let reply = send(gateways(), request(DEDUCT_PATH, body)).await;
        assert!(mistake(&reply).1.starts_with(detail), "{}", reply.body);
    }
}

#[tokio::test]
async fn the_key_stands_in_the_body_or_in_the_header_but_stands_somewhere() {
    const HEADER: &str = "idempotency-key";
    for (headers, changes) in [
        (&[][..], json!({"idempotency_key": "k"})),
        (&[(HEADER, "k")], json!({})),
        (&[(HEADER, "\"k\"")], json!({"idempotency_key": ""})),
        (&[(HEADER, "k")], json!({"idempotency_key": "k"})),
    ] {
        let reply = deduct(headers, changes).await;
        assert!(reached_the_database(&reply), "{headers:?}: {}", reply.body);
    }
    let detail =
        "idempotency_key is \"\": must be 1 to 255 visible ASCII characters, for instance a UUID";
    assert_eq!(
        mistake(&deduct(&[], json!({})).await),
        (Some("idempotency_key".into()), detail.into())
    );
    for (headers, changes) in [
        (&[(HEADER, "k")][..], json!({"idempotency_key": "other"})),
        (&[(HEADER, "a b")], json!({})),
        (&[(HEADER, "k"), (HEADER, "k")], json!({})),
        (&[(HEADER, "k")], json!({"items": [{}]})),
    ] {
        let reply = deduct(headers, changes).await;
        assert_eq!(mistake(&reply).0.as_deref(), Some("Idempotency-Key"), "{headers:?}");
    }
}

#[tokio::test]
async fn requests_whose_key_is_a_reservation_do_not_care_for_the_header() {
    for path in [COMMIT_PATH, RELEASE_PATH] {
        for body in [json!({"reservation_id": "r"}), json!({"items": [{"reservation_id": "r"}]})] {
            let mut request = request(path, body.to_string());
            request.headers_mut().insert("idempotency-key", "a b".parse().unwrap());
            let reply = send(gateways(), request).await;
            assert_ne!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.body);
        }
    }
}

#[tokio::test]
async fn members_that_nobody_knows_are_ignored_and_the_predecessors_names_are_read() {
    let theirs = json!({"idempotency_key": "k", "userId": "u", "serviceName": "asset", "count": 1,
        "cost": 0.5, "appId": "a"});
    for path in [DEDUCT_PATH, "/billing/v1/internal/deduct", "/billing/v1/internal/check"] {
        let reply = ask(path, &theirs).await;
        assert!(reached_the_database(&reply), "{}", reply.body);
    }
}

#[tokio::test]
async fn a_batch_has_1_to_1000_requests() {
    for (items, found) in
        [(json!([]), "items has 0 requests"), (json!(vec![1; 1_001]), "items has 1001 requests")]
    {
        let reply = ask(DEDUCT_PATH, &json!({"items": items})).await;
        let (field, detail) = mistake(&reply);
        assert_eq!(field.as_deref(), Some("items"));
        assert_eq!(detail, format!("{found}; send 1 to 1000 in a batch"));
    }
    for wrong in [json!(null), json!(3), json!({"0": 1})] {
        let reply = ask(DEDUCT_PATH, &json!({"items": wrong})).await;
        assert_eq!(mistake(&reply).0.as_deref(), Some("items"), "{wrong}");
    }
    let most = ask(DEDUCT_PATH, &json!({"items": vec![Value::Null; CALL_ITEMS_MAX]})).await;
    assert_eq!(items(&most).len(), CALL_ITEMS_MAX);
}

#[tokio::test]
async fn an_item_that_cannot_be_read_is_answered_in_its_place() {
    let batch = json!({"items": [
        {"idempotency_key": "k", "user_id": "u", "service": "s", "count": 0},
        {"idempotency_key": "k", "user_id": "u 1", "service": "s", "count": 1},
        {"idempotency_key": "k", "user_id": "u", "count": 1},
        "nonsense",
        null,
    ]});
    let reply = ask(DEDUCT_PATH, &batch).await;
    let fields = ["items[0].count", "items[1].user_id", "items[2].service", "items[3]", "items[4]"];
    let expected: Vec<_> = fields.iter().map(|field| (400, Some((*field).to_owned()))).collect();
    assert_eq!(items(&reply), expected);
    let body: Value = serde_json::from_str(&reply.body).unwrap();
    let detail = |index: usize| body["results"][index]["problem"]["detail"].as_str().unwrap();
    assert_eq!(detail(0), "items[0].count is 0: must be 1 to 2147483647");
    assert!(detail(1).starts_with("items[1] cannot be read: account id holds"), "{}", detail(1));
}

#[tokio::test]
async fn a_number_beyond_all_bounds_spoils_its_own_item_alone() {
    // Read as a whole, the body would be no JSON that this program can hold.
    let text = r#"{"items":[{"count":1e999},{"count":123456789012345678901234567890}]}"#;
    let reply = send(gateways(), request(DEDUCT_PATH, text)).await;
    let fields = [Some("items[0].count".to_owned()), Some("items[1].count".to_owned())];
    assert_eq!(items(&reply).into_iter().map(|(_, field)| field).collect::<Vec<_>>(), fields);
}

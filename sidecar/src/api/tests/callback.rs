//! Callbacks, up to where the database is needed.

use standardwebhooks::Webhook;

use super::*;

const PATH: &str = "/internal/v1/billing/callback";

/// Another secret than [`SECRET`].
const OTHER: &str = "whsec_/wECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

const BODY: &str = r#"{"payment_order_id":"p1","order_id":"o1","amount":"10.00","currency":"CNY","status":"SUCCESS"}"#;

/// Signed now, or so many seconds from now.
pub(super) fn signed(secret: &str, body: &str, seconds: i64) -> Request<Body> {
    let time = chrono::Utc::now().timestamp() + seconds;
    let signature = Webhook::new(secret).unwrap().sign("msg_1", time, body.as_bytes()).unwrap();
    Request::post(PATH)
        .header("accept-language", "en")
        .header("webhook-id", "msg_1")
        .header("webhook-timestamp", time.to_string())
        .header("webhook-signature", signature)
        .body(Body::from(body.to_owned()))
        .unwrap()
}

fn without(name: &str) -> Request<Body> {
    let mut request = signed(SECRET, BODY, 0);
    request.headers_mut().remove(name);
    request
}

fn doubled(name: &'static str) -> Request<Body> {
    let mut request = signed(SECRET, BODY, 0);
    let copy = request.headers()[name].clone();
    request.headers_mut().append(name, copy);
    request
}

fn with_body(body: String) -> Request<Body> {
    signed(SECRET, BODY, 0).map(|_| Body::from(body))
}

/// Nobody answers for the database: what is believed and understood is to be sent again.
const BELIEVED: (u16, u32) = (503, 100_202);

#[tokio::test]
async fn a_forged_callback_is_not_believed() {
    let mut cases = vec![
        (Request::post(PATH).body(Body::from(BODY)).unwrap(), 100_104),
        (signed(OTHER, BODY, 0), 100_104),
        (signed(SECRET, BODY, -310), 100_103),
        (signed(SECRET, BODY, 310), 100_103),
        (with_body(BODY.replace("10.00", "90.00")), 100_104),
        (with_body(format!("{BODY} ")), 100_104),
        (with_body(String::new()), 100_104),
    ];
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        cases.push((without(name), 100_104));
        cases.push((doubled(name), 100_104));
    }
    for byte in 0..BODY.len() {
        let mut changed = BODY.as_bytes().to_vec();
        changed[byte] ^= 1;
        cases.push((with_body(String::from_utf8(changed).unwrap()), 100_104));
    }
    for (request, code) in cases {
        let case = format!("{request:?}");
        let reply = send(users(), request).await;
        assert_eq!((reply.status.as_u16(), reply.problem().code), (401, code), "{case}");
    }
}

#[tokio::test]
async fn a_signed_callback_is_believed_under_either_key_and_address() {
    for secret in [SECRET, OTHER] {
        let reply = send(users_with(&[SECRET, OTHER]), signed(secret, BODY, 0)).await;
        assert_eq!((reply.status.as_u16(), reply.problem().code), BELIEVED);
        assert_eq!(reply.headers["retry-after"], "1");
    }
    let mut later = signed(SECRET, BODY, 0);
    *later.uri_mut() = "/billing/v1/internal/callback".parse().unwrap();
    let reply = send(users(), later).await;
    assert_eq!((reply.status.as_u16(), reply.problem().code), BELIEVED);
}

#[tokio::test]
async fn without_a_key_no_callback_is_believed() {
    for request in [signed(SECRET, BODY, 0), Request::post(PATH).body(Body::empty()).unwrap()] {
        let reply = send(users_with(&[]), request).await;
        assert_eq!((reply.status.as_u16(), reply.problem().code), (503, 190_707));
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_not_read() {
    let padded = |bytes: usize| format!("{BODY}{}", " ".repeat(bytes - BODY.len()));
    let largest = send(users(), signed(SECRET, &padded(64 * 1_024), 0)).await;
    assert_eq!((largest.status.as_u16(), largest.problem().code), BELIEVED);
    let reply = send(users(), signed(SECRET, &padded(64 * 1_024 + 1), 0)).await;
    let problem = reply.problem();
    assert_eq!((reply.status.as_u16(), problem.field.as_deref()), (400, Some("body")));
    assert_eq!(
        problem.detail,
        "the body has more than 65536 bytes; send the callback's fields alone"
    );
}

#[tokio::test]
async fn a_mistake_in_a_callback_is_named_by_its_field() {
    let long = format!("\"order_id\":\"{}\"", "o".repeat(65));
    for (old, new, field, detail) in [
        (r#""p1""#, r#""""#, Some("payment_order_id"), "is \"\"; write 1 to 64 visible ASCII"),
        (r#""o1""#, r#""""#, Some("order_id"), "is \"\"; write 1 to 64 visible ASCII"),
        (r#""order_id":"o1""#, &long, Some("order_id"), "ooo\"; write 1 to 64 visible ASCII"),
        (r#""o1""#, r#""o1 ""#, Some("order_id"), "is \"o1 \"; write 1 to 64 visible ASCII"),
        (r#""order_id":"o1","#, "", Some("order_id"), "missing field `order_id`"),
        (
            r#""payment_order_id":"p1","#,
            "",
            Some("payment_order_id"),
            "missing field `payment_order_id`",
        ),
        (r#""amount":"10.00","#, "", Some("amount"), "missing field `amount`"),
        (r#""currency":"CNY","#, "", Some("currency"), "missing field `currency`"),
        (r#","status":"SUCCESS""#, "", Some("status"), "missing field `status`"),
        ("CNY", "YUAN", Some("currency"), "currency is no code of three letters"),
        ("CNY", "", Some("currency"), "currency is no code of three letters"),
        ("\"currency\"", "\"user_id\":\"a b\",\"currency\"", Some("user_id"), "account id holds"),
        ("SUCCESS", "DONE", Some("status"), "write one of PENDING, SUCCESS, FAILED, CLOSED"),
        (r#""10.00""#, "1e1", Some("amount"), "write for instance \"10.00\""),
        (r#""o1""#, "7", Some("order_id"), "invalid type: integer `7`, expected a string"),
        (r#""o1""#, r#""o1","rechargeOrderId":"o2""#, None, "duplicate field `order_id`"),
        (r#""o1""#, r#""o1","order_id":"o2""#, None, "duplicate field `order_id`"),
        ("{", "[{", None, "the body cannot be read"),
        (r#"SUCCESS"}"#, r#"SUCCESS"}}"#, None, "trailing characters"),
    ] {
        let body = BODY.replace(old, new);
        let reply = send(users(), signed(SECRET, &body, 0)).await;
        let problem = reply.problem();
        assert_eq!((problem.status, problem.code), (400, 100_001), "{body}");
        assert!(problem.detail.contains(detail), "{body}: {}", problem.detail);
        if field.is_some() {
            assert_eq!(problem.field.as_deref(), field, "{body}");
        }
    }
}

#[tokio::test]
async fn other_spellings_and_further_fields_are_read() {
    for (old, new) in [
        ("payment_order_id", "payment_id"),
        ("payment_order_id", "paymentId"),
        ("\"order_id", "\"rechargeOrderId"),
        ("SUCCESS", "success"),
        ("SUCCESS", "PAYMENT_STATUS_SUCCESS"),
        ("\"10.00\"", "10.00"),
        ("{", r#"{"user_id":"u","#),
        ("{", r#"{"userId":"u","#),
        ("{", r#"{"user_id":null,"paid_at":"2026-01-01","nested":{"a":[1]},"#),
    ] {
        let body = BODY.replace(old, new);
        let reply = send(users(), signed(SECRET, &body, 0)).await;
        assert_eq!((reply.status.as_u16(), reply.problem().code), BELIEVED, "{body}");
    }
}

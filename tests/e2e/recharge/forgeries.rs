//! Callbacks that nobody honest sends: none of them credits anything, and each is answered as the page for payment teams
//! says.

use farebox_tests::payment::CALLBACK_SECRET;
use farebox_tests::sidecar::ADMIN_TOKEN;
use farebox_tests::{Plan, Stack, eventually, run};
use serde_json::{Value, json};

use super::{
    Order, anomalies, callback, credited_once, not_credited, ordered, pay, says, shared, start,
    state,
};

/// Nobody's secret.
const STRANGE_SECRET: &str = "whsec_YW5vdGhlci1zZWNyZXQtdGhhdC1ub2JvZHkta25vd3M=";

/// The body of an honest callback that says `SUCCESS`.
fn honest(order: &Order, amount: &str) -> String {
    json!({
        "payment_order_id": order.payment, "order_id": order.id, "amount": amount, "currency": "CNY", "status": "SUCCESS",
    })
    .to_string()
}

/// Sends callbacks that must be refused with this status and code; nothing changes by them.
async fn refused(stack: &Stack, order: &Order, status: u16, cases: &[(Value, u64)]) {
    for (change, code) in cases {
        let answer = callback(stack, order, change.clone()).await;
        let found = (answer.status, answer.code());
        assert_eq!(found, (Some(status), *code), "{change}: {}", answer.body);
        assert!(
            !answer.json()["detail"].as_str().unwrap_or_default().is_empty(),
            "{}",
            answer.body
        );
    }
    assert_eq!(state(stack, &order.id), "pending");
    not_credited(stack, &order.id);
}

#[test]
fn a_callback_without_a_good_signature_is_nobodys() {
    run(async {
        let stack = shared().await;
        let order = ordered(stack, "forged", "10").await;
        let body = honest(&order, "10.00");
        let changed = body.replace("10.00", "10.01");
        let last = body.replace("SUCCESS", "SUCCESs");
        let without = |header: &str| json!({ "body": body, "headers": { header: null } });
        let doubled = |header: &str| json!({ "body": body, "more_headers": [[header, "1"]] });
        let (wrong, old) = (100_104, 100_103);
        let unsigned =
            stack.sidecar.metric("billing_recharge_callback_total{result=\"unsigned\"}").await;
        let cases = [
            (without("webhook-signature"), wrong),
            (without("webhook-timestamp"), wrong),
            (without("webhook-id"), wrong),
            (json!({ "body": body, "secret": STRANGE_SECRET }), wrong),
            (json!({ "body": body, "age_s": 301 }), old),
            (json!({ "body": body, "age_s": -302 }), old),
            (json!({ "body": changed, "signed_body": body }), wrong),
            (json!({ "body": last, "signed_body": body }), wrong),
            (json!({ "body": format!("{body} "), "signed_body": body }), wrong),
            (json!({ "body": body, "headers": { "webhook-id": "msg_other" } }), wrong),
            (json!({ "body": body, "headers": { "webhook-timestamp": "now" } }), wrong),
            (json!({ "body": body, "headers": { "webhook-signature": "v1," } }), wrong),
            (doubled("webhook-id"), wrong),
            (doubled("webhook-timestamp"), wrong),
            (doubled("webhook-signature"), wrong),
        ];
        refused(stack, &order, 401, &cases).await;
        let counted =
            stack.sidecar.metric("billing_recharge_callback_total{result=\"unsigned\"}").await;
        assert!(unsigned + 15 <= counted, "{unsigned} and then {counted}");

        // As the predecessor took it: JSON, an order that exists, and no signature at all.
        let predecessors = json!({
            "order_id": order.id, "payment_order_id": order.payment, "status": "success", "amount": 10,
        });
        for path in ["/internal/v1/billing/callback", "/billing/v1/internal/callback"] {
            let answer = stack.sidecar.client().post(path).json(&predecessors).send().await;
            assert_eq!((answer.status.as_u16(), answer.code()), (401, wrong), "{}", answer.body);
        }
        // The gateway leads nobody to it, and an operator's token is no signature.
        let path = "/internal/v1/billing/callback";
        let answer = stack.client().post(path).user("forged").body(body.clone()).send().await;
        assert_ne!(answer.status, 200, "{}", answer.body);
        let bearer = format!("Bearer {ADMIN_TOKEN}");
        let call = stack.sidecar.client().post(path).header("authorization", &bearer);
        assert_eq!(call.body(body).send().await.status, 401);
        not_credited(stack, &order.id);
        // The order is none the worse for it.
        assert_eq!(says(stack, &order, "SUCCESS").await.status, Some(200));
        credited_once(stack, &order.id, "10");
    });
}

#[test]
fn a_signed_callback_that_cannot_be_read_is_refused() {
    run(async {
        let stack = shared().await;
        let order = ordered(stack, "unread", "10").await;
        let field = |name: &str, value: Value| (json!({ "fields": { name: value } }), 100_001);
        let body = |body: String| (json!({ "body": body }), 100_001);
        let cases = [
            field("order_id", json!("")),
            field("order_id", Value::Null),
            field("order_id", json!("o".repeat(65))),
            field("payment_order_id", json!("")),
            field("payment_order_id", Value::Null),
            field("amount", json!("ten")),
            field("amount", Value::Null),
            field("amount", json!("1e1")),
            field("currency", Value::Null),
            field("currency", json!("")),
            field("user_id", json!("some body")),
            field("status", Value::Null),
            field("status", json!("PAID")),
            field("orderId", json!("twice")),
            body(String::new()),
            body("[]".to_owned()),
            body(format!("{}{{}}", honest(&order, "10.00"))),
            body(format!("{{\"x\":\"{}\"}}", "x".repeat(64 * 1_024))),
        ];
        refused(stack, &order, 400, &cases).await;
    });
}

#[test]
fn a_payment_that_does_not_fit_is_kept_and_never_credited() {
    run(async {
        let stack = shared().await;
        for (kind, name, value) in [
            ("amount", "amount", json!("9.99")),
            ("amount", "amount", json!("10.01")),
            ("amount", "amount", json!("10.000000001")),
            ("amount", "amount", json!("1000")),
            ("amount", "amount", json!("-10")),
            ("currency", "currency", json!("USD")),
            ("payment", "payment_order_id", json!("pay_of_somebody")),
            ("user", "user_id", json!("somebody")),
        ] {
            let order = ordered(stack, "misfit", "10").await;
            let series = format!("billing_payment_anomaly_total{{kind=\"{kind}\"}}");
            let before = stack.sidecar.metric(&series).await;
            let change = json!({ "fields": { "status": "SUCCESS", name: value } });
            for _ in 0..2 {
                let answer = callback(stack, &order, change.clone()).await;
                assert_eq!((answer.status, answer.code()), (Some(422), 190_304), "{}", answer.body);
            }
            assert_eq!(anomalies(stack, &order.id), [[kind, "2"]], "{name} {value}");
            assert!(before + 2 <= stack.sidecar.metric(&series).await, "{series}");
            assert_eq!(state(stack, &order.id), "pending");
            not_credited(stack, &order.id);
            let listed = stack.sidecar.cli(&["orders", "anomalies"]).unwrap();
            assert!(listed.contains(&order.id) && listed.contains(kind), "{listed}");
            // An honest callback is still taken.
            assert_eq!(says(stack, &order, "SUCCESS").await.status, Some(200));
            credited_once(stack, &order.id, "10");
        }
        let shown = stack.sidecar.admin().get("/admin/v1/anomalies").operator().send().await;
        assert!(shown.json()["anomalies"][0]["expected"].is_object(), "{}", shown.body);
        assert_eq!(stack.sidecar.admin().get("/admin/v1/anomalies").send().await.status, 401);
    });
}

#[test]
fn an_order_that_nobody_made_is_not_found() {
    run(async {
        let stack = shared().await;
        let order = ordered(stack, "unknown", "10").await;
        let nobodys = format!("recharge_{}", uuid::Uuid::new_v4().simple());
        for (status, kept) in [("CLOSED", 0), ("SUCCESS", 1)] {
            let change = json!({ "fields": { "order_id": nobodys, "status": status } });
            let answer = callback(stack, &order, change).await;
            assert_eq!((answer.status, answer.code()), (Some(404), 190_301), "{}", answer.body);
            assert_eq!(anomalies(stack, &nobodys).len(), kept, "{status}");
        }
        not_credited(stack, &order.id);
    });
}

/// What a callback does to an order in each state, and to an order that was credited before it.
#[test]
fn repeats_and_old_news_change_nothing() {
    run(async {
        let stack = shared().await;
        for (first, then, expected) in [
            ("PENDING", "SUCCESS", "paid"),
            ("SUCCESS", "SUCCESS", "paid"),
            ("SUCCESS", "FAILED", "paid"),
            ("SUCCESS", "CLOSED", "paid"),
            ("SUCCESS", "PENDING", "paid"),
            ("FAILED", "FAILED", "failed"),
            ("FAILED", "CLOSED", "failed"),
            ("FAILED", "PENDING", "failed"),
            ("CLOSED", "CLOSED", "closed"),
            ("CLOSED", "FAILED", "closed"),
            ("CLOSED", "PENDING", "closed"),
        ] {
            let order = ordered(stack, "table", "2").await;
            for status in [first, then] {
                let answer = says(stack, &order, status).await;
                assert_eq!(answer.status, Some(200), "{first}, {status}: {}", answer.body);
            }
            assert_eq!(state(stack, &order.id), expected, "{first}, {then}");
            let count = if expected == "paid" { "1" } else { "0" };
            assert_eq!(super::credits(stack, &order.id).0, count, "{first}, {then}");
            // The payment service never heard of the payer paying: what it is asked about, it denies.
            let status = if expected == "failed" { "SUCCESS" } else { "REFUNDED" };
            let contradiction = says(stack, &order, status).await;
            let found = (contradiction.status, contradiction.code());
            assert_eq!(found, (Some(422), 190_304), "{expected}, {status}: {}", contradiction.body);
            assert_eq!(state(stack, &order.id), expected, "{first}, {then}, {status}");
            assert_eq!(anomalies(stack, &order.id), [["status", "1"]]);
        }
        stack.invariants();
    });
}

#[test]
fn while_the_secret_is_changed_both_are_good() {
    run(async {
        const NEXT: &str = "whsec_bmV4dC1jYWxsYmFjay1zZWNyZXQtb2YtMzItYnl0ZXM=";
        const BOTH: &str = concat!(
            "whsec_bmV4dC1jYWxsYmFjay1zZWNyZXQtb2YtMzItYnl0ZXM=,",
            "whsec_aGFybmVzcy1jYWxsYmFjay1zZWNyZXQtMzItYnl0ZXM=",
        );
        assert_eq!(BOTH, format!("{NEXT},{CALLBACK_SECRET}"));
        let stack = start(Plan::reference().without_gateway().callback_secrets(BOTH)).await;
        let old = ordered(&stack, "keys", "1").await;
        pay(&stack, &old).await;
        eventually!(state(&stack, &old.id) == "paid", "{}", stack.sidecar.log());
        let forged = ordered(&stack, "keys", "2").await;
        let change = json!({ "secret": STRANGE_SECRET, "fields": { "status": "SUCCESS" } });
        assert_eq!(callback(&stack, &forged, change).await.status, Some(401));
        not_credited(&stack, &forged.id);

        // The payment service goes over to the new one, first with both signatures, then alone.
        for secrets in [BOTH, NEXT] {
            stack.payment.stop();
            stack.payment.set_secrets(secrets).unwrap();
            stack.payment.start_again().await.unwrap_or_else(|err| panic!("{err}"));
            let order = ordered(&stack, "keys", "3").await;
            pay(&stack, &order).await;
            eventually!(state(&stack, &order.id) == "paid", "{}", stack.sidecar.log());
            credited_once(&stack, &order.id, "3");
        }
        assert_eq!(stack.account("keys").balance, "7");
    });
}

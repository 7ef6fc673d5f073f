//! The connection to the payment service: TLS and mutual TLS work, and nothing is paid over a connection that is not
//! what the operator asked for.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use farebox_core::assertion::{self, Claims, Key};
use farebox_tests::client::Answer;
use farebox_tests::sidecar::TOKEN;
use farebox_tests::tls::Tls;
use farebox_tests::{Plan, Stack, run};
use serde_json::json;

async fn stack(tls: Tls) -> Stack {
    let plan = Plan::reference().without_gateway().payment_tls(tls);
    Stack::start(plan).await.unwrap_or_else(|err| panic!("{err}"))
}

async fn recharge(stack: &Stack, key: &str) -> Answer {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = Claims::new("edge", "ada".parse().unwrap(), now);
    let identity = assertion::sign(&Key::derive(TOKEN), &claims);
    let body = json!({ "amount": "10.00", "currency": "CNY", "payment_method": "alipay" });
    let call = stack.sidecar.client().post("/api/v1/billing/recharge").json(&body);
    call.header(assertion::HEADER, &identity).header("idempotency-key", key).send().await
}

/// A recharge begins its payment.
async fn works(stack: &Stack, key: &str) {
    let answer = recharge(stack, key).await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.body, stack.sidecar.log());
    let payment = stack.payment.payment_of(answer.json()["order_id"].as_str().unwrap()).await;
    assert_eq!(payment.unwrap()["payment_id"], answer.json()["payment_id"]);
}

/// A recharge is told to come again, and its order waits for that.
async fn is_cut_off(stack: &Stack, key: &str) {
    let payments = stack.payment.payments().await.len();
    let answer = recharge(stack, key).await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert_eq!(answer.json()["code"], 190_501, "{}", answer.body);
    let sql = format!(
        "SELECT status, payment_order_id IS NULL FROM recharge_order WHERE idempotency_key = '{key}'"
    );
    assert_eq!(stack.sql(&sql), [["pending", "1"]]);
    assert_eq!(stack.payment.payments().await.len(), payments, "nothing reached it");
}

/// The sidecar's configuration.
fn configuration(stack: &Stack) -> String {
    fs::read_to_string(stack.sidecar.config()).unwrap()
}

/// Starts the sidecar again, with another text where `from` stands in its configuration.
async fn restart_with(stack: &Stack, configuration: &str, from: &str, to: &str) {
    assert!(configuration.contains(from), "{from}\n{configuration}");
    stack.sidecar.stop();
    fs::write(stack.sidecar.config(), configuration.replace(from, to)).unwrap();
    stack.sidecar.start_again().await.unwrap_or_else(|err| panic!("{err}"));
}

#[test]
fn payments_are_made_over_tls_and_only_with_the_right_authority() {
    run(async {
        let stack = stack(Tls::Server).await;
        works(&stack, "right").await;
        let (good, files) = (configuration(&stack), stack.payment.tls().unwrap());
        let (ca, other) = (files.ca().to_str().unwrap(), files.other_ca().to_str().unwrap());
        restart_with(&stack, &good, ca, other).await;
        is_cut_off(&stack, "wrong-authority").await;
        restart_with(&stack, &good, &files.client_yaml(), "").await;
        is_cut_off(&stack, "plain").await;
        restart_with(&stack, &good, "", "").await;
        works(&stack, "plain").await;
    });
}

#[test]
fn payments_are_made_over_mutual_tls_and_only_with_a_certificate() {
    run(async {
        let stack = stack(Tls::Mutual).await;
        works(&stack, "right").await;
        let good = configuration(&stack);
        let identity = stack.payment.tls().unwrap().identity_yaml();
        restart_with(&stack, &good, &identity, "").await;
        is_cut_off(&stack, "no-certificate").await;
    });
}

//! The payment service itself: what it acknowledged survives, and its callbacks are what `payment/README.md` says.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use farebox_payment::v1::get_payment_request::By;
use farebox_payment::v1::{
    CreatePaymentRequest, GetPaymentRequest, GetPaymentResponse, PaymentMethod, PaymentStatus,
    RefundPaymentRequest, RefundStatus,
};
use farebox_tests::payment::CALLBACK_SECRET;
use farebox_tests::scratch::Scratch;
use farebox_tests::{PaymentService, binaries, eventually, run};
use futures_util::future::join_all;
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tokio::net::TcpListener;
use tonic::Code;

/// A payment service with its folder.
struct Fixture {
    payment: PaymentService,
    scratch: Scratch,
}

async fn fixture() -> Fixture {
    let scratch = Scratch::new().unwrap_or_else(|err| panic!("{err}"));
    let payment = PaymentService::start(scratch.path()).await;
    Fixture { payment: payment.unwrap_or_else(|err| panic!("{err}")), scratch }
}

/// Somebody who is called back.
struct Receiver {
    url: String,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    callbacks: Mutex<Vec<(HeaderMap, String)>>,
    /// What to answer, the last one for ever; nothing means 200.
    answers: Mutex<Vec<u16>>,
}

impl Receiver {
    async fn start() -> Self {
        let seen = Arc::new(Seen::default());
        let router = Router::new().route("/notify", post(notified)).with_state(Arc::clone(&seen));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/notify", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, seen }
    }

    fn answer(&self, statuses: &[u16]) {
        *self.seen.answers.lock().unwrap() = statuses.to_vec();
    }

    fn callbacks(&self) -> Vec<(HeaderMap, String)> {
        self.seen.callbacks.lock().unwrap().clone()
    }

    fn statuses(&self) -> Vec<String> {
        let status = |body: &str| serde_json::from_str::<Value>(body).unwrap()["status"].take();
        let statuses = self.callbacks().into_iter().map(|(_, body)| status(&body));
        statuses.map(|status| status.as_str().unwrap_or_default().to_owned()).collect()
    }
}

async fn notified(State(seen): State<Arc<Seen>>, headers: HeaderMap, body: String) -> StatusCode {
    seen.callbacks.lock().unwrap().push((headers, body));
    let mut answers = seen.answers.lock().unwrap();
    let status =
        if 1 < answers.len() { answers.remove(0) } else { *answers.first().unwrap_or(&200) };
    StatusCode::from_u16(status).unwrap()
}

fn order(order_id: &str, notify_url: &str) -> CreatePaymentRequest {
    CreatePaymentRequest {
        order_id: order_id.to_owned(),
        user_id: "ada".to_owned(),
        source: "billing".to_owned(),
        amount_minor: 1_000,
        currency: "CNY".to_owned(),
        method: PaymentMethod::Alipay.into(),
        subject: "Account recharge <10.00 CNY>".to_owned(),
        notify_url: notify_url.to_owned(),
        ..CreatePaymentRequest::default()
    }
}

/// Creates a payment; gives its id.
async fn created(payment: &PaymentService, order: CreatePaymentRequest) -> String {
    let answer = payment.contract().await.create_payment(order).await.unwrap().into_inner();
    assert_eq!(answer.status(), PaymentStatus::Pending);
    answer.payment_id
}

async fn known(payment: &PaymentService, by: By) -> Result<GetPaymentResponse, Code> {
    let request = GetPaymentRequest { by: Some(by) };
    let answer = payment.contract().await.get_payment(request).await;
    answer.map(tonic::Response::into_inner).map_err(|status| status.code())
}

#[test]
fn an_order_has_one_payment_also_after_a_crash() {
    run(async {
        let Fixture { payment, scratch: _scratch } = fixture().await;
        let order = order("order-1", "http://127.0.0.1:1/");
        let first = created(&payment, order.clone()).await;
        payment.kill();
        payment.start_again().await.unwrap();
        assert_eq!(created(&payment, order.clone()).await, first);
        let other = CreatePaymentRequest { amount_minor: 1_001, ..order };
        let refused = payment.contract().await.create_payment(other).await.unwrap_err();
        assert_eq!(refused.code(), Code::AlreadyExists, "{refused}");
        assert_eq!(payment.payments().await.len(), 1);

        let by_order = known(&payment, By::OrderId("order-1".to_owned())).await.unwrap();
        assert_eq!(known(&payment, By::PaymentId(first)).await, Ok(by_order.clone()));
        assert_eq!((by_order.amount_minor, by_order.currency.as_str()), (1_000, "CNY"));
        let nobody = known(&payment, By::OrderId("order-2".to_owned())).await;
        assert_eq!(nobody, Err(Code::NotFound));
    });
}

/// Eight callers create orders until the process is killed under them.
#[test]
fn whatever_was_answered_before_the_process_was_killed_is_kept() {
    run(async {
        let Fixture { payment, scratch: _scratch } = fixture().await;
        let contract = payment.contract().await;
        let answered = Mutex::new(Vec::new());
        let caller = async |caller: usize| {
            let mut contract = contract.clone();
            for number in 0.. {
                let order = order(&format!("order-{caller}-{number}"), "http://127.0.0.1:1/");
                let Ok(answer) = contract.create_payment(order).await else { return };
                answered.lock().unwrap().push(answer.into_inner().payment_id);
            }
        };
        let callers = join_all((0..8).map(caller));
        let kill = async {
            eventually!(100 <= answered.lock().unwrap().len());
            payment.kill();
        };
        futures_util::future::join(callers, kill).await;
        payment.start_again().await.unwrap();
        let kept = payment.payments().await;
        let kept: BTreeSet<&str> =
            kept.iter().filter_map(|one| one["payment_id"].as_str()).collect();
        let answered = answered.into_inner().unwrap();
        let lost = answered.iter().filter(|id| !kept.contains(id.as_str())).count();
        assert_eq!(lost, 0, "of {} answered", answered.len());
    });
}

#[test]
fn the_same_order_many_times_at_once_has_one_payment() {
    run(async {
        let Fixture { payment, scratch: _scratch } = fixture().await;
        let contract = payment.contract().await;
        let create = async |_| {
            let order = order("order-1", "http://127.0.0.1:1/");
            contract.clone().create_payment(order).await.unwrap().into_inner().payment_id
        };
        let ids: BTreeSet<String> = join_all((0..50).map(create)).await.into_iter().collect();
        assert_eq!(ids.len(), 1);
        assert_eq!(payment.payments().await.len(), 1);
    });
}

#[test]
fn a_payment_is_announced_signed_and_until_it_arrives() {
    run(async {
        let Fixture { payment, scratch: _scratch } = fixture().await;
        let receiver = Receiver::start().await;
        receiver.answer(&[503, 429, 500, 200]);
        let id = created(&payment, order("order-1", &receiver.url)).await;
        assert_eq!(payment.pay(&id).await.status, 200);
        eventually!(4 <= receiver.callbacks().len(), "{}", payment.log());
        let callbacks = receiver.callbacks();
        let webhook = Webhook::new(CALLBACK_SECRET).unwrap();
        for (headers, body) in &callbacks {
            webhook.verify(body.as_bytes(), headers).unwrap();
            assert_eq!(headers["webhook-id"], callbacks[0].0["webhook-id"], "one message");
        }
        let expected = json!({
            "payment_order_id": id, "order_id": "order-1", "amount": "10.00", "currency": "CNY", "status": "SUCCESS",
        });
        assert_eq!(serde_json::from_str::<Value>(&callbacks[0].1).unwrap(), expected);

        eventually!(payment.callbacks().await[0]["state"] == "delivered");
        let attempts = payment.callbacks().await[0]["attempts"].clone();
        let answers: Vec<&Value> =
            attempts.as_array().unwrap().iter().map(|a| &a["status"]).collect();
        assert_eq!(answers, [503, 429, 500, 200]);
        let paid = known(&payment, By::PaymentId(id)).await.unwrap();
        assert_eq!(paid.status(), PaymentStatus::Success);
        assert!(paid.paid_at.is_some());
    });
}

#[test]
fn callbacks_that_did_not_arrive_are_sent_after_a_crash() {
    run(async {
        let Fixture { payment, scratch: _scratch } = fixture().await;
        let receiver = Receiver::start().await;
        receiver.answer(&[503]);
        let id = created(&payment, order("order-1", &receiver.url)).await;
        payment.pay(&id).await;
        eventually!(!receiver.callbacks().is_empty());
        payment.kill();
        receiver.answer(&[200]);
        payment.start_again().await.unwrap();
        eventually!(payment.callbacks().await[0]["state"] == "delivered");
        let statuses = receiver.statuses();
        assert!(statuses.iter().all(|status| status == "SUCCESS"), "{statuses:?}");
    });
}

#[test]
fn a_definite_refusal_ends_the_repeats_and_both_keys_sign_while_they_are_changed() {
    run(async {
        let Fixture { payment, scratch: _scratch } = fixture().await;
        let next = "whsec_bmV4dC1jYWxsYmFjay1zZWNyZXQtb2YtMzItYnl0ZXM=";
        payment.stop();
        payment.set_secrets(&format!("{next},{CALLBACK_SECRET}")).unwrap();
        payment.start_again().await.unwrap();
        let receiver = Receiver::start().await;
        receiver.answer(&[401]);
        let id = created(&payment, order("order-1", &receiver.url)).await;
        payment.fail(&id).await;
        eventually!(payment.callbacks().await[0]["state"] == "refused");
        let callbacks = receiver.callbacks();
        assert_eq!(callbacks.len(), 1);
        for secret in [next, CALLBACK_SECRET] {
            let (headers, body) = &callbacks[0];
            Webhook::new(secret).unwrap().verify(body.as_bytes(), headers).unwrap();
        }
    });
}

#[test]
fn callbacks_are_lost_doubled_and_forged_as_told() {
    run(async {
        let Fixture { payment, scratch: _scratch } = fixture().await;
        let receiver = Receiver::start().await;
        let lost = created(&payment, order("order-1", &receiver.url)).await;
        let doubled = created(&payment, order("order-2", &receiver.url)).await;
        payment.behave(json!({ "callback": { "send": false } })).await;
        payment.pay(&lost).await;
        let other = "whsec_YW5vdGhlci1zZWNyZXQtdGhhdC1ub2JvZHkta25vd3M=";
        let told = json!({ "send": true, "copies": 3, "amount_override": "9.99", "secret_override": other });
        payment.behave(json!({ "callback": told })).await;
        payment.pay(&doubled).await;
        eventually!(receiver.callbacks().len() == 3);
        for (headers, body) in receiver.callbacks() {
            assert!(body.contains("\"9.99\"") && body.contains("order-2"), "{body}");
            assert!(
                Webhook::new(CALLBACK_SECRET).unwrap().verify(body.as_bytes(), &headers).is_err()
            );
            Webhook::new(other).unwrap().verify(body.as_bytes(), &headers).unwrap();
        }

        payment.behave_well().await;
        let handmade = json!({
            "payment_id": lost,
            "fields": { "order_id": null, "rechargeOrderId": "order-1" },
            "age_s": 400,
            "more_headers": [["webhook-id", "msg_twice"]],
        });
        receiver.answer(&[422]);
        assert_eq!(payment.callback(handmade).await.status, Some(422));
        let (headers, body) = receiver.callbacks().pop().unwrap();
        assert!(body.contains("rechargeOrderId") && !body.contains("\"order_id\""), "{body}");
        assert_eq!(headers.get_all("webhook-id").iter().count(), 2);
        assert!(Webhook::new(CALLBACK_SECRET).unwrap().verify(body.as_bytes(), &headers).is_err());
    });
}

#[test]
fn refunds_are_bounded_and_have_one_result_each() {
    run(async {
        let Fixture { payment, scratch: _scratch } = fixture().await;
        let receiver = Receiver::start().await;
        let id = created(&payment, order("order-1", &receiver.url)).await;
        let refund = async |refund_id: &str, amount_minor| {
            let (refund_id, currency) = (refund_id.to_owned(), "CNY".to_owned());
            let reason = String::new();
            let request = RefundPaymentRequest {
                payment_id: id.clone(),
                refund_id,
                amount_minor,
                currency,
                reason,
            };
            let answer = payment.contract().await.refund_payment(request).await;
            answer.map(|answer| answer.into_inner().status()).map_err(|status| status.code())
        };
        assert_eq!(refund("r", 1).await, Err(Code::FailedPrecondition));
        payment.pay(&id).await;
        assert_eq!(refund("r", 600).await, Ok(RefundStatus::Success));
        assert_eq!(refund("r", 600).await, Ok(RefundStatus::Success));
        assert_eq!(refund("r", 601).await, Err(Code::AlreadyExists));
        assert_eq!(refund("s", 401).await, Err(Code::FailedPrecondition));
        payment.kill();
        payment.start_again().await.unwrap();
        assert_eq!(refund("r", 600).await, Ok(RefundStatus::Success));
        payment.behave(json!({ "refund_outcome": "pending" })).await;
        assert_eq!(refund("s", 300).await, Ok(RefundStatus::Pending));
        payment.behave(json!({ "refund_outcome": "success" })).await;
        assert_eq!(refund("s", 300).await, Ok(RefundStatus::Success));
        assert_eq!(payment.refund(&id, None).await["status"], "REFUNDED");
        assert_eq!(known(&payment, By::PaymentId(id.clone())).await.unwrap().refunded_minor, 1_000);
        eventually!(receiver.statuses().iter().any(|status| status == "REFUNDED"));
    });
}

#[test]
fn the_contract_is_broken_as_told() {
    run(async {
        let Fixture { payment, scratch: _scratch } = fixture().await;
        let order = order("order-1", "http://127.0.0.1:1/");
        let code = async || {
            let answer = payment.contract().await.create_payment(order.clone()).await;
            answer.map(|answer| answer.into_inner().payment_id).map_err(|status| status.code())
        };
        payment.behave(json!({ "create_error": "UNAVAILABLE" })).await;
        assert_eq!(code().await, Err(Code::Unavailable));
        assert_eq!(payment.payments().await, [Value::Null; 0], "nothing was done");
        payment.behave(json!({ "error_after": true })).await;
        assert_eq!(code().await, Err(Code::Unavailable));
        assert_eq!(payment.payments().await.len(), 1, "the answer was lost");
        payment.behave(json!({ "create_error": null, "garbage": "empty_id" })).await;
        assert_eq!(code().await, Ok(String::new()));
        payment.behave(json!({ "garbage": "wrong_amount" })).await;
        let by_order = known(&payment, By::OrderId("order-1".to_owned())).await.unwrap();
        assert_eq!(by_order.amount_minor, 1_001);
    });
}

#[test]
fn nothing_is_paid_after_its_time() {
    run(async {
        let Fixture { payment, scratch: _scratch } = fixture().await;
        let receiver = Receiver::start().await;
        let soon = SystemTime::now() + Duration::from_secs(1);
        let seconds = soon.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut order = order("order-1", &receiver.url);
        // A whole second of slack: the order itself must still be taken.
        let seconds = i64::try_from(seconds).unwrap() + 1;
        order.expires_at = Some(prost_types::Timestamp { seconds, nanos: 0 });
        let id = created(&payment, order).await;
        eventually!(receiver.statuses() == ["CLOSED"]);
        assert_eq!(payment.pay(&id).await.status, 409);
        assert_eq!(payment.payments().await[0]["status"], "CLOSED");
    });
}

#[test]
fn the_page_shows_what_is_paid_and_lets_the_payer_decide() {
    run(async {
        let Fixture { payment, scratch: _scratch } = fixture().await;
        let id = created(&payment, order("order-1", "http://127.0.0.1:1/")).await;
        let browser = farebox_tests::Client::http1(payment.http_addr());
        let page = browser.get(&format!("/pay/{id}")).send().await;
        for text in ["10.00", "CNY", "order-1", "ada", "&lt;10.00 CNY&gt;", ">Pay<", ">Cancel<"] {
            assert!(page.body.contains(text), "{text}: {}", page.body);
        }
        // The button sends the browser back to the page.
        let paid = browser.post(&format!("/pay/{id}")).send().await;
        assert_eq!(paid.status, 200);
        assert!(paid.body.contains("Paid. Thank you.") && !paid.body.contains("<button"));
        assert_eq!(payment.cancel(&id).await.status, 409);
        assert_eq!(browser.get("/pay/nobody").send().await.status, 404);
    });
}

/// The script of the page for payment teams.
pub(crate) fn example_script() -> String {
    let page = fs::read_to_string(binaries::repository().join("payment/README.md")).unwrap();
    let script = page.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next());
    script.unwrap().to_owned()
}

/// Payment teams begin with it.
#[test]
fn the_example_for_payment_teams_signs_and_sends() {
    run(async {
        let receiver = Receiver::start().await;
        let mut shell = Command::new("sh");
        shell.args(["-c", &example_script()]).env("NOTIFY_URL", &receiver.url);
        shell.env("CALLBACK_SECRET", CALLBACK_SECRET);
        shell.env("PAYMENT_ID", "pay-1").env("ORDER_ID", "order-1").env("AMOUNT", "12.50");
        let output = tokio::task::spawn_blocking(move || shell.output()).await.unwrap().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        assert!(output.stdout.ends_with(b"\n200\n"), "{output:?}");
        let (headers, body) = receiver.callbacks().pop().unwrap();
        Webhook::new(CALLBACK_SECRET).unwrap().verify(body.as_bytes(), &headers).unwrap();
        let expected = json!({
            "payment_order_id": "pay-1", "order_id": "order-1", "amount": "12.50", "currency": "CNY", "status": "SUCCESS",
        });
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), expected);
    });
}

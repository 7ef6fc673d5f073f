//! Recharge, from the order to the money on the account, on real parts: the whole way, forgeries, crashes, outages.

mod amounts;
mod crashes;
mod crowds;
mod forgeries;
mod legacy;
mod outages;
mod poller;
mod random;
mod refunds;
mod whole_way;

use farebox_tests::payment::CallbackAnswer;
use farebox_tests::sidecar::Sidecar;
use farebox_tests::{Answer, Plan, Stack, eventually};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

/// Where users order.
const RECHARGE: &str = "/api/v1/billing/recharge";

/// An order that has a payment.
#[derive(Debug, Clone)]
struct Order {
    id: String,
    payment: String,
}

/// The stack of tests that leave its parts as they are, behind a gateway.
async fn shared() -> &'static Stack {
    static STACK: OnceCell<Stack> = OnceCell::const_new();
    let start = async || start(Plan::reference().free_quotas(&[])).await;
    STACK.get_or_init(start).await
}

/// The stack of tests that stop parts or have them misbehave: one test at a time, everything well at its beginning.
async fn unruly() -> MutexGuard<'static, Stack> {
    static STACK: OnceCell<Mutex<Stack>> = OnceCell::const_new();
    let plan = Plan::reference().without_gateway().with_cut().payment_timeout("300ms");
    let stack = STACK.get_or_init(async || Mutex::new(start(plan).await)).await.lock().await;
    stack.cut.disarm();
    stack.cut.release();
    stack.redis.start_again().await.unwrap_or_else(|err| panic!("{err}"));
    stack.payment.start_again().await.unwrap_or_else(|err| panic!("{err}"));
    stack.sidecar.start_again().await.unwrap_or_else(|err| panic!("{err}"));
    stack.payment.behave_well().await;
    // Whoever had the jobs may be gone: they would wait for it.
    stack.sql("UPDATE job_lease SET until = UTC_TIMESTAMP(3)");
    stack
}

async fn start(plan: Plan) -> Stack {
    Stack::start(plan).await.unwrap_or_else(|err| panic!("{err}"))
}

/// What a user sends for so much money.
fn body(amount: &str) -> Value {
    json!({ "amount": amount, "currency": "CNY", "payment_method": "alipay" })
}

/// Asks a sidecar itself for an order.
async fn recharge(sidecar: &Sidecar, user: &str, key: &str, body: &Value) -> Answer {
    let call = sidecar.client().post(RECHARGE).asserted(user).header("idempotency-key", key);
    call.json(body).send().await
}

/// The order in an answer, which must be one.
fn order(answer: &Answer) -> Order {
    assert_eq!(answer.status, 200, "{}", answer.body);
    let text = |field: &str| answer.json()[field].as_str().unwrap_or_default().to_owned();
    let order = Order { id: text("order_id"), payment: text("payment_id") };
    assert!(!order.id.is_empty() && !order.payment.is_empty(), "{}", answer.body);
    order
}

/// A new order of a user, with its payment.
async fn ordered(stack: &Stack, user: &str, amount: &str) -> Order {
    let key = format!("{user}-{}", uuid::Uuid::new_v4().simple());
    order(&recharge(&stack.sidecar, user, &key, &body(amount)).await)
}

/// A new order that has been paid and credited.
async fn paid(stack: &Stack, user: &str, amount: &str) -> Order {
    let order = ordered(stack, user, amount).await;
    pay(stack, &order).await;
    eventually!(state(stack, &order.id) == "paid", "{}", stack.sidecar.log());
    order
}

/// The payer pays; the payment service calls back on its own.
async fn pay(stack: &Stack, order: &Order) {
    let answer = stack.payment.pay(&order.payment).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// Sends one callback about the order that says what is true, or what `change` changes in it.
async fn callback(stack: &Stack, order: &Order, change: Value) -> CallbackAnswer {
    let mut callback = json!({ "payment_id": order.payment });
    for (key, value) in change.as_object().into_iter().flatten() {
        callback[key] = value.clone();
    }
    stack.payment.callback(callback).await
}

/// Sends one callback that says so of the order's payment, whatever is true.
async fn says(stack: &Stack, order: &Order, status: &str) -> CallbackAnswer {
    callback(stack, order, json!({ "fields": { "status": status } })).await
}

/// Where an order stands in the database.
fn state(stack: &Stack, order_id: &str) -> String {
    stack.sql_one(&format!("SELECT status FROM recharge_order WHERE order_id = '{order_id}'"))
}

/// What was credited for an order: how often, and how much in all.
fn credits(stack: &Stack, order_id: &str) -> (String, String) {
    let rows = stack.sql(&format!(
        "SELECT COUNT(*), COALESCE(SUM(amount), 0) + 0.0 FROM ledger_entry
         WHERE ref_id = '{order_id}' AND kind = 'recharge' AND book = 'user'"
    ));
    let mut fields = rows.into_iter().flatten();
    let count = fields.next().unwrap_or_default();
    let sum = fields.next().unwrap_or_default();
    (count, sum.trim_end_matches('0').trim_end_matches('.').to_owned())
}

/// An order is paid and was credited once, with this amount; all books are right.
fn credited_once(stack: &Stack, order_id: &str, amount: &str) {
    assert_eq!(state(stack, order_id), "paid");
    assert_eq!(credits(stack, order_id), ("1".to_owned(), amount.to_owned()), "{order_id}");
    let told = "SELECT COUNT(*) FROM outbox WHERE event_type = 'recharge.paid'";
    let told = stack.sql_one(&format!("{told} AND payload_json LIKE '%{order_id}%'"));
    assert_eq!(told, "1", "events about {order_id}");
    stack.invariants();
}

/// An order was never credited; all books are right.
fn not_credited(stack: &Stack, order_id: &str) {
    assert_eq!(credits(stack, order_id).0, "0", "{order_id}");
    stack.invariants();
}

/// The anomalies that are kept about an order: kind and how often it was seen.
fn anomalies(stack: &Stack, order_id: &str) -> Vec<Vec<String>> {
    stack.sql(&format!(
        "SELECT kind, times_seen FROM payment_anomaly WHERE order_id = '{order_id}' ORDER BY 1"
    ))
}

/// Makes an order so many hours older, and due to be asked for.
fn age(stack: &Stack, order_id: &str, hours: u32) {
    stack.sql(&format!(
        "UPDATE recharge_order
         SET created_at = created_at - INTERVAL {hours} HOUR, ask_at = UTC_TIMESTAMP(3)
         WHERE order_id = '{order_id}' AND status IN ('pending', 'failed')"
    ));
}

/// Has the payment service asked for an order now.
fn ask_now(stack: &Stack, order_id: &str) {
    age(stack, order_id, 0);
}

//! What stands at the listeners is what their OpenAPI documents say: Schemathesis sends requests that nobody thought of.
//!
//! `FAREBOX_FUZZ_EXAMPLES=500` sends more of them, `FAREBOX_SEED=7` others.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use farebox_core::call::{DEDUCT_PATH, RESERVE_PATH};
use farebox_core::wire::SYNC_PATH;
use farebox_tests::payment::CALLBACK_SECRET;
use farebox_tests::sidecar::TOKEN;
use farebox_tests::{Plan, Stack, binaries, eventually, run};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// Requests of each operation beside examples and boundaries, which are sent always.
const EXAMPLES: &str = "20";

/// Of the requests that fit an operation's description, this part must be met: otherwise nothing behind the door was tested.
const MET_PERCENT_MIN: u64 = 20;

/// Who calls, and whose things are known.
const USER: &str = "fuzz";

/// Who is frozen and thawed all the time: nobody else's calls are refused for it.
const FROZEN: &str = "icy";

/// What the known orders come to.
const PAID: &str = "900.00";

/// A stack, and names of what exists in it.
struct Fixture {
    stack: Stack,
    /// An operator's, who may do everything: whom wrong tokens from the same address do not hold up.
    token: String,
    known: Value,
}

async fn shared() -> &'static Fixture {
    static FIXTURE: OnceCell<Fixture> = OnceCell::const_new();
    FIXTURE.get_or_init(start).await
}

async fn start() -> Fixture {
    let plan = Plan::reference().without_gateway().free_quotas(&[("asset", 100)]).lease_ttl("5m");
    let stack = Stack::start(plan).await.unwrap_or_else(|err| panic!("{err}"));
    stack.credit(USER, "1000000");
    stack.credit(FROZEN, "1");
    let mut orders = Vec::new();
    for key in ["one", "two", "three"] {
        orders.push(ordered(&stack, key).await);
    }
    // The third one waits for its payment.
    for order in &orders[..2] {
        stack.payment.pay(text(&order["payment_id"])).await;
    }
    eventually!(stack.account(USER).balance == "1001800", "{}", stack.sidecar.log());
    for name in ["gone-1", "gone-2"] {
        token(&stack, name);
    }
    let internal = stack.sidecar.internal();
    let (mut records, mut reservations) = (Vec::new(), Vec::new());
    for number in 0..40 {
        let call = |units: &str| json!({ "user_id": USER, "service": "passport", units: 50, "idempotency_key": format!("known-{number}") });
        let deducted = internal.ask(DEDUCT_PATH, &call("count")).send().await;
        records.push(deducted.json()["record_id"].clone());
        let reserved = internal.ask(RESERVE_PATH, &call("units")).send().await;
        reservations.push(reserved.json()["reservation_id"].clone());
    }
    let known = json!({
        "account": [USER, "ada"], "user_id": [USER, "ada"], "user": [USER], "prefix": ["f"],
        "service": ["asset", "passport", "payment"], "status": ["SUCCESS"],
        "count": [1, 2, 5], "units": [1, 2, 5], "wait_ms": [0, 10], "min": [1, 2],
        "order_id": orders.iter().map(|order| &order["order_id"]).collect::<Vec<_>>(),
        "payment_order_id": orders.iter().map(|order| &order["payment_id"]).collect::<Vec<_>>(),
        "record_id": records, "reservation_id": reservations, "deduct_key": ["known-1", "known-2"],
        "gateway": ["fuzz-gw", "held-gw"], "accounts": [USER, "ada"], "user_ids": [USER, "ada"],
        "anomaly": anomalies(&stack).await, "lease": leases(&stack).await, "frozen": [FROZEN], "token": ["gone-1", "gone-2"],
    });
    Fixture { token: token(&stack, "fuzz"), stack, known }
}

async fn ordered(stack: &Stack, key: &str) -> Value {
    let order = json!({ "amount": PAID, "currency": "CNY", "payment_method": "alipay" });
    let call = stack.sidecar.client().post("/api/v1/billing/recharge").asserted(USER);
    let answer = call.header("idempotency-key", key).json(&order).send().await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

/// Numbers of payments that did not fit an order.
async fn anomalies(stack: &Stack) -> Vec<Value> {
    let order = ordered(stack, "short").await;
    for amount in 1..=6 {
        let change = json!({ "amount": format!("{amount}.00"), "status": "SUCCESS" });
        let news = json!({ "payment_id": order["payment_id"], "fields": change });
        stack.payment.callback(news).await;
    }
    ids(stack, "anomalies", &["anomalies", "list"])
}

/// Numbers of open leases, of a gateway that says nothing more.
async fn leases(stack: &Stack) -> Vec<Value> {
    let wants: Vec<Value> = (0..8)
        .map(|number| json!({ "key": { "account": format!("held-{number}"), "service": "asset" }, "units": 5, "min": 1 }))
        .collect();
    let message = json!({ "gateway": "held-gw", "instance": "0f".repeat(16), "epoch": 0, "seq": 1, "reports": [], "wants": wants });
    let answer = stack.sidecar.internal().ask(SYNC_PATH, &message).send().await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    ids(stack, "leases", &["leases", "--gateway", "held-gw"])
}

fn ids(stack: &Stack, rows: &str, command: &[&str]) -> Vec<Value> {
    let told = told(stack, command);
    let ids: Vec<Value> =
        told[rows].as_array().unwrap().iter().map(|row| row["id"].clone()).collect();
    assert!(5 < ids.len(), "{told}");
    ids
}

fn token(stack: &Stack, name: &str) -> String {
    let made = told(stack, &["token", "create", "--name", name, "--role", "admin"]);
    text(&made["token"]).to_owned()
}

/// What a command prints with `--json`.
fn told(stack: &Stack, command: &[&str]) -> Value {
    let told = stack.sidecar.cli(&[command, &["--json"]].concat());
    serde_json::from_str(&told.unwrap_or_else(|err| panic!("{err}"))).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

#[test]
fn gateways_and_services_find_what_the_document_says() {
    run(async {
        let addresses = shared().await.stack.sidecar.addresses();
        conforms("gateway", addresses.internal, TOKEN).await;
    });
}

#[test]
fn users_and_the_payment_service_find_what_the_document_says() {
    run(async {
        let addresses = shared().await.stack.sidecar.addresses();
        conforms("public", addresses.http, TOKEN).await;
    });
}

#[test]
fn operators_find_what_the_document_says() {
    run(async {
        let Fixture { stack, token, .. } = shared().await;
        conforms("admin", stack.sidecar.addresses().admin, token).await;
    });
}

/// Has the listener tested by the document that it serves, and sees to it that requests got through.
async fn conforms(listener: &str, addr: SocketAddr, token: &str) {
    let Fixture { stack, known, .. } = shared().await;
    let folder = stack.folder().join(format!("fuzz-{listener}"));
    fs::create_dir_all(&folder).unwrap();
    let tally = folder.join("tally.json");
    let settings = json!({
        "token": token, "gateway_token": TOKEN, "user": USER, "callback_secret": CALLBACK_SECRET, "known": known, "paid": PAID, "tally": tally,
    });
    fs::write(folder.join("settings.json"), settings.to_string()).unwrap();
    let mut schemathesis = schemathesis(&folder, addr);
    if listener == "admin" {
        // So many wrong tokens from one address get 429 sooner or later; sidecar/src/api/tests/documents.rs asks as strangers.
        schemathesis.args(["--exclude-checks", "ignored_auth"]);
    }
    let output = tokio::task::spawn_blocking(move || schemathesis.output()).await.unwrap().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{errors}");

    let tally: BTreeMap<String, BTreeMap<String, u64>> =
        serde_json::from_str(&fs::read_to_string(tally).unwrap()).unwrap();
    for (operation, counts) in &tally {
        let count = |what: &str| counts.get(what).copied().unwrap_or(0);
        let met = count("sound 200") + count("sound 201") + count("sound 202");
        let sound = count("sound");
        assert!(
            0 < sound && sound * MET_PERCENT_MIN <= met * 100,
            "of {sound} sound requests to {operation} {met} were met: {counts:?}"
        );
    }
    stack.invariants();
}

fn schemathesis(folder: &Path, addr: SocketAddr) -> Command {
    let here = binaries::repository().join("tests/openapi");
    let program = binaries::schemathesis().unwrap_or_else(|err| panic!("{err}"));
    let variable = |name, otherwise: &str| env::var(name).unwrap_or_else(|_| otherwise.to_owned());
    let mut command = Command::new(program);
    command
        .current_dir(folder)
        .arg("--config-file")
        .arg(here.join("schemathesis.toml"))
        .args(["--no-color", "run", "--checks", "all", "--workers", "1", "--rate-limit", "auto"])
        .args(["--max-examples", &variable("FAREBOX_FUZZ_EXAMPLES", EXAMPLES)])
        .args(["--seed", &variable("FAREBOX_SEED", "1")])
        .arg(format!("http://{addr}/openapi.json"))
        .env("FAREBOX_FUZZ", folder.join("settings.json"))
        .env("PYTHONPATH", &here)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

//! Check, deduct, reserve, commit, release and refund through several sidecars on one database: crowds, crashes, months,
//! and Redis at its worst.

mod busy;
mod crashes;
mod crowds;
mod months;
mod poison;
mod redis;
mod stopped;

use farebox_core::call::{COMMIT_PATH, DEDUCT_PATH, REFUND_PATH, RELEASE_PATH, RESERVE_PATH};
use farebox_tests::sidecar::Sidecar;
use farebox_tests::{Answer, Client, Plan, Stack};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

/// Three sidecars on one database.
struct Trio {
    stack: Stack,
    second: Sidecar,
    third: Sidecar,
}

impl Trio {
    async fn start(plan: Plan) -> Self {
        let stack = started(Stack::start(plan).await);
        let (second, third) =
            tokio::join!(stack.another_sidecar("second"), stack.another_sidecar("third"));
        Self { second: started(second), third: started(third), stack }
    }

    /// A caller of each sidecar.
    fn clients(&self) -> [Client; 3] {
        [&self.stack.sidecar, &self.second, &self.third].map(Sidecar::internal)
    }

    /// Sends so many requests at once, to the sidecars in turn; the answers in order.
    async fn crowd(
        &self,
        count: usize,
        path: &str,
        request: impl Fn(usize) -> Value,
    ) -> Vec<Answer> {
        let clients = self.clients();
        let send = |number: usize| clients[number % 3].ask(path, &request(number)).send();
        futures_util::future::join_all((0..count).map(send)).await
    }
}

fn started<T>(part: Result<T, farebox_tests::StackError>) -> T {
    part.unwrap_or_else(|err| panic!("{err}"))
}

/// `coin` costs money, `mixed` has free units besides, `gift` has nothing else, `last` has one.
fn plan() -> Plan {
    Plan::reference().without_gateway().prices(&[("coin", "0.1"), ("mixed", "0.1")]).free_quotas(&[
        ("mixed", 50),
        ("gift", 1_000),
        ("last", 1),
    ])
}

/// The sidecars of tests that leave them as they are.
async fn trio() -> &'static Trio {
    static TRIO: OnceCell<Trio> = OnceCell::const_new();
    TRIO.get_or_init(async || Trio::start(plan()).await).await
}

/// The sidecars of tests that stop them, or Redis: one test at a time, everything well at its beginning. The first one
/// reaches the database through the proxy.
async fn unruly() -> MutexGuard<'static, Trio> {
    static TRIO: OnceCell<Mutex<Trio>> = OnceCell::const_new();
    let start = async || Mutex::new(Trio::start(plan().with_cut()).await);
    let trio = TRIO.get_or_init(start).await.lock().await;
    trio.stack.cut.disarm();
    trio.stack.cut.release();
    started(trio.stack.redis.start_again().await);
    started(trio.stack.sidecar.start_again().await);
    trio
}

fn deduct(user: &str, service: &str, count: u64, key: &str) -> Value {
    json!({ "idempotency_key": key, "user_id": user, "service": service, "count": count })
}

fn reserve(user: &str, service: &str, units: u64, key: &str) -> Value {
    json!({ "idempotency_key": key, "user_id": user, "service": service, "units": units })
}

/// The answer of a request that was met.
fn met(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

/// A text member of an answer.
fn text<'a>(answer: &'a Value, member: &str) -> &'a str {
    answer[member].as_str().unwrap_or_else(|| panic!("no {member} in {answer}"))
}

/// How many answers have this status.
fn count(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

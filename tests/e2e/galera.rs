//! A Galera cluster of three nodes: the node that takes the writes is killed under load, and sidecars that by mistake
//! write to several nodes at once stay exact.

mod certified;
mod given_way;
mod misrouted;
mod moved;

use std::time::Instant;

use farebox_core::call::DEDUCT_PATH;
use farebox_tests::database::Database;
use farebox_tests::wait::{DEADLINE, INTERVAL};
use farebox_tests::{Answer, Client, Galera, Plan, Stack, StackError};
use serde_json::Value;
use tokio::sync::{Mutex, OnceCell};

/// The cluster of both tests. One kills the first node, the other uses the second and the third.
async fn cluster() -> &'static Galera {
    static CLUSTER: OnceCell<Galera> = OnceCell::const_new();
    CLUSTER.get_or_init(async || started(Galera::start().await)).await
}

fn started<T>(part: Result<T, StackError>) -> T {
    part.unwrap_or_else(|err| panic!("{err}"))
}

/// A stack on the database. They start one after the other: the lock that keeps migrations apart holds within one node.
async fn start_on(plan: Plan, database: Database) -> Stack {
    static TURN: Mutex<()> = Mutex::const_new(());
    let _turn = TURN.lock().await;
    started(Stack::start_on(plan, database).await)
}

/// Sends the same deduct to the sidecars in turn until one has decided it: charged or refused.
async fn decided(clients: &[Client], request: &Value) -> Answer {
    let deadline = Instant::now() + DEADLINE;
    for client in clients.iter().cycle() {
        // Busy, overloaded, the database away, the outcome unknown: the same key finds out.
        if let Some(answer) = ask(client, request).await {
            return answer;
        }
        assert!(Instant::now() < deadline, "{request} is decided");
        tokio::time::sleep(INTERVAL).await;
    }
    panic!("there is no sidecar");
}

/// The answer of a sidecar that has decided.
async fn ask(client: &Client, request: &Value) -> Option<Answer> {
    let answer = client.ask(DEDUCT_PATH, request).try_send().await.ok()?;
    (answer.status != 503).then_some(answer)
}

//! More than the sidecar can take: what is turned away, what gets through, and that it recovers.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use farebox_core::wire::SYNC_PATH;
use farebox_sidecar::api::{self, Gateways, Tokens};
use farebox_sidecar::config::Secret;
use farebox_sidecar::store::Store;
use sqlx::Executor as _;
use tower::ServiceExt as _;

use crate::database::Database;
use crate::fixture::{Fixture, want};

#[tokio::test(flavor = "multi_thread")]
async fn a_gateways_message_gets_through_a_flood_of_checks() {
    let farebox = Arc::new(Fixture::new(&[("asset", 10)], &[]).await);
    farebox.check("u", "asset", 1).await.unwrap();
    // Checks read this table, and stand still while somebody has locked it.
    let mut lock = farebox.database.pool.acquire().await.unwrap();
    lock.execute("LOCK TABLES free_quota WRITE").await.unwrap();
    let flood: Vec<_> = (0..200)
        .map(|_| {
            let farebox = farebox.clone();
            tokio::spawn(async move { farebox.check("u", "asset", 1).await })
        })
        .collect();
    let stuck = format!(
        "SELECT COUNT(*) FROM information_schema.processlist
         WHERE db = '{}' AND state LIKE 'Waiting for table metadata lock'",
        farebox.database.name
    );
    wait_until(async || farebox.database.rows(stuck.as_str()).await != ["0"]).await;
    farebox.gateway("edge-1").send(vec![], vec![], vec![]).await;
    lock.execute("UNLOCK TABLES").await.unwrap();
    for check in flood {
        assert!(check.await.unwrap().unwrap().allowed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_has_left_is_lent_nothing() {
    let farebox = Fixture::new(&[("asset", 10)], &[]).await;
    let api = api::internal(Gateways::new(
        farebox.app.clone(),
        Tokens::new(&[Secret::new("t0ken")]),
        Duration::from_secs(60),
    ));
    // There is no such row yet: its place is locked, which a message that creates it waits for.
    let mut lock = farebox.database.pool.begin().await.unwrap();
    lock.execute("SELECT * FROM user_balance WHERE user_id = 'u' FOR UPDATE").await.unwrap();

    let message =
        farebox.gateway("edge-1").message(vec![], vec![want("u", "asset", 10, 1)], vec![]);
    let body = serde_json::to_vec(&message).unwrap();
    let request = Request::post(SYNC_PATH)
        .header("authorization", "Bearer t0ken")
        .header("content-type", "application/json")
        .body(Body::from(body))
        .unwrap();
    let leaving = tokio::spawn(api.oneshot(request));
    let waits = format!(
        "SELECT COUNT(*) FROM information_schema.processlist
         WHERE db = '{}' AND info LIKE 'INSERT INTO user_balance%' AND id <> CONNECTION_ID()",
        farebox.database.name
    );
    wait_until(async || farebox.database.rows(waits.as_str()).await != ["0"]).await;
    leaving.abort();
    assert!(leaving.await.unwrap_err().is_cancelled());

    let mut stays = farebox.gateway("edge-2");
    let granted = stays.want(want("u", "asset", 10, 10));
    let (granted, unlocked) = tokio::join!(granted, lock.rollback());
    unlocked.unwrap();
    assert_eq!(granted.unwrap().free_units, 10);
}

async fn wait_until(condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(Instant::now() < deadline, "it did not come to that");
        tokio::task::yield_now().await;
    }
}

/// A sidecar of its own process, with few file descriptors. It is killed when this is dropped.
struct Sidecar {
    process: Child,
    addresses: serde_json::Value,
    _directory: tempfile::TempDir,
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Sidecar {
    /// Starts it by these words of a shell, before the program's own.
    async fn start(database: &Database, host: &str, words: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = &database.options;
        let source = format!(
            "{}@tcp({host}:{})/{}",
            options.get_username(),
            options.get_port(),
            database.name
        );
        let config = "server: { http: { addr: '127.0.0.1:0' }, internal: { addr: '127.0.0.1:0' }, admin: { addr: '127.0.0.1:0' } }
billing: { prices: { asset: 1 } }\n";
        std::fs::write(directory.path().join("farebox.yaml"), config).unwrap();
        let script = format!("{words} \"$0\" serve --ready-file ready");
        let process = Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_farebox")])
            .current_dir(directory.path())
            .env_clear()
            .envs([
                ("FAREBOX_DATABASE_SOURCE", source.as_str()),
                ("FAREBOX_GATEWAY_TOKEN", "t0ken"),
            ])
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(directory.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let ready = directory.path().join("ready");
        let log = directory.path().join("log");
        let mut sidecar =
            Self { process, addresses: serde_json::Value::Null, _directory: directory };
        let deadline = Instant::now() + Duration::from_secs(60);
        while !ready.exists() {
            let text = || std::fs::read_to_string(&log).unwrap_or_default();
            assert!(Instant::now() < deadline, "the sidecar is not ready: {}", text());
            tokio::task::yield_now().await;
        }
        sidecar.addresses = serde_json::from_slice(&std::fs::read(ready).unwrap()).unwrap();
        sidecar
    }

    fn address(&self, listener: &str) -> SocketAddr {
        self.addresses[listener].as_str().unwrap().parse().unwrap()
    }

    /// The status of a GET, or nothing when no answer came in time.
    fn get(&self, listener: &str, path: &str, patience: Duration) -> Option<String> {
        let mut stream = TcpStream::connect(self.address(listener)).ok()?;
        stream.set_read_timeout(Some(patience)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: farebox\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer.split(' ').nth(1)?.to_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_connections_than_descriptors_are_outlived() {
    let database = Database::create().await;
    Store::connect(&database.options, 2).await.unwrap().migrate().await.unwrap();
    let host = database.options.get_host();
    let sidecar = Sidecar::start(&database, host, "ulimit -n 104; exec").await;
    let patience = Duration::from_secs(20);
    let crowd: Vec<TcpStream> =
        (0..120).map(|_| TcpStream::connect(sidecar.address("public")).unwrap()).collect();
    // The other listeners and the database have descriptors of their own.
    assert_eq!(sidecar.get("admin", "/healthz", patience).as_deref(), Some("200"));
    assert_eq!(sidecar.get("admin", "/readyz", patience).as_deref(), Some("200"));
    assert_eq!(sidecar.get("internal", "/", patience).as_deref(), Some("404"));
    drop(crowd);
    assert_eq!(sidecar.get("public", "/health", patience).as_deref(), Some("200"));
}

/// Words that run a program as a user of its own, who may have so many threads. Root's are not counted, nor are those of
/// whoever may raise limits.
fn with_threads(user: u32, threads: u32) -> String {
    let own = if rustix::process::getuid().is_root() {
        let user = 60_000 + user + 2 * (std::process::id() % 2_000);
        format!("setpriv --ruid={user} --bounding-set=-sys_resource,-sys_admin")
    } else {
        "unshare --user --map-current-user".to_owned()
    };
    format!("exec {own} prlimit --nproc={threads}:{threads}")
}

/// What a process says that may have so many threads: all of its error stream.
fn refusal_with(threads: u32) -> String {
    let script = format!("{} \"$0\" check-config", with_threads(0, threads));
    let output = Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_farebox")])
        .env("FAREBOX_CONFIG", concat!(env!("CARGO_MANIFEST_DIR"), "/../farebox.yaml"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_process_that_gets_too_few_threads_says_so_in_one_line() {
    for threads in [1, 4] {
        let text = refusal_with(threads);
        let is_told = text.contains("threads are needed") && text.contains("ulimit -u");
        assert!(is_told && text.lines().count() == 1, "{threads}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_by_its_name_is_found_again_when_no_more_threads_can_be_started() {
    let database = Database::create().await;
    Store::connect(&database.options, 2).await.unwrap().migrate().await.unwrap();
    let refusal = refusal_with(1);
    let needed: u32 = refusal.split(' ').find_map(|word| word.parse().ok()).unwrap();
    // As many as it starts, its first one besides, and none more.
    let words = with_threads(1, 1 + needed);
    let sidecar = Sidecar::start(&database, "localhost", &words).await;
    let patience = Duration::from_secs(20);
    let connections = format!(
        "SELECT CONCAT('KILL ', id) FROM information_schema.processlist
         WHERE db = '{}' AND id != CONNECTION_ID()",
        database.name
    );
    for kill in database.rows(connections.as_str()).await {
        // It may have ended by itself.
        let _ = database.pool.execute(sqlx::AssertSqlSafe(kill)).await;
    }
    let ready = async || sidecar.get("admin", "/readyz", patience).as_deref() == Some("200");
    wait_until(ready).await;
}

//! A private Redis, and sidecars' connections to it.

use std::time::Duration;

use farebox_core::id::AccountId;
use farebox_sidecar::cache::{Cache, Guard, Lock, LockName};
use farebox_sidecar::config::{HostPort, Redis};
use farebox_tests::eventually;
use farebox_tests::redis::Redis as Server;
use farebox_tests::scratch::Scratch;
use tokio::time::Instant;

/// Fields are dropped in this order: the server ends before its folder goes.
pub(crate) struct Fixture {
    pub(crate) server: Server,
    _folder: Scratch,
}

/// How long a sidecar here waits for an answer of Redis: long enough for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// How long what must succeed may take.
pub(crate) const LONG: Duration = Duration::from_secs(20);

impl Fixture {
    pub(crate) async fn new() -> Self {
        let folder = Scratch::new().unwrap();
        Self { server: Server::start(folder.path()).await.unwrap(), _folder: folder }
    }

    /// One sidecar's connection.
    pub(crate) fn cache(&self) -> Cache {
        let settings = Redis {
            addr: HostPort { host: "127.0.0.1".to_owned(), port: self.server.addr().port() },
            password: None,
            read_timeout: PATIENCE / 2,
            write_timeout: PATIENCE / 2,
        };
        Cache::open(Some(&settings)).unwrap()
    }

    pub(crate) fn exists(&self, key: &str) -> bool {
        self.server.command(&["EXISTS", key]) == ":1"
    }

    /// Waits until the lock was given once and then given back: with its time taken away, it does not end by itself.
    pub(crate) async fn gone_without_expiry(&self) {
        eventually!(self.exists(FENCE), "redis carries out what it was asked");
        self.server.command(&["PERSIST", LOCK]);
        eventually!(!self.exists(LOCK), "given back");
    }

    /// Milliseconds until the key ends; negative when it does not or is not there.
    pub(crate) fn ends_in_ms(&self, key: &str) -> i64 {
        self.server.command(&["PTTL", key]).trim_start_matches(':').parse().unwrap()
    }
}

pub(crate) fn account(name: &str) -> AccountId {
    name.parse().unwrap()
}

/// The key of [`name`].
pub(crate) const LOCK: &str = "deduct:lock:ada:asset:2026-05";

/// Where its last number stands.
pub(crate) const FENCE: &str = "deduct:fence:ada:asset:2026-05";

pub(crate) fn name() -> LockName {
    LockName::new(&account("ada"), &"asset".parse().unwrap(), "2026-05")
}

/// Waits for the lock as long as it takes.
pub(crate) async fn held(cache: &Cache, floor: u64) -> Guard {
    match cache.lock(&name(), floor, Instant::now() + LONG).await {
        Lock::Held(guard) => guard,
        other => panic!("{other:?}"),
    }
}

/// Asks once.
pub(crate) async fn ask_once(cache: &Cache) -> Lock {
    cache.lock(&name(), 0, Instant::now()).await
}

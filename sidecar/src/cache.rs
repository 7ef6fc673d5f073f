//! The optional Redis connection. Nothing is decided by it: absent, empty or dead, it changes no answer.
//!
//! | file | what is in Redis |
//! |---|---|
//! | `lock.rs` | locks on charges, with fencing numbers |
//! | `hint.rs` | what accounts had within the last second |
//! | `circuit.rs` | nothing: it says when Redis is not asked |
//!
//! Orders of the predecessor are read here as well.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{
    Client, ConnectionAddr, FromRedisValue, IntoConnectionInfo as _, RedisConnectionInfo,
    RedisError,
};
use serde::Serialize;
use tokio::time::Instant;

use self::circuit::Circuit;
pub use self::hint::{HINT_AGE_MAX, HintClock};
pub use self::lock::{Guard, Lock, LockName};
use crate::config::Redis;

mod circuit;
mod hint;
mod lock;

/// A connection that is made when it is first needed and again after it broke.
#[derive(Clone)]
pub struct Cache {
    connection: Option<Connection>,
}

#[derive(Clone)]
struct Connection {
    addr: String,
    redis: ConnectionManager,
    patience: Duration,
    circuit: Arc<Circuit>,
}

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CacheHealth {
    /// None is configured.
    Off,
    /// It answers.
    Ok,
    /// It does not answer.
    Unreachable,
}

/// Redis settings that no connection can be made with.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct CacheError(#[from] RedisError);

/// Redis did not answer. What it could have said is not known.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub struct CacheAway {
    problem: String,
    /// The word before the text of an error that Redis itself answered.
    code: Option<String>,
}

/// What the keys of the predecessor's orders begin with.
const LEGACY_ORDER: &str = "recharge:order:";

/// How many keys Redis looks at in one step of a scan.
const SCANNED: u32 = 500;

impl Cache {
    /// Prepares the connection; nothing is sent yet.
    pub fn open(settings: Option<&Redis>) -> Result<Self, CacheError> {
        let connection = settings.map(Connection::open).transpose()?;
        Ok(Self { connection })
    }

    /// No Redis at all.
    pub fn off() -> Self {
        Self { connection: None }
    }

    /// Whether none is configured.
    pub(crate) fn is_off(&self) -> bool {
        self.connection.is_none()
    }

    /// The predecessor's order of this id, as it left it; `None` when there is none. What is no text is an empty one.
    pub(crate) async fn legacy_order(&self, order_id: &str) -> Result<Option<String>, CacheAway> {
        let mut get = redis::cmd("GET");
        get.arg(format!("{LEGACY_ORDER}{order_id}"));
        match self.ask::<Option<Vec<u8>>>(&get).await {
            Err(CacheAway { code: Some(code), .. }) if code == "WRONGTYPE" => {
                Ok(Some(String::new()))
            }
            answer => {
                let bytes = answer?.flatten();
                Ok(bytes.map(|bytes| String::from_utf8(bytes).unwrap_or_default()))
            }
        }
    }

    /// Some of the predecessor's orders, by id, and where to go on; 0 means that these were the last. One may come twice.
    pub(crate) async fn legacy_orders(
        &self,
        cursor: u64,
    ) -> Result<(u64, Vec<(String, String)>), CacheAway> {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(format!("{LEGACY_ORDER}*")).arg("COUNT").arg(SCANNED);
        let (next, keys): (u64, Vec<Vec<u8>>) = self.ask(&scan).await?.unwrap_or_default();
        let mut orders = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(order_id) = key.strip_prefix(LEGACY_ORDER.as_bytes()) else { continue };
            let Ok(order_id) = str::from_utf8(order_id) else {
                // No order of ours, but somebody should know of it.
                orders.push((String::from_utf8_lossy(order_id).into_owned(), String::new()));
                continue;
            };
            // It may have run out since.
            if let Some(text) = self.legacy_order(order_id).await? {
                orders.push((order_id.to_owned(), text));
            }
        }
        Ok((next, orders))
    }

    /// Removes an order that stands in the database.
    pub(crate) async fn forget_legacy_order(&self, order_id: &str) -> Result<(), CacheAway> {
        let mut del = redis::cmd("DEL");
        del.arg(format!("{LEGACY_ORDER}{order_id}"));
        self.ask::<u64>(&del).await.map(drop)
    }

    /// Sends a command, also when Redis was found to be away; `None` without a Redis.
    async fn ask<T: FromRedisValue>(&self, command: &redis::Cmd) -> Result<Option<T>, CacheAway> {
        match &self.connection {
            Some(connection) => connection.ask(command).await.map(Some),
            None => Ok(None),
        }
    }

    /// Asks for a sign of life, and waits no longer than the configured timeouts together.
    pub async fn health(&self) -> CacheHealth {
        match self.ask::<String>(&redis::cmd("PING")).await {
            Ok(None) => CacheHealth::Off,
            Ok(Some(_)) => CacheHealth::Ok,
            Err(err) => {
                tracing::debug!(error = %err, "redis refused a probe");
                CacheHealth::Unreachable
            }
        }
    }

    /// Logs once, at the start, whether the cache answers.
    pub async fn announce(&self) {
        let addr = self.connection.as_ref().map_or("", |connection| connection.addr.as_str());
        match self.health().await {
            CacheHealth::Off => tracing::info!("no redis is configured"),
            CacheHealth::Ok => tracing::info!(redis.addr = addr, "redis answers"),
            CacheHealth::Unreachable => {
                tracing::warn!(
                    redis.addr = addr,
                    "redis does not answer; everything works without it"
                );
            }
        }
    }
}

impl Connection {
    fn open(settings: &Redis) -> Result<Self, RedisError> {
        let login =
            settings.password.as_ref().map_or_else(RedisConnectionInfo::default, |password| {
                RedisConnectionInfo::default().set_password(password.expose())
            });
        let addr = ConnectionAddr::Tcp(settings.addr.host.clone(), settings.addr.port);
        let client = Client::open(addr.into_connection_info()?.set_redis_settings(login))?;
        // One attempt per request: a dead Redis is asked again by the next request, not by a queue of retries.
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(settings.write_timeout))
            .set_response_timeout(Some(settings.read_timeout));
        Ok(Self {
            addr: settings.addr.to_string(),
            redis: ConnectionManager::new_lazy_with_config(client, config)?,
            patience: settings.read_timeout + settings.write_timeout,
            circuit: Arc::default(),
        })
    }

    /// Sends a command and waits no longer than the configured timeouts together.
    async fn ask<T: FromRedisValue>(&self, command: &redis::Cmd) -> Result<T, CacheAway> {
        let mut redis = self.redis.clone();
        let asked = tokio::time::timeout(self.patience, command.query_async(&mut redis)).await;
        let answer = match asked {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(err)) => Err(CacheAway::from(err)),
            Err(_) => Err(CacheAway {
                problem: format!("no answer within {:?}", self.patience),
                code: None,
            }),
        };
        match &answer {
            Err(away) if away.is_silence() => self.circuit.open(Instant::now()),
            Ok(_) | Err(_) => self.circuit.close(),
        }
        answer
    }

    /// Sends a command, unless Redis was found to be away a moment ago: for what is done without it as well.
    async fn ask_if_near<T: FromRedisValue>(&self, command: &redis::Cmd) -> Result<T, CacheAway> {
        self.require_near()?;
        self.ask(command).await
    }

    /// Whoever passes asks Redis next.
    fn require_near(&self) -> Result<(), CacheAway> {
        if self.circuit.lets_through(Instant::now()) {
            return Ok(());
        }
        Err(CacheAway { problem: "it did not answer a moment ago".to_owned(), code: None })
    }
}

impl CacheAway {
    /// Whether nothing came back. A refusal, such as that of a full Redis, is an answer.
    fn is_silence(&self) -> bool {
        self.code.is_none()
    }
}

impl From<RedisError> for CacheAway {
    fn from(err: RedisError) -> Self {
        Self { problem: err.to_string(), code: err.code().map(str::to_owned) }
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("connection", &self.connection).finish()
    }
}

/// The password stays out of logs.
impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("addr", &self.addr).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{HostPort, Secret};

    fn settings(port: u16) -> Redis {
        Redis {
            addr: HostPort { host: "127.0.0.1".to_owned(), port },
            password: Some(Secret::new("s3cret")),
            read_timeout: Duration::from_millis(100),
            write_timeout: Duration::from_millis(100),
        }
    }

    #[tokio::test]
    async fn a_missing_and_a_dead_cache_are_told_apart_and_neither_is_an_error() {
        assert_eq!(Cache::open(None).unwrap().health().await, CacheHealth::Off);
        // Bound and dropped: nothing listens there.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let cache = Cache::open(Some(&settings(port))).unwrap();
        assert_eq!(cache.health().await, CacheHealth::Unreachable);
        assert!(!format!("{cache:?}").contains("s3cret"));
    }

    #[tokio::test]
    async fn a_cache_that_accepts_and_says_nothing_is_unreachable_within_its_timeouts() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let cache = Cache::open(Some(&settings(listener.local_addr().unwrap().port()))).unwrap();
        assert_eq!(cache.health().await, CacheHealth::Unreachable);
    }
}

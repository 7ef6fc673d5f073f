//! The optional Redis connection. Nothing is decided by it: absent, empty or dead, it changes no answer.

use std::fmt;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo, RedisError};
use serde::Serialize;

use crate::config::Redis;

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
}

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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

impl Cache {
    /// Prepares the connection; nothing is sent yet.
    pub fn open(settings: Option<&Redis>) -> Result<Self, CacheError> {
        let connection = settings.map(Connection::open).transpose()?;
        Ok(Self { connection })
    }

    /// Asks for a sign of life, and waits no longer than the configured timeouts together.
    pub async fn health(&self) -> CacheHealth {
        let Some(connection) = &self.connection else { return CacheHealth::Off };
        let mut redis = connection.redis.clone();
        let ping = redis::cmd("PING");
        let pong = ping.query_async::<String>(&mut redis);
        match tokio::time::timeout(connection.patience, pong).await {
            Ok(Ok(_)) => CacheHealth::Ok,
            Ok(Err(err)) => {
                tracing::debug!(error = %err, "redis refused a probe");
                CacheHealth::Unreachable
            }
            Err(_) => CacheHealth::Unreachable,
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
        })
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addr = self.connection.as_ref().map(|connection| &connection.addr);
        f.debug_struct("Cache").field("addr", &addr).finish_non_exhaustive()
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

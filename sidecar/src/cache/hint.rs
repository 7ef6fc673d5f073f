//! What an account had a moment ago, for answers that decide nothing, as those of `check`.
//!
//! A hint is never older than [`HINT_AGE_MAX`]. Whoever reads the database asks Redis for the time first, and the hint
//! ends so long after that time: however late it is written, by Redis's clock it cannot outlive what it tells.

use std::time::Duration;

use farebox_core::id::AccountId;
use redis::FromRedisValue;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Cache;
use crate::metrics::{self, HintResult};

/// How old a hint may be.
pub const HINT_AGE_MAX: Duration = Duration::from_millis(HINT_AGE_MAX_MS);

const HINT_AGE_MAX_MS: u64 = 1_000;

/// When what the database is about to tell is too old to be kept, by Redis's clock.
#[derive(Debug, Clone, Copy)]
pub struct HintClock {
    ends_at_ms: u64,
}

impl Cache {
    /// What the account had within the last second; `None` when that is not known, or cannot be read as a `T`.
    pub async fn hint<T: DeserializeOwned>(&self, account: &AccountId) -> Option<T> {
        let connection = self.connection.as_ref()?;
        let mut get = redis::cmd("GET");
        get.arg(key(account));
        let (result, hint) = match connection.ask_if_near::<Option<Vec<u8>>>(&get).await {
            Ok(bytes) => match bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
                Some(hint) => (HintResult::Hit, Some(hint)),
                None => (HintResult::Miss, None),
            },
            Err(_) => (HintResult::Unavailable, None),
        };
        metrics::hint(result);
        hint
    }

    /// Asks for the time, to be called before the database is read. Without it there is no hint to keep.
    pub async fn hint_clock(&self) -> Option<HintClock> {
        let (seconds, micros) = self.ask_for_hint::<(u64, u64)>(&redis::cmd("TIME")).await?;
        let now_ms = seconds.checked_mul(1_000)?.checked_add(micros / 1_000)?;
        Some(HintClock { ends_at_ms: now_ms.checked_add(HINT_AGE_MAX_MS)? })
    }

    /// Keeps what the database told after `clock` was taken, for the rest of its second. Nothing says whether it was kept.
    pub async fn keep_hint<T: Serialize>(&self, account: &AccountId, hint: &T, clock: HintClock) {
        let Ok(json) = serde_json::to_vec(hint) else { return };
        let mut set = redis::cmd("SET");
        set.arg(key(account)).arg(json).arg("PXAT").arg(clock.ends_at_ms);
        self.ask_for_hint::<()>(&set).await;
    }

    /// Forgets the hints of accounts that have changed. Those that Redis does not forget end by themselves.
    pub async fn drop_hints(&self, accounts: &[AccountId]) {
        if accounts.is_empty() {
            return;
        }
        let mut del = redis::cmd("DEL");
        for account in accounts {
            del.arg(key(account));
        }
        self.ask_for_hint::<u64>(&del).await;
    }

    async fn ask_for_hint<T: FromRedisValue>(&self, command: &redis::Cmd) -> Option<T> {
        let answer = self.connection.as_ref()?.ask_if_near(command).await;
        answer.inspect_err(|err| tracing::debug!(error = %err, "redis keeps no hint")).ok()
    }
}

fn key(account: &AccountId) -> String {
    format!("farebox:hint:{account}")
}

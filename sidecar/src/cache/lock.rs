//! The lock on one account's charges for one service in one month: it keeps sidecars that charge the same rows from
//! waiting for each other inside the database.
//!
//! It decides nothing. A holder may lose it without noticing (its time is over, Redis restarted empty), so each holder
//! gets a number that is larger than that of every holder before, and the rows refuse a smaller number than they have
//! seen. And where Redis is away, charges go without it: the rows' own locks are enough, only slower.

use std::time::Duration;

use farebox_core::id::{AccountId, ServiceName};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use super::circuit::AWAY_FOR;
use super::{Cache, CacheAway, Connection};
use crate::metrics::{self, LockResult};

/// When Redis takes the lock away from a holder that does not give it back, in milliseconds.
const LOCK_MS: u64 = 5_000;

/// How long the number of the last holder is remembered, in milliseconds. A forgotten one is no harm: Redis's clock and
/// the rows stand in for it.
const FENCING_KEPT_MS: u64 = 3_600_000;

/// From here on, Lua's numbers are no longer exact. In microseconds this is the year 2255.
const FENCING_MAX: u64 = 1 << 53;

/// The pause before the lock is asked for again, in milliseconds. It is drawn, so that those who wait do not come together.
const PAUSE_MS: std::ops::RangeInclusive<u64> = 5..=25;

/// How often a lock is given back to a Redis that does not answer, once a second: its time is over by then.
const RELEASES_MAX: u32 = 6;

/// KEYS: the lock, its number. ARGV: token, LOCK_MS, floor, FENCING_KEPT_MS. Gives nil while somebody else has the lock.
///
/// A number that is none, or beyond what is exact, was not written by this script.
const ACQUIRE: &str = r"
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return false end
local last = tonumber(redis.pcall('GET', KEYS[2])) or 0
if not (last >= 0 and last < 9007199254740991) then last = 0 end
local time = redis.call('TIME')
local number = math.max(last + 1, tonumber(ARGV[3]) + 1, time[1] * 1000000 + time[2])
number = string.format('%.0f', number)
redis.call('SET', KEYS[2], number, 'PX', ARGV[4])
return number";

/// KEYS: the lock. ARGV: token. What somebody else has meanwhile stays.
const RELEASE: &str = r"
if redis.pcall('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0";

/// What is locked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockName(String);

/// What came of asking for a lock.
#[derive(Debug)]
pub enum Lock {
    /// It is had.
    Held(Guard),
    /// Somebody else has it, and kept it for as long as was waited.
    Busy,
    /// There is no Redis, or it did not answer, or refused. Go without.
    Away,
}

/// A lock that is had. It goes back when this is dropped, in the background.
#[derive(Debug)]
#[must_use = "the lock goes back when this is dropped"]
pub struct Guard {
    fencing: u64,
    _claim: Claim,
}

/// A lock that this process has, or may have: it was asked for, and no refusal came.
#[derive(Debug)]
struct Claim {
    connection: Connection,
    name: LockName,
    token: String,
    is_asked: bool,
}

impl LockName {
    /// The charges of `account` for `service` in `month`, which is `YYYY-MM`.
    pub fn new(account: &AccountId, service: &ServiceName, month: &str) -> Self {
        Self(format!("{account}:{service}:{month}"))
    }

    /// The predecessor's key, so that both may charge from one database while one replaces the other.
    fn key(&self) -> String {
        format!("deduct:lock:{}", self.0)
    }

    fn fencing_key(&self) -> String {
        format!("deduct:fence:{}", self.0)
    }
}

impl Guard {
    /// Larger than the number of every holder before, and than `floor` was.
    pub fn fencing(&self) -> u64 {
        self.fencing
    }
}

impl Lock {
    fn result(&self) -> LockResult {
        match self {
            Self::Held(_) => LockResult::Success,
            Self::Busy => LockResult::Failed,
            Self::Away => LockResult::Unavailable,
        }
    }
}

impl Cache {
    /// Asks for a lock, again and again until `wait_until`, at least once. `floor` is the largest number that the rows have
    /// seen: a Redis that has forgotten its numbers, or whose clock is slow, gives larger ones all the same.
    ///
    /// A Redis that does not answer is waited for no longer than the configured timeouts together, and then not asked for a
    /// second.
    pub async fn lock(&self, name: &LockName, floor: u64, wait_until: Instant) -> Lock {
        let Some(connection) = &self.connection else { return Lock::Away };
        let started = Instant::now();
        let lock = Claim::new(connection, name).take(floor, wait_until).await;
        metrics::lock_acquire(lock.result(), started.elapsed());
        lock
    }

    /// Gives a lock back, in the background. If Redis does not answer, it takes the lock back by itself.
    pub fn unlock(&self, guard: Guard) {
        drop(guard);
    }
}

impl Claim {
    fn new(connection: &Connection, name: &LockName) -> Self {
        Self {
            connection: connection.clone(),
            name: name.clone(),
            token: Uuid::new_v4().to_string(),
            is_asked: false,
        }
    }

    async fn take(mut self, floor: u64, wait_until: Instant) -> Lock {
        loop {
            match self.attempt(floor).await {
                Ok(Some(fencing)) => return Lock::Held(Guard { fencing, _claim: self }),
                Ok(None) => {}
                Err(err) => {
                    tracing::debug!(error = %err, "charging goes without redis's lock");
                    return Lock::Away;
                }
            }
            let again = Instant::now() + Duration::from_millis(rand::random_range(PAUSE_MS));
            if wait_until < again {
                return Lock::Busy;
            }
            sleep_until(again).await;
        }
    }

    /// Asks once; `None` while somebody else has it.
    async fn attempt(&mut self, floor: u64) -> Result<Option<u64>, CacheAway> {
        if FENCING_MAX <= floor {
            let problem = format!("no number above {floor} can be given");
            return Err(CacheAway { problem, code: None });
        }
        let mut acquire = redis::cmd("EVAL");
        acquire.arg(ACQUIRE).arg(2).arg(self.name.key()).arg(self.name.fencing_key());
        acquire.arg(&self.token).arg(LOCK_MS).arg(floor).arg(FENCING_KEPT_MS);
        self.connection.require_near()?;
        // Until a refusal comes: whoever asked may be gone before the answer is here.
        self.is_asked = true;
        let answer = self.connection.ask::<Option<u64>>(&acquire).await;
        self.is_asked = match &answer {
            Ok(fencing) => fencing.is_some(),
            Err(away) => away.is_silence(),
        };
        answer
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Without a runtime, the process ends, and Redis takes the lock back.
        if let Ok(runtime) = Handle::try_current()
            && self.is_asked
        {
            runtime.spawn(release(self.connection.clone(), self.name.key(), self.token.clone()));
        }
    }
}

/// Gives a lock back if it is still had; the token is this claim's own, so nobody else's is touched.
async fn release(connection: Connection, key: String, token: String) {
    let mut release = redis::cmd("EVAL");
    release.arg(RELEASE).arg(1).arg(key).arg(token);
    for _ in 0..RELEASES_MAX {
        match connection.ask::<u64>(&release).await {
            Err(away) if away.is_silence() => sleep(AWAY_FOR).await,
            Ok(_) | Err(_) => return,
        }
    }
}

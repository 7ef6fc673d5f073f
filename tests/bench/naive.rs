//! The way that suggests itself, and that the predecessor took: a lock in Redis, a transaction per call, the rows read
//! FOR UPDATE. It writes what Farebox writes: quota, balance, record, ledger, answer.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use farebox_core::id::AccountId;
use redis::aio::MultiplexedConnection;
use sqlx::mysql::{MySqlConnection, MySqlPool, MySqlPoolOptions};
use uuid::Uuid;

/// Gives the lock back if it is still had.
const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

pub(crate) struct Naive {
    pool: MySqlPool,
    redis: MultiplexedConnection,
}

impl Naive {
    pub(crate) async fn connect(source: &str, redis: SocketAddr, connections: u32) -> Result<Self> {
        let pool = MySqlPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(Duration::from_secs(60))
            .connect_with(source.parse()?)
            .await?;
        let redis = redis::Client::open(format!("redis://{redis}"))?;
        Ok(Self { pool, redis: redis.get_multiplexed_async_connection().await? })
    }

    /// One deduct of one unit.
    pub(crate) async fn deduct(&self, account: AccountId) -> Result<()> {
        let (lock, token) = (format!("naive:{account}:asset"), Uuid::new_v4().to_string());
        let mut redis = self.redis.clone();
        loop {
            let mut set = redis::cmd("SET");
            set.arg(&lock).arg(&token).arg("NX").arg("PX").arg(5_000);
            if set.query_async::<Option<String>>(&mut redis).await?.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(rand::random_range(1..5))).await;
        }
        let outcome = self.charge(account.as_str()).await;
        let mut release = redis::cmd("EVAL");
        release.arg(RELEASE).arg(1).arg(&lock).arg(&token);
        release.query_async::<i64>(&mut redis).await?;
        outcome
    }

    async fn charge(&self, account: &str) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        let (key, record) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
        sqlx::query("INSERT INTO idempotency_key VALUES ('naive', ?, REPEAT('x', 32), '', UTC_TIMESTAMP(3))")
            .bind(&key)
            .execute(&mut *tx)
            .await?;
        let free = take_free(&mut tx, account).await?;
        if !free {
            take_money(&mut tx, account, &record).await?;
        }
        sqlx::query(
            "INSERT INTO billing_record
               (billing_record_id, user_id, service_name, type, amount, count, free_units, paid_units, unit_price, source, created_at)
             VALUES (?, ?, 'asset', ?, ?, 1, ?, ?, 0.001, 'legacy', UTC_TIMESTAMP(3))",
        )
        .bind(&record)
        .bind(account)
        .bind(if free { "free" } else { "balance" })
        .bind(if free { "0" } else { "0.001" })
        .bind(i64::from(free))
        .bind(i64::from(!free))
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "UPDATE idempotency_key SET response = ? WHERE scope = 'naive' AND idempotency_key = ?",
        )
        .bind(&record)
        .bind(&key)
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }
}

/// Whether the free quota covered the call.
async fn take_free(tx: &mut MySqlConnection, account: &str) -> Result<bool> {
    let quota: Option<(String, i64)> = sqlx::query_as(
        "SELECT free_quota_id, total_quota - used_quota - held_quota FROM free_quota
         WHERE user_id = ? AND service_name = 'asset' AND reset_month = DATE_FORMAT(UTC_TIMESTAMP() + INTERVAL 8 HOUR, '%Y-%m')
         FOR UPDATE",
    )
    .bind(account)
    .fetch_optional(&mut *tx)
    .await?;
    let (id, remaining) = quota.context("no quota row")?;
    if remaining < 1 {
        return Ok(false);
    }
    sqlx::query("UPDATE free_quota SET used_quota = used_quota + 1 WHERE free_quota_id = ?")
        .bind(id)
        .execute(tx)
        .await?;
    Ok(true)
}

async fn take_money(tx: &mut MySqlConnection, account: &str, record: &str) -> Result<()> {
    let row: Option<(String, String, i64)> = sqlx::query_as(
        "SELECT user_balance_id, CAST(balance - held AS CHAR), entry_seq FROM user_balance WHERE user_id = ? FOR UPDATE",
    )
    .bind(account)
    .fetch_optional(&mut *tx)
    .await?;
    let (id, available, seq) = row.context("no balance row")?;
    ensure!(!available.starts_with('-'), "no money");
    sqlx::query(
        "INSERT INTO ledger_entry
           (entry_id, user_id, book, amount, currency, kind, ref_type, ref_id, user_seq, balance_after, created_at)
         VALUES (?, ?, 'user', -0.001, 'CNY', 'charge', 'billing_record', ?, ?, ? - 0.001, UTC_TIMESTAMP(3)),
                (?, ?, 'earnings:asset', 0.001, 'CNY', 'charge', 'billing_record', ?, NULL, NULL, UTC_TIMESTAMP(3))",
    )
    .bind(record)
    .bind(account)
    .bind(record)
    .bind(seq + 1)
    .bind(&available)
    .bind(record)
    .bind(account)
    .bind(record)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "UPDATE user_balance SET balance = balance - 0.001, entry_seq = entry_seq + 1 WHERE user_balance_id = ?",
    )
    .bind(id)
    .execute(tx)
    .await?;
    Ok(())
}

//! Accounts and keys that others have too: the lock in Redis, the number that rows do not let anybody fall behind, and
//! races for a key.

use std::time::Duration;

use farebox_sidecar::cache::Cache;
use farebox_sidecar::config::{HostPort, Redis as Settings};
use farebox_tests::redis::Redis;
use farebox_tests::scratch::Scratch;

use super::{deduct, told};
use crate::fixture::Fixture;

fn cache(redis: &Redis) -> Cache {
    let settings = Settings {
        addr: HostPort { host: "127.0.0.1".to_owned(), port: redis.addr().port() },
        password: None,
        read_timeout: Duration::from_millis(200),
        write_timeout: Duration::from_millis(200),
    };
    Cache::open(Some(&settings)).unwrap()
}

impl Fixture {
    async fn fence(&self) -> u64 {
        self.database.rows("SELECT fence FROM free_quota WHERE user_id = 'u'").await[0]
            .parse()
            .unwrap()
    }

    /// Whether a statement is waiting for a row that it will not pass over.
    async fn somebody_waits(&self) -> bool {
        let waiting = "SELECT COUNT(*) FROM information_schema.PROCESSLIST
            WHERE DB = DATABASE() AND INFO LIKE '%user_balance%FOR UPDATE' AND ID <> CONNECTION_ID()";
        self.database.rows(waiting).await != ["0"]
    }

    /// Lets this sidecar find the account locked, so that it goes alone from then on.
    async fn contend(&self) {
        let mut rival = self.database.pool.begin().await.unwrap();
        sqlx::query("SELECT 1 FROM user_balance FOR UPDATE").execute(&mut *rival).await.unwrap();
        let app = self.app.clone();
        let waiting =
            tokio::spawn(async move { told(&app, deduct("contend", "u", "asset", 1)).await });
        // The turn of many accounts passes over the account; the one that it goes to then waits for the row.
        while !self.somebody_waits().await {
            tokio::task::yield_now().await;
        }
        rival.rollback().await.unwrap();
        waiting.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_account_that_others_lock_is_charged_under_the_lock() {
    let scratch = Scratch::new().unwrap();
    let redis = Redis::start(scratch.path()).await.unwrap();
    let mut farebox = Fixture::new(&[("asset", 10)], &[]).await;
    farebox.app = farebox.app.clone().with_cache(cache(&redis));
    farebox.told(deduct("k1", "u", "asset", 1)).await;
    assert_eq!(farebox.fence().await, 0, "nobody else was there");
    farebox.contend().await;
    let first = farebox.fence().await;
    assert!(0 < first);
    farebox.told(deduct("k2", "u", "asset", 1)).await;
    assert!(first < farebox.fence().await, "each holder has a larger number");
    assert_eq!(farebox.quotas("u").await, "asset 3+0/10");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_was_overtaken_writes_nothing_and_is_decided_anew() {
    let scratch = Scratch::new().unwrap();
    let redis = Redis::start(scratch.path()).await.unwrap();
    let mut farebox = Fixture::new(&[("asset", 10)], &[]).await;
    farebox.app = farebox.app.clone().with_cache(cache(&redis));
    farebox.told(deduct("k1", "u", "asset", 1)).await;
    farebox.contend().await;
    // A later holder, whose Redis had a clock far ahead, has written.
    let ahead = farebox.fence().await + 1_000_000_000_000;
    let sql = format!("UPDATE free_quota SET fence = {ahead} WHERE user_id = 'u'");
    assert_eq!(farebox.database.run(sql).await, 1);
    // The number that this sidecar gets first is too low; the next one is not.
    assert_eq!(farebox.told(deduct("k2", "u", "asset", 1)).await, "1 free, 0 paid for 0, leaves 0");
    assert!(ahead < farebox.fence().await);
    assert_eq!(farebox.quotas("u").await, "asset 3+0/10");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_away_refuses_nobody() {
    let scratch = Scratch::new().unwrap();
    let redis = Redis::start(scratch.path()).await.unwrap();
    let mut farebox = Fixture::new(&[("asset", 10)], &[]).await;
    farebox.app = farebox.app.clone().with_cache(cache(&redis));
    farebox.told(deduct("k1", "u", "asset", 1)).await;
    redis.kill();
    farebox.contend().await;
    assert_eq!(farebox.told(deduct("k2", "u", "asset", 1)).await, "1 free, 0 paid for 0, leaves 0");
    assert_eq!(farebox.checked("u", "asset", 7).await, "yes by free, 7 free and 0 for 0");
    assert_eq!(farebox.fence().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_says_yes_for_a_second_at_most_and_a_deduct_ends_it() {
    let scratch = Scratch::new().unwrap();
    let redis = Redis::start(scratch.path()).await.unwrap();
    let mut farebox = Fixture::new(&[("asset", 10)], &[]).await;
    farebox.app = farebox.app.clone().with_cache(cache(&redis));
    let other = farebox.sidecar(&[("asset", 10)], &[]).await;
    assert_eq!(farebox.checked("u", "asset", 4).await, "yes by free, 10 free and 0 for 0");
    // Another sidecar without this Redis spends: the hint may stand for a second, and no deduct believes it (T32, T51).
    told(&other, deduct("k1", "u", "asset", 8)).await;
    let refused = farebox.told(deduct("k2", "u", "asset", 4)).await;
    assert_eq!(refused, "190202: 2 free and 0 do not cover 0");
    while farebox.checked("u", "asset", 2).await != "yes by free, 2 free and 0 for 0" {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        farebox.checked("u", "asset", 3).await,
        "no by insufficient quota, 2 free and 0 for 0"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_two_users_race_for_is_one_users_and_a_conflict_for_the_other() {
    let farebox = Fixture::new(&[("asset", 1_000)], &[]).await;
    let other = farebox.sidecar(&[("asset", 1_000)], &[]).await;
    for round in 0..50 {
        let key = format!("k{round}");
        let (one, two) = tokio::join!(
            super::call(&farebox.app, deduct(&key, "u", "asset", 1)),
            super::call(&other, deduct(&key, "v", "asset", 1)),
        );
        let (charged, refused): (Vec<_>, Vec<_>) = [one, two].into_iter().partition(Result::is_ok);
        assert_eq!((charged.len(), refused.len()), (1, 1), "{charged:?} {refused:?}");
        assert!(
            super::say(refused.into_iter().next().unwrap())
                .contains("was used for another request")
        );
    }
    farebox.assert_sound().await;
}
